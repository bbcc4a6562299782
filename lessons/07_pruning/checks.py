"""Lesson 07: what must hold of counting, ranking and choosing weights, and the wrong answers that are known."""

import numpy as np

from minirewind import nn, prune
from minirewind.errors import Error
from minirewind.learn import Exercise

# ----------------------------------------------------------------------------------------------------- prune.keep_count

count = Exercise("prune.keep_count", hints=(
    "A density of 0.25 of ten weights is 2.5 weights. Which whole number do you want, and what does Python's int() or\n"
    "round() make of 2.5?",
    "The nearest whole number, halves up: add a half and cut off what is behind the point (math.floor). Python's own\n"
    "round() goes to the EVEN neighbour of a half. And never less than 1.",
    """
    check_density(density)
    return max(1, math.floor(... + 0.5))
    """))


@count.check
def test_the_nearest_whole_number_is_kept():
    got = prune.keep_count(10, 0.28)
    assert got is not None, "nothing came back: did you forget the return?"
    assert isinstance(got, int), f"you say {got!r} of ten weights: a number of weights is a whole number (int)"
    assert got != 7, "0.28 of ten is what STAYS, about 3; you say how many go"
    assert prune.keep_count(1000, 0.28) != 3, "a density is a share, and no percent: 0.28 of 1000 weights are 280"
    assert got != 2, "0.28 of ten weights is 2.8, nearest to 3; you cut off what is behind the point"
    assert got != 1, "0.28 of ten weights is 2.8, about 3; you keep 1: of 1 and that, the LARGER is wanted, max not min"
    assert got == 3, f"0.28 of ten weights is 2.8, so 3 are kept; you say {got}"
    up = prune.keep_count(10, 0.21)
    assert up != 3, "0.21 of ten weights is 2.1, and the nearest whole number is 2; you rounded up"
    assert up == 2, f"0.21 of ten weights is 2.1, so 2 are kept; you say {up}"


@count.check
def test_a_half_goes_up():
    for weights, density, kept in ((10, 0.25, 3), (10, 0.05, 1), (30, 0.75, 23), (6, 0.75, 5)):
        got = prune.keep_count(weights, density)
        assert got != kept - 1, (
            f"{density} of {weights} is {density * weights}, and halves go up, to {kept}; you say {got}. "
            f"Python's round() takes the EVEN neighbour of a half: round(2.5) is 2, round(3.5) is 4")
        assert got == kept, f"{density} of {weights} weights: expected {kept}, you say {got}"


@count.check
def test_at_least_one_weight_is_left():
    got = prune.keep_count(10, 0.01)
    assert got != 0, "0.01 of ten weights rounds to none, but a network without any weight is no network: at least 1"
    assert got == 1, f"0.01 of ten weights: at least one must be left, you say {got}"
    assert prune.keep_count(50_200, 1) == 50_200, "a density of 1 keeps every weight"


@count.check
def test_what_is_no_share_is_refused():
    assert prune.keep_count(100, 0.2) == 20, "0.2 of 100 weights are 20"
    for wrong in (20, 0, -0.5):
        try:
            got = prune.keep_count(100, wrong)
        except Error:
            continue
        except (ValueError, AssertionError) as reason:
            raise AssertionError(f"density {wrong} is refused, but by an error of your own. Let check_density(density) "
                                 f"do it: every part of the framework refuses a density in the same words") from reason
        raise AssertionError(f"density {wrong} is no share of anything (somebody thought of percent?), and you "
                             f"answered {got}: begin with check_density(density), which refuses it")


count.wrong("""
def keep_count(prunable, density):
    return density * prunable
""", says="a number of weights is a whole number")
count.wrong("""
def keep_count(prunable, density):
    check_density(density)
    return max(1, int(density * prunable))
""", says="you cut off what is behind the point")
count.wrong("""
def keep_count(prunable, density):
    check_density(density)
    return max(1, math.ceil(density * prunable))
""", says="you rounded up")
count.wrong("""
def keep_count(prunable, density):
    check_density(density)
    return max(1, round(density * prunable))
""", says="EVEN neighbour")
count.wrong("""
def keep_count(prunable, density):
    check_density(density)
    return math.floor(density * prunable + 0.5)
""", says="a network without any weight")
count.wrong("""
def keep_count(prunable, density):
    return max(1, math.floor(density * prunable + 0.5))
""", says="somebody thought of percent")
count.wrong("""
def keep_count(prunable, density):
    check_density(density)
    return max(1, math.floor(density / 100 * prunable + 0.5))
""", says="a share, and no percent")
count.wrong("""
def keep_count(prunable, density):
    return max(1, math.floor((1 - density) * prunable + 0.5))
""", says="you say how many go")


