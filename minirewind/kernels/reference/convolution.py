"""Convolution and its two gradients.

    y[n, k, p, q] = the sum over c, r, s of
                    x[n, c, p * stride + r - padding, q * stride + s - padding] * weight[k, c, r, s]

x (N, C, H, W), weight (K, C, R, S), y (N, K, P, Q); `stride` and `padding` are (vertical, horizontal) pairs.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """How many places a window of `kernel` can take on a line of `size`."""
    return (size + 2 * padding - kernel) // stride + 1


def pad(x, padding, value=0):
    """x with `value` around its last two axes."""
    vertical, horizontal = padding
    if vertical == horizontal == 0:
        return x
    return np.pad(x, ((0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)), constant_values=value)


def windows(x, kernel, stride):
    """Every patch of x under the sliding window, without a copy.    (N, C, H, W) -> (N, C, P, Q, R, S)"""
    return sliding_window_view(x, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]


def conv2d(x, weight, bias, stride, padding):
    """The sum above, plus bias (K,) or None."""
    patches = windows(pad(x, padding), weight.shape[2:], stride)        # (N, C, P, Q, R, S)
    y = np.tensordot(patches, weight, axes=((1, 4, 5), (1, 2, 3)))      # (N, P, Q, K)
    if bias is not None:
        y += bias
    return y.transpose(0, 3, 1, 2)                                      # (N, K, P, Q)


def conv2d_weight_gradient(dy, x, weight_shape, stride, padding):
    """Each filter entry gathers the products of what it saw and what came back.    -> (K, C, R, S)"""
    patches = windows(pad(x, padding), weight_shape[2:], stride)        # (N, C, P, Q, R, S)
    return np.tensordot(dy, patches, axes=((0, 2, 3), (0, 2, 3)))       # (K, C, R, S)


def conv2d_bias_gradient(dy):
    """A channel's bias is added to each of its pixels.    -> (K,)"""
    return dy.sum(axis=(0, 2, 3))


def conv2d_input_gradient(dy, weight, x_shape, stride, padding):
    """Each output pixel hands its gradient back to the pixels it saw, one filter entry at a time.    -> (N, C, H, W)"""
    N, C, H, W = x_shape
    P, Q = dy.shape[2:]
    dx = np.zeros((N, C, H + 2 * padding[0], W + 2 * padding[1]), dy.dtype)
    for r in range(weight.shape[2]):
        for s in range(weight.shape[3]):
            rows = slice(r, r + P * stride[0], stride[0])
            columns = slice(s, s + Q * stride[1], stride[1])
            back = np.tensordot(dy, weight[:, :, r, s], axes=(1, 0))    # (N, P, Q, C)
            dx[:, :, rows, columns] += back.transpose(0, 3, 1, 2)
    return dx[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]
