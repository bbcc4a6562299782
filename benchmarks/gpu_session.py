"""Everything that has to be seen on a real card, in one command, called again until all is done.

    python benchmarks/gpu_session.py [--out benchmarks/results/gpu] [--minutes 9] [--only NAME ...] [--again]

The tests on the card, compute-sanitizer's memory and race checks, the timings of every row that the project promises,
and the hardware counters of each kernel. Each step is a process with a time limit of its own and leaves NAME.json, and
NAME.log if it failed. A step whose JSON says that it went well is not run again: call it again with the same --out
until it says that all is done. After each step --pack FILE has all of --out in one .tar.gz, for a machine that may be
gone at any time. Needs PyTorch for the comparisons, and compute-sanitizer and ncu on the PATH; what is missing is a
step that failed, and the others run.
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTEST = ["-v", "--tb=short", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=60",
          str(ROOT / "tests" / "test_card.py")]
BARE = "import sys, cupy, pytest; cupy.cuda.set_allocator(None); sys.exit(pytest.main(sys.argv[1:]))"


class Step(NamedTuple):
    """A process, how many seconds it may take, and what its output says beside its exit code."""

    name: str
    command: list[str]
    seconds: int
    read: Callable[[str], dict] = lambda output: {}


def timed(name: str, seconds: int, *options: str) -> Step:
    """A run of train_step.py; its JSON is the step's."""
    return Step(name, [sys.executable, str(HERE / "train_step.py"), "--device", "gpu", "--json", "{json}", *options],
                seconds)


def steps() -> list[Step]:
    """What cannot be known without a card first; last what waits for compilers longer than for the card."""
    sanitizer = ["compute-sanitizer", "--error-exitcode", "9", "--report-api-errors", "no", "--tool"]
    each_by_itself = [sys.executable, "-c", BARE, *PYTEST, "-k", "kernel"]      # in CuPy's pool nothing has an end
    counters = "gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum"
    torch = ["--seconds", "20", "--against", "torch", "--ways"]
    launches = [sys.executable, str(HERE / "train_step.py"), "--device", "gpu", "--launches", "1"]
    return [
        Step("tests", [sys.executable, "-m", "pytest", *PYTEST], 200),
        timed("resnet20-tf32", 120, *torch, "eager", "graph"),
        timed("resnet20-replicas", 90, "--replicas", "8", "--seconds", "20"),
        timed("resnet56-tf32", 150, *torch, "eager", "graph", "--network", "resnet56"),
        Step("counters", ["ncu", "--clock-control", "none", "--csv", "--metrics", counters, *launches], 150, kernels),
        Step("memcheck", [*sanitizer, "memcheck", *each_by_itself], 200),
        Step("racecheck", [*sanitizer, "racecheck", *each_by_itself], 200),
        timed("resnet20-fp32", 120, *torch, "eager", "graph", "--precision", "fp32"),
        timed("resnet20-compiled", 240, *torch, "reduce-overhead"),
        timed("resnet56-compiled", 300, *torch, "reduce-overhead", "--network", "resnet56"),
        timed("resnet20-autotune", 240, *torch, "max-autotune"),
        timed("resnet56-autotune", 300, *torch, "max-autotune", "--network", "resnet56"),
    ]


