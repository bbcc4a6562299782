"""A study: the grid of runs behind a figure, run once each, kept in a folder, resumed after any interruption.

The runs form a graph. The dense network of a seed is trained in segments, cut at the steps to which some run rewinds.
From its end branch the one-shot runs, and the chains of iterative rounds. Every node of this graph is a pure function
of its settings and of the states before it, and leaves one folder with its final state and its history. A node whose
folder is there is not run again.
"""

import concurrent.futures as futures
import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import data as datasets
from . import files, kernels, models, nn, prune, retrain, train
from .errors import Error, choose
from .train import Recipe, Record, State

NUMERICS = 1            # raised when the same settings lead to other numbers; older results are then refused
PARTIAL_EVERY = 60      # seconds between the states a long run keeps on its way

replaced: dict[str, str] = {}       # functions that a learner's run for (see learn.py), and the hash of their source

PROTOCOLS = ("one_shot", "iterative", "paper_algorithm")
TECHNIQUES = ("fine_tuning", "weight_rewinding", "lr_rewinding", "weight_rewinding_low_lr", "reinitialize")
PRUNING = ("global_magnitude", "layerwise_magnitude", "random_mask")

AXES: dict[str, Any] = {"protocols": str, "techniques": str, "pruning": str, "rounds": int, "densities": (int, float),
        "retrain_fractions": (int, float)}
KINDS: dict[Any, str] = {str: "names", int: "whole numbers", (int, float): "numbers"}


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
    density: float              # kept share of the prunable weights
    compression: float          # 1 / density
    retrain_fraction: float     # t / T
    retrain_steps: int          # of this run
    search_steps: int           # of all rounds up to this one
    dense_accuracy: float       # test accuracy of the same seed's dense network
    validation_accuracy: float
    accuracy: float             # test accuracy
    delta: float                # accuracy - dense_accuracy, in points
    seconds: float


@dataclass(frozen=True)
class Study:
    """What to compare. Every combination of the tuples is run, for every seed.

    network            a name (see models.build) or a function that returns an nn.Module, importable for workers > 1
    data               a name (see data.load) or a Data
    recipe             how it is trained; None: train.default_recipe
    protocols          "one_shot", "iterative", "paper_algorithm" (iterative lr_rewinding with t = T)
    rounds             the compressions: round i keeps 0.8**i of the prunable weights, in one-shot too
    densities          further one-shot targets
    retrain_fractions  t / T, the share of the training that is run again
    seeds              how many, counted from 0, or which
    """

    network: str | Callable[..., nn.Module]
    data: str | datasets.Data
    recipe: Recipe | None = None
    protocols: tuple[str, ...] = ("one_shot", "paper_algorithm")
    techniques: tuple[str, ...] = ("fine_tuning", "weight_rewinding", "lr_rewinding")
    pruning: tuple[str, ...] = ("global_magnitude",)
    rounds: tuple[int, ...] = (3, 6, 9, 12, 15)
    densities: tuple[float, ...] = ()
    retrain_fractions: tuple[float, ...] = (0.9,)
    seeds: int | tuple[int, ...] = 3
    data_dir: str | None = None

    def __post_init__(self):
        for name, kind in AXES.items():
            values = getattr(self, name)
            values = (values,) if isinstance(values, (str, int, float)) else tuple(dict.fromkeys(values))
            if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
                raise Error(f"{name} are {values}; expected {KINDS[kind]}")
            object.__setattr__(self, name, values)
        if not isinstance(self.seeds, int):
            object.__setattr__(self, "seeds", tuple(self.seeds) if np.iterable(self.seeds) else (self.seeds,))
        for name, kind, known in (("protocols", "protocol", PROTOCOLS), ("techniques", "technique", TECHNIQUES),
                                  ("pruning", "pruning method", PRUNING)):
            for value in getattr(self, name):
                choose(kind, value, known)
        if not self.seed_list or not all(isinstance(seed, int) and seed >= 0 for seed in self.seed_list):
            raise Error(f"seeds is {self.seeds!r}; expected how many, from 1, or a tuple of seeds, from 0")
        if any(r < 1 for r in self.rounds) or not (self.rounds or self.densities):
            raise Error(f"rounds are {self.rounds}; expected whole numbers from 1: round i keeps 0.8**i of the weights")
        for density in self.densities:
            prune.check_density(density)
        if any(not 0 < f <= 1 for f in self.retrain_fractions) or not self.retrain_fractions:
            raise Error(f"retrain fractions t/T are {self.retrain_fractions}; expected numbers above 0 and up to 1:\n"
                        "the run cannot be rewound to before its start")
        if not any(True for protocol in self.protocols for _ in Graph(self, 1).cells(0, protocol)):
            raise Error("this study holds no pruned run: name a protocol, and techniques it takes "
                        "(reinitialize is one-shot only)")

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(self.seeds)


