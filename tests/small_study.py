"""A study of a few seconds, for the tests about studies."""

import dataclasses

import numpy as np

from minirewind import data, train
from minirewind.study import Study

RECIPE = train.Recipe(steps=12, batch_size=8)


def tiny_data(seed=0):
    random = np.random.default_rng(seed)

    def split(count):
        labels = np.arange(count) % 3
        images = random.normal(size=(count, 1, 4, 4)) + labels[:, None, None, None]
        return data.Split(images.astype(np.float32), labels)

    return data.Data(split(40), split(12), split(12), classes=3, pad=1, name="tiny")


DATA = tiny_data()


def tiny(**changes):
    wanted = {"recipe": RECIPE, "rounds": (1, 3), "seeds": 2, "retrain_fractions": (0.5,)} | changes
    return Study("resnet8-2", wanted.pop("data", DATA), **wanted)


def without_seconds(rows):
    return [dataclasses.replace(row, seconds=0) for row in rows]


def states(folder):
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("runs/*/state.npz"))}
