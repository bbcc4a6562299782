"""Invented finished runs, for the tests of what is said and drawn about runs."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Row:
    network: str
    dataset: str
    protocol: str
    technique: str
    pruning: str
    seed: int
    round: int
    stream: int
    density: float
    compression: float
    retrain_fraction: float
    retrain_steps: int
    search_steps: int
    dense_accuracy: float
    validation_accuracy: float
    accuracy: float
    delta: float
    multiply_adds: int
    dense_multiply_adds: int
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
        protocol="one_shot", pruning="global_magnitude", stream=0):
    """One finished run."""
    accuracy, steps = dense + delta, round(450 * (t + (technique == "reinitialize")))
    i = 1 if protocol == "one_shot" else max(1, round(np.log(density) / np.log(0.8)))
    return Row("resnet8-8", "digits", protocol, technique, pruning, seed, i, stream, density, 1 / density, t, steps,
               i * steps, dense, accuracy if validation is None else validation, accuracy, accuracy - dense,
               round(800_000 * density**0.8), 800_000, 1.0)


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


def grid(seeds=5):
    """Runs like those of a ResNet-20 on CIFAR-10: five times t, two protocols, each A/A pair once."""
    rows = study(seeds, times=(0.165, 0.495, 0.824, 0.934, 1.0), one_shot=ONE_SHOT, iterative=ITERATIVE)
    rows += [replace(row, stream=1, delta=row.delta + (-1) ** row.seed * 0.4) for row in rows
             if (row.protocol, row.technique, row.retrain_fraction) == ("one_shot", "lr_rewinding", 1.0)
             and row.density == 0.8 ** ROUNDS[-1]]
    return [replace(row, network="resnet20", dataset="cifar10") for row in rows]


GRID = {"one_shot": ONE_SHOT, "iterative": ITERATIVE}
FIVE = {"one_shot": ONE_SHOT | CONTROLS, "iterative": ITERATIVE}
STUDIES = {
    "a whole study": study(3, **GRID),
    "one seed": study(1),
    "one protocol": study(3, one_shot=ONE_SHOT),
    "three times": study(2, times=(0.25, 0.5, 0.9)),
    "five techniques": study(3, **FIVE),
    "one row": [run()],
    "two pruning methods": study(2) + [replace(row, pruning="random_mask") for row in study(2, one_shot=ONE_SHOT)],
    "a technique of one's own": [*study(2), run(0, "my_technique", -100.0), run(1, "another_technique", 0.2)],
    "the paper's grid": grid(),
}
