"""Lesson 05: what must hold of a step, of the row of weights and of the schedule, and the known wrong answers."""

import numpy as np

from minirewind import nn, optim
from minirewind.learn import Exercise

# ------------------------------------------------------------------------------------------------- optim.momentum_step

momentum = Exercise("optim.momentum_step", hints=(
    "The ball moves with 10 and the slope pushes with 1. It keeps nine tenths of its own movement. How does it move\n"
    "then?",
    "The new momentum is factor times the old one, plus the gradients, as they are. No learning rate, and no 1 - "
    "factor.",
    "    return factor * ... + ...",
))


def after(old, gradients, factor=0.9):
    """The new momentum; nothing back, or arrays changed in place, are a message."""
    old, gradients = np.array(old), np.array(gradients)
    before = old.copy(), gradients.copy()
    new = optim.momentum_step(old, gradients, factor)
    assert new is not None, "nothing came back: did you forget the return?"
    assert np.array_equal(gradients, before[1]), "you changed the gradients; make a new array"
    assert np.array_equal(old, before[0]), (
        "you changed the old momentum in place. Make a new array: what becomes of the old one is decided elsewhere, "
        "where pruned weights are kept at zero")
    assert isinstance(new, np.ndarray), (
        f"expected an array, and yours is a {type(new).__name__}. Arrays are multiplied and added whole, without a "
        f"loop: factor * momentum")
    assert new.shape == old.shape, f"every weight has a momentum: expected {old.shape}, yours has the shape {new.shape}"
    return new


@momentum.check
def test_a_tenth_of_the_movement_is_lost_and_the_gradient_is_added():
    got = after([10.0, 0.0, -2.0], [1.0, 5.0, 0.0]).tolist()
    assert got != [10 * 0.9 - 1, -5, -1.8], (
        "you subtracted the gradient. The minus comes once, in the step: weight - rate * momentum. A second minus here "
        "would send the ball uphill")
    assert not np.allclose(got, [9.1, 0.5, -1.8]), (
        "you added only a tenth of the gradient (1 - factor): an average in place of a sum. Some programs do that, and "
        "need a rate ten times as large. Here, as in the paper, the gradient counts in full")
    assert not np.allclose(got, [11, 5, -2]), (
        "the factor is missing: nothing of the old movement is ever lost, and the ball would never come to rest")
    assert not np.allclose(got, [2, 5, -0.2]), (
        "only a tenth of the old movement is left: the factor is what is KEPT of it, not what is lost")
    assert not np.allclose(got, [11 * 0.9, 4.5, -1.8]), (
        "you multiplied the sum by the factor: the new gradient has just come, and counts in full")
    assert not np.allclose(got, [10.9, 4.5, -2]), "you gave the factor to the gradient. It belongs to the OLD momentum"
    assert np.allclose(got, [10, 5, -1.8]), f"0.9 * [10, 0, -2] + [1, 5, 0] is [10, 5, -1.8], yours is {got}"


@momentum.check
def test_older_gradients_count_less_and_less():
    v = np.zeros(1)
    for gradient in (1.0, 0.0, 0.0):
        v = after(v, [gradient], 0.5)
    assert not np.isclose(v[0], 0.81), "you took 0.9, whatever the factor says; here it is 0.5"
    assert np.isclose(v[0], 0.25), f"with the factor 0.5 a gradient of 1 counts 0.25 two steps later, yours: {v[0]:g}"


@momentum.check
def test_without_a_factor_it_is_the_gradient():
    got = after([3.0, -4.0], [1.0, 2.0], 0.0).tolist()
    assert got == [1, 2], f"with the factor 0 nothing of the old movement is kept: expected [1, 2], yours is {got}"


momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return factor * momentum + (1 - factor) * gradients
""", says="an average in place of a sum")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return momentum + gradients
""", says="the factor is missing")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return (1 - factor) * momentum + gradients
""", says="the factor is what is KEPT")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return 0.9 * momentum + gradients
""", says="whatever the factor says")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return factor * momentum - gradients
""", says="send the ball uphill")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    momentum *= factor
    momentum += gradients
    return momentum
""", says="you changed the old momentum in place")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return factor * (momentum + gradients)
""", says="the new gradient has just come")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return [factor * m + g for m, g in zip(momentum, gradients)]
""", says="multiplied and added whole")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return (factor * momentum + gradients).sum()
""", says="expected an array")
momentum.wrong("""
def momentum_step(momentum, gradients, factor):
    return momentum + factor * gradients
