"""Lesson 12: what must hold of a packed network and of a sparse convolution, and the wrong answers that are known."""

import numpy as np

from minirewind import sparse
from minirewind.kernels import loops
from minirewind.kernels.reference import convolution
from minirewind.kernels.reference import sparse as definition
from minirewind.learn import Exercise


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def example(size=21, density=0.3):
    """A mask, and weights that are 0 where it keeps nothing, one of the kept ones as well."""
    mask = np.random.default_rng(1).random(size) < density
    weights = np.where(mask, random(size), 0).astype(np.float32)
    weights[mask.nonzero()[0][1]] = 0                                   # a kept weight may be 0 by chance
    return mask, weights


# -------------------------------------------------------------------------------------------------------- sparse.packed

packing = Exercise("sparse.packed", hints=(
    "A bool in NumPy takes a whole byte. How many of its eight bits are used? And a weight that is kept, and happens "
    "to be\n"
    "0: must it be in the file?",
    "np.packbits(mask) puts eight places of the mask into each byte. The kept weights are those that the mask picks "
    "out,\n"
    "weights[mask], in their order.",
    "    return np.packbits(...), weights[...]",
))


def pair(got, what):
    assert got is not None, "nothing came back: did you forget the return?"
    assert isinstance(got, tuple), f"two arrays are expected, {what}; yours is {got!r}"
    assert len(got) == 2, f"two arrays are expected, {what}; yours are {len(got)}"
    return got


@packing.check
def test_the_bits_are_packed_eight_in_a_byte():
    mask, weights = example()
    bits, _ = pair(sparse.packed(mask, weights), "the bits and the kept weights")
    assert bits.dtype != bool, (
        "your mask still takes a whole byte for each weight: bool is not a bit. np.packbits puts eight into one")
    assert bits.dtype == np.uint8, f"bytes are expected (uint8), yours is {bits.dtype}"
    assert bits.shape == (3,), f"21 bits fit into 3 bytes, yours has the shape {bits.shape}"
    assert np.array_equal(bits, np.packbits(mask)), "the bits are not those of the mask, the first one foremost"


@packing.check
def test_only_what_the_mask_keeps_is_kept():
    mask, weights = example()
    _, values = pair(sparse.packed(mask, weights), "the bits and the kept weights")
    assert len(values) != len(weights), "all weights are there still, with their zeros: take the kept ones only"
    assert len(values) != np.count_nonzero(weights), (
        "a kept weight that is 0 by chance is missing. Who unpacks this finds a bit without a weight, and all weights "
        "behind it land in wrong places. The mask says what is kept, not the value")
    assert np.array_equal(values, weights[mask]), "the kept weights are weights[mask], in their order"
    assert values.dtype == np.float32, f"the weights were float32, yours are {values.dtype}"


packing.wrong("""
def packed(mask, weights):
    return mask, weights[mask]
""", says="bool is not a bit")
packing.wrong("""
def packed(mask, weights):
    return np.packbits(mask), weights[weights != 0]
""", says="a kept weight that is 0 by chance")
packing.wrong("""
def packed(mask, weights):
    return np.packbits(mask), weights * mask
""", says="with their zeros")


# ------------------------------------------------------------------------------------------------------ sparse.unpacked

unpacking = Exercise("sparse.unpacked", hints=(
    "21 bits were packed into 3 bytes. How many bits do you get out of 3 bytes? And how many do you want?",
    "np.unpackbits(bits, count=size) as bool is the mask. Make zeros of the right length and type, and put the values\n"
    "where the mask is True.",
    """
    mask = np.unpackbits(bits, count=size).astype(bool)
    weights = np.zeros(size, ...)
    weights[...] = values
    return mask, weights
    """))


