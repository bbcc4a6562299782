"""Lesson 03: what must hold of a convolution and its gradients, and the wrong answers that are known."""

import numpy as np

from minirewind.kernels import loops
from minirewind.kernels.reference import convolution
from minirewind.learn import Exercise

ONE, NONE = (1, 1), (0, 0)          # as a stride, and as a padding


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def single(height, width, row, column):
    """Zeros (1, 1, height, width) with a single 1."""
    array = np.zeros((1, 1, height, width))
    array[0, 0, row, column] = 1
    return array


def given(result, shape, name):
    """What a function gave back, once it has the right shape."""
    assert result is not None, f"nothing came back: return {name}"
    assert np.shape(result) == shape, f"{name} must have the shape {shape}, yours has {np.shape(result)}"
    result = np.asarray(result)
    assert result.dtype.kind == "f", (f"{name} holds whole numbers ({result.dtype}): all that stands behind the point "
                                      f"is lost. Give np.zeros the type of what came in, x.dtype or dy.dtype")
    assert result.dtype == np.float64, (f"{name} is {result.dtype}, and what came in float64: half of the digits are "
                                        f"lost. Give np.zeros the type of what came in, x.dtype or dy.dtype")
    return result


def inside(function, *arguments, says):
    """The result of a function; an index beyond an array is a message."""
    try:
        return function(*arguments)
    except IndexError as reason:
        raise AssertionError(f"{says} (Python says: {reason}. Once compiled, it would not say it, and read the memory "
                             f"of somebody else.)") from reason


def kept(name, array, before):
    """An array that came in must be as it was."""
    assert np.all(array == np.asarray(before)), f"you changed {name}, and it belongs to the caller: make a new array"


def convolved(x, weight, stride, padding):
    return inside(loops.conv2d, x, weight, stride, padding, says=(
        f"an index ran out of its array, with the stride {stride} and the padding {padding}. " + (
            "A window may stand half outside: add a product only where 0 <= h < H and 0 <= w < W" if any(padding) else
            "Without padding no window reaches beyond the image. Are two letters exchanged? x[n, c, h, w], "
            "weight[k, c, r, s], y[n, k, p, q], with p in range(P) and q in range(Q)")))


def narrowed(stride, padding):
    """Where to look for a mistake in a gradient, seeing that all cases before this one were right."""
    if (stride, padding) == (ONE, NONE):
        return "Here are 2 images, 3 channels and 4 filters, before there was one of each: look at n, k and c"
    if stride == ONE:
        return ("Without padding it was right. What lies outside the image collects nothing and gives nothing, and the "
                "other entries of its row still count (no break)")
    return ("With a stride of 1 and no padding it was right: look at stride and padding. [0] is for rows, [1] for "
            "columns, and h and w are as in conv2d")


COLLECTING = ("an index ran out of its array. p and q count the places of dy, dy.shape[2] and dy.shape[3] of them; h "
              "and w are the pixel that lies under the entry (r, s), and that may be outside the image")


# ------------------------------------------------------------------------------------------------- kernels.loops.conv2d

forward = Exercise("kernels.loops.conv2d", numba={}, hints=(
    "The window is at place (p, q), and you look at its entry (r, s). In which row of the image is that, if the "
    "stride\n"
    "is 1 and there is no padding? And with a stride of 2? With a padding of 1, at which row does the window begin?",
    "Make y of zeros, (N, K, P, Q), with P = (H + 2 * padding[0] - R) // stride[0] + 1 and Q alike. Then seven loops.\n"
    "Inside, find h and w; if both are inside the image, add one product to y[n, k, p, q].",
    """
    N, C, H, W = x.shape
    K, C, R, S = weight.shape
    P, Q = (H + 2 * padding[0] - R) // stride[0] + 1, ...
    y = np.zeros((N, K, P, Q), x.dtype)
    for n in range(N):
        ...                                     # k, p, q, c, r, s
            h, w = p * stride[0] + r - padding[0], ...
            if 0 <= h < H and ...:
                y[n, k, p, q] += x[n, c, h, w] * weight[...]
    return y
    """))


@forward.check
def test_the_window_has_fewer_places_than_the_image_has_pixels():
    y = convolved(np.ones((1, 1, 5, 6)), np.ones((1, 1, 3, 3)), ONE, NONE)
    assert y is not None, "nothing came back: return y"
    assert np.shape(y) != (1, 1, 2, 3), (
        "a window of 3 has 3 places on a line of 5: it can begin at 0, 1 and 2. You found 2; the + 1 is missing")
    assert np.shape(y) != (1, 1, 5, 6), (
        "y has a number for each PLACE of the window, P x Q of them, and not for each pixel, H x W")
    given(y, (1, 1, 3, 4), "y of an image 5 x 6 under a filter 3 x 3")
    y = convolved(np.ones((1, 1, 5, 7)), np.ones((1, 1, 3, 3)), (2, 1), (1, 0))
    assert np.shape(y) != (1, 1, 3, 4), (
        "stride[0] and padding[0] are for rows, stride[1] and padding[1] for columns: yours are exchanged")
    assert np.shape(y) != (1, 1, 2, 5), (
        "the padding lies on both sides of the image: (H + 2 * padding[0] - R) // stride[0] + 1")
    given(y, (1, 1, 3, 5), "y of an image 5 x 7 under a filter 3 x 3, with the stride (2, 1) and the padding (1, 0),")
    y = convolved(np.ones((1, 1, 6, 8)), np.ones((1, 1, 3, 3)), (2, 2), NONE)
    assert np.shape(y) not in ((1, 1, 3, 3), (1, 1, 2, 4), (1, 1, 3, 4)), (
        "a window of 3 with a stride of 2 can begin at 0 and at 2 on a line of 6. You found a third place, at 4, where "
        "it would stick out: round down")
    given(y, (1, 1, 2, 3), "y of an image 6 x 8 under a filter 3 x 3, with the stride (2, 2),")


