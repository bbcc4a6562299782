"""Convolution and linear layers with masked weights: only those that are left are multiplied, in training too.

With the batch innermost a kept weight is one number times one run of images: nothing has to be gathered, no pattern is
needed, and a layer with a tenth of its weights takes about a tenth of the multiplications. The images of one output
channel stay in registers while the channel's kept weights stream by.

With few weights left it is no longer the multiplications that take the time, but the images' way from memory. Kept
weights read here and there, and the processor cannot guess where next. So each kernel asks for the pixel that the next
output pixel will be the first to look at while it still works on this one: two to three times faster at 2 %.

A linear layer is a convolution on a map of one pixel. There are no pixels to share among the threads, so they share the
rows: the outputs, or for the input gradient the inputs. Each row is summed by one thread, whichever it is.
"""

import functools
import math

import numpy as np
from numba import prange

from .. import reference
from ..reference.convolution import output_size
from . import winograd
from .compiling import Kernel, helper
from .convolution import inverse_taps, taps
from .layout import LINE_OF_FLOATS, allocate, chunks_of, images, planes, takes, whole_vectors
from .simd import (
    LANES,
    constant_rows,
    dot,
    lane_sum,
    load,
    load_tile,
    outer_product,
    prefetch,
    splat,
    store,
    store_rows,
)

SPAN = 4 if LANES == 16 else 8      # vectors of images in registers at a time


@functools.lru_cache(maxsize=1024)
def sparse_pays(x_shape, weight_shape, kept, stride, padding):
    """As the reference's. A kept weight costs 2.5 of the multiplications of the dense kernels, measured on ResNet-20
    (AVX2): its 64 -> 64 channels gain below a density of 0.14, 16 -> 16 below 0.25, what is not Winograd's below 0.4.
    """
    size, (K, C, R, S) = x_shape[2:], weight_shape
    dense = winograd.direct_work(size, weight_shape, stride, padding)
    sparse = 2.5 * dense * kept / (K * C * R * S)
    if winograd.pays(x_shape, weight_shape, stride, padding):
        dense = 1.3 * winograd.work(size, K, C, padding)
    return sparse < dense


def sparse_conv2d(x, weight, bias, entries, stride, padding):
    """As the reference's."""
    if not takes(x, weight, bias):
        return reference.sparse.sparse_conv2d(x, weight, bias, entries, stride, padding)
    K, _, R, S = weight.shape
    height, width = (output_size(*each) for each in zip(x.shape[2:], (R, S), stride, padding))
    source = taps(*x.shape[2:], (R, S), stride, padding)
    start = np.zeros(K, np.float32) if bias is None else bias
    return images(convolve(planes(x), weight, start, entries.by_output, source), height, width)


def sparse_conv2d_input_gradient(dy, weight, entries, x_shape, stride, padding):
    """As the reference's: the same kernel with the tables turned round."""
    if not takes(dy, weight):
        return reference.sparse.sparse_conv2d_input_gradient(dy, weight, entries, x_shape, stride, padding)
    reached = inverse_taps(*x_shape[2:], weight.shape[2:], stride, padding)
    start = np.zeros(weight.shape[1], np.float32)
    return images(convolve(planes(dy), weight, start, entries.by_input, reached), *x_shape[2:])


def sparse_conv2d_weight_gradient(dy, x, entries, stride, padding):
    """As the reference's."""
    if not takes(dy, x):
        return reference.sparse.sparse_conv2d_weight_gradient(dy, x, entries, stride, padding)
    order, source = entries.by_output, taps(*x.shape[2:], entries.mask.shape[2:], stride, padding)
    dy, x = whole_vectors(planes(dy), LANES), whole_vectors(planes(x), LANES)
    kept = len(order.tap)
    work = len(source) * kept * x.shape[2] / 20
    partial = np.zeros((1 if work < 100_000 else chunks_of(len(source), kept * LANES), kept, LANES), np.float32)
    multiply_kept_pixels(work, dy, x, source, *order[:3], partial)
    dweight = np.zeros(entries.mask.shape, np.float32)
    add_lanes(partial.size, partial, order.position, dweight.reshape(-1))
    return dweight


