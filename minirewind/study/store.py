"""The folder of a study: what is finished, what is half done, what failed."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import Error
from ..train import State
from .graph import Node
from .settings import Study

OWN_FILES = ("study.json", "results.csv", "state.npz", "run.json", "about.json", "speed.json", "report.html",
             *(f"{name}.{kind}" for name in ("comparison", "times", "algorithm", "speedup") for kind in ("png", "svg")))
replaced: dict[str, str] = {}       # functions that a learner's run for (see learn.py), and the hash of their source


class Store:
    """The folder of a study.

    study.json      what all its runs share, and the axes of its grid so far
    runs/NAME/      one folder a node, written whole or not at all: state.npz, run.json
    partial/        the latest state of long runs that are not done
    failed/NAME.json  why a run could not be finished; it is left out until somebody asks for it again
    results.csv     one row for every finished pruned run, in grid order
    """

    def __init__(self, folder: Path, identity: dict):
        self.folder, self.identity = folder, identity
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
        try:
            run = json.loads(path.read_text())
            return {key: run[key] for key in ("density", "accuracy", "validation_accuracy", "seconds",
                                              "layer_densities")}
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise files.damaged(path, reason) from reason

    def save(self, node: Node, state: State, summary: dict) -> None:
        """Write the node's folder under another name, then rename it: it is there whole, or not at all."""
        path = self.path(node)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".writing-"))
        try:
            files.write_atomically(temporary / "state.npz", files.state_bytes(state))
            files.write_atomically(temporary / "run.json", (json.dumps(summary, indent=1) + "\n").encode())
            temporary.chmod(0o755)
            try:
                temporary.rename(path)
            except OSError:
                if not self.done(node):         # else another worker was faster, and its bits are the same
                    shutil.rmtree(path, ignore_errors=True)     # what somebody left of an older one
                    temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for path in (self.partial_path(node), self.progress_path(node), self.failure_path(node)):
            path.unlink(missing_ok=True)

    def failure_path(self, node: Node) -> Path:
        return self.folder / "failed" / f"{self.path(node).name}.json"

    def save_failure(self, node: Node, reason: str, details: str) -> None:
        """Note that a node cannot be finished: why, in a line or two, and the whole traceback. Tried again, it begins
        anew: a method of one's own may have been mended, and what it had done on the way was another's.
        """
        self.failure_path(node).parent.mkdir(exist_ok=True)
        record = {"name": node.name, "reason": reason, "details": details}
        files.write_atomically(self.failure_path(node), (json.dumps(record, indent=1) + "\n").encode())
        for path in (self.partial_path(node), self.progress_path(node)):
            path.unlink(missing_ok=True)

    def failure(self, node: Node) -> str:
        """Why the node failed when it was last run; empty where it did not."""
        try:
            return json.loads(self.failure_path(node).read_text())["reason"]
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise Error(f"{self.failure_path(node)} cannot be read ({reason!r}); delete it, and the run is tried "
                        "again") from reason

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

    def widened(self, study: Study) -> Study:
        """What the folder holds altogether with this study; an Error where it holds results of other settings."""
        path = self.folder / "study.json"
        if not path.exists():
            if (self.folder / "results.csv").exists():
                raise Error(f"{self.folder} holds a results.csv but no study.json; choose another folder with --out")
            return study
        try:
            known = json.loads(path.read_text())
            before = {"iterative_fractions": known["axes"]["retrain_fractions"]} | known["axes"]
            axes: dict[str, Any] = {name: tuple(dict.fromkeys((*before[name], *values)))
                                    for name, values in study.axes.items()}
        except (ValueError, KeyError, TypeError) as reason:
            raise Error(f"{path} cannot be read ({reason!r}); it says what the results beside it are of.\n"
                        f"Restore it, or choose another folder with --out") from reason
        for name, value in self.identity.items():
            for key, there, here in differences(name, known.get(name), value):
                raise Error(f"{self.folder} holds results of other settings: {key} is {_brief(there)} there, "
                            f"{_brief(here)} here.\nChoose another folder with --out, or delete that one")
        return dataclasses.replace(study, **axes)

    def open(self, study: Study) -> Study:
        """Claim the folder for this identity, and note what it holds altogether with this study."""
        whole = self.widened(study)
        self._sweep()
        path = self.folder / "study.json"
        content = json.dumps(self.identity | {"axes": whole.axes}, indent=1) + "\n"
        if not path.exists() or path.read_text() != content:
            files.write_atomically(path, content.encode())
        return whole

    def _sweep(self) -> None:
        """Delete what a killed process had begun to write (see files.write_atomically), and nothing of the user's."""
        begun = [path for room in ("runs", "partial", "failed") for path in self.folder.glob(f"{room}/.*")]
        begun += [path for name in OWN_FILES for path in self.folder.glob(f".{name}.????????")]
        for path in begun:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


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
