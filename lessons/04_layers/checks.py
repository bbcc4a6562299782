"""Lesson 04: what must hold of layers, their first numbers and batch norm, and the wrong answers that are known."""

import numpy as np

from minirewind import functional, nn, tensor
from minirewind.learn import Exercise
from minirewind.tensor import Tensor

# --------------------------------------------------------------------------------------------- functional.ReLU.backward

relu = Exercise("functional.ReLU.backward", hints=(
    "x was -3, so z is 0. You raise x to -2.9. What is z now? And how much does x matter, then?",
    "Where z is above zero, dz passes through as it is. Where z is zero, nothing passes. A comparison gives True and\n"
    "False, and these count as 1 and 0 in a product.",
    "    return dz * (self.z > ...)",
))


def gradient_of_relu(x, dz):
    """What backward() leaves on x after a ReLU."""
    x = Tensor(np.array(x), requires_grad=True)
    try:
        functional.ReLU.apply(x).backward(np.array(dz))
    except ValueError as reason:
        if "truth value" in str(reason):
            raise AssertionError("self.z holds many numbers, and an if wants one answer. Ask all at once: self.z > 0 "
                                 "is an array of True and False, and these count as 1 and 0 in a product") from reason
        if "read-only" not in str(reason):
            raise
        raise AssertionError("dz is not yours alone: others read it too, and so it cannot be written to. Make a new "
                             "array, a product or a copy") from reason
    return x.grad.tolist()


@relu.check
def test_what_was_set_to_zero_does_not_matter():
    got = gradient_of_relu([-3.0, 5.0, -1.0], [1.0, 1.0, -1.0])
    assert got != [1, 1, 0], (
        "you asked whether dz is above zero. The question is whether x was let through, and that shows in self.z")
    assert got != [1, 1, -1], (
        "you let everything pass. But x = -3 was set to 0, and -2.9 would be set to 0 too: the result does not notice, "
        "so the gradient there is 0. (No z is below zero: those that were set to zero ARE zero)")
    assert got != [0, 5, 0], (
        "you multiplied by z itself. The slope of ReLU is 1 wherever it lets x pass, whether x is 5 or 0.1")
    assert got != [1, 0, -1], "the wrong way round: you let pass what was set to zero, and stop what was let through"
    assert got == [0, 1, 0], f"x = [-3, 5, -1] and dz = [1, 1, -1]: expected the gradient [0, 1, 0], yours is {got}"


@relu.check
def test_what_passed_keeps_its_gradient_of_either_sign():
    got = gradient_of_relu([2.0, 3.0, -1.0, -2.0], [-10.0, 0.5, -7.0, 8.0])
    assert got != [1, 1, 0, 0], (
        "you give back whether x was let through. The gradient that comes in, dz, passes there: multiply by it")
    assert got != [0, 0.5, 0, 0], (
        "a negative dz was lost. A gradient may well be negative: the only question is whether x was let through")
    assert got == [-10, 0.5, 0, 0], (
        f"x = [2, 3, -1, -2] and dz = [-10, 0.5, -7, 8]: expected [-10, 0.5, 0, 0], yours is {got}")


@relu.check
def test_relu_agrees_with_small_steps():
    x = Tensor(np.array([[-2.0, -0.5, 0.3], [1.0, -4.0, 7.0]]), requires_grad=True)
    tensor.gradcheck(functional.ReLU.apply, x, name="ReLU")


relu.wrong("""
def backward(self, dz):
    return dz
""", says="you let everything pass")
relu.wrong("""
def backward(self, dz):
    return dz * self.z
""", says="you multiplied by z itself")
relu.wrong("""
def backward(self, dz):
    return dz * (dz > 0)
""", says="whether x was let through, and that")
relu.wrong("""
def backward(self, dz):
    return self.z > 0
""", says="multiply by it")
relu.wrong("""
def backward(self, dz):
    dz[self.z == 0] = 0
    return dz
""", says="dz is not yours alone")
relu.wrong("""
def backward(self, dz):
    if self.z > 0:
        return dz
    return 0 * dz
""", says="an if wants one answer")
relu.wrong("""
def backward(self, dz):
    return self.xp.where(self.z > 0, 0, dz)
""", says="the wrong way round")
relu.wrong("""
def backward(self, dz):
    return self.xp.maximum(dz, 0) * (self.z > 0)
""", says="a negative dz was lost")

# --------------------------------------------------------------------------------------------- nn.Module.named_modules

