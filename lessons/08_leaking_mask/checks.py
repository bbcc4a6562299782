"""Lesson 08: what must hold of counting and of masks that do not leak, and the wrong answers that are known."""

import dataclasses

import numpy as np

from minirewind import optim, prune
from minirewind.learn import Exercise
from minirewind.train import State

# -------------------------------------------------------------------------------------------------------- prune.density

density = Exercise("prune.density", hints=(
    "A network has 90 weights and 10 biases. The biases are never pruned. If 45 weights are left, what is the density?",
    "Look only at the places where prunable is True: mask[prunable]. How many of these are True, divided by how many\n"
    "there are? And there may be none at all.",
    "    return mask[prunable].sum() / prunable.sum() if prunable.any() else ...",
))

MASK = np.array([True, True, False, False, False, True, True])
PRUNABLE = np.array([True, True, True, True, True, False, False])       # two of five are left, and two biases


def share(mask, prunable):
    """The function's answer, a number."""
    mask, prunable = np.array(mask), np.array(prunable)
    before = mask.copy(), prunable.copy()
    with np.errstate(all="ignore"):
        got = prune.density(mask, prunable)
    assert got is not None, "nothing came back: did you forget the return?"
    assert np.array_equal(before, (mask, prunable)), (
        "counting has changed the mask: `mask &= ...` and `mask[...] = ...` write into the array that was handed to "
        "you, and that is the network's own. Whoever counts must not prune")
    assert np.ndim(got) == 0, f"expected one number, yours is an array of shape {np.shape(got)}"
    return float(got)


@density.check
def test_only_what_can_be_pruned_is_counted():
    got = share(MASK, PRUNABLE)
    assert not np.isclose(got, 4 / 7), (
        "you counted all parameters, 4 of 7. The last two cannot be pruned, and so they belong neither to what is kept "
        "nor to the whole: it is 2 of 5")
    assert not np.isclose(got, 4 / 5), (
        "you counted 4 of 5: the whole is right, but among those that are kept you counted biases, which cannot be "
        "pruned. Of the five that can, two are kept")
    assert not np.isclose(got, 3 / 5), "that is the share that is GONE; the density is the share that is left, 2 of 5"
    assert not np.isclose(got, 2 / 7), (
        "you counted 2 of 7: those that are kept are the right ones, but the whole holds biases too. It is a share of "
        "what CAN be pruned, 2 of 5")
    assert not np.isclose(got, 1 / 2), (
        "you counted 2 of 4: of those that are KEPT, two can be pruned. The other way round: of those that can be "
        "pruned, how many are kept? mask[prunable], not prunable[mask]")
    assert got != 1, (
        "you say that everything is there, and three of five are gone. len() counts places, whatever stands in them: "
        "in a sum True counts 1 and False 0, so mask[prunable].sum() counts those that are kept. And the answer 1 for "
        "a network of which nothing can be pruned is for that case only")
    assert got != 0, "2 // 5 is 0: in Python // throws away what stands behind the point. A share needs the simple /"
    assert got != 2, "2 is how many are kept; the density is their share, so divide by how many there could be"
    assert got != 40, "40 is percent; the density is a share, 0.4"
    assert got != 2.5, "2.5 is how many times fewer are left, the compression. The density is the share itself, 2 of 5"
    assert np.isclose(got, 0.4), f"five can be pruned, two of them are kept: the density is 0.4; you say {got:g}"


@density.check
def test_nothing_pruned_is_one_and_nothing_left_is_zero():
    got = share([True] * 7, PRUNABLE)
    assert got == 1, f"everything is there: the density is 1, you say {got:g}"
    got = share(~PRUNABLE, PRUNABLE)
    assert got == 0, f"of the prunable ones nothing is left: the density is 0, you say {got:g}"


@density.check
def test_a_network_without_prunable_weights_is_whole():
    try:
        got = share([True, True], [False, False])
    except ZeroDivisionError as reason:
        raise AssertionError("nothing here can be pruned, and you divided by that nothing, 0. The density is 1 then: "
                             "nothing was pruned") from reason
    assert not np.isnan(got), "nothing here can be pruned, and you divided 0 by 0, which is no number: it is 1 then"
    assert got == 1, f"nothing here can be pruned, so nothing was: the density is 1, you say {got:g}"
    got = share([True, False], [False, False])
    assert got == 1, (
        f"nothing here can be pruned, whatever the mask says, so the density is 1; you say {got:g}. Ask prunable.any()")


