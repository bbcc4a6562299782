"""Published numbers on the same question, to stand behind one's own; assets/paper.csv says where each is from."""

import csv
import functools
from importlib import resources
from typing import NamedTuple

PAPER, REPRODUCTION, LITERATURE = "paper", "reproduction", "literature"
NAMES = {"resnet20": "ResNet-20", "resnet56": "ResNet-56", "resnet110": "ResNet-110"}
ALGORITHM = "resnet56"          # the network for which the literature's points are given


class Point(NamedTuple):
    """One published number: the median change in accuracy over a few runs, in points, and where known its range."""

    source: str
    network: str
    protocol: str
    technique: str                      # for the literature's points: whose they are
    compression: float
    retrain_fraction: float             # t / T
    median: float
    low: float
    high: float
    best: bool                          # whether this t was chosen by validation accuracy


@functools.cache
def points() -> tuple[Point, ...]:
    """All of them, in order of network, protocol, technique, compression, t."""
    text = resources.files(__package__).joinpath("assets/paper.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(Point(line["source"], line["network"], line["protocol"], line["technique"],
                       float(line["compression"]), float(line["retrain_fraction"] or "nan"), float(line["median"]),
                       float(line["low"] or line["median"]), float(line["high"] or line["median"]),
                       line["best"] == "1") for line in lines)


def network_beside(network: str, dataset: str) -> str | None:
    """The paper's network whose numbers belong beside a study's: the same one; for other networks on CIFAR-10 its
    smallest; for other data none.
    """
    if dataset.split(" ")[0] != "cifar10":
        return None
    return network if network in NAMES else "resnet20"


def curve(source: str, network: str | None, protocol: str, technique: str) -> list[Point]:
    """The published curve at the best t, by compression; empty where there is none."""
    return [p for p in points() if p.best and p[:4] == (source, network, protocol, technique)]


def sweep(network: str | None, protocol: str, technique: str, compression: float) -> list[Point]:
    """The paper's numbers over all t at the compression nearest to this one, no further than 2 % away."""
    group = [p for p in points() if p[:4] == (PAPER, network, protocol, technique)
             and abs(p.compression / compression - 1) < 0.02]
    return group if len(group) > 2 else []


def algorithm(network: str) -> list[Point]:
    """The paper's algorithm on one of its networks: iterative learning-rate rewinding with t = T."""
    return [p for p in points() if p[:4] == (PAPER, network, "iterative", "lr_rewinding") and p.retrain_fraction == 1]


def literature() -> dict[str, list[Point]]:
    """What others published for the same network, by author."""
    found: dict[str, list[Point]] = {}
    for p in points():
        if p.source == LITERATURE:
            found.setdefault(p.technique, []).append(p)
    return found
