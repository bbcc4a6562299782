"""Retraining a pruned network: fine-tuning, weight rewinding, learning-rate rewinding.

A technique is a function `(trained, early, mask, schedule) -> (start, rate, stop)`: from which state, at which rates
and up to which step the pruned network is trained again. `trained` is the state at the end of training, step T; `early`
the state of the dense run at step T - t, where t is the retraining time; `mask` what pruning kept. All of them run the
steps T - t .. T. Where the weights and where the rates come from is all the difference:

                           weights, statistics, momentum     learning rate
    fine_tuning            final                             the last one of training, constant
    weight_rewinding       those of step T - t               the schedule from T - t on
    lr_rewinding           final                             the schedule from T - t on
"""

import dataclasses
import itertools
import math
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator

import numpy as np

from . import data as datasets
from . import nn, optim, prune, train
from .errors import Error
from .train import Recipe, Record, State

Technique = Callable[..., tuple[State, optim.Schedule, int]]


def fine_tuning(trained: State, early: State, mask, schedule):
    """Train on at the rate at which training ended."""
    start = trained.masked(mask, early.step)
    rate = optim.constant(schedule(trained.step - 1))
    stop = trained.step
    return start, rate, stop


def weight_rewinding(trained: State, early: State, mask, schedule):
    """Go back to the weights of step T - t, and train again from there as the first time."""
    start = early.masked(mask, early.step)
    rate = schedule
    stop = trained.step
    return start, rate, stop


def lr_rewinding(trained: State, early: State, mask, schedule):
    """Keep the weights, and go back with the learning rate only."""
    start = trained.masked(mask, early.step)
    rate = schedule
    stop = trained.step
    return start, rate, stop


# ------------------------------------------------------------------------------------------- the paper's two controls


def weight_rewinding_low_lr(trained: State, early: State, mask, schedule):
    """The weights of step T - t at the last rate: is it the weights or the rates that help?"""
    start = early.masked(mask, early.step)
    rate = optim.constant(schedule(trained.step - 1))
    stop = trained.step
    return start, rate, stop


def reinitialize(trained: State, early: State, mask, schedule, *, fresh: State):
    """New random weights under the mask, trained for T + t steps: is it the mask alone? One-shot only.

    `fresh`, the state of a new initialisation, is bound with functools.partial.
    """
    start = fresh.masked(mask, step=0)
    rate = schedule                                   # beyond T it stays at its last rate
    stop = trained.step + (trained.step - early.step)
    return start, rate, stop


# ----------------------------------------------------------------------------------------------------- the follow-ups
#
# They keep the final weights, as fine_tuning and lr_rewinding do, and ask for a better rate over the same t steps: up
# in a straight line over the first tenth, then down in one of three shapes. (Their authors warm up along a cosine.)


