"""What is seen of a study while it runs: results.csv, and one line of progress."""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from .graph import Node
from .results import Results, Row
from .work import Bench


class Publisher:
    """Writes results.csv when runs have finished, at most once a second."""

    def __init__(self, results: Results, listeners: Sequence[Callable[[list[Row]], None]]):
        self.results, self.listeners, self.last, self.news = results, listeners, 0.0, True

    def add(self, node: Node) -> None:
        """A node is finished."""
        self.results.add(node)
        self.news = True

    def __call__(self, final: bool = False) -> None:
        if not final and (not self.news or time.monotonic() - self.last < 1):
            return
        self.results.write()
        self.last, self.news = time.monotonic(), False
        for listener in self.listeners:
            listener(self.results.rows())


class Progress:
    """One line: how much of the work is done, how long it will take, what is running."""

    def __init__(self, b: Bench, missing: list[Node], visible: bool):
        from tqdm import tqdm

        self.store, self.graph, self.steps = b.store, b.graph, 0
        self.finished, self.failures, self.nodes = 0, 0, len(missing)

        often = 0.2 if sys.stderr.isatty() else 30          # seconds; a log file wants fewer lines
        self.bar = tqdm(total=sum(map(self.graph.cost, missing)), disable=not visible, dynamic_ncols=True,
                        smoothing=0.1, mininterval=often,
                        bar_format="{percentage:3.0f}% |{bar:20}| {elapsed}, {remaining} left {desc}")

    def show(self, running: Iterable[Node]) -> None:
        """Which nodes are running."""
        names = [node.name for node in running]
        failed = f", {self.failures} failed" if self.failures else ""
        self.bar.set_description_str(f"| {self.finished} of {self.nodes} runs done{failed}, {len(names)} running: "
                                     + ", ".join(names), refresh=sys.stderr.isatty())

    def done(self, node: Node) -> None:
        """A node is done."""
        self.finished += 1
        self.steps += self.graph.cost(node)
        self.within(0)

    def failed(self, lost: Collection[Node]) -> None:
        """A node has failed: it and what waits for it will not be done."""
        self.failures += 1
        self.nodes -= len(lost) - 1
        self.bar.total -= sum(map(self.graph.cost, lost))

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

