"""Facts about the report: medians, intervals, the choice of t, the table, the figure."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from minirewind import report
from minirewind.errors import Error


@dataclass(frozen=True)
class Row:
    network: str
    dataset: str
    protocol: str
    technique: str
    pruning: str
    seed: int
    round: int
    density: float
    compression: float
    retrain_fraction: float
    retrain_steps: int
    search_steps: int
    dense_accuracy: float
    validation_accuracy: float
    accuracy: float
    delta: float
    seconds: float


ROUNDS = (3, 6, 9, 12, 15, 16)
ONE_SHOT = {
    "fine_tuning": (0.0, -0.3, -3.0, -9.0, -37.0, -60.0),
    "weight_rewinding": (0.0, 0.1, 0.4, 0.0, -5.0, -12.0),
    "lr_rewinding": (0.2, 0.2, 0.0, -1.0, -5.0, -10.0),
}
ITERATIVE = {
    "fine_tuning": (0.0, -0.4, -1.0, -2.6, -7.0, -9.0),
    "weight_rewinding": (0.1, 0.1, 0.0, -0.4, -2.0, -3.4),
    "lr_rewinding": (0.2, 0.2, 0.0, -0.4, -1.8, -3.0),
}
CONTROLS = {
    "weight_rewinding_low_lr": (-0.2, -0.6, -4.0, -11.0, -40.0, -66.0),
    "reinitialize": (-0.8, -1.6, -3.0, -5.0, -9.0, -18.0),
}


def run(seed=0, technique="fine_tuning", delta=0.0, *, density=0.5, t=0.9, dense=97.5, validation=None,
        protocol="one_shot", pruning="global_magnitude"):
    """One finished run."""
    accuracy = dense + delta
    return Row("resnet8-8", "digits", protocol, technique, pruning, seed, 1, density, 1 / density, t, 405, 405, dense,
               accuracy if validation is None else validation, accuracy, accuracy - dense, 1.0)


def study(seeds=3, times=(0.9,), spread=0.3, **protocols):
    """Runs like those on digits: test sets of 500, so that accuracies are whole fifths of a point."""
    random = np.random.default_rng(0)
    rows = []
    for protocol, techniques in (protocols or {"one_shot": ONE_SHOT, "iterative": ITERATIVE}).items():
        for seed in range(seeds):
            dense = 97.4 + 0.2 * seed
            for technique, changes in techniques.items():
                for exponent, change in zip(ROUNDS, changes):
                    for t in times:
                        noise = random.normal() * (spread + 0.1 * abs(change)) - abs(t - 0.6)
                        delta = np.round(5 * (change + noise)) / 5
                        rows.append(run(seed, technique, delta, density=0.8**exponent, t=t, dense=dense,
                                        protocol=protocol))
    return rows
