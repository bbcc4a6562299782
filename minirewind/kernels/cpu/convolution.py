"""Convolution of any kernel size, stride and padding, directly: for each output pixel, for each tap.

With the batch innermost a convolution is nothing but this, where p is the pixel that tap t of output pixel q looks at:

    y[q, k, :] += weight[k, c, t] * x[p, c, :]            for all q, t, k, c;  ":" are the images

Which p belongs to (q, t) is looked up in a *tap table*, made once per shape; taps in the padding are left out. The
input gradient is the same sum with the table turned round (which q looked at pixel p through tap t?) and the filters
transposed: the same kernel.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import reference
from ..reference.convolution import output_size
from . import winograd
from .compiling import Kernel, helper
from .layout import allocate, chunks_of, images, planes, takes, whole_vectors
from .simd import (
    COLUMNS,
    LANES,
    ROWS,
    add_sums,
    constant_rows,
    inner_products,
    outer_product,
    store_rows,
    zeros,
)

BLOCKS = 32     # partial sums of a map, whatever the number of threads

# The tap tables -------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def taps(height, width, kernel, stride, padding):
    """source[q, t]: the input pixel that feeds output pixel q through tap t, -1 in the padding.    (P * Q, R * S)"""

    def line(size, axis):                                                 # the same along one axis
        outputs = np.arange(output_size(size, kernel[axis], stride[axis], padding[axis]))[:, None]
        position = outputs * stride[axis] + np.arange(kernel[axis]) - padding[axis]
        return np.where((position >= 0) & (position < size), position, -1)

    row, column = line(height, 0)[:, None, :, None], line(width, 1)[None, :, None, :]
    source = np.where((row >= 0) & (column >= 0), row * width + column, -1)              # (P, Q, R, S)
    return source.reshape(-1, kernel[0] * kernel[1]).astype(np.int32)


@functools.lru_cache(maxsize=1024)
def inverse_taps(height, width, kernel, stride, padding):
    """reached[p, t]: the output pixel that input pixel p feeds through tap t, -1 for none.    (H * W, R * S)"""
    source = taps(height, width, kernel, stride, padding)
    reached = np.full((height * width, source.shape[1]), -1, np.int32)
    output, tap = np.nonzero(source >= 0)
    reached[source[output, tap], tap] = output
    return reached


# What the backend offers ----------------------------------------------------------------------------------------------


def conv2d(x, weight, bias, stride, padding):
    """As the reference's."""
    if not takes(x, weight, bias):
        return reference.convolution.conv2d(x, weight, bias, stride, padding)
    height, width = (output_size(*each) for each in zip(x.shape[2:], weight.shape[2:], stride, padding))
    if winograd.pays(x.shape, weight.shape, stride, padding):
        y = winograd.convolve(planes(x), pack(weight, bias, False), False, x.shape[2:], padding, weight.shape[0])
    else:
        source = taps(*x.shape[2:], weight.shape[2:], stride, padding)
        y = convolve(planes(x), pack(weight, bias, False), source, weight.shape[0])
    return images(y, height, width)


def conv2d_input_gradient(dy, weight, x_shape, stride, padding):
    """As the reference's: the pixels and the channels change sides."""
    if not takes(dy, weight):
        return reference.convolution.conv2d_input_gradient(dy, weight, x_shape, stride, padding)
    around = 2 - padding[0], 2 - padding[1]                               # where the 3x3 filters reach over dy's edge
    if winograd.pays(dy.shape, weight.shape, stride, around):
        dx = winograd.convolve(planes(dy), pack(weight, None, True), True, dy.shape[2:], around, weight.shape[1])
    else:
        reached = inverse_taps(*x_shape[2:], weight.shape[2:], stride, padding)
        dx = convolve(planes(dy), pack(weight, None, True), reached, weight.shape[1])
    return images(dx, *x_shape[2:])


def conv2d_weight_gradient(dy, x, weight_shape, stride, padding):
    """As the reference's."""
    if not takes(dy, x):
        return reference.convolution.conv2d_weight_gradient(dy, x, weight_shape, stride, padding)
    if winograd.pays(x.shape, weight_shape, stride, padding, weight_gradient=True):
        return winograd.correlate(planes(dy), planes(x), x.shape[2:], padding).reshape(weight_shape)
    source = taps(*x.shape[2:], weight_shape[2:], stride, padding)
    return correlate(whole_vectors(planes(dy), LANES), whole_vectors(planes(x), LANES), source).reshape(weight_shape)


def conv2d_bias_gradient(dy):
    """As the reference's."""
    if not takes(dy):
        return reference.convolution.conv2d_bias_gradient(dy)
    memory = planes(dy)
    sums = np.zeros((min(BLOCKS, len(memory)), dy.shape[1]))
    sum_runs(dy.size * 0.25, memory, sums)
    return sums.sum(axis=0).astype(np.float32)


# Forward and input gradient -------------------------------------------------------------------------------------------


def convolve(x, filters, source, K):
    """The convolution of x [pixels, C, N] with packed filters: y [output pixels, K, N]."""
    N = x.shape[2]
    x = whole_vectors(x, LANES)
    y = allocate((source.shape[0], K, x.shape[2]))
    multiply_taps(y.size * filters.shape[1] / 30, x, filters, source, y)                 # some 60 GFLOP/s
    return y if y.shape[2] == N else np.ascontiguousarray(y[:, :, :N])


