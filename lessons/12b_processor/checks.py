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
    given = x.copy(), w.copy()
    try:
        got = loops.dot_in_lanes(*given, lanes)
    except (IndexError, ValueError) as reason:
        raise AssertionError(
            f"{length} products and {lanes} lanes: {reason}.\nThe array of sums has {lanes} places, so each step takes "
            f"{lanes} products, from i to i + {lanes}; {length % lanes} are left over at the end. And how often one "
            f"can fold depends on the lanes") from reason
    assert np.array_equal(given[0], x) and np.array_equal(given[1], w), (  # noqa: PT018
        "your function changed x or w, and these belong to whoever called it: make a new array")
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
    assert not np.isclose(got, products[4:].sum()), (
        "only the last 4 products count in your sum: the lanes take them in, +=")
    assert not np.isclose(got, 4 * halves[0]), (
        "the first half was folded onto itself: the second half comes onto it")
    assert np.isclose(got, products.sum()), f"8 products in 4 lanes are {products.sum():.4f}, yours are {got:.4f}"


@dot.check
def test_what_is_left_over_counts_too():
    got, x, w = summed(13, 4)
    for times in (4, 5):
        assert not np.isclose(got, x[:12] @ w[:12] + times * x[12] * w[12]), (
            "the one product that is left over went into all 4 lanes: NumPy stretches a piece of length 1. Take whole "
            "pieces only, and then what is left over")
    assert not np.isclose(got, x[:12] @ w[:12]), (
        "13 products, and only 12 of them have been added: what does not fill all lanes is left over at the end, and "
        "counts too")
    assert np.isclose(got, x @ w), f"13 products in 4 lanes are {x @ w:.4f}, yours are {got:.4f}"
    for length, lanes in ((3, 8), (5, 1), (39, 16)):
        got, x, w = summed(length, lanes)
        assert lanes < 8 or not np.isclose(got, (x * w)[::4].sum() + (x * w)[2::4].sum()), (
            f"4 lanes are folded twice, and you have done the same with {lanes}: fold until one is left")
        assert np.isclose(got, x @ w), f"{length} products, lanes: {lanes}; they are {x @ w:.4f}, yours are {got:.4f}"


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
    pairs = sums[::2] + sums[1::2]
    pairs = pairs[::2] + pairs[1::2]
    assert got != pairs[0] + pairs[1] or got == folded[0] + folded[1], (
        "neighbours were added first, lanes 0 and 1, 2 and 3 ... (so does sums.sum()): fold the second half onto the "
        "first")
    assert got != sum(sums[1:], sums[0]) or got == folded[0] + folded[1], (
        "at the end the lanes were added one after the other: fold them, half onto half")
    assert got == folded[0] + folded[1], (
        "the sum is right, but not to the last bit what 8 lanes give: was it added up in another order? Lane j takes "
        "the products j, j + 8, j + 16 ...; and the second half of the lanes is folded onto the first")


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
dot.wrong(lanes(fold="return sum(sums[1:], sums[0])"), says="added one after the other: fold them")
dot.wrong(lanes(fold="while len(sums) > 1: sums = sums[::2] + sums[1::2]\n    return sums[0]"),
          says="neighbours were added first")
dot.wrong(lanes(fold="while len(sums) > 1: sums = sums[: len(sums) // 2] + sums[: len(sums) // 2]\n    return sums[0]"),
          says="folded onto itself")
dot.wrong(lanes(fold="for _ in range(2): sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]\n    return sums[0]"),
          says="4 lanes are folded twice")
dot.wrong(lanes(fold="for _ in range(3): sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]\n    return sums[0]"),
          says="how often one can fold depends on the lanes")
