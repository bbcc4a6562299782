"""Milliseconds, measured: a study's pruned networks as programs, beside the dense network's.

Counting multiplications says what pruning could gain. What it gains is measured here: `sparse.compile` makes a program
of the dense network and of some finished runs; the two take turns on the same images, on one thread.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import about, export, files, kernels, models, nn, report, sparse
from .kernels import process
from .report import Row
from .study import methods

IMAGES = (1, 128)       # how many images at once
CELLS = 4               # so many compressions of each panel are measured
TURNS = 200             # a median needs no more


class Speed(NamedTuple):
    """What one finished run's program takes for a number of images, and the dense network's beside it."""

    protocol: str
    technique: str
    pruning: str
    seed: int
    compression: float
    run: str                # the folder below runs/
    images: int
    dense_ms: float
    pruned_ms: float

    @property
    def ratio(self) -> float:
        """How many times faster the pruned network is."""
        return self.dense_ms / self.pruned_ms


def chosen(rows: Sequence[Row]) -> list[Row]:
    """The runs to measure: in each panel, of the technique with the best medians, up to four compressions, the highest
    always; of each the median seed.
    """
    found = []
    for members in report.panels_of(report.best_by_validation(rows)).values():
        technique = report.leader(members) or report.techniques_of(members)[0]
        cells = report.grouped([row for row in members if row.technique == technique], lambda row: row.compression)
        for compression in report.spread(sorted(cells), CELLS):
            seeds = sorted(cells[compression], key=lambda row: (row.delta, row.seed))
            found.append(seeds[(len(seeds) - 1) // 2])
    return found


def measure(rows: Sequence[Row], folder: str | Path, seconds: float = 0.4) -> list[Speed]:
    """Measure the chosen runs whose states are in the folder and keep the result there as speed.json.

    Each run is measured once, for 1 and for 128 images, at most about `seconds` each; what is in speed.json is not
    measured again on the same machine with the same versions.
    """
    folder, here = Path(folder), about.here()
    known = described(folder)
    before = {(s.run, s.images): s for s in read(folder)} if {key: known.get(key) for key in here} == here else {}
    wanted = {path.name: row for row in chosen(rows) if (path := run_of(row, folder, report.dense_steps(rows)))}
    found = [before[run, images] for run in wanted for images in IMAGES if (run, images) in before]
    missing = {run: row for run, row in wanted.items() if not all((run, images) in before for images in IMAGES)}
    if missing:
        threads = process.threads()
        kernels.set_threads(1)
        try:
            found += [speed for run, row in missing.items() for speed in timed(folder / "runs" / run, row, seconds)]
        finally:
            kernels.set_threads(threads)
        order = [(run, images) for run in wanted for images in IMAGES]
        found.sort(key=lambda speed: order.index((speed.run, speed.images)))
        content = {**here, "threads": 1, "speeds": [speed._asdict() for speed in found]}
        files.write_atomically(folder / "speed.json", (json.dumps(content, indent=1) + "\n").encode())
    return found


def timed(run: Path, row: Row, seconds: float) -> list[Speed]:
    """One run's network beside the dense one, for each number of images."""
    model = export.read_run(run)
    origin: dict[str, Any] = model.origin or {}
    images = np.random.default_rng(0).standard_normal((max(IMAGES), *origin["input_shape"])).astype(np.float32)
    dense = models.build(**origin).eval()
    nn.pack(dense)
    programs = {"dense": sparse.compile(dense, images[:1]), "pruned": sparse.compile(model, images[:1])}
    found = []
    for count in IMAGES:
        ms = milliseconds(programs, images[:count], seconds)
        found.append(Speed(row.protocol, row.technique, row.pruning, row.seed, row.compression, run.name, count,
                           round(ms["dense"], 5), round(ms["pruned"], 5)))
    return found


def milliseconds(programs: Mapping[str, Callable[[np.ndarray], Any]], images: np.ndarray,
                 seconds: float = 0.25) -> dict[str, float]:
    """The median time of a call of each program on these images; they take turns, up to TURNS, as the time allows."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for run in programs.values():
        run(images)
        run(images)
    end = time.perf_counter() + seconds * len(programs)
    for turn in range(TURNS):
        if turn >= 3 and time.perf_counter() > end:
            break
        for name, run in programs.items():
            start = time.perf_counter()
            run(images)
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(mine) for name, mine in times.items()}


def run_of(row: Row, folder: Path, steps: int) -> Path | None:
    """The folder of the run that a row is about; None where its state is not there (or is another run's)."""
    kind = "one_shot" if row.round == 1 else f"iterative-round{row.round}"
    pattern = f"seed{row.seed}-{methods.short(row.technique)}-t{round(row.retrain_fraction * steps)}-{kind}-*"
    for path in sorted(folder.glob(f"runs/{pattern}/run.json")):
        try:
            summary = json.loads(path.read_text())
            settings = summary["settings"]
            same = (abs(summary["accuracy"] - row.accuracy) < 1e-3
                    and all(settings[name] == getattr(row, name) for name in ("technique", "pruning", "stream"))
                    and abs(1 / summary["density"] / row.compression - 1) < 1e-3)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if same and (path.parent / "state.npz").is_file():
            return path.parent
    return None


def read(folder: str | Path) -> list[Speed]:
    """What speed.json in a folder holds; nothing where there is none, or none that can be read."""
    try:
        return [Speed(**entry) for entry in described(Path(folder)).get("speeds", [])]
    except TypeError:
        return []


def described(folder: Path) -> dict[str, Any]:
    """speed.json as it stands: machine, versions, threads, speeds."""
    try:
        content = json.loads((folder / "speed.json").read_text())
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}