walk = Exercise("nn.Module.named_modules", hints=(
    "A module has two children, and each of them has two children. How many modules do you give out? And who gives\n"
    "out those at the bottom?",
    "First note that you were here (in seen) and yield (prefix, self). Then, for every child, yield from the child's\n"
    "own named_modules, under the name prefix.name, and hand your seen on. Who has been seen gives out nothing.",
    """
    seen = set() if seen is None else seen
    if id(self) not in seen:
        seen.add(...)
        yield prefix, self
        for name, child in self._own(Module):
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, ...)
    """))


class Holder(nn.Module):
    """A module with the attributes it is given."""

    def __init__(self, **attributes):
        vars(self).update(attributes)


def names(module):
    """The names that the walk gives out; a walk without an end is a message."""
    try:
        found = list(nn.Module.named_modules(module))
    except RecursionError:
        raise AssertionError(
            "a child that holds on to its parent sent you round in a circle. Keep the id of every module that had its "
            "turn in seen, hand the same seen on to the children, and give out nothing for one that is in it") from None
    except TypeError as reason:
        if "NoneType" not in str(reason):
            raise
        raise AssertionError("where the walk begins, seen is None, and nobody is in it yet: make an empty set of it "
                             "first, set()") from reason
    assert len(found) != 2 or found[1] is not module, (
        "return gives back one pair and ends the walk. yield gives out one and goes on")
    assert not any(hasattr(pair, "send") for pair in found), (
        "you gave out the whole walk of a child as one thing. yield gives out one; yield from gives out, one by one, "
        "all that the child's walk gives out")
    assert all(isinstance(pair, tuple) and len(pair) == 2 for pair in found), (
        f"the walk gives out pairs (name, module); yours begins with {found[:1]}")
    assert all(isinstance(name, str) for name, _ in found), (
        "the name comes first, then the module: (prefix, self)")
    return [name for name, _ in found]


@walk.check
def test_the_module_itself_comes_first():
    model = Holder(a=Holder())
    found = names(model)
    assert found != ["a", ""], "you give out the children first. First the module itself, then what lies inside it"
    assert found[:1] == [""], (
        f"the first one is the module itself, under the name prefix (here ''): it may have parameters of its own. "
        f"Yours begins with {found[:1]}")
    assert next(iter(nn.Module.named_modules(model)))[1] is model, "the name is right, but it is not the module itself"


@walk.check
def test_those_deep_inside_are_found_too():
    found = names(Holder(stage=Holder(block=Holder(conv=Holder())), fc=Holder()))
    assert len(found) >= 5, (
        f"a network with a stage, in it a block, in it a layer, and a last layer are 5 modules; you found "
        f"{len(found)}: {found}. What lies inside a child belongs to the network too: ask each child for its own")
    assert set(found) != {""}, "every module has the name '' in yours. Who was asked by a parent is called prefix"
    assert len(found) == len(set(found)), (
        f"some came twice: {found}. A child's walk gives out the child itself first, so you need not do it too")
    assert len(found) == 5, f"the network has 5 modules, you gave out {len(found)}: {found}"


@walk.check
def test_a_name_is_the_whole_way():
    found = names(Holder(stage=Holder(block=Holder()), fc=Holder()))
    assert "block" not in found, (
        "the block inside the stage is called 'block' by you. Two stages may each have one: its name is the whole way, "
        "'stage.block'")
    assert not any(name.startswith(".") for name in found), (
        f"a name begins with a dot: {found}. The network itself has the empty name, and after it comes no dot")
    assert "stageblock" not in found, "the block inside the stage is called 'stage.block', with a dot between"
    assert found != ["", "stage", "fc", "stage.block"], (
        "first all children, then what lies inside them: that is another order. Each child's own walk comes whole, "
        "before the next child")
    assert found == ["", "stage", "stage.block", "fc"], (
        f"expected '', 'stage', 'stage.block', 'fc', each module before what lies inside it; yours are {found}")


@walk.check
def test_a_shared_module_comes_once():
    shared = Holder()
    found = names(Holder(encoder=Holder(embedding=shared), decoder=Holder(embedding=shared)))
    assert len(found) < 5, (
        "a layer that is used in two places was given out twice: an optimiser would take two steps with it each time. "
        "Remember in seen whom you have given out, and hand the same seen on to every child")
    assert found == ["", "encoder", "encoder.embedding", "decoder"], f"expected it once, in the encoder; yours: {found}"


@walk.check
def test_a_child_may_hold_on_to_its_parent():
    parent = Holder(child=Holder())
    parent.child.parent = parent
    found = names(parent)
    assert found == ["", "child"], f"a parent and a child are two modules, yours are {found}"


walk.wrong("""
def named_modules(self, prefix="", seen=None):
    yield prefix, self
    for name, child in self._own(Module):
        yield (f"{prefix}.{name}" if prefix else name), child
""", says="ask each child for its own")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    yield prefix, self
    for name, child in self._own(Module):
        yield child.named_modules(f"{prefix}.{name}" if prefix else name, seen)
