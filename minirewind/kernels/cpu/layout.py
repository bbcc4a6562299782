"""How images lie in memory: the batch innermost.

A tensor's shape is (N, C, H, W) everywhere above. Here its memory is [H, W, C, N]: a pixel's channels lie together, and
each channel is a run of all images.

    pixel (0, 0)                                  pixel (0, 1)
    | channel 0       | channel 1       | ...     | channel 0       | ...
    | n0 n1 n2 ... nN | n0 n1 n2 ... nN | ...     | n0 n1 n2 ... nN | ...

Whatever a kernel does to one image it does to all: its innermost loop runs over a contiguous run of images, one vector
instruction for 8 of them, whatever the size of the map, the filter or the stride; padding is a pixel left out.
"""

import math

import numpy as np
from numba import prange

from .compiling import Kernel, function

FLOAT32 = np.dtype(np.float32)
LINE_OF_FLOATS = 16     # a cache line's 64 bytes


def takes(*arrays):
    """Whether the compiled kernels take these arrays: float32, with something in them."""
    for array in arrays:  # noqa: SIM110  (`all` of a generator takes a microsecond more)
        if array is not None and (array.dtype != FLOAT32 or array.size == 0):
            return False
    return True


def allocate(shape, dtype=FLOAT32):
    """np.empty, but many float32 begin at a cache line, so that no vector straddles two: convolution gains 10 %."""
    size = math.prod(shape)
    if size < 4096 or dtype != FLOAT32:
        return np.empty(shape, dtype)
    raw = np.empty(size + LINE_OF_FLOATS, FLOAT32)
    start = to_the_next_line(raw)
    return raw[start : start + size].reshape(shape)


@function
def to_the_next_line(x):
    """How many numbers of x lie before its first cache line. Compiled, for NumPy is slow to tell where x begins."""
    return -x.ctypes.data // 4 % LINE_OF_FLOATS


def empty(shape, dtype=FLOAT32):
    """An array (N, C, H, W) with batch-innermost memory; other numbers of axes in C order."""
    if len(shape) != 4:
        return allocate(shape, np.dtype(dtype))
    N, C, H, W = shape
    return allocate((H, W, C, N), np.dtype(dtype)).transpose(3, 2, 0, 1)


def planes(x):
    """The memory of x as [H * W, C, N] (2-D x: as [N, C, 1]), converted where it lies otherwise."""
    if x.ndim == 2:
        return np.ascontiguousarray(x).reshape(*x.shape, 1)
    memory = x.transpose(2, 3, 1, 0)                                      # (H, W, C, N)
    if not memory.flags.c_contiguous:
        memory = batch_innermost(x)
    H, W, C, N = memory.shape
    return memory.reshape(H * W, C, N)


def images(memory, height, width):
    """The way back: [H * W, C, N] as an array (N, C, H, W)."""
    _, C, N = memory.shape
    return memory.reshape(height, width, C, N).transpose(3, 2, 0, 1)


def like(memory, x):
    """The way back to the shape of x, which `planes` brought to `memory`."""
    return memory.reshape(x.shape) if x.ndim == 2 else images(memory, *x.shape[2:])


def whole_vectors(memory, lanes):
    """[P, C, N] with N rounded up to a multiple of `lanes` by images of zeros."""
    P, C, N = memory.shape
    if N % lanes == 0:
        return memory
    wider = np.zeros((P, C, N + -N % lanes), memory.dtype)
    wider[:, :, :N] = memory
    return wider


def chunks_of(jobs, size):
    """In how many partial sums of `size` numbers to add up the jobs: 16 for 16 cores, fewer where they are large."""
    return min(jobs, 16, max(4, 2**19 // max(size, 1)))


def batch_innermost(x):
    """A copy (H, W, C, N) of x (N, C, H, W), whatever its strides."""
    N, C, H, W = x.shape
    memory = allocate((H, W, C, N), x.dtype)
    transpose(x.size, np.ascontiguousarray(x).reshape(N, C, H * W), memory.reshape(H * W, C, N))
    return memory


@Kernel
def transpose(x, y):
    """y[p, c, n] = x[n, c, p], a cache line of pixels at a time: it is read once and serves all its 16 pixels."""
    N, C, P = x.shape
    for block in prange((P + LINE_OF_FLOATS - 1) // LINE_OF_FLOATS):
        pixels = slice(block * LINE_OF_FLOATS, (block + 1) * LINE_OF_FLOATS)
        for c in range(C):
            source, target = x[:, c, pixels], y[pixels, c]
            for n in range(N):
                for p in range(target.shape[0]):
                    target[p, n] = source[n, p]
