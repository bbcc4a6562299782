"""What a study compares: its settings, checked when they are made, and the TOML file they may stand in."""

import contextlib
import dataclasses
import tomllib
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import data as datasets
from .. import nn, prune, train
from ..errors import Error, choose
from ..train import Recipe
from . import methods
from .graph import Graph

PROTOCOLS = ("one_shot", "iterative", "paper_algorithm")

AXES: dict[str, Any] = {"protocols": str, "techniques": str, "pruning": str, "rounds": int, "densities": (int, float),
                        "retrain_fractions": (int, float), "iterative_fractions": (int, float)}
KINDS: dict[Any, str] = {str: "names", int: "whole numbers", (int, float): "numbers"}
MOST_ROUNDS = 100       # 0.8**100 leaves none of the weights of any network
MOST_SEEDS = 10_000     # whoever asks for more has meant one seed of that name


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
    iterative_fractions  the same for "iterative", whose runs cost most; none: the retrain_fractions
    noise              whether one run of each seed is made twice, on other batches, to see what chance does
    seeds              how many, counted from 0, or which
    data_dir           where the files of named data lie (see data.load)
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
    iterative_fractions: tuple[float, ...] = ()
    noise: bool = False
    seeds: int | tuple[int, ...] = 3
    data_dir: str | None = None

    def __post_init__(self):
        for name, kind in AXES.items():
            values = getattr(self, name)
            values = tuple(values) if np.iterable(values) and not isinstance(values, str) else (values,)
            if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
                raise Error(f"{name} are {values}; expected {KINDS[kind]}")
            values = map(float, values) if kind == (int, float) else values         # 1 and 1.0 are one run
            object.__setattr__(self, name, tuple(dict.fromkeys(values)))
        seeds: Any = self.seeds
        if type(seeds) is not int:
            several = np.iterable(seeds) and not isinstance(seeds, str)
            object.__setattr__(self, "seeds", tuple(seeds) if several else (seeds,))
        elif seeds > MOST_SEEDS:
            raise Error(f"seeds is {seeds}; that is how many, at most {MOST_SEEDS:,}. In a study file, "
                        f"seeds = [{seeds}] is that one seed")
        for protocol in self.protocols:
            choose("protocol", protocol, PROTOCOLS)
        for technique in self.techniques:
            methods.function("technique", technique)
        for pruning in self.pruning:
            methods.function("pruning method", pruning)
        if not self.seed_list or not all(type(seed) is int and seed >= 0 for seed in self.seed_list):
            raise Error(f"seeds is {self.seeds!r}; expected how many, from 1, or a tuple of seeds, from 0")
        if any(not 1 <= r <= MOST_ROUNDS for r in self.rounds) or not (self.rounds or self.densities):
            raise Error(f"rounds are {self.rounds}; expected whole numbers from 1 to {MOST_ROUNDS}: "
                        "round i keeps 0.8**i of the weights")
        for density in self.densities:
            prune.check_density(density)
        fractions = self.retrain_fractions + self.iterative_fractions
        if any(not 0 < f <= 1 for f in fractions) or not self.retrain_fractions:
            raise Error(f"retrain fractions t/T are {fractions}; expected numbers above 0 and up to 1:\n"
                        "the run cannot be rewound to before its start")
        if self.noise and not ("one_shot" in self.protocols and "lr_rewinding" in self.techniques):
            raise Error("noise repeats one-shot runs of lr_rewinding; this study has none: add them, or leave it out")
        if not any(True for protocol in self.protocols for _ in Graph(self, 1).cells(0, protocol)):
            raise Error("this study holds no pruned run: name a protocol, and techniques it takes "
                        "(reinitialize is one-shot only)")

    def load(self) -> datasets.Data:
        """The data, read from its files if `data` is a name."""
        return self.data if isinstance(self.data, datasets.Data) else datasets.load(self.data, self.data_dir)

    def fractions(self, protocol: str) -> tuple[float, ...]:
        """The t / T of one protocol."""
        if protocol == "paper_algorithm":
            return (1.0,)
        return (protocol == "iterative" and self.iterative_fractions) or self.retrain_fractions

    @property
    def axes(self) -> dict[str, tuple]:
        """What may be added to in a folder: the seeds, and everything that is combined with them."""
        axes = {name: getattr(self, name) for name in AXES} | {"seeds": self.seed_list}
        return axes | {"iterative_fractions": self.fractions("iterative")}

    @property
    def seed_list(self) -> tuple[int, ...]:
        return self.seeds if isinstance(self.seeds, tuple) else tuple(range(self.seeds))


