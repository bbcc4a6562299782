"""Pruning whole filters at hand-picked rates, as the paper does for its structured results.

Li et al. (2017) chose for each network which convolutions lose filters, and what share of them: variants A and B. To
prune further than they did, the paper repeats the rate d: after i steps the share 1 - (1 - d)**i of the filters is gone
(i = 1 to 5). The filters with the smallest sum of magnitudes go. A pruned filter leaves its batch norm alone, so its
channel still emits a constant.

    layers = prune.prunable_layers(model)
    method = functools.partial(filters.variant_b, layers=layers)
    mask = prune.new_mask(model, state, filters.density_after(2, "B", layers), method)

Shares are rounded to whole filters, a half down (one of 16 stays after five steps at 0.5); the paper's code rounds by
lot, so that its densities differ by up to 0.0056 (tests/test_filters.py).
"""

import itertools
import math

import numpy as np

from . import prune
from .errors import Error

# Of a ResNet with so many blocks: the rate of each stage, and the convolutions left whole, counted from the stem, 1.
# Only the first convolution of a block is pruned: 2, 4, 6, ...
RESNETS = {
    "A": {27: ((0.1, 0.1, 0.1), (16, 20, 38, 54)), 54: ((0.5, 0, 0), (36,))},
    "B": {27: ((0.6, 0.3, 0.1), (16, 18, 20, 34, 38, 54)), 54: ((0.5, 0.4, 0.3), (36, 38, 74))},
}
VGG16 = {"A": (0.5, (1, 8, 9, 10, 11, 12, 13))}     # the rate, and the convolutions it is meant for


def variant_a(weights, mask, keep: int, *, layers):
    """Variant A: few filters of ResNet-56, half of the first stage's of ResNet-110, half of seven layers' of VGG-16."""
    return by_rates(weights, mask, keep, layers=layers, rates=rates("A", layers))


def variant_b(weights, mask, keep: int, *, layers):
    """Variant B: more filters, and more in the early stages; ResNet-56 and ResNet-110."""
    return by_rates(weights, mask, keep, layers=layers, rates=rates("B", layers))


def by_rates(weights, mask, keep: int, *, layers, rates: dict[str, float]):
    """Take filters away in the order in which they go when the layers' rates are applied again and again.

    `rates` names the layers and the share of their filters that goes at each step. Between two steps, and within a
    filter, it stops where `keep` weights are left; at density_after(i, ...) that is after step i exactly.
    """
    scores = np.full(mask.shape, np.inf)
    for layer, filters in prune.filters_of(weights * mask, layers):
        if rate := rates.get(layer.name, 0):
            order = np.argsort(abs(filters).sum(axis=1), kind="stable")                 # (K,), the smallest first
            when = np.empty(len(filters))
            when[order] = [step_of(rank, len(filters), rate) for rank in range(len(filters))]
            scores[layer.start : layer.stop] = np.repeat(when, filters.shape[1])
    new = prune.largest(np.where(mask, scores, -1), keep)
    if (mask & ~new)[np.isinf(scores)].any():
        least = int((mask & np.isinf(scores)).sum())
        raise Error(f"these rates touch some layers only and leave at least {least:,} of {len(mask):,} weights, "
                    f"density {least / len(mask):.3f}; asked for {keep:,}")
    return new


def step_of(rank: int, K: int, rate: float) -> float:
    """The number of steps, a fraction, after which filter `rank` of K, counted from the smallest, is gone."""
    return math.log(1 - (rank + 0.5) / K) / math.log(1 - rate)


def gone(steps: int, K: int, rate: float) -> int:
    """How many of K filters are gone after so many steps."""
    return math.ceil((1 - (1 - rate) ** steps) * K - 0.5 - 1e-9)


def rates(variant: str, layers) -> dict[str, float]:
    """The layers that a variant prunes, and the rate of each."""
    found = {}
    first = [layer.name for layer in layers if layer.name.endswith(".conv1.weight")]
    convolutions = [layer.name for layer in layers if len(layer.shape) == 4]
    if len(first) in RESNETS[variant]:
        of_stages, skip = RESNETS[variant][len(first)]
        for block, name in enumerate(first):
            found[name] = 0 if 2 * block + 2 in skip else of_stages[block * 3 // len(first)]
    elif variant in VGG16 and not first and len(convolutions) == 13:
        rate, chosen = VGG16[variant]
        found = {name: rate for number, name in enumerate(convolutions, 1) if number in chosen}
    if not found:
        raise Error(f"variant {variant} of Li et al. is known for ResNet-56, ResNet-110"
                    f"{' and VGG-16' if variant in VGG16 else ''} only;\n"
                    f"prune.l1_filters takes any network, filters.by_rates any rates")
    return {name: rate for name, rate in found.items() if rate}


def density_after(steps: int, variant: str, layers) -> float:
    """The density that `steps` steps of a variant leave: the share of the prunable weights in filters still there."""
    table, total = rates(variant, layers), sum(layer.stop - layer.start for layer in layers)
    pruned = sum(gone(steps, layer.shape[0], table[layer.name]) * math.prod(layer.shape[1:]) for layer in layers
                 if layer.name in table)
    return 1 - pruned / total


def density_with_inputs(mask, layers) -> float:
    """The density as the paper reports it: an input channel whose filter is gone counts as gone too.

    `mask` is that of the prunable weights alone. What follows a filter is known for the first convolution of a ResNet's
    block and for a chain as VGG-16's; of other layers only the mask is counted.
    """
    kept, following = mask.copy(), followers(layers)
    places = {layer.name: layer for layer in layers}
    for layer, filters in prune.filters_of(mask, layers):
        if layer.name in following:
            after = places[following[layer.name]]
            channels = kept[after.start : after.stop].reshape(after.shape[0], layer.shape[0], -1)       # a view
            channels[:, ~filters.any(axis=1)] = False
    return int(kept.sum()) / len(kept)


def followers(layers) -> dict[str, str]:
    """The one layer that reads a convolution's output, for those that have one, by name."""
    names = [layer.name for layer in layers]
    if any(name.endswith(".conv1.weight") for name in names):
        pairs = [(name, name.replace(".conv1.", ".conv2.")) for name in names if name.endswith(".conv1.weight")]
        return {name: after for name, after in pairs if after in names}
    return dict(itertools.pairwise(names)) if names[0].startswith("features.") else {}