# ------------------------------------------------------------------------------------------------------------ the graph


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
        method = "" if self.pruning == "global_magnitude" else f"-{self.pruning}"
        return f"seed{self.seed}-{self.technique}-t{self.retrain_steps}-{kind}{method}-{1 / self.densities[-1]:.2f}x"


class Graph:
    """The nodes of a study whose training takes `steps` steps."""

    def __init__(self, study: Study, steps: int):
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
                if technique == "reinitialize" and protocol != "one_shot":
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
        return sorted(dict.fromkeys(cells), key=lambda cell: (
            cell[0] != "one_shot", PRUNING.index(cell[1].pruning), TECHNIQUES.index(cell[1].technique),
            cell[1].retrain_steps, len(cell[1].densities), -cell[1].densities[-1], cell[1].seed))

    def cost(self, node: Node) -> int:
        """The steps a node trains."""
        if not node.technique:
            return node.step - max((cut for cut in self.cuts if cut < node.step), default=node.step)
        return node.retrain_steps + (self.steps if node.technique == "reinitialize" else 0)


# ------------------------------------------------------------------------------------------------------------ the store


class Store:
    """The folder of a study.

    study.json      what all its runs share, and the axes of its grid so far
    runs/NAME/      one folder a node, written whole or not at all: state.npz, run.json
    partial/        the latest state of long runs that are not done
    results.csv     one row for every finished pruned run, in grid order
    """

    def __init__(self, folder: Path, identity: dict):
        self.folder, self.identity = folder, identity
        self.summaries: dict[Path, dict] = {}
        self.key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()

    def path(self, node: Node) -> Path:
        settings = {name: value for name, value in vars(node).items() if value != getattr(Node, name, None)}
        settings |= {"replaced": replaced} if replaced else {}
        digest = hashlib.sha256(self.key + json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return self.folder / "runs" / f"{node.name}-{digest[:8]}"

    def done(self, node: Node) -> bool:
        return (self.path(node) / "run.json").exists()

    def state(self, node: Node) -> State:
        return files.read_state(self.path(node) / "state.npz")[0]

    def summary(self, node: Node) -> dict:
        """What run.json says of a finished node, but for its history."""
        path = self.path(node) / "run.json"
        if path not in self.summaries:
            try:
                self.summaries[path] = {key: value for key, value in json.loads(path.read_text()).items()
                                        if key in ("density", "accuracy", "validation_accuracy", "seconds",
                                                   "layer_densities")}
            except (OSError, ValueError, AttributeError) as reason:
                raise files.damaged(path, reason) from reason
        return self.summaries[path]

    def save(self, node: Node, state: State, summary: dict) -> None:
        """Write the node's folder under another name, then rename it: it is there whole, or not at all."""
        path = self.path(node)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".writing-"))
        try:
            files.write_atomically(temporary / "state.npz", files.state_bytes(state))
            files.write_atomically(temporary / "run.json", (json.dumps(summary, indent=1) + "\n").encode())
            temporary.chmod(0o755)
            if not self.done(node):
                shutil.rmtree(path, ignore_errors=True)         # what somebody left of an older one
                temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.partial_path(node).unlink(missing_ok=True)
        self.progress_path(node).unlink(missing_ok=True)

    def partial_path(self, node: Node) -> Path:
        return self.folder / "partial" / f"{self.path(node).name}.npz"

    def progress_path(self, node: Node) -> Path:
        return self.partial_path(node).with_suffix(".steps")

    def note_progress(self, node: Node, steps: int) -> None:
        """Tell whoever watches the folder how far a running node is; only the progress bar reads it."""
        self.progress_path(node).parent.mkdir(exist_ok=True)
        self.progress_path(node).write_text(str(steps))

    def progress(self, node: Node) -> int:
        try:
            return int(self.progress_path(node).read_text())
        except (OSError, ValueError):
            return 0

    def save_partial(self, node: Node, state: State, history: list[dict]) -> None:
        self.partial_path(node).parent.mkdir(exist_ok=True)
        files.write_atomically(self.partial_path(node), files.state_bytes(state, history=np.array(json.dumps(history))))

    def partial(self, node: Node) -> tuple[State | None, list[dict]]:
        """Where an interrupted run had come to; the start if nothing is there, or nothing that can be read."""
        with contextlib.suppress(Error, ValueError, KeyError):
            state, more = files.read_state(self.partial_path(node))
            return state, json.loads(str(more["history"]))
        return None, []

    def open(self, study: Study) -> Study:
        """Claim the folder for this identity and widen its axes by this study's; what the folder holds altogether."""
        path = self.folder / "study.json"
        axes: dict[str, Any] = {name: getattr(study, name) for name in AXES} | {"seeds": study.seed_list}
        if path.exists():
            try:
                known = json.loads(path.read_text())
                before = {name: tuple(known["axes"][name]) for name in axes}
            except (ValueError, KeyError, TypeError) as reason:
                raise Error(f"{path} cannot be read ({reason!r}); it says what the results beside it are of.\n"
                            f"Restore it, or choose another folder with --out") from reason
            for name, value in self.identity.items():
                for key, there, here in differences(name, known.get(name), value):
                    raise Error(f"{self.folder} holds results of other settings: {key} is {_brief(there)} there, "
                                f"{_brief(here)} here.\nChoose another folder with --out, or delete that one")
            axes = {name: (*before[name], *(v for v in values if v not in before[name]))
                    for name, values in axes.items()}
        elif self.folder.exists() and (self.folder / "results.csv").exists():
            raise Error(f"{self.folder} holds a results.csv but no study.json; choose another folder with --out")
        for leftover in self.folder.glob("runs/.writing-*"):            # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        content = json.dumps(self.identity | {"axes": axes}, indent=1) + "\n"
        if not path.exists() or path.read_text() != content:
            files.write_atomically(path, content.encode())
        return dataclasses.replace(study, **axes)

    def rows(self, graph: Graph) -> list[Row]:
        """The finished runs of the folder, in grid order."""
        dense: dict[int, dict] = {}
        rows = []
        for protocol, node in graph.grid():
            if not self.done(node):
                continue
            if node.seed not in dense:
                dense[node.seed] = self.summary(graph.dense(node.seed, graph.steps))
            run, accuracy = self.summary(node), dense[node.seed]["accuracy"]
            rows.append(Row(
                self.identity["network"], self.identity["dataset"], protocol, node.technique, node.pruning, node.seed,
                len(node.densities), round(run["density"], 8), round(1 / run["density"], 4),
                round(node.retrain_steps / graph.steps, 6), graph.cost(node), graph.cost(node) * len(node.densities),
                round(accuracy, 4), round(run["validation_accuracy"], 4), round(run["accuracy"], 4),
                round(run["accuracy"] - accuracy, 4), round(run["seconds"], 2)))
        return rows

    def write_results(self, rows: Iterable[Row]) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(Row))
        writer.writerows(dataclasses.astuple(row) for row in rows)
        files.write_atomically(self.folder / "results.csv", buffer.getvalue().encode())


