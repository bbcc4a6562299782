"""Lesson 00: what must hold of its two functions, and the wrong answers that are known."""

import numpy as np

from minirewind import data, prune
from minirewind.data import Split
from minirewind.learn import Exercise

# ------------------------------------------------------------------------------------------------------------ data.take

take = Exercise("data.take", hints=(
    "You pick out image 7. Which label belongs to it now?",
    "An array picks out many places at once: images[index], with an array of numbers as index. Do the same with the\n"
    "labels, and make a new Split of both.",
    "    return Split(split.images[...], split.labels[...])",
))


def numbered(count):
    """Images that are their own number, and labels that are ten times it."""
    return Split(np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1), 10 * np.arange(count))


def taken(split, index):
    """What the function gives back; a Split that is not possible is a message."""
    try:
        part = data.take(split, np.array(index))
    except ValueError as reason:                # Split counts them
        if f"{len(split)} labels" in str(reason):
            raise AssertionError(f"{len(index)} images were asked for, and all {len(split)} labels came with them. "
                                 f"Each image needs its own label: take the labels at the same places") from reason
        raise AssertionError("a Split is made of images and labels, in this order, and images[index] keeps all their "
                             f"other dimensions. It refused yours:\n{reason}") from reason
    except AttributeError as reason:
        if "cannot assign" in str(reason):
            raise AssertionError("a Split cannot be changed, and it belongs to somebody else: make a new one, "
                                 "Split(images, labels)") from reason
        if "'train'" in str(reason):
            raise AssertionError("take out of the split that comes in, whichever it is: `split`, not digits.train"
                                 ) from reason
        raise
    assert part is not None, "nothing came back: did you forget the return?"
    assert isinstance(part, Split), f"expected a Split, images and labels together; yours is a {type(part).__name__}"
    return part


@take.check
def test_the_images_at_the_given_places_come_back():
    part = taken(numbered(6), [4, 1])
    got = part.images.ravel().tolist()
    assert got != [0, 1], "you took the first two images, whatever the index says; it asked for numbers 4 and 1"
    assert got == [4, 1], f"images number 4 and 1 were asked for, in this order; yours are {got}"


@take.check
def test_every_image_keeps_its_label():
    part = taken(numbered(6), [4, 1])
    got = part.labels.tolist()
    assert got != [0, 10], (
        "image 4 now has the label of image 0: the images were picked out by the index, the labels from the front. "
        "Take the labels at the same places")
    assert got == [40, 10], f"images 4 and 1 have the labels 40 and 10, yours are {got}"


@take.check
def test_an_image_may_be_taken_twice_and_the_original_stays():
    whole = numbered(5)
    part = taken(whole, [3, 3, 0])
    assert part.images.ravel().tolist() == [3, 3, 0], (
        f"image 3 was asked for twice: expected 3, 3, 0, yours are {part.images.ravel().tolist()}")
    assert part.labels.tolist() == [30, 30, 0], f"expected the labels 30, 30, 0, yours are {part.labels.tolist()}"
    assert len(whole) == 5, "the Split that you were given has changed; make a new one"


take.wrong("""
def take(split, index):
    return Split(split.images[index], split.labels)
""", says="all 6 labels came with them")
take.wrong("""
def take(split, index):
    return Split(split.images[index], split.labels[: len(index)])
""", says="the label of image 0")
take.wrong("""
def take(split, index):
    Split(split.images[index], split.labels[index])
""", says="did you forget the return")
take.wrong("""
def take(split, index):
    return Split(split.images[: len(index)], split.labels[: len(index)])
""", says="the first two images")
take.wrong("""
def take(split, index):
    return Split(split.images[np.sort(index)], split.labels[np.sort(index)])
""", says="in this order")
take.wrong("""
def take(split, index):
    return Split(split.labels[index], split.images[index])
""", says="made of images and labels, in this order")
take.wrong("""
def take(split, index):
    split.images = split.images[index]
    split.labels = split.labels[index]
    return split
""", says="a Split cannot be changed")
take.wrong("""
def take(split, index):
    return Split(digits.train.images[index], digits.train.labels[index])
""", says="whichever it is")
take.wrong("""
def take(split, index):
    return split.images[index], split.labels[index]
""", says="yours is a tuple")


# ------------------------------------------------------------------------------------------------------ prune.rounds_to

rounds = Exercise("prune.rounds_to", hints=(
    "After the first round 80 are left of 100. How many does the second round remove: 20, or fewer?",
    "Each round leaves 0.8 times what was there. Begin with everything, 1.0, multiply by 0.8 until it is no more than\n"
    "density, and count. Numbers on a computer are not quite exact: compare with density * (1 + 1e-9).",
    """
    kept, count = 1.0, 0
    while kept > density * (1 + 1e-9):
        kept = ...
        count = ...
    return count
    """))


