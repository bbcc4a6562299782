"""What a study would do, before it does it: its runs, what they share, how long they will take."""

import heapq
import statistics
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import kernels, train
from . import driver, work
from .graph import Graph, Node
from .settings import Study

TIMED_STEPS, TIMED_SECONDS = 20, 5      # the real steps that an estimate is made from, whichever are fewer


@dataclass(frozen=True)
class Plan:
    """What `run` would do with the same arguments. `seconds` is an estimate, made as `basis` says."""

    study: Study
    graph: Graph
    nodes: list[Node]           # to be finished, in order, with what they need
    missing: list[Node]         # those of them that are not
    failed: list[Node]          # and those that failed when they were last run
    workers: int
    seconds: float
    basis: str

    def __str__(self) -> str:
        return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in self.lines())

    def lines(self) -> list[str]:
        """The plan in sentences."""
        study, graph = self.study, self.graph
        wanted = set(self.nodes)
        rows = [node for protocol in study.protocols for seed in study.seed_list
                for node in graph.cells(seed, protocol) if node in wanted]
        rows += [node for node in self.nodes if node.stream]
        dense = sum(not node.technique for node in self.nodes)
        once = sum(map(graph.cost, self.nodes))
        alone = sum(graph.steps + graph.cost(node) * len(node.densities) for node in rows)
        todo = sum(map(graph.cost, self.missing))
        axes = {name: values for name, values in study.axes.items() if getattr(study, name)}
        lines = [f"{name.replace('_', ' ')}: {' '.join(str(value) for value in values)}"
                 for name, values in axes.items()]
        if study.rounds:
            lines.append(f"compressions of the rounds: {' '.join(f'{0.8**-i:.4g}x' for i in study.rounds)}")
        lines.append(f"{len(rows)} results, from {len(self.nodes) - dense} pruned runs and {dense} parts of "
                     f"{len(study.seed_list)} dense networks, each of {graph.steps:,} steps.")
        if alone > once:
            lines.append(f"{once:,} steps in all; {alone / once:.1f} times as many if every result were trained alone.")
        done = len(self.nodes) - len(self.missing)
        failed = f", {len(self.failed)} failed" if self.failed else ""
        lines.append(f"{done} of {len(self.nodes)} runs are finished{failed}; {len(self.missing)} are to be run, "
                     f"{todo:,} steps.")
        if self.missing:
            lines.append(f"That will take about {duration(self.seconds)} with {self.workers} "
                         f"worker{'s' * (self.workers > 1)} ({self.basis}).")
        return lines


def plan(study: Study, folder, workers: int = 1, device: str = "cpu", *, only: str | None = None) -> Plan:
    """What `study.run` would do with these arguments. Nothing is written; a few steps are trained, to time them."""
    driver.check_workers(workers)
    b = work.bench(work.job_of(study, Path(folder), device))
    b.store.widened(study)                                  # a folder of other settings is refused here already
    nodes = b.graph.nodes() if only is None else b.graph.only(only)
    missing = [node for node in nodes if not b.store.done(node)]
    failed = [node for node in missing if b.store.failure(node)]
    seconds, basis = 0.0, ""
    if missing:
        of_node, basis = timing(b, [node for node in nodes if node not in set(missing)], workers)
        side_by_side = workers if len(missing) < len(nodes) or kernels.backend(device).immediate else 1
        seconds = makespan(b.graph, missing, side_by_side, of_node)
    return Plan(study, b.graph, nodes, missing, failed, workers, seconds, basis)


def timing(b: work.Bench, done: list[Node], workers: int) -> tuple[Callable[[Node], float], str]:
    """How long a node will take: as those that are done have taken, or from a few steps made now."""
    known = [b.store.summary(node)["seconds"] / b.graph.cost(node) for node in done if b.graph.cost(node)]
    if known:
        step = statistics.median(known)
        return lambda node: step * b.graph.cost(node), f"as {len(known)} finished runs took, {1e3 * step:.3g} ms a step"
    if workers > 1:
        kernels.set_threads(1)
    model = b.model.initialise(0)
    marks: list[float] = []
    for _ in train.train(model, b.data, b.recipe, seed=0, stop=min(TIMED_STEPS + 1, b.recipe.steps), report_every=1):
        marks.append(time.perf_counter())
        if marks[-1] - marks[0] > TIMED_SECONDS:
            break
    step = (marks[-1] - marks[0]) / max(1, len(marks) - 1)         # the first step may have compiled kernels
    train.evaluate(model, b.data.validation)                       # so may the first evaluation have
    begin = time.perf_counter()
    train.evaluate(model, b.data.validation)
    look = time.perf_counter() - begin
    looks = 11 + len(b.data.test) / len(b.data.validation)         # ten on the way and two at the end: work.Training
    return (lambda node: step * b.graph.cost(node) + look * looks,
            f"from {len(marks)} steps made now, {1e3 * step:.3g} ms each on one worker")


def makespan(graph: Graph, nodes: list[Node], workers: int, seconds: Callable[[Node], float]) -> float:
    """When the last node would end, if each took its seconds and the driver gave them to the workers in its order."""
    queue, now = driver.Queue(graph, nodes), 0.0
    running: list[tuple[float, int, Node]] = []
    while queue or running:
        while queue and len(running) < workers:
            node = queue.take()
            heapq.heappush(running, (now + seconds(node), queue.places[node], node))
        now, _, node = heapq.heappop(running)
        queue.done(node)
    return now


def duration(seconds: float) -> str:
    """Seconds in the unit one would say them in."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{max(1, round(seconds))} seconds"