dot.wrong(lanes(fold="return sums"), says="fold until one lane is left")
dot.wrong(lanes().replace("sums += x[i", "sums = x[i"), says="only the last 4 products count")
dot.wrong(lanes(rest="").replace("range(0, whole", "range(0, len(x)"), says="NumPy stretches a piece of length 1")
dot.wrong(lanes().replace("    whole", "    x *= w\n    w = np.ones_like(w)\n    whole", 1), says="changed x or w")
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
    given = pixels.copy(), weight.copy()
    try:
        got = loops.winograd_tile(*given)
    except (IndexError, TypeError, ValueError) as reason:
        shapes = "SPREAD is 6 x 6, FILTER 6 x 3, GATHER 4 x 6"
        why = ("On the right the matrix stands transposed" if pixels.ndim == 2 else
               "In a stack only the last two dimensions are a matrix: @ knows that. np.dot, .T of the stack and a "
               "reshape do not")
        raise AssertionError(f"the shapes do not fit: {shapes}, the pixels {pixels.shape}, the filter {weight.shape}. "
                             f"{why}") from reason
    assert np.array_equal(given[0], pixels) and np.array_equal(given[1], weight), (  # noqa: PT018
        "your function changed the pixels or the filter that it was given: make new arrays")
    assert got is not None, "nothing came back: did you forget the return?"
    return got


def rule(pixels, weight, left=loops.SPREAD, right=loops.SPREAD.T, product=np.multiply, weight_of=lambda g: g,
         pixels_of=lambda d: d):
    """The tile by one's own matrices: whoever gives others gets what they would make."""
    filters = loops.FILTER @ weight_of(weight) @ loops.FILTER.T
    return loops.GATHER @ product(left @ pixels_of(pixels) @ right, filters) @ loops.GATHER.T


MISTAKES = (
    ({"product": np.matmul},
     "you have taken the matrix product in the middle: there the two are multiplied entry by entry, with *"),
    ({"right": loops.SPREAD},
     "on the right of the pixels SPREAD stands as it does on the left: there belongs B, which is SPREAD.T"),
    ({"left": loops.SPREAD.T, "right": loops.SPREAD},
     "SPREAD is B' already, and you have turned it round once more: it stands on the left as it is, and on the right "
     "turned round"),
    ({"right": np.eye(6)},
     "the pixels were spread from the left only, their columns: SPREAD.T on the right spreads the rows"),
    ({"weight_of": lambda g: g.T}, "rows and columns of the filter are exchanged"),
    ({"pixels_of": lambda d: d.T}, "rows and columns of the pixels are exchanged"),
    ({"weight_of": lambda g: g[::-1, ::-1]},
     "your filter is turned round by half a turn: its first entry belongs to the first pixel of the window"),
)


@tile.check
def test_a_tile_is_the_convolution():
    pixels, weight = random(6, 6), random(3, 3, seed=1)
    got = tiled(pixels, weight)
    assert np.shape(got) == (4, 4), (
        f"a 3 x 3 filter has 4 x 4 places on 6 x 6 pixels, yours are {np.shape(got)}: GATHER stands on both sides, on "
        f"the right as GATHER.T")
    for rules, says in MISTAKES:
        assert not np.allclose(got, rule(pixels, weight, **rules)), says
    spread, filters = loops.SPREAD @ pixels @ loops.SPREAD.T, loops.FILTER @ weight @ loops.FILTER.T
    assert not np.allclose(got, (loops.GATHER @ spread @ loops.GATHER.T) * (loops.GATHER @ filters @ loops.GATHER.T)), (
        "you have gathered both first and multiplied then: multiply the two 6 x 6, and gather the product")
    exact = convolution.conv2d(pixels[None, None], weight[None, None], None, (1, 1), (0, 0))[0, 0]
    assert not np.allclose(got, exact.T), "rows and columns of your tile are exchanged"
    assert np.allclose(got, exact), "these are not the 16 results of the convolution"


@tile.check
def test_it_takes_36_products_and_not_144():
    pixels, weight = random(6, 6), random(3, 3, seed=1)
    direct = (pixels[:3, :3] * weight).sum()
    pixels[4, 4] = 1e20                         # the result at (0, 0) does not see it, but it is spread and cancelled
    assert not np.isclose(tiled(pixels, weight)[0, 0], direct), (
        "this is the direct way, a sum of 9 products for each of the 16 results: 144. Spread both by the matrices, and "
        "36 are enough")