count.wrong("""
def keep_count(prunable, density):
    check_density(density)
    return min(1, math.floor(density * prunable + 0.5))
""", says="the LARGER is wanted")
count.wrong("""
def keep_count(prunable, density):
    assert 0 < density <= 1
    return max(1, math.floor(density * prunable + 0.5))
""", says="in the same words")
count.wrong("""
def keep_count(prunable, density):
    if not 0 < density <= 1:
        raise ValueError("a density is a share")
    return max(1, math.floor(density * prunable + 0.5))
""", says="an error of your own")


# ------------------------------------------------------------------------------------------------------ prune.magnitude

magnitude = Exercise("prune.magnitude", hints=(
    "Which of -0.9 and 0.2 would you rather keep? And which of two zeros, if one of them was pruned before?",
    "Where the mask is True the score is the absolute value, abs(weights); elsewhere a number below every absolute\n"
    "value there can be. np.where chooses, place by place.",
    "    return np.where(mask, ..., -1)",
))


def scores(weights, mask):
    """What the function gives back, as an array."""
    got = prune.magnitude(np.array(weights, np.float32), np.array(mask))
    assert got is not None, "nothing came back: did you forget the return?"
    assert isinstance(got, np.ndarray), (
        f"expected an array, one score for each weight, and yours is a {type(got).__name__}: what comes next sorts "
        f"arrays. np.array(...) makes one of it")
    assert got.shape == np.shape(weights), f"every weight gets a score: expected {np.shape(weights)}, not {got.shape}"
    return got


@magnitude.check
def test_a_large_negative_weight_is_large():
    got = scores([-3.0, 2.0, -1.0], [True, True, True])
    assert not (got < 0).all() or len(set(got.tolist())) > 1, (
        "all three are still there, and all got the score of the pruned: the mask is the wrong way round. It is True "
        "where a weight is KEPT, and np.where takes its second argument there")
    assert got[0] >= got[1], (
        "-3 got a lower score than 2. A negative weight is no small weight: -3 pushes as hard as 3, only the other "
        "way. Its magnitude is the distance from zero, abs(weight)")
    assert not np.allclose(got, [9, 4, 1]), (
        "you squared the weights. That ranks them alike, until a weight is so small that its square is 0 to the "
        "computer: take the absolute value")
    assert not np.allclose(got, [2, 1, 0]), (
        "these are ranks, or places, and no magnitudes: the score of a weight must not depend on who else is there")
    assert np.allclose(got, [3, 2, 1]), f"the magnitudes of -3, 2 and -1 are 3, 2 and 1, yours are {got.tolist()}"


@magnitude.check
def test_what_is_pruned_comes_below_everything_that_is_not():
    got = scores([0.0, 0.3, 0.0, 5e6], [False, True, True, False])
    assert got[3] < got[1], (
        "a weight that is pruned already, but whose number is still large, got a high score: the mask says who is "
        "pruned, not the number")
    assert got[1] != got[2], (
        "0.3 and 0 have the same score: a magnitude is no whole number, and most weights are smaller than 1")
    assert got[0] != got[2], (
        "a pruned weight and a living one that happens to be 0 have the same score: the pruned one ties with it, and "
        "may be chosen in its place. It must come BELOW all others, at -1")
    assert got[0] < got[2], "a pruned weight got a HIGHER score than one that is still there"
    assert max(got[0], got[3]) < 0 <= min(got[1], got[2]), f"expected a score below 0 for what is pruned, got {got}"


@magnitude.check
def test_nearly_equal_is_not_equal():
    got = scores([0.10001, -0.10002], [True, True])
    assert got[1] > got[0], (
        f"0.10001 and -0.10002 have the scores {got.tolist()}: the second is larger, if only a little. The score keeps "
        f"all the digits that the weight has")


