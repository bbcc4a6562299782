"""The driver: keeps the nodes of a study running, on whatever runs them."""

import concurrent.futures as futures
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from ..errors import Error
from . import work
from .graph import Graph, Node
from .progress import Progress
from .work import Job


class Serial(futures.Executor):
    """Runs each call at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future: futures.Future = futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as reason:
            future.set_exception(reason)
        return future


def pool(workers: int) -> futures.Executor:
    """New processes."""
    return futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)


def start_worker() -> None:
    """A worker leaves Ctrl-C to its parent, and ends when its parent does, however that ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    parent: Any = multiprocessing.parent_process()

    def follow():
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def drive(make: Callable[[], futures.Executor], workers: int, job: Job, graph: Graph, missing: list[Node],
          bar: Progress, publish: Callable[[], Any], together: int = 1) -> None:
    """Keep `workers` calls running, in the order of the list, each as soon as the nodes before it are done.

    A call runs one node, or up to `together` nodes of as many steps, side by side on a GPU. `make` makes the executor,
    and makes it anew where a worker died and took the pool with it.
    """
    waiting, unfinished = list(missing), set(missing)
    running: dict[futures.Future, list[Node]] = {}
    executor, breaks = make(), 0
    try:
        while waiting or running:
            try:
                ready = [node for node in waiting if unfinished.isdisjoint(graph.before(node))]
                while ready and len(running) < workers:
                    group = [node for node in ready if graph.cost(node) == graph.cost(ready[0])][:together]
                    ready, waiting = ([node for node in nodes if node not in group] for nodes in (ready, waiting))
                    bar.show([*itertools.chain(*running.values()), *group])
                    here = {"report": bar.within} if isinstance(executor, Serial) else {}      # others leave a file
                    running[executor.submit(work.execute, job, *group, **here)] = group
                for future in futures.wait(running, timeout=1, return_when=futures.FIRST_COMPLETED).done:
                    future.result()
                    for node in running.pop(future):
                        unfinished.remove(node)
                        bar.advance(node)
                bar.look(itertools.chain(*running.values()))
            except futures.BrokenExecutor as reason:
                breaks += 1
                if breaks > 3:
                    raise Error("the worker processes keep dying; is there enough memory? Try fewer workers.\n"
                                "In a script, call study.run under: if __name__ == \"__main__\":") from reason
                waiting = [node for node in missing if node in unfinished]
                running.clear()
                executor = make()
            publish()
    except BaseException:
        stop(executor)
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def stop(executor: futures.Executor) -> None:
    """End the workers at once: what they were doing is in no folder yet, and is done again next time."""
    for process in list((getattr(executor, "_processes", None) or {}).values()):
        process.terminate()