""", says="yield from gives out")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    yield "", self
    for name, child in self._own(Module):
        yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)
""", says="every module has the name ''")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    return prefix, self
""", says="return gives back one pair and ends the walk")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    if id(self) not in seen:
        seen.add(id(self))
        yield prefix, self
        for name, child in self._own(Module):
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)
""", says="make an empty set of it")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    seen = set() if seen is None else seen
    if id(self) not in seen:
        seen.add(id(self))
        yield self, prefix
        for name, child in self._own(Module):
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)
""", says="the name comes first")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    seen, waiting = set(), [(prefix, self)]
    while waiting:
        path, module = waiting.pop(0)
        if id(module) not in seen:
            seen.add(id(module))
            yield path, module
            for name, child in module._own(Module):
                waiting.append((f"{path}.{name}" if path else name, child))
""", says="before the next child")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    yield prefix, self
    for name, child in self._own(Module):
        path = f"{prefix}.{name}" if prefix else name
        yield path, child
        yield from child.named_modules(path, seen)
""", says="gives out the child itself first")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    seen = set() if seen is None else seen
    if id(self) not in seen:
        seen.add(id(self))
        for name, child in self._own(Module):
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)
        yield prefix, self
""", says="First the module itself")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    for name, child in self._own(Module):
        yield name, child
        yield from child.named_modules(name)
""", says="it may have parameters of its own")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    yield prefix, self
    for name, child in self._own(Module):
        yield from child.named_modules(name)
""", says="its name is the whole way")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    yield prefix, self
    for name, child in self._own(Module):
        yield from child.named_modules(f"{prefix}.{name}")
""", says="begins with a dot")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    yield prefix, self
    for name, child in self._own(Module):
        yield from child.named_modules(f"{prefix}.{name}" if prefix else name)
""", says="given out twice")
walk.wrong("""
def named_modules(self, prefix="", seen=None):
    seen = set() if seen is None else seen
    yield prefix, self
    for name, child in self._own(Module):
        if id(child) not in seen:
            seen.add(id(child))
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)
""", says="a parent and a child are two modules")


# ------------------------------------------------------------------------------------------------- nn.truncated_normal

first_numbers = Exercise("nn.truncated_normal", hints=(
    "You draw a thousand numbers and 46 of them lie beyond two. What becomes of those 46? And what of the other 954?",
    "Draw all; then, as long as any lies outside, draw new numbers for those places only. Afterwards scale everything\n"
    "so that the spread is sqrt(1 / fan_in). The cut has left 0.8796 of the spread, so divide by that.",
    """
    deviation = math.sqrt(1 / fan_in) / 0.87962566103423978

    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(...)        # as many as there are outside
        return ...
    return initial
    """))

LEFT = 0.87962566103423978


def numbers(fan_in, shape=(60_000,), seed=0):
    """What the function draws; anything but an array of this shape is a message."""
    initial = nn.truncated_normal(fan_in)
    assert callable(initial), (
        "truncated_normal(fan_in) gives back a function initial(generator, shape), which is called later, whenever the "
        f"layer is born again; yours gives back {'nothing' if initial is None else f'a {type(initial).__name__}'}")
    x = initial(np.random.default_rng(seed), shape)
    assert x is not None, "initial draws numbers and gives back nothing: did you forget its return?"
    assert np.shape(x) == shape, f"numbers of the shape {shape} were asked for, yours have {np.shape(x)}"
    return np.asarray(x)


@first_numbers.check
def test_no_number_lies_beyond_the_cut_and_none_on_it():
    x = numbers(100)
    largest = abs(x).max()
    assert largest > 0, "every number is 0. Is there a // in it? 1 // fan_in is 0; 1 / fan_in is what you want"
    at_the_rim = (abs(x) > largest * (1 - 1e-12)).sum()
    assert at_the_rim < 20, (
        f"{at_the_rim} of 60,000 numbers have the largest magnitude there is: they were clipped to the rim, and pile "
        f"up there. What lies outside is drawn again")
    values, counts = np.unique(x, return_counts=True)
    assert counts.max() < 20, (
        f"the number {values[counts.argmax()]:.4g} comes {counts.max()} times. What lies outside is drawn again, each "
        f"place for itself: generator.standard_normal(how many there are)")
    assert (x < 0).any(), "no number is below zero: as many are to lie below it as above. abs(x) > 2 only ASKS"
    above, below = ((side > 2.35 * x.std()).mean() for side in (x, -x))         # the cut leaves 2 / 0.8796 = 2.27
    beyond = above + below
    assert min(above, below) > 0 or max(above, below) < 0.003, (
        f"the numbers {'below -2' if above == 0 else 'above 2'} are still there: you cut on one side only. Ask for "
        f"abs(x)")
    assert beyond < 0.01, (
        f"{100 * beyond:.1f} % of the numbers lie more than 2.35 spreads away from zero: there is no cut at two. Draw "
        f"those beyond two again, until none is left, and scale them afterwards: two spreads are 2 only before that")
    assert beyond == 0, (
        f"a number lies {largest / x.std():.2f} spreads away from zero, the cut leaves 2.27: a number that was drawn "
        f"again may lie outside again. Go on as long as any does")


