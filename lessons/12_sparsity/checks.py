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
    one = "array" if isinstance(got, np.ndarray) else type(got).__name__
    assert isinstance(got, tuple), f"two arrays are expected, {what}; yours is one {one}"
    assert len(got) == 2, f"two arrays are expected, {what}; yours are {len(got)}"
    for each in got:
        assert isinstance(each, np.ndarray), f"two arrays are expected, {what}; one of yours is a {type(each).__name__}"
    return got


def taken(mask, weights):
    """What `packed` makes of copies, which must stay as they are."""
    given = mask.copy(), weights.copy()
    got = pair(sparse.packed(*given), "the bits and the kept weights")
    assert np.array_equal(given[0], mask) and np.array_equal(given[1], weights), (  # noqa: PT018
        "your function changed the mask or the weights that it was given. They are the network's own: make new arrays")
    return got


@packing.check
def test_the_bits_are_packed_eight_in_a_byte():
    mask, weights = example()
    bits, _ = taken(mask, weights)
    assert bits.dtype != bool, (
        "your mask still takes a whole byte for each weight: bool is not a bit. np.packbits puts eight into one")
    assert not np.array_equal(bits, weights[mask]), "the other way round: first the bits, then the kept weights"
    assert not np.array_equal(bits, np.flatnonzero(mask)), (
        "these are the places of the kept weights, and each takes some bytes. What is wanted is a bit for every weight")
    assert bits.dtype == np.uint8, f"bytes are expected (uint8), yours is {bits.dtype}"
    assert bits.shape == (3,), (
        f"21 bits fit into 3 bytes, two full ones and one for the last five; yours has the shape {bits.shape}")
    assert not np.array_equal(bits, np.packbits(weights != 0)), (
        "your bits say which weights are not 0. But a weight that is kept may be 0 by chance: the mask says what is "
        "kept")
    assert not np.array_equal(bits, np.packbits(~mask)), (
        "your bits say what is gone: a bit is 1 where the weight is kept")
    assert np.array_equal(bits, np.packbits(mask)), (
        "the bits are not those of the mask, the first weight in the highest bit of the first byte")


@packing.check
def test_only_what_the_mask_keeps_is_kept():
    mask, weights = example()
    _, values = taken(mask, weights)
    assert len(values) != len(weights), "all weights are there still, with their zeros: take the kept ones only"
    assert not np.array_equal(values, weights[~mask]), "these are the weights that are gone"
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
packing.wrong("""
def packed(mask, weights):
    return weights[mask], np.packbits(mask)
""", says="the other way round: first the bits")
packing.wrong("""
def packed(mask, weights):
    return np.flatnonzero(mask), weights[mask]
""", says="these are the places of the kept weights")
packing.wrong("""
def packed(mask, weights):
    return np.packbits(weights != 0), weights[mask]
""", says="your bits say which weights are not 0")
packing.wrong("""
def packed(mask, weights):
    return np.packbits(mask == 0), weights[mask]
""", says="your bits say what is gone")
packing.wrong("""
def packed(mask, weights):
    return np.packbits(mask), [weight for weight, kept in zip(weights, mask) if kept]
""", says="one of yours is a list")
packing.wrong("""
def packed(mask, weights):
    bits, values = np.packbits(mask), weights[mask]
    weights.fill(0)
    return bits, values
""", says="changed the mask or the weights")


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