@magnitude.check
def test_it_only_looks():
    weights, mask = np.array([-1.0, 0.5], np.float32), np.array([True, False])
    got = prune.magnitude(weights, mask)
    assert got is not None, "nothing came back, so nothing can be chosen"
    assert weights.tolist() == [-1.0, 0.5], "you changed the weights that were handed to you; a score only looks"
    assert mask.tolist() == [True, False], "you changed the mask that was handed to you; a score only looks at it"


magnitude.wrong("""
def magnitude(weights, mask):
    return np.where(mask, weights, -1)
""", says="no small weight")
magnitude.wrong("""
def magnitude(weights, mask):
    return abs(weights)
""", says="the mask says who is pruned")
magnitude.wrong("""
def magnitude(weights, mask):
    return abs(weights) * mask
""", says="ties with it")
magnitude.wrong("""
def magnitude(weights, mask):
    return np.where(mask, -1, abs(weights))
""", says="the wrong way round")
magnitude.wrong("""
def magnitude(weights, mask):
    return [abs(weight) if kept else -1 for weight, kept in zip(weights, mask)]
""", says="sorts arrays")
magnitude.wrong("""
def magnitude(weights, mask):
    return np.where(mask, weights**2, -1)
""", says="you squared the weights")
magnitude.wrong("""
def magnitude(weights, mask):
    return np.where(mask, abs(weights), -1).astype(int)
""", says="a magnitude is no whole number")
magnitude.wrong("""
def magnitude(weights, mask):
    return np.where(mask, abs(weights).round(2), -1)
""", says="keeps all the digits")
magnitude.wrong("""
def magnitude(weights, mask):
    return np.argsort(np.argsort(abs(weights)))
""", says="these are ranks")
magnitude.wrong("""
def magnitude(weights, mask):
    weights[~mask] = -1
    return np.where(mask, abs(weights), -1)
""", says="changed the weights")


# -------------------------------------------------------------------------------------------------------- prune.largest

largest = Exercise("prune.largest", hints=(
    "Five scores are equal, and you may keep two of them. What does `scores >= threshold` do with them?",
    "No threshold: put the PLACES in order instead, np.argsort, and take the first `keep` of them. It begins with\n"
    "the smallest, so sort -scores; kind=\"stable\" keeps equal ones in their order. Then make a mask that is False\n"
    "everywhere but at these places.",
    """
    mask = np.zeros(scores.shape, bool)
    mask[np.argsort(..., kind="stable")[...]] = True
    return mask
    """))


def chosen(scores, keep):
    """Where the mask is True."""
    given = np.array(scores)
    got = prune.largest(given, keep)
    assert got is not None, "nothing came back: return the mask"
    assert np.array_equal(given, scores), (
        "you changed the scores that were handed to you. scores.sort() sorts where it stands, and then nobody knows "
        "whose score is whose; np.sort and np.argsort leave them as they are")
    assert isinstance(got, np.ndarray), f"expected an array, one entry for each score; yours is a {type(got).__name__}"
    assert got.dtype == bool, (
        f"expected a mask, True or False for each score; yours holds {got.dtype}. Are these the places of the largest? "
        f"Make an array of False, and set those places to True")
    assert got.shape == np.shape(scores), f"expected one entry for each of {len(scores)} scores, yours has {got.shape}"
    return np.flatnonzero(got).tolist()


@largest.check
def test_the_largest_are_kept():
    got = chosen([1.0, 5.0, 3.0, 4.0], 2)
    assert got != [0, 2], "you kept the SMALLEST two: argsort begins with the smallest. Sort -scores, or take its end"
    assert got != [0, 3], (
        "you compared what argsort gives with `keep`. At place i of its answer stands the PLACE of the i-th largest, "
        "not the rank of weight i: take its first `keep` entries, and set the mask to True at these places")
    assert got == [1, 3], f"of the scores 1, 5, 3, 4 the two largest are at places 1 and 3; you keep {got}"
    got = chosen([-1.0, 0.0, -1.0], 1)
    assert got == [1], f"of the scores -1, 0 and -1 the largest is 0, at place 1; you keep {got}"
    got = chosen([0.0, 1e-12], 1)
    assert got == [1], (
        f"0 and 0.000000000001 are not equal, and the second is the larger one; you keep {got}. Do not add something "
        f"small to the scores to break ties: a stable order breaks them by itself")