@first_numbers.check
def test_the_spread_is_right_after_the_cut():
    for fan_in in (9, 144, 2304):
        spread, wanted = numbers(fan_in).std(), fan_in**-0.5
        if abs(spread / wanted - 1) > 0.012:
            assert abs(spread / LEFT - 1) > 0.02, (
                f"fan-in {fan_in}: the spread is 0.88, as the cut has left it: you have not scaled the numbers")
            assert abs(spread / fan_in**0.5 - 1) > 0.02, (
                f"fan-in {fan_in}: your spread is {spread:.1f}. A layer with many inputs is to begin with SMALL "
                f"numbers: sqrt(1 / fan_in), and not sqrt(fan_in)")
            assert abs(spread / wanted - LEFT**0.5) > 0.02, (
                f"fan-in {fan_in}: your spread is {spread:.4f} instead of {wanted:.4f}. 0.8796 is what the cut leaves "
                f"of the SPREAD, not of the variance: outside the root")
            assert not 0.012 < spread / wanted - 1 < 0.03, (
                f"fan-in {fan_in}: your spread is {spread:.4f} instead of {wanted:.4f}, a little too large. Were those "
                f"that were drawn again scaled like the others? Scale all of them at the end")
            assert min(abs(spread * fan_in - 1), abs(spread * fan_in - LEFT)) > 0.02, (
                f"fan-in {fan_in}: your spread is {spread:.4f}. The VARIANCE is to be 1 / fan_in; the spread is its "
                f"square root, {wanted:.4f}")
            assert abs(spread / wanted - LEFT) > 0.02, (
                f"fan-in {fan_in}: your spread is {spread:.4f} instead of {wanted:.4f}, that is 0.88 of it: the cut "
                f"took the rest. Divide by 0.8796 first")
            assert abs(spread / wanted - LEFT**2) > 0.02, (
                f"fan-in {fan_in}: your spread is {spread:.4f} instead of {wanted:.4f}. The cut left 0.88 of it, and "
                f"you made it smaller once more: divide by 0.8796")
            assert abs(spread / wanted - 2**0.5) > 0.02, (
                f"fan-in {fan_in}: your variance is 2 / fan_in, which makes up for the ReLU. The paper takes "
                f"1 / fan_in")
            raise AssertionError(f"fan-in {fan_in}: the spread is to be {wanted:.4f}, yours is {spread:.4f}")


@first_numbers.check
def test_the_numbers_come_from_the_generator():
    x, again, other = (numbers(9, (4, 1, 3, 3), seed) for seed in (0, 0, 1))
    assert np.array_equal(x, again), (
        "two generators with the same seed gave two different networks: draw from the generator that you are given, "
        "not from np.random. A result that cannot be repeated is no result")
    assert not np.array_equal(x, other), "two different seeds gave the same numbers"


@first_numbers.check
def test_large_layers_come_to_an_end_and_small_ones_are_drawn_too():
    numbers(144, (64, 64, 3, 3))
    with np.errstate(all="ignore"):
        assert np.isfinite(numbers(9, (1,))).all(), (
            "of one number the spread is 0, and you divided by the spread that you measured. What is to be right is "
            "the spread that is drawn FROM: divide by 0.8796, whatever was drawn")


first_numbers.wrong("""
def truncated_normal(fan_in):
    deviation = math.sqrt(1 / fan_in) / 0.87962566103423978
    return lambda generator, shape: deviation * np.clip(generator.standard_normal(shape), -2, 2)
""", says="clipped to the rim")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal()
        return x * math.sqrt(1 / fan_in) / 0.87962566103423978
    return initial
""", says="each place for itself")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := x > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x * math.sqrt(1 / fan_in) / 0.87962566103423978
    return initial
""", says="you cut on one side only")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x * math.sqrt(2 / fan_in) / 0.87962566103423978
    return initial
""", says="makes up for the ReLU")
first_numbers.wrong("""
def truncated_normal(fan_in):
    return lambda generator, shape: math.sqrt(1 / fan_in) * generator.standard_normal(shape)