def kernels(output: str) -> dict:
    """ncu's table of one step: for each kernel how often, microseconds, bytes and bytes per second, longest first."""
    lines = output[output.index('"ID"') :].splitlines() if '"ID"' in output else []
    launches: dict[str, dict[str, dict[str, float]]] = {}
    for row in csv.DictReader(lines):
        unit = {"usecond": 1e-6, "us": 1e-6, "nsecond": 1e-9, "ns": 1e-9, "msecond": 1e-3, "ms": 1e-3, "byte": 1,
                "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}.get(row["Metric Unit"], 1)
        try:
            value = float((row["Metric Value"] or "").replace(",", "")) * unit
        except ValueError:                  # a counter that the card does not have, or what ncu says below its table
            continue
        launches.setdefault(row["Kernel Name"], {}).setdefault(row["ID"], {})[row["Metric Name"]] = value
    table = []
    for name, each in launches.items():
        seconds = sum(one.get("gpu__time_duration.sum", 0) for one in each.values())
        moved = sum(one.get("dram__bytes_read.sum", 0) + one.get("dram__bytes_write.sum", 0) for one in each.values())
        table.append({"kernel": name, "launches": len(each), "microseconds": 1e6 * seconds, "bytes": moved,
                      "bytes_per_second": moved / seconds if seconds else None})
    return {"kernels": sorted(table, key=lambda row: -row["microseconds"])}


def done(step: Step, out: Path) -> bool:
    """Whether this step went well before."""
    try:
        return json.loads((out / f"{step.name}.json").read_text()).get("exit_code") == 0
    except (OSError, ValueError):
        return False


def carry_out(step: Step, out: Path, seconds: float) -> str:
    """Run a step, write its JSON, and its log where it failed; what became of it, in a word or two."""
    path, log = out / f"{step.name}.json", out / f"{step.name}.log"
    path.unlink(missing_ok=True)
    begun = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [part.replace("{json}", str(path)) for part in step.command]
    with log.open("w") as file:
        try:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file,
                                       start_new_session=True)
        except FileNotFoundError as reason:
            code = 127
            file.write(str(reason))
        else:
            code = wait(process, seconds)
    output = log.read_text(errors="replace")
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        record = {}
    record |= {"exit_code": code, "seconds": round(time.monotonic() - begun, 1), "last_line": last_line(output)}
    record |= step.read(output) if code == 0 else {}
    path.write_text(json.dumps(record, indent=1) + "\n")
    if code:
        log.write_text(output[-200_000:])
    else:
        log.unlink()
    return {0: "well", 124: "out of time", 127: "not there"}.get(code, f"failed ({code})")


def wait(process: subprocess.Popen, seconds: float) -> int:
    """The exit code, or 124 when the time is over: all that it started ends too, or the card stays busy."""
    try:
        return process.wait(seconds)
    except BaseException as reason:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(reason, subprocess.TimeoutExpired):
            return 124
        raise


def last_line(output: str) -> str:
    return next((line for line in reversed(output.splitlines()) if line.strip()), "")[:300]


def pack(out: Path, file: Path) -> None:
    """All that there is by now in one file."""
    part = file.with_name(file.name + ".part")
    with tarfile.open(part, "w:gz") as tar:
        tar.add(out, out.name)
    part.replace(file)


def session(todo: list[Step], out: Path, minutes: float, again: bool = False, packed: Path | None = None) -> bool:
    """Carry out what is missing as long as there is time; whether everything has gone well by now."""
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    for step in todo:
        if done(step, out) and not again:
            print(f"{step.name:24}well, before", flush=True)
            continue
        left = end - time.monotonic()
        if left < min(30, step.seconds):
            print(f"{step.name:24}no time left", flush=True)
            continue
        became = carry_out(step, out, min(step.seconds, left))
        record = json.loads((out / f"{step.name}.json").read_text())
        if packed:
            pack(out, packed)
        print(f"{step.name:24}{became:14}{record['seconds']:7.1f} s   {record['last_line'][:70]}", flush=True)
    return all(done(step, out) for step in todo)


def no_card() -> str:
    """Why there is no card to be used, in the library's own words; nothing where there is one."""
    ask = ("from minirewind import Error, kernels\ntry:\n kernels.backend('gpu')\n"
           "except Error as reason:\n print(reason)")
    return subprocess.run([sys.executable, "-c", ask], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          stdout=subprocess.PIPE, text=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu")
    parser.add_argument("--minutes", type=float, default=9, help="for all of it; each step has a limit of its own")
    parser.add_argument("--only", nargs="+", default=[], help="names of steps")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="all of --out in one .tar.gz, after each step anew")
    parser.add_argument("--again", action="store_true", help="also what went well before")
    options = parser.parse_args()
    if missing := no_card():
        sys.exit(missing)
    todo = [step for step in steps() if not options.only or step.name in options.only]
    whole = session(todo, options.out.resolve(), options.minutes, options.again, options.pack)
    print("all is done" if whole else "something is missing: call it again, or look at the .log files")
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
