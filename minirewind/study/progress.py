"""What is seen of a study while it runs: results.csv, and one line of progress."""

import sys
import time
from collections.abc import Callable, Iterable

from .graph import Graph, Node
from .store import Row, Store
from .work import Bench


class Publisher:
    """Writes results.csv when a run has finished, at most once a second."""

    def __init__(self, store: Store, graph: Graph, on_rows: Callable[[list[Row]], None] | None):
        self.store, self.graph, self.on_rows, self.last = store, graph, on_rows, 0.0

    def __call__(self, final: bool = False) -> list[Row]:
        if not final and time.monotonic() - self.last < 1:
            return []
        rows = self.store.rows(self.graph)
        self.store.write_results(rows)
        self.last = time.monotonic()
        if self.on_rows is not None:
            self.on_rows(rows)
        return rows


class Progress:
    """One line: how much of the work is done, how long it will take, what is running."""

    def __init__(self, b: Bench, missing: list[Node], visible: bool):
        from tqdm import tqdm

        self.store, self.graph, self.steps = b.store, b.graph, 0
        self.done, self.nodes = 0, len(missing)

        often = 0.2 if sys.stderr.isatty() else 30          # seconds; a log file wants fewer lines
        self.bar = tqdm(total=sum(map(self.graph.cost, missing)), disable=not visible, dynamic_ncols=True,
                        smoothing=0.1, mininterval=often,
                        bar_format="{percentage:3.0f}% |{bar:20}| {elapsed}, {remaining} left {desc}")

    def show(self, running: Iterable[Node]) -> None:
        self.bar.set_description_str(f"| {self.done} of {self.nodes} runs | {', '.join(n.name for n in running)}",
                                     refresh=sys.stderr.isatty())

    def advance(self, node: Node) -> None:
        """A node is done."""
        self.done += 1
        self.steps += self.graph.cost(node)
        self.within(0)

    def within(self, steps: int) -> None:
        """So many steps of what is running are done."""
        self.bar.update(max(0, self.steps + steps - self.bar.n))

    def look(self, running: Iterable[Node]) -> None:
        """See how far the nodes in other processes are."""
        self.within(sum(self.store.progress(node) for node in running))

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        self.show([])
        self.bar.close()

