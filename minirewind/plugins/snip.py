"""SNIP: keep the connections on which the loss depends most, seen from one batch (Lee, Ajanthan & Torr, 2019).

Meant for a network before training:

    state = train.State.copy(model.initialise(0))
    method = functools.partial(snip.snip, model=model, data=data, key=0)
    start = state.masked(prune.new_mask(model, state, 0.1, method), step=0)
    for record in train.train(model, data, recipe, seed=0, start=start): ...
"""

import copy

import numpy as np

from .. import data as datasets
from .. import functional, nn, prune, train
from ..tensor import Tensor


def snip(weights, mask, keep: int, *, model, data, key: int, images: int = 128):
    """Keep the weights with the largest |weight * gradient|: how much the loss changes, to first order, without them.

    The gradient is that of one training batch, drawn by `key`. What is not prunable has the values it has in `model`,
    which is left as it is.
    """
    scores = abs(weights * gradient(weights, mask, model, data, key, images))
    return prune.largest(np.where(mask, scores, -1), keep)


def gradient(weights, mask, model: nn.Module, data: datasets.Data, key: int, images: int):
    """The gradient of the prunable weights, on one batch, where they have these values under this mask."""
    twin = copy.deepcopy(model).train()
    v = nn.pack(twin)
    prunable, everything, kept = v.prunable, v.backend.to_host(v.weights).copy(), np.ones(v.mask.shape, bool)
    everything[prunable], kept[prunable] = weights, mask
    v.weights[...] = v.backend.asarray(everything)
    v.set_mask(kept)
    v.gradients.fill(0)
    clock = v.backend.clock(train.Clock(key, 0, 0, images))
    twin.clock = clock
    datasets.wind(clock, data, 0, 0.0)
    x, y = datasets.batch(data, images, clock, v.backend)
    device = next(twin.parameters()).device
    loss = functional.cross_entropy(twin(Tensor(x, dtype=v.weights.dtype, device=device)), Tensor(y, device=device))
    loss.backward()
    return v.backend.to_host(v.gradients)[prunable]