@forward.check
def test_all_nine_products_are_added_up():
    x, weight = np.ones((1, 1, 3, 3)), np.arange(1.0, 10).reshape(1, 1, 3, 3)
    y = given(convolved(x, weight, ONE, NONE), (1, 1, 1, 1), "y")[0, 0, 0, 0]
    kept("x", x, 1)
    kept("weight", weight.ravel(), range(1, 10))
    assert y != 9, ("under the filter 1 to 9 a white square of 1s gave 9: each product has replaced the one before it. "
                    "They are added up, +=")
    assert y != 28, ("row 0 and column 0 of the image were left out: 5 + 6 + 8 + 9 is 28. They are inside: 0 <= h, and "
                     "not 0 < h")
    assert not np.isclose(y, 5), "you divided by the number of products. A convolution is a sum and no mean"
    assert y != 12, "row 2 and column 2 of the filter were left out: 1 + 2 + 4 + 5 is 12. range(R) ends with R - 1"
    assert y != 0, "y is still 0: does a loop stop too early? range(P) ends with P - 1"
    assert y == 45, f"1 * 1 + 1 * 2 + ... + 1 * 9 is 45, yours is {y:g}"


@forward.check
def test_the_upper_left_entry_of_the_filter_lies_on_the_upper_left_pixel():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    y = given(convolved(x, single(2, 2, 0, 0), ONE, NONE), (1, 1, 2, 2), "y")
    assert not np.array_equal(y[0, 0], x[0, 0, 1:, 1:]), (
        "your filter lies on the image turned round: its upper left entry met the lower right pixel of the window. In "
        "signal processing it is so; networks do not turn their filters: entry (r, s) lies on row r, column s")
    y = given(loops.conv2d(x, single(2, 2, 0, 1), ONE, NONE), (1, 1, 2, 2), "y")
    assert not np.array_equal(y[0, 0], x[0, 0, 1:, :2]), "rows and columns are exchanged: r belongs to h, s to w"
    assert not np.array_equal(y[0, 0], x[0, 0, :2, :2]), (
        "every entry of the filter met the same pixel, the one where the window begins: entry (r, s) lies r rows and s "
        "columns further")
    assert not np.array_equal(y.ravel(), np.cumsum(x[0, 0, :2, 1:])), (
        "each output has the sums of all outputs before it inside: every one begins at zero")
    assert np.array_equal(y[0, 0], x[0, 0, :2, 1:]), (
        f"a filter whose only 1 is in its upper right corner takes the pixel there, {x[0, 0, :2, 1:].tolist()}; yours "
        f"gave {y[0, 0].tolist()}")
    given(convolved(np.ones((1, 1, 5, 7)), np.ones((1, 1, 2, 4)), ONE, NONE), (1, 1, 4, 4),
          "y of an image 5 x 7 under a filter of R = 2 rows and S = 4 columns")


@forward.check
def test_in_the_padding_there_is_nothing():
    x = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]).reshape(1, 1, 3, 3)
    y = given(convolved(x, single(3, 3, 1, 0), ONE, ONE), (1, 1, 3, 3), "y")
    wanted = np.array([[0.0, 1, 2], [0, 4, 5], [0, 7, 8]])               # each pixel's left neighbour
    assert not np.array_equal(y[0, 0, :, 0], x[0, 0, :, 2]), (
        "left of the image your window found the pixels of its right edge: w was -1, and to Python x[-1] is the last "
        "one. Add nothing where h or w lies outside")
    assert not np.array_equal(y[0, 0, 0], [4, 5, 6]), (
        "your window begins at the first pixel, as if there were no padding. With a padding of 1 it begins one pixel "
        "before the image: h = p * stride + r - padding")
    assert not np.array_equal(y[0, 0, 0], [8, 9, 0]), (
        "the padding was added: your window begins one pixel too late. It begins one pixel BEFORE the image: "
        "h = p * stride + r - padding")
    assert not np.array_equal(y[0, 0, :, 0], x[0, 0, :, 0]), (
        "beyond the edge your window found the pixels of the edge once more. In the padding there is nothing: 0")
    assert np.array_equal(y[0, 0], wanted), (
        f"a filter that takes the left neighbour makes {wanted.tolist()} of {x[0, 0].tolist()}, with 0 where there is "
        f"none; yours is {y[0, 0].tolist()}")
    y = given(convolved(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), ONE, ONE), (1, 1, 3, 3), "y")
    assert np.array_equal(y[0, 0], [[4, 6, 4], [6, 9, 6], [4, 6, 4]]), (
        f"in a corner 4 of the 9 products lie on the image, at an edge 6, in the middle 9; yours are "
        f"{y[0, 0].tolist()}. Where one entry looks into the padding, the others of its row still count (no break)")


@forward.check
def test_the_stride_moves_the_window_and_not_the_filter():
    x = np.arange(25.0).reshape(1, 1, 5, 5)
    y = given(convolved(x, single(3, 3, 0, 1), (2, 2), NONE), (1, 1, 2, 2), "y")
    assert np.array_equal(y[0, 0], x[0, 0, 0:4:2, 1:5:2]), (
        f"with a stride of 2 the window begins at rows 0 and 2, and its entry (0, 1) sees "
        f"{x[0, 0, 0:4:2, 1:5:2].tolist()}"
        f"; yours saw {y[0, 0].tolist()}. p counts places: the pixel is p * stride + r - padding")
    y = given(convolved(random(1, 1, 6, 6), random(1, 1, 2, 2, seed=1), (1, 3), NONE), (1, 1, 5, 2),
              "y of an image 6 x 6 under a filter 2 x 2, with the stride (1, 3),")
    wanted = convolution.windows(random(1, 1, 6, 6), (2, 2), (1, 3))[0, 0]
    assert np.allclose(y[0, 0], (wanted * random(2, 2, seed=1)).sum(axis=(2, 3))), (
        "with the stride (1, 3) the result differs: stride[0] is for rows, stride[1] for columns; padding alike")
    x = np.arange(1.0, 26).reshape(1, 1, 5, 5)
    y = given(convolved(x, single(3, 3, 1, 1), (2, 2), ONE), (1, 1, 3, 3), "y")
    assert np.array_equal(y[0, 0], x[0, 0, ::2, ::2]), (
        "with a stride of 2 and a padding of 1 the window begins one pixel before the image, and its middle lies on "
        "pixels 0, 2 and 4: p * stride - padding, and the padding is not multiplied")
    y = given(convolved(x, single(3, 3, 0, 1), ONE, (0, 1)), (1, 1, 3, 5), "y")
    assert np.array_equal(y[0, 0], x[0, 0, :3]), (
        "with the padding (0, 1), none above and below, one column on the left and right, the result differs: "
        "padding[0] is for h, padding[1] for w")


