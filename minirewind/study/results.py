"""The table of results: a row for every finished pruned run of a folder."""

import csv
import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..errors import Error
from .graph import Graph, Node
from .store import Store


@dataclass(frozen=True)
class Row:
    """One finished pruned run, as results.csv holds it. Accuracies in percent, delta and the rest as named."""

    network: str
    dataset: str
    protocol: str               # one_shot or iterative
    technique: str
    pruning: str
    seed: int
    round: int                  # 1 for one-shot
    stream: int                 # 0; 1 where a run was made again on other batches, to see what chance does
    density: float              # kept share of the prunable weights
    compression: float          # 1 / density
    retrain_fraction: float     # t / T
    retrain_steps: int          # of this run
    search_steps: int           # of all rounds up to this one
    dense_accuracy: float       # test accuracy of the same seed's dense network
    validation_accuracy: float
    accuracy: float             # test accuracy
    delta: float                # accuracy - dense_accuracy, in points
    multiply_adds: int          # of the pruned network for one image: kept weights, each at every place it is used
    dense_multiply_adds: int    # of the dense network
    seconds: float


class Results:
    """results.csv, kept up to date as runs finish; its rows are in grid order, never in order of finishing.

    `dense_adds` are the multiply-adds of each layer of the dense network for one image.
    """

    def __init__(self, store: Store, graph: Graph, dense_adds: dict[str, int]):
        self.store, self.graph, self.dense_adds = store, graph, dense_adds
        self.dense_accuracies: dict[int, float] = {}
        self.places: dict[Node, list[tuple[int, str]]] = {}
        for place, (protocol, node) in enumerate(graph.grid()):
            self.places.setdefault(node, []).append((place, protocol))
        self.found: dict[int, Row] = {}
        self.lines: dict[int, str] = {}
        self.waiting: dict[Node, list[Node]] = {}       # finished runs whose dense network somebody has deleted
        for node in self.places:
            if store.done(node):
                self.add(node)

    def add(self, node: Node) -> None:
        """A node is finished; a dense one has no row."""
        for other in self.waiting.pop(node, ()):
            self.add(other)
        if node not in self.places:
            return
        dense = self.graph.dense(node.seed, self.graph.steps)
        if node.seed not in self.dense_accuracies and not self.store.done(dense):
            self.waiting.setdefault(dense, []).append(node)
            return
        summary = self.store.summary(node)
        for place, protocol in self.places[node]:
            row = self.row(protocol, node, summary)
            self.found[place], self.lines[place] = row, csv_line(dataclasses.astuple(row))

    def row(self, protocol: str, node: Node, summary: dict) -> Row:
        identity, steps, cost = self.store.identity, self.graph.steps, self.graph.cost(node)
        dense, accuracy = self.dense_accuracy(node.seed), summary["accuracy"]
        adds = sum(round(density * self.dense_adds[name]) for name, density in summary["layer_densities"].items())
        return Row(
            identity["network"], identity["dataset"], protocol, node.technique, node.pruning, node.seed,
            len(node.densities), node.stream, round(summary["density"], 8), round(1 / summary["density"], 4),
            round(node.retrain_steps / steps, 6), cost, cost * len(node.densities), round(dense, 4),
            round(summary["validation_accuracy"], 4), round(accuracy, 4), round(accuracy - dense, 4),
            adds, sum(self.dense_adds.values()), round(summary["seconds"], 2))

    def dense_accuracy(self, seed: int) -> float:
        """The test accuracy of a seed's dense network."""
        if seed not in self.dense_accuracies:
            self.dense_accuracies[seed] = self.store.summary(self.graph.dense(seed, self.graph.steps))["accuracy"]
        return self.dense_accuracies[seed]

    def rows(self) -> list[Row]:
        return [self.found[place] for place in sorted(self.found)]

    def write(self) -> None:
        head = csv_line(field.name for field in dataclasses.fields(Row))
        table = head + "".join(self.lines[place] for place in sorted(self.lines))
        files.write_atomically(self.store.folder / "results.csv", table.encode())


def csv_line(values) -> str:
    """One line of a csv file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


def read_results(path: Path) -> list[Row]:
    """The rows of a results.csv."""
    fields = dataclasses.fields(Row)
    try:
        with open(path, newline="") as file:
            return [Row(**{f.name: f.type(line[f.name]) for f in fields}) for line in csv.DictReader(file)]  # type: ignore[operator]
    except OSError as reason:
        raise Error(f"{path} cannot be read ({reason.strerror}); "
                    "expected a folder that compare has written") from reason
    except (KeyError, TypeError, ValueError) as reason:
        raise Error(f"{path} is no results.csv of a study ({reason!r})") from reason