""", says="It belongs to the OLD momentum")


# ------------------------------------------------------------------------------------------------- optim.nesterov_step

nesterov = Exercise("optim.nesterov_step", hints=(
    "The ball's momentum is 10, and it will move on by nine tenths of that in any case. If it steps as if it were\n"
    "there already, how far is that?",
    "The gradient, in full, plus factor times the momentum. The momentum that you are given is the new one: it has\n"
    "the gradient in it already, and that is meant so.",
    "    return gradients + ... * ...",
))


@nesterov.check
def test_it_is_the_gradient_and_a_look_ahead():
    momentum, gradients = np.array([10.0, -2.0]), np.array([1.0, 4.0])
    got = optim.nesterov_step(momentum, gradients, 0.5)
    assert got is not None, "nothing came back: did you forget the return?"
    assert momentum.tolist() == [10, -2] and gradients.tolist() == [1, 4], (        # noqa: PT018
        "you changed the momentum or the gradients in place. The momentum goes on to the next step as it is: make a "
        "new array")
    assert isinstance(got, np.ndarray), (
        f"expected an array, and yours is a {type(got).__name__}. Arrays are multiplied and added whole, without a "
        f"loop")
    got = got.tolist()
    assert got != [1, 4], "this is the gradient alone, and the ball has no momentum any more"
    assert got != [4, 5.5], (
        "you put the gradient into the momentum once more. The momentum that you are given is the NEW one: this "
        "gradient is in it already")
    assert got != [5.5, 1], "the factor belongs to the momentum alone; the gradient counts in full, once"
    assert got != [10, -2], "this is the momentum itself, without a look ahead: plain momentum"
    assert got != [11, 2], (
        "gradient and momentum are added in full. Ahead is where the NEXT step would carry the ball, and by then it "
        "has lost a part of its movement: factor times the momentum")
    assert got != [10.5, 0], "the factor is at the wrong place: it belongs to the momentum, the gradient counts in full"
    assert got != [-4, 5], (
        "you subtracted the momentum. Gradient and momentum point the same way, uphill; the minus comes in the step")
    assert got != [5, -1], "the gradient is missing: this is only where the ball would roll by itself"
    assert got == [6, 3], f"for momentum [10, -2], gradient [1, 4] and factor 0.5 expected [6, 3], yours is {got}"


@nesterov.check
def test_it_equals_a_ball_whose_slope_is_felt_ahead():
    """The textbook's form, with the gradient taken at the place ahead, walks through the same places ahead."""
    def slope(x):
        return 2 * x - 6

    x, v, rate, factor = np.array([1.0]), np.array([0.0]), 0.1, 0.8
    plain, push = x.copy(), v.copy()
    for _ in range(5):
        v = factor * v + slope(x)
        step = optim.nesterov_step(v, slope(x), factor)
        assert step is not None, "nothing came back: did you forget the return?"
        x = x - rate * step
        push = factor * push + slope(plain - rate * factor * push)
        plain = plain - rate * push
    ahead = plain - rate * factor * push
    assert np.allclose(x, ahead), (
        f"a ball that feels the slope at the place where it is about to be is at {ahead[0]:.5f} after 5 steps (looking "
        f"ahead), yours at {x[0]:.5f}: the momentum handed over is the NEW one, with this gradient in it already")


nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    return momentum
""", says="without a look ahead")
nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    momentum *= factor
    momentum += gradients
    return momentum
""", says="goes on to the next step as it is")
nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    return gradients - factor * momentum
""", says="you subtracted the momentum")
nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    return gradients + momentum
""", says="gradient and momentum are added in full")
nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    return factor * momentum
""", says="the gradient is missing")
nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    return factor * (factor * momentum + gradients) + gradients
""", says="put the gradient into the momentum once more")
nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    return factor * (gradients + momentum)
""", says="belongs to the momentum alone")
nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    return gradients
""", says="the ball has no momentum any more")
nesterov.wrong("""
def nesterov_step(momentum, gradients, factor):
    return gradients + 0.9 * momentum
""", says="expected [6, 3]")