@density.check
def test_it_counts_exactly():
    mask, prunable = np.arange(30_000) % 7 == 0, np.arange(30_000) % 3 != 0
    assert share(mask, prunable) == (mask & prunable).sum() / prunable.sum(), (
        f"{(mask & prunable).sum()} of {prunable.sum()} prunable weights are kept; you say {share(mask, prunable)}")


density.wrong("""
def density(mask, prunable):
    return mask.mean()
""", says="you counted all parameters")
density.wrong("""
def density(mask, prunable):
    return mask.sum() / prunable.sum() if prunable.any() else 1.0
""", says="you counted biases")
density.wrong("""
def density(mask, prunable):
    return (mask & prunable).sum() / len(mask)
""", says="the whole holds biases too")
density.wrong("""
def density(mask, prunable):
    return len(mask[prunable]) / prunable.sum() if prunable.any() else 1.0
""", says="len() counts places")
density.wrong("""
def density(mask, prunable):
    return 100 * mask[prunable].mean() if prunable.any() else 1.0
""", says="40 is percent")
density.wrong("""
def density(mask, prunable):
    return prunable.sum() / mask[prunable].sum()
""", says="the compression")
density.wrong("""
def density(mask, prunable):
    return 1 - mask[prunable].sum() / prunable.sum() if prunable.any() else 1.0
""", says="that is GONE")
density.wrong("""
def density(mask, prunable):
    return mask[prunable].sum() / prunable.sum()
""", says="divided 0 by 0")
density.wrong("""
def density(mask, prunable):
    return int(mask[prunable].sum()) / int(prunable.sum())
""", says="divided by that nothing")
density.wrong("""
def density(mask, prunable):
    mask &= prunable
    return mask.sum() / prunable.sum() if prunable.any() else 1.0
""", says="Whoever counts must not prune")
density.wrong("""
def density(mask, prunable):
    return 1.0 if mask.all() else mask[prunable].sum() / prunable.sum()
""", says="whatever the mask says")
density.wrong("""
def density(mask, prunable):
    return prunable[mask].mean()
""", says="of those that are KEPT, two can be pruned")
density.wrong("""
def density(mask, prunable):
    return mask[prunable].sum() // prunable.sum() if prunable.any() else 1.0
""", says="throws away what stands behind the point")
density.wrong("""
def density(mask, prunable):
    return mask[prunable].sum() if prunable.any() else 1.0
""", says="2 is how many are kept")
density.wrong("""
def density(mask, prunable):
    return mask[prunable].sum() / prunable.sum() if prunable.all() else 1.0
""", says="is for that case only")


# ---------------------------------------------------------------------------------------------------- optim.masked_step

step = Exercise("optim.masked_step", hints=(
    "After the update, which numbers must be exactly 0? There are two vectors with a place for every weight.",
    "Move first, as if there were no mask, then set what is pruned to 0, in the weights and in the momentum. All\n"
    "of it in place: `weights = weights - ...` makes a new array that nobody else sees.",
    """
    old_momentum[...] = ...
    weights -= ...
    weights[~mask] = ...
    old_momentum[~mask] = ...
    """))


def stepped(direction=(1.0, 2.0, 3.0, 4.0), momentum=(20.0, 30.0, 40.0, 60.0), weights=(1.0, 1.0, 0.0, 1.0), rate=0.1):
    """Weights and momentum after a step; the third is pruned."""
    weights, old = np.array(weights), np.array([5.0, 5.0, 0.0, 5.0])
    mask = np.array([True, True, False, True])
    momentum = np.array(momentum)
    direction = momentum if direction is None else np.array(direction)
    with np.errstate(all="ignore"):
        optim.masked_step(weights, old, mask, momentum, direction, rate)
    assert mask.tolist() == [True, True, False, True], "you changed the mask; a step moves weights only"
    return weights, old


