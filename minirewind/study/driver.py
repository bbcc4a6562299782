"""The driver: keeps the nodes of a study running, on whatever runs them."""

import concurrent.futures as futures
import heapq
import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Error
from . import work
from .graph import Graph, Node
from .progress import Progress, Publisher
from .work import Job

GONE = "the Dask scheduler is gone; what is done is kept, and the same command continues it"


@dataclass
class Crew:
    """Who runs the nodes: `make` makes an executor, and makes it anew where that broke; `size` is how many calls it
    takes side by side, now, or an Error if nobody is there any more; `stop` ends at once what it is doing; `close` lets
    it go at the end. A call is one node, or up to `together` nodes of as many steps, side by side on a GPU.
    """

    make: Callable[[], futures.Executor]
    size: Callable[[], int]
    together: int = 1
    stop: Callable[[futures.Executor], None] = lambda executor: None
    close: Callable[[], Any] = lambda: None
    lost: tuple[type[BaseException], ...] = (futures.BrokenExecutor,)       # how a lost worker shows itself


def check_workers(workers: int) -> None:
    """An Error for what is no number of workers."""
    if workers < 1:
        raise Error(f"workers is {workers}; expected at least one")


class Serial(futures.Executor):
    """Runs each call at once, in this process."""

    def submit(self, fn, /, *args, **kwargs):
        future: futures.Future = futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as reason:
            future.set_exception(reason)
        return future


def here(together: int = 1) -> Crew:
    """This process."""
    return Crew(Serial, lambda: 1, together)


def pool(workers: int) -> Crew:
    """New processes on this machine. What they are doing when they are stopped is in no folder yet, and done again."""
    def make() -> futures.Executor:
        return futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)

    def stop(executor) -> None:
        for process in list((executor._processes or {}).values()):
            process.terminate()

    return Crew(make, lambda: workers, stop=stop)


def start_worker() -> None:
    """A worker leaves Ctrl-C to its parent, and ends when its parent does, however that ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    parent: Any = multiprocessing.parent_process()

    def follow():
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def dask(address: str) -> Crew:
    """The workers of a Dask scheduler, at "tcp://host:port" or as its scheduler file says.

    They work in the study's own folder: all machines must see it under the same path. A node that is lost with its
    worker is run again by another one.
    """
    try:
        import distributed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise Error("Dask is not installed; it comes with: pip install 'minirewind[cluster]'") from None
    try:
        if "://" not in address:
            address = json.loads(Path(address).read_text())["address"]
        client = distributed.Client(address, timeout=10)
    except (OSError, ValueError, KeyError, TypeError) as reason:
        raise Error(f"no Dask scheduler answers at {address!r} ({reason}); expected tcp://host:port, or the file that "
                    "dask scheduler --scheduler-file has written") from reason
    asked = [-1.0, 0]

    def size() -> int:
        if client.status != "running":
            raise Error(GONE)
        if time.monotonic() - asked[0] > 1:
            try:
                asked[:] = time.monotonic(), len(client.nthreads())     # workers come and go
            except OSError as reason:                                   # it went at this very moment
                raise Error(GONE) from reason
        return int(asked[1])

    return Crew(lambda: client.get_executor(pure=False), size, close=client.close, lost=(KilledWorker,))


class Queue:
    """Which nodes may run now, in the order of the list: those whose nodes before them are done."""

    def __init__(self, graph: Graph, nodes: list[Node]):
        self.graph, self.nodes, self.places = graph, nodes, {node: place for place, node in enumerate(nodes)}
        self.missing: list[int] = []                                # how many nodes each still waits for
        self.after: list[list[int]] = [[] for _ in nodes]           # which nodes wait for each
        for place, node in enumerate(nodes):
            needs = [self.places[other] for other in set(graph.before(node)) if other in self.places]
            self.missing.append(len(needs))
            for other in needs:
                self.after[other].append(place)
        self.ready = [place for place, count in enumerate(self.missing) if not count]       # a heap

    def __bool__(self) -> bool:
        return bool(self.ready)

    def take(self) -> Node:
        return self.nodes[heapq.heappop(self.ready)]

    def take_group(self, count: int) -> list[Node]:
        """The first node and those after it that train as many steps, up to so many."""
        group = [self.take()]
        others: list[Node] = []
        while len(group) < count and self.ready:
            node = self.take()
            (group if self.graph.cost(node) == self.graph.cost(group[0]) else others).append(node)
        self.put_back(*others)
        return group

    def put_back(self, *nodes: Node) -> None:
        for node in nodes:
            heapq.heappush(self.ready, self.places[node])

    def done(self, node: Node) -> None:
        """What has waited for this node only may run."""
        for place in self.after[self.places[node]]:
            self.missing[place] -= 1
            if not self.missing[place]:
                heapq.heappush(self.ready, place)


def drive(crew: Crew, job: Job, graph: Graph, nodes: list[Node], bar: Progress, publish: Publisher) -> dict[Node, str]:
    """Keep the crew at work, in the order of the list, each node as soon as the nodes before it are done.

    What failed is returned with its reason. What waits for a failed node is never run.
    """
    queue, failed = Queue(graph, nodes), {}
    running: dict[futures.Future, list[Node]] = {}
    executor, breaks = crew.make(), 0
    try:
        while queue or running:
            try:
                room = crew.size()                      # also when nothing is to be given out: who is gone says so here
                while queue and len(running) < room:
                    group = queue.take_group(crew.together)
                    bar.show([*itertools.chain(*running.values()), *group])
                    inside = {"report": bar.within} if isinstance(executor, Serial) else {}     # others leave a file
                    try:
                        running[executor.submit(work.execute, job, *group, **inside)] = group
                    except BaseException:
                        queue.put_back(*group)
                        raise
                if not running:
                    time.sleep(1)                       # no worker has come yet
                for future in futures.wait(running, timeout=1, return_when=futures.FIRST_COMPLETED).done:
                    reasons = future.result()
                    for node, reason in zip(running.pop(future), reasons):
                        if reason:
                            failed[node] = reason
                            bar.failed(graph.waiting_for([node], nodes))
                        else:
                            queue.done(node)
                            publish.add(node)
                            bar.done(node)
                bar.look(itertools.chain(*running.values()))
            except crew.lost as reason:
                breaks += 1
                if breaks > 3:
                    raise Error("the worker processes keep dying; is there enough memory? Try fewer workers.\n"
                                "In a script, call study.run under: if __name__ == \"__main__\":") from reason
                queue.put_back(*itertools.chain(*running.values()))
                running.clear()
                executor = crew.make()
            publish()
    except futures.CancelledError as reason:
        raise Error(GONE) from reason
    except BaseException:
        crew.stop(executor)
        raise
    finally:
        executor.shutdown(wait=False)
    return failed
