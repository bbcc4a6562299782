"""The same networks in PyTorch, with the same parameter names: what the benchmarks compare with."""

import re

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A residual block with a 1x1 projection where asked for."""

    def __init__(self, C, K, stride, project):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(C, K, 3, stride, 1, bias=False), nn.BatchNorm2d(K)
        self.conv2, self.bn2 = nn.Conv2d(K, K, 3, 1, 1, bias=False), nn.BatchNorm2d(K)
        self.downsample = nn.Sequential(nn.Conv2d(C, K, 1, stride, bias=False), nn.BatchNorm2d(K)) if project else None

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + shortcut, inplace=True)


class ResNet(nn.Module):
    """models.ResNet."""

    def __init__(self, depth, width, channels, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        C = width
        for stage, K in enumerate((width, 2 * width, 4 * width), 1):
            blocks = []
            for i in range((depth - 2) // 6):
                blocks.append(Block(C, K, 2 if stage > 1 and i == 0 else 1, i == 0))
                C = K
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(C, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def build(name, model):
    """PyTorch's twin of our `model`, by name, with the same weights."""
    match = re.fullmatch(r"resnet(\d+)(?:-(\d+))?", name)
    if not match:
        raise SystemExit(f"no PyTorch twin of {name!r}; the benchmarks know resnet20, resnet56, resnet8-8, ...")
    state = model.state_dict()
    twin = ResNet(int(match[1]), int(match[2] or 16), state["conv1.weight"].shape[1], len(state["fc.bias"]))
    twin.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return twin