# ------------------------------------------------------------------------------------------------------------ nn.views

look = Exercise("nn.views", hints=(
    "The shapes are (2, 3) and (4,). The first array looks at places 0 to 5. Where does the second one begin?",
    "Keep a number, start. For each shape: stop = start + math.prod(shape), take vector[start:stop], give it the\n"
    "shape with reshape, and go on from stop. A slice is a view, and reshape of it too.",
    """
    result, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        result.append(vector[start:stop].reshape(...))
        start = ...
    return result
    """))


def views_of(vector, shapes):
    """The list of arrays; anything else, and shapes that do not fit, are a message."""
    try:
        got = nn.views(vector, shapes)
    except ValueError as reason:
        raise AssertionError(f"a part of the row does not fit its shape: {reason}. A shape (2, 3) takes 2 * 3 numbers, "
                             f"math.prod(shape), and the next begins right behind them") from reason
    except TypeError as reason:
        if "slice indices" not in str(reason):
            raise
        raise AssertionError("a place in the row is a whole number. A shape () is one number, and of it np.prod makes "
                             "1.0; math.prod makes 1") from reason
    except IndexError as reason:
        raise AssertionError("a shape may have one number, or four, or none at all. math.prod(shape) takes them all; "
                             "shape[0] * shape[1] is for tables only") from reason
    assert got is not None, "nothing came back: did you forget the return?"
    assert isinstance(got, (list, tuple)), f"expected a list of arrays, and yours is a {type(got).__name__}"
    assert len(got) == len(shapes), f"for {len(shapes)} shapes expected as many arrays, yours are {len(got)}"
    for array, shape in zip(got, shapes):
        assert np.shape(array) == shape, f"an array of shape {shape} was asked for, yours has {np.shape(array)}"
    return got


@look.check
def test_each_looks_at_the_part_after_the_one_before():
    first, second = views_of(np.arange(10.0), [(2, 3), (4,)])
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]], (
        f"(2, 3) looks at the first six numbers, yours sees {first.tolist()}")
    assert second.tolist() != [0, 1, 2, 3], (
        "the second array begins at 0 again, and so two layers share the same weights: go on where the one before "
        "ended")
    assert second.tolist() == [6, 7, 8, 9], f"the second begins where the first ended, at 6; yours is {second.tolist()}"
    third = views_of(np.arange(12.0), [(2, 3), (4,), (2,)])[2].tolist()
    assert third != [4, 5], (
        "the third array begins where the SECOND one's length says, at 4: you forgot the first. Go on from stop, which "
        "has all before it in it")
    assert third == [10, 11], f"for (2, 3), (4,) and (2,) the third begins at 10; yours is {third}"


@look.check
def test_who_changes_the_row_changes_the_arrays():
    vector = np.zeros(10)
    first, second = views_of(vector, [(2, 3), (4,)])
    vector[...] = 7
    assert (first == 7).all() and (second == 7).all(), (        # noqa: PT018
        "the row was filled with 7, and your arrays still hold 0: they are copies. A step on the row would never reach "
        "the layers. A slice is a view; flatten, np.array and list make copies")
    first[1, 2] = -1
    assert vector[5] == -1, "a change of the array must be a change of the row; yours has memory of its own"


@look.check
def test_a_single_number_and_four_dimensions_fit_in_too():
    vector = np.arange(25.0)
    number, filters = views_of(vector, [(), (2, 1, 3, 4)])
    assert number == 0, f"a shape () is one number, the first; yours is {number}"
    assert filters[0, 0, 0, 0] == 1, "a shape () takes one place, so the filters begin at 1"
    vector[0] = -1
    assert number == -1, (
        "vector[start] is a copy of one number, and does not follow the row. A slice and its reshape are a view for "
        "every shape, () too")
    assert filters[1, 0, 2, 3] == 24, "the last place of a row of 25 is seen by the last filter"


