"""Convolution with a masked filter bank, and linear layers with masked weights: what the mask keeps is all that counts.

The filters stay dense (K, C, R, S), views into the network's one vector; beside them stand the `entries`, made once per
mask, which say where weights are left. Here that saves nothing: this is the meaning that the fast kernels are held to.
"""

from typing import NamedTuple

import numpy as np

from . import arithmetic, convolution


class Order(NamedTuple):
    """The kept weights, row by row: those of row i are entries start[i] to start[i + 1]."""

    start: np.ndarray      # (rows + 1,)
    channel: np.ndarray    # (kept,) the channel that is read
    tap: np.ndarray        # (kept,) r * S + s
    position: np.ndarray   # (kept,) in the flat (K, C, R, S)


class Entries(NamedTuple):
    """Where a masked filter bank has weights left, in the orders of its two convolutions.

    The weights (K, C) of a linear layer are a filter bank of one tap.
    """

    mask: np.ndarray       # (K, C, R, S) or (K, C), bool
    by_output: Order       # rows are output channels k, `channel` is c: forward and weight gradient
    by_input: Order        # rows are input channels c, `channel` is k: input gradient


def sparse_entries(mask):
    """The entries of a mask (K, C, R, S), or (K, C)."""
    K, C = mask.shape[:2]
    position = np.arange(mask.size).reshape(K, C, -1)

    def order(rows, kept, places):                                        # both (row, tap, channel)
        row, tap, channel = np.nonzero(kept)
        start = np.searchsorted(row, np.arange(rows + 1))
        return Order(*(a.astype(np.int32) for a in (start, channel, tap, places[row, tap, channel])))

    kept = np.asarray(mask, bool).reshape(position.shape)
    return Entries(np.asarray(mask, bool),
                   order(K, kept.transpose(0, 2, 1), position.transpose(0, 2, 1)),
                   order(C, kept.transpose(1, 2, 0), position.transpose(1, 2, 0)))


def sparse_pays(x_shape, weight_shape, kept, stride, padding):
    """Whether a training step through this layer is faster by the sparse kernels, with `kept` of its weights left."""
    return False


def sparse_conv2d(x, weight, bias, entries, stride, padding):
    """The convolution with the kept weights."""
    return convolution.conv2d(x, masked(weight, entries), bias, stride, padding)


def sparse_conv2d_input_gradient(dy, weight, entries, x_shape, stride, padding):
    """Its gradient for x."""
    return convolution.conv2d_input_gradient(dy, masked(weight, entries), x_shape, stride, padding)


def sparse_conv2d_weight_gradient(dy, x, entries, stride, padding):
    """Its gradient for the kept weights; 0 for the others.    -> (K, C, R, S)"""
    return masked(convolution.conv2d_weight_gradient(dy, x, entries.mask.shape, stride, padding), entries)


def sparse_linear_pays(x_shape, weight_shape, kept):
    """Whether a training step through this linear layer is faster by the sparse kernels, `kept` of its weights left."""
    return False


def sparse_linear(x, weight, bias, entries):
    """y[n, k] = bias[k] + the sum over the kept weights (k, c) of weight[k, c] * x[n, c]    -> (N, K)"""
    y = arithmetic.matmul(x, masked(weight, entries).T)
    return y if bias is None else y + bias


def sparse_linear_input_gradient(dy, weight, entries):
    """Its gradient for x.    -> (N, C)"""
    return arithmetic.matmul(dy, masked(weight, entries))


def sparse_linear_weight_gradient(dy, x, entries):
    """Its gradient for the kept weights; 0 for the others.    -> (K, C)"""
    return masked(arithmetic.matmul(dy.T, x), entries)


def masked(weight, entries):
    """The mask selects, it does not multiply: 0 * NaN would be NaN."""
    return np.where(entries.mask, weight, weight.dtype.type(0))
