"""One step of stochastic gradient descent on flat vectors, in place."""

import numpy as np


def sgd(weights, gradients, momentum, mask, rate, factor, nesterov, decay):
    """PyTorch's SGD, restricted to the weights that `mask` keeps:

        g = gradient + decay * weight
        v = factor * v + g
        weight -= rate * (g + factor * v  if nesterov else  v)

    Where the mask is False, weight and momentum become exactly 0. The mask selects, it does not multiply: 0 * NaN would
    be NaN.
    """
    g = gradients + weights * weights.dtype.type(decay)
    momentum[...] = np.where(mask, momentum * momentum.dtype.type(factor) + g, 0)
    step = g + momentum * momentum.dtype.type(factor) if nesterov else momentum
    weights[...] = np.where(mask, weights - step * weights.dtype.type(rate), 0)
