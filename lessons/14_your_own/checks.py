"""Lesson 14: what must hold of the table of pixels and of the cosine, and the wrong answers that are known."""

import numpy as np

from minirewind import data, optim
from minirewind.learn import Exercise

# ----------------------------------------------------------------------------------------------- data.normalising_table

table = Exercise("data.normalising_table", hints=(
    "A channel has the values 0, 2, 2, 4. What is its mean, what its spread? What becomes of 0, of 4, and of 3, which\n"
    "does not occur?",
    "For every channel c: the mean and the standard deviation of images[:, c], all of it. Then row c of the table is\n"
    "(np.arange(256) - mean) / std. Where std is 0, divide by 1.",
    """
    values = np.arange(256)
    table = np.empty((images.shape[1], 256), np.float32)
    for c in range(images.shape[1]):
        mean, std = images[:, c].mean(), images[:, c].std()
        table[c] = (values - ...) / (std or 1.0)
    return table
    """))


def table_of(images):
    """The table; anything but (C, 256) numbers is a message."""
    with np.errstate(all="ignore"):
        got = data.normalising_table(images)
    assert got is not None, "nothing came back: did you forget the return?"
    got = np.asarray(got)
    C = images.shape[1]
    assert got.shape != images.shape, (
        "you normalised the images themselves. A table is wanted: what becomes of each of the 256 possible values")
    assert got.shape != (256,), "one table for everything: each channel has its own mean and spread, so (C, 256)"
    assert got.shape != (len(images), 256) or len(images) == C, (
        "one row for each image. A row is for a channel: its mean goes over images, rows and columns, axis=(0, 2, 3)")
    assert got.shape == (C, 256), f"expected a table of shape (C, 256) = ({C}, 256), yours is {got.shape}"
    return got


def photographs(seed=0):
    """Eight images of three channels, each with another mean and spread."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 1, (8, 3, 5, 4)) * [[[[10]], [[30]], [[5]]]] + [[[[50]], [[120]], [[200]]]]).clip(
        0, 255).astype(np.uint8)


@table.check
def test_what_is_looked_up_has_mean_0_and_spread_1():
    images = np.array([0, 2, 2, 0, 4, 2, 2, 4], np.uint8).reshape(2, 1, 2, 2)           # mean 2, spread sqrt 2
    got = table_of(images)[0]
    looked_up = got[images]
    assert not np.allclose(got[[0, 4]], [-1, 1]), (
        "0 became -1, and 4 became 1: you divided by the variance, 2. The spread is its root")
    assert not np.allclose(got[[0, 4]], [-1, 3]), (
        "images[0] is the first image, not the first channel: that is images[:, 0], of all images")
    assert looked_up.max() < 100, (
        "you counted in uint8, the images' type, where there is nothing below 0 and 0 - 2 is 254. np.arange(256) "
        "without a type counts further")
    assert not np.allclose(got[[0, 4]], [0, 1]), (
        "you stretched the values to 0 ... 1, by the smallest and the largest. One spot of light would decide for all: "
        "the mean and the spread are wanted")
    assert abs(looked_up).max() > 0.1, (
        "you divided by 255, or nearly: the numbers are small, but their mean is not 0 and their spread not 1")
    assert not np.isclose(looked_up.std(), np.sqrt(7 / 8)), (
        "you divided by count - 1. The spread of all pixels is wanted as it is, not a guess at that of others")
    assert not np.isclose(looked_up.std(), np.sqrt(3 / 4)), (
        "you took each value once. A value counts as often as it occurs: the mean and the spread of the pixels")
    assert np.isclose(looked_up.mean(), 0, atol=1e-6), f"the mean of what is looked up is {looked_up.mean():.3f}, not 0"
    assert np.isclose(looked_up.std(), 1, atol=1e-5), f"the spread of what is looked up is {looked_up.std():.3f}, not 1"


@table.check
def test_every_channel_has_its_own():
    images = photographs()
    got = table_of(images)
    for c in range(3):
        looked_up = got[c][images[:, c]]
        assert abs(looked_up.mean()) < 1e-4 and abs(looked_up.std() - 1) < 1e-4, (        # noqa: PT018
            f"channel {c}, looked up in its row, has the mean {looked_up.mean():.2f} and the spread "
            f"{looked_up.std():.2f}. Red, green and blue have a mean and a spread of their own each: images[:, c]")


@table.check
def test_values_that_do_not_occur_are_in_it_too():
    images = photographs()
    got = table_of(images)
    steps = np.diff(got.astype(float), axis=1)
    assert np.allclose(steps, steps[:, :1], rtol=1e-3), (
        "from one value to the next, the table must always rise by the same: a test image may hold values that no "
        "training image has")
    assert got.dtype == np.float32, f"the network computes in float32, your table is {got.dtype}"


@table.check
def test_a_channel_without_any_contrast_is_no_nan():
    images = photographs()
    images[:, 1] = 7
    got = table_of(images)
    assert np.isfinite(got).all(), (
        "one channel is 7 everywhere, its spread is 0, and you divided by it. Divide by 1 then: an empty channel is no "
        "reason for a network full of nan")
    assert np.isclose(got[1, 7], 0), (
        f"its only value, 7, becomes 0; yours is {got[1, 7]:g}. (Divided by 255 first? Then a spread of 0 is rounded "
        "to something like 1e-18, and divided by)")
    assert np.isclose(got[1, 8], 1), (
        f"a channel is 7 everywhere in training. If a test image has an 8 there, it becomes 8 - 7 = 1, divided by 1; "
        f"yours is {got[1, 8]:g}. What is added to the spread to be safe makes monsters of such a pixel")


table.wrong("""
def normalising_table(images):
    mean, std = images.mean(), images.std()
    return np.tile(((np.arange(256) - mean) / (std or 1)).astype(np.float32), (images.shape[1], 1))
