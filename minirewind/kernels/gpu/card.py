"""The real card, through CuPy: who compiles and launches, and the captured step.

This file has not run on a card yet. What can be seen without one has been: the kernels compile for cards 7.5, 8.0 and
9.0 and compute the right numbers on the emulated device, whose host code is the same; tests/cupy_double.py stands in
for CuPy where the calls of this file are tested, the captured steps among them. benchmarks/gpu_session.py is what to
run where there is a card.
"""

import contextlib
import functools
import sys
import weakref

import numpy as np

from ... import errors
from . import sources
from .host import Gpu

OPTIONS = ("-std=c++17",)
LEAST = 70              # the compute capability from which on the threads of a warp may diverge at a shuffle
LEAST_OF_CUDA_13 = 75   # whose compiler knows no older cards
TENSOR_CORES = 80       # and from which on tensor cores multiply TF32


def find_cupy():
    """The module cupy, once it is sure that there is a card it can use; else one Error that says what is missing."""
    try:
        import cupy
    except ImportError as reason:
        raise errors.Error(f"device gpu needs CuPy, which cannot be imported ({reason});\n"
                           "pip install 'minirewind[gpu12]' for CUDA 12, 'minirewind[gpu13]' for CUDA 13, or use "
                           "device cpu") from None
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as reason:
        count, why = 0, f" ({reason})"
    else:
        why = ""
    if count == 0:
        raise errors.Error(f"device gpu needs an NVIDIA card and its driver; CuPy finds none{why}.\n"
                           "Look at the output of nvidia-smi, or use device cpu")
    return cupy


class Uncapturable(RuntimeError):
    """Something that must not happen while a step is being recorded."""


class Card(Gpu):
    """NVIDIA's current card.

    All work of a thread goes through one stream, in the order in which it was asked for: a recording must not take
    place on CUDA's default stream, and nothing has to wait for another stream.
    """

    name = "gpu"

    def __init__(self) -> None:
        self.xp = self.cupy = find_cupy()
        self.capability = int(self.cupy.cuda.Device().compute_capability)
        least, cuda = LEAST, self.cupy.cuda.runtime.runtimeGetVersion() // 1000
        if cuda >= 13:
            least = max(LEAST, LEAST_OF_CUDA_13)
        if self.capability < least:
            other = ", or minirewind[gpu12] in place of [gpu13]" if self.capability >= LEAST else ""
            raise errors.Error(f"device gpu with CUDA {cuda} needs a card of compute capability {least / 10} or more; "
                               f"this one has {self.capability / 10}.\nUse device cpu{other}")
        if self.capability < TENSOR_CORES:
            self.precision = "fp32"
        self.capturing = False
        self.told: set[str] = set()         # why something could not be recorded, said once
        self.pools: list = []               # of graphs that are gone
        self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self.enter()
        super().__init__()
        self.find_compiler()

    def enter(self) -> None:
        """Let the work of the calling thread go through the stream, for good.

        The stream is entered and never left. To `use` it is not enough: at the end of the next `with` of any stream,
        and CuPy's own get() has one, CuPy goes back to the stream entered before, which would be CUDA's default one.
        """
        if self.cupy.cuda.get_current_stream() != self.stream:
            self.stream.__enter__()

    def find_compiler(self) -> None:
        """Compile the smallest file and a kernel of CuPy's own now: what it misses is told before any work is done."""
        try:
            self.compile("update").compile()
            self.cupy.full((), 0.5, np.float32)         # CuPy's own include CUDA's headers, ours do not
        except Exception as reason:
            raise errors.Error(f"device gpu compiles its kernels with CuPy, which cannot ({str(reason)[:200]});\n"
                               "pip install 'minirewind[gpu12]' or 'minirewind[gpu13]' brings what it needs: take the "
                               "CUDA version that nvidia-smi shows") from reason

    @contextlib.contextmanager
    def telling_of_full_memory(self, advice: str):
        """What happens inside may find the card's memory full: then an Error says so."""
        try:
            yield
        except self.cupy.cuda.memory.OutOfMemoryError as reason:
            raise errors.Error(f"the card's memory is full ({reason});\ntry {advice}") from None

    @functools.cache    # noqa: B019  (there is one backend for the whole process)
    def compile(self, name: str):
        """A RawModule; it compiles when its first kernel is asked for, and CuPy keeps the result on disk."""
        if name == "tensor_cores" and self.capability < TENSOR_CORES:
            raise errors.Error(f"precision tf32 needs tensor cores, of compute capability {TENSOR_CORES / 10} or more; "
                               f'this card has {self.capability / 10}: leave precision at "fp32"')
        return self.cupy.RawModule(code=sources.text(name), options=OPTIONS)

    def asarray(self, data, dtype=None):
        """`data` on the card. One number is no copy but a launch that carries it, and so may be recorded."""
        if isinstance(data, self.cupy.ndarray):
            return data if dtype is None else data.astype(dtype, copy=False)
        data = np.asarray(data, dtype)
        if data.ndim == 0:
            return self.cupy.full((), data.item(), data.dtype)
        if self.capturing:
            raise Uncapturable(f"an array of shape {data.shape} comes from the host in every step")
        with self.telling_of_full_memory("a smaller network, fewer images, or another program's end: see nvidia-smi"):
            return self.cupy.asarray(data)

    def address(self, array) -> int:
        """Where an array begins in the card's memory."""
        return array.data.ptr

    def to_host(self, array) -> np.ndarray:
        """A copy on the host; waits for all work that was asked for before."""
        if not isinstance(array, self.cupy.ndarray):
            return array
        if self.capturing:
            raise Uncapturable(f"an array of shape {array.shape} is looked at on the host in every step")
        return array.get()

    def put(self, array, values) -> None:
        """One copy from the host, straight into place."""
        if isinstance(values, np.ndarray) and values.dtype == array.dtype and values.shape == array.shape:
            array.set(values)
        else:
            super().put(array, values)

    def capture(self, *steps):
        """The steps, side by side, recorded once as a CUDA graph and then replayed: hundreds of launches become one."""
        self.enter()                                # another thread than the one that made this object has another one
        self.cupy.cuda.Device().synchronize()
        for pool in self.pools:
            pool.free_all_blocks()
        return Captured(self, steps)