@tile.check
def test_a_stack_of_tiles_at_once():
    pixels, weight = random(5, 2, 6, 6), random(2, 3, 3, seed=1)
    got = tiled(pixels, weight)
    assert np.shape(got) == (5, 2, 4, 4), (
        f"5 x 2 windows give 5 x 2 tiles of 4 x 4, yours are {np.shape(got)}: does .T turn round a whole stack? Of the "
        "three matrices it is right, of pixels and weight it is not")
    for i, j in ((0, 0), (4, 1)):
        assert np.allclose(got[i, j], rule(pixels[i, j], weight[j])), "in a stack each window belongs to its own filter"
    for windows, filters in (((4,), ()), ((2, 3, 4, 5), (3, 1, 1))):        # one for all; one for each channel
        pixels, weight = random(*windows, 6, 6), random(*filters, 3, 3, seed=1)
        got = tiled(pixels, weight)
        assert np.shape(got) == (*windows, 4, 4), (
            f"one filter may be for many windows: pixels {pixels.shape} and filters {weight.shape} give tiles "
            f"{(*windows, 4, 4)}, yours are {np.shape(got)}. Leave it to * to stretch them, as in lesson 01")
        last = tuple(size - 1 for size in windows)
        one = weight if not filters else weight[2, 0, 0]
        assert np.allclose(got[last], rule(pixels[last], one)), (
            "with one filter for many windows the last tile is wrong")


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
TILE = """
def winograd_tile(pixels, weight):
    spread = LEFT @ PIXELS @ RIGHT
    filters = FILTER @ WEIGHT @ FILTER.T
    return GATHER @ (spread * filters) @ GATHER.T
"""


def turned(**parts):
    source = TILE
    for name, text in ({"LEFT": "SPREAD", "PIXELS": "pixels", "RIGHT": "SPREAD.T", "WEIGHT": "weight"} | parts).items():
        source = source.replace(name, text)
    return source


tile.wrong(turned(RIGHT="SPREAD"), says="there belongs B, which is SPREAD.T")
tile.wrong(turned(LEFT="SPREAD.T", RIGHT="SPREAD"), says="SPREAD is B' already")
tile.wrong(turned(RIGHT="np.eye(6)"), says="spread from the left only")
tile.wrong(turned(PIXELS="pixels.T"), says="rows and columns of the pixels are exchanged")
tile.wrong(turned(WEIGHT="weight[..., ::-1, ::-1]"), says="turned round by half a turn")
tile.wrong(turned().replace("return ", "return (") + "    ).T\n", says="rows and columns of your tile are exchanged")
tile.wrong(turned().replace(" @ GATHER.T", ""), says="GATHER stands on both sides")
tile.wrong(turned().replace("    filters", "    pixels[:] = spread\n    filters"),
           says="changed the pixels or the filter")
tile.wrong("""
def winograd_tile(pixels, weight):
    spread, filters = SPREAD @ pixels @ SPREAD.T, FILTER @ weight @ FILTER.T
    return (GATHER @ spread @ GATHER.T) * (GATHER @ filters @ GATHER.T)
""", says="you have gathered both first")
tile.wrong("""
def winograd_tile(pixels, weight):
    return sum(pixels[..., r : r + 4, s : s + 4] * weight[..., r, s, None, None] for r in range(3) for s in range(3))
""", says="this is the direct way")
tile.wrong("""
def winograd_tile(pixels, weight):
    spread, filters = np.dot(np.dot(SPREAD, pixels), SPREAD.T), np.dot(np.dot(FILTER, weight), FILTER.T)
    return np.dot(np.dot(GATHER, spread * filters), GATHER.T)
""", says="np.dot, .T of the stack")
tile.wrong("""
def winograd_tile(pixels, weight):
    tiles = GATHER @ ((SPREAD @ pixels @ SPREAD.T) * (FILTER @ weight @ FILTER.T)) @ GATHER.T
    return tiles.sum(axis=1) if tiles.ndim == 6 else tiles
""", says="one filter may be for many windows")
