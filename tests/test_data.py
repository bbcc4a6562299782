"""Facts about the data sets, the hash, and the batch of a step."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirewind import data, kernels, models, train
from minirewind.errors import Error
from minirewind.kernels import hashing
from minirewind.kernels.reference import augment

WORD = st.integers(0, 2**64 - 1)


@dataclass(frozen=True)
class Clock:
    seed: int = 0
    stream: int = 0
    round: int = 0
    step: int = 0


CLOCKS = st.builds(Clock, *[st.integers(0, 1000)] * 4)


def split(count=10, shape=(3, 5, 6), classes=4, seed=0, dtype=np.uint8):
    """Random images; every class is among the labels."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, *shape)).astype(dtype)
    return data.Split(images, (np.arange(count) % classes).astype(np.uint8))


def dataset(count=10, pad=2, flip=True, dtype=np.uint8):
    train, validation, test = (split(n, seed=seed, dtype=dtype) for seed, n in enumerate((count, 4, 7)))
    return data.Data(train, validation, test, 4, pad, flip)


# --- The hash --------------------------------------------------------------------------------------------------------

def big_integer_hash(*words):
    """The same hash in Python's integers, written down a second time."""
    state = 0
    for word in words:
        x = (state + 0x9E3779B97F4A7C15 * (word + 1)) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        state = x ^ (x >> 31)
    return state


@given(st.lists(WORD, min_size=1, max_size=5))
def test_the_hash_equals_big_integer_arithmetic(words):
    assert int(hashing.hash_words(*words)) == big_integer_hash(*words)


def test_the_hash_of_a_counter_is_the_published_splitmix64():
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]       # its first outputs from seed 0
    assert hashing.hash_words(np.arange(3)).tolist() == published


@given(st.lists(WORD, min_size=1, max_size=4), WORD)
def test_arrays_of_words_are_hashed_like_single_words(words, last):
    together = hashing.hash_words(np.array(words, np.uint64)[:, None], np.array([last, 7], np.uint64))
    assert together.tolist() == [[big_integer_hash(word, w) for w in (last, 7)] for word in words]


def test_a_negative_word_is_taken_modulo_two_to_the_64():
    assert hashing.hash_words(-3) == hashing.hash_words(2**64 - 3) == hashing.hash_words(np.array([-3]))[0]


def test_a_word_that_is_no_integer_is_refused():
    with pytest.raises(TypeError):
        hashing.hash_words(0.5)


# --- The order of the data -------------------------------------------------------------------------------------------