""", says="there is no cut at two")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        outside = abs(x) > 2
        x[outside] = generator.standard_normal(outside.sum())
        return x * math.sqrt(1 / fan_in) / 0.87962566103423978
    return initial
""", says="may lie outside again")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x * math.sqrt(1 / fan_in)
    return initial
""", says="took the rest")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        for _ in range(2):
            outside = abs(x) > 2
            x[outside] = generator.standard_normal(outside.sum())
        return x * math.sqrt(1 / fan_in) / 0.87962566103423978
    return initial
""", says="Go on as long as any does")
first_numbers.wrong("""
def truncated_normal(fan_in):
    deviation = math.sqrt(1 / fan_in) / 0.87962566103423978

    def initial(generator, shape):
        x = deviation * generator.standard_normal(shape)
        while (outside := abs(x) > 2 * deviation).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x
    return initial
""", says="Were those that were drawn again scaled")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x * math.sqrt(1 // fan_in) / 0.87962566103423978
    return initial
""", says="every number is 0")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = abs(generator.standard_normal(shape))
        while (outside := x > 2).any():
            x[outside] = abs(generator.standard_normal(outside.sum()))
        return x * math.sqrt(1 / fan_in) / 0.87962566103423978
    return initial
""", says="no number is below zero")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x / x.std() * math.sqrt(1 / fan_in)
    return initial
""", says="you divided by the spread that you measured")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x
    return initial
""", says="you have not scaled the numbers")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x * math.sqrt(fan_in) / 0.87962566103423978
    return initial
""", says="to begin with SMALL numbers")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x * math.sqrt(1 / fan_in / 0.87962566103423978)
    return initial
""", says="outside the root")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return x / fan_in / 0.87962566103423978
    return initial
""", says="The VARIANCE is to be")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = np.random.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = np.random.standard_normal(outside.sum())
        return x * math.sqrt(1 / fan_in) / 0.87962566103423978
    return initial
""", says="the same seed gave two different networks")
first_numbers.wrong("""
def truncated_normal(fan_in):
    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (abs(x) > 2).any():
            x = generator.standard_normal(shape)
        return x * math.sqrt(1 / fan_in) / 0.87962566103423978
    return initial
""", says="loop without an end")


# ------------------------------------------------------------------------------------------ functional.channel_moments

moments = Exercise("functional.channel_moments", hints=(
    "A batch has the shape (N, C, H, W). One mean for each channel: which three of the four dimensions disappear?",
    "All dimensions but number 1: (0, 2, 3), and (0,) for a batch of shape (N, C). In general (0, *range(2, x.ndim)).\n"
    "With keepdim=True they stay as 1s, so that x - mean broadcasts. The variance is the mean of (x - mean) squared.",
    """
    others = (0, *range(2, x.ndim))
    mean = x.mean(others, keepdim=True)
    variance = ((x - mean) * ...).mean(..., keepdim=True)
    return mean, variance
    """))


def batch(*shape, seed=0):
    """A tensor of random numbers, each channel with a mean and a spread of its own, that wants its gradient."""
    rng = np.random.default_rng(seed)
    channels = (1, shape[1], *[1] * (len(shape) - 2))
    return Tensor(rng.standard_normal(shape) * rng.uniform(1, 3, channels) + rng.uniform(-2, 2, channels),
                  requires_grad=True)


def moments_of(x):
    """Mean and variance as the function gives them; anything but two tensors is a message."""
    try:
        got = functional.channel_moments(x)
    except TypeError as reason:
        if "axis" not in str(reason) and "keepdims" not in str(reason):
            raise
        raise AssertionError("x is a tensor, and its mean is called as x.mean(dims, keepdim=True), not by NumPy's "
                             "names") from reason
    assert got is not None, "nothing came back: did you forget the return?"
    assert not isinstance(got, Tensor), "one tensor came back; expected two, the mean and the variance"
    assert len(got) == 2, f"expected two tensors back, the mean and the variance; yours are {len(got)}"
    assert all(isinstance(part, Tensor) for part in got), (
        f"expected two tensors, yours are {type(got[0]).__name__} and {type(got[1]).__name__}: with x.data the engine "
        f"does not see what you compute, and the gradient cannot find its way through the mean")
    return got


