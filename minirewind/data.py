"""Data sets, and the batch of every step.

The order of the data and its augmentation are functions, not states. Which images step 1,234 sees, and how each is
cropped and flipped, is computed from (seed, stream, round, step) by a hash. No generator has to be saved, a run resumed
at any step sees what it would have seen, and the three retraining strategies can be compared batch by batch.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from . import fetch, kernels
from .errors import Error, choose
from .kernels import hashing


class Clock(Protocol):
    """What a batch depends on: the run's seed, its data stream, the pruning round (0: dense) and the step."""

    seed: int
    stream: int
    round: int
    step: int


@dataclass(frozen=True, eq=False)
class Split:
    """Images (N, C, H, W), uint8 or float, and their labels (N,), integers from 0.

    `table` is how uint8 images become the network's input; the Data that a split belongs to fills it in.
    """

    images: NDArray
    labels: NDArray
    table: NDArray | None = None

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        for name, array in (("images", images), ("labels", labels)):
            if not isinstance(array, np.ndarray):
                raise Error(f"Split: {name} are a {type(array).__name__}, expected a NumPy array; try np.asarray")
        if images.ndim != 4 or 0 in images.shape:
            raise Error(f"Split: images have the shape {images.shape}, expected (N, C, H, W) and at least one image;\n"
                        "grey images (N, H, W) become (N, 1, H, W) by images[:, None]")
        if images.dtype not in (np.uint8, np.float32, np.float64):
            raise Error(f"Split: images are {images.dtype}, expected uint8 (0 to 255), float32 or float64;\n"
                        "try images.astype(np.float32)")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise Error(f"Split: labels are {labels.dtype} of shape {labels.shape}, expected integers of shape (N,)")
        if len(labels) != len(images):
            raise Error(f"Split: {len(images)} images but {len(labels)} labels, expected one label for each image")
        if labels.min() < 0:
            raise Error(f"Split: a label is {labels.min()}, expected class numbers from 0")
        if images.dtype != np.uint8 and not np.isfinite(images).all():
            first = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))[0]
            raise Error(f"Split: image {first} holds NaN or infinity, expected finite numbers")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self)} images {self.images.shape[1:]} {self.images.dtype})"


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: what is trained on, what settings are chosen by, what is reported, and how it is augmented.

    `pad` and `flip` are for training: crops out of a border of `pad` raw zeros, and mirroring half of the images.
    """

    train: Split
    validation: Split
    test: Split
    classes: int
    pad: int = 0
    flip: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise Error(f"Data: pad is {self.pad}, expected 0 or more pixels")
        for name, split in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if not isinstance(split, Split):
                raise Error(f"Data: {name} is a {type(split).__name__}, expected Split(images, labels)")
            train = self.train.images
            if split.images.shape[1:] != train.shape[1:] or split.images.dtype != train.dtype:
                raise Error(f"Data: {name} images are {split.images.dtype} {split.images.shape[1:]}, "
                            f"expected {train.dtype} {train.shape[1:]} like those of train")
            if split.labels.max() >= self.classes:
                raise Error(f"Data: a label in {name} is {split.labels.max()}, "
                            f"expected 0 to {self.classes - 1} for {self.classes} classes")
        if self.train.images.dtype == np.uint8:
            table = normalising_table(self.train.images)
            for name in ("train", "validation", "test"):
                object.__setattr__(self, name, replace(getattr(self, name), table=table))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W), the shape of one image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def table(self) -> NDArray | None:
        """(C, 256) float32: the input value of every pixel value, by channel; None for float images."""
        return self.train.table


def normalising_table(images: NDArray) -> NDArray:
    """(C, 256) float32: (value - mean) / std by channel, of the uint8 images (N, C, H, W).

    The sums are integers and therefore exact, so the table has the same bits on every machine, and so has every device
    that looks its inputs up.
    """
    values = np.arange(256)
    table = np.empty((images.shape[1], 256), np.float32)
    for c, row in enumerate(table):
        # In parts, because bincount makes eight bytes of each one it counts.
        parts = np.array_split(images[:, c], 1 + len(images) // 1000)
        counts = sum(np.bincount(part.ravel(), minlength=256) for part in parts)
        n, total, squares = (int((counts * values**power).sum()) for power in (0, 1, 2))
        std = math.sqrt(n * squares - total**2) / n
        row[:] = (values - total / n) / (std or 1.0)
    return table


# --- Numbers from a hash ---------------------------------------------------------------------------------------------

# The first word of every key: what its numbers are for. Numbers for different purposes are independent.
PERMUTATION, AUGMENTATION, SPLIT, SUBSET = range(4)


def shuffled(count: int, *key: int) -> NDArray[np.int64]:
    """The numbers 0 .. count-1 in an order that depends on the key only."""
    return np.argsort(hashing.hash_words(*key, np.arange(count)), kind="stable")


# --- The batch of a step ---------------------------------------------------------------------------------------------

@lru_cache(maxsize=8)
def permutation(seed: int, stream: int, round: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of the training images in one epoch; read-only, because the last few are remembered."""
    order = shuffled(count, PERMUTATION, seed, stream, round, epoch)
    order.flags.writeable = False
    return order