@forward.check
def test_channels_are_added_up_and_images_and_filters_stay_apart():
    x, weight = random(2, 3, 4, 4), random(5, 3, 2, 2, seed=1)
    y = given(inside(loops.conv2d, x, weight, ONE, NONE, says=(
        "an index ran out of its array. Which channel is whose? x[n, c], weight[k, c] and y[n, k]")), (2, 5, 3, 3), "y")
    wanted = np.einsum("ncpqrs,kcrs->nkpq", convolution.windows(x, (2, 2), ONE), weight)
    last = np.einsum("npqrs,krs->nkpq", convolution.windows(x, (2, 2), ONE)[:, -1], weight[:, -1])
    assert np.any(y[1]), "the second image has only zeros: is the return inside a loop?"
    assert not np.allclose(y[0], y[1]), "both images made the same maps: y[n] is made of x[n]"
    assert not np.allclose(y[:, 0], y[:, 1]), "all filters made the same map: y[n, k] is made with weight[k]"
    first = np.einsum("npqrs,krs->nkpq", convolution.windows(x, (2, 2), ONE)[:, 0], weight[:, 0])
    same = np.allclose(y, first) or np.allclose(y, 3 * first)
    assert not same, "only channel 0 counts in your sum: add up x[n, c] * weight[k, c] for all c"
    assert not np.allclose(y, last), "only the last of the three channels counts in your sum: all channels are added up"
    assert np.allclose(y, wanted), ("with 2 images, 3 channels and 5 filters some numbers are wrong: y[n, k] adds up "
                                    "the products of x[n, c] and weight[k, c] for all c")


SEVEN = """
    for n in range(N):
        for k in range(K):
            for p in range({P}):
                for q in range({Q}):
                    for c in range(C):
                        for r in range(R):
                            for s in range(S):
                                {inside}
"""


def loop(head, inside, result, P="P", Q="Q"):
    """A wrong answer: seven loops with other lines inside."""
    inside = ("\n" + " " * 32).join(inside)
    return head + SEVEN.format(inside=inside, P=P, Q=Q) + f"    return {result}\n"


HEAD = """
def conv2d(x, weight, stride, padding):
    N, C, H, W = x.shape
    K, C, R, S = weight.shape
    P, Q = (H + 2 * padding[0] - R) // stride[0] + 1, (W + 2 * padding[1] - S) // stride[1] + 1
    y = np.zeros((N, K, P, Q), x.dtype)
"""
WHERE = "h, w = p * stride[0] + r - padding[0], q * stride[1] + s - padding[1]"
INSIDE = "if 0 <= h < H and 0 <= w < W:"
PRODUCT = "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"

forward.wrong(loop(HEAD.replace("+ 1", ""), [WHERE, INSIDE, "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"],
                   "y"), says="the + 1 is missing")
forward.wrong(loop(HEAD, [WHERE, "y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"], "y"),
              says="A window may stand half outside")
forward.wrong(loop(HEAD.replace("[0]", "[2]").replace("[1]", "[0]").replace("[2]", "[1]"),
                   [WHERE, INSIDE, "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"], "y"),
              says="yours are exchanged")
forward.wrong(loop(HEAD, [WHERE, "if 0 < h < H and 0 < w < W:",
                          "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"], "y"), says="row 0 and column 0")
forward.wrong(loop(HEAD, [WHERE.replace(" - padding[0]", "").replace(" - padding[1]", ""), INSIDE,
                          "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"], "y"),
              says="as if there were no padding")
forward.wrong(loop(HEAD, [WHERE.replace("- padding", "+ padding"), INSIDE,
                          "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"], "y"),
              says="your window begins one pixel too late")
forward.wrong(loop(HEAD, [WHERE, INSIDE, "    y[n, k, p, q] += x[n, c, p, q] * weight[k, c, r, s]"], "y"),
              says="met the same pixel")
forward.wrong(loop(HEAD, [WHERE, INSIDE, "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"], "y").replace(
                  "    return y", "        return y"), says="is the return inside a loop?")
forward.wrong(loop(HEAD, [WHERE, INSIDE, "    y[n, k, p, q] = x[n, c, h, w] * weight[k, c, r, s]"], "y"),
              says="has replaced the one before it")
forward.wrong(loop(HEAD.replace("P, Q = (H + 2 * padding[0] - R) // stride[0]", "P, Q = -(-(H + 2 * padding[0] - R) // "
                                "stride[0])").replace("(W + 2 * padding[1] - S) // stride[1]",
                                                      "-(-(W + 2 * padding[1] - S) // stride[1])"),
                   [WHERE, INSIDE, PRODUCT], "y"), says="You found a third place")
forward.wrong(loop(HEAD.replace("2 * padding", "padding"), [WHERE, INSIDE, PRODUCT], "y"), says="lies on both sides")
forward.wrong(loop(HEAD.replace("weight.shape", "weight.shape\n    S = R"), [WHERE, INSIDE, PRODUCT], "y"),
              says="S = 4 columns")