def pack(weight, bias, transposed):
    """Filters (K, C, R, S) in the order in which a tile needs them: [K / ROWS, 1 + taps * C, ROWS].

    The ROWS numbers of a block that meet the same x lie side by side, and in front of them stands their bias.
    `transposed` exchanges K and C. Missing rows of the last block are zeros.
    """
    K, C, R, S = weight.shape
    strides = (C * R * S, R * S)
    if transposed:
        K, C, strides = C, K, strides[::-1]
    packed = np.zeros((-(-K // ROWS), 1 + R * S * C, ROWS), np.float32)
    if bias is not None:
        packed[:, 0] = np.append(bias, np.zeros(-K % ROWS, np.float32)).reshape(-1, ROWS)
    pack_filters(K * C * R * S, np.ascontiguousarray(weight).reshape(-1), *strides, K, C, R * S, packed)
    return packed


@Kernel
def pack_filters(weight, k_stride, c_stride, K, C, T, packed):
    """packed[k / ROWS, 1 + t * C + c, k % ROWS] = weight[k, c, t]"""
    for k in prange(K):
        for c in range(C):
            for t in range(T):
                packed[k // ROWS, 1 + t * C + c, k % ROWS] = weight[k * k_stride + c * c_stride + t]


@Kernel
def multiply_taps(x, filters, source, y):
    """y[q] = bias + sum over taps t of filters[t] @ x[source[q, t]], one register tile after the other."""
    Q, K, N = y.shape
    wide = N - N % (COLUMNS * LANES)
    for q in prange(Q):
        for n in range(0, wide, COLUMNS * LANES):
            for block in range(filters.shape[0]):
                tile = constant_rows(ROWS, COLUMNS, filters, block * filters.shape[1] * ROWS)
                tile = add_taps(tile, x, filters, source, q, block, n)
                store_rows(y, (q * K + block * ROWS) * N + n, N, tile, K - block * ROWS)
        for n in range(wide, N, LANES):
            for block in range(filters.shape[0]):
                tile = constant_rows(ROWS, 1, filters, block * filters.shape[1] * ROWS)
                tile = add_taps(tile, x, filters, source, q, block, n)
                store_rows(y, (q * K + block * ROWS) * N + n, N, tile, K - block * ROWS)


@helper
def add_taps(tile, x, filters, source, q, block, n):
    """What the taps of output pixel q add to ROWS outputs of the images from n on. The tile stays in registers."""
    C, N = x.shape[1:]
    for t in range(source.shape[1]):
        p = source[q, t]
        if p >= 0:
            w = (block * filters.shape[1] + 1 + t * C) * ROWS
            for c in range(C):
                tile = outer_product(tile, filters, w + c * ROWS, x, (p * C + c) * N + n)
    return tile


# Bias gradient --------------------------------------------------------------------------------------------------------


@Kernel
def sum_runs(dy, sums):
    """sums[block, k] = the sum of channel k over the block's pixels and all images."""
    Q, K, N = dy.shape
    blocks = sums.shape[0]
    for block in prange(blocks):
        for q in range(block * Q // blocks, (block + 1) * Q // blocks):
            for k in range(K):
                total = np.float32(0)
                for n in range(N):
                    total += dy[q, k, n]
                sums[block, k] += total


# Weight gradient ------------------------------------------------------------------------------------------------------


def correlate(dy, x, source):
    """dweight[k, c, t] = sum over output pixels q and images of dy[q, k] * x[source[q, t], c].    (K, C, T)"""
    (Q, K, N), C, T = dy.shape, x.shape[1], source.shape[1]
    work = dy.size * C * T / 30
    pixels = max(1, 512 // N)      # at a time: enough to pay for the sums over the lanes, few enough for the cache
    size = T, -(-K // ROWS), -(-C // COLUMNS), ROWS * COLUMNS
    partial = np.zeros((1 if work < 100_000 else chunks_of(Q, math.prod(size)), *size), np.float32)
    multiply_pixels(work, dy, x, source, pixels, partial)
    dweight = np.empty((K, C, T), np.float32)
    add_chunks(partial.size, partial, dweight)
    return dweight


@Kernel
def multiply_pixels(dy, x, source, pixels, partial):
    """partial[chunk, t] = the sum over the chunk's output pixels q of dy[q] @ x[source[q, t]].T, tile by tile."""
    Q, T, chunks = dy.shape[0], source.shape[1], partial.shape[0]
    rows, columns = partial.shape[2:4]
    for chunk in prange(chunks):
        stop = (chunk + 1) * Q // chunks
        for first in range(chunk * Q // chunks, stop, pixels):
            last = min(first + pixels, stop)
            for t in range(T):
                for row in range(rows):
                    for column in range(columns):
                        tile = add_pixels(dy, row * ROWS, x, column * COLUMNS, source, t, first, last)
                        place = (((chunk * T + t) * rows + row) * columns + column) * ROWS * COLUMNS
                        add_sums(partial, place, tile)


@helper
def add_pixels(dy, k, x, c, source, t, first, last):
    """A tile of the sum over some output pixels q of dy[q, k ...] * x[source[q, t], c ...], lane by lane."""
    K, N = dy.shape[1:]
    C = x.shape[1]
    tile = zeros(ROWS, COLUMNS)
    for q in range(first, last):
        p = source[q, t]
        if p >= 0:
            for n in range(0, N, LANES):
                tile = inner_products(tile, dy, (q * K + k) * N + n, N, K - k, x, (p * C + c) * N + n, N, C - c)
    return tile


@Kernel
def add_chunks(partial, dweight):
    """dweight[k, c, t] = the sum over the chunks, in their order, with the tiles taken apart."""
    K, C, T = dweight.shape
    for t in prange(T):
        for k in range(K):
            for c in range(C):
                total = np.float32(0)
                for chunk in range(partial.shape[0]):
                    total += partial[chunk, t, k // ROWS, c // COLUMNS, k % ROWS * COLUMNS + c % COLUMNS]
                dweight[k, c, t] = total