@unpacking.check
def test_the_mask_comes_back_with_its_own_length():
    mask, weights = example()
    try:
        got, _ = pair(sparse.unpacked(np.packbits(mask), weights[mask], 21), "the mask and the weights")
    except (IndexError, ValueError) as reason:
        raise AssertionError(f"{reason}. Is your mask too long? 3 bytes are 24 bits, of which 21 count: the last "
        f"three only "
                             "fill up the byte") from reason
    assert len(got) == 21, (
        f"21 weights have 21 bits, yours has {len(got)}: the last bits of the last byte only fill it up")
    assert got.dtype == bool, (
        f"the mask must be bool, yours is {got.dtype}. With whole numbers weights[mask] means the weights number 0 "
        f"and 1")
    assert np.array_equal(got, mask), "the mask is not the one that was packed"


@unpacking.check
def test_every_weight_comes_back_to_its_place():
    mask, weights = example()
    try:
        _, got = pair(sparse.unpacked(np.packbits(mask), weights[mask], 21), "the mask and the weights")
    except (IndexError, ValueError) as reason:
        raise AssertionError(f"putting the values back was not possible: {reason}") from reason
    assert got.shape == (21,), f"all 21 weights are expected, pruned ones as 0; yours has the shape {got.shape}"
    assert not np.array_equal(got[: mask.sum()], weights[mask]), (
        "the kept weights stand at the front, one after the other: each belongs where its bit is")
    assert np.array_equal(got, weights), "some weights are not where they were, or not 0 where the mask keeps nothing"
    assert got.dtype == np.float32, f"the values are float32, your weights {got.dtype}: np.zeros(size, values.dtype)"


unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits).astype(bool)
    weights = np.zeros(len(mask), values.dtype)
    weights[mask] = values
    return mask, weights
""", says="only fill it up")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size)
    weights = np.zeros(size, values.dtype)
    weights[mask.astype(bool)] = values
    return mask, weights
""", says="the weights number 0 and 1")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size).astype(bool)
    weights = np.zeros(size, values.dtype)
    weights[: len(values)] = values
    return mask, weights
""", says="stand at the front")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size).astype(bool)
    weights = np.zeros(size)
    weights[mask] = values
    return mask, weights
""", says="np.zeros(size, values.dtype)")


# ----------------------------------------------------------------------------------------------- kernels.loops.add_kept

kept = Exercise("kernels.loops.add_kept", numba={"fastmath": {"contract"}}, hints=(
    "start is [0, 1, 3]. How many kept weights has filter 0, how many has filter 1, and which entries are they?",
    "For each place q and each filter k: for entry in range(start[k], start[k + 1]) the tap is tap[entry], so the "
    "pixel is\n"
    "source[q, tap[entry]]. If it is not -1, add weight[position[entry]] times that pixel of channel[entry], image "
    "by image.",
    """
    for q in range(source.shape[0]):
        for k in range(y.shape[1]):
            for entry in range(start[k], ...):
                p = source[q, tap[entry]]
                if ...:
                    for n in range(x.shape[2]):
                        y[q, k, n] += weight[...] * x[p, ..., n]
    """))


def tiny(mask_of=lambda mask: mask, seed=0):
    """y by the function, and what it should be: 3 filters, 2 channels, 2 x 1 taps, 3 images, 4 places."""
    mask = mask_of(np.random.default_rng(seed).random((3, 2, 2, 1)) < 0.5)
    x, weight = random(4, 2, 3, seed=1), random(3, 2, 2, 1, seed=2)
    source = np.array([[0, 1], [1, 2], [2, 3], [3, -1]], np.int32)
    y = np.zeros((4, 3, 3))
    loops.add_kept(x, weight.ravel(), *definition.sparse_entries(mask).by_output, source, y)
    expected = np.zeros((4, 3, 3))
    for q in range(4):
        for t in range(2):
            if source[q, t] >= 0:
                expected[q] += np.where(mask, weight, 0)[:, :, t, 0] @ x[source[q, t]]
    return y, expected, mask, weight, x, source


