"""One node: from the states before it to its own folder. What a worker does."""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import data as datasets
from .. import kernels, models, nn, prune, retrain, train
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
        technique = methods.bound("technique", node.technique, model, data, recipe, node.seed)
        method = methods.bound("pruning method", node.pruning, model, data, recipe, node.seed)
        records = retrain.one_round(
            model, data, recipe, trained, early, technique, node.densities[-1], seed=node.seed,
            round=len(node.densities), method=method, resume=resumed)
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

