"""Lesson 12b: what must hold of a sum in lanes and of Winograd's tile, and the wrong answers that are known."""

import numpy as np

from minirewind.kernels import loops
from minirewind.kernels.reference import convolution
from minirewind.learn import Exercise


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ------------------------------------------------------------------------------------------- kernels.loops.dot_in_lanes

dot = Exercise("kernels.loops.dot_in_lanes", hints=(
    "13 products and 4 lanes. How often can you take 4 at a time? What becomes of the one that is left? And how many\n"
    "additions make one number out of 4 lanes?",
    "sums = np.zeros(lanes, x.dtype). For i = 0, lanes, 2 * lanes ... add x[i : i + lanes] * w[i : i + lanes]. What "
    "is left\n"
    "over goes into the first lanes. Then, while there is more than one: the first half plus the second half.",
    """
    sums = np.zeros(lanes, x.dtype)
    whole = len(x) - len(x) % lanes
    for i in range(0, whole, lanes):
        sums += ...
    sums[: len(x) - whole] += ...               # what is left over
    while len(sums) > 1:
        half = len(sums) // 2
        sums = ...
    return sums[0]
    """))


def summed(length, lanes, dtype=np.float64):
    x, w = random(length).astype(dtype), random(length, seed=1).astype(dtype)
    got = loops.dot_in_lanes(x, w, lanes)
    assert got is not None, "nothing came back: return the one lane that is left"
    assert np.ndim(got) == 0, (
        f"one number is expected, yours has the shape {np.shape(got)}: fold until one lane is left")
    return got, x, w


@dot.check
def test_all_lanes_are_folded_into_one():
    got, x, w = summed(8, 4)
    products = x * w
    assert not np.isclose(got, products[::4].sum()), (
        "that is lane 0 alone, every fourth product: the other lanes must be folded onto it")
    halves = products[:4] + products[4:]
    assert not np.isclose(got, halves[0] + halves[2]), (
        "after one folding two lanes are left, and you took the first of them: fold again until one is left")
    assert np.isclose(got, products.sum()), f"8 products in 4 lanes are {products.sum():.4f}, yours are {got:.4f}"


@dot.check
def test_what_is_left_over_counts_too():
    got, x, w = summed(13, 4)
    assert not np.isclose(got, x[:12] @ w[:12]), (
        "13 products, and only 12 of them have been added: what does not fill all lanes is left over at the end, and "
        "counts too")
    assert np.isclose(got, x @ w), f"13 products in 4 lanes are {x @ w:.4f}, yours are {got:.4f}"
    got, x, w = summed(3, 8)
    assert np.isclose(got, x @ w), f"3 products in 8 lanes are {x @ w:.4f}, yours are {got:.4f}"


@dot.check
def test_it_is_the_order_of_the_lanes_to_the_last_bit():
    got, x, w = summed(4096, 8, np.float32)
    sums = np.zeros(8, np.float32)
    for i in range(0, 4096, 8):
        sums += x[i : i + 8] * w[i : i + 8]
    folded = sums[:4] + sums[4:]
    folded = folded[:2] + folded[2:]
    assert np.asarray(got).dtype == np.float32, (
        f"float32 went in, {np.asarray(got).dtype} came out: the lanes have the type of x, np.zeros(lanes, x.dtype)")
    assert got == folded[0] + folded[1], (
        "the sum is right, but not to the last bit what 8 lanes give: was it added up in another order? Lane j takes "
        "the "
        "products j, j + 8, j + 16 ...; and the first half of the lanes is folded onto the second")


LANES = """
def dot_in_lanes(x, w, lanes):
    sums = np.zeros(lanes, DTYPE)
    whole = len(x) - len(x) % lanes
    for i in range(0, whole, lanes):
        sums += x[i : i + lanes] * w[i : i + lanes]
    REST
    FOLD
"""
REST = "sums[: len(x) - whole] += x[whole:] * w[whole:]"
FOLD = "while len(sums) > 1: sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]\n    return sums[0]"


def lanes(dtype="x.dtype", rest=REST, fold=FOLD):
    return LANES.replace("DTYPE", dtype).replace("REST", rest).replace("FOLD", fold)