@moments.check
def test_there_is_one_mean_for_each_channel():
    x = batch(5, 3, 4, 2)
    mean, variance = moments_of(x)
    assert mean.size != 1, (
        "you took one mean over everything. Each of the 3 channels has its own: leave dimension 1 out")
    assert mean.shape != (5, 1, 4, 2), (
        "you averaged over dimension 1, the channels, and over nothing else. It is the only one that must stay")
    assert mean.shape != (1, 3, 4, 2), (
        "one mean for each pixel of each channel: average over the rows and columns too, dimensions 2 and 3")
    assert mean.shape[0] != 5, (
        f"your mean has the shape {mean.shape}: one for each image. In batch norm the images of a batch are measured "
        f"together: average over dimension 0 too")
    assert mean.shape != (3,), (
        "your mean has the shape (3,), and x - mean would broadcast it along the wrong dimension: from (5, 3, 4, 2) "
        "to the last one. keepdim=True makes it (1, 3, 1, 1)")
    assert mean.shape == (1, 3, 1, 1), f"x is (5, 3, 4, 2): expected a mean of shape (1, 3, 1, 1), yours {mean.shape}"
    assert variance.shape == (1, 3, 1, 1), f"expected a variance of shape (1, 3, 1, 1), yours is {variance.shape}"
    assert not np.allclose(mean.data.ravel(), x.data.var(axis=(0, 2, 3))), (
        "the variance came first. They are given back as mean, variance")
    assert np.allclose(mean.data.ravel(), x.data.mean(axis=(0, 2, 3))), (
        "the shape of the mean is right, its numbers are not")


@moments.check
def test_the_variance_is_the_mean_squared_distance():
    x = batch(2, 3, 2, 1)                                   # only four values in each channel
    _, variance = moments_of(x)
    got = variance.data.ravel()
    assert not np.allclose(got, 0), (
        "your variance is 0. The distances from the mean cancel, if they are averaged as they are: square them first")
    assert not np.allclose(got, x.data.std(axis=(0, 2, 3))), (
        "this is the standard deviation. batch norm takes the root itself: give back the variance")
    assert not np.allclose(got, x.data.var(axis=(0, 2, 3), ddof=1)), (
        "you divided by count - 1. The batch itself is normalised with the plain mean of the squares; the other one is "
        "for what is remembered (exercise 5)")
    assert not np.allclose(got, 4 * x.data.var(axis=(0, 2, 3))), (
        "this is the sum of the squared distances; the variance is their mean")
    assert not np.allclose(got, (x.data**2).mean(axis=(0, 2, 3))), (
        "this is the mean of x squared. The variance is about the distance from the mean: subtract the mean first")
    assert not np.allclose(got, ((x.data - x.data.mean()) ** 2).mean(axis=(0, 2, 3))), (
        "you took the distance from one mean of everything. Each channel lies around a mean of its own")
    assert not np.allclose(got - 1e-5, x.data.var(axis=(0, 2, 3)), rtol=1e-9, atol=0), (
        "you added epsilon. batch norm does so itself, in its root: give back the variance as it is")
    assert np.allclose(got, x.data.var(axis=(0, 2, 3)), rtol=1e-7), (
        f"expected the mean of the squared distances from the mean, {x.data.var(axis=(0, 2, 3))}, yours: {got}")


@moments.check
def test_a_large_mean_does_not_drown_the_variance():
    x = Tensor(np.float32(5000) + np.random.default_rng(0).standard_normal((50, 1, 4, 4)).astype(np.float32))
    _, variance = moments_of(x)
    got = variance.item()
    assert 0.9 < got < 1.1, (
        f"numbers around 5,000 with a variance of 1: yours is {got:.3g}. The mean of the squares is 25,000,001, and in "
        f"32 bits the 1 is lost before the 25,000,000 are subtracted. Subtract the mean first, then square")


@moments.check
def test_a_batch_without_pixels_has_moments_too():
    x = batch(6, 3)
    mean, variance = moments_of(x)
    assert mean.shape == (1, 3), f"for x (6, 3) expected a mean of shape (1, 3), yours is {mean.shape}"
    assert np.allclose(variance.data.ravel(), x.data.var(axis=0)), "the variance of a batch (N, C) has wrong numbers"


@moments.check
def test_the_gradient_finds_its_way_through():
    x = batch(3, 2, 2, 2)
    mean, variance = moments_of(x)
    for name, part in (("mean", mean), ("variance", variance)):
        assert part.function is not None, (
            f"your {name} is a tensor, but was made from a plain array: the engine does not know that it depends on x, "
            f"and every gradient through batch norm would be wrong. Compute with x, not with x.data")
    def normalised(x):
        return functional.batch_norm_steps(x, None, None, training=True)

    tensor.gradcheck(normalised, x, name="batch norm with your moments")


moments.wrong("""
def channel_moments(x):
    return x.mean(), ((x - x.mean()) * (x - x.mean())).mean()
""", says="one mean over everything")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    mean = x.mean(others, keepdim=True)
    distance = (x - mean).mean(others, keepdim=True)
    return mean, distance * distance