def read_results(path: Path) -> list[Row]:
    """The rows of a results.csv."""
    fields = dataclasses.fields(Row)
    try:
        with open(path, newline="") as file:
            return [Row(**{f.name: f.type(line[f.name]) for f in fields}) for line in csv.DictReader(file)]  # type: ignore[operator]
    except (OSError, KeyError, TypeError, ValueError) as reason:
        raise Error(f"{path} is no results.csv of a study ({reason!r})") from reason


def differences(name: str, there, here) -> Iterator[tuple[str, Any, Any]]:
    """The entries in which two settings differ, as (name, value there, value here)."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in here | there:
            yield from differences(f"{name}.{key}", there.get(key), here.get(key))
    elif there != here:
        yield name, there, here


def _brief(value) -> str:
    text = json.dumps(value)
    return text if len(text) < 100 else text[:97] + "..."


# ----------------------------------------------------------------------------------------------------------- the runs


@dataclass(frozen=True)
class Job:
    """What every node of a study needs; travels to the workers."""

    study: Study = dataclasses.field(compare=False)     # its data may be arrays: `key` stands for it
    key: str
    folder: str
    device: str
    threads: int | None


class Bench:
    """The data, the recipe and the network of a job, made once in each process."""

    def __init__(self, job: Job):
        study = job.study
        self.data = study.data if isinstance(study.data, datasets.Data) else datasets.load(study.data, study.data_dir)
        self.recipe = study.recipe or train.default_recipe(self.data)
        wanted: dict[str, Any] = {"input_shape": self.data.input_shape, "classes": self.data.classes,
                  "bn_momentum": train.bn_momentum(self.recipe)}
        self.model = models.build(study.network, **wanted).to(job.device)
        self.graph = Graph(study, self.recipe.steps)
        name = study.network if isinstance(study.network, str) else models.import_path(study.network)
        self.store = Store(Path(job.folder), {
            "network": name,
            "parameters": [f"{layer.name} {layer.shape}" for layer in nn.pack(self.model).layers],
            "dataset": self.data.name or "own",
            "input_shape": list(self.data.input_shape),
            "classes": self.data.classes,
            "data": fingerprint(self.data),
            "recipe": dataclasses.asdict(self.recipe),
            "numerics": NUMERICS,
        })
        if job.threads is not None:
            kernels.set_threads(job.threads)


bench = functools.lru_cache(maxsize=1)(Bench)


def fingerprint(data: datasets.Data) -> str:
    """A hash of everything a Data holds: images, labels and how they are augmented."""
    digest = hashlib.sha256(json.dumps([data.classes, data.pad, data.flip]).encode())
    for split in (data.train, data.validation, data.test):
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def execute(job: Job, node: Node, report: Callable[[int], None] | None = None) -> None:
    """Run one node, from the states before it to its own folder; `report` is told how many steps are done."""
    b = bench(job)
    model, data, recipe, store = b.model, b.data, b.recipe, b.store
    model.initialise(node.seed)
    before = [store.state(other) for other in b.graph.before(node)]
    resumed, history = store.partial(node)
    records: Iterator[Record] = iter(())
    if node.technique:
        trained, early = before
        records = retrain.one_round(
            model, data, recipe, trained, early, technique(node, model), node.densities[-1], seed=node.seed,
            round=len(node.densities), method=pruning(node, model), resume=resumed)
    elif node.step:
        records = train.train(model, data, recipe, seed=node.seed, start=resumed or before[0], stop=node.step,
                              compare_to=before[0])
    history = train_node(records, history, node, b, report or functools.partial(store.note_progress, node))
    state = State.copy(model)
    summary = {
        "name": node.name,
        "settings": dataclasses.asdict(node),
        "density": prune.density(state.mask, nn.pack(model).prunable),
        "layer_densities": prune.layer_densities(model),
        "accuracy": train.evaluate(model, data.test),
        "validation_accuracy": train.evaluate(model, data.validation),
        "seconds": sum(record["seconds"] for record in history),
        "history": history,
    }
    store.save(node, state, summary)


def train_node(records: Iterator[Record], history: list[dict], node: Node, b: Bench,
               report: Callable[[int], None]) -> list[dict]:
    """Train to the end, noting every record; some ten times on the way with the validation accuracy."""
    model = b.model
    saved = told = clock = time.perf_counter()
    first = node.step - b.graph.cost(node)
    for record in records:
        now = time.perf_counter()
        if now - told > 1:
            report(record.step - first)
            told = now
        tenth = max(1, b.recipe.steps // 10)
        measured = not history or record.step // tenth > history[-1]["step"] // tenth
        history.append({
            "step": record.step, "loss": record.loss, "rate": record.rate, "sign_flips": record.sign_flips,
            "empty_layers": record.empty_layers, "seconds": now - clock,
            "validation_accuracy": train.evaluate(model, b.data.validation) if measured else None})
        clock = now
        if now - saved > PARTIAL_EVERY:
            b.store.save_partial(node, State.copy(model), history)
            saved = now
    return history


def technique(node: Node, model: nn.Module) -> retrain.Technique:
    """The node's technique, called through its module, with what it needs besides the two states."""
    if node.technique == "reinitialize":
        fresh = State.copy(model.initialise(node.seed, round=1))
        return functools.partial(retrain.reinitialize, fresh=fresh)
    return getattr(retrain, node.technique)