class Captured:
    """Steps whose launches are recorded once and then replayed, all of them by one call.

    The first call runs the steps as they are: every kernel is compiled by it, every array that stays is made. The
    second records the steps (nothing is computed meanwhile) and then replays them, as all later calls do. What the
    recorded kernels read and write lies at fixed addresses, in a memory pool that nobody else takes from: there the
    arrays that a step makes and drops are free for the replay to use again. What cannot be recorded runs as it is,
    after one sentence that says why.

    Several steps, which have nothing to do with each other, become branches of one graph: each has a stream and a pool
    of its own, so the card may run them at the same time, and none writes where another one reads.

    The pools outlive the graph, for the next one. What lies free in a pool that nobody has any more would be lost, as
    CuPy 14 does not give it back; and what is still in use, such as the last loss, comes back to the pool later.
    """

    def __init__(self, card: Card, steps) -> None:
        cuda = card.cupy.cuda
        self.card, self.main, self.using_allocator = card, card.stream, cuda.using_allocator
        self.pools = [card.pools.pop() if card.pools else cuda.MemoryPool() for _ in steps]
        weakref.finalize(self, card.pools.extend, self.pools)
        streams = [card.stream, *(cuda.Stream(non_blocking=True) for _ in steps[1:])]
        self.branches = [(stream, pool.malloc, step) for stream, pool, step in zip(streams, self.pools, steps)]
        self.graph = None
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        fewer = "fewer runs side by side (--workers), " if len(self.branches) > 1 else ""
        with self.card.telling_of_full_memory(f"{fewer}a smaller batch, or a smaller network"):
            if self.calls == 2:
                self.graph = self.record()
            if self.graph is not None:
                self.graph.launch(self.main)
            else:
                self.run(side_by_side=False)

    def run(self, side_by_side: bool) -> None:
        """Ask for all steps, each on its own stream, behind what the main stream has done so far; which waits for all.

        One after another, unless they are recorded: what the first one makes for all, such as the images, is then
        there before the second one reads it.
        """
        begun, ends = self.main.record(), []
        for stream, malloc, step in self.branches:
            with stream, self.using_allocator(malloc):
                stream.wait_event(begun)
                step()
                ends.append(stream.record())
            if not side_by_side:
                begun = ends[-1]
        for end in ends:
            self.main.wait_event(end)

    def record(self):
        """The graph of the steps, or None if they cannot be recorded."""
        held = [pool.total_bytes() for pool in self.pools]
        self.card.capturing = True
        try:
            self.main.begin_capture()
            try:
                self.run(side_by_side=True)
            except BaseException:
                with contextlib.suppress(Exception):        # what stopped the step says more than what follows
                    self.main.end_capture()
                raise
            graph = self.main.end_capture()
            if any(pool.total_bytes() < before for pool, before in zip(self.pools, held)):
                raise Uncapturable("the card's memory is nearly full, and some that was recorded was given back")
            return graph
        except Exception as reason:
            if str(reason) not in self.card.told:
                self.card.told.add(str(reason))
                print(f"minirewind: this work cannot be recorded as a CUDA graph ({reason}); it runs launch by launch "
                      "instead, which is slower", file=sys.stderr)
            return None
        finally:
            self.card.capturing = False
