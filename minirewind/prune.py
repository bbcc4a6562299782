"""Pruning: which weights to keep.

A method is a function `(weights, mask, keep) -> mask` over the prunable weights of a network, laid end to end: of the
entries that `mask` still keeps, which `keep` stay? Anything more it needs is bound by keyword.
"""

import math
from collections.abc import Callable

import numpy as np

from . import nn, tensor
from .errors import Error
from .kernels import hashing

Method = Callable[..., np.ndarray]


def magnitude(weights, mask):
    """The score of every weight: its absolute value, below all others where it is pruned already."""
    return np.where(mask, abs(weights), -1)


def largest(scores, keep: int):
    """A mask of the `keep` largest scores; of equal ones the lower index."""
    mask = np.zeros(scores.shape, bool)
    mask[np.argsort(-scores, kind="stable")[:keep]] = True
    return mask


def global_magnitude(weights, mask, keep: int):
    """Keep the largest weights of the whole network, whatever layer they are in: the paper's pruning."""
    return largest(magnitude(weights, mask), keep)


def layerwise_magnitude(weights, mask, keep: int, *, layers):
    """Keep the largest weights of each layer, the same share everywhere. `layers`: prunable_layers(model)."""
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new[part] = largest(magnitude(weights[part], mask[part]), share)
    return new


def random_mask(weights, mask, keep: int, *, key: int):
    """Keep some of those kept so far by lot: the ones whose hash of (key, index) is largest."""
    lots = (hashing.hash_words(key, np.arange(len(mask))) >> np.uint64(12)).astype(np.float64)
    return largest(np.where(mask, lots, -1), keep)


def layerwise_random(weights, mask, keep: int, *, layers, key: int):
    """The mask of global_magnitude, shuffled within each layer: as many weights as it would keep there, but by lot.

    So what counts is how many of each layer are left, not which (Su et al., 2020). Drawn from those kept so far.
    """
    chosen, new = global_magnitude(weights, mask, keep), np.zeros(mask.shape, bool)
    for i, layer in enumerate(layers):
        part = slice(layer.start, layer.stop)
        lots = int(hashing.hash_words(key, i))
        new[part] = random_mask(weights[part], mask[part], int(chosen[part].sum()), key=lots)
    return new


def l1_filters(weights, mask, keep: int, *, layers):
    """Keep the filters whose weights are largest in the mean, of all convolutions; what is no filter goes last.

    At most one filter is cut, so that the count is exact.
    """
    scores = np.full(mask.shape, np.inf)
    for layer, filters in filters_of(weights * mask, layers):
        scores[layer.start : layer.stop] = np.repeat(abs(filters).mean(axis=1), filters.shape[1])
    return largest(np.where(mask, scores, -1), keep)


def filters_of(values, layers):
    """The convolutions among the layers, each with its values as one row a filter: (K, C * R * S)."""
    for layer in layers:
        if len(layer.shape) == 4:
            yield layer, values[layer.start : layer.stop].reshape(layer.shape[0], -1)