def restored(mask, weights):
    """What `unpacked` makes of them; an error of NumPy's is a message."""
    size, count = len(mask), int(mask.sum())
    bits, values = np.packbits(mask), weights[mask]
    rubbish = [np.full(size, np.nan, weights.dtype) for _ in range(8)]
    del rubbish                                 # np.empty will find it
    try:
        return pair(sparse.unpacked(bits, values, size), "the mask and the weights")
    except (IndexError, ValueError) as reason:
        said = str(reason)
        if size % 8 == 0:
            why = f"{size} weights fill {len(bits)} bytes, and all of their bits count. How many count says `size`"
        elif f"axis is {8 * len(bits)}" in said:
            why = (f"Your mask is too long: {len(bits)} bytes are {8 * len(bits)} bits, of which {size} count. The "
                   f"last ones only fill it up")
        elif "indexing result" in said:
            why = ("Is your mask bool? With whole numbers weights[mask] means the weights number 0 and 1, again and "
                   "again")
        elif "operands" in said:
            why = (f"There are {count} values and {size} places, and these do not fit together number by number. Make "
                   f"zeros, and put the values where the mask is True")
        else:
            why = f"The mask has {size} entries and is True as often as there are values, {count} times. Is yours?"
        raise AssertionError(f"{said}.\n{why}") from reason


@unpacking.check
def test_the_mask_comes_back_with_its_own_length():
    for size in (21, 16):
        mask, weights = example(size)
        got, back = restored(mask, weights)
        assert not (got.dtype == weights.dtype and back.dtype == bool), (
            "the other way round: first the mask, then the weights")
        assert size == 21 or len(got) == 16, (
            f"16 weights fill 2 bytes, and all of their bits count; yours has {len(got)}. How many count says `size`")
        assert len(got) == size, (
            f"{size} weights have {size} bits, yours has {len(got)}: the last bits of the last byte only fill it up")
        assert got.dtype == bool, (
            f"the mask must be bool, yours is {got.dtype}. With whole numbers weights[mask] means the weights number 0 "
            f"and 1")
        assert not np.array_equal(got, weights != 0), (
            "your mask says which weights are not 0. But a kept weight may be 0 by chance: what is kept say the bits")
        assert np.array_equal(got, mask), "the mask is not the one that was packed"


@unpacking.check
def test_every_weight_comes_back_to_its_place():
    mask, weights = example()
    _, got = restored(mask, weights)
    assert got.shape != weights[mask].shape, (
        "only the kept weights came back: all 21 are expected, with 0 where nothing is kept")
    assert got.shape == (21,), f"all 21 weights are expected, pruned ones as 0; yours has the shape {got.shape}"
    assert not np.array_equal(got[: mask.sum()], weights[mask]), (
        "the kept weights stand at the front, one after the other: each belongs where its bit is")
    assert np.array_equal(got[mask], weights[mask]), "some kept weights are not where they were, or not in their order"
    assert not np.isnan(got).any(), (
        "where nothing is kept there is rubbish: np.empty takes what happens to lie in memory. np.zeros sets it to 0")
    assert np.array_equal(got, weights), "where the mask keeps nothing, the weight must be 0"
    assert got.dtype == np.float32, f"the values are float32, your weights {got.dtype}: np.zeros(size, values.dtype)"
    got = restored(mask, weights.astype(np.float64))[1]
    assert got.dtype == np.float64, (
        f"with values of 64 bits your weights are {got.dtype}, and half of the digits are lost. Their type is "
        f"values.dtype")


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
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits)[:-3].astype(bool)
    weights = np.zeros(size, values.dtype)
    weights[mask] = values
    return mask, weights
""", says="16 weights fill 2 bytes")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size).astype(bool)
    weights = np.zeros(size, values.dtype)
    weights[mask] = values
    return weights, mask
""", says="the other way round: first the mask")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size)
    weights = np.zeros(size, values.dtype)
    weights[mask] = values
    return mask, weights
""", says="Is your mask bool?")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size).astype(bool)
    weights = np.zeros(size, values.dtype)
    weights[mask] = values
    return weights != 0, weights
""", says="what is kept say the bits")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=len(values)).astype(bool)
    weights = np.zeros(size, values.dtype)
    weights[mask] = values
    return mask, weights
""", says="True as often as there are values")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size).astype(bool)
    weights = np.empty(size, values.dtype)
    weights[mask] = values
    return mask, weights
""", says="np.empty takes what happens to lie in memory")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size).astype(bool)
    weights = np.zeros(size, np.float32)
    weights[mask] = values
    return mask, weights