""", says="square them first")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    mean = x.mean(others, keepdim=True)
    return mean, ((x - mean) * (x - mean)).sum(others, keepdim=True)
""", says="the variance is their mean")
moments.wrong("""
def channel_moments(x):
    mean = x.mean(1, keepdim=True)
    return mean, ((x - mean) * (x - mean)).mean(1, keepdim=True)
""", says="the only one that must stay")
moments.wrong("""
def channel_moments(x):
    mean = x.mean(0, keepdim=True)
    return mean, ((x - mean) * (x - mean)).mean(0, keepdim=True)
""", says="one mean for each pixel")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    return x.mean(others, keepdim=True), (x * x).mean(others, keepdim=True)
""", says="the mean of x squared")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    distance = x - x.mean()
    return x.mean(others, keepdim=True), (distance * distance).mean(others, keepdim=True)
""", says="Each channel lies around a mean of its own")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    mean = x.mean(others, keepdim=True)
    return mean, ((x - mean) * (x - mean)).mean(others, keepdim=True) + 1e-5
""", says="you added epsilon")
moments.wrong("""
def channel_moments(x):
    mean = x.mean(axis=(0, 2, 3), keepdims=True)
    return mean, ((x - mean) * (x - mean)).mean(axis=(0, 2, 3), keepdims=True)
""", says="not by NumPy's names")
moments.wrong("""
def channel_moments(x):
    others = tuple(range(2, x.ndim))
    mean = x.mean(others, keepdim=True)
    return mean, ((x - mean) * (x - mean)).mean(others, keepdim=True)
""", says="one for each image")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    mean = x.mean(others, keepdim=True)
    return x.mean(others), ((x - mean) * (x - mean)).mean(others)
""", says="along the wrong dimension")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    mean = x.mean(others, keepdim=True)
    count = x.size // x.shape[1]
    return mean, ((x - mean) * (x - mean)).sum(others, keepdim=True) / (count - 1)
""", says="you divided by count - 1")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    mean = x.mean(others, keepdim=True)
    return mean, (x * x).mean(others, keepdim=True) - mean * mean
""", says="Subtract the mean first")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    return x.data.mean(others, keepdims=True), x.data.var(others, keepdims=True)
""", says="the gradient cannot find its way")
moments.wrong("""
def channel_moments(x):
    others = (0, *range(2, x.ndim))
    mean = Tensor(x.data.mean(others, keepdims=True))
    return mean, ((x - mean) * (x - mean)).mean(others, keepdim=True)
""", says="made from a plain array")
moments.wrong("""
def channel_moments(x):
    mean = x.mean((0, 2, 3), keepdim=True)
    return mean, ((x - mean) * (x - mean)).mean((0, 2, 3), keepdim=True)