forward.wrong(loop(HEAD.replace("x.dtype", "np.float32"), [WHERE, INSIDE, PRODUCT], "y"),
              says="half of the digits are lost")
forward.wrong(loop(HEAD.replace("(N, K, P, Q)", "x.shape"), [WHERE, INSIDE, PRODUCT], "y"), says="for each PLACE")
forward.wrong(loop(HEAD.replace("x.dtype", "int"), [WHERE, INSIDE, PRODUCT], "y"), says="holds whole numbers")
forward.wrong(loop(HEAD, [WHERE, INSIDE, PRODUCT + " / (R * S)"], "y"), says="is a sum and no mean")
forward.wrong(loop(HEAD, [WHERE, INSIDE, PRODUCT], "y", "P - 1", "Q - 1"), says="does a loop stop too early?")
forward.wrong(loop(HEAD, [WHERE, INSIDE, PRODUCT.replace("[n, c, h, w]", "[n, c, w, h]")], "y"),
              says="Are two letters exchanged?")
forward.wrong(loop(HEAD, [WHERE, INSIDE.replace("0 <= h < H", "not (0 <= h < H").replace("W:", "W):"), "    break",
                          PRODUCT.strip()], "y"), says="(no break)")
forward.wrong(loop(HEAD, [WHERE + "; h, w = min(max(h, 0), H - 1), min(max(w, 0), W - 1)", INSIDE, PRODUCT], "y"),
              says="the pixels of the edge once more")
forward.wrong(loop(HEAD, [WHERE.replace("padding[1]", "padding[0]"), INSIDE, PRODUCT], "y"),
              says="padding[0] is for h")
forward.wrong(loop(HEAD, ["h, w = (p - padding[0]) * stride[0] + r, (q - padding[1]) * stride[1] + s", INSIDE, PRODUCT],
                   "y"), says="the padding is not multiplied")
forward.wrong(loop(HEAD, [WHERE, INSIDE, PRODUCT.replace("weight[k, c", "weight[c, k")], "y"),
              says="Which channel is whose?")
forward.wrong(loop(HEAD, [WHERE, INSIDE, PRODUCT.replace("weight[k", "weight[0")], "y"),
              says="all filters made the same map")
forward.wrong(loop(HEAD, [WHERE, INSIDE, PRODUCT], "y").replace("    return y", "    x[...] = 0\n    return y"),
              says="it belongs to the caller")
forward.wrong(loop(HEAD, [WHERE, INSIDE, "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, R - 1 - r, S - 1 - s]"],
                   "y"), says="turned round")
forward.wrong(loop(HEAD, [WHERE, INSIDE, "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, s, r]"], "y"),
              says="rows and columns are exchanged")
forward.wrong(loop(HEAD, [WHERE, "if h < H and w < W:", "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"],
                   "y"), says="the pixels of its right edge")
forward.wrong(loop(HEAD, ["h, w = p + r - padding[0], q + s - padding[1]", INSIDE,
                          "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"], "y"), says="p counts places")
forward.wrong(loop(HEAD, [WHERE, "if c == C - 1 and 0 <= h < H and 0 <= w < W:",
                          "    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]"], "y"),
              says="only the last of the three channels")


# ---------------------------------------------------------------------------------- kernels.loops.conv2d_input_gradient

images = Exercise("kernels.loops.conv2d_input_gradient", numba={}, hints=(
    "y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]. Raise this one pixel by a little. By how much does this one\n"
    "output rise, through this product? And how much does that matter?",
    "Exactly your seven loops. The product is now dy[n, k, p, q] * weight[k, c, r, s], and the pixel collects it:\n"
    "dx[n, c, h, w] += ... The window stands where it stood: the filter is not turned, h and w are as before.",
    """
    N, C, H, W = x_shape
    K, C, R, S = weight.shape
    dx = np.zeros(x_shape, dy.dtype)
    for n in range(N):
        ...                                     # k, p in range(dy.shape[2]), q in range(dy.shape[3]), c, r, s
            h, w = p * stride[0] + r - padding[0], q * stride[1] + s - padding[1]
            if 0 <= h < H and 0 <= w < W:
                dx[...] += dy[...] * weight[...]
    return dx
    """))


@images.check
def test_the_pixel_collects_from_every_window_that_saw_it():
    dy = np.ones((1, 1, 3, 3))
    dx = given(inside(loops.conv2d_input_gradient, dy, np.ones((1, 1, 3, 3)), (1, 1, 5, 5), ONE, NONE,
                      says=COLLECTING), (1, 1, 5, 5), "dx")[0, 0]
    kept("dy", dy, 1)
    wanted = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1])
    assert not (dx == 1).all(), (
        "each pixel has got the share of one window only, the last that came by. The pixel in the middle is seen by "
        "nine "
        "windows: their shares are added up, +=")
    assert not np.allclose(9 * dx, wanted), "you divided by the nine entries of the filter: shares are only added up"
    assert not ((dx[:3, :3] == 9).all() and not dx[3:].any()), (
        "all shares of a window went to dx[n, c, p, q]. (p, q) is the place of the window; the pixel that lies under "
        "its entry (r, s) is (h, w)")
    assert np.array_equal(dx, wanted), (
        f"where everything is 1, dx counts how many windows see each pixel: {wanted[0].tolist()} in the first row, "
        f"{wanted[2].tolist()} in the third; yours has {dx[0].tolist()} and {dx[2].tolist()}")


@images.check
def test_how_much_the_output_matters_is_a_factor():
    dy, weight = 3 * single(2, 2, 0, 0), np.ones((1, 1, 2, 2))
    dx = given(loops.conv2d_input_gradient(dy, weight, (1, 1, 3, 3), ONE, NONE), (1, 1, 3, 3), "dx")
    assert dx[0, 0, 0, 0] != 1, "dy is missing: the output at (0, 0) matters by 3, all the others not at all"
    assert dx[0, 0, 0, 0] == 3, (
        f"the output matters by 3, the filter's entry is 1: the pixel matters by 3, not {dx[0, 0, 0, 0]}")