""", says="half of the digits are lost")
unpacking.wrong("""
def unpacked(bits, values, size):
    mask = np.unpackbits(bits, count=size).astype(bool)
    return mask, np.where(mask, values, 0)
""", says="do not fit together number by number")
unpacking.wrong("""
def unpacked(bits, values, size):
    return np.unpackbits(bits, count=size).astype(bool), values
""", says="only the kept weights came back")


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
                    value, c = weight[...], ...
                    for n in range(x.shape[2]):
                        y[q, k, n] += value * x[p, c, n]
    """))


def added(x, weight, mask, source, y):
    """y after the function has added to it, for these kept weights; an index out of its array is a message."""
    start, channel, tap, position = definition.sparse_entries(mask).by_output
    try:
        loops.add_kept(x, weight.ravel(), start, channel, tap, position, source, y)
    except IndexError as reason:
        if f"{len(tap)} is out of bounds for axis 0 with size {len(tap)}" in str(reason):
            why = "A loop went one too far: range(start[k], start[k + 1]) are all entries of filter k"
        elif f"axis 0 with size {len(source)}" in str(reason):
            why = f"There are {len(source)} places and {len(x)} pixels: source and y go by places, x goes by pixels"
        elif f"axis 0 with size {len(start)}" in str(reason):
            why = "start has one number more than there are filters: k goes over y.shape[1]"
        else:
            why = ("source is (places, taps), x (pixels, C, N), y (places, K, N), weight is flat, start has K + 1 "
                   "numbers, and channel, tap and position have one for each kept weight")
        raise AssertionError(f"{reason}.\n{why}") from reason
    return y


FEW = np.zeros((3, 3, 3, 1), bool)              # 3 filters, 3 channels, 3 taps
FEW[0, 1, 0] = FEW[0, 2, 2] = FEW[2, 0, 1] = True
START, CHANNEL, TAP, POSITION = definition.sparse_entries(FEW).by_output
SOURCE = np.array([[2, 0, 1], [1, 3, 4], [4, 6, 0], [3, 2, 0], [0, 5, 1]], np.int32)            # 5 places, 7 pixels


def sums(x, weight, entries=lambda k: range(START[k], START[k + 1]), value=lambda weight, k, e: weight[POSITION[e]],
         pixel=lambda q, e: SOURCE[q, TAP[e]], channel=lambda k, e: CHANNEL[e]):
    """What comes out for the few kept weights above; whoever gives another rule gets what that would make."""
    y = np.zeros((5, 3, x.shape[2]))
    for q, k in np.ndindex(5, 3):
        for e in entries(k):
            y[q, k] += value(weight.ravel(), k, e) * x[pixel(q, e), channel(k, e)]
    return y


MISTAKES = (
    ({"entries": lambda k: range(START[k], START[k + 1])[-1:]},
     "of the entries of a filter only the last one counts in your sum: every one adds to y, +="),
    ({"entries": lambda k: range(START[k], START[k + 1])[:-1]},
     "the last entry of each filter is missing: range(start[k], start[k + 1]) leaves out start[k + 1] by itself"),
    ({"value": lambda weight, k, e: weight[e]},
     "the weight number `entry` was taken, but the flat weights hold the pruned ones too: its value is at "
     "position[entry]"),
    ({"value": lambda weight, k, e: weight[k]},
     "the weight number k was taken: where in the flat weights its value lies says position[entry]"),
    ({"value": lambda weight, k, e: weight[TAP[e]]},
     "the weight number tap[entry] was taken, but there are as many of these for each filter and channel: its value is "
     "at position[entry]"),
    ({"value": lambda weight, k, e: 1},
     "the pixels were added, but not times the weight: its value is weight[position[entry]]"),
    ({"pixel": lambda q, e: SOURCE[q, e]},
     "the entry's number was taken for a tap: through which tap it looks says tap[entry]"),
    ({"pixel": lambda q, e: TAP[e]},
     "the tap's number was taken for a pixel: which pixel a tap sees says the table, source[q, tap[entry]]"),
    ({"pixel": lambda q, e: q},
     "the place's number was taken for a pixel: which pixel a tap sees says the table, source[q, tap[entry]]"),
    ({"channel": lambda k, e: 0},
     "every entry read channel 0, and the first weight belongs to channel 1: channel[entry]"),
    ({"channel": lambda k, e: k},
     "the filter's number was taken for the channel: which channel an entry reads says channel[entry]"),
    ({"channel": lambda k, e: e},
     "the entry's number was taken for the channel: which one it reads says channel[entry]"),
)


