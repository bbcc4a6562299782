"""The folder of a study: what is finished, what is half done, and the table of results."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import Error
from ..train import State
from .graph import Graph, Node
from .settings import AXES, Study

replaced: dict[str, str] = {}       # functions that a learner's run for (see learn.py), and the hash of their source


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
