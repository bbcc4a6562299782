"""Batch normalisation, with a residual added and a ReLU behind it where a network has them there.

    y = relu((x - mean) * inverse_std * weight + bias + residual)

x, y, residual (N, C, ...); mean, inverse_std, weight, bias (C,): one number per channel.
"""

import numpy as np


def per_channel(values, ndim):
    """(C,) -> (1, C, 1, 1), so that it broadcasts against images."""
    return values.reshape(1, -1, *[1] * (ndim - 2))


def moments(x, eps, running_mean, running_var, momentum, sums=None):
    """Each channel's mean and 1 / sqrt(variance + eps) over all the other axes: two arrays (C,).

    The running statistics, where given, move towards this batch's by `momentum`, in place; as in PyTorch the running
    variance is the unbiased one. `sums` is what conv2d_and_sums told of x beside it: a GPU then need not read x again.
    """
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1]
    mean, variance = x.mean(axis=axes), x.var(axis=axes)                  # (C,), (C,)
    if running_mean is not None:
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (variance * (count / (count - 1)) - running_var)
    return mean, 1 / np.sqrt(variance + x.dtype.type(eps))


def normalise(x, residual, mean, inverse_std, weight, bias, relu):
    """The formula above; `residual` may be None; without `relu` the last step is left out."""
    scale = inverse_std * weight
    y = x * per_channel(scale, x.ndim) + per_channel(bias - mean * scale, x.ndim)
    if residual is not None:
        y = y + residual
    return np.maximum(y, 0) if relu else y


def normalise_gradient(dy, y, x, mean, inverse_std, weight, relu, batch_statistics):
    """The gradients of x, residual, weight and bias: (dx, dresidual, dweight, dbias).

    With `batch_statistics`, mean and inverse_std are themselves functions of x: what dy has in common with a constant
    and with x cannot change the normalised output, and is taken out of dx.
    """
    axes = (0, *range(2, x.ndim))
    if relu:
        dy = relu_gradient(dy, y)
    normal = (x - per_channel(mean, x.ndim)) * per_channel(inverse_std, x.ndim)
    dbias = dy.sum(axis=axes)                                             # (C,)
    dweight = (dy * normal).sum(axis=axes)                                # (C,)
    dx = dy
    if batch_statistics:
        count = x.size // x.shape[1]
        dx = dy - per_channel(dbias / count, x.ndim) - normal * per_channel(dweight / count, x.ndim)
    return dx * per_channel(inverse_std * weight, x.ndim), dy, dweight, dbias


def relu(x):
    """max(x, 0); a NaN stays a NaN."""
    return np.maximum(x, 0)


def relu_gradient(dy, y):
    """dy where the output y was positive, 0 elsewhere."""
    return np.where(y > 0, dy, dy.dtype.type(0))
