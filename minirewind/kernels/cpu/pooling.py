"""Pooling by the tap tables of convolution: the largest or the mean of the pixels that an output pixel looks at."""

import math

import numpy as np
from numba import prange

from .. import reference
from ..reference.convolution import output_size
from .compiling import Kernel, helper
from .convolution import inverse_taps, taps
from .layout import allocate, images, planes, takes

INT32 = np.dtype(np.int32)


def taken(x, size, padding):
    """Whether these kernels take x; a window that lies in the padding altogether they leave to the reference."""
    return takes(x) and all(margin < length for margin, length in zip(padding, size))


# What the backend offers ----------------------------------------------------------------------------------------------


def max_pool2d(x, size, stride, padding):
    """As the reference's; `source` is of type int32."""
    if not taken(x, size, padding):
        return reference.pooling.max_pool2d(x, size, stride, padding)
    height, width = (output_size(*each) for each in zip(x.shape[2:], size, stride, padding))
    table, memory = taps(*x.shape[2:], size, stride, padding), planes(x)
    y = allocate((len(table), *memory.shape[1:]))
    source = allocate(y.shape, INT32)
    largest(y.size * table.shape[1] * 0.4, memory, table, y, source)
    return images(y, height, width), images(source, height, width)


def max_pool2d_gradient(dy, source, x_shape):
    """As the reference's."""
    if not takes(dy) or source.dtype != np.int32:
        return reference.pooling.max_pool2d_gradient(dy, source, x_shape)
    N, C, H, W = x_shape
    dx = np.zeros((H * W, C, N), np.float32)
    hand_back(dy.size * 2, planes(dy), planes(source), dx)
    return images(dx, H, W)


def avg_pool2d(x, size, stride, padding):
    """As the reference's."""
    if not takes(x):
        return reference.pooling.avg_pool2d(x, size, stride, padding)
    height, width = (output_size(*each) for each in zip(x.shape[2:], size, stride, padding))
    table, memory = taps(*x.shape[2:], size, stride, padding), planes(x)
    y = allocate((len(table), *memory.shape[1:]))
    add_sources(y.size * table.shape[1] * 0.2, memory, table, 1 / math.prod(size), y)
    return images(y, height, width)


def avg_pool2d_gradient(dy, x_shape, size, stride, padding):
    """As the reference's."""
    if not takes(dy):
        return reference.pooling.avg_pool2d_gradient(dy, x_shape, size, stride, padding)
    N, C, H, W = x_shape
    dx = allocate((H * W, C, N))
    add_sources(dx.size * 0.4, planes(dy), inverse_taps(H, W, size, stride, padding), 1 / math.prod(size), dx)
    return images(dx, H, W)


# Kernels --------------------------------------------------------------------------------------------------------------

BLOCK = 16       # channels at a time: with all their images one run of memory, `run` below


@helper
def run(memory, p, block):
    """The channels of one block at pixel p, all images, as one flat view."""
    return memory[p, block * BLOCK : (block + 1) * BLOCK].reshape(-1)


@Kernel
def largest(x, table, y, source):
    """y[q] = the largest x[table[q, t]], source[q] = where it stood; the first of equals wins, and NaN over all."""
    blocks = (y.shape[1] + BLOCK - 1) // BLOCK
    for job in prange(y.shape[0] * blocks):
        q, block = job // blocks, job % blocks
        value, place, started = run(y, q, block), run(source, q, block), False
        for t in range(table.shape[1]):
            p = table[q, t]
            if p >= 0 and not started:
                started = True
                value[:], place[:] = run(x, p, block), p
            elif p >= 0:
                challenger = run(x, p, block)
                for i in range(value.size):
                    new, old, holder = challenger[i], value[i], place[i]
                    wins = (new > old) | ((new != new) & (old == old))
                    value[i] = new if wins else old
                    place[i] = p if wins else holder


@Kernel
def hand_back(dy, source, dx):
    """dx[source[q]] += dy[q]; a channel's pixels never meet another's, so the channels are shared among the threads."""
    Q, C, N = dy.shape
    for c in prange(C):
        for q in range(Q):
            for n in range(N):
                dx[source[q, c, n], c, n] += dy[q, c, n]


@Kernel
def add_sources(x, table, share, y):
    """y[q] = share * the sum of x[table[q, t]] over the taps t that are not -1."""
    blocks, factor = (y.shape[1] + BLOCK - 1) // BLOCK, np.float32(share)
    for job in prange(y.shape[0] * blocks):
        q, block = job // blocks, job % blocks
        total = run(y, q, block)
        total[:] = 0
        for t in range(table.shape[1]):
            if table[q, t] >= 0:
                part = run(x, table[q, t], block)
                for i in range(total.size):
                    total[i] += part[i] * factor