def shares(keep: int, layers, mask) -> list[int]:
    """`keep` divided among layers in proportion to size, by largest remainder; none above what its mask keeps."""
    sizes = np.array([layer.stop - layer.start for layer in layers])
    alive = np.array([int(mask[layer.start : layer.stop].sum()) for layer in layers])
    total = sizes.sum()
    share = np.minimum(keep * sizes // total, alive)
    while share.sum() < keep:                                   # one more where most is missing, of equals the first
        missing = np.where(share < alive, keep * sizes - share * total, np.iinfo(np.int64).min)
        share[missing.argmax()] += 1
    return [int(n) for n in share]


# ------------------------------------------------------------------------------------------------------------ counting


def check_density(density: float) -> None:
    """An Error for what is no kept share."""
    if not isinstance(density, (int, float, np.floating)) or not 0 < density <= 1:
        raise Error(f"density {density} is not in (0, 1]: the kept share of the prunable weights, 0.1 for a tenth")


def keep_count(prunable: int, density: float) -> int:
    """How many of `prunable` weights a density keeps: the nearest whole number, at least one."""
    check_density(density)
    return max(1, math.floor(density * prunable + 0.5))


def rounds_to(density: float) -> int:
    """How many rounds of pruning 20 % of what remains lead to this density or below."""
    check_density(density)
    return math.ceil(math.log(density) / math.log(0.8) - 1e-9)


def density(mask, prunable) -> float:
    """The kept share of the prunable weights; 1 where nothing is prunable."""
    return int(mask[prunable].sum()) / int(prunable.sum()) if prunable.any() else 1.0


def compression(mask, prunable) -> float:
    """How many times fewer prunable weights are left: 1 / density."""
    return 1 / density(mask, prunable)


def prunable_layers(model: nn.Module) -> tuple[nn.Layer, ...]:
    """Where each prunable parameter lies when the prunable weights alone are laid end to end."""
    layers, start = [], 0
    for name, parameter in model.named_parameters():
        if parameter.prunable:
            layers.append(nn.Layer(name, parameter.shape, start, start + parameter.size))
            start += parameter.size
    return tuple(layers)


def layer_densities(model: nn.Module) -> dict[str, float]:
    """The kept share of each prunable parameter, by name."""
    nn.pack(model)
    return {name: int(p.mask.sum()) / p.size for name, p in model.named_parameters() if p.prunable}


def layer_multiply_adds(model: nn.Module, input_shape) -> dict[str, int]:
    """The multiply-adds of each prunable parameter, dense, for one image (C, H, W), by name.

    Each weight counts once for every place of the output it is used at: P x Q of a convolution, 1 of a dense layer.
    """
    names = {id(p): name for name, p in model.named_parameters() if p.prunable}
    counts = dict.fromkeys(names.values(), 0)
    first = next(model.parameters())
    with model.evaluating(), tensor.no_grad(), tensor.recording() as calls:
        model(tensor.Tensor(np.zeros((1, *input_shape)), dtype=first.dtype, device=first.device))
    for call in calls:
        for x in call.inputs:
            if id(x) in names:
                counts[names[id(x)]] += x.size * call.output.size // x.shape[0]      # the output is (1, K, ...)
    return counts


def new_mask(model: nn.Module, state, density: float, method: Method | None = None):
    """The mask that leaves `density` of the model's prunable weights, chosen from the weights of `state` by `method`,
    global_magnitude if none is given.

    Counted against the dense network, and exact: keep_count(prunable, density) weights are left. Entries that are not
    prunable stay as they are.
    """
    prunable = nn.pack(model).prunable
    if state.weights.shape != prunable.shape:
        raise Error(f"this state is of another network: it has {state.weights.size:,} weights, "
                    f"the model {prunable.size:,}")
    if not prunable.any():
        raise Error("nothing to prune: no parameter of this model is prunable; set parameter.prunable = True")
    weights, old = state.weights[prunable], state.mask[prunable]
    keep, kept = keep_count(len(old), density), int(old.sum())
    if not np.isfinite(weights).all():
        raise Error("the weights to prune hold NaN or infinity; nothing can be ranked by size")
    if keep > kept:
        raise Error(f"density {density:g} would keep {keep:,} weights, but only {kept:,} are left: masks only shrink")
    method = global_magnitude if method is None else method
    chosen = method(weights, old.copy(), keep)
    name = getattr(method, "__name__", "the method")
    if not isinstance(chosen, type(old)):
        raise Error(f"{name} returned a {type(chosen).__name__}, expected a bool mask, an array of shape {old.shape}")
    if chosen.dtype != bool or chosen.shape != old.shape:
        raise Error(f"{name} returned {chosen.dtype} of shape {chosen.shape}, expected a bool mask, {old.shape}")
    if chosen.sum() != keep or (chosen & ~old).any():
        revived = int((chosen & ~old).sum())
        raise Error(f"{name} kept {int(chosen.sum()):,} weights, {revived:,} of them pruned before; expected {keep:,} "
                    f"of those still there")
    mask = state.mask.copy()
    mask[prunable] = chosen
    return mask