@kept.check
def test_each_filter_has_its_own_entries():
    x, weight = random(7, 3, 6), random(3, 3, 3, 1, seed=2)
    y = added(x, weight, FEW, SOURCE, np.zeros((5, 3, 6)))
    assert y.any(), "y is still zero: the function returns nothing, it adds to the y that it was given"
    assert not y[:, 1].any(), (
        "filter 1 has no weights left, and yet something came out of it. The entries of filter k are start[k] up to "
        "start[k + 1], and for filter 1 these two are equal")
    assert y[:, :, -1].any(), "the last image is missing: all of them are range(x.shape[2])"
    for rules, says in MISTAKES:
        assert not np.allclose(y, sums(x, weight, **rules)), says
    right, blank = sums(x, weight), x.copy()
    blank[0] = 0
    assert not np.allclose(y, sums(blank, weight)), (
        "what sees pixel 0 was skipped: 0 is a pixel like all others, only -1 is the padding")
    assert np.allclose(y, right), (
        "with two weights in filter 0, none in filter 1 and one in filter 2 the sums are wrong")


@kept.check
def test_padding_adds_nothing_here_either():
    x, weight = random(4, 2, 3, seed=1), random(3, 2, 2, 1, seed=2)
    source = np.array([[0, 1], [1, 2], [2, 3], [-1, 3]], np.int32)
    y = added(x, weight, np.ones((3, 2, 2, 1), bool), source, np.zeros((4, 3, 3)))
    wanted = np.einsum("kct,qtcn->qkn", weight[..., 0], x[source] * (source >= 0)[:, :, None, None])
    assert np.allclose(y[:3], wanted[:3]), "with all weights kept the sums are wrong: tap[entry] says which tap it is"
    assert y[3].any(), (
        "after an entry that looks into the padding the others of that filter were left out too: skip this one only, "
        "and go on (continue, not break)")
    assert np.allclose(y[3], wanted[3]), (
        "at the last place one tap looks into the padding, source is -1 there, and to Python x[-1] is the last "
        "pixel: skip it")


@kept.check
def test_it_adds_to_what_is_already_there():
    x = random(1, 1, 2)
    y = added(x, np.ones(1), np.ones((1, 1, 1, 1), bool), np.zeros((1, 1), np.int32), np.full((1, 1, 2), 10.0))
    assert np.allclose(y, 10 + x), "what stood in y before is lost: add to it, there may be a bias in it"


@kept.check
def test_it_is_the_convolution_with_the_masked_filters():
    image, weight = random(3, 4, 5, 5), random(6, 4, 3, 3, seed=1)
    mask = np.random.default_rng(2).random(weight.shape) < 0.2
    pixels = np.ascontiguousarray(image.transpose(2, 3, 1, 0)).reshape(25, 4, 3)
    for size, stride, padding in ((5, 1, 1), (3, 2, 1), (7, 1, 2)):     # as many places as pixels, fewer, more
        rows, columns = (np.indices((size, size)).reshape(2, -1, 1) * stride
                         + np.indices((3, 3)).reshape(2, 1, 9) - padding)
        inside = (rows >= 0) & (rows < 5) & (columns >= 0) & (columns < 5)
        source = np.where(inside, rows * 5 + columns, -1).astype(np.int32)
        y = added(pixels, weight, mask, source, np.zeros((size * size, 6, 3)))
        wanted = convolution.conv2d(image, np.where(mask, weight, 0), None, (stride, stride), (padding, padding))
        y = y.reshape(size, size, 6, 3).transpose(3, 2, 0, 1)
        assert np.allclose(y, wanted), (
            f"for 6 filters of 4 channels, a fifth of them kept, stride {stride} and padding {padding}, it is not the "
            f"convolution with the masked filters")


