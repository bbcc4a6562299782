"""The convolutions of this backend in plain loops: what `convolution` and `sparse` must equal.

Their twins: these run in their place when a learner's loops have replaced those of kernels/loops.py.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import loops, reference
from ..reference.convolution import output_size
from .convolution import inverse_taps, taps
from .layout import allocate, images, planes, takes
from .simd import ROWS


def conv2d(x, weight, bias, stride, padding):
    """As the reference's."""
    if not takes(x, weight, bias):
        return reference.convolution.conv2d(x, weight, bias, stride, padding)
    K, C, R, S = weight.shape
    height, width = (output_size(*each) for each in zip(x.shape[2:], (R, S), stride, padding))
    source = taps(*x.shape[2:], (R, S), stride, padding)
    y = start(len(source), K, x, bias)
    loops.add_taps(planes(x), np.ascontiguousarray(weight).reshape(K, C, R * S), source, y)
    return images(y, height, width)


def conv2d_input_gradient(dy, weight, x_shape, stride, padding):
    """The same loops: the pixels and the channels change sides."""
    if not takes(dy, weight):
        return reference.convolution.conv2d_input_gradient(dy, weight, x_shape, stride, padding)
    K, C, R, S = weight.shape
    reached = inverse_taps(*x_shape[2:], (R, S), stride, padding)
    dx = start(len(reached), C, dy, None)
    turned = np.ascontiguousarray(weight.reshape(K, C, R * S).transpose(1, 0, 2))        # (C, K, T)
    loops.add_taps(planes(dy), turned, reached, dx)
    return images(dx, *x_shape[2:])


def winograd(x, packed, mirrored, size, padding, K):
    """As winograd.convolve, by `loops.winograd_tile` for all tiles of a filter at once."""
    C, N = x.shape[1:]
    filters = packed[:, 1:].reshape(len(packed), 9, C, ROWS).transpose(0, 3, 2, 1).reshape(-1, C, 3, 3)[:K]
    filters = filters[:, :, ::-1, ::-1] if mirrored else filters
    height, width = (length + 2 * margin - 2 for length, margin in zip(size, padding))
    tall, wide = -(-height // 4), -(-width // 4)                          # tiles down and across
    padded = np.zeros((N, C, 4 * tall + 2, 4 * wide + 2), np.float32)
    padded[:, :, padding[0] :, padding[1] :][:, :, : size[0], : size[1]] = images(x, *size)
    windows = sliding_window_view(padded, (6, 6), axis=(2, 3))[:, :, ::4, ::4]           # (N, C, tall, wide, 6, 6)
    y = allocate((height * width, K, N))
    for k, bias in enumerate(packed[:, 0].reshape(-1)[:K]):
        tiles = loops.winograd_tile(windows, filters[k, :, None, None]).sum(axis=1)      # (N, tall, wide, 4, 4)
        plane = tiles.transpose(1, 3, 2, 4, 0).reshape(4 * tall, 4 * wide, N)[:height, :width]
        y[:, k] = plane.reshape(-1, N) + bias
    return y


def sparse_conv2d(x, weight, bias, entries, stride, padding):
    """The convolution with the kept weights."""
    if not takes(x, weight, bias):
        return reference.sparse.sparse_conv2d(x, weight, bias, entries, stride, padding)
    K, _, R, S = weight.shape
    height, width = (output_size(*each) for each in zip(x.shape[2:], (R, S), stride, padding))
    source = taps(*x.shape[2:], (R, S), stride, padding)
    y = start(len(source), K, x, bias)
    add_kept(x, weight, entries.by_output, source, y)
    return images(y, height, width)


def sparse_conv2d_input_gradient(dy, weight, entries, x_shape, stride, padding):
    """Its gradient for x: the entries in their other order."""
    if not takes(dy, weight):
        return reference.sparse.sparse_conv2d_input_gradient(dy, weight, entries, x_shape, stride, padding)
    reached = inverse_taps(*x_shape[2:], weight.shape[2:], stride, padding)
    dx = start(len(reached), weight.shape[1], dy, None)
    add_kept(dy, weight, entries.by_input, reached, dx)
    return images(dx, *x_shape[2:])


def add_kept(x, weight, order, source, y):
    """The loop over the kept weights."""
    flat = np.ascontiguousarray(weight).reshape(-1)
    loops.add_kept(planes(x), flat, order.start, order.channel, order.tap, order.position, source, y)


def start(pixels, channels, x, bias):
    """What the loops add to: the bias, or zeros.    [pixels, channels, N]"""
    y = allocate((pixels, channels, len(x)))
    y[...] = 0 if bias is None else bias[:, None]
    return y