@images.check
def test_one_output_paints_the_filter_where_its_window_stood():
    weight = np.arange(1.0, 5).reshape(1, 1, 2, 2)
    dx = given(loops.conv2d_input_gradient(single(3, 3, 1, 0), weight, (1, 1, 4, 4), ONE, NONE), (1, 1, 4, 4), "dx")
    patch = dx[0, 0, 1:3, 0:2]
    assert not np.array_equal(patch, weight[0, 0, ::-1, ::-1]), (
        "your filter is turned round. Some books turn it here, and walk over the pixels; you walk over the products, "
        "and "
        "in each the pixel (h, w) met the entry (r, s): no turning")
    assert not np.array_equal(patch, np.ones((2, 2))), (
        "the filter is missing: a pixel matters by dy times the entry that lay on it, weight[k, c, r, s]")
    assert not np.array_equal(patch, weight[0, 0].T), "rows and columns are exchanged: r belongs to h, s to w"
    assert np.array_equal(patch, weight[0, 0]), (
        f"only one output matters, the one at (1, 0). It saw four pixels, through {weight[0, 0].tolist()}: that is "
        f"what "
        f"they matter by. Yours got {patch.tolist()}")
    assert dx.sum() == weight.sum(), "pixels that this window never saw have got a share too"


@images.check
def test_what_fell_into_the_padding_is_lost():
    dx = given(inside(loops.conv2d_input_gradient, np.ones((1, 1, 3, 3)), single(3, 3, 1, 0), (1, 1, 3, 3), ONE, ONE,
                      says=COLLECTING), (1, 1, 3, 3), "dx")[0, 0]
    assert not (dx == 1).all(), (
        "the share of the padding came back in at the other edge: dx[-1] is the last column. What lies outside the "
        "image collects nothing")
    assert dx.any(), ("dx is all zeros. How many places has the window, with the padding? You need not calculate: "
                      "dy.shape[2] and dy.shape[3]")
    assert not (dx[:2] == 0).all(), (
        "the padding was added: h = p * stride + r - padding, as when the window moved over the image")
    assert np.array_equal(dx, [[1, 1, 0]] * 3), (
        f"a filter that takes the left neighbour: the last column is nobody's left neighbour and gets 0, the others 1. "
        f"Yours is {dx.tolist()}")


@images.check
def test_it_is_the_gradient_for_every_stride_and_padding():
    for stride, padding in ((ONE, NONE), (ONE, ONE), ((2, 1), (1, 0)), ((3, 2), (0, 2))):
        x, weight = random(2, 3, 5, 6), random(4, 3, 3, 2, seed=1)
        dy = random(*convolution.conv2d(x, weight, None, stride, padding).shape, seed=2)
        dx = given(inside(loops.conv2d_input_gradient, dy, weight, x.shape, stride, padding, says=(
            "an index ran out of its array. dy has a channel for each filter k, dx has one for each c")), x.shape, "dx")
        assert dx[1].any(), "the second image has collected nothing: is the return inside a loop?"
        step = random(*x.shape, seed=3)
        rise = (convolution.conv2d(step, weight, None, stride, padding) * dy).sum()
        assert np.isclose((dx * step).sum(), rise), (
            f"stride {stride}, padding {padding}: x was moved a little, your dx says that the result rises by "
            f"{(dx * step).sum():.4f}, and it rises by {rise:.4f}. {narrowed(stride, padding)}")


HEAD = """
def conv2d_input_gradient(dy, weight, x_shape, stride, padding):
    N, C, H, W = x_shape
    K, C, R, S = weight.shape
    dx = np.zeros(x_shape, dy.dtype)
"""
OUTPUTS = {"P": "dy.shape[2]", "Q": "dy.shape[3]"}

images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] = dy[n, k, p, q] * weight[k, c, r, s]"], "dx", **OUTPUTS),
             says="the share of one window only")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, R - 1 - r, S - 1 - s]"],
                  "dx", **OUTPUTS), says="your filter is turned round")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]"], "dx", "H", "W"),
             says="p and q count the places of dy")
images.wrong(loop(HEAD, [WHERE.replace("- padding", "+ padding"), INSIDE,
                         "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]"], "dx", **OUTPUTS),
             says="the padding was added")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, k, h, w] += dy[n, c, p, q] * weight[k, c, r, s]"], "dx", **OUTPUTS),
             says="dy has a channel for each filter k")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += weight[k, c, r, s]"], "dx", **OUTPUTS),
             says="dy is missing")
images.wrong(loop(HEAD, [WHERE, "if h < H and w < W:", "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]"],
                  "dx", **OUTPUTS), says="came back in at the other edge")
images.wrong(loop(HEAD, ["h, w = p + r - padding[0], q + s - padding[1]", INSIDE,
                         "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]"], "dx", **OUTPUTS),
             says="With a stride of 1 and no padding it was right")
images.wrong(loop(HEAD, [WHERE, INSIDE.replace("0 <= h < H", "not (0 <= h < H").replace("W:", "W):"), "    break",
                         "dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]"], "dx", **OUTPUTS), says="(no break)")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[0, k, p, q] * weight[k, c, r, s]"], "dx", **OUTPUTS),
             says="x was moved a little")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[n, 0, p, q] * weight[0, c, r, s]"], "dx", **OUTPUTS),
             says="look at n, k and c")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, p, q] += dy[n, k, p, q] * weight[k, c, r, s]"], "dx", **OUTPUTS),
             says="went to dx[n, c, p, q]")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[n, k, p, q]"], "dx", **OUTPUTS),
             says="the filter is missing")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, s, r]"], "dx", **OUTPUTS),
             says="rows and columns are exchanged")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s] / (R * S)"], "dx",
                  **OUTPUTS), says="you divided by the nine entries")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]"], "dx",
                  P="(H - R) // stride[0] + 1", Q="(W - S) // stride[1] + 1"), says="How many places has the window")