@given(CLOCKS, st.integers(1, 60), st.integers(1, 25))
def test_every_image_is_used_once_per_epoch_whatever_the_batch_size(clock, count, batch_size):
    steps = range(-(-3 * count // batch_size))
    used = np.concatenate([data.batch_indices(count, batch_size, replace(clock, step=step)) for step in steps])
    assert all(np.array_equal(np.sort(used[e * count:(e + 1) * count]), np.arange(count)) for e in range(3))


@given(CLOCKS, st.integers(1, 60), st.integers(1, 150))
def test_batches_are_always_full_and_straddle_epochs(clock, count, batch_size):
    index = data.batch_indices(count, batch_size, clock)
    numbers = range(clock.step * batch_size, (clock.step + 1) * batch_size)
    orders = {n // count: data.permutation(clock.seed, clock.stream, clock.round, n // count, count) for n in numbers}
    assert index.tolist() == [orders[n // count][n % count] for n in numbers]


@pytest.mark.parametrize("other", [{"seed": 1}, {"stream": 1}, {"round": 1}])
def test_seed_stream_and_round_each_change_the_order_and_the_crops(other):
    clock, changed = Clock(), replace(Clock(), **other)
    assert not np.array_equal(data.batch_indices(100, 50, clock), data.batch_indices(100, 50, changed))
    dy, _, _ = data.crops_and_flips(50, 4, True, clock)
    assert not np.array_equal(dy, data.crops_and_flips(50, 4, True, changed)[0])


def test_the_order_is_pinned():
    """Runs stored on disk depend on it: if this fails, every result ever stored has another data order."""
    assert data.permutation(seed=0, stream=0, round=0, epoch=0, count=8).tolist() == [2, 4, 1, 7, 3, 6, 0, 5]
    dy, dx, flip = data.crops_and_flips(4, 4, True, Clock())
    assert (dy.tolist(), dx.tolist(), flip.tolist()) == ([6, 3, 7, 7], [8, 6, 4, 6], [False, True, True, False])


def test_a_remembered_permutation_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        data.permutation(0, 0, 0, 0, 5)[0] = 3


def test_a_batch_needs_an_image():
    with pytest.raises(Error, match="batch_size is 0"):
        data.batch_indices(10, 0, Clock())


# --- Crops and flips -------------------------------------------------------------------------------------------------

def test_each_corner_and_each_flip_is_about_equally_frequent_and_independent():
    clocks = [Clock(step=step) for step in range(20)]
    dy, dx, flip = (np.concatenate(parts) for parts in zip(*[data.crops_and_flips(1000, 4, True, c) for c in clocks]))
    counts = np.zeros((9, 9, 2))
    np.add.at(counts, (dy, dx, flip.astype(int)), 1)
    expected = 20000 / counts.size
    chi_squared = ((counts - expected)**2 / expected).sum()     # 161 degrees of freedom: mean 161, std 18
    assert 100 < chi_squared < 230


def test_without_flip_nothing_is_mirrored_and_without_pad_nothing_is_moved():
    dy, dx, flip = data.crops_and_flips(1000, 0, False, Clock())
    assert not dy.any()
    assert not dx.any()
    assert not flip.any()


def slow_crop_flip_normalise(images, index, dy, dx, flip, pad, table):
    """One pixel after another."""
    _, C, H, W = images.shape
    out = np.zeros((len(index), C, H, W), images.dtype if table is None else np.float32)
    for b, image in enumerate(index):
        for c in range(C):
            for h in range(H):
                for w in range(W):
                    row, column = h + dy[b] - pad, (W - 1 - w if flip[b] else w) + dx[b] - pad
                    inside = 0 <= row < H and 0 <= column < W
                    pixel = images[image, c, row, column] if inside else 0
                    out[b, c, h, w] = pixel if table is None else table[c, pixel]
    return out


@settings(max_examples=25, deadline=None)
@given(CLOCKS, st.integers(0, 4), st.booleans(), st.sampled_from([np.uint8, np.float32, np.float64]))
def test_a_batch_equals_a_slow_loop(clock, pad, flip, dtype):
    toy = dataset(pad=pad, flip=flip, dtype=dtype)
    x, y = data.batch(toy, 6, clock, augment)
    index = data.batch_indices(10, 6, clock)
    dy, dx, mirrored = data.crops_and_flips(6, pad, flip, clock)
    expected = slow_crop_flip_normalise(toy.train.images, index, dy, dx, mirrored, pad, toy.table)
    assert x.dtype == expected.dtype == (np.float32 if dtype == np.uint8 else dtype)
    assert np.array_equal(x, expected)
    assert y.dtype == np.int64
    assert np.array_equal(y, toy.train.labels[index])


def crop(images, dy=0, dx=0, flip=False, pad=0, table=None):
    """All of `images` with the same crop and flip."""
    ones = np.ones(len(images), np.int64)
    return augment.crop_flip_normalise(
        images, np.arange(len(images)), dy * ones, dx * ones, ones.astype(bool) & flip, pad, table)


def test_the_flip_mirrors_left_and_right():
    images = split().images
    assert np.array_equal(crop(images, flip=True), images[..., ::-1])


def test_the_middle_crop_is_the_image():
    images = split().images
    assert np.array_equal(crop(images, dy=2, dx=2, pad=2), images)


def test_the_padding_is_raw_zero_before_the_table():
    toy = dataset()
    x = crop(toy.train.images, dy=0, dx=4, pad=2, table=toy.table)      # the upper right corner: two rows, two columns
    black = toy.table[:, 0][:, None, None]
    assert (x[:, :, :2] == black).all()
    assert (x[:, :, :, -2:] == black).all()
    assert (black != 0).all()


def test_a_batch_depends_on_the_clock_only():
    toy = dataset(count=50)
    first, labels = data.batch(toy, 16, Clock(step=7), augment)
    for step in (3, 90, 8):                                             # whatever was asked for in between
        data.batch(toy, 16, Clock(step=step), augment)
    again, same = data.batch(dataset(count=50), 16, Clock(step=7), augment)
    assert np.array_equal(first, again)
    assert np.array_equal(labels, same)


def test_batches_come_from_the_backend_that_is_asked():
    class Backend:
        def crop_flip_normalise(self, *arguments):
            return "its own"

    assert data.batch(dataset(), 4, Clock(), Backend())[0] == "its own"
    assert data.whole(dataset().test, 0, 2, Backend())[0] == "its own"


def test_without_a_backend_the_cpu_makes_the_same_batch():
    toy = dataset()
    assert np.array_equal(data.batch(toy, 16, Clock())[0], data.batch(toy, 16, Clock(), augment)[0])


@settings(deadline=None, max_examples=30)
@given(CLOCKS, st.integers(1, 9), st.integers(0, 3), st.booleans(), st.integers(1, 20),
       st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)))
def test_every_device_makes_the_same_pixels_to_the_bit(clock, count, pad, flip, batch_size, shape):
    images, labels = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8), np.zeros(count, np.int64)
    part = data.Split(images, labels)
    toy = data.Data(part, part, part, 1, pad, flip)
    plain, _ = data.batch(toy, batch_size, clock, augment)
    fast, _ = data.batch(toy, batch_size, clock, kernels.backend("cpu"))
    assert fast.dtype == plain.dtype
    assert np.array_equal(fast, plain)


# --- Normalising -----------------------------------------------------------------------------------------------------

def test_through_the_table_the_training_images_have_mean_0_and_std_1_in_each_channel():
    toy = dataset(count=200)
    x, y = data.whole(toy.train, 0, 200, augment)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=(0, 2, 3)), 1, atol=1e-5)
    assert np.array_equal(y, toy.train.labels)


