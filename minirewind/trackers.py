"""Trackers: anything with `init`, `log` and `finish`, such as the modules wandb and trackio.

    study.run(wanted, "results/mine", tracker=wandb)

Every node of the study that is finished from then on is told to the tracker as one run: `init(project=, name=,
config=)`, for every record of its history `log(values, step=)`, the last with the accuracies, and `finish()`. That is
read from the folder, where the study is driven: so it is the same whatever runs the nodes, and a tracker cannot change
them.

A loop of one's own needs none of this: `for record in train.train(...): wandb.log({"loss": record.loss}, record.step)`.
"""

import importlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import Error


def follow(folder, tracker) -> Callable[[Any], None]:
    """A function to call now and then that tells the tracker what a study's folder holds anew.

    `tracker` is an object, or the name it is imported by: "wandb", "package.module:object". If it fails, that is said
    once, and it is told no more.
    """
    folder, to = Path(folder).absolute(), found(tracker)
    told = set(folder.glob("runs/*/run.json"))

    def tell(rows: Any = None) -> None:
        nonlocal to
        if to is None:
            return
        new = set(folder.glob("runs/*/run.json")) - told
        told.update(new)
        for path in sorted(new, key=lambda path: path.stat().st_mtime_ns):
            try:
                tell_run(to, folder, json.loads(path.read_text()))
            except Exception as reason:
                to = None
                warnings.warn(f"the tracker failed at {path.parent.name} ({type(reason).__name__}: {reason}) and is "
                              f"told no more; the study goes on", stacklevel=2)
                return
    return tell


def tell_run(to: Any, folder: Path, run: dict) -> None:
    """Tell one run, as its run.json holds it."""
    study = json.loads((folder / "study.json").read_text())
    shared = {name: study[name] for name in ("network", "dataset", "recipe")}
    to.init(project=folder.name, name=run["name"], config=shared | run["settings"])
    *before, last = run["history"] or [{"step": run["settings"]["step"]}]
    ends = {name: run[name] for name in ("accuracy", "validation_accuracy", "density")}
    for record in (*before, last | ends):
        to.log({name: value for name, value in record.items() if isinstance(value, (int, float))}, step=record["step"])
    to.finish()


def found(tracker) -> Any:
    """The tracker: an object as it is; what a name imports, or one of it if that is a class."""
    if isinstance(tracker, str):
        module, _, attribute = tracker.partition(":")
        try:
            imported = importlib.import_module(module)
            imported = getattr(imported, attribute) if attribute else imported
        except (ImportError, AttributeError, ValueError) as reason:
            raise Error(f"tracker {tracker!r}: {reason}; expected an installed module such as wandb, or "
                        f"package.module:object") from reason
        tracker = imported() if isinstance(imported, type) else imported
    if missing := [name for name in ("init", "log", "finish") if not callable(getattr(tracker, name, None))]:
        raise Error(f"a tracker has init, log and finish, as wandb has; {tracker!r} has no {' and no '.join(missing)}")
    return tracker