@step.check
def test_what_is_kept_moves_against_the_direction():
    weights, _ = stepped()
    assert not np.array_equal(weights, [1, 1, 0, 1]), (
        "the weights have not moved: `weights = weights - ...` makes a new array, and the network keeps the old one. "
        "Change it in place: weights -= ...")
    assert not np.allclose(weights[[0, 1]], [1.1, 1.2]), "the weights went WITH the direction: loss goes up; use -="
    assert not np.allclose(weights[[0, 1]], [0, -1]), (
        "the weights went the whole direction, ten times too far: the step is `rate` times that")
    assert not (weights[[0, 1, 3]] == 0).all(), (
        "the weights that are KEPT are 0 now: the mask is the wrong way round. It is True where a weight is kept, and "
        "~mask is True where it is pruned")
    assert not np.allclose(weights[[0, 1]], [0.5, 0.5]), (
        "the weights went along the OLD momentum, that of the step before: the new way to go is `direction`")
    assert not np.allclose(weights[[0, 1]], [-1, -2]), (
        "the weights went along the momentum. With Nesterov's look ahead the direction is another one: use `direction`")
    assert np.allclose(weights[[0, 1, 3]], [0.9, 0.8, 0.6]), (
        f"weights 1, 1, 1, directions 1, 2, 4 and a rate of 0.1 give 0.9, 0.8, 0.6; yours are {weights[[0, 1, 3]]}")
    weights, _ = stepped(rate=0.5)
    assert np.allclose(weights[[0, 1, 3]], [0.5, 0, -1]), (
        f"now the rate is 0.5, and the weights become 0.5, 0, -1; yours are {weights[[0, 1, 3]]}. The rate falls "
        f"while the network is trained, so use the one that is handed to you")


@step.check
def test_a_pruned_weight_is_exactly_zero_after_the_step():
    weights, _ = stepped()
    assert weights[2] == 0, (
        f"the third weight is pruned, and your step has revived it: it is {weights[2]:g}. A gradient or a momentum "
        f"that is not 0 moves every weight, so the mask must be applied AFTER the update")
    weights, _ = stepped(weights=(1.0, 1.0, 7.0, 1.0))
    assert weights[2] == 0, (
        f"the third weight is pruned but was not 0 yet, and after your step it is {weights[2]:g}: it is not enough to "
        f"stop its movement (gradient or direction times mask), it must be SET to 0")


@step.check
def test_the_momentum_of_a_pruned_weight_is_exactly_zero_too():
    _, momentum = stepped()
    assert not np.array_equal(momentum, [5, 5, 0, 5]), (
        "the momentum has not changed: the new one must be put into old_momentum, in place (old_momentum[...] = ...)")
    assert momentum[2] == 0, (
        f"the weight is 0, but its momentum is alive, {momentum[2]:g}: it waits behind the door, and moves the weight "
        f"as soon as the mask is off. Set it to 0, too")
    assert momentum.any(), (
        "all the momentum is gone, also that of the weights that are kept: the next step would begin as if there had "
        "been none. The new one goes into old_momentum, and only what is pruned becomes 0")
    assert not np.array_equal(momentum, [1, 2, 0, 4]), (
        "the direction is in the place of the momentum. It is where the weights go in this step; what is carried on to "
        "the next step is `momentum`")
    assert not np.allclose(momentum, [2, 3, 0, 6]), (
        "the new momentum came out ten times too small: the rate is for the weights, the momentum is kept as it is")
    assert not any(np.allclose(momentum[[0, 1]], more) for more in ([25, 35], [24.5, 34.5])), (
        "you added the old momentum once more. `momentum` is the new one already, complete: put it in the old one's "
        "place")
    assert np.array_equal(momentum, [20, 30, 0, 60]), f"expected the new momentum, 20, 30, 0, 60; yours is {momentum}"


@step.check
def test_momentum_and_direction_may_be_one_array():
    weights, momentum = stepped(direction=None, momentum=(1.0, 2.0, 3.0, 4.0))
    assert np.array_equal(momentum, [1, 2, 0, 4]), (
        f"you changed `direction` on the way. Without Nesterov it IS the momentum, one array under two names, and so "
        f"the momentum was changed with it: expected 1, 2, 0, 4, yours {momentum}. Only weights and old_momentum are "
        f"yours to write into")
    assert np.allclose(weights, [0.9, 0.8, 0, 0.6]), (
        f"where direction and momentum are one array, 1, 2, 3, 4, the weights become 0.9, 0.8, 0, 0.6; yours {weights}")


@step.check
def test_nothing_gets_through_the_mask():
    weights, momentum = stepped(direction=(1.0, 2.0, np.nan, 4.0), momentum=(1.0, 2.0, np.inf, 4.0))
    assert weights[2] == 0, (
        "the direction of a pruned weight was NaN, and now the weight is: 0 times NaN is NaN. Do not multiply by the "
        "mask, set: weights[~mask] = 0")
    assert momentum[2] == 0, (
        "the momentum of a pruned weight was infinite, and times 0 that is NaN: set it, old_momentum[~mask] = 0")