look.wrong("""
def views(vector, shapes):
    result, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        result.append(np.array(vector[start:stop]).reshape(shape))
        start = stop
    return result
""", says="they are copies")
look.wrong("""
def views(vector, shapes):
    result, start = [], 0
    for shape in shapes:
        stop = start + shape[0] * shape[1]
        result.append(vector[start:stop].reshape(shape))
        start = stop
    return result
""", says="is for tables only")
look.wrong("""
def views(vector, shapes):
    result, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        result.append(vector[start:stop].reshape(shape))
        start = math.prod(shape)
    return result
""", says="you forgot the first")
look.wrong("""
def views(vector, shapes):
    result, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        result.append(vector[start:stop].reshape(shape) if shape else vector[start])
        start = stop
    return result
""", says="a copy of one number")
look.wrong("""
def views(vector, shapes):
    result, start = [], 0
    for shape in shapes:
        stop = start + np.prod(shape)
        result.append(vector[start:stop].reshape(shape))
        start = stop
    return result
""", says="of it np.prod makes 1.0")
look.wrong("""
def views(vector, shapes):
    start = 0
    for shape in shapes:
        yield vector[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
""", says="expected a list of arrays")
look.wrong("""
def views(vector, shapes):
    return [vector[: math.prod(shape)].reshape(shape) for shape in shapes]
""", says="two layers share the same weights")
look.wrong("""
def views(vector, shapes):
    result, start = [], 0
    for shape in shapes:
        result.append(vector[start : start + len(shape)].reshape(shape))
        start += len(shape)
    return result
""", says="does not fit its shape")
look.wrong("""
def views(vector, shapes):
    result, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        result.append(vector[start:stop])
        start = stop
    return result
""", says="an array of shape (2, 3) was asked for")


# ------------------------------------------------------------------------------------------------------- optim.decayed

decay = Exercise("optim.decayed", hints=(
    "w is 3. By how much does half of w squared rise, if w rises by a little h? And if w is -3?",
    "The slope of w * w / 2 is w. So each gradient grows by weight_decay times its own weight, with the weight's\n"
    "sign: the step subtracts it, and that is towards zero from either side.",
    "    return gradients + ... * weights",
))


@decay.check
def test_a_large_weight_is_pulled_harder_from_either_side():
    gradients, weights = np.array([1.0, 0.0, 0.0]), np.array([0.0, 4.0, -2.0])
    got = optim.decayed(gradients, weights, 0.5)
    assert got is not None, "nothing came back: did you forget the return?"
    assert gradients.tolist() == [1, 0, 0], "you changed the gradients in place; make a new array"
    assert weights.tolist() == [0, 4, -2], (
        "you changed the weights. The decay goes into the GRADIENT, and then through the momentum like everything "
        "else; to shrink the weights themselves is another method, with other results")
    assert isinstance(got, np.ndarray), (
        f"expected an array, and yours is a {type(got).__name__}. Arrays are multiplied and added whole, without a "
        f"loop")
    got = got.tolist()
    assert got != [1, -2, 1], (
        "you subtracted. The step subtracts the gradient already: weight - rate * gradient. With two minuses the "
        "weights grow")
    assert got not in ([1, 4, 1], [1, 8, 2]), (
        "half of w squared is the LOSS. Its gradient is w: 4 here, and not 8; and for -2 it is -2, so that the step "
        "leads towards zero from below too")
    assert got != [1, 0.5, -0.5], (
        "every weight is pulled equally hard: that is the gradient of |w|, which is another method. Of w squared, a "
        "large weight is pulled harder")
    assert got != [1, 1, -0.5], (
        "half too little: the half in front of the square goes away with the 2 that comes from the square. The slope "
        "of w * w / 2 is w")
    assert got != [1, 2, 1], "the sign of the weight is lost: -2 is pulled up, towards zero, and so its share is -1"
    assert got != [6, 5, 5], (
        "you added the loss itself, one number, to every gradient. Each weight has a slope of its own")
    assert got != [1, 0, 0], "these are the gradients as they came, without any decay"
    assert got != [0, 2, -1], "the gradients of the loss are missing: the decay comes on TOP of them"
    assert got != [1.5, 0.5, 0.5], "the weights are missing: a large one is pulled harder than a small one"
    assert got != [1, 4, -2], "twice too much: the decay is weight_decay / 2 times the square, so the 2 cancels"
    assert got == [1, 2, -1], (
        f"for the weights [0, 4, -2], the gradients [1, 0, 0] and the decay 0.5 expected [1, 2, -1], yours is {got}")