dot.wrong(lanes(fold="return sums[0]"), says="that is lane 0 alone")
dot.wrong(lanes(fold="half = len(sums) // 2\n    return (sums[:half] + sums[half:])[0]"), says="after one folding")
dot.wrong(lanes(rest=""), says="only 12 of them have been added")
dot.wrong(lanes(dtype="np.float64"), says="the lanes have the type of x")
dot.wrong("""
def dot_in_lanes(x, w, lanes):
    total = x.dtype.type(0)
    for a, b in zip(x, w):
        total += a * b
    return total
""", says="in another order")


# ------------------------------------------------------------------------------------------ kernels.loops.winograd_tile

tile = Exercise("kernels.loops.winograd_tile", hints=(
    "d is 6 x 6, g is 3 x 3. Which matrix makes 6 x 6 of g, from the left, and which from the right? Which of the "
    "three\n"
    "makes 4 x 4 at the end?",
    "The same matrix stands on both sides, on the right transposed: SPREAD @ pixels @ SPREAD.T, and FILTER @ weight @\n"
    "FILTER.T. Multiply the two entry by entry, with *. Then GATHER on both sides.",
    """
    spread = SPREAD @ pixels @ SPREAD.T
    filters = FILTER @ ... @ ...
    return GATHER @ (... * ...) @ GATHER.T
    """))


def tiled(pixels, weight):
    """What the function makes of them; shapes that do not fit are a message."""
    try:
        got = loops.winograd_tile(pixels, weight)
    except ValueError as reason:
        raise AssertionError(
            f"the shapes do not fit: SPREAD is 6 x 6, FILTER 6 x 3, GATHER 4 x 6, the pixels {pixels.shape}, the "
            f"filter "
            f"{weight.shape}. On the right the matrix stands transposed") from reason
    assert got is not None, "nothing came back: did you forget the return?"
    return got


@tile.check
def test_a_tile_is_the_convolution():
    pixels, weight = random(6, 6), random(3, 3, seed=1)
    got = tiled(pixels, weight)
    assert np.shape(got) == (4, 4), f"a 3 x 3 filter has 4 x 4 places on 6 x 6 pixels, yours are {np.shape(got)}"
    spread, filters = loops.SPREAD @ pixels @ loops.SPREAD.T, loops.FILTER @ weight @ loops.FILTER.T
    assert not np.allclose(got, loops.GATHER @ (spread @ filters) @ loops.GATHER.T), (
        "you have taken the matrix product in the middle: there the two are multiplied entry by entry, with *")
    exact = convolution.conv2d(pixels[None, None], weight[None, None], None, (1, 1), (0, 0))[0, 0]
    turned = convolution.conv2d(pixels[None, None], weight.T[None, None], None, (1, 1), (0, 0))[0, 0]
    assert not np.allclose(got, turned), "rows and columns of the filter are exchanged"
    assert np.allclose(got, exact), "these are not the 16 results of the convolution"


@tile.check
def test_a_stack_of_tiles_at_once():
    pixels, weight = random(5, 2, 6, 6), random(2, 3, 3, seed=1)
    got = tiled(pixels, weight)
    assert np.shape(got) == (5, 2, 4, 4), (
        f"5 x 2 windows give 5 x 2 tiles of 4 x 4, yours are {np.shape(got)}: does .T turn round a whole stack? Of the "
        "three matrices it is right, of pixels and weight it is not")
    for i, j in ((0, 0), (4, 1)):
        one = loops.GATHER @ ((loops.SPREAD @ pixels[i, j] @ loops.SPREAD.T)
                              * (loops.FILTER @ weight[j] @ loops.FILTER.T)) @ loops.GATHER.T
        assert np.allclose(got[i, j], one), "in a stack each window belongs to its own filter"


tile.wrong("""
def winograd_tile(pixels, weight):
    return GATHER @ ((SPREAD @ pixels @ SPREAD.T) @ (FILTER @ weight @ FILTER.T)) @ GATHER.T
""", says="entry by entry")
tile.wrong("""
def winograd_tile(pixels, weight):
    return GATHER @ ((SPREAD @ pixels @ SPREAD.T) * (FILTER @ weight.T @ FILTER.T)) @ GATHER.T
""", says="rows and columns of the filter are exchanged")
tile.wrong("""
def winograd_tile(pixels, weight):
    return GATHER @ ((SPREAD @ pixels @ SPREAD) * (FILTER @ weight @ FILTER)) @ GATHER
""", says="the shapes do not fit")
