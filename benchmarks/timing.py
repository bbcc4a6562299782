"""Timing on a machine that is not ours alone: candidates take turns, and turns during which the machine was busy are
thrown away."""

import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one candidate: median, quartiles, and of how many undisturbed turns (0: all were disturbed)."""

    median: float
    low: float
    high: float
    turns: int

    def __str__(self) -> str:
        return f"{self.median:9.3f} ms  [{self.low:.3f}, {self.high:.3f}]  {self.turns} turns"


def waited() -> float:
    """Seconds that the threads of this process were ready to run and did not, since its start (Linux; elsewhere 0)."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[1])
        except (OSError, IndexError):
            continue                      # a thread that has ended meanwhile
    return total * 1e-9


def interleaved(calls: dict, seconds: float = 30, turns: int = 15, disturbed: float = 0.02) -> dict[str, Timing]:
    """Time each of `calls` (name -> function) in turns, until each has `turns` undisturbed ones or the time is up.

    A turn counts as disturbed if our threads waited for a processor for more than `disturbed` of it. Where every turn
    was, all of them count, and `turns` of the result is 0: repeat on a quieter machine.
    """
    clean: dict[str, list[float]] = {name: [] for name in calls}
    every: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    end = time.monotonic() + seconds
    while time.monotonic() < end and min(len(times) for times in clean.values()) < turns:
        for name, call in calls.items():
            before, start = waited(), time.perf_counter()
            call()
            duration = time.perf_counter() - start
            every[name].append(1e3 * duration)
            if waited() - before < disturbed * duration:
                clean[name].append(1e3 * duration)
    return {name: timing(clean[name] or every[name], len(clean[name])) for name in calls}


def timing(times: list[float], turns: int) -> Timing:
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    return Timing(statistics.median(times), low, high, turns)


def machine() -> dict:
    """The processor, for the record."""
    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
        flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    except OSError:
        flags = []
    vectors = next((f for f in ("avx512f", "avx2", "avx", "sse2") if f in flags), platform.machine())
    return {"cpu": name, "vectors": vectors, "cores": os.cpu_count(), "system": platform.system()}
