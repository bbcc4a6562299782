"""Batch normalisation with the residual and the ReLU behind it, and relu by itself, in as few passes as there can be.

These kernels do next to no arithmetic; they take as long as reading and writing the images takes. So the batch norm,
the addition and the ReLU are one pass, not three, and the compiler's own vectors do for the loops over the images.
"""

import numpy as np
from numba import prange

from .. import reference
from .compiling import Kernel
from .layout import allocate, like, planes, takes

BLOCKS = 32     # partial sums of a map: enough for as many threads, and always as many, whoever adds them


def taken(*arrays):
    """Whether these kernels take the arrays: float32 images (N, C, H, W) or rows (N, C)."""
    return takes(*arrays) and arrays[0].ndim in (2, 4)


# What the backend offers ----------------------------------------------------------------------------------------------


def moments(x, eps, running_mean, running_var, momentum, sums=None):
    """As the reference's."""
    if not taken(x, running_mean, running_var):
        return reference.normalisation.moments(x, eps, running_mean, running_var, momentum)
    memory = planes(x)
    P, C, _ = memory.shape
    blocks = np.zeros((min(BLOCKS, P), 2, C))
    mean, inverse_std = np.empty((2, C), np.float32)
    if running_mean is None:
        running_mean = running_var = mean[:0]
    sum_moments(x.size * 0.3, memory, blocks)
    finish_moments(memory, blocks, float(eps), float(momentum), running_mean, running_var, mean, inverse_std)
    return mean, inverse_std


def normalise(x, residual, mean, inverse_std, weight, bias, relu):
    """As the reference's."""
    if not taken(x, residual, mean, inverse_std, weight, bias):
        return reference.normalisation.normalise(x, residual, mean, inverse_std, weight, bias, relu)
    memory = planes(x)
    y = allocate(memory.shape)
    if residual is None:
        scale_shift(x.size * 0.3, memory, mean, inverse_std, weight, bias, relu, y)
    else:
        scale_shift_add(x.size * 0.4, memory, planes(residual), mean, inverse_std, weight, bias, relu, y)
    return like(y, x)


def normalise_gradient(dy, y, x, mean, inverse_std, weight, relu, batch_statistics):
    """As the reference's."""
    if not taken(dy, y, x, mean, inverse_std, weight):
        return reference.normalisation.normalise_gradient(
            dy, y, x, mean, inverse_std, weight, relu, batch_statistics)
    memory, dresidual = planes(x), planes(dy)
    P, C, N = memory.shape
    sums = np.zeros((min(BLOCKS, P), 2, C))
    dweight, dbias = np.empty((2, C), np.float32)
    dx = allocate(memory.shape)
    if relu:
        dresidual = allocate(memory.shape)
        sum_masked_gradients(x.size * 0.5, planes(dy), planes(y), memory, mean, dresidual, sums)
    else:
        sum_gradients(x.size * 0.4, dresidual, memory, mean, sums)
    add_gradients(sums, inverse_std, dweight, dbias)
    count = P * N if batch_statistics else np.inf                         # fixed statistics: as of an endless batch
    gradient_of_input(x.size * 0.4, dresidual, memory, mean, inverse_std, weight, dweight, dbias, float(count), dx)
    return like(dx, x), like(dresidual, x), dweight, dbias


def turned(x):
    """Whether x is (N, C) with the batch innermost, as sparse linear layers leave it, and so wants to stay."""
    return x.ndim == 2 and x.flags.f_contiguous and not x.flags.c_contiguous


def relu(x):
    """As the reference's."""
    if not taken(x):
        return reference.normalisation.relu(x)
    if turned(x):
        return relu(x.T).T
    memory = planes(x)
    y = allocate(memory.shape)
    positive_part(x.size * 0.25, memory.reshape(-1), y.reshape(-1))
    return like(y, x)


def relu_gradient(dy, y):
    """As the reference's."""
    if not taken(dy, y):
        return reference.normalisation.relu_gradient(dy, y)
    if turned(y):
        return relu_gradient(dy.T, y.T).T
    memory = planes(dy)
    dx = allocate(memory.shape)
    where_positive(dy.size * 0.3, memory.reshape(-1), planes(y).reshape(-1), dx.reshape(-1))
    return like(dx, dy)


# Moments --------------------------------------------------------------------------------------------------------------