images.wrong(loop(HEAD, [WHERE, INSIDE, "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]"], "dx",
                  **OUTPUTS).replace("    return dx", "        return dx"), says="has collected nothing")
images.wrong(loop(HEAD.replace("dy.dtype", "int"), [WHERE, INSIDE,
                                                    "    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]"], "dx",
                  **OUTPUTS), says="holds whole numbers")


# --------------------------------------------------------------------------------- kernels.loops.conv2d_weight_gradient

filters = Exercise("kernels.loops.conv2d_weight_gradient", numba={}, hints=(
    "y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]. You raise weight[k, c, r, s]. Which other factor says how\n"
    "much this output rises? And which images and places have a share in the answer?",
    "Your seven loops again. The product is dy[n, k, p, q] * x[n, c, h, w], and the entry collects it:\n"
    "dweight[k, c, r, s] += ... All images and all places are added up; nothing is divided.",
    """
    N, C, H, W = x.shape
    K, C, R, S = weight_shape
    dweight = np.zeros(weight_shape, dy.dtype)
    for n in range(N):
        ...                                     # k, p in range(dy.shape[2]), q in range(dy.shape[3]), c, r, s
            h, w = ...
            if ...:
                dweight[...] += dy[...] * x[...]
    return dweight
    """))


@filters.check
def test_an_entry_collects_from_all_places_of_all_images():
    dy, x = np.ones((2, 1, 3, 3)), np.ones((2, 1, 4, 4))
    dweight = given(inside(loops.conv2d_weight_gradient, dy, x, (1, 1, 2, 2), ONE, NONE, says=COLLECTING),
                    (1, 1, 2, 2), "dweight")[0, 0]
    kept("dy", dy, 1)
    kept("x", x, 1)
    assert not np.allclose(dweight, 1), (
        "each entry has got one share only: 2 images and 9 places replaced each other, or were divided. Add them up, "
        "+=")
    assert not np.allclose(dweight, 2), "the shares of the 9 places are added up; nothing is divided"
    assert not (dweight == 9).all(), (
        "the entry collects from both images, and not only from one of them, or their mean. (Is the return inside the "
        "loop over them?)")
    assert not np.array_equal(dweight, [[8, 12], [12, 18]]), (
        "row 0 and column 0 of the images were left out. They are inside: 0 <= h, and not 0 < h")
    assert (dweight == 18).all(), (
        f"2 images, 9 places, and every product is 1: each entry collects 18, yours has {dweight.tolist()}")


@filters.check
def test_each_entry_meets_its_own_pixels():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    dweight = given(loops.conv2d_weight_gradient(single(3, 3, 1, 0), x, (1, 1, 2, 2), ONE, NONE), (1, 1, 2, 2),
                    "dweight")[0, 0]
    patch = x[0, 0, 1:3, 0:2]
    assert not np.array_equal(dweight, np.full((2, 2), patch[0, 0])), (
        "all entries got the same pixel, where the window began. Entry (r, s) met the pixel (p + r, q + s)")
    assert not np.array_equal(dweight, [[45, 54], [81, 90]]), (
        "dy is missing: only the output at (1, 0) matters, and yours collected from all nine")
    assert not np.array_equal(dweight, patch[::-1, ::-1]), (
        "your filter is turned round: entry (r, s) met the pixel r rows and s columns behind the window's first")
    assert not np.array_equal(dweight, np.ones((2, 2))), (
        "the image is missing: an entry matters by dy times the pixel that it met, x[n, c, h, w]")
    assert not np.array_equal(dweight, patch.T), "rows and columns are exchanged: r belongs to h, s to w"
    assert np.array_equal(dweight, patch), (
        f"only the output at (1, 0) matters. Its window saw {patch.tolist()}, and each entry matters by what it saw; "
        f"yours got {dweight.tolist()}")


@filters.check
def test_where_the_entry_looked_into_the_padding_it_collects_nothing():
    dweight = given(inside(loops.conv2d_weight_gradient, np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), (1, 1, 3, 3),
                           ONE, ONE, says=COLLECTING), (1, 1, 3, 3), "dweight")[0, 0]
    assert not np.array_equal(dweight, [[9, 6, 3], [6, 4, 2], [3, 2, 1]]), (
        "your windows begin at the first pixel, as if there were no padding. h = p * stride + r - padding, as before")
    assert dweight[0, 0] != 9, (
        "the entries at the edge of the filter collected from the other side of the image, through x[-1]. The upper "
        "left "
        "one looks into the padding at 5 of 9 places, and there it collects nothing")
    assert not np.array_equal(dweight, [[4, 2, 0], [2, 1, 0], [0, 0, 0]]), (
        "the padding was added: h = p * stride + r - padding, as when the window moved over the image")
    assert not np.array_equal(dweight, [[0, 0, 0], [0, 1, 1], [0, 1, 1]]), (
        "only the window's first place has counted. How many there are, with the padding, you need not calculate: "
        "dy.shape[2] and dy.shape[3]")
    assert np.array_equal(dweight, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]), (
        f"the entry in the middle meets 9 pixels, those beside it 6, those in the corners 4; yours: {dweight.tolist()}")


@filters.check
def test_it_is_the_gradient_of_the_filters_for_every_stride_and_padding():
    for stride, padding in ((ONE, NONE), (ONE, ONE), ((2, 1), (1, 0)), ((3, 2), (0, 2))):
        x, weight = random(2, 3, 5, 6), random(4, 3, 3, 2, seed=1)
        dy = random(*convolution.conv2d(x, weight, None, stride, padding).shape, seed=2)
        dweight = given(inside(loops.conv2d_weight_gradient, dy, x, weight.shape, stride, padding, says=(
            "an index ran out of its array. dy has a channel for each filter k, x has one for each c")), weight.shape,
                        "dweight")
        step = random(*weight.shape, seed=3)
        rise = (convolution.conv2d(x, step, None, stride, padding) * dy).sum()
        assert np.isclose((dweight * step).sum(), rise), (
            f"stride {stride}, padding {padding}: the filters were moved a little, your dweight says that the result "
            f"rises by {(dweight * step).sum():.4f}, and it rises by {rise:.4f}. {narrowed(stride, padding)}")


