"""Plain NumPy: the specification of every kernel, the oracle of the tests, the fallback where Numba has no wheel."""

import numpy as np

from .. import process
from . import arithmetic, augment, convolution, loss, maps, normalisation, pooling, sparse, update


class Reference:
    """Arrays and kernels of NumPy.

    Images are (N, C, H, W) and filters (K, C, R, S), in any memory order: how a tensor lies in memory is each backend's
    own choice, hidden behind the strides.
    """

    name = "reference"
    xp = np
    immediate = True        # a result is there when the call returns, so it may be looked at; a GPU's comes later
    maps_block = 8      # how many images lie side by side in flat maps, where they are many

    def __init__(self) -> None:
        process.prepare()

    def empty(self, shape, dtype=np.float32):
        """An array of this shape, in the memory order this backend's kernels like best; its values are arbitrary."""
        return np.empty(shape, dtype)

    def asarray(self, data, dtype=None):
        """`data` as an array of this device; copied only where it must be."""
        return np.asarray(data, dtype)

    def to_host(self, array) -> np.ndarray:
        """The same values as a NumPy array."""
        return array

    def put(self, array, values) -> None:
        """Values of the host or of this device into an array of this device, in place."""
        array[...] = self.asarray(values, array.dtype)

    def capture(self, *steps):
        """One function that runs all the steps. (A GPU records them once, side by side, and replays them.)"""
        def run():
            for step in steps:
                step()
        return run

    def clock(self, clock):
        """`clock` itself. (A GPU's keeps what changes from step to step in its own memory.)"""
        return clock

    def accumulate(self, arrived) -> None:
        """Let every leaf add up what backward() brought it: pairs (leaf, gradient). (A GPU does several at once.)"""
        for leaf, gradient in arrived:
            leaf.accumulate(gradient)

    def add_at(self, array, index, values) -> None:
        """array[index] += values, in place, as often as an element comes. (A GPU leaves that to the host.)"""
        np.add.at(array, index, values)

    def conv2d_and_sums(self, x, weight, stride, padding):
        """The convolution, and what its kernel can tell of each channel on the way; see `moments`. Here nothing."""
        return self.conv2d(x, weight, None, stride, padding), None

    add = staticmethod(arithmetic.add)
    conv2d = staticmethod(convolution.conv2d)
    conv2d_input_gradient = staticmethod(convolution.conv2d_input_gradient)
    conv2d_weight_gradient = staticmethod(convolution.conv2d_weight_gradient)
    conv2d_bias_gradient = staticmethod(convolution.conv2d_bias_gradient)
    sparse_entries = staticmethod(sparse.sparse_entries)
    sparse_pays = staticmethod(sparse.sparse_pays)
    sparse_conv2d = staticmethod(sparse.sparse_conv2d)
    sparse_conv2d_input_gradient = staticmethod(sparse.sparse_conv2d_input_gradient)
    sparse_conv2d_weight_gradient = staticmethod(sparse.sparse_conv2d_weight_gradient)
    sparse_linear_pays = staticmethod(sparse.sparse_linear_pays)
    sparse_linear = staticmethod(sparse.sparse_linear)
    sparse_linear_input_gradient = staticmethod(sparse.sparse_linear_input_gradient)
    sparse_linear_weight_gradient = staticmethod(sparse.sparse_linear_weight_gradient)
    max_pool2d = staticmethod(pooling.max_pool2d)
    max_pool2d_gradient = staticmethod(pooling.max_pool2d_gradient)
    avg_pool2d = staticmethod(pooling.avg_pool2d)
    avg_pool2d_gradient = staticmethod(pooling.avg_pool2d_gradient)
    moments = staticmethod(normalisation.moments)
    normalise = staticmethod(normalisation.normalise)
    normalise_gradient = staticmethod(normalisation.normalise_gradient)
    relu = staticmethod(normalisation.relu)
    relu_gradient = staticmethod(normalisation.relu_gradient)
    matmul = staticmethod(arithmetic.matmul)
    cross_entropy = staticmethod(loss.cross_entropy)
    cross_entropy_gradient = staticmethod(loss.cross_entropy_gradient)
    run_maps = staticmethod(maps.run_maps)
    sgd = staticmethod(update.sgd)
    crop_flip_normalise = staticmethod(augment.crop_flip_normalise)