def pruning(node: Node, model: nn.Module) -> prune.Method:
    """The node's pruning method, with what it needs besides weights, mask and count."""
    method = getattr(prune, node.pruning)
    if node.pruning == "layerwise_magnitude":
        return functools.partial(method, layers=prune.prunable_layers(model))
    if node.pruning == "random_mask":
        return functools.partial(method, key=node.seed)
    return method


# ---------------------------------------------------------------------------------------------------------- the driver


class Serial(futures.Executor):
    """Runs each call at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future: futures.Future = futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as reason:
            future.set_exception(reason)
        return future


def run(study: Study, folder, workers: int = 1, device: str = "cpu", progress: bool = True,
        on_rows: Callable[[list[Row]], None] | None = None) -> list[Row]:
    """Run what is missing of a study in `folder` and return the rows of all its finished runs.

    With more than one worker the nodes run side by side in processes of one kernel thread each; the numbers are the
    same. `on_rows` is called with the rows whenever results.csv has been written anew.
    """
    if workers < 1:
        raise Error(f"workers is {workers}; expected at least one")
    if workers > 1:
        check_travels(study)
    folder = Path(folder)
    job = job_of(study, folder, device, 1 if workers > 1 else None)
    b = bench(job)
    with files.claimed(folder):
        whole = Graph(b.store.open(study), b.recipe.steps)
        missing = [node for node in b.graph.nodes() if not b.store.done(node)]
        publish = Publisher(b.store, whole, on_rows)
        if missing:
            if workers > 1:
                warm_up(b)
            with Progress(b, missing, progress) as bar:
                drive(functools.partial(pool, workers) if workers > 1 else Serial, workers, job, b.graph, missing, bar,
                      publish)
        return publish(final=True)


def pool(workers: int) -> futures.Executor:
    """New processes."""
    return futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)


def start_worker() -> None:
    """A worker leaves Ctrl-C to its parent, and ends when its parent does, however that ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    parent: Any = multiprocessing.parent_process()

    def follow():
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def drive(make: Callable[[], futures.Executor], workers: int, job: Job, graph: Graph, missing: list[Node],
          bar: "Progress", publish: Callable[[], Any]) -> None:
    """Keep `workers` nodes running, in the order of the list, each as soon as the nodes before it are done.

    `make` makes the executor, and makes it anew where a worker died and took the pool with it.
    """
    waiting, unfinished = list(missing), set(missing)
    running: dict[futures.Future, Node] = {}
    executor, breaks = make(), 0
    try:
        while waiting or running:
            try:
                ready = [node for node in waiting if unfinished.isdisjoint(graph.before(node))]
                for node in ready[: workers - len(running)]:
                    bar.show([*running.values(), node])
                    here = (bar.within,) if isinstance(executor, Serial) else ()      # others leave a file
                    running[executor.submit(execute, job, node, *here)] = node
                    waiting.remove(node)
                for future in futures.wait(running, timeout=1, return_when=futures.FIRST_COMPLETED).done:
                    future.result()
                    node = running.pop(future)
                    unfinished.remove(node)
                    bar.advance(node)
                bar.look(running.values())
            except futures.BrokenExecutor as reason:
                breaks += 1
                if breaks > 3:
                    raise Error("the worker processes keep dying; is there enough memory? Try fewer workers.\n"
                                "In a script, call study.run under: if __name__ == \"__main__\":") from reason
                waiting = [node for node in missing if node in unfinished]
                running.clear()
                executor = make()
            publish()
    except BaseException:
        stop(executor)
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def stop(executor: futures.Executor) -> None:
    """End the workers at once: what they were doing is in no folder yet, and is done again next time."""
    for process in list((getattr(executor, "_processes", None) or {}).values()):
        process.terminate()