@largest.check
def test_equal_scores_do_not_make_it_more_or_fewer():
    got = chosen([2.0, 2.0, 2.0, 2.0, 1.0], 2)
    assert len(got) <= 2, (
        f"two were to be kept, and you keep {len(got)}: four scores are equal to the threshold, and >= lets all of "
        f"them in. A threshold cannot count: ties keep too many")
    assert len(got) >= 2, (
        f"two were to be kept, and you keep {len(got)}: four scores are equal to the threshold, and > lets none of "
        f"them in. A threshold cannot count: ties keep too few")
    assert got == [0, 1], f"of equal scores those that come first stay, places 0 and 1: the lower index; you keep {got}"


@largest.check
def test_the_count_is_exact_and_the_same_everywhere():
    random = np.random.default_rng(0)
    for keep in (1, 7, 500, 999, 1000):
        scores = random.integers(0, 20, 1000).astype(np.float32)
        got = chosen(scores, keep)
        wanted = sorted(range(1000), key=lambda i: (-scores[i], i))[:keep]
        assert len(got) == keep, f"{keep} of 1000 were to be kept, you keep {len(got)}"
        assert got == sorted(wanted), (
            f"{keep} of 1000, many of them equal: you keep other ones than the first of the equal ones. Without "
            f"kind=\"stable\" argsort gives equal scores in any order, another on another computer")


@largest.check
def test_the_scores_stay_as_they_are():
    scores = np.array([3.0, 1.0, 2.0])
    kept = prune.largest(scores, 2)
    assert kept is not None, "nothing came back, so nothing is kept"
    assert scores.tolist() == [3.0, 1.0, 2.0], "you changed the scores that were handed to you"


largest.wrong("""
def largest(scores, keep):
    return scores >= np.sort(scores)[-keep]
""", says="ties keep too many")
largest.wrong("""
def largest(scores, keep):
    return scores > np.sort(scores)[-keep - 1]
""", says="ties keep too few")
largest.wrong("""
def largest(scores, keep):
    mask = np.zeros(scores.shape, bool)
    mask[np.argsort(scores, kind="stable")[:keep]] = True
    return mask
""", says="SMALLEST")
largest.wrong("""
def largest(scores, keep):
    mask = np.zeros(scores.shape, bool)
    mask[np.argsort(scores, kind="stable")[-keep:]] = True
    return mask
""", says="the lower index")
largest.wrong("""
def largest(scores, keep):
    return np.argsort(-scores, kind="stable") < keep
""", says="not the rank of weight i")
largest.wrong("""
def largest(scores, keep):
    scores.sort()
    return scores >= scores[-keep]
""", says="sorts where it stands")
largest.wrong("""
def largest(scores, keep):
    mask = np.zeros(scores.shape, bool)
    mask[np.argsort(-abs(scores), kind="stable")[:keep]] = True
    return mask
""", says="the largest is 0")
largest.wrong("""
def largest(scores, keep):
    mask = np.zeros(scores.shape, bool)
    mask[np.argsort(1e-9 * np.arange(len(scores)) - scores)[:keep]] = True
    return mask
""", says="a stable order breaks them by itself")
largest.wrong("""
def largest(scores, keep):
    mask = np.zeros(scores.shape, bool)
    mask[np.argpartition(-scores, keep - 1)[:keep]] = True
    return mask
""", says="many of them equal")
largest.wrong("""
def largest(scores, keep):
    return np.argsort(-scores, kind="stable")[:keep]
""", says="the places of the largest")


# ----------------------------------------------------------------------------------------------- prune.global_magnitude

everywhere = Exercise("prune.global_magnitude", hints=(
    "You have a function that gives every weight a score, and one that keeps the largest scores. Which of them needs\n"
    "the mask, and which needs to know how many?",
    "Score first, then choose. `magnitude` sees to it that a pruned weight never comes back, `largest` that it is\n"
    "exactly `keep`.",
    "    return largest(magnitude(...), ...)",
))


