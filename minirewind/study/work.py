"""One node: from the states before it to its own folder. What a worker does."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import data as datasets
from .. import kernels, models, nn, prune, retrain, train
from ..errors import Error
from ..train import Record, State
from . import methods
from .graph import Graph, Node
from .settings import Study
from .store import Store

NUMERICS = 1            # raised when the same settings lead to other numbers; older results are then refused
PARTIAL_EVERY = 60      # seconds between the states a long run keeps on its way


@dataclass(frozen=True)
class Job:
    """What every node of a study needs; travels to the workers."""

    study: Study = dataclasses.field(compare=False)     # its data may be arrays: `key` stands for it
    key: str
    folder: str
    device: str
    threads: int | None


def job_of(study: Study, folder, device: str, threads: int | None = None) -> Job:
    """The job of a study; own arrays are known by their fingerprint."""
    data = fingerprint(study.data) if isinstance(study.data, datasets.Data) else study.data
    return Job(study, repr(dataclasses.replace(study, data=data)), str(folder), device, threads)



class Bench:
    """The data, the recipe and the network of a job, made once in each process."""

    def __init__(self, job: Job):
        study = job.study
        self.data = study.load()
        self.recipe = study.recipe or train.default_recipe(self.data)
        wanted: dict[str, Any] = {"input_shape": self.data.input_shape, "classes": self.data.classes,
                  "bn_momentum": train.bn_momentum(self.recipe)}
        self.build = lambda: models.build(study.network, **wanted).to(job.device)
        self.model = self.build()
        self.several = [self.model]
        self.validation = functools.cache(lambda model: train.Evaluation(model, self.data.validation))
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

    def models(self, count: int) -> list[nn.Module]:
        """As many networks for runs side by side."""
        while len(self.several) < count:
            self.several.append(self.build())
        return self.several[:count]

    @functools.cached_property
    def multiply_adds(self) -> dict[str, int]:
        """Those of each layer of the dense network, for one image."""
        return prune.layer_multiply_adds(self.model, self.data.input_shape)


bench = functools.lru_cache(maxsize=1)(Bench)


def fingerprint(data: datasets.Data) -> str:
    """A hash of everything a Data holds: images, labels and how they are augmented."""
    digest = hashlib.sha256(json.dumps([data.classes, data.pad, data.flip]).encode())
    for split in (data.train, data.validation, data.test):
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


one_at_a_time = threading.Lock()        # the bench's networks, where an executor runs several threads of a process


def execute(job: Job, *nodes: Node, report: Callable[[int], None] | None = None) -> list[str]:
    """Run one node, or several side by side on a GPU, from the states before each to its own folder.

    What cannot be trained (a NaN, a mistake in a method of one's own) leaves a record in failed/. Returned is for each
    node why it failed, empty where it did not. A file that cannot be read or written is raised: that is no property of
    the node. `report` is told how many steps of the nodes are done.
    """
    with one_at_a_time:
        if job.threads is not None:
            kernels.set_threads(job.threads)
        b = bench(job)
        if len(nodes) > 1 and attempt(b, nodes, report) is None:
            return [""] * len(nodes)
        reasons = []                                    # one by one: of several, this shows which of them fails
        for node in nodes:
            reason, why = attempt(b, [node], report), ""
            if reason is not None:
                why = str(reason) if isinstance(reason, Error) else f"{type(reason).__name__}: {reason}"
                b.store.save_failure(node, why, "".join(traceback.format_exception(reason)))
            reasons.append(why)
        return reasons


def attempt(b: Bench, nodes: Sequence[Node], report: Callable[[int], None] | None) -> Exception | None:
    """Train nodes side by side and write their folders, or return what has gone wrong in the training."""
    trainings = [Training(b, node, model) for node, model in zip(nodes, b.models(len(nodes)))]
    try:
        together(trainings, report)
        results = [training.result() for training in trainings]
    except OSError:
        raise
    except Exception as reason:
        return reason
    for training, (state, summary) in zip(trainings, results):
        b.store.save(training.node, state, summary)
    return None


def together(trainings: "list[Training]", report: Callable[[int], None] | None) -> None:
    """Train one, or several side by side, to the end."""
    def note(training: Training, record: Record) -> None:
        training.note(record)
        if report is not None:
            report(sum(each.steps for each in trainings))

    if len(trainings) == 1:
        for record in trainings[0].alone():
            note(trainings[0], record)
        return
    runs = {run: training for training in trainings if (run := training.run()) is not None}
    for left in sorted({run.left for run in runs}):               # what was interrupted may have come further
        for run, record in train.train_together([run for run in runs if run.left == left]):
            note(runs[run], record)


class Training:
    """What becomes of one node: where it starts, what it noted on the way, what it leaves."""

    def __init__(self, b: Bench, node: Node, model: nn.Module):
        self.b, self.node, self.model = b, node, model
        model.initialise(node.seed)
        self.before = [b.store.state(other) for other in b.graph.before(node)]
        self.resumed, self.history = b.store.partial(node)
        self.first, self.steps = node.step - b.graph.cost(node), 0
        self.saved = self.told = self.clock = time.perf_counter()
        self.validate = b.validation(model)           # kept: on a GPU it is a captured graph

    def methods(self) -> tuple[Callable, Callable]:
        """The technique and the pruning method, with what they ask for."""
        run = self.model, self.b.data, self.b.recipe, self.node.seed
        return methods.bound("technique", self.node.technique, *run), methods.bound("pruning method", self.node.pruning,
                                                                                    *run)

    def alone(self) -> Iterator[Record]:
        """Its records, one after another, as it trains."""
        b, node = self.b, self.node
        if node.technique:
            (trained, early), (technique, method) = self.before, self.methods()
            return retrain.one_round(
                self.model, b.data, b.recipe, trained, early, technique, node.densities[-1], seed=node.seed,
                round=len(node.densities), stream=node.stream, method=method, resume=self.resumed)
        if not node.step:
            return iter(())
        return train.train(self.model, b.data, b.recipe, **self.dense())

    def run(self) -> train.Run | None:
        """The same training, to be done together with others; None where there is nothing to train."""
        b, node = self.b, self.node
        if not node.step:
            return None
        if node.technique:
            (trained, early), (technique, method) = self.before, self.methods()
            settings = {"seed": node.seed, "round": len(node.densities), "stream": node.stream,
                        **retrain.round_settings(self.model, b.recipe, trained, early, technique, node.densities[-1],
                                                 method, self.resumed)}
        else:
            settings = self.dense()
        return train.Run(self.model, b.data, b.recipe, **settings)

    def dense(self) -> dict[str, Any]:
        """How a segment of the dense run is trained."""
        return {"seed": self.node.seed, "start": self.resumed or self.before[0], "stop": self.node.step,
                "compare_to": self.before[0]}

    def note(self, record: Record) -> None:
        """Keep a record; some ten times on the way with the validation accuracy, and once in a while the state."""
        b, now = self.b, time.perf_counter()
        self.steps = record.step - self.first
        if now - self.told > 1:
            b.store.note_progress(self.node, self.steps)
            self.told = now
        tenth = max(1, b.recipe.steps // 10)
        measured = not self.history or record.step // tenth > self.history[-1]["step"] // tenth
        self.history.append({
            "step": record.step, "loss": record.loss, "rate": record.rate, "sign_flips": record.sign_flips,
            "empty_layers": record.empty_layers, "seconds": now - self.clock,
            "validation_accuracy": self.validate() if measured else None})
        self.clock = now
        if now - self.saved > PARTIAL_EVERY:
            b.store.save_partial(self.node, State.copy(self.model), self.history)
            self.saved = now

    def result(self) -> tuple[State, dict]:
        """The state it has ended in, and what run.json says."""
        state = State.copy(self.model)
        return state, {
            "name": self.node.name,
            "settings": dataclasses.asdict(self.node),
            "density": prune.density(state.mask, nn.pack(self.model).prunable),
            "layer_densities": prune.layer_densities(self.model),
            "accuracy": train.evaluate(self.model, self.b.data.test),
            "validation_accuracy": self.validate(),
            "seconds": sum(record["seconds"] for record in self.history),
            "history": self.history,
        }


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
        with contextlib.suppress(Error):                # a NaN is told by the run it happens in
            for _ in train.train(b.model, b.data, b.recipe, seed=0, start=start, stop=1):
                train.evaluate(b.model, few)