def test_the_table_is_the_formula():
    toy = dataset(count=2500)                                           # more than one part is counted
    pixels = toy.train.images.astype(np.float64)
    mean, std = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))
    np.testing.assert_allclose(toy.table, (np.arange(256) - mean[:, None]) / std[:, None], rtol=1e-5, atol=1e-6)


def test_validation_and_test_go_through_the_table_of_the_training_images():
    toy = dataset()
    x, _ = data.whole(toy.test, 2, 5, augment)
    channel = np.arange(3)[:, None, None]
    assert np.array_equal(x, toy.table[channel, toy.test.images[2:5]])


def test_a_channel_that_is_constant_is_not_divided_by_zero():
    images = np.full((4, 1, 3, 3), 7, np.uint8)
    same = data.Split(images, np.zeros(4, np.int64))
    assert np.array_equal(data.Data(same, same, same, 1).table[0], np.arange(256, dtype=np.float32) - 7)


def test_float_images_are_used_as_given():
    toy = dataset(dtype=np.float32)
    assert toy.table is None
    assert np.array_equal(data.whole(toy.test, 0, 100, augment)[0], toy.test.images)


# --- The splits ------------------------------------------------------------------------------------------------------

def test_the_digits_are_the_ones_documented():
    digits = data.load("digits")
    assert [len(part) for part in (digits.train, digits.validation, digits.test)] == [1000, 297, 500]
    assert (digits.input_shape, digits.classes, digits.pad, digits.flip) == ((1, 8, 8), 10, 1, False)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.max() == 16


def test_every_digit_is_in_every_split():
    digits = data.load("digits")
    for part, least in ((digits.train, 80), (digits.validation, 20), (digits.test, 40)):
        assert np.bincount(part.labels, minlength=10).min() >= least


def test_no_digit_is_in_two_splits():
    digits = data.load("digits")
    every = np.concatenate([digits.train.images, digits.validation.images, digits.test.images])
    assert every.sum() == 561718                                        # of all 1,797 images
    assert len(np.unique(every, axis=0)) == 1797


def test_the_division_into_splits_never_changes():
    digits = data.load("digits")
    assert [part.labels[:10].tolist() for part in (digits.train, digits.validation, digits.test)] == [
        [6, 8, 5, 7, 6, 8, 1, 9, 9, 5], [9, 1, 2, 1, 7, 4, 5, 2, 2, 8], [8, 4, 6, 5, 4, 5, 6, 1, 5, 3]]


