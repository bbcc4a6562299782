"""The networks of the paper, and smaller ones of the same kind for laptops and lessons."""

import functools
import importlib
import inspect
import re
from typing import Any

from . import nn
from .errors import Error, choose
from .functional import global_avg_pool2d


class Block(nn.Module):
    """Two 3x3 convolutions and a way around them: relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))."""

    def __init__(self, C: int, K: int, stride: int, project: bool, bn_momentum: float):
        self.conv1 = nn.Conv2d(C, K, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(K, momentum=bn_momentum)
        self.conv2 = nn.Conv2d(K, K, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(K, momentum=bn_momentum)
        self.downsample = None
        if project:
            self.downsample = nn.Sequential(nn.Conv2d(C, K, 1, stride, bias=False),
                                            nn.BatchNorm2d(K, momentum=bn_momentum))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1.add_relu(self.conv1(x))
        return self.bn2.add_relu(self.conv2(x), shortcut)


class ResNet(nn.Module):
    """The paper's ResNet for small images: three stages of blocks, the maps halved and the channels doubled between.

    Every stage begins with a 1x1 projection on its shortcut, the first one included, as in the authors' code.
    """

    def __init__(self, depth: int, width: int, input_shape, classes: int, bn_momentum: float):
        self.conv1 = nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, momentum=bn_momentum)
        blocks = (depth - 2) // 6
        self.layer1 = self._stage(blocks, width, width, 1, bn_momentum)
        self.layer2 = self._stage(blocks, width, 2 * width, 2, bn_momentum)
        self.layer3 = self._stage(blocks, 2 * width, 4 * width, 2, bn_momentum)
        self.fc = nn.Linear(4 * width, classes, initial=nn.normal(0.01))

    @staticmethod
    def _stage(blocks: int, C: int, K: int, stride: int, bn_momentum: float) -> nn.Sequential:
        """The first block changes the number of channels, and the size of the maps by its stride."""
        return nn.Sequential(*(Block(C if i == 0 else K, K, stride if i == 0 else 1, i == 0, bn_momentum)
                               for i in range(blocks)))

    def forward(self, x):
        x = self.bn1.add_relu(self.conv1(x))               # (N, width, H, W)
        x = self.layer1(x)                                 # (N, width, H, W)
        x = self.layer2(x)                                 # (N, 2 width, H/2, W/2)
        x = self.layer3(x)                                 # (N, 4 width, H/4, W/4)
        return self.fc(global_avg_pool2d(x))               # (N, classes)


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions with batch norm, the maps halved after 2, 4, 7, 10 and 13 of them, and one dense layer.

    A halving is left out where the maps are down to one pixel already, so that small images fit.
    """

    widths = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")

    def __init__(self, input_shape, classes: int, bn_momentum: float):
        C, H, W = input_shape
        layers: list[nn.Module] = []
        for width in self.widths:
            if isinstance(width, int):
                layers += [nn.Conv2d(C, width, 3, padding=1), nn.BatchNorm2d(width, momentum=bn_momentum), nn.ReLU()]
                C = width
            elif min(H, W) > 1:
                layers.append(nn.MaxPool2d(2))
                H, W = H // 2, W // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(C, classes, initial=nn.normal(0.01))

    def forward(self, x):
        return self.classifier(global_avg_pool2d(self.features(x)))


class LeNet(nn.Module):
    """LeNet-300-100: three dense layers, the network of the first lottery tickets."""

    def __init__(self, input_shape, classes: int):
        C, H, W = input_shape
        self.fc1 = nn.Linear(C * H * W, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes, initial=nn.normal(0.01))

    def forward(self, x):
        x = x.flatten(1)                                   # (N, C * H * W)
        x = nn.functional.relu(self.fc1(x))
        x = nn.functional.relu(self.fc2(x))
        return self.fc3(x)


def resnet(depth: int, width: int = 16, *, input_shape=(3, 32, 32), classes: int = 10, bn_momentum: float = 0.1):
    """The paper's CIFAR ResNet of 6 n + 2 layers (20, 56, 110; 8 for a laptop), `width` channels in its first stage."""
    if depth < 8 or (depth - 2) % 6:
        below = max(8, depth - (depth - 2) % 6)
        raise Error(f"resnet: depth {depth} is not 6 n + 2; the nearest are {below} and {below + 6}")
    if width < 1:
        raise Error(f"resnet: the width is {width}, expected at least one channel")
    _check(input_shape, classes)
    model = ResNet(depth, width, input_shape, classes, bn_momentum)
    return _made(model, f"resnet{depth}-{width}", input_shape, classes, bn_momentum)


def vgg16(*, input_shape=(3, 32, 32), classes: int = 10, bn_momentum: float = 0.1):
    """VGG-16 with batch norm and one dense layer."""
    _check(input_shape, classes)
    return _made(VGG16(input_shape, classes, bn_momentum), "vgg16", input_shape, classes, bn_momentum)


def lenet_300_100(*, input_shape=(1, 28, 28), classes: int = 10):
    """LeNet-300-100, three dense layers."""
    _check(input_shape, classes)
    return _made(LeNet(input_shape, classes), "lenet_300_100", input_shape, classes)


def _made(model: nn.Module, network: str, input_shape, classes: int, bn_momentum: float = 0.1) -> nn.Module:
    """The model with its initial weights of seed 0, and with what `build` needs to make it again."""
    model.origin = {"name": network, "input_shape": tuple(input_shape), "classes": classes,
                    "bn_momentum": bn_momentum}
    return model.initialise(0)


def _check(input_shape, classes: int) -> None:
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise Error(f"input_shape is {tuple(input_shape)}, expected (C, H, W): channels, height and width of an image")
    if classes < 1:
        raise Error(f"a network for {classes} classes; expected 1 or more")


def build(name, *, input_shape, classes: int, bn_momentum: float = 0.1) -> nn.Module:
    """A network by name, with its initial weights of seed 0.

    "resnet20", "resnet8-8" (depth 8, width 8), "vgg16", "lenet_300_100", or "package.module:factory": a function that
    returns an nn.Module and takes those of the keywords input_shape, classes and bn_momentum that it names. Such a
    function may also be given itself.
    """
    wanted: dict[str, Any] = {"input_shape": tuple(input_shape), "classes": classes, "bn_momentum": bn_momentum}
    if isinstance(name, nn.Module):
        raise Error("network: got a network; expected a function that makes one, so that every run starts afresh")
    if callable(name):
        factory = name
    elif not isinstance(name, str):
        raise Error(f"network is {name!r}; expected a name or a function that returns an nn.Module")
    elif ":" in name:
        factory = imported(name)
    elif match := re.fullmatch(r"resnet(\d+)(?:-(\d+))?", name):
        return resnet(int(match[1]), int(match[2] or 16), **wanted)
    else:
        choose("network", name, ("resnet20", "resnet56", "resnet110", "resnet8-8", "vgg16", "lenet_300_100"))
        factory = {"vgg16": vgg16, "lenet_300_100": lenet_300_100}[name]
    model = factory(**accepted(name, factory, wanted))
    if not isinstance(model, nn.Module):
        raise Error(f"network {name!r}: the factory returned a {type(model).__name__}, expected a minirewind nn.Module")
    return _made(model, name if isinstance(name, str) else import_path(name), **wanted)


def accepted(name, factory, wanted: dict[str, Any]) -> dict[str, Any]:
    """Those of the keywords that a factory takes; an Error if it needs others."""
    try:
        signature = inspect.signature(factory)
        everything = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        given = {key: value for key, value in wanted.items() if everything or key in signature.parameters}
        signature.bind(**given)
    except (TypeError, ValueError) as reason:
        raise Error(f"network {name!r} cannot be called: {reason};\n"
                    f"expected a function of some of the keywords {', '.join(wanted)}") from reason
    return given


def import_path(factory) -> str:
    """The "package.module:factory" under which a function may be found; a partial one with what it binds."""
    if isinstance(factory, functools.partial):
        return f"{import_path(factory.func)} with {factory.args} {factory.keywords}"
    return f"{factory.__module__}:{factory.__qualname__}"


def imported(name: str):
    """The function that "package.module:factory" names."""
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as reason:
        raise Error(f"network {name!r}: {reason}; expected 'package.module:factory', importable from here") from reason
    if not callable(factory):
        raise Error(f"network {name!r} is a {type(factory).__name__}, expected a function that returns an nn.Module")
    return factory
