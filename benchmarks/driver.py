"""What a study's driver costs by itself: thousands of nodes whose training is left out.

    python benchmarks/driver.py --nodes 10000

Everything else is real: the queue, the folders, results.csv, the rows. The time of the stand-in for the training, which
writes a node's own files, is taken off where it runs in the same thread.
"""

import argparse
import json
import tempfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import timing

from minirewind import study
from minirewind.study import driver, work
from minirewind.train import Recipe


def drive(nodes: int, workers: int, folder: Path) -> dict:
    """Drive a study of at least so many nodes; when each was finished, the stand-in's own seconds, Python's memory."""
    seeds = -(-nodes // len(study.Graph(study.Study("lenet_300_100", "digits", seeds=1), 468).nodes()))
    wanted = study.Study("lenet_300_100", "digits", Recipe(468, 64), seeds=seeds)
    b = work.bench(work.job_of(wanted, folder, "cpu"))
    summary = {"density": 0.5, "accuracy": 50.0, "validation_accuracy": 50.0, "seconds": 1.0,
               "layer_densities": dict.fromkeys(b.multiply_adds, 0.5)}
    own, own_cpu, times, memory = [], [], [], []

    def stand_in(job, node, report=None):
        begin, begin_cpu = time.perf_counter(), time.thread_time()
        path = b.store.path(node)
        path.mkdir(parents=True)
        (path / "run.json").write_text(json.dumps(summary))
        times.append(time.perf_counter())
        own.append(times[-1] - begin)
        own_cpu.append(time.thread_time() - begin_cpu)
        memory.append(tracemalloc.get_traced_memory()[0] / 1e6)
        return [""]

    here, real, pool = driver.here, work.execute, ThreadPoolExecutor(workers)
    if workers > 1:
        driver.here = lambda together: driver.Crew(lambda: pool, lambda: workers)
    work.execute = stand_in
    began, began_cpu = time.perf_counter(), time.thread_time()
    try:
        study.run(wanted, folder, progress=False)
    finally:
        driver.here, work.execute = here, real
    return {"total": time.perf_counter() - began, "cpu": time.thread_time() - began_cpu, "own": own,
            "own_cpu": own_cpu, "times": times, "memory": memory}


def measure(nodes: int, workers: int) -> dict:
    """Milliseconds a node, at first, at last and on average; the memory in a pass of its own, as measuring it is slow.
    """
    with tempfile.TemporaryDirectory() as folder:
        timed = drive(nodes, workers, Path(folder) / "study")
    tracemalloc.start()
    with tempfile.TemporaryDirectory() as folder:
        memory = drive(nodes, workers, Path(folder) / "study")["memory"]
    tracemalloc.stop()
    own, cpu = timed["own"], timed["cpu"] - sum(timed["own_cpu"])
    if workers > 1:
        own, cpu = [0.0] * len(own), timed["cpu"]           # the stand-in has threads of its own
    tenth = len(own) // 10

    def pace(first: int) -> float:
        last = first + tenth
        return 1e3 * (timed["times"][last - 1] - timed["times"][first] - sum(own[first + 1 : last])) / (tenth - 1)

    return {"nodes": len(own), "workers": workers, "ms_per_node": 1e3 * (timed["total"] - sum(own)) / len(own),
            "cpu_ms_per_node": 1e3 * cpu / len(own),
            "ms_per_node_first_tenth": pace(0), "ms_per_node_last_tenth": pace(len(own) - tenth),
            "megabytes_at_first": memory[0], "megabytes_at_last": memory[-1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--json", help="write what was measured to this file")
    options = parser.parse_args()
    measured = [measure(options.nodes, workers) for workers in (1, 8)]
    for each in measured:
        print("\n".join(f"{name:25} {value:10,.2f}" for name, value in each.items()), end="\n\n")
    if options.json:
        record = {"measured": measured, "machine": timing.machine()}
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