""", says="a mean and a spread of their own")
table.wrong("""
def normalising_table(images):
    mean = images.mean(axis=(0, 2, 3))[:, None]
    std = images.std(axis=(0, 2, 3))[:, None]
    return ((np.arange(256) - mean) / std).astype(np.float32)
""", says="you divided by it")
table.wrong("""
def normalising_table(images):
    return np.tile((np.arange(256) / 255).astype(np.float32), (images.shape[1], 1))
""", says="you divided by 255")
table.wrong("""
def normalising_table(images):
    mean = images.mean(axis=(0, 2, 3))[:, None]
    variance = images.var(axis=(0, 2, 3))[:, None]
    return ((np.arange(256) - mean) / np.where(variance > 0, variance, 1)).astype(np.float32)
""", says="you divided by the variance")
table.wrong("""
def normalising_table(images):
    return ((images - images.mean()) / images.std()).astype(np.float32)
""", says="you normalised the images themselves")
table.wrong("""
def normalising_table(images):
    mean = images.mean(axis=(0, 2, 3))[:, None]
    std = images.std(axis=(0, 2, 3), ddof=1)[:, None]
    return ((np.arange(256) - mean) / np.where(std > 0, std, 1)).astype(np.float32)
""", says="not a guess at that of others")
ROWS = """
def normalising_table(images):
    rows = []
    for c in range(images.shape[1]):
        values, part = np.arange(256), images[:, c]
        rows.append((values - part.mean()) / (part.std() or 1))
    return np.stack(rows).astype(np.float32)
"""
table.wrong(ROWS.replace("images[:, c]", "images[c]"), says="is the first image, not the first channel")
table.wrong(ROWS.replace("range(images.shape[1])", "range(len(images))").replace("[:, c]", "[c]"),
            says="one row for each image")
table.wrong(ROWS.replace("part.mean()", "part.min()").replace("part.std()", "(part.max() - part.min())"),
            says="you stretched the values")
table.wrong(ROWS.replace("images[:, c]", "np.unique(images[:, c])"), says="you took each value once")
table.wrong(ROWS.replace("np.arange(256)", "np.arange(256, dtype=np.uint8)").replace(
    "part.mean()", "part.mean().astype(np.uint8)"), says="you counted in uint8")
table.wrong(ROWS.replace("(part.std() or 1)", "(part.std() + 1e-5)"), says="makes monsters of such a pixel")


# -------------------------------------------------------------------------------------------------------- optim.cosine

curve = Exercise("optim.cosine", hints=(
    "Half a cosine goes from 1 to -1. How do you make of that something that goes from 1 to 0? And of that something\n"
    "that goes from base to base * last?",
    "(1 + math.cos(math.pi * share)) / 2 goes from 1 to 0 while share goes from 0 to 1. share is step / (steps -\n"
    "1), and step is cut at steps - 1 first. Then low + (base - low) * that, with low = base * last.",
    """
    low = base * last

    def rate(step):
        step = min(step, steps - 1)
        return low + (base - low) * (1 + math.cos(math.pi * step / max(steps - 1, 1))) / 2
    return ...
    """))


def rates(steps, base=0.1, last=0.01):
    """The schedule's function; anything else is a message."""
    try:
        rate = optim.cosine(steps, base, last)
        assert callable(rate), (
            "cosine gives back a function, rate(step), that is asked at every step; yours gives back "
            + ("nothing: did you forget the last return?" if rate is None else f"a {type(rate).__name__}"))
        assert rate(0) is not None, "rate(0) gives back nothing: did you forget the return inside rate?"
    except ZeroDivisionError:
        raise AssertionError("with a single step there is no way from the first to the last, and you divided by its "
                             "length, 0: max(steps - 1, 1)") from None
    return rate