KEPT = """
def add_kept(x, weight, start, channel, tap, position, source, y):
    for q in range(PLACES):
        for k in range(y.shape[1]):
            for entry in range(FROM, TO):
                p = PIXEL
                if IF:
                    for n in range(IMAGES):
                        y[q, k, n] ADD VALUE * x[p, SEEN, n]
"""


def variant(**parts):
    source = KEPT
    right = {"FROM": "start[k]", "TO": "start[k + 1]", "IF": "p >= 0", "VALUE": "weight[position[entry]]",
             "SEEN": "channel[entry]", "PIXEL": "source[q, tap[entry]]", "ADD": "+=", "IMAGES": "x.shape[2]",
             "PLACES": "source.shape[0]"}
    for name, text in (right | parts).items():
        source = source.replace(name, text)
    return source


kept.wrong(variant(FROM="0", TO="len(tap)"), says="filter 1 has no weights left")
kept.wrong(variant(VALUE="weight[entry]"), says="the weight number `entry` was taken")
kept.wrong(variant(IF="True"), says="looks into the padding")
kept.wrong(variant(SEEN="0"), says="every entry read channel 0")
kept.wrong(variant(SEEN="k"), says="the filter's number was taken for the channel")
kept.wrong(variant(SEEN="entry"), says="the entry's number was taken for the channel")
kept.wrong(variant(IF="p > 0"), says="0 is a pixel like all others")
kept.wrong(variant(TO="start[k + 1] - 1"), says="leaves out start[k + 1] by itself")
kept.wrong(variant(TO="start[k + 1] + 1"), says="A loop went one too far")
kept.wrong(variant(ADD="="), says="only the last one counts in your sum")
kept.wrong(variant(VALUE="weight[k]"), says="the weight number k was taken")
kept.wrong(variant(VALUE="weight[tap[entry]]"), says="the weight number tap[entry] was taken")
kept.wrong(variant(VALUE="1"), says="not times the weight")
kept.wrong(variant(PIXEL="source[q, entry]"), says="the entry's number was taken for a tap")
kept.wrong(variant(PIXEL="tap[entry]"), says="the tap's number was taken for a pixel")
kept.wrong(variant(PIXEL="q"), says="the place's number was taken for a pixel")
kept.wrong(variant(IMAGES="x.shape[2] - 1"), says="the last image is missing")
kept.wrong(variant().replace("range(y.shape[1])", "range(len(start))"), says="one number more than there are filters")
kept.wrong(variant(PLACES="x.shape[0]"), says="source and y go by places, x goes by pixels")
kept.wrong("""
def add_kept(x, weight, start, channel, tap, position, source, y):
    for q in range(source.shape[0]):
        for k in range(y.shape[1]):
            for entry in range(start[k], start[k + 1]):
                if source[q, tap[entry]] < 0:
                    break
                y[q, k] += weight[position[entry]] * x[source[q, tap[entry]], channel[entry]]
""", says="skip this one only")
kept.wrong("""
def add_kept(x, weight, start, channel, tap, position, source, y):
    y[:] = 0
    for q in range(source.shape[0]):
        for k in range(y.shape[1]):
            for entry in range(start[k], start[k + 1]):
                if source[q, tap[entry]] >= 0:
                    y[q, k] += weight[position[entry]] * x[source[q, tap[entry]], channel[entry]]
""", says="what stood in y before is lost")
kept.wrong("""
def add_kept(x, weight, start, channel, tap, position, source, y):
    y = np.zeros_like(y)
    for q in range(source.shape[0]):
        for k in range(y.shape[1]):
            for entry in range(start[k], start[k + 1]):
                if source[q, tap[entry]] >= 0:
                    y[q, k] += weight[position[entry]] * x[source[q, tap[entry]], channel[entry]]
    return y
""", says="y is still zero")
