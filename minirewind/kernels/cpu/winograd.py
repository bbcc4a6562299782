"""Winograd's convolution: a 3x3 filter of stride 1 with a quarter of the multiplications.    (Lavin and Gray, 2016)

Two polynomials are multiplied by multiplying their values at enough points; so are a filter and a row of pixels. For 4
outputs of a 3-tap filter 6 points do, instead of 4 * 3 products; in two dimensions 36 instead of 144:

    Y = A' [ (G g G') * (B' d B) ] A          d 6x6 pixels, g the 3x3 filter, * entry by entry, Y 4x4 outputs

B' and A' are a few additions, the filter is transformed once per call, and the sum over the channels is taken between
the brackets, as 36 small matrix products. The map is cut into 4x4 blocks of outputs with overlapping 6x6 windows:

     window of one block        what happens to it (":" are some images, all in scratch that stays in the cache)
     . . . . . .
     . o o o o .                v[36, C, :]  = B' d B         `spread_windows`
     . o o o o .                m[36, K, :]  = u[36, K, C] v  `multiply`
     . o o o o .                y[o, K, :]   = A' m A         `gather_outputs`
     . o o o o .
     . . . . . .

The weight gradient goes the other way round: dy is spread by A, multiplied by v, summed over all blocks and images, and
only then brought back by G'. Rounding errors are some 5e-6 of the result, those of the direct sum 1e-6.
"""

import functools
import math

import numpy as np
from numba import prange

from .compiling import Kernel, function, helper
from .layout import allocate, chunks_of, whole_vectors
from .simd import COLUMNS, LANES, ROWS, add_sums, inner_products, load, outer_product, splat, store, store_rows, zeros

WIDE = COLUMNS * LANES      # images side by side in a register tile
APART = 16                  # keeps the 36 rows of scratch from lying a multiple of 4 KiB apart, all in one cache set


# The three transforms, on six (or four) vectors -----------------------------------------------------------------------


@helper
def spread_inputs(d):
    """B' d"""
    a, b, c, e = d[4] - 4 * d[2], d[3] - 4 * d[1], d[4] - d[2], 2 * (d[3] - d[1])
    return 4 * d[0] - 5 * d[2] + d[4], a + b, a - b, c + e, c - e, 4 * d[1] - 5 * d[3] + d[5]


@helper
def gather(m):
    """A' m"""
    a, b, c, e = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return m[0] + a + c, b + 2 * e, a + 4 * c, b + 8 * e + m[5]


@helper
def spread_outputs(d):
    """A d"""
    a, b, c, e = d[0] + d[2], d[1] + d[3], d[0] + 4 * d[2], 2 * d[1] + 8 * d[3]
    return d[0], a + b, a - b, c + e, c - e, d[3]


@helper
def spread_filter(g):
    """G g"""
    a, b = g[0] + g[2], (1 / 24) * g[0] + (1 / 6) * g[2]
    return (0.25 * g[0], (-1 / 6) * (a + g[1]), (-1 / 6) * (a - g[1]),
            b + (1 / 12) * g[1], b - (1 / 12) * g[1], g[2])


@helper
def gather_filter(u):
    """G' u"""
    a, b, c = u[1] + u[2], u[3] + u[4], u[3] - u[4]
    return (0.25 * u[0] - (1 / 6) * a + (1 / 24) * b, (1 / 6) * (u[2] - u[1]) + (1 / 12) * c,
            (1 / 6) * (b - a) + u[5])


@helper
def load_six(array, index, stride):
    return (load(array, index), load(array, index + stride), load(array, index + 2 * stride),
            load(array, index + 3 * stride), load(array, index + 4 * stride), load(array, index + 5 * stride))


@helper
def store_six(array, index, stride, v):
    store(array, index, v[0])
    store(array, index + stride, v[1])
    store(array, index + 2 * stride, v[2])
    store(array, index + 3 * stride, v[3])
    store(array, index + 4 * stride, v[4])
    store(array, index + 5 * stride, v[5])


@helper
def store_three(array, index, stride, v):
    store(array, index, v[0])
    store(array, index + stride, v[1])
    store(array, index + 2 * stride, v[2])


@helper
def pixel(x, p, size, offset):
    """Some images of pixel p; zeros in the padding."""
    return load(x, p * size + offset) if p >= 0 else splat(0.0)