""", says="dimension")


# ------------------------------------------------------------------------------------------- functional.update_running

running = Exercise("functional.update_running", hints=(
    "The running mean is 10, the batch's is 20, momentum is 0.1. Where is the running mean afterwards? And if\n"
    "momentum were 1?",
    "Move by a share of the distance: running_mean += momentum * (mean - running_mean). += changes the array in\n"
    "place. For the variance, first make the batch's variance larger by count / (count - 1).",
    """
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (... - running_var)
    """))


def moved(mean, variance, count=101, momentum=0.1):
    """The running mean (10 before) and variance (4 before) of one channel after one batch; there are three channels."""
    kept, measured = (np.full(3, 10.0), np.full(3, 4.0)), (np.full(3, mean), np.full(3, variance))
    functional.update_running(*kept, *measured, count, momentum)
    assert (measured[0] == mean).all(), (           # the layer goes on to normalise the batch with them
        "you changed the batch's own mean. The batch is normalised with it right afterwards: change only the running "
        "arrays")
    assert (measured[1] == variance).all(), (
        "you changed the batch's own variance. The batch is normalised with it right afterwards, as it is: put the "
        "factor into the distance, and change only the running arrays")
    assert kept[0][0] != 10 or kept[1][0] != 4, (
        "the arrays that you were given are as before. running_mean = ... makes a new array and forgets it at the end; "
        "running_mean += ... (or running_mean[...] = ...) changes the one that the layer looks at")
    for row in kept:
        assert (row == row[0]).all(), (
            f"three channels with the same statistics have different ones now, {row}: every channel moves, not only "
            f"the first. The arrays are updated whole, without an index")
    return kept[0][0], kept[1][0]


@running.check
def test_it_moves_a_small_part_of_the_way():
    mean, _ = moved(20.0, 4.0)
    assert not np.isclose(mean, 19), (
        "10 became 19: you kept one tenth and took nine tenths of the batch. Here momentum = 0.1 is how far to MOVE. "
        "(Some papers mean the other share with the same word.)")
    assert not np.isclose(mean, 12), (
        "10 became 12: you added a tenth of the batch's mean. Move by a tenth of the DISTANCE")
    assert not np.isclose(mean, 9), "10 became 9: it moved away from 20. The distance is mean - running_mean"
    assert not np.isclose(mean, 10 + 0.1 * (20 * 101 / 100 - 10)), (
        "you made the mean larger by count / (count - 1) too. Only a variance comes out too small; a mean does not")
    assert not np.isclose(mean, 20), "10 became 20: the last batch alone decides. Move by a tenth of the distance only"
    assert mean != 10, "only the variance has moved. The running mean moves in the same way"
    assert np.isclose(mean, 11), f"the running mean is 10, the batch's 20, momentum 0.1: expected 11, yours is {mean:g}"


@running.check
def test_the_variance_that_is_kept_is_made_larger_first():
    _, variance = moved(20.0, 10.0, count=5, momentum=0.5)
    assert variance != 4, (
        "the running variance is as before, only the mean has moved. It moves in the same way, and in place too")
    assert not np.isclose(variance, 7), (
        "4 moved half of the way to 10. But on 5 values a variance comes out too small, by the factor 4/5: it is 12.5 "
        "for other images. Multiply by count / (count - 1) before you move (a single stroke: 5 // 4 is 1)")
    assert not np.isclose(variance, 6.5), (
        "count / count - 1 is not count / (count - 1): Python divides first. Put parentheses round what is divided by")
    assert not np.isclose(variance, 4 + 0.1 * 8.5), "you moved by 0.1, whatever momentum says; here it is 0.5"
    assert not np.isclose(variance, 12), "the running variance moved towards the batch's MEAN, 20"
    assert not np.isclose(variance, 6), "you made the variance smaller: the factor is count / (count - 1), above 1"
    assert not np.isclose(variance, 7 * 5 / 4), (
        "you multiplied the running variance as well, and it would grow at every step. Only the batch's is too small")
    assert not np.isclose(variance, 4 + 0.5 * 6 * 5 / 4), (
        "you made the distance larger. It is the batch's variance that is too small: make that larger, then take the "
        "distance")
    assert np.isclose(variance, 8.25), f"half of the way from 4 to 10 * 5/4 = 12.5 is 8.25, yours is {variance:g}"


@running.check
def test_after_many_batches_it_is_where_they_are():
    mean, variance = np.array([10.0]), np.array([4.0])
    for _ in range(100):
        functional.update_running(mean, variance, np.array([20.0]), np.array([2.0]), 101, 0.1)
    assert np.isclose(mean[0], 20, rtol=1e-3), f"after 100 batches with mean 20 the running mean is {mean[0]:g}"
    assert np.isclose(variance[0], 2.02, rtol=1e-3), f"after 100 batches with variance 2 (2.02): {variance[0]:g}"


running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean[...] = momentum * running_mean + (1 - momentum) * mean
    running_var[...] = momentum * running_var + (1 - momentum) * variance * count / (count - 1)
""", says="how far to MOVE")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (variance - running_var)
""", says="on 5 values a variance comes out too small")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean = running_mean + momentum * (mean - running_mean)
    running_var = running_var + momentum * (variance * count / (count - 1) - running_var)
""", says="changes the one that the layer looks at")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean += momentum * (mean - running_mean)
    running_var = running_var + momentum * (variance * count / (count - 1) - running_var)
""", says="only the mean has moved")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (variance - running_var) * count / (count - 1)
""", says="you made the distance larger")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean += momentum * mean
    running_var += momentum * variance * count / (count - 1)
""", says="a tenth of the DISTANCE")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (variance * (count - 1) / count - running_var)
""", says="the factor is count / (count - 1)")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    variance *= count / (count - 1)
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (variance - running_var)
""", says="you changed the batch's own variance")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    mean -= running_mean
    running_mean += momentum * mean
    running_var += momentum * (variance * count / (count - 1) - running_var)
""", says="you changed the batch's own mean")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean[0] += momentum * (mean[0] - running_mean[0])
    running_var[0] += momentum * (variance[0] * count / (count - 1) - running_var[0])
""", says="every channel moves")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (variance * count / count - 1 - running_var)
""", says="Python divides first")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean += 0.1 * (mean - running_mean)
    running_var += 0.1 * (variance * count / (count - 1) - running_var)
""", says="whatever momentum says")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (mean - running_var)
""", says="towards the batch's MEAN")
running.wrong("""
def update_running(running_mean, running_var, mean, variance, count, momentum):
    running_var += momentum * (variance * count / (count - 1) - running_var)
""", says="only the variance has moved")
