"""What a study compares: its settings, checked when they are made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import data as datasets
from .. import nn, prune
from ..errors import Error, choose
from ..train import Recipe
from . import methods
from .graph import Graph

PROTOCOLS = ("one_shot", "iterative", "paper_algorithm")

AXES: dict[str, Any] = {"protocols": str, "techniques": str, "pruning": str, "rounds": int, "densities": (int, float),
        "retrain_fractions": (int, float)}
KINDS: dict[Any, str] = {str: "names", int: "whole numbers", (int, float): "numbers"}

@dataclass(frozen=True)
class Study:
    """What to compare. Every combination of the tuples is run, for every seed.

    network            a name (see models.build) or a function that returns an nn.Module, importable for workers > 1
    data               a name (see data.load) or a Data
    recipe             how it is trained; None: train.default_recipe
    protocols          "one_shot", "iterative", "paper_algorithm" (iterative lr_rewinding with t = T)
    techniques         functions of retrain, or "package.module:function"
    pruning            functions of prune, or "package.module:function"
    rounds             the compressions: round i keeps 0.8**i of the prunable weights, in one-shot too
    densities          further one-shot targets
    retrain_fractions  t / T, the share of the training that is run again
    seeds              how many, counted from 0, or which
    """

    network: str | Callable[..., nn.Module]
    data: str | datasets.Data
    recipe: Recipe | None = None
    protocols: tuple[str, ...] = ("one_shot", "paper_algorithm")
    techniques: tuple[str, ...] = ("fine_tuning", "weight_rewinding", "lr_rewinding")
    pruning: tuple[str, ...] = ("global_magnitude",)
    rounds: tuple[int, ...] = (3, 6, 9, 12, 15)
    densities: tuple[float, ...] = ()
    retrain_fractions: tuple[float, ...] = (0.9,)
    seeds: int | tuple[int, ...] = 3
    data_dir: str | None = None

    def __post_init__(self):
        for name, kind in AXES.items():
            values = getattr(self, name)
            values = (values,) if isinstance(values, (str, int, float)) else tuple(dict.fromkeys(values))
            if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
                raise Error(f"{name} are {values}; expected {KINDS[kind]}")
            object.__setattr__(self, name, values)
        if not isinstance(self.seeds, int):
            object.__setattr__(self, "seeds", tuple(self.seeds) if np.iterable(self.seeds) else (self.seeds,))
        for protocol in self.protocols:
            choose("protocol", protocol, PROTOCOLS)
        for technique in self.techniques:
            methods.function("technique", technique)
        for pruning in self.pruning:
            methods.function("pruning method", pruning)
        if not self.seed_list or not all(isinstance(seed, int) and seed >= 0 for seed in self.seed_list):
            raise Error(f"seeds is {self.seeds!r}; expected how many, from 1, or a tuple of seeds, from 0")
        if any(r < 1 for r in self.rounds) or not (self.rounds or self.densities):
            raise Error(f"rounds are {self.rounds}; expected whole numbers from 1: round i keeps 0.8**i of the weights")
        for density in self.densities:
            prune.check_density(density)
        if any(not 0 < f <= 1 for f in self.retrain_fractions) or not self.retrain_fractions:
            raise Error(f"retrain fractions t/T are {self.retrain_fractions}; expected numbers above 0 and up to 1:\n"
                        "the run cannot be rewound to before its start")
        if not any(True for protocol in self.protocols for _ in Graph(self, 1).cells(0, protocol)):
            raise Error("this study holds no pruned run: name a protocol, and techniques it takes "
                        "(reinitialize is one-shot only)")

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(self.seeds)
