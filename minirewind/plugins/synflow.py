"""SynFlow: prune before training and without data, so that no layer is ever emptied (Tanaka et al., 2020).

A weight's score is how much of the network's flow passes through it: with all weights made positive, an image of ones
goes in, the outputs are added up, and weight * gradient is the part of that sum which passes through the weight. What
flows into a layer flows out of it, so a layer with few weights left has large scores and keeps them, if only the scores
are taken anew often enough.

    method = functools.partial(synflow.synflow, model=model, data=data)
    mask = prune.new_mask(model, train.State.copy(model), 0.01, method)
"""

import copy

import numpy as np

from .. import data as datasets
from .. import nn, prune
from ..tensor import Tensor


def synflow(weights, mask, keep: int, *, model, data, steps: int = 100):
    """Keep the weights that the most flow passes through, in `steps` steps that each leave the same share.

    Of `data` only the shape of an image is used. `model` is left as it is.
    """
    twin, alive = positive(model), int(mask.sum())
    for step in range(1, steps + 1):
        left = max(keep, round(alive * (keep / alive) ** (step / steps)))
        mask = prune.largest(np.where(mask, flow(twin, weights * mask, data), -1), left)
    return mask


def positive(model: nn.Module) -> nn.Module:
    """A twin in double precision (the flow through a deep network is a large number), its parameters made positive and
    its batch norms as before training.
    """
    twin = copy.deepcopy(model).to("reference", np.float64).eval()
    for parameter in twin.parameters():
        parameter.fill(abs(parameter.data))
    for _, buffer in twin.named_buffers():
        buffer.fill(buffer.first)
    nn.pack(twin).set_mask(np.ones(nn.pack(twin).mask.shape, bool))
    return twin


def flow(twin: nn.Module, weights, data: datasets.Data):
    """The flow through every prunable weight."""
    v = nn.pack(twin)
    prunable = v.prunable
    v.weights[prunable] = abs(weights)
    v.gradients.fill(0)
    twin(Tensor(np.ones((1, *data.input_shape)), device="reference")).sum().backward()
    return v.weights[prunable] * v.gradients[prunable]
