"""The runs of a study as a graph: what each starts from, and in which order they are run."""

import dataclasses
import fnmatch
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import Error
from . import methods


@dataclass(frozen=True)
class Node:
    """One training: a segment of a dense run up to `step`, or a round of pruning and retraining up to the end.

    `densities` are the targets of all rounds so far: one for a one-shot run, i for round i of an iterative one. So the
    first round of an iterative run and the one-shot run to the same density are one node. A repeat of a run, to see
    what chance does, has the data `stream` 1.
    """

    seed: int
    step: int = 0
    technique: str = ""
    pruning: str = ""
    retrain_steps: int = 0
    densities: tuple[float, ...] = ()
    stream: int = 0

    @property
    def name(self) -> str:
        if not self.technique:
            return f"seed{self.seed}-dense-{self.step}"
        kind = "one_shot" if len(self.densities) == 1 else f"iterative-round{len(self.densities)}"
        method = "" if self.pruning == "global_magnitude" else f"-{methods.short(self.pruning)}"
        technique, compression = methods.short(self.technique), 1 / self.densities[-1]
        again = f"-stream{self.stream}" if self.stream else ""
        return f"seed{self.seed}-{technique}-t{self.retrain_steps}-{kind}{method}-{compression:.2f}x{again}"


class Graph:
    """The nodes of a study whose training takes `steps` steps."""

    def __init__(self, study: Any, steps: int):
        self.study, self.steps = study, steps
        used = {fraction for protocol in study.protocols for fraction in study.fractions(protocol)}
        self.times = {fraction: max(1, round(fraction * steps)) for fraction in used}
        self.cuts = sorted({0, steps, *(steps - time for time in self.times.values())})

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
        for pruning in study.pruning:
            for technique in ("lr_rewinding",) if protocol == "paper_algorithm" else study.techniques:
                if methods.starts_afresh(technique) and protocol != "one_shot":
                    continue
                for fraction in study.fractions(protocol):
                    for targets in self.targets(protocol):
                        yield Node(seed, self.steps, technique, pruning, self.times[fraction], targets)

    def targets(self, protocol: str) -> list[tuple[float, ...]]:
        if protocol != "one_shot":
            rounds = [0.8**i for i in range(1, max(self.study.rounds, default=0) + 1)]
            return [tuple(rounds[:last]) for last in range(1, len(rounds) + 1)]
        once = {0.8**i for i in self.study.rounds}
        further = {density for density in self.study.densities       # 0.64 is round 2, whose 0.8**2 has other last bits
                   if not any(math.isclose(density, other) for other in once)}
        return [(density,) for density in sorted(once | further, reverse=True)]

    def repeats(self, seed: int) -> Iterator[Node]:
        """The run that shows the noise: one-shot learning-rate rewinding for the longest t to the highest compression,
        once more on other batches.
        """
        if self.study.noise:
            longest = self.times[max(self.study.retrain_fractions)]
            yield Node(seed, self.steps, "lr_rewinding", self.study.pruning[0], longest, self.targets("one_shot")[-1],
                       stream=1)

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
            order |= dict.fromkeys(self.repeats(seed))
        return list(order)

    def only(self, pattern: str) -> list[Node]:
        """The nodes whose names match a pattern such as "seed0-*", and those they need, in the order of `nodes`."""
        nodes = self.nodes()
        wanted = {node for node in nodes if fnmatch.fnmatchcase(node.name, pattern)}
        if not wanted:
            raise Error(f"no run of this study is called {pattern!r}; expected a pattern such as 'seed0-*' or "
                        f"'*-one_shot-*'.\nRuns are called, for instance, {nodes[0].name} or {nodes[-1].name}")
        for node in reversed(nodes):
            if node in wanted:
                wanted.update(self.before(node))
        return [node for node in nodes if node in wanted]

    def waiting_for(self, failed: Collection[Node], nodes: list[Node]) -> set[Node]:
        """Those of the nodes that can never be run once some have failed, the failed ones included."""
        lost = set(failed)
        for node in nodes:                                  # each after those it needs
            if not lost.isdisjoint(self.before(node)):
                lost.add(node)
        return lost

    def grid(self) -> list[tuple[str, Node]]:
        """Every row that results.csv may hold: its protocol and its node."""
        cells = [("one_shot" if protocol == "one_shot" else "iterative", node) for protocol in self.study.protocols
                 for seed in self.study.seed_list for node in self.cells(seed, protocol)]
        repeats = [(protocol, dataclasses.replace(node, stream=1)) for protocol, node in cells
                   if protocol == "one_shot" and node.technique == "lr_rewinding"]

        def place(cell: tuple[str, Node]) -> tuple:
            protocol, node = cell
            return (node.stream, protocol != "one_shot", methods.rank("pruning method", node.pruning),
                    methods.rank("technique", node.technique), node.retrain_steps, len(node.densities),
                    -node.densities[-1], node.seed)

        return sorted(dict.fromkeys(cells + repeats), key=place)

    def cost(self, node: Node) -> int:
        """The steps a node trains."""
        if not node.technique:
            return node.step - max((cut for cut in self.cuts if cut < node.step), default=node.step)
        return node.retrain_steps + (self.steps if methods.starts_afresh(node.technique) else 0)