def whole(weights, mask, keep):
    """Which places of a small network are kept."""
    weights, mask = np.array(weights, np.float32), np.array(mask)
    before, numbers = mask.copy(), weights.copy()
    got = prune.global_magnitude(weights, mask, keep)
    assert got is not None, "nothing came back: did you forget the return?"
    assert np.array_equal(weights, numbers), (
        "you changed the weights that were handed to you. A method of pruning only says who stays; to set the others "
        "to 0 is the business of whoever asked")
    assert np.array_equal(mask, before), "you changed the mask that was handed to you; make a new one"
    assert np.asarray(got).dtype.kind == "b", "expected a mask: an array of True and False"
    assert np.shape(got) == mask.shape, (
        f"expected a mask for all {len(mask)} weights, the pruned ones too, and yours has {len(got)} entries: did you "
        f"cut out those that are left? Then nobody knows any more which is which")
    return np.flatnonzero(got).tolist()


@everywhere.check
def test_the_largest_of_the_whole_network_stay_whatever_their_sign():
    got = whole([-0.9, 0.1, -0.7, 0.8, 0.3, -0.2], [True] * 6, 2)
    assert got != [1, 5], "you kept the smallest ones: `keep` says how many STAY, and the largest do"
    assert len(got) != 4, "two were to be kept, and you keep four of six: `keep` is how many stay, not how many go"
    assert got != [3, 4], "you kept the largest numbers, but -0.9 is a strong weight: the magnitude counts"
    assert got == [0, 3], f"-0.9 and 0.8 are the two largest, at places 0 and 3; you keep {got}"


@everywhere.check
def test_no_part_of_the_network_has_a_quota():
    got = whole([5, 6, 7, 8, 0.1, 0.2, 0.3, 0.4], [True] * 8, 4)
    assert got == [0, 1, 2, 3], (
        f"the first four weights are all larger than the last four, so they stay; you keep {got}. All weights of the "
        f"network compete with each other: global means that no layer has a share of its own")


@everywhere.check
def test_what_is_pruned_stays_pruned():
    got = whole([0, 0, 0, 3], [False, False, True, True], 2)
    assert got != [0, 3], (
        "a pruned weight has come back. Its number is 0, and the living weight at place 2 is 0 too, by chance: rank by "
        "magnitude(weights, mask), which knows who is pruned")
    assert got != [3], (
        "two were to be kept, and you keep one: a pruned weight was chosen before a living one, and only then taken "
        "out by the mask. The mask belongs into the score: magnitude(weights, mask)")
    assert got == [2, 3], f"places 2 and 3 are all that is left, and two were to be kept; you keep {got}"


@everywhere.check
def test_the_smallest_numbers_are_told_apart_too():
    got = whole([1e-30, 3e-30, 2e-30], [True] * 3, 1)
    assert got == [1], (
        f"of 1e-30, 3e-30 and 2e-30 the second is the largest; you keep {got}. Squared, all three are 0 to a computer: "
        f"rank by the magnitude")


@everywhere.check
def test_exactly_so_many_are_left():
    random = np.random.default_rng(1)
    weights = np.round(random.normal(0, 1, 400), 1)
    mask = random.random(400) < 0.6
    for keep in (1, 50, 200):
        got = whole(weights, mask, keep)
        assert len(got) == keep, (
            f"{keep} of the {mask.sum()} that are left were to be kept, you keep {len(got)}. Many weights here are "
            f"equal, and {400 - mask.sum()} are pruned already: a threshold or a percentile counts them in")
        assert mask[got].all(), f"you keep {(~mask[got]).sum()} weights that were pruned before"


everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    return largest(abs(weights), keep)
""", says="a pruned weight has come back")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    return largest(weights, keep)
""", says="-0.9 is a strong weight")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    return largest(-magnitude(weights, mask), keep)
""", says="you kept the smallest ones")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    return largest(magnitude(weights, mask), len(weights) - keep)
""", says="not how many go")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    return mask & largest(abs(weights), keep)
""", says="The mask belongs into the score")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    return largest(magnitude(weights, mask)[mask], keep)
""", says="nobody knows any more which is which")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    scores = magnitude(weights, mask)
    return mask & (scores >= np.quantile(scores, 1 - keep / len(scores)))