@pytest.mark.parametrize(("name", "train", "validation", "pad", "flip", "classes"), [
    ("cifar10", 45000, 5000, 4, True, 10),
    ("cifar100", 45000, 5000, 4, True, 100),
    ("mnist", 55000, 5000, 2, False, 10),
    ("fashion_mnist", 55000, 5000, 2, True, 10),
])
def test_named_sets_are_split_as_documented(name, train, validation, pad, flip, classes, monkeypatch):
    def read(name, folder):
        number = np.arange(train + validation, dtype=np.int64)
        images = number.astype(np.uint32).view(np.uint8).reshape(-1, 1, 2, 2)       # each image is its own number
        return (images, number % classes), (images[:10000], number[:10000] % classes)

    monkeypatch.setattr(data.fetch, "read", read)
    loaded = data.load(name)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (train, validation, 10000)
    assert (loaded.pad, loaded.flip, loaded.classes, loaded.name) == (pad, flip, classes, name)
    both = np.concatenate([loaded.train.images, loaded.validation.images]).reshape(-1, 4).view(np.uint32).ravel()
    assert np.array_equal(np.sort(both), np.arange(train + validation))


def test_an_unknown_data_set_is_told_the_nearest_name():
    with pytest.raises(Error, match="did you mean 'cifar10'"):
        data.load("cifar-10")


def test_a_smaller_subset_is_part_of_a_larger_one():
    digits = data.load("digits")
    small, large = data.subset(digits, train=50), data.subset(digits, train=200, validation=20, test=30)
    assert np.array_equal(small.train.images, large.train.images[:50])
    assert (len(small.validation), len(large.validation), len(large.test)) == (297, 20, 30)
    assert not np.array_equal(data.subset(digits, train=50, seed=1).train.images, small.train.images)


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_subset_cannot_be_empty_or_larger_than_the_whole(count):
    with pytest.raises(Error, match=f"train={count}, expected 1 to 1000"):
        data.subset(data.load("digits"), train=count)


# --- What cannot be used ---------------------------------------------------------------------------------------------

IMAGES, LABELS = np.zeros((3, 1, 4, 4), np.uint8), np.zeros(3, np.int64)


@pytest.mark.parametrize(("images", "labels", "message"), [
    (IMAGES.tolist(), LABELS, "images are a list"),
    (IMAGES[:, 0], LABELS, r"expected \(N, C, H, W\)"),
    (IMAGES[:0], LABELS[:0], "at least one image"),
    (IMAGES.astype(np.int64), LABELS, "images are int64"),
    (IMAGES.astype(np.float16), LABELS, "images are float16"),
    (IMAGES, LABELS.astype(float), "labels are float64"),
    (IMAGES, np.eye(3, dtype=int), "labels are int64 of shape"),
    (IMAGES, LABELS[:2], "3 images but 2 labels"),
    (IMAGES, LABELS - 1, "a label is -1"),
    (np.where(np.arange(3)[:, None, None, None] == 1, np.nan, IMAGES), LABELS, "image 1 holds NaN"),
    (np.where(np.arange(3)[:, None, None, None] == 2, np.inf, IMAGES), LABELS, "image 2 holds NaN or infinity"),
])
def test_a_split_that_cannot_be_used_says_why(images, labels, message):
    with pytest.raises(Error, match=message) as caught:
        data.Split(images, labels)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(("change", "message"), [
    ({"classes": 3}, "a label in train is 3, expected 0 to 2"),
    ({"test": split(shape=(3, 5, 5))}, r"test images are uint8 \(3, 5, 5\), expected uint8 \(3, 5, 6\)"),
    ({"validation": split(dtype=np.float32)}, "validation images are float32"),
    ({"test": (IMAGES, LABELS)}, "test is a tuple, expected Split"),
    ({"pad": -1}, "pad is -1"),
])
def test_a_data_set_that_does_not_fit_together_says_why(change, message):
    with pytest.raises(Error, match=message):
        replace(dataset(), **change)


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_a_split_of_bytes_that_belongs_to_no_data_is_refused_on_every_device(device):
    split = data.Split(np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, np.int64))
    model = models.build("resnet8-2", input_shape=(1, 8, 8), classes=2).to(device)
    with pytest.raises(Error, match=r"belongs to no Data, .*\ntake it from one: Data\(train, validation"):
        train.evaluate(model, split)
