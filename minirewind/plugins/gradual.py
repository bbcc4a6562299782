"""Gradual magnitude pruning: prune while training, fast at first and ever slower (Zhu & Gupta, 2017).

    model.initialise(0)
    for record in gradual.train(model, data, recipe, density=0.1, seed=0):
        print(record.step, record.density)

No retraining follows: when training ends, the network has the density asked for and has long trained at it.
"""

import math
from collections.abc import Iterator

from .. import data as datasets
from .. import nn, prune
from .. import train as training
from ..errors import Error


def cubic(step: int, first: int, last: int, density: float) -> float:
    """The density at a step: 1 up to `first`, `density` from `last` on, between them along a cubic that ends flat."""
    left = 1 - min(max(step - first, 0) / (last - first), 1)
    return density + (1 - density) * left**3


def train(model: nn.Module, data: datasets.Data, recipe: training.Recipe, density: float, *, seed: int,
          begin: float = 0.1, end: float = 0.7, every: int | None = None, method: prune.Method | None = None,
          start: training.State | None = None, report_every: int = 50) -> Iterator[training.Record]:
    """Train by the recipe; from the share `begin` of the run to the share `end` prune every `every` steps.

    `every` is a fiftieth of that time if not given, `method` global_magnitude. `start` is a state that this same call
    was in before it was interrupted; it goes on to the same bits.
    """
    prune.check_density(density)
    if not 0 <= begin < end <= 1 or (every is not None and every < 1):
        raise Error(f"gradual: expected shares of the run, 0 <= begin < end <= 1, and every from 1, "
                    f"got {begin}, {end} and {every}")
    first, last = math.floor(begin * recipe.steps), math.ceil(end * recipe.steps)
    every = every or max(1, (last - first) // 50)
    times = [*range(first + every, last, every), last]
    state = began = training.State.copy(model) if start is None else start
    for time in (time for time in times if time >= state.step):
        yield from training.train(model, data, recipe, seed=seed, start=state, stop=time, report_every=report_every,
                                  compare_to=began)
        state = training.State.copy(model)
        state = state.masked(prune.new_mask(model, state, cubic(time, first, last, density), method), time)
    yield from training.train(model, data, recipe, seed=seed, start=state, report_every=report_every,
                              compare_to=began)
