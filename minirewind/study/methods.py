"""Which techniques and pruning methods a study knows, and what each of them is given.

A technique is a function of `retrain` that begins `(trained, early, mask, schedule)`, a pruning method one of `prune`
that begins `(weights, mask, keep)`; or either is "package.module:function", a function of one's own. What a function
needs besides is a keyword without a default, and it gets it by name: see `given`.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType

from .. import data as datasets
from .. import nn, prune, retrain
from ..errors import Error, choose
from ..train import Recipe, State

STARTS = {"technique": ("trained", "early", "mask", "schedule"), "pruning method": ("weights", "mask", "keep")}
ROOMS: dict[str, ModuleType] = {"technique": retrain, "pruning method": prune}


def parameters(function) -> tuple[list[str], list[str]]:
    """The names of a function's positional parameters, and of the keywords it cannot do without."""
    found = inspect.signature(function).parameters.values()
    return ([p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)],
            [p.name for p in found if p.kind is p.KEYWORD_ONLY and p.default is p.empty])


def written_in(kind: str) -> tuple[str, ...]:
    """The techniques of `retrain`, or the pruning methods of `prune`, in the order in which they are written there."""
    return tuple(name for name, function in vars(ROOMS[kind]).items() if inspect.isfunction(function)
                 and not name.startswith("_") and tuple(parameters(function)[0]) == STARTS[kind])


KNOWN = {kind: written_in(kind) for kind in ROOMS}
TECHNIQUES, PRUNING = KNOWN.values()


def function(kind: str, name: str) -> Callable:
    """The function of that name, or an Error that says what is expected."""
    if ":" not in name:
        return getattr(ROOMS[kind], choose(kind, name, KNOWN[kind]))
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
        positional, keywords = parameters(found)
    except (ImportError, AttributeError, ValueError, TypeError) as reason:
        raise Error(f"{kind} {name!r}: {reason}; expected package.module:function, importable from here") from reason
    if tuple(positional) != STARTS[kind]:
        raise Error(f"{kind} {name!r} takes ({', '.join(positional)}); expected ({', '.join(STARTS[kind])})")
    if missing := [keyword for keyword in keywords if keyword not in GIVEN]:
        raise Error(f"{kind} {name!r} needs {', '.join(missing)}, which a study does not give; it gives "
                    f"{', '.join(GIVEN)}")
    return found


def fresh(model: nn.Module, data: datasets.Data, recipe: Recipe, seed: int) -> State:
    """The state of a new initialisation."""
    return State.copy(model.initialise(seed, round=1))


GIVEN: dict[str, Callable] = {
    "layers": lambda model, data, recipe, seed: prune.prunable_layers(model),
    "prunable": lambda model, data, recipe, seed: nn.pack(model).prunable,
    "key": lambda model, data, recipe, seed: seed,
    "fresh": fresh,
    "model": lambda model, data, recipe, seed: model,
    "data": lambda model, data, recipe, seed: data,
    "recipe": lambda model, data, recipe, seed: recipe,
}
"""What a technique or a pruning method may ask for by keyword: from the run's network, data, recipe and seed."""


def bound(kind: str, name: str, *run) -> Callable:
    """The function, with the keywords it asks for taken from the run: its network, data, recipe and seed."""
    found = function(kind, name)
    keywords = {keyword: GIVEN[keyword](*run) for keyword in parameters(found)[1]}
    return functools.partial(found, **keywords) if keywords else found


@functools.cache
def starts_afresh(technique: str) -> bool:
    """Whether a technique trains a new initialisation: T steps more than the others, and no state to go on from."""
    return "fresh" in parameters(function("technique", technique))[1]


def rank(kind: str, name: str) -> tuple:
    """Where a name stands in the order of results.csv: the framework's own as they are written, then others."""
    own = KNOWN[kind]
    return (own.index(name), "") if name in own else (len(own), name)


def short(name: str) -> str:
    """The name as it stands in the name of a run."""
    return name.rpartition(":")[2]