HEAD = """
def conv2d_weight_gradient(dy, x, weight_shape, stride, padding):
    N, C, H, W = x.shape
    K, C, R, S = weight_shape
    dweight = np.zeros(weight_shape, dy.dtype)
"""

filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] = dy[n, k, p, q] * x[n, c, h, w]"], "dweight",
                   **OUTPUTS), says="each entry has got one share only")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w] / N"], "dweight",
                   **OUTPUTS), says="collects from both images")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += x[n, c, h, w]"], "dweight", **OUTPUTS),
              says="dy is missing: only")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, R - 1 - r, S - 1 - s] += dy[n, k, p, q] * x[n, c, h, w]"],
                   "dweight", **OUTPUTS), says="your filter is turned round: entry")
filters.wrong(loop(HEAD, [WHERE.replace("- padding", "+ padding"), INSIDE,
                          "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]"], "dweight", **OUTPUTS),
              says="the padding was added")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, p, q]"], "dweight",
                   **OUTPUTS), says="all entries got the same pixel")
filters.wrong(loop(HEAD, [WHERE, "if h < H and w < W:", "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]"],
                   "dweight", **OUTPUTS), says="from the other side of the image")
filters.wrong(loop(HEAD, ["h, w = p + r, q + s", INSIDE,
                          "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]"], "dweight", **OUTPUTS),
              says="your windows begin at the first pixel")
filters.wrong(loop(HEAD, ["h, w = p + r - padding[0], q + s - padding[1]", INSIDE,
                          "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]"], "dweight", **OUTPUTS),
              says="With a stride of 1 and no padding it was right")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += dy[n, k, p, q] * x[0, c, h, w]"], "dweight",
                   **OUTPUTS), says="the filters were moved a little")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += dy[n, c, p, q] * x[n, c, h, w]"], "dweight",
                   **OUTPUTS), says="look at n, k and c")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += dy[n, k, p, q]"], "dweight", **OUTPUTS),
              says="the image is missing")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, s, r] += dy[n, k, p, q] * x[n, c, h, w]"], "dweight",
                   **OUTPUTS), says="rows and columns are exchanged")
filters.wrong(loop(HEAD, [WHERE, "if 0 < h < H and 0 < w < W:",
                          "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]"], "dweight", **OUTPUTS),
              says="row 0 and column 0")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]"], "dweight",
                   P="(H - R) // stride[0] + 1", Q="(W - S) // stride[1] + 1"), says="only the window's first place")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]"], "dweight",
                   **OUTPUTS).replace("    return d", "        return d"), says="Is the return inside the loop")
filters.wrong(loop(HEAD, [WHERE, INSIDE, "    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]"], "dweight",
                   **OUTPUTS).replace("    return d", "    x[...] = 0\n    return d"), says="it belongs to the caller")


# ----------------------------------------------------------------------------------------------- kernels.loops.add_taps

innermost = Exercise("kernels.loops.add_taps", numba={"fastmath": {"contract"}}, hints=(
    "Which numbers lie side by side in x[p, c, n] and in y[q, k, n]? Over which letter must the innermost loop run, "
    "if\n"
    "it is to touch neighbours? And what does a -1 in the table mean?",
    "For each place q and each tap t: p = source[q, t]. If p is -1 the tap looks into the padding, go on. Otherwise,\n"
    "for each filter k, each channel c, and innermost each image n: one product is added to y[q, k, n].",
    """
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if ...:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[...] * x[...]
    """))


def planes(pixels, channels, batch, seed=0):
    return random(pixels, channels, batch, seed=seed)


@innermost.check
def test_a_tap_in_the_padding_adds_nothing():
    x, y = planes(3, 1, 2), np.zeros((2, 1, 2))
    inside(loops.add_taps, x, np.ones((1, 1, 1)), np.array([[1], [-1]], np.int32), y, says=(
        "an index ran out of its array. source is (places, taps), x (pixels, C, N), weight (K, C, taps), "
        "y (places, K, N)"))
    scattered = np.array_equal(y[1, 0], x[0, 0]) and not y[0].any()
    assert not scattered, (
        "the sum went to y[p], the number of the pixel. The window stands at place q: y[q] collects what x[p] gives")
    assert y[0].any(), ("y[0] is still zero. The function returns nothing, it adds to the y that it was given. And no "
                        "loop may stop before its end: range(5) has the numbers 0 to 4")
    assert not np.array_equal(y[1, 0], x[2, 0]), (
        "a tap with -1 in the table has added the last pixel: to Python x[-1] is the last one. -1 means padding: "
        "skip it. (`if p:` asks whether p is another number than 0, and -1 is)")
    assert not np.array_equal(y[0, 0], x[0, 0]), (
        "you took pixel 0, which is the number of the place, or of the tap. Which PIXEL a tap sees stands in the "
        "table: source[q, t]")
    assert np.array_equal(y[0, 0], x[1, 0]), (
        f"place 0 sees pixel 1 through a filter of 1, in each of the N = x.shape[2] images: {x[1, 0]}, "
        f"yours is {y[0, 0]}")
    assert not y[1].any(), "place 1 looks into the padding and must stay zero: -1 is no pixel, not 0 and not the last"


