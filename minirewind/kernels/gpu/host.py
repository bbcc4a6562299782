"""What the host does around the CUDA kernels: sizes, memory order, launches.

All of it stands here once, for the real card (card.py) and the emulated device (emulator/). They differ in the array
module `xp`, CuPy or NumPy, and in who compiles the kernels; both launch them as `kernel(grid, block, arguments)`.
"""

import functools
import itertools
import math
import weakref

import numpy as np

from .. import process
from ..reference import Reference
from ..reference.convolution import output_size
from . import sources
from .clock import DeviceClock

THREADS = 256           # in a block, where nothing speaks for another number
NULL = np.uintp(0)      # the null pointer
SLICE = 256             # pixels, at least, whose products one block adds up
PIXELS = 128            # of the output, that one block of tensor_cores.cu makes
LARGEST = 2**31 - 2**24     # so many numbers an int can count, and a whole grid's threads beyond the last of them


def blocks(count: int, size: int = THREADS) -> int:
    """How many blocks of `size` threads make `count` threads or more."""
    return -(-count // size)


class Gpu(Reference):
    """float32 by CUDA kernels, channels last in memory; every other type, and empty arrays, by the host.

    `precision` is "tf32": convolutions multiply on tensor cores, which round their inputs to 10 bits of fraction and
    add in float32, as PyTorch's do by default; or "fp32": exact to float32, on any card, without its tensor cores.
    """

    name = "gpu"
    precision = "tf32"
    immediate = False

    def __init__(self) -> None:
        process.prepare()
        self._resident: dict = {}

    # Arrays -----------------------------------------------------------------------------------------------------------

    def empty(self, shape, dtype=np.float32):
        if len(shape) != 4:
            return self.xp.empty(shape, dtype)
        N, C, H, W = shape
        return self.xp.empty((N, H, W, C), dtype).transpose(0, 3, 1, 2)

    def channels_last(self, x):
        """The memory of x (N, C, H, W) as (N, H, W, C), converted where it lies otherwise; of x (N, C) as it is."""
        return self.xp.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)

    def in_fours(self, x):
        """The same for tensor_cores.cu, which loads 16 bytes at once; a part of another array may begin anywhere."""
        memory = self.channels_last(x)
        return memory.copy() if self.address(memory) % 16 else memory

    def address(self, array) -> int:
        """Where an array begins in the device's memory."""
        raise NotImplementedError

    def like(self, memory, x):
        """The way back to the shape of x, which `channels_last` brought to `memory`."""
        return memory.transpose(0, 3, 1, 2) if x.ndim == 4 else memory

    @functools.cache    # noqa: B019  (there is one backend for the whole process)
    def constants(self, *numbers: int):
        """These integers in the device's memory: the fields of a Geometry or a Window. Kept, as shapes come again."""
        return self.asarray(np.array(numbers, np.int32))

    def takes(self, *arrays, makes=0) -> bool:
        """Whether the kernels take these arrays: float32, something in them, and no more than an int can count.

        `makes` is how many numbers come out, where they may be more than there were.
        """
        return makes <= LARGEST and all(a is None or (a.dtype == np.float32 and 0 < a.size <= LARGEST) for a in arrays)

    def in_place(self, *vectors) -> bool:
        """Whether a kernel can change these vectors where they lie."""
        return all(v is None or (v.ndim == 1 and v.flags.c_contiguous) for v in vectors)

    def whole(self, *vectors) -> tuple:
        """The vectors, those that are parts of something else copied."""
        return tuple(map(self.xp.ascontiguousarray, vectors))

    def on_host(self, name, *arguments):
        """The reference's kernel, on copies on the host; what it changes in place is brought back."""
        host = [self.to_host(a) if isinstance(a, self.xp.ndarray) else a for a in arguments]
        results = getattr(Reference, name)(*host)
        for array, copy in zip(arguments, host):
            if isinstance(array, self.xp.ndarray) and array is not copy:
                array[...] = self.asarray(copy)
        return tuple(map(self.asarray, results)) if isinstance(results, tuple) else \
            None if results is None else self.asarray(results)

    # Launches ---------------------------------------------------------------------------------------------------------

    def compile(self, name: str):
        """The kernels of a file: something with get_function(name)."""
        raise NotImplementedError

    @functools.cache    # noqa: B019
    def kernel(self, file: str, name: str):
        """A kernel, and the types of its arguments (None: an array)."""
        return self.compile(file).get_function(name), sources.signatures(sources.text(file))[name]

    def launch(self, file: str, name: str, grid, block, *arguments) -> None:
        """Run a kernel. Every number becomes what its signature says: CuPy would hand on a Python float as a double."""
        kernel, types = self.kernel(file, name)
        kernel(grid, block, tuple((NULL if a is None else a) if kind is None else kind(a)
                                  for kind, a in zip(types, arguments, strict=True)))

    # Arithmetic -------------------------------------------------------------------------------------------------------

    def add(self, x, y):
        """CuPy's own x + y would lay the sum out anew, channels first."""
        if x.ndim != 4 or x.shape != y.shape or not self.takes(x, y):
            return x + y
        memory = self.channels_last(x)
        z = self.xp.empty(memory.shape, np.float32)
        self.launch("arithmetic", "add", (blocks(x.size),), (THREADS,), memory, self.channels_last(y), z, x.size)
        return self.like(z, x)

    def accumulate(self, arrived) -> None:
        """Parameters are many and small: four of them by one launch."""
        parts = []
        for leaf, gradient in arrived:
            if getattr(leaf, "momentum", None) is None or not self.takes(leaf.grad, gradient):
                leaf.accumulate(gradient)
            else:
                parts.append((leaf.grad, self.xp.ascontiguousarray(gradient), leaf.mask, gradient.size))
        for i in range(0, len(parts), 4):
            four = [*parts[i : i + 4], *[(None, None, None, 0)] * 3][:4]
            most = max(count for *_, count in four)
            self.launch("update", "accumulate", (blocks(most), 4), (THREADS,), *itertools.chain(*four))

    def add_at(self, array, index, values) -> None:
        """On the host: CuPy's own adds in the order in which its threads come, which are other bits in every run."""
        index = tuple(map(self.to_host, index)) if isinstance(index, tuple) else self.to_host(index)
        host = self.to_host(array)
        np.add.at(host, index, self.to_host(values))
        self.put(array, host)

    # Convolution ------------------------------------------------------------------------------------------------------

    def conv2d(self, x, weight, bias, stride, padding):
        y_shape, geometry = self.forward_geometry(x, weight, stride, padding)
        if not self.takes(x, weight, bias, makes=math.prod(y_shape)):
            return self.on_host("conv2d", x, weight, bias, stride, padding)
        return self.multiply_taps(x, weight, bias, y_shape, geometry)

    def conv2d_and_sums(self, x, weight, stride, padding):
        y_shape, geometry = self.forward_geometry(x, weight, stride, padding)
        if self.precision != "tf32" or not self.takes(x, weight, makes=math.prod(y_shape)):
            return super().conv2d_and_sums(x, weight, stride, padding)
        partial = self.xp.empty((blocks(math.prod(y_shape[:3]), PIXELS), 2, y_shape[3]), np.float32)
        return self.multiply_taps(x, weight, None, y_shape, geometry, partial), partial

    def forward_geometry(self, x, weight, stride, padding):
        """The shape of the output as it lies in memory, and the Geometry of geometry.h."""
        (N, C, H, W), (K, _, R, S) = x.shape, weight.shape
        P, Q = (output_size(*each) for each in zip((H, W), (R, S), stride, padding))
        return (N, P, Q, K), (H, W, C, P, Q, K, R, S, *stride, 1, -padding[0], -padding[1], 1, 1)

    def conv2d_input_gradient(self, dy, weight, x_shape, stride, padding):
        if not self.takes(dy, weight, makes=math.prod(x_shape)):
            return self.on_host("conv2d_input_gradient", dy, weight, x_shape, stride, padding)
        N, C, H, W = x_shape
        K, _, R, S = weight.shape
        geometry = (*dy.shape[2:], K, H, W, C, R, S, 1, 1, -1, *padding, *stride)
        return self.multiply_taps(dy, weight, None, (N, H, W, C), geometry)

    def conv2d_weight_gradient(self, dy, x, weight_shape, stride, padding):
        (N, K, P, Q), (_, C, H, W), (R, S) = dy.shape, x.shape, weight_shape[2:]
        pixels, count = N * P * Q, K * C * R * S
        slice = max(SLICE, blocks(pixels, 256) + -blocks(pixels, 256) % 16)
        slices = blocks(pixels, slice)
        if not self.takes(dy, x, makes=slices * count):
            return self.on_host("conv2d_weight_gradient", dy, x, weight_shape, stride, padding)
        geometry = self.constants(H, W, C, P, Q, K, R, S, *stride, 1, -padding[0], -padding[1], 1, 1)
        partial = self.xp.empty((slices, count), np.float32)
        arguments = self.channels_last(dy), self.in_fours(x), partial, geometry, pixels, slice
        if self.precision == "tf32":
            width = tile_width(K)
            grid = blocks(R * S * C, 64), slices, blocks(K, width)
            self.launch("tensor_cores", f"weight_gradient_tf32_{width}", grid, (128,), *arguments)
        else:
            self.launch("convolution", "weight_gradient_direct", (blocks(count), slices), (THREADS,), *arguments)
        dweight = self.xp.empty(weight_shape, np.float32)
        self.launch("convolution", "add_slices", (blocks(count, 32),), (32, 8), partial, dweight, slices, K, C, R * S)
        return dweight

    def multiply_taps(self, x, weight, bias, y_shape, geometry, partial=None):
        """The sum that a convolution and its input gradient both are (geometry.h); fills `partial` if it is given."""
        K, C, R, S = weight.shape
        transposed = geometry[10] < 0
        packed = self.xp.empty(weight.size, np.float32)
        self.launch("convolution", "pack_filters", (blocks(weight.size),), (THREADS,),
                    self.xp.ascontiguousarray(weight), packed, K, C, R * S, transposed)
        y = self.xp.empty(y_shape, np.float32)
        bias = None if bias is None else self.xp.ascontiguousarray(bias)
        arguments, where = (self.in_fours(x), packed, bias, y), self.constants(*geometry)
        if self.precision == "tf32":
            pixels, width = y.size // y_shape[3], tile_width(y_shape[3])
            grid = blocks(pixels, PIXELS), blocks(y_shape[3], width)
            self.launch("tensor_cores", f"conv2d_tf32_{width}", grid, (THREADS,), *arguments, partial, where, pixels)
        else:
            self.launch("convolution", "conv2d_direct", (blocks(y.size),), (THREADS,), *arguments, where, y.size)
        return y.transpose(0, 3, 1, 2)

    # Pooling ----------------------------------------------------------------------------------------------------------

    def max_pool2d(self, x, size, stride, padding):
        if not self.takes(x):
            return self.on_host("max_pool2d", x, size, stride, padding)
        y, window = self.pooled(x.shape, size, stride, padding)
        source = self.xp.empty(y.shape, np.int64)
        self.launch("pooling", "max_pool2d", (blocks(y.size),), (THREADS,),
                    self.channels_last(x), y, source, window, x.shape[1], y.size)
        return y.transpose(0, 3, 1, 2), source.transpose(0, 3, 1, 2)

    def max_pool2d_gradient(self, dy, source, x_shape):
        if not self.takes(dy):
            return self.on_host("max_pool2d_gradient", dy, source, x_shape)
        N, C, H, W = x_shape
        dx = self.xp.zeros((N, H, W, C), np.float32)
        self.launch("pooling", "max_pool2d_gradient", (blocks(N * C),), (THREADS,), self.channels_last(dy),
                    self.integers(source.transpose(0, 2, 3, 1)), dx, dy.size // (N * C), H * W, C, N * C)
        return dx.transpose(0, 3, 1, 2)

    def avg_pool2d(self, x, size, stride, padding):
        if not self.takes(x):
            return self.on_host("avg_pool2d", x, size, stride, padding)
        y, window = self.pooled(x.shape, size, stride, padding)
        self.launch("pooling", "avg_pool2d", (blocks(y.size),), (THREADS,),
                    self.channels_last(x), y, window, x.shape[1], y.size)
        return y.transpose(0, 3, 1, 2)

    def avg_pool2d_gradient(self, dy, x_shape, size, stride, padding):
        if not self.takes(dy):
            return self.on_host("avg_pool2d_gradient", dy, x_shape, size, stride, padding)
        N, C, H, W = x_shape
        _, window = self.pooled(x_shape, size, stride, padding)
        dx = self.xp.empty((N, H, W, C), np.float32)
        self.launch("pooling", "avg_pool2d_gradient", (blocks(dx.size),), (THREADS,),
                    self.channels_last(dy), dx, window, C, dx.size)
        return dx.transpose(0, 3, 1, 2)

    def pooled(self, x_shape, size, stride, padding):
        """Memory for the pooled images, and the Window of pooling.cu."""
        N, C, H, W = x_shape
        P, Q = (output_size(*each) for each in zip((H, W), size, stride, padding))
        return self.xp.empty((N, P, Q, C), np.float32), self.constants(H, W, P, Q, *size, *stride, *padding)

    # Normalisation ----------------------------------------------------------------------------------------------------

    def moments(self, x, eps, running_mean, running_var, momentum, sums=None):
        if not self.takes(x, running_mean, running_var) or not self.in_place(running_mean, running_var):
            return self.on_host("moments", x, eps, running_mean, running_var, momentum)
        C, slice = x.shape[1], PIXELS
        rows = x.size // C
        if sums is None:
            sums, (grid, block, slice) = self.sums_per_channel(x)
            self.launch("normalisation", "sum_moments", grid, block, self.channels_last(x), sums, rows, C, slice)
        mean, inverse_std = self.xp.empty(C, np.float32), self.xp.empty(C, np.float32)
        self.launch("normalisation", "finish_moments", (C,), (THREADS,), sums, len(sums), slice, rows, C,
                    eps, momentum, running_mean, running_var, mean, inverse_std)
        return mean, inverse_std

    def normalise(self, x, residual, mean, inverse_std, weight, bias, relu):
        if not self.takes(x, residual, mean, inverse_std, weight, bias):
            return self.on_host("normalise", x, residual, mean, inverse_std, weight, bias, relu)
        memory = self.channels_last(x)
        y = self.xp.empty(memory.shape, np.float32)
        self.launch("normalisation", "normalise", *self.stride_of_channels(x), memory,
                    None if residual is None else self.channels_last(residual),
                    *self.whole(mean, inverse_std, weight, bias), relu, y, x.shape[1], x.size)
        return self.like(y, x)

    def normalise_gradient(self, dy, y, x, mean, inverse_std, weight, relu, batch_statistics):
        if not self.takes(dy, y, x, mean, inverse_std, weight):
            return self.on_host("normalise_gradient", dy, y, x, mean, inverse_std, weight, relu, batch_statistics)
        memory, dresidual, C = self.channels_last(x), self.channels_last(dy), x.shape[1]
        mean, inverse_std, weight = self.whole(mean, inverse_std, weight)
        masked = self.xp.empty(memory.shape, np.float32) if relu else dresidual
        partial, (grid, block, slice) = self.sums_per_channel(x)
        rows = x.size // C
        self.launch("normalisation", "sum_gradients", grid, block, dresidual, self.channels_last(y) if relu else None,
                    memory, mean, masked, partial, rows, C, slice)
        dweight, dbias = self.xp.empty(C, np.float32), self.xp.empty(C, np.float32)
        self.launch("normalisation", "finish_gradients", (C,), (THREADS,), partial, len(partial), C,
                    inverse_std, dweight, dbias)
        dx = self.xp.empty(memory.shape, np.float32)
        self.launch("normalisation", "gradient_of_input", *self.stride_of_channels(x), masked, memory, mean,
                    inverse_std, weight, dweight, dbias, 1 / rows if batch_statistics else 0, dx, C, x.size)
        return self.like(dx, x), self.like(masked, x), dweight, dbias

    def sums_per_channel(self, x):
        """Memory for two sums per channel of each slice of rows; and the grid, the block and the rows in a slice."""
        C = x.shape[1]
        rows, across = x.size // C, min(32, 1 << (C - 1).bit_length())
        slice = max(SLICE, blocks(rows, 256))
        slices = blocks(rows, slice)
        partial = self.xp.empty((slices, 2, C), np.float32)
        return partial, ((blocks(C, across), slices), (across, THREADS // across), slice)

    def stride_of_channels(self, x):
        """A grid and a block for a launch whose number of threads is a multiple of the channels."""
        unit = x.shape[1] // math.gcd(x.shape[1], THREADS)
        wanted = min(blocks(x.size), 1024)
        return (blocks(wanted, unit) * unit,), (THREADS,)

    def relu(self, x):
        if not self.takes(x):
            return self.on_host("relu", x)
        memory = self.channels_last(x)
        y = self.xp.empty(memory.shape, np.float32)
        self.launch("normalisation", "relu", (blocks(x.size),), (THREADS,), memory, y, x.size)
        return self.like(y, x)

    def relu_gradient(self, dy, y):
        if not self.takes(dy, y):
            return self.on_host("relu_gradient", dy, y)
        memory = self.channels_last(dy)
        dx = self.xp.empty(memory.shape, np.float32)
        self.launch("normalisation", "relu_gradient", (blocks(dy.size),), (THREADS,), memory, self.channels_last(y), dx,
                    dy.size)
        return self.like(dx, dy)

    # Loss and update --------------------------------------------------------------------------------------------------

    def cross_entropy(self, logits, target):
        if not self.takes(logits):
            return self.on_host("cross_entropy", logits, target)
        logits, (N, K) = self.xp.ascontiguousarray(logits), logits.shape
        probabilities, losses = self.xp.empty((N, K), np.float32), self.xp.empty(N, np.float32)
        self.launch("loss", "cross_entropy", (blocks(32 * N),), (THREADS,), logits, self.integers(target),
                    probabilities, losses, N, K)
        loss = self.xp.empty((), np.float32)
        self.launch("loss", "mean_of_rows", (1,), (256,), losses, loss, N)
        return loss, probabilities

    def cross_entropy_gradient(self, dz, probabilities, target):
        if not self.takes(probabilities):
            return self.on_host("cross_entropy_gradient", dz, probabilities, target)
        N, K = probabilities.shape
        gradient = self.xp.empty((N, K), np.float32)
        self.launch("loss", "cross_entropy_gradient", (blocks(N * K),), (THREADS,), self.number(dz),
                    self.xp.ascontiguousarray(probabilities), self.integers(target), gradient, N, K)
        return gradient

    def matmul(self, x, y):
        if x.ndim != 2 or y.ndim != 2 or x.shape[0] > 16 * 65_535 or not self.takes(
                x, y, makes=x.shape[0] * y.shape[1]):           # a grid may be 65,535 blocks high
            return self.xp.matmul(x, y)
        x, y = (a if a.flags.c_contiguous or a.flags.f_contiguous else self.xp.ascontiguousarray(a) for a in (x, y))
        z = self.xp.empty((x.shape[0], y.shape[1]), np.float32)
        strides = (stride // 4 for stride in (*x.strides, *y.strides))
        self.launch("matmul", "matmul", (blocks(z.shape[1], 16), blocks(z.shape[0], 16)), (16, 16), x, y, z, *z.shape,
                    x.shape[1], *strides)
        return z

    def sgd(self, weights, gradients, momentum, mask, rate, factor, nesterov, decay):
        if not self.takes(weights, gradients, momentum) or not self.in_place(weights, gradients, momentum, mask):
            return self.on_host("sgd", weights, gradients, momentum, mask, rate, factor, nesterov, decay)
        self.launch("update", "sgd", (blocks(weights.size),), (THREADS,), weights, gradients, momentum, mask,
                    self.number(rate), factor, nesterov, decay, weights.size)

    def integers(self, values):
        """Whole numbers as the kernels read them."""
        return self.xp.ascontiguousarray(self.asarray(values, np.int64))

    def number(self, value):
        """One float in the device's memory: the array itself, or a new one with this number in it."""
        if isinstance(value, self.xp.ndarray):
            return self.asarray(value, np.float32)
        return self.xp.full((), float(value), np.float32)

    # Augmentation -----------------------------------------------------------------------------------------------------

    def crop_flip_normalise(self, images, index, dy, dx, flip, pad, table):
        expected = np.float32 if table is None else np.uint8
        if images.dtype != expected or len(index) == 0:
            return self.on_host("crop_flip_normalise", images, index, dy, dx, flip, pad, table)
        B, (_, C, H, W) = len(index), images.shape
        y = self.xp.empty((B, H, W, C), np.float32)
        places = *map(self.integers, (index, dy, dx)), self.asarray(flip), pad
        size = C, H, W, y.size
        if table is None:
            self.launch("augment", "crop_flip", (blocks(y.size),), (THREADS,), self.resident(images), *places, y, *size)
        else:
            self.launch("augment", "crop_flip_normalise", (blocks(y.size),), (THREADS,), self.resident(images), *places,
                        self.resident(table), y, *size)
        return y.transpose(0, 3, 1, 2)

    def batch_plan(self, order, step, key, batch_size, count, pad, flip):
        """What data.batch_indices and data.crops_and_flips say, for a step that is a number in the device's memory."""
        index, dy, dx = (self.xp.empty(batch_size, np.int64) for _ in range(3))
        mirrored = self.xp.empty(batch_size, bool)
        self.launch("augment", "batch_plan", (blocks(batch_size),), (THREADS,), order, step, key, batch_size, count,
                    pad, flip, index, dy, dx, mirrored)
        return index, dy, dx, mirrored

    def resident(self, array):
        """The device's copy of a host array that does not change: made once, and gone when the array is."""
        if id(array) not in self._resident:
            self._resident[id(array)] = self.asarray(np.ascontiguousarray(array))
            weakref.finalize(array, self._resident.pop, id(array), None)
        return self._resident[id(array)]

    def clock(self, clock):
        """The clock as the kernels read it."""
        return DeviceClock(self, clock)


def tile_width(channels: int) -> int:
    """How many output channels a block of tensor_cores.cu makes."""
    return next((width for width in (16, 32) if channels <= width), 64)
