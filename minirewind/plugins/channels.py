"""Really removed channels: the smaller dense network that is left when whole filters were pruned.

    small = channels.shrink(model, images)          # the same results, to rounding, from fewer multiplications

A filter without weights still emits a number: its batch norm's shift, after the ReLU. Where it is not 0, the layer
behind it adds the same map to every image, and the small network keeps that map; it is not flat, for at the border a
convolution sees zeros.
"""

import copy
from typing import Any, NamedTuple

import numpy as np

from .. import models, nn, tensor
from ..errors import Error
from ..tensor import Tensor


class Chain(NamedTuple):
    """A convolution, its batch norm if it has one, and the only layer that reads its output, by name.

    Between the norm and that layer stand a ReLU and, perhaps, pooling: nothing else.
    """

    conv: str
    norm: str | None
    after: str


class Shifted(nn.Module):
    """A layer, and what the removed channels add to its output."""

    def __init__(self, layer: nn.Module, shift):
        self.layer, self.shift = layer, nn.Parameter(shift)

    def forward(self, x):
        return self.layer(x) + self.shift


class Probe(nn.Module):
    """A layer that remembers the shape of what it was given."""

    def __init__(self, layer: nn.Module):
        self.layer = layer

    def forward(self, x):
        self.shape = x.shape
        return self.layer(x)


def shrink(model: nn.Module, example, chains: list[Chain] | None = None) -> nn.Module:
    """A network without the pruned filters, in evaluation mode, with the results of `model` to rounding.

    `example` is a batch of images (N, C, H, W); `chains` are needed for networks other than ResNet and VGG16. Weights
    pruned inside the filters that stay are 0, but nothing masks them any more.
    """
    device = next(model.parameters()).device
    packed, model.vectors = model.vectors, None             # a copy that is not packed: its shapes will change
    try:
        small = copy.deepcopy(model).to("cpu").eval()
    finally:
        model.vectors = packed
    small.origin = None
    chains = known_chains(small) if chains is None else chains
    shapes = probed(small, example, chains)
    shifts: dict[str, Any] = {}
    for chain in chains:
        remove(small, chain, shapes[chain.after], shifts)
    for name, shift in shifts.items():
        replace(small, name, Shifted(dict(small.named_modules())[name], shift))
    return small.to(device)


def remove(model: nn.Module, chain: Chain, shape: tuple[int, ...], shifts: dict[str, Any]) -> None:
    """Take the empty filters of one convolution out; the layer behind it reads maps of this shape (N, C, H, W), and
    what they added to its output is noted in `shifts`.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    conv, after, norm = modules[chain.conv], modules[chain.after], modules[chain.norm] if chain.norm else None
    kept = (conv.weight.data != 0).any(axis=(1, 2, 3))                         # (K,)
    kept[0] |= not kept.any()                                                  # a layer has one channel at least
    if kept.all():
        return
    emitted = np.zeros(len(kept), conv.weight.dtype) if conv.bias is None else conv.bias.data
    if norm is not None:
        scale = norm.weight.data / np.sqrt(norm.running_var.data + norm.eps)
        emitted = (emitted - norm.running_mean.data) * scale + norm.bias.data
    emitted = np.where(kept, 0, np.maximum(emitted, 0)).astype(conv.weight.dtype)
    if emitted.any():
        with tensor.no_grad():
            maps = np.broadcast_to(emitted.reshape(1, -1, *[1] * (len(shape) - 2)), (1, *shape[1:]))
            silent = copy.copy(after)
            silent.bias = None
            shifts[chain.after] = silent(Tensor(np.ascontiguousarray(maps))).numpy()        # (1, K, P, Q), or (1, K)
    if chain.conv in shifts:
        shifts[chain.conv] = shifts[chain.conv][:, kept]                       # of an empty filter it is 0
    for layer in (conv, norm) if norm is not None else (conv,):
        take(layer, kept)
    after.weight = part(after.weight, np.s_[:, kept])


def take(layer: nn.Module, kept) -> None:
    """Leave the kept channels of a layer's parameters and statistics."""
    for name, value in vars(layer).items():
        if isinstance(value, (nn.Parameter, nn.Buffer)):
            setattr(layer, name, part(value, kept))


def part(value, where):
    """A part of a parameter or a buffer as one of its own."""
    data = value.data[where].copy()
    return nn.Parameter(data, value.prunable) if isinstance(value, nn.Parameter) else nn.Buffer(data)


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one of this name."""
    parent, _, attribute = name.rpartition(".")
    setattr(dict(model.named_modules())[parent], attribute, layer)


def probed(model: nn.Module, example, chains: list[Chain]) -> dict[str, tuple[int, ...]]:
    """The shape of what each chain's last layer reads."""
    layers = {chain.after: dict(model.named_modules())[chain.after] for chain in chains}
    probes = {name: Probe(layer) for name, layer in layers.items()}
    for name, probe in probes.items():
        replace(model, name, probe)
    with tensor.no_grad():
        model(Tensor(np.asarray(example, next(model.parameters()).dtype)[:1]))
    for name, layer in layers.items():
        replace(model, name, layer)
    return {name: probe.shape for name, probe in probes.items()}


def known_chains(model: nn.Module) -> list[Chain]:
    """The first convolution of every block of a ResNet; every convolution of a VGG16."""
    if isinstance(model, models.VGG16):
        named = [(name, module) for name, module in model.named_modules() if name.startswith("features.")]
        convs = [name for name, module in named if isinstance(module, nn.Conv2d)]
        norms = [name for name, module in named if isinstance(module, nn.BatchNorm2d)]
        return [Chain(*names) for names in zip(convs, norms, [*convs[1:], "classifier"])]
    blocks = [name for name, module in model.named_modules() if isinstance(module, models.Block)]
    if not blocks:
        raise Error(f"shrink knows the channels of ResNet and VGG16, not of {type(model).__name__};\n"
                    f"name them: chains=[channels.Chain('conv1', 'bn1', 'conv2'), ...]")
    return [Chain(f"{name}.conv1", f"{name}.bn1", f"{name}.conv2") for name in blocks]