@rounds.check
def test_each_round_removes_a_fifth_of_what_is_left():
    got = prune.rounds_to(0.3)
    assert got is not None, "nothing came back: did you forget the return?"
    assert got != 4, (
        "for 0.3 you say 4 rounds: that is a fifth of the BEGINNING each time (0.8, 0.6, 0.4, 0.2). Each round removes "
        "a fifth of what is LEFT: 0.8, 0.64, 0.512, 0.41, 0.328, 0.262")
    assert got != 5, (
        "after 5 rounds 0.328 is left, and that is more than 0.3: go on until no more than that is left, so round up. "
        "(Or did you count in a loop over range? Its first number is 0.)")
    assert got != 7, "you say 7 rounds for 0.3, and it is 6: before the first round there were none, so count from 0"
    assert got != 1 or prune.rounds_to(0.001) != 1, (
        "you say 1 round for 0.3, and for 0.001 too. If you count in a loop: is the return inside it? Then it ends the "
        "function in the first turn")
    assert got != 1, "you say 1 round for 0.3: a round REMOVES a fifth and keeps 0.8, so multiply by 0.8, not by 0.2"
    assert hasattr(got, "__index__"), (
        f"a number of rounds is a whole number, an int; yours is {got!r}. The framework counts with it, range(rounds)")
    assert got == 6, f"0.8, 0.64, 0.512, 0.41, 0.328, 0.262: no more than 0.3 is left after 6 rounds; you say {got}"


@rounds.check
def test_a_tenth_takes_eleven_rounds():
    got = prune.rounds_to(0.1)
    assert got == 11, f"after 10 rounds 0.107 is left, after 11 it is 0.086; you say {got}"


@rounds.check
def test_rounding_errors_cost_no_round():
    got = prune.rounds_to(0.8)
    assert got != 2, ("after 1 round 0.8 is left, exactly as much as was asked for: stop there. As long as MORE than "
                      "density is left, go on")
    for count in range(1, 30):
        for density in (0.8**count, float(f"{0.8**count:.15g}")):          # 0.6400000000000001, and 0.64
            got = prune.rounds_to(density)
            assert got != count + 1, (
                f"exactly {count} rounds lead to 0.8**{count} = {density!r}, you say {got}. Multiplying, or a "
                f"logarithm, leaves tiny errors behind, and one more round. Allow for them: compare with "
                f"density * (1 + 1e-9), or take 1e-9 from the quotient of the logarithms before you round up")
            assert got == count, f"exactly {count} rounds lead to 0.8**{count}, you say {got}"


@rounds.check
def test_a_little_too_much_takes_one_round_more():
    for count in range(1, 30):
        got = prune.rounds_to(0.999 * 0.8**count)
        assert got != count, (
            f"density is {0.999 * 0.8**count:.6f}, and after {count} rounds {0.8**count:.6f} is left: that is more. "
            f"You may forgive errors of calculation, density * (1 + 1e-9), but not as much as this")
        assert got == count + 1, f"{0.999 * 0.8**count:.6f} takes {count + 1} rounds, you say {got}"


@rounds.check
def test_nothing_to_remove_takes_no_round():
    got = prune.rounds_to(1.0)
    assert got == 0, f"everything (1.0) is there without any round; you say {got}"


rounds.wrong("""
def rounds_to(density):
    return math.ceil((1 - density) / 0.2 - 1e-9)
""", says="of the BEGINNING each time")
rounds.wrong("""
def rounds_to(density):
    return np.ceil(np.log(density) / np.log(0.8) - 1e-9)
""", says="a whole number, an int")
rounds.wrong("""
def rounds_to(density):
    kept, count = 1.0, 1
    while kept > density * (1 + 1e-9):
        kept, count = kept * 0.8, count + 1
    return count
""", says="so count from 0")
rounds.wrong("""
def rounds_to(density):
    return round(math.log(density) / math.log(0.8))
""", says="so round up")
rounds.wrong("""
def rounds_to(density):
    kept, count = 1.0, 0
    while kept > density:
        kept, count = kept * 0.8, count + 1
    return count
""", says="tiny errors")
rounds.wrong("""
def rounds_to(density):
    return math.ceil(math.log(density) / math.log(0.8))
""", says="or take 1e-9 from the quotient")
rounds.wrong("""
def rounds_to(density):
    kept, count = 1.0, 0
    while kept >= density:
        kept, count = kept * 0.8, count + 1
    return count
""", says="exactly as much as was asked for")
rounds.wrong("""
def rounds_to(density):
    kept, count = 1.0, 0
    while kept > density + 1e-4:
        kept, count = kept * 0.8, count + 1
    return count
""", says="You may forgive errors of calculation")
rounds.wrong("""
def rounds_to(density):
    kept, count = 1.0, 0
    while kept > density * (1 + 1e-9):
        kept, count = kept * 0.2, count + 1
    return count
""", says="multiply by 0.8, not by 0.2")
rounds.wrong("""
def rounds_to(density):
    kept, count = 1.0, 0
    while kept > density * (1 + 1e-9):
        kept = kept * 0.8
        count += 1
        return count
""", says="is the return inside it?")
rounds.wrong("""
def rounds_to(density):
    kept = 1.0
    for i in range(1000):
        kept = kept * 0.8
        if kept <= density * (1 + 1e-9):
            return i
""", says="Its first number is 0")
rounds.wrong("""
def rounds_to(density):
    kept, count = 1.0, 0
    while kept > density:
        kept * 0.8
        count += 1
    return count
""", says="loop without an end")
