"""The runs of a study as a graph: what each starts from, and in which order they are run."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import methods


@dataclass(frozen=True)
class Node:
    """One training: a segment of a dense run up to `step`, or a round of pruning and retraining up to the end.

    `densities` are the targets of all rounds so far: one for a one-shot run, i for round i of an iterative one. So the
    first round of an iterative run and the one-shot run to the same density are one node.
    """

    seed: int
    step: int = 0
    technique: str = ""
    pruning: str = ""
    retrain_steps: int = 0
    densities: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        if not self.technique:
            return f"seed{self.seed}-dense-{self.step}"
        kind = "one_shot" if len(self.densities) == 1 else f"iterative-round{len(self.densities)}"
        method = "" if self.pruning == "global_magnitude" else f"-{methods.short(self.pruning)}"
        technique, compression = methods.short(self.technique), 1 / self.densities[-1]
        return f"seed{self.seed}-{technique}-t{self.retrain_steps}-{kind}{method}-{compression:.2f}x"


class Graph:
    """The nodes of a study whose training takes `steps` steps."""

    def __init__(self, study: Any, steps: int):
        self.study, self.steps = study, steps
        self.times = {fraction: max(1, round(fraction * steps)) for fraction in (*study.retrain_fractions, 1.0)}
        used = set(study.retrain_fractions) | ({1.0} if "paper_algorithm" in study.protocols else set())
        self.cuts = sorted({0, steps, *(steps - self.times[fraction] for fraction in used)})

    def dense(self, seed: int, step: int) -> Node:
        return Node(seed, step)

    def before(self, node: Node) -> list[Node]:
        """The nodes whose states this one starts from: for a round, the trained network and the dense run at T - t."""
        if not node.technique:
            earlier = [cut for cut in self.cuts if cut < node.step]
            return [self.dense(node.seed, earlier[-1])] if earlier else []
        previous = (dataclasses.replace(node, densities=node.densities[:-1]) if len(node.densities) > 1
                    else self.dense(node.seed, self.steps))
        return [previous, self.dense(node.seed, self.steps - node.retrain_steps)]

    def cells(self, seed: int, protocol: str) -> Iterator[Node]:
        """The pruned runs of one seed under one protocol, in grid order."""
        study = self.study
        algorithm = protocol == "paper_algorithm"
        for pruning in study.pruning:
            for technique in ("lr_rewinding",) if algorithm else study.techniques:
                if methods.starts_afresh(technique) and protocol != "one_shot":
                    continue
                for fraction in (1.0,) if algorithm else study.retrain_fractions:
                    for targets in self.targets(protocol):
                        yield Node(seed, self.steps, technique, pruning, self.times[fraction], targets)

    def targets(self, protocol: str) -> list[tuple[float, ...]]:
        if protocol != "one_shot":
            rounds = [0.8**i for i in range(1, max(self.study.rounds, default=0) + 1)]
            return [tuple(rounds[:last]) for last in range(1, len(rounds) + 1)]
        return [(density,) for density in sorted({0.8**i for i in self.study.rounds} | set(self.study.densities))[::-1]]

    def nodes(self) -> list[Node]:
        """All nodes, each after those it needs, so that every prefix of the list is a study that can be reported.

        Of the first seed the one-shot runs come first: they are the first table. Of the others the iterative ones do:
        their rounds wait for each other, and the one-shot runs fill the time.
        """
        order: dict[Node, None] = {}
        for i, seed in enumerate(self.study.seed_list):
            order |= dict.fromkeys(self.dense(seed, cut) for cut in self.cuts)
            for protocol in sorted(self.study.protocols, key=lambda p: (p == "one_shot") == (i > 0)):
                order |= dict.fromkeys(self.cells(seed, protocol))
        return list(order)

    def grid(self) -> list[tuple[str, Node]]:
        """Every row of results.csv: its protocol and its node."""
        cells = [("one_shot" if protocol == "one_shot" else "iterative", node) for protocol in self.study.protocols
                 for seed in self.study.seed_list for node in self.cells(seed, protocol)]

        def place(cell: tuple[str, Node]) -> tuple:
            protocol, node = cell
            return (protocol != "one_shot", methods.rank("pruning method", node.pruning),
                    methods.rank("technique", node.technique), node.retrain_steps, len(node.densities),
                    -node.densities[-1], node.seed)

        return sorted(dict.fromkeys(cells), key=place)

    def cost(self, node: Node) -> int:
        """The steps a node trains."""
        if not node.technique:
            return node.step - max((cut for cut in self.cuts if cut < node.step), default=node.step)
        return node.retrain_steps + (self.steps if methods.starts_afresh(node.technique) else 0)