@curve.check
def test_it_begins_at_the_base_and_ends_at_a_hundredth():
    rate = rates(101, 0.2)
    assert not np.isclose(rate(0), 0.398), (
        "step 0 has the base, 0.2; yours is nearly twice that. 1 + cos goes from 2 to 0: take half of it")
    assert np.isclose(rate(0), 0.2), f"step 0 has the base, 0.2; yours is {rate(0):g}"
    assert not np.isclose(rate(100), 0, atol=1e-6), (
        "the last step has the rate 0. Fine-tuning takes the last rate for the whole retraining, and with 0 it would "
        "not move at all: the curve ends at a hundredth of the base")
    assert not all(np.isclose(rate(step), 0.2) for step in range(101)), "the rate is the same at every step"
    assert not np.isclose(rate(100), 0.2), (
        "the last step has the base again: the cosine went round once. Half a cosine, to the angle pi, goes down only")
    assert rate(100) > 0, (
        f"the last rate is {rate(100):g}, and with it a step would climb: cos goes on to -1. Make of it something that "
        "goes from 1 to 0 first: (1 + cos) / 2")
    assert not np.isclose(rate(100), 0.01), (
        "the last rate is 0.01 whatever the base. `last` is a share of the base: base * last")
    assert all(rate(step + 1) <= rate(step) for step in range(100)), (
        "the rate goes down and up again: math.cos takes its angle in radians, where half a circle is pi, not 180")
    assert rate(100) < 0.00201, (
        f"the last of 101 steps is step 100, and has a hundredth of the base, 0.002; yours is {rate(100):.5f}. Steps "
        f"count from 0, so share = step / (steps - 1)")
    assert np.isclose(rate(100), 0.002), f"the last of 101 steps has a hundredth of the base; yours is {rate(100):g}"


@curve.check
def test_it_is_flat_at_both_ends_and_steep_in_the_middle():
    rate = rates(101, 1.0)
    assert not np.isclose(rate(50), 1), (
        "half-way there the rate is still the base: // leaves out the fraction, and only / keeps it")
    assert not np.isclose(rate(50), 0.5), (
        "in the middle the rate is 0.5, half of the base: the curve runs down to 0 and is cut off on its way. It goes "
        "from base to low, low + (base - low) * ..., and is half-way between them there, 0.505")
    assert not np.isclose(rate(50), 0.01 + 0.99 * np.cos(np.pi / 4)), (
        "that is a quarter of a cosine: it ends where it is steepest. Half a cosine is flat at both ends; its angle "
        "goes to pi")
    assert np.isclose(rate(50), 0.505), f"in the middle it is half-way between 1 and 0.01, 0.505; yours is {rate(50):g}"
    assert not np.isclose(rate(25), 0.7525), (
        "after a quarter you are a quarter of the way down: a straight line. A cosine begins slowly, and has come a "
        "seventh of the way there")
    assert np.isclose(rate(25), 0.01 + 0.99 * (1 + np.cos(np.pi / 4)) / 2), (
        f"after a quarter the angle is pi / 4, and the rate 0.855; yours is {rate(25):g}")