def convolve(x, weight, bias, order, source):
    """y [output pixels, rows, N] of x [pixels, channels, N]: for each row its kept weights."""
    N = x.shape[2]
    x = whole_vectors(x, LANES)
    y = allocate((len(source), len(order.start) - 1, x.shape[2]))
    work = len(source) * len(order.tap) * x.shape[2] / 20 + y.size / 10
    flat = np.ascontiguousarray(weight).reshape(-1)
    multiply_kept(work, x, flat, np.ascontiguousarray(bias), *order, source, y)
    return y if y.shape[2] == N else np.ascontiguousarray(y[:, :, :N])


@Kernel
def multiply_kept(x, weight, bias, start, channel, tap, position, source, y):
    """y[q, k] = bias[k] + the sum over the kept weights of row k of weight * x[source[q, tap], channel]."""
    Q, K, N = y.shape
    wide = N - N % (SPAN * LANES)
    for q in prange(Q):
        newest = furthest(source, q + 1)
        for k in range(K):
            fetch_share(x, newest, k, K)
            for n in range(0, wide, SPAN * LANES):
                tile = constant_rows(1, SPAN, bias, k)
                tile = add_kept(tile, x, weight, start, channel, tap, position, source, q, k, n)
                store_rows(y, (q * K + k) * N + n, N, tile, 1)
            for n in range(wide, N, LANES):
                tile = constant_rows(1, 1, bias, k)
                tile = add_kept(tile, x, weight, start, channel, tap, position, source, q, k, n)
                store_rows(y, (q * K + k) * N + n, N, tile, 1)


@helper
def furthest(source, q):
    """The last pixel that output pixel q looks at, most often the one that none before it has looked at; or -1."""
    last = -1
    for t in range(source.shape[1]):
        last = max(last, source[min(q, len(source) - 1), t])
    return last


