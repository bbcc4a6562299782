"""What a measured number depends on besides its settings: the machine, and the versions of what ran."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from . import files

PACKAGES = ("minirewind", "numpy", "numba", "cupy-cuda12x", "cupy-cuda13x")


def here() -> dict[str, Any]:
    """This machine and these versions."""
    return {"machine": machine(), "versions": versions()}


def machine() -> dict[str, Any]:
    """The processor, as far as the system tells, its cores, and the system."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return {"cpu": name, "cores": os.cpu_count(), "system": platform.system()}


def versions() -> dict[str, str]:
    """Python's and those of the packages that compute."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def note(folder: Path, rows: int, **settings) -> None:
    """Note in the folder's about.json where its runs were made: an entry for each day, machine and setting that added
    rows, with the rows there were afterwards.
    """
    entries = read(folder)
    if entries and entries[-1].get("rows") == rows:
        return
    entry = {"date": datetime.date.today().isoformat(), "rows": rows, **settings, **here()}
    if entries and entries[-1] | {"rows": rows} == entry:
        entries.pop()
    entries.append(entry)
    files.write_atomically(folder / "about.json", (json.dumps(entries, indent=1) + "\n").encode())


def read(folder: Path) -> list[dict[str, Any]]:
    """The entries of a folder's about.json; none where there is no such file, or none that can be read."""
    try:
        entries = json.loads((folder / "about.json").read_text())
    except (OSError, ValueError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