@innermost.check
def test_it_adds_to_what_is_there():
    x, y = planes(1, 1, 2), np.full((1, 1, 2), 10.0)
    loops.add_taps(x, np.ones((1, 1, 1)), np.zeros((1, 1), np.int32), y)
    assert not np.allclose(y, 10), (
        "a tap that sees pixel 0 was skipped: 0 is a pixel like all others, only -1 is the padding")
    assert not np.allclose(y, x), "what stood in y before is lost: add to it, and do not begin with zeros"
    assert np.allclose(y, 10 + x), f"10 was there and {x.ravel()} is added: yours is {y.ravel()}"


@innermost.check
def test_every_filter_adds_up_all_taps_and_channels():
    x, weight = planes(3, 2, 4), random(5, 2, 2, seed=1)
    source, y = np.array([[0, 1], [2, 0]], np.int32), np.zeros((2, 5, 4))
    inside(loops.add_taps, x, weight, source, y, says=(
        "an index ran out of its array. Which channel is whose? weight[k, c, t], x[p, c, n] and y[q, k, n]"))
    wanted = np.einsum("kct,qtcn->qkn", weight, x[source])
    last = np.einsum("kt,qtn->qkn", weight[:, -1], x[source][:, :, -1])
    assert y[1].any(), "place 1 has got nothing: is there a return inside a loop?"
    assert not np.allclose(y, last), "only the last channel has been added: each filter adds up all channels"
    assert not np.allclose(y, np.einsum("kct,qtcn->qkn", weight[:, :, ::-1], x[source])), (
        "your filter is turned round: tap t of the table belongs to entry t of the filter, weight[k, c, t]")
    assert not np.allclose(2 * y, wanted), "you divided by the number of taps: a convolution is a sum and no mean"
    assert not np.allclose(y, np.einsum("kc,qcn->qkn", weight[:, :, -1], x[source][:, -1])), (
        "only the last tap counts in your sum: all taps are added up")
    assert not np.allclose(y, np.einsum("kc,qtcn->qkn", weight[:, :, 0], x[source])), (
        "every tap has the weight of the first one: tap t has weight[k, c, t]")
    ends, y = np.array([[-1, 1], [2, -1]], np.int32), np.ones((2, 5, 4))
    loops.add_taps(x, weight, ends, y)
    assert not np.allclose(y[0], 1), (
        "after a tap in the padding the other taps of that place were left out too: skip this one only, and go on "
        "(continue, not break)")
    y = np.zeros((2, 5, 4))
    loops.add_taps(x, weight, source, y)
    assert np.allclose(y, wanted), ("with 5 filters, 2 channels, 2 taps and 4 images some sums are wrong: "
                                    "y[q, k, n] += weight[k, c, t] * x[source[q, t], c, n]")


@innermost.check
def test_it_is_the_convolution():
    image, weight = random(3, 2, 4, 5), random(4, 2, 3, 3, seed=1)
    rows, columns = np.indices((4, 5)).reshape(2, 20, 1) + np.indices((3, 3)).reshape(2, 1, 9) - 1
    inside = (rows >= 0) & (rows < 4) & (columns >= 0) & (columns < 5)
    source, y = np.where(inside, rows * 5 + columns, -1).astype(np.int32), np.zeros((20, 4, 3))
    pixels = np.ascontiguousarray(image.transpose(2, 3, 1, 0)).reshape(20, 2, 3)
    loops.add_taps(pixels, weight.reshape(4, 2, 9), source, y)
    wanted = convolution.conv2d(image, weight, None, ONE, ONE)
    assert np.allclose(y.reshape(4, 5, 4, 3).transpose(3, 2, 0, 1), wanted), (
        "for 3 images of 4 x 5 with 2 channels it is not the convolution: every place, every tap, every channel")


innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            for k in range(weight.shape[0]):
                for c in range(weight.shape[1]):
                    for n in range(x.shape[2]):
                        y[q, k, n] += weight[k, c, t] * x[source[q, t], c, n]
""", says="has added the last pixel")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p > 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[k, c, t] * x[p, c, n]
""", says="0 is a pixel like all others")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p < 0:
                break
            for k in range(weight.shape[0]):
                for c in range(weight.shape[1]):
                    for n in range(x.shape[2]):
                        y[q, k, n] += weight[k, c, t] * x[p, c, n]
""", says="skip this one only")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            if source[q, t] >= 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[k, c, t] * x[t, c, n]
""", says="Which PIXEL a tap sees")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[k, c, t] * x[p, c, n]
""", says="and -1 is)")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[p, k, n] += weight[k, c, t] * x[q, c, n]
""", says="y[q] collects what x[p] gives")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1] - 1):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[k, c, t] * x[p, c, n]
""", says="loop may stop before its end")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[c, k, t] * x[p, c, n]
""", says="Which channel is whose?")
innermost.wrong("""
def add_taps(x, weight, source, y):
    taps = source.shape[1]
    for q in range(source.shape[0]):
        for t in range(taps):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[k, c, taps - 1 - t] * x[p, c, n]
""", says="your filter is turned round: tap")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[k, c, t] * x[p, c, n]
        return y
""", says="is there a return inside a loop?")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = max(source[q, t], 0)
            for k in range(weight.shape[0]):
                for c in range(weight.shape[1]):
                    for n in range(x.shape[2]):
                        y[q, k, n] += weight[k, c, t] * x[p, c, n]
""", says="-1 is no pixel")
innermost.wrong("""
def add_taps(x, weight, source, y):
    y[:] = 0
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[k, c, t] * x[p, c, n]
""", says="what stood in y before is lost")
innermost.wrong("""
def add_taps(x, weight, source, y):
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    c = weight.shape[1] - 1
                    for n in range(x.shape[2]):
                        y[q, k, n] += weight[k, c, t] * x[p, c, n]
""", says="only the last channel has been added")
innermost.wrong("""
def add_taps(x, weight, source, y):
    y = np.zeros_like(y)
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    y[q, k] += weight[k, :, t] @ x[p]
    return y
""", says="y[0] is still zero")