@decay.check
def test_where_there_is_a_gradient_the_two_are_added():
    got = optim.decayed(np.array([3.0, -1.0]), np.array([4.0, -2.0]), 0.5)
    assert got is not None, "nothing came back: did you forget the return?"
    got = np.asarray(got).tolist()
    assert got != [3, -1], (
        "a weight with a gradient of its own does not decay in yours. The loss is a sum, so is its gradient: the two "
        "are added, for every weight")
    assert got == [5, -2], f"3 + 0.5 * 4 and -1 + 0.5 * -2 are [5, -2], yours is {got}"


@decay.check
def test_without_decay_nothing_changes():
    got = np.asarray(optim.decayed(np.array([1.0, -2.0]), np.array([5.0, 5.0]), 0.0)).tolist()
    assert got == [1, -2], f"with a decay of 0 the gradients stay as they are, [1, -2]; yours is {got}"


@decay.check
def test_it_is_the_slope_of_the_sum_of_squares():
    w, h = np.array([0.3, -1.2, 2.0]), 1e-6
    got = optim.decayed(np.zeros(3), w, 0.1)
    assert got is not None, "nothing came back: did you forget the return?"
    measured = [0.1 / 2 * (((w + step) ** 2).sum() - ((w - step) ** 2).sum()) / (2 * h) for step in h * np.eye(3)]
    assert np.allclose(got, measured), f"small steps say that 0.05 * sum of w squared rises by {measured}, you: {got}"


decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return gradients - weight_decay * weights
""", says="With two minuses the weights grow")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    weights *= 1 - weight_decay
    return gradients
""", says="The decay goes into the GRADIENT")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return gradients + weight_decay / 2 * weights
""", says="half too little")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return gradients + weight_decay * abs(weights)
""", says="the sign of the weight is lost")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return gradients + weight_decay / 2 * np.sum(weights**2)
""", says="you added the loss itself")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return np.where(gradients == 0, weight_decay * weights, gradients)
""", says="does not decay in yours")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return [g + weight_decay * w for g, w in zip(gradients, weights)]
""", says="multiplied and added whole")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return weight_decay * weights
""", says="on TOP of them")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return gradients + weight_decay * np.sign(weights)
""", says="every weight is pulled equally hard")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return gradients + weight_decay * weights**2 / 2
""", says="is the LOSS")
decay.wrong("""
def decayed(gradients, weights, weight_decay):
    return gradients + 2 * weight_decay * weights
""", says="so the 2 cancels")


# ---------------------------------------------------------------------------------------------------- optim.step_decay

schedule = Exercise("optim.step_decay", hints=(
    "100 steps, drops at 0.5 and 0.75. How many drops lie behind step 49? Behind 50? Behind 80?",
    "First make the list of the steps at which the rate drops, math.ceil(f * steps - 1e-9). Then rate(step) counts\n"
    "how many of them have been reached, step >= drop, and that is the power of the factor. Cut step at steps - 1 "
    "first.",
    """
    at = [math.ceil(f * steps - 1e-9) for f in drops]

    def rate(step):
        step = min(step, ...)
        return base * factor ** sum(step >= drop for drop in at)
    return rate
    """))