step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= rate * direction
""", says="applied AFTER the update")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= rate * direction * mask
    old_momentum[~mask] = 0
""", says="must be SET to 0")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= rate * direction
    weights[~mask] = 0
""", says="its momentum is alive")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum * mask
    weights = (weights - rate * direction) * mask
""", says="the network keeps the old one")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= rate * direction
    weights *= mask
    old_momentum *= mask
""", says="0 times NaN")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= direction
    weights[~mask] = 0
    old_momentum[~mask] = 0
""", says="ten times too far")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= rate * direction
    weights[mask] = 0
    old_momentum[mask] = 0
""", says="the wrong way round")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    weights -= rate * old_momentum
    old_momentum[...] = momentum
    weights[~mask] = 0
    old_momentum[~mask] = 0
""", says="along the OLD momentum")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum += momentum
    weights -= rate * direction
    weights[~mask] = 0
    old_momentum[~mask] = 0
""", says="the new one already, complete")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= rate * momentum
    weights[~mask] = 0
    old_momentum[~mask] = 0
""", says="another one: use `direction`")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    direction *= rate
    old_momentum[...] = momentum
    weights -= direction
    weights[~mask] = 0
    old_momentum[~mask] = 0
""", says="one array under two names")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= rate * direction
    weights[not mask] = 0
    old_momentum[not mask] = 0
""", says="~mask turns every entry")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = momentum
    weights -= 0.1 * direction
    weights[~mask] = 0
    old_momentum[~mask] = 0
""", says="use the one that is handed to you")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = 0
    weights -= rate * direction
    weights[~mask] = 0
""", says="all the momentum is gone")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = direction
    weights -= rate * direction
    weights[~mask] = 0
    old_momentum[~mask] = 0
""", says="in the place of the momentum")
step.wrong("""
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    old_momentum[...] = rate * momentum
    weights -= rate * direction
    weights[~mask] = 0
    old_momentum[~mask] = 0