def batch_indices(count: int, batch_size: int, clock: Clock) -> NDArray[np.int64]:
    """(B,) which of `count` training images the step uses.

    The epochs are strung together and cut into batches, so that every batch is full: some straddle two epochs.
    """
    if batch_size < 1:
        raise Error(f"batch_size is {batch_size}, expected 1 or more")
    first = int(clock.step) * batch_size
    epochs, positions = np.divmod(np.arange(first, first + batch_size), count)      # (B,), (B,)
    index = np.empty(batch_size, np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        here = epochs == epoch
        index[here] = permutation(clock.seed, clock.stream, clock.round, epoch, count)[positions[here]]
    return index


def crops_and_flips(
    batch_size: int, pad: int, flip: bool, clock: Clock
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """(B,) each: the corner (dy, dx) of the step's crops, in 0 .. 2 pad, and which images are mirrored.

    Each image has one hash; its upper 24 bits make dy, the next 24 make dx, the last one makes the flip. 24 bits are a
    fraction of 2**24: times the number of places, rounded down, it is a place.
    """
    bits = hashing.hash_words(AUGMENTATION, clock.seed, clock.stream, clock.round, clock.step, np.arange(batch_size))
    places, low = np.uint64(2 * pad + 1), np.uint64(2**24 - 1)
    dy = ((bits >> np.uint64(40)) * places) >> np.uint64(24)
    dx = (((bits >> np.uint64(16)) & low) * places) >> np.uint64(24)
    mirrored = (bits & np.uint64(1)).astype(bool) & flip
    return dy.astype(np.int64), dx.astype(np.int64), mirrored


def batch(data: Data, batch_size: int, clock: Clock, backend: Any = None) -> tuple[NDArray, NDArray[np.int64]]:
    """x (B, C, H, W) and y (B,) of a training step: a function of the clock's seed, stream, round and step only."""
    backend = backend or kernels.backend("cpu")
    if hasattr(clock, "order"):
        return batch_on_device(data, batch_size, clock, backend)
    index = batch_indices(len(data.train), batch_size, clock)
    dy, dx, flip = crops_and_flips(batch_size, data.pad, data.flip, clock)
    x = backend.crop_flip_normalise(data.train.images, index, dy, dx, flip, data.pad, data.table)
    return x, data.train.labels[index].astype(np.int64)


def batch_on_device(data: Data, batch_size: int, clock: Any, backend: Any) -> tuple[Any, Any]:
    """The same batch, bit for bit, from a GPU's clock: the numbers that change from step to step never leave it."""
    key = int(hashing.hash_words(AUGMENTATION, clock.seed, clock.stream, clock.round))
    plan = backend.batch_plan(clock.order, clock.step, key, batch_size, len(data.train), data.pad, data.flip)
    return gathered(data.train, plan, data.pad, backend)


def gathered(split: Split, plan: tuple, pad: int, backend: Any) -> tuple[Any, Any]:
    """Images as a plan on the device says, and their labels; both data sets lie on the device for good."""
    x = backend.crop_flip_normalise(split.images, *plan, pad, split.table)
    return x, backend.resident(split.labels).take(plan[0]).astype(np.int64)


def wind(clock: Any, data: Data, step: int, rate: float) -> None:
    """Set a clock to a step. A GPU's clock also gets the permutations of the epochs that the batch is cut from."""
    clock.step, clock.rate = step, rate
    if hasattr(clock, "order"):
        count = len(data.train)
        epoch, most = step * clock.batch_size // count, (clock.batch_size + count - 2) // count + 1
        if clock.epoch != epoch:
            clock.lay(epoch, np.concatenate([
                permutation(clock.seed, clock.stream, clock.round, epoch + i, count) for i in range(most)]))


def whole(split: Split, start: int, stop: int, backend: Any = None) -> tuple[NDArray, NDArray[np.int64]]:
    """x and y of the images start .. stop-1 of a split, neither cropped nor mirrored."""
    _check_table(split)
    index = np.arange(len(split))[start:stop]
    zero = np.zeros(len(index), np.int64)
    backend = backend or kernels.backend("cpu")
    x = backend.crop_flip_normalise(split.images, index, zero, zero, zero.astype(bool), 0, split.table)
    return x, split.labels[index].astype(np.int64)


def in_order(split: Split, clock: Any, backend: Any) -> tuple[Any, Any]:
    """The same of the full batch whose number is the clock's step; a GPU's clock keeps the number on the device."""
    size = clock.batch_size
    if not hasattr(clock, "order"):
        return whole(split, clock.step * size, (clock.step + 1) * size, backend)
    _check_table(split)
    if clock.order is None:
        clock.lay(0, np.arange(len(split)))
    return gathered(split, backend.batch_plan(clock.order, clock.step, 0, size, len(split), 0, False), 0, backend)


def _check_table(split: Split) -> None:
    if split.images.dtype == np.uint8 and split.table is None:
        raise Error("this split of uint8 images belongs to no Data, so nothing says how to normalise it;\n"
                    "take it from one: Data(train, validation, test, classes).test")


# --- The data sets by name -------------------------------------------------------------------------------------------

class Settings(NamedTuple):
    """How a named data set is split and augmented."""

    classes: int
    validation: int         # images split off the training set, by which settings are chosen
    pad: int
    flip: bool              # not for digits: a mirrored 2 is no digit


SETTINGS = {
    "digits": Settings(10, 297, pad=1, flip=False),
    "cifar10": Settings(10, 5000, pad=4, flip=True),
    "cifar100": Settings(100, 5000, pad=4, flip=True),
    "mnist": Settings(10, 5000, pad=2, flip=False),
    "fashion_mnist": Settings(10, 5000, pad=2, flip=True),
}


def load(name: str, folder: str | Path | None = None) -> Data:
    """A data set by name: digits (in the package), cifar10, cifar100, mnist, fashion_mnist.

    All but the digits are read from `folder`, or the folder that MINIREWIND_DATA names, or the download cache, as they
    lie there by `fetch`. Which images are for validation is the same for everybody, always.
    """
    settings = SETTINGS[choose("data set", name, SETTINGS)]
    parts = digits() if name == "digits" else fetch.read(name, folder)
    everything, test = (Split(images, labels) for images, labels in parts)
    order = shuffled(len(everything), SPLIT)
    train, validation = (take(everything, part) for part in np.split(order, [-settings.validation]))
    return Data(train, validation, test, settings.classes, settings.pad, settings.flip, name)


def digits() -> tuple[fetch.Arrays, fetch.Arrays]:
    """1,297 and 500 of the UCI digits, 8 x 8 pixels of 0 to 16; shuffled, as neighbours are by the same writer."""
    with resources.files(__package__).joinpath("assets/digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        images, labels = arrays["images"][:, None], arrays["labels"]            # (1797, 1, 8, 8), (1797,)
    rest, test = np.split(shuffled(len(images), SPLIT), [-500])
    return (images[rest], labels[rest]), (images[test], labels[test])


def take(split: Split, index: NDArray) -> Split:
    """A part of a split."""
    return Split(split.images[index], split.labels[index])


def subset(
    data: Data, train: int | None = None, validation: int | None = None, test: int | None = None, seed: int = 0
) -> Data:
    """`data` with fewer images, for a laptop; a smaller subset of the same seed is part of a larger one."""
    def fewer(name: str, split: Split, count: int | None) -> Split:
        if count is None:
            return split
        if not 1 <= count <= len(split):
            raise Error(f"subset: {name}={count}, expected 1 to {len(split)} images")
        return take(split, shuffled(len(split), SUBSET, seed)[:count])

    return replace(
        data,
        train=fewer("train", data.train, train),
        validation=fewer("validation", data.validation, validation),
        test=fewer("test", data.test, test),
    )