""", says="a percentile counts them in")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    new = largest(magnitude(weights, mask), keep)
    weights[~new] = 0
    return new
""", says="only says who stays")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    return largest(magnitude(weights**2, mask), keep)
""", says="Squared, all three are 0")
everywhere.wrong("""
def global_magnitude(weights, mask, keep):
    half = len(weights) // 2
    return np.concatenate([largest(magnitude(weights[:half], mask[:half]), keep - keep // 2),
                           largest(magnitude(weights[half:], mask[half:]), keep // 2)])
""", says="no layer has a share of its own")


# -------------------------------------------------------------------------------------------- prune.layerwise_magnitude

layerwise = Exercise("prune.layerwise_magnitude", hints=(
    "You may look at one layer at a time. What do you know about it: which part of the row is it, and how many of it\n"
    "stay?",
    "Walk over layers and shares(keep, layers, mask) together (zip). For each layer choose with your two functions,\n"
    "from its part of the weights and of the mask only, and write the result into its part of a new mask.",
    """
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new[part] = largest(magnitude(..., ...), ...)
    return new
    """))


def by_layer(weights, sizes, keep, mask=None):
    """How a row of layers of these sizes is pruned."""
    ends = np.cumsum(sizes).tolist()
    layers = tuple(nn.Layer(f"layer{i}", (size,), end - size, end) for i, (size, end) in enumerate(zip(sizes, ends)))
    weights = np.array(weights, np.float32)
    mask = np.ones(len(weights), bool) if mask is None else np.array(mask)
    given = mask.copy()
    try:
        got = prune.layerwise_magnitude(weights, given, keep, layers=layers)
    except IndexError as reason:
        raise AssertionError(f"{reason}. A layer is no index: it knows where it begins and ends, "
                             f"slice(layer.start, layer.stop)") from reason
    assert got is not None, "nothing came back: return the new mask"
    assert isinstance(got, np.ndarray), (
        f"expected one mask for the whole row, an array, and yours is a {type(got).__name__}: np.concatenate puts the "
        f"layers' masks one after the other")
    assert np.array_equal(given, mask), "you wrote into the mask that was handed to you: make a new one, np.zeros"
    assert got.shape == mask.shape, (
        f"expected one mask for the whole row, {mask.shape}; yours is {got.shape}, as long as one layer. Write each "
        f"layer's choice into its part of the row: new[part] = ...")
    assert got.dtype == bool, (
        f"expected a mask, True or False; yours holds {got.dtype}: np.zeros makes numbers unless it is told "
        f"np.zeros(mask.shape, bool)")
    return got, [int(got[layer.start : layer.stop].sum()) for layer in layers]


@layerwise.check
def test_every_layer_keeps_the_same_share():
    weights = [8, 7, 6, 5, 4, 3, 2, 1, 0.4, 0.3, 0.2, 0.1]
    _, kept = by_layer(weights, [8, 4], 6)
    assert kept != [6, 0], (
        "the second layer has lost everything: one threshold for all layers is global pruning. Here each layer keeps "
        "its own largest, half of 8 and half of 4")
    assert kept != [3, 3], "you gave every layer the same COUNT. The same share is wanted: half of 8 and half of 4"
    if kept == [4, 0]:
        _, other = by_layer([*weights[8:], *weights[8:], 9, 8, 7, 6], [8, 4], 6)
        assert other == [4, 0], (
            "each layer chose from the WHOLE network, and so the layer with the largest weights got everybody's share. "
            "It chooses from its own part, weights[part] and mask[part]")
    assert kept != [4, 0], "the second layer was never looked at: is your `return` inside the loop?"
    assert kept != [8, 4], (
        "nothing was pruned. A new mask that begins as a copy of the old one is True already: begin with np.zeros, or "
        "write with = in place of |=")
    assert kept != [6, 4], (
        "each layer kept as many as the whole network was to keep, 6, or all it had: `keep` is for all together, and "
        "shares(keep, layers, mask) says how many of it are each layer's")
    assert kept == [4, 2], f"half of all is half of each layer, 4 of 8 and 2 of 4; you keep {kept}"


@layerwise.check
def test_in_each_layer_the_largest_stay():
    got, kept = by_layer([1, -9, 2, 3, 0.3, 0.1, -0.9, 0.2], [4, 4], 4)
    assert kept == [2, 2], f"half of each of the two layers was to be kept, 2 and 2; you keep {kept}"
    assert got[[1, 3]].all(), f"in the first layer -9 and 3 are the largest; you keep places {np.flatnonzero(got[:4])}"
    assert got[[4, 6]].all(), (
        f"in the second layer, places 4 to 7, 0.3 and -0.9 are the largest; you keep {4 + np.flatnonzero(got[4:])}. "
        f"Does each layer look at its own part of the weights?")


@layerwise.check
def test_a_layer_ends_before_its_stop():
    _, kept = by_layer([1, 2, 3, 4, 90, 10, 20, 30], [4, 4], 4)
    assert kept == [2, 2], (
        f"half of each of two layers of 4 was to be kept, 2 and 2; you keep {kept}. Did the first layer look at place "
        f"4, where the second one begins? layer.stop is not included, as in every slice")


@layerwise.check
def test_together_they_keep_exactly_so_many():
    for sizes, keep in (([3, 3, 4], 5), ([1, 1, 1], 2), ([7, 5, 3], 4), ([300, 7, 1], 41)):
        _, kept = by_layer(np.arange(1, sum(sizes) + 1), sizes, keep)
        assert sum(kept) == keep, (
            f"layers of {sizes}, {keep} to keep, and together they keep {sum(kept)}. Was each share rounded for "
            f"itself? shares(keep, layers, mask) deals them out so that the sum is right; a layer's share may be 0")


@layerwise.check
def test_what_was_pruned_in_a_layer_stays_pruned():
    mask = [False, False, False, True, True, True, True, True]
    got, kept = by_layer([0, 0, 0, 0, 4, 3, 2, 1], [4, 4], 4, mask)
    assert not (got & ~np.array(mask)).any(), (
        "a weight that was pruned before is back: choose by magnitude(weights, mask), with the layer's part of the "
        "MASK too")
    assert kept == [1, 3], f"the first layer has only one weight left, so the second keeps three; you keep {kept}"


layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    return largest(magnitude(weights, mask), keep)
""", says="one threshold for all layers")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer in layers:
        part = slice(layer.start, layer.stop)
        new[part] = largest(magnitude(weights[part], mask[part]), keep // len(layers))
    return new
""", says="the same COUNT")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new[part] = largest(magnitude(weights[part], mask[part]), share)
        return new
""", says="inside the loop")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer in layers:
        part = slice(layer.start, layer.stop)
        new[part] = largest(magnitude(weights[part], mask[part]), keep)
    return new
""", says="for all together")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        mask[part] = largest(magnitude(weights[part], mask[part]), share)
    return mask
""", says="make a new one, np.zeros")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer in layers:
        part = slice(layer.start, layer.stop)
        share = round(keep * (layer.stop - layer.start) / len(mask))
        new[part] = largest(magnitude(weights[part], mask[part]), share)
    return new
""", says="rounded for itself")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new[part] = largest(abs(weights[part]), share)
    return new
""", says="with the layer's part of the MASK")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new[part] = largest(magnitude(weights[: layer.stop - layer.start], mask[part]), share)
    return new
""", says="its own part of the weights")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        new |= largest(magnitude(weights, mask), share)
    return new
""", says="each layer chose from the WHOLE network")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = mask.copy()
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new[part] |= largest(magnitude(weights[part], mask[part]), share)
    return new
""", says="nothing was pruned")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new[part] = largest(magnitude(weights[part], mask[part]), share)
    return new
""", says="np.zeros makes numbers unless it is told")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop + 1)
        new[part] = largest(magnitude(weights[part], mask[part]), share)
    return new
""", says="layer.stop is not included")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new = largest(magnitude(weights[part], mask[part]), share)
    return new
""", says="as long as one layer")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        part = slice(layer.start, layer.stop)
        new[part] = largest(magnitude(weights[part], mask[part]), max(1, share))
    return new
""", says="a layer's share may be 0")
layerwise.wrong("""
def layerwise_magnitude(weights, mask, keep, *, layers):
    new = np.zeros(mask.shape, bool)
    for layer, share in zip(layers, shares(keep, layers, mask)):
        new[layer] = largest(magnitude(weights[layer], mask[layer]), share)
    return new
""", says="A layer is no index")