# Which pixels ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def blocks(size, padding):
    """(window, output): per 4x4 block the pixels under its 6x6 window and its 16 outputs, -1 where there is none."""
    outputs = size[0] + 2 * padding[0] - 2, size[1] + 2 * padding[1] - 2

    def table(sides, length, start):                                      # of `length` x `length` pixels per block
        lines = []
        for axis in (0, 1):
            line = 4 * np.arange(-(-outputs[axis] // 4))[:, None] + np.arange(length) - start[axis]
            lines.append(np.where((line >= 0) & (line < sides[axis]), line, -1))
        row, column = lines[0][:, None, :, None], lines[1][None, :, None, :]
        pixels = np.where((row >= 0) & (column >= 0), row * sides[1] + column, -1)
        return np.ascontiguousarray(pixels.reshape(-1, length**2), np.int64)

    return table(size, 6, padding), table(outputs, 4, (0, 0))


@functools.lru_cache(maxsize=1024)
def pays(x_shape, weight_shape, stride, padding, weight_gradient=False):
    """Whether this convolution is faster so than directly; decided by the shape alone.

    Measured on maps of 2x2 to 32x32, 1 to 128 channels, 16 to 128 images (AVX2): in the time of a multiplication here
    the direct kernels do 1.5, their weight gradient one.
    """
    (N, _, H, W), (K, C, R, S) = x_shape, weight_shape
    if (R, S) != (3, 3) or stride != (1, 1) or max(padding) > 2 or N < WIDE:
        return False
    if not weight_gradient and (C * ROWS % LANES or K * ROWS % LANES):
        return False
    return direct_work((H, W), weight_shape, stride, padding) > (
        (1 if weight_gradient else 1.5) * work((H, W), K, C, padding))


def direct_work(size, weight_shape, stride, padding):
    """Multiplications per image without the tricks: K * C for each output pixel and tap that is not padding."""
    taps = 1
    for length, kernel, step, margin in zip(size, weight_shape[2:], stride, padding):
        starts = range(-margin, length + margin - kernel + 1, step)
        taps *= sum(0 <= start + tap < length for start in starts for tap in range(kernel))
    return taps * weight_shape[0] * weight_shape[1]


def work(size, K, C, padding):
    """Multiplications per image here: 36 * K * C for each block, and additions worth 200 * C + 150 * K."""
    tiles = math.prod(-(-(length + 2 * margin - 2) // 4) for length, margin in zip(size, padding))
    return tiles * (36 * K * C + 200 * C + 150 * K)


@helper
def images_of(block, count, N):
    """The images [first, last) of one of `count` blocks: whole register tiles each."""
    return block * (N // WIDE) // count * WIDE, (block + 1) * (N // WIDE) // count * WIDE


# Forward and input gradient -------------------------------------------------------------------------------------------


def convolve(x, packed, mirrored, size, padding, K):
    """The convolution of x [pixels, C, N] with packed filters: y [output pixels, K, N]. `mirrored` turns them round."""
    C, N = x.shape[1:]
    x = whole_vectors(x, WIDE)
    window, output = blocks(size, padding)
    filters = allocate((36, len(packed), C * ROWS))
    spread_filters(filters.size, packed, mirrored, filters)
    pixels = (size[0] + 2 * padding[0] - 2) * (size[1] + 2 * padding[1] - 2)
    y = allocate((pixels, K, x.shape[2]))
    multiply_windows(y.size * C * 0.1, x, packed, filters, window, output, parts(x.shape[2], len(window)), y)
    return y if y.shape[2] == N else np.ascontiguousarray(y[:, :, :N])


def parts(N, blocks):
    """In how many parts to take the images: at most 128 in each, and 16 jobs in all where they can be had."""
    return max(-(-N // 128), min(N // 32, 16 // blocks))


@Kernel
def spread_filters(packed, mirrored, u):
    """u[36, k / ROWS, c * ROWS + k % ROWS] = G g G' of the filters g that `convolution.pack` has brought in order."""
    blocks, size = u.shape[1:]
    for block in prange(blocks):
        g, part = block * packed.shape[1] * ROWS + ROWS, np.empty(18 * LANES, np.float32)
        for first in range(0, size, LANES):
            for s in range(3):
                start, step = (8 - s, -3) if mirrored else (s, 3)
                column = (load(packed, g + start * size + first), load(packed, g + (start + step) * size + first),
                          load(packed, g + (start + 2 * step) * size + first))
                store_six(part, s * LANES, 3 * LANES, spread_filter(column))
            for i in range(6):
                row = load(part, 3 * i * LANES), load(part, (3 * i + 1) * LANES), load(part, (3 * i + 2) * LANES)
                store_six(u, (6 * i * blocks + block) * size + first, blocks * size, spread_filter(row))


@Kernel
def multiply_windows(x, packed, filters, window, output, count, y):
    """y = the convolution of x, one 4x4 block of outputs and one block of images at a time."""
    _, K, N = y.shape
    C = x.shape[1]
    for job in prange(len(window) * count):
        block, (first, last) = job // count, images_of(job % count, count, N)
        v = np.empty((36, C * (last - first) + APART), np.float32)
        m = np.empty((36, K * (last - first) + APART), np.float32)
        spread_windows(x, window[block], first, last, v)
        multiply(filters, v, last - first, K, m)
        gather_outputs(m, packed, output[block], first, last, y)


@function
def spread_windows(x, window, first, last, v):
    """v[36, C, :] = B' d B, first along the rows of the window, then along its columns.

    One row (column) at a time for all images: six streams through memory. 36 at a time, a multiple of 4 KiB apart,
    would chase each other out of the cache.
    """
    (C, N), wide = x.shape[1:], last - first
    part = np.empty(36 * wide, np.float32)
    for c in range(C):
        for i in range(6):
            p0, p1, p2 = window[6 * i], window[6 * i + 1], window[6 * i + 2]
            p3, p4, p5 = window[6 * i + 3], window[6 * i + 4], window[6 * i + 5]
            for n in range(0, wide, LANES):
                o = c * N + first + n
                row = (pixel(x, p0, C * N, o), pixel(x, p1, C * N, o), pixel(x, p2, C * N, o),
                       pixel(x, p3, C * N, o), pixel(x, p4, C * N, o), pixel(x, p5, C * N, o))
                store_six(part, 6 * i * wide + n, wide, spread_inputs(row))
        for j in range(6):
            for n in range(0, wide, LANES):
                column = load_six(part, j * wide + n, 6 * wide)
                store_six(v, j * v.shape[1] + c * wide + n, 6 * v.shape[1], spread_inputs(column))


@function
def multiply(filters, v, wide, K, m):
    """m[t] = filters[t] @ v[t] for each of the 36 points t."""
    rows, C = filters.shape[1], filters.shape[2] // ROWS
    for t in range(36):
        for n in range(0, wide, WIDE):
            for row in range(rows):
                tile = zeros(ROWS, COLUMNS)
                u, x = (t * rows + row) * C * ROWS, t * v.shape[1] + n
                for c in range(C):
                    tile = outer_product(tile, filters, u + c * ROWS, v, x + c * wide)
                store_rows(m, t * m.shape[1] + row * ROWS * wide + n, wide, tile, K - row * ROWS)


@function
def gather_outputs(m, packed, output, first, last, y):
    """y[o, K, :] = A' m A + bias for the 16 outputs of the block that lie on the map."""
    (K, N), wide = y.shape[1:], last - first
    part = np.empty(24 * wide, np.float32)
    for k in range(K):
        bias = splat(packed[k // ROWS, 0, k % ROWS])
        for j in range(6):
            for n in range(0, wide, LANES):
                four = gather(load_six(m, j * m.shape[1] + k * wide + n, 6 * m.shape[1]))
                for i in range(4):
                    store(part, (6 * i + j) * wide + n, four[i])
        for i in range(4):
            for n in range(0, wide, LANES):
                four = gather(load_six(part, 6 * i * wide + n, wide))
                for j in range(4):
                    p = output[4 * i + j]
                    if p >= 0:
                        store(y, (p * K + k) * N + first + n, four[j] + bias)


# Weight gradient ------------------------------------------------------------------------------------------------------


def correlate(dy, x, size, padding):
    """dweight[k, c, t] = sum over output pixels q and images of dy[q, k] * x[the pixel q sees through tap t, c]."""
    window, output = blocks(size, padding)
    K, C = dy.shape[1], x.shape[1]
    dy, x = whole_vectors(dy, WIDE), whole_vectors(x, WIDE)
    count = -(-x.shape[2] // 128)
    size = 36, -(-K // ROWS), -(-C // COLUMNS), ROWS * COLUMNS
    partial = np.zeros((chunks_of(len(window) * count, math.prod(size)), *size), np.float32)
    multiply_gradients(dy.size * C * 0.1, dy, x, window, output, count, partial)
    dweight = np.empty((K, C, 9), np.float32)
    gather_filters(partial.size, partial, dweight)
    return dweight


@Kernel
def multiply_gradients(dy, x, window, output, count, partial):
    """partial[chunk, 36] = the sum over the chunk's blocks of d @ v.T, with v = B' x B and d = A dy A'."""
    _, K, N = dy.shape
    C, chunks, jobs = x.shape[1], len(partial), len(window) * count
    for chunk in prange(chunks):
        for job in range(chunk * jobs // chunks, (chunk + 1) * jobs // chunks):
            block, (first, last) = job // count, images_of(job % count, count, N)
            v = np.empty((36, C * (last - first) + APART), np.float32)
            d = np.empty((36, K * (last - first) + APART), np.float32)
            spread_windows(x, window[block], first, last, v)
            spread_gradients(dy, output[block], first, last, d)
            multiply_transposed(d, K, v, C, last - first, chunk, partial)


@function
def spread_gradients(dy, output, first, last, d):
    """d[36, K, :] = A dy A', first along the rows of the block, then along its columns."""
    (K, N), wide = dy.shape[1:], last - first
    part = np.empty(24 * wide, np.float32)
    for k in range(K):
        for i in range(4):
            p0, p1, p2, p3 = output[4 * i], output[4 * i + 1], output[4 * i + 2], output[4 * i + 3]
            for n in range(0, wide, LANES):
                o = k * N + first + n
                row = (pixel(dy, p0, K * N, o), pixel(dy, p1, K * N, o),
                       pixel(dy, p2, K * N, o), pixel(dy, p3, K * N, o))
                store_six(part, 6 * i * wide + n, wide, spread_outputs(row))
        for j in range(6):
            for n in range(0, wide, LANES):
                o = j * wide + n
                column = load(part, o), load(part, o + 6 * wide), load(part, o + 12 * wide), load(part, o + 18 * wide)
                store_six(d, j * d.shape[1] + k * wide + n, 6 * d.shape[1], spread_outputs(column))


@function
def multiply_transposed(d, K, v, C, wide, chunk, partial):
    """partial[chunk, t] += d[t] @ v[t].T for each of the 36 points t, tile by tile."""
    rows, columns = partial.shape[2:4]
    for t in range(36):
        for row in range(rows):
            for column in range(columns):
                k, c = row * ROWS, column * COLUMNS
                a, b = t * d.shape[1] + k * wide, t * v.shape[1] + c * wide
                tile = zeros(ROWS, COLUMNS)
                for n in range(0, wide, LANES):
                    tile = inner_products(tile, d, a + n, wide, K - k, v, b + n, wide, C - c)
                add_sums(partial, (((chunk * 36 + t) * rows + row) * columns + column) * ROWS * COLUMNS, tile)


@Kernel
def gather_filters(partial, dweight):
    """dweight[k, c] = G' u G for the 6x6 points u of each filter, summed over the chunks in their order."""
    K, C = dweight.shape[:2]
    columns, size = partial.shape[3:]
    stride = partial.shape[2] * columns * size                            # from one point to the next
    for tile in prange(partial.shape[2] * columns):
        u, g = np.empty(36 * LANES, np.float32), np.empty(9 * LANES, np.float32)
        for first in range(0, size, LANES):
            for t in range(36):
                total = splat(0.0)
                for chunk in range(len(partial)):
                    total = total + load(partial, (chunk * 36 + t) * stride + tile * size + first)
                store(u, t * LANES, total)
            for i in range(6):
                store_three(u, i * LANES, 6 * LANES, gather_filter(load_six(u, i * LANES, 6 * LANES)))
            for r in range(3):
                store_three(g, 3 * r * LANES, LANES, gather_filter(load_six(u, 6 * r * LANES, LANES)))
            for lane in range(LANES):
                k = tile // columns * ROWS + (first + lane) // COLUMNS
                c = tile % columns * COLUMNS + (first + lane) % COLUMNS
                if k < K and c < C:
                    for t in range(9):
                        dweight[k, c, t] = g[t * LANES + lane]