""", says="the rate is for the weights")


# --------------------------------------------------------------------------------------------------- train.State.masked

masked = Exercise("train.State.masked", hints=(
    "Of the five things that a state carries: which are new in the new state, and which are copied from the old one?\n"
    "Who else still needs the old one?",
    "Copy weights and momentum, set what the NEW mask prunes to 0 in both copies, and make a state of them, with the\n"
    "new mask and the new step.",
    """
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(..., weights, momentum, ..., ...)
    """))

NEW = np.array([True, False, True])


def dense():
    """A state of three weights, nothing pruned, at step 100."""
    return State(100, np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]), np.ones(3, bool), np.array([7.0]))


def under(state, mask, step=40):
    """The new state."""
    try:
        new = state.masked(mask, step)
    except dataclasses.FrozenInstanceError as reason:
        raise AssertionError("a State is never changed, and Python would not let you set one of its parts. Make a new "
                             "one: State(step, weights, momentum, mask, statistics)") from reason
    assert new is not None, "nothing came back: return the new state"
    assert isinstance(new, State), f"expected a State, yours is a {type(new).__name__}: State(step, weights, ...)"
    assert (np.ndim(new.step), np.ndim(new.statistics)) == (0, 1), (
        "the five things stand in another order: State(step, weights, momentum, mask, statistics)")
    assert len(new.weights) == len(new.momentum) == len(mask), (
        f"of {len(mask)} weights the new state has {len(new.weights)}: you cut out those that are kept. A mask cuts "
        f"nothing out, every weight keeps its place, and the pruned ones are 0")
    return new


@masked.check
def test_the_old_state_stays_as_it_was():
    old = dense()
    new = under(old, NEW)
    assert np.array_equal(old.weights, [1, 2, 3]), (
        "the old state has lost a weight: you wrote into ITS array. Three techniques will begin with this state: copy "
        "first, then write")
    assert np.allclose(old.momentum, [0.1, 0.2, 0.3]), "the old state's momentum was changed: copy it first, then write"
    new.statistics[...] = 0
    assert old.statistics[0] == 7, (
        "the new state and the old one share their statistics: writing into one changes the other. Copy it, too")


@masked.check
def test_the_new_mask_is_applied_to_weights_and_momentum():
    new = under(dense(), NEW)
    assert not np.array_equal(new.mask, [True] * 3), (
        "the new state carries its old mask, from the time when nothing was pruned. The one handed over counts")
    assert not np.array_equal(new.mask, ~NEW), (
        "the weights are masked, but the mask that the new state carries is the wrong way round: True is what is kept")
    assert np.array_equal(new.mask, NEW), f"the mask of the new state must be {NEW.tolist()}, yours is {new.mask}"
    assert not np.array_equal(new.weights, [0, 2, 0]), (
        "the second weight is pruned, and it is the only one that is left: the mask is the wrong way round. What is "
        "pruned is ~mask")
    assert new.weights[1] == 0, (
        f"the mask says that the second weight is pruned, but the weight is still {new.weights[1]:g}: a mask that is "
        f"only carried along prunes nothing")
    assert np.array_equal(new.weights, [1, 0, 3]), f"expected the weights 1, 0, 3, yours are {new.weights}"
    assert new.momentum[1] == 0, (
        f"the second weight is 0, but its momentum is {new.momentum[1]:g}: the first step would push it on. The mask "
        f"is for the momentum as well")
    assert new.momentum.any(), (
        "all the momentum is gone: only what is pruned loses it. Whether a technique begins without momentum is its "
        "own affair")
    assert np.allclose(new.momentum, [0.1, 0, 0.3]), f"expected the momentum 0.1, 0, 0.3, yours is {new.momentum}"


@masked.check
def test_only_the_new_mask_counts():
    old = State(1, np.array([1.0, 2.0, 0.0]), np.array([1.0, 2.0, 0.0]), np.array([True, True, False]), np.zeros(0))
    mask = NEW.copy()
    new = under(old, mask)
    assert np.array_equal(mask, NEW), (
        "you changed the mask that was handed to you (`&=` writes into it), and three techniques share it")
    assert np.array_equal(new.mask, NEW), (
        "you joined the new mask to the old one. The one that is handed over counts alone: there are ways of pruning "
        "that bring a weight back, and whether they may is theirs to say")


@masked.check
def test_the_mask_belongs_to_the_one_who_gave_it():
    mask = NEW.copy()
    new = under(dense(), mask)
    mask[...] = True
    assert np.array_equal(new.mask, NEW), (
        "the caller changed its own mask afterwards, and the state's mask changed with it: they are one array. Copy it")


@masked.check
def test_step_and_statistics_are_right():
    new = under(dense(), NEW)
    assert new.step != 100, "the new state is still at step 100; it shall be at the step that was asked for, 40"
    assert new.step != 140, "you added the steps, 100 and 40; `step` is the number that the new state shall have"
    assert new.step == 40, f"step 40 was asked for, yours is at step {new.step}"
    assert np.array_equal(new.statistics, [7]), "the statistics go along as they are; no mask is for them"


@masked.check
def test_what_is_pruned_is_zero_whatever_it_was():
    broken = State(1, np.array([1.0, np.nan, 3.0]), np.array([1.0, np.inf, 3.0]), np.ones(3, bool), np.zeros(0))
    with np.errstate(all="ignore"):
        new = under(broken, NEW)
    assert new.weights[1] == 0, "the pruned weight was NaN, and 0 times NaN is NaN: set it to 0, do not multiply"
    assert new.momentum[1] == 0, "the pruned momentum was infinite, and 0 times that is NaN: set it, do not multiply"


@masked.check
def test_a_mask_that_prunes_nothing_makes_a_new_state_too():
    old, everything = dense(), np.ones(3, bool)
    new = under(old, everything)
    assert new.step == 40, (
        f"nothing is pruned, but the step was to be 40, and yours is {new.step}. Learning-rate rewinding of a dense "
        f"network needs just that: the same weights at another step")
    new.weights[...] = new.momentum[...] = 5
    assert np.array_equal(old.weights, [1, 2, 3]), (
        "where nothing is pruned the new state and the old one share their weights: writing into one changes the other")


@masked.check
def test_what_the_old_mask_pruned_is_not_trusted():
    leaked = State(1, np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), np.zeros(0))
    new = under(leaked, NEW)
    assert new.weights[1] == new.momentum[1] == 0, (
        "the second weight was pruned by the old mask already, but somebody had not applied it, and what it hid is "
        "alive in your state. Do not ask what the old mask says: set to 0 whatever the new one prunes")


@masked.check
def test_the_numbers_keep_their_type():
    old = State(1, np.ones(3, np.float32), np.ones(3, np.float32), np.ones(3, bool), np.zeros(0, np.float32))
    new = under(old, NEW)
    assert new.weights.dtype == new.momentum.dtype == np.float32, (
        f"the weights were float32, and yours are {new.weights.dtype}: all of training would go on in another "
        f"precision. array.copy() keeps the type")


masked.wrong("""
def masked(self, mask, step):
    return State(step, self.weights.copy(), self.momentum.copy(), mask.copy(), self.statistics.copy())
