"""A study: the grid of runs behind a figure, run once each, kept in a folder, resumed after any interruption.

The runs form a graph. The dense network of a seed is trained in segments, cut at the steps to which some run rewinds.
From its end branch the one-shot runs, and the chains of iterative rounds. Every node of this graph is a pure function
of its settings and of the states before it, and leaves one folder with its final state and its history. A node whose
folder is there is not run again.
"""

import contextlib
import dataclasses
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import files, kernels, models, retrain, trackers
from ..errors import Error
from ..train import State
from . import driver, work
from .dry_run import Plan, plan
from .graph import Graph, Node
from .methods import PRUNING, TECHNIQUES
from .progress import Progress, Publisher
from .results import Results, Row, read_results
from .settings import AXES, PROTOCOLS, Study, made, read, read_settings
from .store import replaced

__all__ = ["AXES", "PROTOCOLS", "PRUNING", "TECHNIQUES", "Graph", "Incomplete", "Node", "Plan", "Row", "Study",
           "emptied", "made", "one_shot_runs", "plan", "prune_to_target", "read", "read_results", "read_settings",
           "replaced", "run"]


TOLD = 5            # so many kinds of failures are told one by one


class Incomplete(Error):
    """Some runs failed; what is finished is in results.csv, and here as `rows`."""

    def __init__(self, message: str, rows: list[Row]):
        super().__init__(message)
        self.rows = rows


def run(study: Study, folder, workers: int = 1, device: str = "cpu", progress: bool = True,
        on_rows: Callable[[list[Row]], None] | None = None, *, dask: str | None = None, only: str | None = None,
        retry_failed: bool = False, tracker: Any = None) -> list[Row]:
    """Run what is missing of a study in `folder` and return the rows of all its finished runs.

    With more than one worker the nodes run side by side: in processes of one kernel thread each, or on a GPU in one
    process, as branches of one captured graph. With `dask`, the address or the scheduler file of a Dask scheduler, they
    run on its workers; all of its machines must see the folder. The numbers are the same everywhere.

    `on_rows` is called with the rows whenever results.csv has been written anew. `tracker`, such as the module wandb
    or its name, is told every run that finishes (see trackers.follow). `only` is a pattern of names, such as
    "seed0-*": nothing else is run but what those runs need.

    A run that fails does not stop the others. At the end `Incomplete` is raised, and says which failed and why. They
    are not tried again but with `retry_failed`.
    """
    driver.check_workers(workers)
    together = 1 if dask or kernels.backend(device).immediate else workers
    workers = workers if together == 1 else 1
    elsewhere = workers > 1 or dask is not None
    if elsewhere:
        check_travels(study)
    folder = Path(folder).absolute()
    listeners = [on_rows, trackers.follow(folder, tracker) if tracker is not None else None]
    job = work.job_of(study, folder, device, 1 if elsewhere else None)
    b = work.bench(dataclasses.replace(job, device="cpu") if dask else job)     # the driver itself trains nothing there
    nodes = b.graph.nodes() if only is None else b.graph.only(only)
    b.store.widened(study)                              # a folder of other settings is refused before it is touched
    crew = driver.dask(dask) if dask else driver.pool(workers) if workers > 1 else driver.here(together)
    with contextlib.closing(crew), files.claimed(folder):
        whole = Graph(b.store.open(study), b.recipe.steps)
        missing = [node for node in nodes if not b.store.done(node)]
        failed = {} if retry_failed else {node: why for node in missing if (why := b.store.failure(node))}
        lost = b.graph.waiting_for(failed, missing)
        wanted = [node for node in missing if node not in lost]
        results = Results(b.store, whole, b.multiply_adds)
        publish = Publisher(results, [listener for listener in listeners if listener is not None])
        if wanted:
            if workers > 1 and not dask:
                work.warm_up(b)
            with Progress(b, wanted, progress) as bar:
                failed |= driver.drive(crew, job, b.graph, wanted, bar, publish)
        publish(final=True)
    if failed:
        raise Incomplete(told(b, failed, missing), results.rows())
    return results.rows()


