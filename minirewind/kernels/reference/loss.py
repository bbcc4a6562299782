"""Softmax cross-entropy over classes: logits (N, K), target (N,) with the index of the right class."""

import numpy as np


def cross_entropy(logits, target):
    """The mean of -log softmax(logits)[target], and the softmax (N, K) itself, which the gradient needs."""
    shifted = logits - logits.max(axis=1, keepdims=True)      # exp of the largest is 1: no overflow
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)           # (N, 1)
    chosen = np.take_along_axis(shifted, target[:, None], axis=1)
    loss = (np.log(total) - chosen).mean()
    return loss, exponentials / total


def cross_entropy_gradient(dz, probabilities, target):
    """(softmax - one-hot) / N, times the gradient dz of the mean."""
    gradient = probabilities.copy()
    gradient[np.arange(len(target)), target] -= 1
    return gradient * (dz / len(target))