def slr(trained: State, early: State, mask, schedule):
    """Scaled restart: the whole schedule of training, compressed (Le & Hua, 2021)."""
    start = trained.masked(mask, early.step)
    rate = warmed_up(trained, early, lambda steps: lambda step: schedule(step * trained.step // steps))
    stop = trained.step
    return start, rate, stop


def clr(trained: State, early: State, mask, schedule):
    """Cyclic restart: half a cosine from the highest rate of training to its last (Le & Hua, 2021)."""
    start = trained.masked(mask, early.step)
    high, low = highest(schedule, trained.step), schedule(trained.step - 1)
    rate = warmed_up(trained, early, lambda steps: optim.cosine(steps, high, low / high))
    stop = trained.step
    return start, rate, stop


def llr(trained: State, early: State, mask, schedule):
    """Linear restart: a line from the highest rate of training to 0 at step T (Zimmer et al., 2023)."""
    start = trained.masked(mask, early.step)
    high = highest(schedule, trained.step)
    rate = warmed_up(trained, early, lambda steps: optim.linear(steps + 1, high, 0))
    stop = trained.step
    return start, rate, stop


def allr(trained: State, early: State, mask, schedule, *, prunable):
    """Adaptive linear restart: the line begins the lower, the less pruning and the time left call for (Zimmer et al.).

    It begins at the highest rate of training times `damage`, but at least times t / T. `prunable`, which entries
    pruning may mask, is bound with functools.partial.
    """
    start = trained.masked(mask, early.step)
    high = highest(schedule, trained.step)
    share = max(damage(trained, mask, prunable), (trained.step - early.step) / trained.step)
    rate = warmed_up(trained, early, lambda steps: optim.linear(steps + 1, high * share, 0))
    stop = trained.step
    return start, rate, stop


def warmed_up(trained: State, early: State, make: Callable[[int], optim.Schedule]) -> optim.Schedule:
    """Over the steps T - t .. T: a line up for the first tenth, then the schedule that `make` makes of the rest."""
    t = trained.step - early.step
    rise = t // 10
    rest = make(t - rise)
    cycle = optim.warm_up(lambda step: rest(max(step - rise, 0)), rise)
    return lambda step: cycle(step - early.step)


def highest(schedule: optim.Schedule, steps: int) -> float:
    """The highest rate of a training of so many steps."""
    return max(map(schedule, range(steps)))


def damage(trained: State, mask, prunable) -> float:
    """How much of the weights' norm pruning took away, from 0 to 1, which is the share that it takes where all weights
    are of one size: |pruned| / |left before| / sqrt(the share of them that was pruned).
    """
    before = trained.weights[prunable & trained.mask]
    pruned = trained.weights[prunable & trained.mask & ~mask]
    if len(pruned) == 0 or not before.any():
        return 0.0
    taken = np.linalg.norm(pruned) / np.linalg.norm(before)
    return min(1.0, float(taken / math.sqrt(len(pruned) / len(before))))


# ------------------------------------------------------------------------------------------ one round, and many of them


def one_round(model: nn.Module, data: datasets.Data, recipe: Recipe, trained: State, early: State, technique: Technique,
              density: float, *, seed: int, round: int = 1, stream: int = 0,
              method: prune.Method | None = None, report_every: int = 50,
              resume: State | None = None) -> Iterator[Record]:
    """Prune the network in the state `trained` to `density` and retrain it; the model ends in the state afterwards.

    One-shot pruning is one such round on the dense network. Iterative pruning is a chain of them, each on what the one
    before ended in, with `early` from the dense run throughout; `round` counts them from 1 and picks the data stream.
    `resume` is a state this same round was in before it was interrupted.
    """
    yield from train.train(model, data, recipe, seed=seed, round=round, stream=stream, report_every=report_every,
                           **round_settings(model, recipe, trained, early, technique, density, method, resume))


def round_settings(model: nn.Module, recipe: Recipe, trained: State, early: State, technique: Technique, density: float,
                   method: prune.Method | None = None, resume: State | None = None) -> dict:
    """What one_round does before it trains: prune, ask the technique; the start, stop, rate and compare_to of a Run."""
    if not 0 <= early.step < trained.step:
        raise Error(f"the retraining time t must be 1 to T steps: trained is at step T = {trained.step}, "
                    f"early at step T - t = {early.step}")
    mask = prune.new_mask(model, trained, density, method)
    start, rate, stop = technique(trained, early, mask, recipe.rates())
    return {"start": resume or start, "stop": stop, "rate": rate, "compare_to": start}


def iterative(model: nn.Module, data: datasets.Data, recipe: Recipe, trained: State, early: State,
              technique: Technique, densities: Iterable[float], *, seed: int) -> Iterator[Record]:
    """Iterative pruning: a chain of rounds, each on what the one before ended in; the records of all of them."""
    for round, density in enumerate(densities, 1):
        yield from one_round(model, data, recipe, trained, early, technique, density, seed=seed, round=round)
        trained = State.copy(model)


def densities_to(density: float | None) -> Iterator[float]:
    """0.8, 0.64, 0.512, ... and last `density` itself; without an end if that is None."""
    rounds = prune.rounds_to(density) if density is not None else None
    for i in itertools.count(1) if rounds is None else range(1, rounds + 1):
        yield density if i == rounds and density is not None else 0.8**i


def targets(model: nn.Module, density: float | None) -> Iterator[float]:
    """densities_to(density), while each takes weights away and leaves as many as the model has layers."""
    layers, prunable = len(prune.prunable_layers(model)), int(nn.pack(model).prunable.sum())
    kept = prunable
    for target in densities_to(density):
        keep = prune.keep_count(prunable, target)
        if keep < layers or kept == 1:
            break
        if keep < kept:
            kept = keep
            yield target


def prune_to_target(model: nn.Module, data: datasets.Data, recipe: Recipe | None = None, *, seed: int = 0,
                    density: float | None = None, max_drop: float | None = None) -> tuple[State, list[Record]]:
    """The paper's pruning algorithm (Algorithm 1): train; prune 20 % of what remains; rewind the learning rate and
    retrain for the whole training time; repeat.

    It ends at `density` exactly, or before the first round whose validation accuracy is more than `max_drop` points
    below the dense network's, whichever comes first, or where fewer weights than layers would be left. The model is
    left in the last state inside the target, which is returned with the records of all rounds. Training starts from
    where the model is: call model.initialise(seed) for a new start; a trained model is not trained again.
    """
    history = list(pruning_to_target(model, data, recipe, seed=seed, density=density, max_drop=max_drop))
    return State.copy(model), history


def pruning_to_target(model: nn.Module, data: datasets.Data, recipe: Recipe | None = None, *, seed: int = 0,
                      density: float | None = None, max_drop: float | None = None) -> Iterator[Record]:
    """The same as a generator of its records; the last one of each round holds the validation accuracy."""
    check_target(density, max_drop)
    if not nn.pack(model).mask.all():
        raise Error("pruning to a target begins with a dense network, this one is pruned; see retrain.one_round")
    prune.new_mask(model, State.copy(model), 1)         # what cannot be pruned is an Error before any training
    recipe = recipe or train.default_recipe(data)

    dense_accuracy = yield from measured(model, data, train.train(model, data, recipe, seed=seed))
    accuracy = None
    for record in rounds_inside(model, data, recipe, dense_accuracy, targets(model, density), max_drop, seed=seed):
        yield record
        accuracy = record.validation_accuracy
    if accuracy is not None and nn.pack(model).mask.all():
        drop = dense_accuracy - accuracy
        warnings.warn(f"the first round of pruning already costs {drop:.2f} points, more than max_drop = {max_drop:g}: "
                      f"the model is left dense", stacklevel=3)


def rounds_inside(model: nn.Module, data: datasets.Data, recipe: Recipe, dense_accuracy: float,
                  densities: Iterable[float], max_drop: float | None, *, seed: int) -> Iterator[Record]:
    """Prune and rewind the learning rate to step 0, round by round, until one costs more than `max_drop` points of
    validation accuracy; the model is left in the last state before that. The last record of a round holds its accuracy.
    """
    inside = State.copy(model)
    early = inside.masked(inside.mask, step=0)
    for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
        if record.step == recipe.steps:
            accuracy = train.evaluate(model, data.validation)
            yield dataclasses.replace(record, validation_accuracy=accuracy)
            if max_drop is not None and dense_accuracy - accuracy > max_drop:
                break
            inside = State.copy(model)
        else:
            yield record
    inside.restore(model)


def check_target(density: float | None, max_drop: float | None) -> None:
    """A target that cannot be met is an Error before any training."""
    if density is None and max_drop is None:
        raise Error("pruning needs an end: density=0.1, max_drop=1.0 (points of validation accuracy), or both")
    if density is not None:
        prune.check_density(density)
    if max_drop is not None and not max_drop >= 0:
        raise Error(f"max_drop is {max_drop}; expected points of validation accuracy, 0 or more")


def measured(model: nn.Module, data: datasets.Data, records: Iterator[Record]) -> Generator[Record, None, float]:
    """The records of one training, the last one with the validation accuracy; that is also what it returns."""
    previous = None
    for record in records:
        if previous is not None:
            yield previous
        previous = record
    accuracy = train.evaluate(model, data.validation)
    if previous is not None:
        yield dataclasses.replace(previous, validation_accuracy=accuracy)
    return accuracy
