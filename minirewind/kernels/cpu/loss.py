"""Softmax cross-entropy: small arrays, so one pass and one thread."""

import math

import numpy as np

from ... import errors
from .. import reference
from .compiling import Kernel
from .layout import takes


def cross_entropy(logits, target):
    """As the reference's."""
    if not takes(logits):
        return reference.loss.cross_entropy(logits, target)
    probabilities = np.empty(logits.shape, np.float32)
    loss = softmax_loss(np.ascontiguousarray(logits), np.ascontiguousarray(target, np.int64), probabilities)
    if loss < 0:
        raise errors.Error(f"cross_entropy: the classes are 0 to {logits.shape[1] - 1}, "
                           f"but target goes from {target.min()} to {target.max()}")
    return np.float32(loss), probabilities


def cross_entropy_gradient(dz, probabilities, target):
    """As the reference's."""
    if not takes(probabilities):
        return reference.loss.cross_entropy_gradient(dz, probabilities, target)
    gradient = np.empty(probabilities.shape, np.float32)
    target = np.ascontiguousarray(target, np.int64)
    softmax_minus_one_hot(float(dz), np.ascontiguousarray(probabilities), target, gradient)
    return gradient


def softmax_loss(logits, target, probabilities):
    """The mean of -log softmax(logits)[target]; -1 where a target is not a class."""
    N, K = logits.shape
    loss = 0.0
    for n in range(N):
        if target[n] < 0 or target[n] >= K:
            return -1.0
        largest = logits[n, 0]
        for k in range(1, K):
            largest = logits[n, k] if logits[n, k] > largest else largest
        total = np.float32(0)
        for k in range(K):
            probabilities[n, k] = math.exp(logits[n, k] - largest)        # exp of the largest is 1: no overflow
            total += probabilities[n, k]
        for k in range(K):
            probabilities[n, k] /= total
        loss += math.log(total) - (logits[n, target[n]] - largest)
    return loss / N


softmax_loss = Kernel(softmax_loss).serial


def softmax_minus_one_hot(dz, probabilities, target, gradient):
    """(softmax - one-hot) * dz / N"""
    N, K = probabilities.shape
    scale = np.float32(dz / N)
    for n in range(N):
        for k in range(K):
            gradient[n, k] = (probabilities[n, k] - np.float32(k == target[n])) * scale


softmax_minus_one_hot = Kernel(softmax_minus_one_hot).serial
