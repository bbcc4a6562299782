"""One step of SGD: every number is read once and written once."""

import numpy as np
from numba import prange

from .. import reference
from .compiling import Kernel
from .layout import takes

BLOCK = 16384


def sgd(weights, gradients, momentum, mask, rate, factor, nesterov, decay):
    """As the reference's."""
    vectors = (weights, gradients, momentum)
    if not takes(*vectors) or not all(v.ndim == 1 and v.flags.c_contiguous for v in (*vectors, mask)):
        return reference.update.sgd(weights, gradients, momentum, mask, rate, factor, nesterov, decay)
    masked_momentum_step(weights.size * 0.5, weights, gradients, momentum, mask,
                         float(rate), float(factor), bool(nesterov), float(decay))


@Kernel
def masked_momentum_step(weights, gradients, momentum, mask, rate, factor, nesterov, decay):
    """The reference's formula; where the mask is False both vectors become 0."""
    rate, factor, decay = np.float32(rate), np.float32(factor), np.float32(decay)
    lookahead, fresh = (factor, np.float32(1)) if nesterov else (np.float32(1), np.float32(0))
    for block in prange((weights.size + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, (block + 1) * BLOCK
        w, dw, v, kept = weights[start:stop], gradients[start:stop], momentum[start:stop], mask[start:stop]
        for i in range(w.size):
            g = dw[i] + decay * w[i]
            velocity = factor * v[i] + g
            moved = w[i] - rate * (fresh * g + lookahead * velocity)
            v[i] = velocity if kept[i] else np.float32(0)
            w[i] = moved if kept[i] else np.float32(0)
