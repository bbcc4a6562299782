"""Training: the state of a run, the step, and the one visible loop."""

import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import data as datasets
from . import functional, nn, optim, prune, tensor
from .errors import Error, choose
from .tensor import Tensor


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: everything but the network, the data and the seed."""

    steps: int
    batch_size: int = 128
    rate: float = 0.1
    schedule: str = "step_decay"            # a name in optim.SCHEDULES
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 2e-4

    def __post_init__(self):
        whole = all(isinstance(n, (int, np.integer)) and n >= 1 for n in (self.steps, self.batch_size))
        if not whole or not 0 < self.rate < math.inf:
            raise Error(f"a recipe needs steps and a batch size, whole numbers from 1, and a rate above 0, "
                        f"got {self.steps}, {self.batch_size} and {self.rate}")
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < math.inf or (self.nesterov and not self.momentum):
            raise Error(f"a recipe needs 0 <= momentum < 1 (above 0 with nesterov) and a weight decay from 0, "
                        f"got {self.momentum} and {self.weight_decay}")
        choose("schedule", self.schedule, optim.SCHEDULES)
        for kind, names in ((int, ("steps", "batch_size")), (float, ("rate", "momentum", "weight_decay"))):
            for name in names:                                  # so that 1 and 1.0 are one recipe, with one hash
                object.__setattr__(self, name, kind(getattr(self, name)))

    def rates(self) -> optim.Schedule:
        """The learning-rate schedule: a function of the step."""
        return optim.SCHEDULES[self.schedule](self.steps, self.rate)


def default_recipe(data: datasets.Data) -> Recipe:
    """The paper's recipe (182 epochs of batches of 128) for large sets; 30 epochs of 64 under 10,000 images."""
    images = len(data.train)
    return Recipe(max(1, 30 * images // 64), 64) if images < 10_000 else Recipe(math.ceil(182 * images / 128))


def bn_momentum(recipe: Recipe) -> float:
    """The paper's 0.003 needs some 1,000 steps to settle; runs of fewer than 5,000 use PyTorch's 0.1."""
    return 0.003 if recipe.steps >= 5000 else 0.1


@dataclass(frozen=True, eq=False)
class State:
    """A run at one step, whole: with it and the recipe, training goes on to the same bits.

    Its arrays lie on the host, wherever the model is.
    """

    step: int
    weights: np.ndarray     # (P,)
    momentum: np.ndarray    # (P,)
    mask: np.ndarray        # (P,) bool
    statistics: np.ndarray  # (S,)

    @staticmethod
    def copy(model: nn.Module) -> "State":
        """The model's state now; what happens to the model later does not touch it."""
        v = nn.pack(model)
        return State(v.step, *(np.array(v.backend.to_host(vector)) for vector in
                               (v.weights, v.momentum, v.mask, v.statistics)))

    def restore(self, model: nn.Module) -> None:
        """Put the model back into this state, in place; what happens to it later does not touch the state."""
        v = nn.pack(model)
        for name in ("weights", "momentum", "mask", "statistics"):
            own, kept = getattr(v, name), getattr(self, name)
            if own.shape != kept.shape or own.dtype != kept.dtype:
                raise Error(f"this state is of another network: it has {kept.size:,} {name} ({kept.dtype}), "
                            f"the model {own.size:,} ({own.dtype})")
        v.step = self.step
        v.backend.put(v.weights, self.weights)
        v.backend.put(v.momentum, self.momentum)
        v.backend.put(v.statistics, self.statistics)
        v.set_mask(self.mask)

    def masked(self, mask, step: int) -> "State":
        """This state under another mask, applied to weights and momentum, and at another step."""
        if mask.dtype != bool or mask.shape != self.mask.shape:
            raise Error(f"masked: the mask is {mask.dtype} {mask.shape}, expected bool {self.mask.shape}")
        weights, momentum = self.weights.copy(), self.momentum.copy()
        weights[~mask] = 0
        momentum[~mask] = 0
        return State(step, weights, momentum, mask.copy(), self.statistics.copy())


@dataclass
class Clock:
    """What changes from step to step, and the run's constants that decide a batch; the step function reads it.

    Plain numbers here; on a GPU `step`, `rate` and `loss` are arrays with one element (kernels/gpu/clock.py).
    """

    seed: int
    stream: int
    round: int
    batch_size: int
    step: int = 0
    rate: float = 0.0
    loss: Any = math.nan


@dataclass(frozen=True)
class Record:
    """One report of a run."""

    step: int                               # updates done
    loss: float                             # of the last batch
    rate: float                             # of the last update
    density: float                          # kept share of the prunable weights
    layer_densities: dict[str, float]       # the same for each prunable parameter
    empty_layers: tuple[str, ...]           # those with nothing left
    sign_flips: float                       # share of the kept weights whose sign differs from this run's start
    seconds: float                          # since this run's start
    validation_accuracy: float | None = None    # percent; filled in where it was measured


def one_step(model: nn.Module, optimiser: optim.SGD, data: datasets.Data, clock: Clock) -> None:
    """Batch, forward, backward, update."""
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    x = Tensor(images, dtype=optimiser.vectors.weights.dtype, device=optimiser.device)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(x), Tensor(labels, device=optimiser.device))
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data


def train(model: nn.Module, data: datasets.Data, recipe: Recipe, *, seed: int, round: int = 0, stream: int = 0,
          start: State | None = None, stop: int | None = None, rate: optim.Schedule | None = None,
          report_every: int = 50, compare_to: State | None = None) -> Iterator[Record]:
    """Train from the state `start` (None: from where the model is) to the step `stop`, reporting on the way.

    `seed`, `stream` and `round` say which data stream; `rate` replaces the recipe's schedule. A generator: it trains
    while the caller asks for records, which come at every multiple of `report_every` steps and at the end. At a NaN it
    stops with an Error that names the step and the first tensor that was not finite. Sign flips are counted against
    `compare_to` (None: the start).
    """
    run = Run(model, data, recipe, seed, round, stream, start, stop, rate, compare_to)
    for _, record in train_together([run], report_every):
        yield record


def train_together(runs: Sequence["Run"], report_every: int = 50) -> Iterator[tuple["Run", Record]]:
    """Train several runs of as many steps, step by step together; each has the bits it would have alone.

    They report as `train` does, each record with its run. On a GPU, which one small network cannot fill, their steps
    are side by side in one captured graph.
    """
    if report_every < 1:
        raise Error(f"train: report_every counts steps, expected at least 1, got {report_every}")
    if len({(run.left, run.backend) for run in runs}) > 1:
        raise Error("train_together: runs side by side have as many steps left and lie on one device, these have " +
                    ", ".join(f"{run.left} on {run.backend.name}" for run in runs))
    step = runs[0].backend.capture(*(run.step for run in runs))
    while runs[0].left:
        for run in runs:
            run.wind()
        with np.errstate(all="ignore"):      # told at the next report, once and with its cause
            step()
        for run in runs:
            run.count()
        for run in runs:
            if run.vectors.step % report_every == 0 or not run.left:
                yield run, run.report()
                run.model.train()            # whatever the caller did with it meanwhile


class Run:
    """A training in progress, of what `train` was given."""

    def __init__(self, model: nn.Module, data: datasets.Data, recipe: Recipe, seed: int, round: int = 0,
                 stream: int = 0, start: State | None = None, stop: int | None = None,
                 rate: optim.Schedule | None = None, compare_to: State | None = None):
        if start is not None:
            start.restore(model)
        self.model, self.data, self.vectors = model, data, nn.pack(model)
        self.stop = recipe.steps if stop is None else stop
        self.rate = recipe.rates() if rate is None else rate
        if self.left < 0:
            raise Error(f"train: the start is at step {self.vectors.step}, after the stop at step {self.stop}")
        self.optimiser = optim.SGD(model, recipe.momentum, recipe.nesterov, recipe.weight_decay)
        self.backend = self.optimiser.backend
        self.clock = self.backend.clock(Clock(seed, stream, round, recipe.batch_size))
        self.record, self.last = Reporter(model, compare_to), State.copy(model)
        model.clock = self.clock
        model.train()

    @property
    def left(self) -> int:
        """How many steps are still to be done."""
        return self.stop - self.vectors.step

    def wind(self) -> None:
        """Set the clock to the step that comes."""
        self.done, self.used = self.vectors.step, self.rate(self.vectors.step)
        datasets.wind(self.clock, self.data, self.done, self.used)

    def step(self) -> None:
        """What the clock says."""
        one_step(self.model, self.optimiser, self.data, self.clock)

    def count(self) -> None:
        """The step is done; a replayed one of a GPU ran no Python that would have counted it."""
        self.vectors.step = self.done + 1

    def report(self) -> Record:
        """Look at the weights and the loss, which until now may have stayed on the device."""
        now, loss = State.copy(self.model), float(self.clock.loss)
        if not (np.isfinite(loss) and np.isfinite(now.weights).all()):
            explain_nan(self.model, self.optimiser, self.data, self.clock, self.last, self.rate)
        self.last = now
        return self.record(now, loss, self.used)


class Reporter:
    """Makes the records of one run; the mask does not change during it."""

    def __init__(self, model: nn.Module, compare_to: State | None = None):
        self.began = time.perf_counter()
        start = State.copy(model)
        self.signs = np.sign(start.weights if compare_to is None else compare_to.weights)
        self.layers = prune.layer_densities(model)
        self.density, self.kept = prune.density(start.mask, nn.pack(model).prunable), max(1, start.mask.sum())

    def __call__(self, now: State, loss: float, rate: float) -> Record:
        flips = (np.sign(now.weights) * self.signs < 0).sum() / self.kept
        empty = tuple(name for name, density in self.layers.items() if density == 0)
        return Record(now.step, loss, rate, self.density, self.layers, empty, float(flips),
                      time.perf_counter() - self.began)


def explain_nan(model, optimiser, data, clock, last: State, rate) -> None:
    """Run the interval since the state `last` again, step by step, and name the first bad tensor in an Error."""
    found = optimiser.vectors.step
    last.restore(model)
    finite = optimiser.backend.xp.isfinite
    names = {id(p): name for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        if not finite(p.data).all():
            raise Error(f"{name} holds NaN or infinity at step {last.step}, before any update")
    while optimiser.vectors.step < found:
        step = optimiser.vectors.step
        datasets.wind(clock, data, step, rate(step))
        with np.errstate(all="ignore"), tensor.recording() as calls:
            one_step(model, optimiser, data, clock)
        advice = f"the learning rate was {rate(step):g}; try a lower one, or a warm-up"
        for call in calls:
            for x in call.inputs:
                if x.function is None and id(x) not in names and not finite(x.data).all():
                    raise Error(f"training stopped at step {step}: an input of {call.function.__name__}, "
                                f"shape {x.shape}, is not finite before any computation; look at the data")
            if not finite(call.output.data).all():
                of = next((f" with {names[id(x)]}" for x in call.inputs if id(x) in names), "")
                raise Error(f"training stopped at step {step}: the output of {call.function.__name__}{of}, "
                            f"shape {call.output.shape}, is not finite\n{advice}")
        for name, p in model.named_parameters():
            for what, array in (("gradient", p.grad), ("updated value", p.data)):
                if not finite(array).all():
                    raise Error(f"training stopped at step {step}: the {what} of {name} is not finite\n{advice}")
    raise Error(f"training stopped: at step {found} the loss or a weight was not finite, but not when the steps since "
                f"{last.step} were run again; is there randomness in the model that is not a function of model.clock?")


def evaluate(model: nn.Module, split: datasets.Split, batch_size: int = 500) -> float:
    """The share of images whose largest score is their label's, in percent. The model keeps its modes."""
    return Evaluation(model, split, batch_size)()


class Evaluation:
    """`evaluate` of one model on one split, as often as it is called; on a GPU a full batch is a captured graph."""

    def __init__(self, model: nn.Module, split: datasets.Split, batch_size: int = 500):
        if batch_size < 1:
            raise Error(f"evaluate: batch_size is {batch_size}, expected 1 or more")
        self.model, self.split, self.batch_size = model, split, min(batch_size, len(split))
        self.arrays: list = []

    def prepare(self, arrays: list) -> None:
        """Once, and again when the model lies elsewhere."""
        parameter = next(self.model.parameters())
        self.arrays, self.backend = arrays, parameter.backend
        self.kind = {"dtype": parameter.dtype, "device": parameter.device}
        self.correct = self.backend.xp.zeros((), np.int64)
        self.clock = self.backend.clock(Clock(0, 0, 0, self.batch_size))
        self.full_batch = self.backend.capture(
            lambda: self.score(*datasets.in_order(self.split, self.clock, self.backend)))

    def rest(self, start: int) -> None:
        """The last images, which fill no batch; a GPU that is asked once only records nothing."""
        self.score(*datasets.whole(self.split, start, len(self.split), self.backend))

    def score(self, images, labels) -> None:
        """Count the images that are recognised."""
        scores = self.model(Tensor(images, **self.kind)).data                                   # (n, K)
        self.correct += (scores.argmax(axis=1) == self.backend.asarray(labels)).sum()

    def __call__(self) -> float:
        arrays = [leaf.data for _, leaf in (*self.model.named_parameters(), *self.model.named_buffers())]
        if len(arrays) != len(self.arrays) or any(a is not b for a, b in zip(arrays, self.arrays)):
            self.prepare(arrays)
        self.correct.fill(0)
        full = len(self.split) // self.batch_size
        with self.model.evaluating(), tensor.no_grad():
            for batch in range(full):
                self.clock.step = batch
                self.full_batch()
            if full * self.batch_size < len(self.split):
                self.backend.capture(functools.partial(self.rest, full * self.batch_size))()
        return 100 * int(self.correct) / len(self.split)

    def steps(self) -> float:
        """The same, plainly: what calling it must equal."""
        return evaluate_steps(self.model, self.split, self.batch_size)


def evaluate_steps(model: nn.Module, split: datasets.Split, batch_size: int = 500) -> float:
    """The share of images whose largest score is their label's, in percent, batch by batch."""
    parameter, correct = next(model.parameters()), 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size, parameter.backend)
            scores = model(Tensor(images, dtype=parameter.dtype, device=parameter.device)).numpy()      # (n, K)
            correct += int((scores.argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