# -------------------------------------------------------------------------------------------------------- study files

DEFAULT_NETWORKS = {"digits": "resnet8-8", "mnist": "lenet_300_100", "fashion_mnist": "lenet_300_100"}
OTHER_NETWORK = "resnet20"
NAMES: dict[Any, str] = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def read(path) -> Study:
    """The study that a TOML file describes; see `made`."""
    return made(read_settings(path), str(path))


def read_settings(path) -> dict[str, Any]:
    """The settings in a TOML file. Each is known and of its kind, or an Error names the file and the setting."""
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as reason:
        raise Error(f"the study file {path} cannot be read ({reason.strerror}); expected a TOML file of settings, "
                    "one a line, such as: seeds = 5") from reason
    except ValueError as reason:
        raise Error(f"{path} is no TOML: {reason}; expected one setting a line, such as: rounds = [3, 6]") from reason
    fields = {field.name: field.type for field in dataclasses.fields(Study) if field.name != "data"} | {"dataset": str}
    with told_of(path):
        for name, value in settings.items():
            choose("setting", name, fields)
            if name in ("network", "dataset", "data_dir"):
                expect(name, value, str)
            elif name == "noise":
                expect(name, value, bool)
            elif name == "recipe":
                check_recipe(value)
    return settings


def check_recipe(recipe) -> None:
    """The table [recipe] of a study file: which of a Recipe's settings are changed."""
    if not isinstance(recipe, dict):
        raise Error(f"recipe is {recipe!r}; expected a table: [recipe] on a line, below it for instance steps = 1000")
    kinds = typing.get_type_hints(Recipe)
    for name, value in recipe.items():
        choose("setting of recipe", name, kinds)
        expect(f"recipe.{name}", value, kinds[name])


def expect(name: str, value, kind: type) -> None:
    """An Error if a setting is of another kind."""
    numbers = kind is float and isinstance(value, (int, float)) and not isinstance(value, bool)
    if type(value) is not kind and not numbers:
        raise Error(f"{name} is {value!r}; expected {NAMES[kind]}")


@contextlib.contextmanager
def told_of(path) -> Iterator[None]:
    """An Error inside names the file in which the mistake is."""
    try:
        yield
    except Error as reason:
        raise Error(f"{path}: {reason}") from reason


def made(settings: dict[str, Any], path: str = "") -> Study:
    """A study of settings as they stand in a study file.

    They are those of `Study`, with the data set's name as `dataset`, and in `recipe` only what differs from the data
    set's own recipe. What is left out is as in Study; the data are the digits, the network one that suits the data.
    """
    chosen = dict(settings)
    dataset, changes = chosen.pop("dataset", "digits"), chosen.pop("recipe", {})
    network = chosen.pop("network", None) or DEFAULT_NETWORKS.get(dataset, OTHER_NETWORK)
    with told_of(path) if path else contextlib.nullcontext():
        study = Study(network, dataset, **chosen)
        if changes:
            study = dataclasses.replace(study, recipe=changed_recipe(changes, dataset, study.data_dir))
    return study


def changed_recipe(changes: dict[str, Any], dataset: str, data_dir: str | None) -> Recipe:
    """The data set's own recipe with changes. Only its steps and its batch size depend on the data."""
    if {"steps", "batch_size"} <= set(changes):
        return Recipe(**changes)
    return dataclasses.replace(train.default_recipe(datasets.load(dataset, data_dir)), **changes)