def rates(steps, *arguments):
    """The schedule's function; anything else, and a rate that it has not, are a message."""
    few = "There may be one drop, or three, or none: count those that have been reached"
    try:
        rate = optim.step_decay(steps, *arguments)
    except (IndexError, ValueError) as reason:
        raise AssertionError(f"for the drops {arguments[1] if arguments[1:] else (0.5, 0.75)}: {reason}. {few}"
                             ) from reason
    assert callable(rate), (
        f"step_decay gives back a function, rate(step), that is asked at every step; yours gives back "
        f"{'nothing: did you forget the last return?' if rate is None else f'a {type(rate).__name__}'}")

    def asked(step):
        try:
            got = rate(step)
        except IndexError as reason:
            beyond = "Whoever trains on beyond the end asks for such a step, and gets the rate of the last one"
            raise AssertionError(f"step {step} of {steps}: {reason}. {beyond if step >= steps else few}") from reason
        assert got is not None, (
            f"rate({step}) gives back nothing. Whichever way the function takes, behind the last drop too, it returns "
            f"a rate")
        return got
    return asked


@schedule.check
def test_the_rate_drops_at_the_step_itself():
    rate = rates(100)
    assert rate(0) != 0, "before any drop the rate is 0: the factor is a POWER, base * factor**k, and factor**0 is 1"
    assert np.isclose(rate(0), 0.1), f"before any drop the rate is the base, 0.1; yours is {rate(0):g}"
    assert np.isclose(rate(1), 0.1), (
        f"with 100 steps the rate has dropped at step 1 already, to {rate(1):g}: the drops are FRACTIONS of the run; "
        f"0.5 means half of steps")
    assert np.isclose(rate(49), 0.1), (
        f"with 100 steps the first drop is at step 50, yours has dropped at 49: {rate(49):g}")
    once, twice = rate(50), rate(50)
    assert once == twice, (
        f"asked twice for step 50, your function says {once:g} and then {twice:g}: it remembers that it has dropped. "
        f"Compute the rate from the step alone; going back in time is what this course is about")
    assert not np.isclose(rate(50), 0.1), (
        "at step 50 of 100 the rate is still 0.1: you are one step late. The drop is at the first step that is AT "
        "LEAST 0.5 * 100, so >= and not >")
    assert np.isclose(rate(50), 0.01), f"at step 50 of 100 the rate is a tenth, 0.01; yours is {rate(50):g}"
    assert not np.isclose(rate(75), 0.01), (
        "at step 75 the second drop is missing: after two drops the factor counts twice")
    assert np.isclose(rate(75), 0.001), f"at step 75 of 100 the rate is 0.1 * 0.1 * 0.1 = 0.001; yours is {rate(75):g}"


@schedule.check
def test_a_drop_between_two_steps_waits_for_the_later_one():
    rate = rates(5, 1.0, (0.5,), 0.5)
    assert rate(2) == 1, (
        "5 steps and a drop at 0.5: that is at 2.5, and step 2 comes before it. You rounded down (so does Python's "
        "round: 2.5 becomes 2); the first step that "
        "is at least 2.5 is step 3")
    assert rate(3) == 0.5, (
        f"5 steps and a drop at 2.5: step 3 is behind it, and with the factor 0.5 the rate is halved; yours is "
        f"{rate(3):g}")
    assert rates(10, 1.0, (0.22,), 0.5)(2) == 1, (
        "10 steps and a drop at 2.2: step 2 comes before it. You took the nearest step; the first that is AT LEAST 2.2 "
        "is step 3")
    assert rates(100, 1.0, (0.2,), 0.5)(30) == 0.5, (
        "a drop at 0.2 of 100 steps, and at step 30 the rate has not dropped: where the drops are stands in drops, and "
        "there may be any number of them")
    assert rates(100, 1.0, (0.07,), 0.5)(7) == 0.5, (
        "100 steps and a drop at 0.07: that is step 7. But 0.07 * 100 is 7.000000000000001 on a computer, and yours "
        "waits for step 8. Take a tiny bit off before you compare: f * steps - 1e-9")


@schedule.check
def test_it_remembers_nothing():
    rate = rates(100)
    asked = [rate(step) for step in range(100)]
    again = rate(10)
    assert np.isclose(again, 0.1), (
        f"after all 100 steps somebody asks for step 10 once more, and gets {again:g} in place of 0.1: your function "
        f"remembers that it has dropped. Compute the rate from the step alone; going back in time is what this course "
        f"is about")
    assert [rate(step) for step in range(100)] == asked, "asked a second time, the same steps have other rates"