def told(b: work.Bench, failed: dict[Node, str], missing: list[Node]) -> str:
    """What to say of runs that failed: a line for each kind of failure, and what became of the others."""
    others = len(b.graph.waiting_for(failed, missing)) - len(failed)
    alike: dict[str, list[Node]] = {}
    for node, why in failed.items():
        alike.setdefault(textwrap.shorten(why, 300), []).append(node)
    lines = [f"{nodes[0].name}{f' and {len(nodes) - 1} more' * (len(nodes) > 1)}: {why}"
             for why, nodes in list(alike.items())[:TOLD]]
    if len(alike) > TOLD:
        lines.append(f"and {sum(map(len, list(alike.values())[TOLD:]))} more, of other kinds")
    left_out = f", {others} that need what failed were left out" if others else ""
    return "\n".join([f"{len(failed)} failed{left_out}; all other runs are finished:", *lines,
                      f"{b.store.folder / 'failed'} holds the details; --retry-failed tries them again"])


def prune_to_target(study: Study, folder, *, density: float | None = None, max_drop: float | None = None,
                    device: str = "cpu", progress: bool = True,
                    on_round: Callable[[dict, bool], None] | None = None) -> tuple[State, dict]:
    """retrain.prune_to_target as a chain of runs kept in a folder: stopped anywhere, the same call continues.

    Network, data, recipe and the first seed are the study's. `on_round` is called with each round's summary, and
    whether it lies inside the target. Returns the last state inside, and its summary.
    """
    retrain.check_target(density, max_drop)
    study = dataclasses.replace(study, protocols=("paper_algorithm",), rounds=(1,), pruning=("global_magnitude",))
    job = work.job_of(study, folder, device)
    b, seed = work.bench(job), study.seed_list[0]

    def finished(node: Node) -> dict:
        if not b.store.done(node):
            with Progress(b, [node], progress) as bar:
                bar.show([node])
                if reason := work.execute(job, node, report=bar.within)[0]:
                    raise Error(reason)
                bar.done(node)
        return b.store.summary(node)

    b.store.widened(study)
    with files.claimed(Path(folder)):
        b.store.open(study)
        for cut in b.graph.cuts:
            dense = finished(Node(seed, cut))
        inside, best = Node(seed, b.graph.steps), dense
        targets: tuple[float, ...] = ()
        for target in retrain.targets(b.model, density):
            targets = (*targets, target)
            node = Node(seed, b.graph.steps, "lr_rewinding", "global_magnitude", b.graph.steps, targets)
            summary = finished(node)
            within = max_drop is None or dense["validation_accuracy"] - summary["validation_accuracy"] <= max_drop
            if on_round is not None:
                on_round(summary, within)
            if not within:
                break
            inside, best = node, summary
        state = b.store.state(inside)
        shared = {name: b.store.identity[name] for name in ("network", "dataset", "input_shape", "classes", "recipe")}
        result = {**shared, "seed": seed, "target_density": density, "max_drop": max_drop,
                  "dense_accuracy": dense["accuracy"], **best}
        files.write_atomically(Path(folder) / "state.npz", files.state_bytes(state))
        files.write_atomically(Path(folder) / "run.json", (json.dumps(result, indent=1) + "\n").encode())
    return state, result


def emptied(folder) -> dict[str, int]:
    """Which layers lost all their weights in the finished runs of a folder, and in how many runs."""
    found: dict[str, int] = {}
    for path in sorted(Path(folder).glob("runs/*/run.json")):
        for name, density in json.loads(path.read_text())["layer_densities"].items():
            if density == 0:
                found[name] = found.get(name, 0) + 1
    return found


def one_shot_runs(study: Study) -> int:
    """How many one-shot runs a study makes of each seed."""
    graph = Graph(study, 1)
    return len(list(graph.cells(0, "one_shot"))) if "one_shot" in study.protocols else 0


def check_travels(study: Study) -> None:
    """Networks reach the workers by import path: one defined in a notebook or a script runs with workers=1."""
    if replaced:
        raise Error(f"workers are new processes, and in those your own {', '.join(replaced)} would not run;\n"
                    "use workers=1")
    if not isinstance(study.network, str):
        try:
            found = models.imported(models.import_path(study.network))
        except Error:
            found = None
        if found is not study.network or study.network.__module__ == "__main__":
            raise Error("workers are new processes, and they cannot import this network's function;\n"
                        "put it into a module of its own, or use workers=1")