@helper
def fetch_share(x, p, k, K):
    """Ask for the k-th of K equal parts of pixel p, so that all of it is on its way when all the rows are done."""
    C, N = x.shape[1:]
    for i in range((p * C + k * C // K) * N, (p * C + (k + 1) * C // K) * N, LINE_OF_FLOATS):
        prefetch(x, i)


@helper
def add_kept(tile, x, weight, start, channel, tap, position, source, q, k, n):
    """What the kept weights of row k add to output pixel q, for the images of the tile."""
    C, N = x.shape[1:]
    for entry in range(start[k], start[k + 1]):
        p = source[q, tap[entry]]
        if p >= 0:
            tile = outer_product(tile, weight, position[entry], x, (p * C + channel[entry]) * N + n)
    return tile


@Kernel
def multiply_kept_pixels(dy, x, source, start, channel, tap, partial):
    """partial[chunk, entry] = the sum of dy[q, k] * x[source[q, tap], channel] over the chunk's pixels."""
    Q, K, N = dy.shape
    chunks, wide = len(partial), N - N % (SPAN * LANES)
    for chunk in prange(chunks):
        for q in range(chunk * Q // chunks, (chunk + 1) * Q // chunks):
            newest = furthest(source, q + 1)
            for k in range(K):
                fetch_share(x, newest, k, K)
                for n in range(0, wide, SPAN * LANES):
                    tile = load_tile(1, SPAN, dy, (q * K + k) * N + n)
                    add_products(tile, x, source, start, channel, tap, partial, chunk, q, k, n)
                for n in range(wide, N, LANES):
                    tile = load_tile(1, 1, dy, (q * K + k) * N + n)
                    add_products(tile, x, source, start, channel, tap, partial, chunk, q, k, n)


@helper
def add_products(tile, x, source, start, channel, tap, partial, chunk, q, k, n):
    """What output pixel q adds to the gradients of the kept weights of row k; the tile holds dy[q, k]."""
    C, N = x.shape[1:]
    for entry in range(start[k], start[k + 1]):
        p = source[q, tap[entry]]
        if p >= 0:
            place = (chunk * partial.shape[1] + entry) * LANES
            store(partial, place, dot(tile, x, (p * C + channel[entry]) * N + n, load(partial, place)))


@Kernel
def add_lanes(partial, position, dweight):
    """dweight[position] = the sum over the chunks, in their order, and over the lanes."""
    for entry in prange(len(position)):
        total = splat(0.0)
        for chunk in range(len(partial)):
            total = total + load(partial, (chunk * len(position) + entry) * LANES)
        dweight[position[entry]] = lane_sum(total)


# Linear layers --------------------------------------------------------------------------------------------------------


DENSE_WEIGHTS = 8       # a kept weight costs what 5 to 8 do in a matrix product, the more the fewer images there are


def sparse_linear_pays(x_shape, weight_shape, kept):
    """As the reference's. Measured by benchmarks/sparse_linear.py (AVX2): small layers, such as the classifier of a
    ResNet, never gain; up to three images leave most of a vector empty, and their forward pass loses.
    """
    K, C = weight_shape
    return math.prod(x_shape[:-1]) > 3 and K * C >= 20_000 and kept * DENSE_WEIGHTS < K * C


def sparse_linear(x, weight, bias, entries):
    """As the reference's."""
    if not takes(x, weight, bias):
        return reference.sparse.sparse_linear(x, weight, bias, entries)
    start = np.zeros(len(weight), np.float32) if bias is None else bias
    return multiply(x, weight, start, entries.by_output)


def sparse_linear_input_gradient(dy, weight, entries):
    """As the reference's: the same kernel with the roles of inputs and outputs exchanged."""
    if not takes(dy, weight):
        return reference.sparse.sparse_linear_input_gradient(dy, weight, entries)
    return multiply(dy, weight, np.zeros(weight.shape[1], np.float32), entries.by_input)


def sparse_linear_weight_gradient(dy, x, entries):
    """As the reference's."""
    if not takes(dy, x):
        return reference.sparse.sparse_linear_weight_gradient(dy, x, entries)
    order, dweight = entries.by_output, np.zeros(entries.mask.shape, np.float32)
    dy, x = turned(dy), turned(x)
    multiply_kept_outputs(len(order.tap) * x.shape[1] / 10, dy, x, order.start, order.channel, order.position,
                          parts_of(len(dy)), dweight.reshape(-1))
    return dweight


def multiply(x, weight, bias, order):
    """y (N, rows) of x (N, channels), both best with the batch innermost: for each row its kept weights."""
    N, x, rows = len(x), turned(x), len(order.start) - 1
    y = allocate((rows, x.shape[1]))
    work = (len(order.tap) + rows) * x.shape[1] / 10
    multiply_kept_rows(work, x, np.ascontiguousarray(weight).reshape(-1), np.ascontiguousarray(bias), order.start,
                       order.channel, order.position, parts_of(rows), y)
    return np.ascontiguousarray(y[:, :N]).T


def parts_of(rows):
    """In how many parts threads share the rows; a part's rows read the same images one after the other."""
    return min(rows, 16)


def turned(x):
    """x (N, channels) with the batch innermost, in whole vectors: [channels, N]."""
    return np.ascontiguousarray(whole_vectors(x.T[None], LANES)[0])


@Kernel
def multiply_kept_rows(x, weight, bias, start, channel, position, parts, y):
    """y[k] = bias[k] + the sum over the kept weights of row k of weight * x[channel]."""
    K, N = y.shape
    wide = N - N % (SPAN * LANES)
    for part in prange(parts):
        rows = range(part * K // parts, (part + 1) * K // parts)
        for n in range(0, wide, SPAN * LANES):
            for k in rows:
                tile = constant_rows(1, SPAN, bias, k)
                for entry in range(start[k], start[k + 1]):
                    tile = outer_product(tile, weight, position[entry], x, channel[entry] * N + n)
                store_rows(y, k * N + n, N, tile, 1)
        for n in range(wide, N, LANES):
            for k in rows:
                tile = constant_rows(1, 1, bias, k)
                for entry in range(start[k], start[k + 1]):
                    tile = outer_product(tile, weight, position[entry], x, channel[entry] * N + n)
                store_rows(y, k * N + n, N, tile, 1)


@Kernel
def multiply_kept_outputs(dy, x, start, channel, position, parts, dweight):
    """dweight[position] = the sum of dy[k] * x[channel], for the kept weights of each row k; dweight comes as zeros."""
    K, N = dy.shape
    wide = N - N % (SPAN * LANES)
    for part in prange(parts):
        rows = range(part * K // parts, (part + 1) * K // parts)
        for n in range(0, wide, SPAN * LANES):
            for k in rows:
                tile = load_tile(1, SPAN, dy, k * N + n)
                for entry in range(start[k], start[k + 1]):
                    dweight[position[entry]] += lane_sum(dot(tile, x, channel[entry] * N + n, splat(0.0)))
        for n in range(wide, N, LANES):
            for k in rows:
                tile = load_tile(1, 1, dy, k * N + n)
                for entry in range(start[k], start[k + 1]):
                    dweight[position[entry]] += lane_sum(dot(tile, x, channel[entry] * N + n, splat(0.0)))