@schedule.check
def test_the_rate_is_exactly_base_times_factor_to_the_k():
    rate = rates(100, 0.3, (0.2, 0.4, 0.6), 0.1)
    for step, drops in ((10, 0), (30, 1), (50, 2), (70, 3)):
        assert np.isclose(rate(step), 0.3 * 0.1**drops), (
            f"after {drops} drops expected {0.3 * 0.1**drops:g}: {rate(step):g}")
        assert rate(step) == 0.3 * 0.1**drops, (
            f"after {drops} drops your rate is {rate(step)!r}, and base * factor**{drops} is {0.3 * 0.1**drops!r}. "
            f"Computed in another way, it has other last digits, and two runs that should be equal are not")


@schedule.check
def test_beyond_the_end_the_last_rate_holds():
    rate = rates(10, 1.0, (0.5, 1.0), 0.5)
    assert rate(9) == 0.5, f"step 9 of 10 is behind one drop: 0.5, yours is {rate(9):g}"
    assert [rate(step) for step in (10, 12, 17)] != [1, 1, 0.5], (
        "behind the end the schedule begins anew. It does not: the rate of the last step holds")
    assert rate(25) == 0.5, (
        f"step 25 of a schedule of 10 steps: the rate of the last step, 9, holds, 0.5; yours is {rate(25):g}. A drop "
        f"at 1.0 would be at step 10, which is not one of its steps")


schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]

    def rate(step):
        nonlocal base
        if step in at:
            base *= factor
        return base
    return rate
""", says="asked twice for step 50")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    return lambda step: base * factor ** sum(min(step, steps - 1) > f * steps for f in drops)
""", says="you are one step late")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [int(f * steps) for f in drops]
    return lambda step: base * factor ** sum(min(step, steps - 1) >= drop for drop in at)
""", says="You rounded down")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    return lambda step: base * factor ** sum(min(step, steps - 1) >= f * steps for f in drops)
""", says="Take a tiny bit off")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]

    def rate(step):
        nonlocal base
        while at and step >= at[0]:
            at.pop(0)
            base *= factor
        return base
    return rate
""", says="remembers that it has dropped")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]

    def rate(step):
        result = base
        for drop in at:
            if min(step, steps - 1) >= drop:
                result *= factor
        return result
    return rate
""", says="Computed in another way, it has other last digits")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]
    return lambda step: base * factor ** sum(step % steps >= drop for drop in at)
""", says="the schedule begins anew")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    def rate(step):
        return base if step < steps / 2 else base * factor if step < steps * 3 / 4 else base * factor**2
    return rate
""", says="where the drops are stands in drops")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [int(f * steps + 0.5) for f in drops]
    return lambda step: base * factor ** sum(min(step, steps - 1) >= drop for drop in at)
""", says="You took the nearest step")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    return lambda step: base * factor ** sum(step >= drop for drop in drops)
""", says="the drops are FRACTIONS of the run")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]

    def rate(step):
        for k, drop in enumerate(at):
            if step < drop:
                return base * factor**k
    return rate
""", says="behind the last drop too")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]
    rates = [base * factor ** sum(step >= drop for drop in at) for step in range(steps)]
    return lambda step: rates[step]
""", says="gets the rate of the last one")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    first, second = (math.ceil(drops[i] * steps - 1e-9) for i in (0, 1))
    return lambda step: base * factor ** ((step >= first) + (step >= second))
""", says="There may be one drop, or three")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]
    return lambda step: base / 10 ** sum(min(step, steps - 1) >= drop for drop in at)
""", says="with the factor 0.5")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]
    return lambda step: base * factor * sum(min(step, steps - 1) >= drop for drop in at)
""", says="the factor is a POWER")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]
    return lambda step: base * factor if step >= at[0] else base
""", says="after two drops the factor counts twice")
schedule.wrong("""
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    at = [math.ceil(f * steps - 1e-9) for f in drops]
    return lambda step: base * factor ** sum(step >= drop for drop in at)
""", says="which is not one of its steps")
