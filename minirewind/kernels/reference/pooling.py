"""Pooling: the largest or the mean value under a window.    (N, C, H, W) -> (N, C, P, Q)

`size`, `stride` and `padding` are (vertical, horizontal) pairs.
"""

import numpy as np

from .convolution import output_size, pad, windows


def max_pool2d(x, size, stride, padding):
    """The largest value under each window and where it stood: (y, source), both (N, C, P, Q).

    `source` counts the pixels of the H x W plane row by row; of equal values the first wins; a NaN wins over all.
    """
    H, W = x.shape[2:]
    P, Q = (output_size(n, k, s, p) for n, k, s, p in zip((H, W), size, stride, padding))
    patches = windows(pad(x, padding, -np.inf), size, stride)             # (N, C, P, Q, R, S)
    winner = patches.reshape(*patches.shape[:4], size[0] * size[1]).argmax(axis=-1)     # (N, C, P, Q)
    row = np.arange(P)[:, None] * stride[0] - padding[0] + winner // size[1]
    column = np.arange(Q) * stride[1] - padding[1] + winner % size[1]
    source = row.clip(0, H - 1) * W + column.clip(0, W - 1)               # padding wins only where all is -inf
    planes = x.reshape(*x.shape[:2], H * W)
    y = np.take_along_axis(planes, source.reshape(*x.shape[:2], P * Q), axis=2).reshape(source.shape)
    return y, source


def max_pool2d_gradient(dy, source, x_shape):
    """The gradient goes to the pixel that won, summed where one pixel won several windows."""
    N, C, H, W = x_shape
    count = dy.shape[2] * dy.shape[3]                                     # of windows in a plane
    dx = np.zeros((N * C, H * W), dy.dtype)
    np.add.at(dx, (np.arange(N * C)[:, None], source.reshape(N * C, count)), dy.reshape(N * C, count))
    return dx.reshape(x_shape)


def avg_pool2d(x, size, stride, padding):
    """The mean under each window; the zeros of the padding count, as in PyTorch."""
    return windows(pad(x, padding), size, stride).mean(axis=(4, 5))


def avg_pool2d_gradient(dy, x_shape, size, stride, padding):
    """Every pixel under a window gets the same share of its gradient."""
    N, C, H, W = x_shape
    P, Q = dy.shape[2:]
    share = dy / (size[0] * size[1])
    dx = np.zeros((N, C, H + 2 * padding[0], W + 2 * padding[1]), dy.dtype)
    for r in range(size[0]):
        for s in range(size[1]):
            dx[:, :, r : r + P * stride[0] : stride[0], s : s + Q * stride[1] : stride[1]] += share
    return dx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]
