"""Numba: the same kernels compiled for this CPU, for its vectors and all its cores; benchmarks/kernels.py times them.

Read `layout` first (how images lie in memory), then `convolution`; `simd` tells what the processor really executes.
"""

import functools
import importlib.util
import warnings

from .. import process
from ..reference import Reference


def backend() -> Reference:
    """The Numba kernels, or where Numba is not installed, after one sentence, the NumPy ones."""
    if importlib.util.find_spec("numba") is None:
        warnings.warn("minirewind: Numba is not installed; the NumPy kernels run instead, and are much slower",
                      stacklevel=2)
        fallback = Reference()
        fallback.name = "cpu"
        return fallback
    return compiled()()


@functools.cache
def compiled() -> type[Reference]:
    """The backend's class. Numba is imported here and not before, once the process is prepared for it."""
    process.prepare()
    process.prepare_numba()
    from . import arithmetic, augment, convolution, layout, loss, maps, normalisation, pooling, simd, sparse, update

    class Cpu(Reference):
        """float32 by Numba, batch innermost in memory; every other type, and empty arrays, by the reference."""

        name = "cpu"
        maps_block = max(8, simd.LANES)

        def empty(self, shape, dtype=layout.FLOAT32):
            return layout.empty(shape, dtype)

        add = staticmethod(arithmetic.add)
        conv2d = staticmethod(convolution.conv2d)
        conv2d_input_gradient = staticmethod(convolution.conv2d_input_gradient)
        conv2d_weight_gradient = staticmethod(convolution.conv2d_weight_gradient)
        conv2d_bias_gradient = staticmethod(convolution.conv2d_bias_gradient)
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
        cross_entropy = staticmethod(loss.cross_entropy)
        cross_entropy_gradient = staticmethod(loss.cross_entropy_gradient)
        run_maps = staticmethod(maps.run_maps)
        sgd = staticmethod(update.sgd)
        crop_flip_normalise = staticmethod(augment.crop_flip_normalise)

    return Cpu