""", says="prunes nothing")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(step, weights, momentum, self.mask.copy(), self.statistics.copy())
""", says="carries its old mask")
masked.wrong("""
def masked(self, mask, step):
    weights = self.weights.copy()
    weights[~mask] = 0
    return State(step, weights, self.momentum.copy(), mask.copy(), self.statistics.copy())
""", says="the first step would push it on")
masked.wrong("""
def masked(self, mask, step):
    self.mask = mask
    return self
""", says="a State is never changed")
masked.wrong("""
def masked(self, mask, step):
    self.weights[~mask] = 0
    self.momentum[~mask] = 0
    return State(step, self.weights, self.momentum, mask.copy(), self.statistics.copy())
""", says="you wrote into ITS array")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(step, weights, momentum, mask, self.statistics.copy())
""", says="they are one array")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[mask] = 0
    momentum[mask] = 0
    return State(step, weights, momentum, mask.copy(), self.statistics.copy())
""", says="the wrong way round")
masked.wrong("""
def masked(self, mask, step):
    return State(step, self.weights[mask], self.momentum[mask], mask.copy(), self.statistics.copy())
""", says="A mask cuts nothing out")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(step, weights, momentum, mask & self.mask, self.statistics.copy())
""", says="counts alone")
masked.wrong("""
def masked(self, mask, step):
    return State(step, self.weights * mask, self.momentum * mask, mask.copy(), self.statistics.copy())
""", says="0 times NaN is NaN: set it")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(self.step, weights, momentum, mask.copy(), self.statistics.copy())
""", says="still at step 100")
masked.wrong("""
def masked(self, mask, step):
    mask &= self.mask
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(step, weights, momentum, mask.copy(), self.statistics.copy())
""", says="three techniques share it")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(weights, momentum, mask.copy(), self.statistics.copy(), step)
""", says="stand in another order")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(step, weights, momentum, ~mask, self.statistics.copy())
""", says="the mask that the new state carries")
masked.wrong("""
def masked(self, mask, step):
    weights = self.weights.copy()
    weights[~mask] = 0
    return State(step, weights, np.zeros_like(self.momentum), mask.copy(), self.statistics.copy())
""", says="all the momentum is gone")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = np.where(mask, self.weights, 0), np.where(mask, self.momentum, 0)
    return State(step, weights, momentum, mask.copy(), self.statistics)
""", says="share their statistics")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(self.step + step, weights, momentum, mask.copy(), self.statistics.copy())
""", says="you added the steps")
masked.wrong("""
def masked(self, mask, step):
    if mask.all():
        return self
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(step, weights, momentum, mask.copy(), self.statistics.copy())
""", says="the same weights at another step")
masked.wrong("""
def masked(self, mask, step):
    if mask.all():
        return State(step, self.weights, self.momentum, mask.copy(), self.statistics.copy())
    weights, momentum = self.weights.copy(), self.momentum.copy()
    weights[~mask] = 0
    momentum[~mask] = 0
    return State(step, weights, momentum, mask.copy(), self.statistics.copy())
""", says="where nothing is pruned the new state")
masked.wrong("""
def masked(self, mask, step):
    weights, momentum = self.weights.copy(), self.momentum.copy()
    gone = self.mask & ~mask
    weights[gone] = 0
    momentum[gone] = 0
    return State(step, weights, momentum, mask.copy(), self.statistics.copy())
""", says="Do not ask what the old mask says")
masked.wrong("""
def masked(self, mask, step):
    weights = np.array([weight if kept else 0.0 for weight, kept in zip(self.weights.tolist(), mask)])
    momentum = np.array([value if kept else 0.0 for value, kept in zip(self.momentum.tolist(), mask)])
    return State(step, weights, momentum, mask.copy(), self.statistics.copy())
""", says="in another precision")