@Kernel
def sum_moments(x, sums):
    """sums[block] = (sum of x - pivot, sum of its square) per channel over the block's pixels and all images.

    The first image's first pixel is the pivot: E[x^2] - E[x]^2 of the bare numbers loses all digits where the mean is
    large beside the deviation.
    """
    P, C, N = x.shape
    blocks = sums.shape[0]
    for block in prange(blocks):
        for p in range(block * P // blocks, (block + 1) * P // blocks):
            for c in range(C):
                pivot, total, squares = x[0, c, 0], np.float32(0), np.float32(0)
                for n in range(N):
                    value = x[p, c, n] - pivot
                    total += value
                    squares += value * value
                sums[block, 0, c] += total
                sums[block, 1, c] += squares


def finish_moments(x, sums, eps, momentum, running_mean, running_var, mean, inverse_std):
    """From the blocks' sums to the statistics of each channel; see `sum_moments`."""
    P, C, N = x.shape
    count = P * N
    for c in range(C):
        total = squares = 0.0
        for block in range(sums.shape[0]):
            total += sums[block, 0, c]
            squares += sums[block, 1, c]
        offset = total / count
        variance = max(squares / count - offset * offset, 0.0)
        mean[c] = x[0, c, 0] + offset
        inverse_std[c] = 1 / np.sqrt(variance + eps)
        if running_mean.size > 0:
            running_mean[c] += momentum * (mean[c] - running_mean[c])
            running_var[c] += momentum * (variance * count / (count - 1) - running_var[c])


finish_moments = Kernel(finish_moments).serial


# Normalise ------------------------------------------------------------------------------------------------------------


@Kernel
def scale_shift(x, mean, inverse_std, weight, bias, relu, y):
    """y = x * scale + shift, and its positive part where `relu`."""
    P, C, N = x.shape
    for p in prange(P):
        for c in range(C):
            scale = inverse_std[c] * weight[c]
            shift = bias[c] - mean[c] * scale
            for n in range(N):
                value = x[p, c, n] * scale + shift
                y[p, c, n] = np.float32(0) if relu and value < 0 else value


@Kernel
def scale_shift_add(x, residual, mean, inverse_std, weight, bias, relu, y):
    """y = x * scale + shift + residual, and its positive part where `relu`."""
    P, C, N = x.shape
    for p in prange(P):
        for c in range(C):
            scale = inverse_std[c] * weight[c]
            shift = bias[c] - mean[c] * scale
            for n in range(N):
                value = x[p, c, n] * scale + shift + residual[p, c, n]
                y[p, c, n] = np.float32(0) if relu and value < 0 else value


# Gradient -------------------------------------------------------------------------------------------------------------


@Kernel
def sum_masked_gradients(dy, y, x, mean, masked, sums):
    """masked = dy where y > 0; sums[block] = (sum of masked, sum of masked * (x - mean)) per channel."""
    P, C, N = x.shape
    blocks = sums.shape[0]
    for block in prange(blocks):
        for p in range(block * P // blocks, (block + 1) * P // blocks):
            for c in range(C):
                total, product = np.float32(0), np.float32(0)
                for n in range(N):
                    value = dy[p, c, n]
                    value = value if y[p, c, n] > 0 else np.float32(0)
                    masked[p, c, n] = value
                    total += value
                    product += value * (x[p, c, n] - mean[c])
                sums[block, 0, c] += total
                sums[block, 1, c] += product


@Kernel
def sum_gradients(dy, x, mean, sums):
    """sums[block] = (sum of dy, sum of dy * (x - mean)) per channel."""
    P, C, N = x.shape
    blocks = sums.shape[0]
    for block in prange(blocks):
        for p in range(block * P // blocks, (block + 1) * P // blocks):
            for c in range(C):
                total, product = np.float32(0), np.float32(0)
                for n in range(N):
                    total += dy[p, c, n]
                    product += dy[p, c, n] * (x[p, c, n] - mean[c])
                sums[block, 0, c] += total
                sums[block, 1, c] += product


def add_gradients(sums, inverse_std, dweight, dbias):
    """The blocks' sums, added in their order."""
    for c in range(dweight.size):
        total = product = 0.0
        for block in range(sums.shape[0]):
            total += sums[block, 0, c]
            product += sums[block, 1, c]
        dbias[c] = total
        dweight[c] = product * inverse_std[c]


add_gradients = Kernel(add_gradients).serial


@Kernel
def gradient_of_input(dy, x, mean, inverse_std, weight, dweight, dbias, count, dx):
    """dx = (dy - (dbias + normal * dweight) / count) * inverse_std * weight; normal is (x - mean) * inverse_std"""
    P, C, N = x.shape
    for p in prange(P):
        for c in range(C):
            scale = inverse_std[c] * weight[c]
            slope = np.float32(-scale * inverse_std[c] * dweight[c] / count)
            shift = np.float32(-scale * dbias[c] / count) - slope * mean[c]
            for n in range(N):
                dx[p, c, n] = dy[p, c, n] * scale + x[p, c, n] * slope + shift


# ReLU -----------------------------------------------------------------------------------------------------------------

BLOCK = 4096


@Kernel
def positive_part(x, y):
    """y = x where x is not below 0, else 0: a NaN is not below 0 and stays."""
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        source, result = x[block * BLOCK : (block + 1) * BLOCK], y[block * BLOCK : (block + 1) * BLOCK]
        for i in range(source.size):
            result[i] = np.float32(0) if source[i] < 0 else source[i]


@Kernel
def where_positive(dy, y, dx):
    """dx = dy where y > 0, else 0."""
    for block in prange((y.size + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, (block + 1) * BLOCK
        gradient, output, result = dy[start:stop], y[start:stop], dx[start:stop]
        for i in range(result.size):
            value = gradient[i]          # loaded anyway: a load behind an `if` would keep the loop from being vectors
            result[i] = value if output[i] > 0 else np.float32(0)
