"""Stochastic gradient descent on the flat vectors, and the learning-rate schedules.

A schedule is a function from a step to a rate: `schedule(step)` is the rate of the update from `step` to `step + 1`.
"""

import math
from collections.abc import Callable

from . import nn
from .errors import Error

Schedule = Callable[[int], float]


def step_decay(steps: int, base: float = 0.1, drops=(0.5, 0.75), factor: float = 0.1) -> Schedule:
    """`base`, times `factor` from each drop on; a drop at fraction f is the first step >= f * steps."""
    _check(steps, base)
    if any(not 0 <= f <= 1 for f in drops):
        raise Error(f"step_decay: drops are fractions of the run, expected 0 to 1, got {drops}")
    at = [math.ceil(f * steps - 1e-9) for f in drops]       # 0.07 * 100 is a little more than 7

    def rate(step: int) -> float:
        step = min(step, steps - 1)
        return base * factor ** sum(step >= drop for drop in at)
    return rate


def constant(rate: float) -> Schedule:
    """The same rate at every step."""
    return lambda step: rate


def linear(steps: int, base: float = 0.1, last: float = 0.01) -> Schedule:
    """A straight line from `base` down to `last` times it at the last step."""
    _check(steps, base)
    low = base * last

    def rate(step: int) -> float:
        step = min(step, steps - 1)
        return low + (base - low) * (1 - step / max(steps - 1, 1))
    return rate


def cosine(steps: int, base: float = 0.1, last: float = 0.01) -> Schedule:
    """Half a cosine from `base` down to `last` times it at the last step."""
    _check(steps, base)
    low = base * last

    def rate(step: int) -> float:
        step = min(step, steps - 1)
        return low + (base - low) * (1 + math.cos(math.pi * step / max(steps - 1, 1))) / 2
    return rate


def one_cycle(steps: int, base: float = 0.1, top: float = 0.3) -> Schedule:
    """Half a cosine up from a hundredth of `base`, which it reaches after the share `top` of the run, and half a cosine
    down to a hundredth again (Smith & Topin, 2018).
    """
    _check(steps, base)
    if not 0 <= top < 1:
        raise Error(f"one_cycle: top is a share of the run, expected 0 to below 1, got {top}")
    peak = max(round(top * steps) - 1, 0)
    up, down = cosine(peak + 1, base), cosine(steps - peak, base)
    return lambda step: up(peak - step) if step < peak else down(step - peak)


def warm_up(schedule: Schedule, steps: int) -> Schedule:
    """`schedule`, reached in a straight line over the first `steps` steps."""
    if steps < 0:
        raise Error(f"warm_up: expected a number of steps from 0, got {steps}")
    return lambda step: schedule(step) * min(1, (step + 1) / steps) if steps else schedule(step)


# What a recipe may name: each makes the schedule of a run of so many steps from this rate. The functions are looked up
# when they are called, so that a learner's own is found.
SCHEDULES: dict[str, Callable[[int, float], Schedule]] = {
    "step_decay": lambda steps, base: step_decay(steps, base),
    "constant": lambda steps, base: constant(base),
    "linear": lambda steps, base: linear(steps, base),
    "cosine": lambda steps, base: cosine(steps, base),
    "one_cycle": lambda steps, base: one_cycle(steps, base),
}


def _check(steps: int, base: float) -> None:
    if steps < 1 or not (base > 0 and math.isfinite(base)):
        raise Error(f"a schedule needs at least one step and a rate above 0, got {steps} steps and the rate {base}")


class SGD:
    """PyTorch's SGD over a model's flat vectors; pruned weights and their momentum stay exactly 0, and parameters whose
    requires_grad is False stay as they are.

        g = gradient + weight_decay * weight
        v = momentum * v + g
        weight -= rate * (g + momentum * v  if nesterov else  v)
    """

    def __init__(self, model: nn.Module, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 0.0):
        if not 0 <= momentum < 1 or weight_decay < 0 or (nesterov and momentum == 0):
            raise Error(f"SGD: expected 0 <= momentum < 1 (above 0 with nesterov) and weight_decay >= 0, "
                        f"got {momentum} and {weight_decay}")
        self.model, self.vectors = model, nn.pack(model)
        first = next(model.parameters())
        self.backend, self.device = first.backend, first.device
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        self.vectors.gradients.fill(0)

    def step(self, rate) -> None:
        """One update of all the weights, in one pass over the vectors."""
        for weights, gradients, momentum, mask in self.parts():
            self.backend.sgd(weights, gradients, momentum, mask, rate,
                             self.momentum, self.nesterov, self.weight_decay)
        self.vectors.step += 1

    def step_steps(self, rate) -> None:
        """The same update, step by step: what step must equal."""
        for weights, gradients, old_momentum, mask in self.parts():
            gradients = decayed(gradients, weights, self.weight_decay)
            momentum = momentum_step(old_momentum, gradients, self.momentum)
            direction = nesterov_step(momentum, gradients, self.momentum) if self.nesterov else momentum
            masked_step(weights, old_momentum, mask, momentum, direction, rate)
        self.vectors.step += 1

    def parts(self):
        """Weights, gradients, momentum and mask of each part of the vectors that is trained: mostly all in one."""
        v = self.vectors
        if self.model.vectors is not v:
            raise Error("SGD: the model was moved or converted after this optimiser was made, which still has the old "
                        "weights;\nmake the optimiser last: SGD(model.to(...))")
        for part in v.trained():
            yield v.weights[part], v.gradients[part], v.momentum[part], v.mask[part]


def decayed(gradients, weights, weight_decay):
    """The gradient of the loss plus weight_decay / 2 * the sum of the squared weights."""
    return gradients + weight_decay * weights


def momentum_step(momentum, gradients, factor):
    """Momentum: a running sum of gradients in which the older count less."""
    return factor * momentum + gradients


def nesterov_step(momentum, gradients, factor):
    """Nesterov's direction: the gradient, and a look ahead along the momentum."""
    return gradients + factor * momentum


def masked_step(weights, old_momentum, mask, momentum, direction, rate) -> None:
    """Move the weights against the direction, in place; what is pruned becomes exactly 0, weight and momentum."""
    old_momentum[...] = momentum
    weights -= rate * direction
    weights[~mask] = 0
    old_momentum[~mask] = 0
