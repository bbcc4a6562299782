"""A study: the grid of runs behind a figure, run once each, kept in a folder, resumed after any interruption.

The runs form a graph. The dense network of a seed is trained in segments, cut at the steps to which some run rewinds.
From its end branch the one-shot runs, and the chains of iterative rounds. Every node of this graph is a pure function
of its settings and of the states before it, and leaves one folder with its final state and its history. A node whose
folder is there is not run again.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

from .. import files, kernels, models, nn, prune, retrain
from ..errors import Error
from ..train import State
from . import driver, work
from .graph import Graph, Node
from .methods import PRUNING, TECHNIQUES
from .progress import Progress, Publisher
from .settings import AXES, PROTOCOLS, Study
from .store import Row, read_results, replaced

__all__ = ["AXES", "PROTOCOLS", "PRUNING", "TECHNIQUES", "Graph", "Node", "Row", "Study", "emptied", "one_shot_runs",
           "prune_to_target", "read_results", "replaced", "run"]


def run(study: Study, folder, workers: int = 1, device: str = "cpu", progress: bool = True,
        on_rows: Callable[[list[Row]], None] | None = None) -> list[Row]:
    """Run what is missing of a study in `folder` and return the rows of all its finished runs.

    With more than one worker the nodes run side by side: in processes of one kernel thread each, or on a GPU in one
    process, as branches of one captured graph. The numbers are the same. `on_rows` is called with the rows whenever
    results.csv has been written anew.
    """
    if workers < 1:
        raise Error(f"workers is {workers}; expected at least one")
    together = 1 if kernels.backend(device).immediate else workers
    workers = workers if together == 1 else 1
    if workers > 1:
        check_travels(study)
    folder = Path(folder)
    job = work.job_of(study, folder, device, 1 if workers > 1 else None)
    b = work.bench(job)
    with files.claimed(folder):
        whole = Graph(b.store.open(study), b.recipe.steps)
        missing = [node for node in b.graph.nodes() if not b.store.done(node)]
        publish = Publisher(b.store, whole, on_rows)
        if missing:
            if workers > 1:
                work.warm_up(b)
            make = functools.partial(driver.pool, workers) if workers > 1 else driver.Serial
            with Progress(b, missing, progress) as bar:
                driver.drive(make, workers, job, b.graph, missing, bar, publish, together)
        return publish(final=True)


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
    layers, kept = len(prune.prunable_layers(b.model)), int(nn.pack(b.model).prunable.sum())
    prunable = kept

    def finished(node: Node) -> dict:
        if not b.store.done(node):
            with Progress(b, [node], progress) as bar:
                driver.drive(driver.Serial, 1, job, b.graph, [node], bar, lambda: None)
        return b.store.summary(node)

    with files.claimed(Path(folder)):
        b.store.open(study)
        for cut in b.graph.cuts:
            dense = finished(Node(seed, cut))
        inside, best = Node(seed, b.graph.steps), dense
        targets: tuple[float, ...] = ()
        for target in retrain.densities_to(density):
            if (keep := prune.keep_count(prunable, target)) < layers or keep == kept:
                break
            targets, kept = (*targets, target), keep
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
        raise Error(f"workers > 1 starts new processes, and in those your own {', '.join(replaced)} would not run;\n"
                    "use workers=1")
    if not isinstance(study.network, str):
        try:
            found = models.imported(models.import_path(study.network))
        except Error:
            found = None
        if found is not study.network or study.network.__module__ == "__main__":
            raise Error("workers > 1 starts new processes, and they cannot import this network's function;\n"
                        "put it into a module of its own, or use workers=1")