@curve.check
def test_the_end_of_the_cosine_holds_beyond_it():
    rate = rates(11, 1.0)
    try:
        beyond = rate(15)
    except Exception as reason:
        raise AssertionError("step 15 of a schedule of 11 steps is an error in yours. Whoever trains on beyond the end "
                             "gets the last rate: cut the step at steps - 1 first") from reason
    assert beyond <= rate(10) + 1e-9, (
        f"step 15 of a schedule of 11 steps: the last rate holds, {rate(10):g}; yours is {beyond:g}, and rises "
        f"again. Cut the step at steps - 1 first")
    assert np.isclose(beyond, rate(10)), (
        f"step 15 of a schedule of 11 steps: the last rate holds, {rate(10):g}; yours is {beyond:g}")


@curve.check
def test_it_ends_where_it_is_told_to():
    assert np.isclose(rates(5, 0.2, 0.5)(4), 0.1), (
        f"last = 0.5 says that the curve ends at half of the base: expected 0.1, yours is {rates(5, 0.2, 0.5)(4):g}")


@curve.check
def test_a_single_step_has_the_base():
    assert np.isclose(rates(1, 0.3)(0), 0.3), "if there is one step only, its rate is the base"


curve.wrong("""
def cosine(steps, base=0.1, last=0.01):
    return lambda step: base * (1 + math.cos(math.pi * min(step, steps - 1) / max(steps - 1, 1))) / 2
""", says="the curve ends at a hundredth")
curve.wrong("""
def cosine(steps, base=0.1, last=0.01):
    low = base * last
    return lambda step: low + (base - low) * (1 + math.cos(math.pi * min(step, steps - 1) / steps)) / 2
""", says="share = step / (steps - 1)")
curve.wrong("""
def cosine(steps, base=0.1, last=0.01):
    return lambda step: base - (base - base * last) * min(step, steps - 1) / max(steps - 1, 1)
""", says="a straight line")
curve.wrong("""
def cosine(steps, base=0.1, last=0.01):
    low = base * last
    return lambda step: low + (base - low) * (1 + math.cos(2 * math.pi * min(step, steps - 1) / max(steps - 1, 1))) / 2
""", says="the cosine went round once")
curve.wrong("""
def cosine(steps, base=0.1, last=0.01):
    low = base * last
    return lambda step: low + (base - low) * (1 + math.cos(math.pi * step / max(steps - 1, 1))) / 2
""", says="and rises again")
curve.wrong("""
def cosine(steps, base=0.1, last=0.01):
    low = base * last
    return lambda step: low + (base - low) * (1 + math.cos(math.pi * min(step, steps - 1) / (steps - 1))) / 2
""", says="you divided by its length, 0")
COSINE = """
def cosine(steps, base=0.1, last=0.01):
    low = base * last
    return lambda step: low + (base - low) * (1 + math.cos(math.pi * min(step, steps - 1) / max(steps - 1, 1))) / 2
"""
HALF = COSINE[COSINE.index("(1 + math.cos") :].rstrip()
curve.wrong(COSINE.replace("math.pi *", "180 *"), says="in radians")
curve.wrong(COSINE.replace(HALF, HALF.removesuffix(" / 2")), says="take half of it")
curve.wrong(COSINE.replace(HALF, HALF.removeprefix("(1 + ").removesuffix(") / 2")), says="cos goes on to -1")
curve.wrong(COSINE.replace(HALF, HALF.removeprefix("(1 + ").removesuffix(") / 2")).replace("math.pi", "math.pi / 2"),
            says="a quarter of a cosine")
curve.wrong(COSINE.replace("base * last", "last"), says="whatever the base")
curve.wrong(COSINE.replace("base * last", "base * 0.01"), says="ends at half of the base")
curve.wrong(COSINE.replace("math.pi * min(step, steps - 1) / max(steps - 1, 1)",
                           "math.pi * (min(step, steps - 1) // max(steps - 1, 1))"), says="leaves out the fraction")
curve.wrong(COSINE.replace("low + (base - low) * (1", "max(low, base * (1").replace("/ 2", "/ 2)"), says="is cut off")
curve.wrong("""
def cosine(steps, base=0.1, last=0.01):
    rates = base * (last + (1 - last) * (1 + np.cos(np.linspace(0, np.pi, steps))) / 2)
    return lambda step: rates[step]
""", says="is an error in yours")
