"""Seconds from the start of `minirewind compare`, into a fresh folder with warm caches, to the end of its first step.

    python benchmarks/start.py [--workers 1] [--repeat 5] [--imports]

The first start compiles what the cache does not hold; it is printed and does not count. With `--workers 1` the runs
are made in the process itself; more of them are new processes, which import everything once more, and of which the
first to finish a step counts. `--imports` lists what takes longest to import.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Python runs sitecustomize.py at the start of every process, so the workers too tell when their first step is done.
TELL = '''
import os, sys, threading, time
def watch():
    while "minirewind.train" not in sys.modules or not hasattr(sys.modules["minirewind.train"], "train"):
        time.sleep(0.002)
    train = sys.modules["minirewind.train"]
    step = train.one_step
    def first(*arguments, **more):
        result = step(*arguments, **more)
        os.close(os.open(os.environ["FIRST_STEP"], os.O_CREAT))
        train.one_step = step
        return result
    train.one_step = first
threading.Thread(target=watch, daemon=True).start()
'''


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--imports", action="store_true")
    options = parser.parse_args()
    if options.imports:
        return imports()
    times = [start(options.workers) for _ in range(options.repeat + 1)]
    print(f"first {times[0]:.2f} s, then median {statistics.median(times[1:]):.2f} s of",
          " ".join(f"{seconds:.2f}" for seconds in times[1:]))


def start(workers):
    with tempfile.TemporaryDirectory() as folder:
        done = Path(folder, "first step")
        Path(folder, "sitecustomize.py").write_text(TELL)
        root = str(Path(__file__).parent.parent)
        environment = os.environ | {"FIRST_STEP": str(done), "PYTHONPATH": os.pathsep.join([folder, root])}
        command = [sys.executable, "-m", "minirewind", "compare", "--out", f"{folder}/results",
                   "--workers", str(workers)]
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not done.exists():
            time.sleep(0.005)
            if process.poll() is not None:
                raise SystemExit("compare ended before its first step")
        seconds = time.perf_counter() - began
        process.kill()
        process.wait()
        time.sleep(0.5)                             # for its workers to end with it
    return seconds


def imports():
    code = "from minirewind import cli, kernels, report; kernels.backend('cpu')"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    rows = re.findall(r"import time: +\d+ \| +(\d+) \|( *)(\S+)", done.stderr)
    for total, _, name in sorted(rows, key=lambda row: -int(row[0]))[:25]:
        print(f"{int(total) / 1e3:8.0f} ms  {name}")


if __name__ == "__main__":
    main()