@kept.check
def test_each_filter_has_its_own_entries():
    def only_first(mask):
        mask[:] = False
        mask[0, 1, 0, 0] = mask[2, 0, 0, 0] = True
        return mask

    y, expected, _, weight, x, _ = tiny(only_first)
    assert y.any(), "y is still zero: the function returns nothing, it adds to the y that it was given"
    assert not y[:, 1].any(), (
        "filter 1 has no weights left, and yet something came out of it. The entries of filter k are start[k] up to "
        "start[k + 1], and for filter 1 these two are equal")
    assert not np.allclose(y[0, 0], weight.ravel()[0] * x[0, 1]), (
        "the weight number `entry` was taken, but the flat weights hold the pruned ones too: its value is at "
        "position[entry]")
    assert not np.allclose(y[0, 0], weight[0, 1, 0, 0] * x[0, 0]), (
        "filter 0 read channel 0, and its only weight belongs to channel 1: channel[entry]")
    assert np.allclose(y, expected), "with one weight in filter 0 and one in filter 2 the sums are wrong"


@kept.check
def test_padding_adds_nothing_here_either():
    y, expected, *_ = tiny(lambda mask: mask | True)
    assert np.allclose(y[:3], expected[:3]), "with all weights kept the sums are wrong: tap[entry] says which tap it is"
    assert np.allclose(y[3], expected[3]), (
        "at the last place one tap looks into the padding, source is -1 there, and to Python x[-1] is the last "
        "pixel: skip "
        "it")


@kept.check
def test_it_adds_to_what_is_already_there():
    mask, y = np.zeros((1, 1, 1, 1), bool), np.full((1, 1, 2), 10.0)
    x, entries = random(1, 1, 2), definition.sparse_entries(mask | True).by_output
    loops.add_kept(x, np.ones(1), *entries, np.zeros((1, 1), np.int32), y)
    assert np.allclose(y, 10 + x), "what stood in y before is lost: add to it, there may be a bias in it"


@kept.check
def test_it_is_the_convolution_with_the_masked_filters():
    image, weight = random(3, 4, 5, 5), random(6, 4, 3, 3, seed=1)
    mask = np.random.default_rng(2).random(weight.shape) < 0.2
    rows, columns = np.indices((5, 5)).reshape(2, 25, 1) + np.indices((3, 3)).reshape(2, 1, 9) - 1
    inside = (rows >= 0) & (rows < 5) & (columns >= 0) & (columns < 5)
    source, y = np.where(inside, rows * 5 + columns, -1).astype(np.int32), np.zeros((25, 6, 3))
    pixels = np.ascontiguousarray(image.transpose(2, 3, 1, 0)).reshape(25, 4, 3)
    loops.add_kept(pixels, weight.ravel(), *definition.sparse_entries(mask).by_output, source, y)
    wanted = convolution.conv2d(image, np.where(mask, weight, 0), None, (1, 1), (1, 1))
    assert np.allclose(y.reshape(5, 5, 6, 3).transpose(3, 2, 0, 1), wanted), (
        "for 6 filters of 4 channels, a fifth of them kept, it is not the convolution with the masked filters")


KEPT = """
def add_kept(x, weight, start, channel, tap, position, source, y):
    for q in range(source.shape[0]):
        for k in range(y.shape[1]):
            for entry in range(FROM, TO):
                p = source[q, tap[entry]]
                if IF:
                    for n in range(x.shape[2]):
                        y[q, k, n] += weight[WHERE] * x[p, CHANNEL, n]
"""


def variant(**parts):
    source = KEPT
    right = {"FROM": "start[k]", "TO": "start[k + 1]", "IF": "p >= 0", "WHERE": "position[entry]",
             "CHANNEL": "channel[entry]"}
    for name, text in (right | parts).items():
        source = source.replace(name, text)
    return source


kept.wrong(variant(FROM="0", TO="len(tap)"), says="filter 1 has no weights left")
kept.wrong(variant(WHERE="entry"), says="its value is at position[entry]")
kept.wrong(variant(IF="True"), says="looks into the padding")
kept.wrong(variant(CHANNEL="0"), says="filter 0 read channel 0")