def prune_to_target(study: Study, folder, *, density: float | None = None, max_drop: float | None = None,
                    device: str = "cpu", progress: bool = True,
                    on_round: Callable[[dict, bool], None] | None = None) -> tuple[State, dict]:
    """retrain.prune_to_target as a chain of runs kept in a folder: stopped anywhere, the same call continues.

    Network, data, recipe and the first seed are the study's. `on_round` is called with each round's summary, and
    whether it lies inside the target. Returns the last state inside, and its summary.
    """
    retrain.check_target(density, max_drop)
    study = dataclasses.replace(study, protocols=("paper_algorithm",), rounds=(1,), pruning=("global_magnitude",))
    job = job_of(study, folder, device)
    b, seed = bench(job), study.seed_list[0]
    layers, kept = len(prune.prunable_layers(b.model)), int(nn.pack(b.model).prunable.sum())
    prunable = kept

    def finished(node: Node) -> dict:
        if not b.store.done(node):
            with Progress(b, [node], progress) as bar:
                drive(Serial, 1, job, b.graph, [node], bar, lambda: None)
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


def job_of(study: Study, folder, device: str, threads: int | None = None) -> Job:
    """The job of a study; own arrays are known by their fingerprint."""
    data = fingerprint(study.data) if isinstance(study.data, datasets.Data) else study.data
    return Job(study, repr(dataclasses.replace(study, data=data)), str(folder), device, threads)


def emptied(folder) -> dict[str, int]:
    """Which layers lost all their weights in the finished runs of a folder, and in how many runs."""
    found: dict[str, int] = {}
    for path in sorted(Path(folder).glob("runs/*/run.json")):
        for name, density in json.loads(path.read_text())["layer_densities"].items():
            if density == 0:
                found[name] = found.get(name, 0) + 1
    return found


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


def warm_up(b: Bench) -> None:
    """Let this process compile the kernels, once, before the workers start and find them in the cache.

    One step and one evaluation of the dense network, and of the smallest that the study prunes it to: what is masked
    for the most part takes kernels of its own.
    """
    few = datasets.take(b.data.validation, np.arange(min(8, len(b.data.validation))))
    few = dataclasses.replace(few, table=b.data.table)
    smallest = min(node.densities[-1] for node in b.graph.nodes() if node.technique)
    for density in (1, smallest):
        start = State.copy(b.model.initialise(0))
        start = start.masked(prune.new_mask(b.model, start, density), step=0)
        for _ in train.train(b.model, b.data, b.recipe, seed=0, start=start, stop=1):
            train.evaluate(b.model, few)


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
