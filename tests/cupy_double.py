"""A stand-in for CuPy, for machines without a card: as strict as CuPy, and it can record and replay.

Its arrays hold NumPy memory, but NumPy cannot have it: every mixture of an array of the "device" with one of the host
is a TypeError, as it is in CuPy, unless it goes through asarray(), .set() or .get(). Kernels run on the emulated
device.

While a stream is being recorded, whatever would have to wait for the device is an error, as in CuPy, and so are the
libraries that cannot be recorded (cuBLAS: matmul and its like). Nothing that is computed stays: the graph holds the
operations, which stream each was asked for, and what that stream had waited for. `Graph.launch` does them all again,
with the same arrays, in an order drawn by lot among those that these dependencies allow. What would go wrong on a card
only now and then is refused: two operations that no dependency puts in order, of which one writes what the other
touches; a stream that nobody waits for; memory that does not belong to the graph and was freed.
"""

import collections
import contextlib
import operator
import random
import re
import types
import typing
import weakref

import numpy as np

from minirewind.kernels.gpu import sources
from minirewind.kernels.gpu.emulator import Module


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


alive = weakref.WeakSet()           # the arrays that own their memory
recording = None                    # the Recording that takes place
launches = []                       # what was launched, by name
copies = []                         # the sizes of the copies from the host
lay_out_anew = False                # whether results lie in C order, as CuPy's do, and not as their inputs, NumPy's way
allocators = [None]                 # the pool that new memory comes from, the last one; None: CuPy's own


class Operation:
    """Something recorded: how to do it again, on which stream, what it touches, and what was done before it."""

    def __init__(self, again, reads, writes):
        self.again, self.stream = again, Stream.current()
        self.reads, self.writes = ({id(owner(a)): owner(a) for a in arrays} for arrays in (reads, writes))
        known = self.stream.known
        known[self.stream] += 1
        self.number, self.before = known[self.stream], dict(known)

    def follows(self, other):
        return self.before.get(other.stream, 0) >= other.number


class Recording:
    def __init__(self, stream):
        self.stream, self.operations, self.streams, self.made = stream, [], {stream}, {}
        stream.known = collections.Counter()


def on_a_stream():
    """Nobody should be on CUDA's default stream: it waits for no other one, and none waits for it."""
    if Stream.current() is None:
        raise CUDARuntimeError("work on CUDA's default stream, beside everything else")


def record(again, reads=(), writes=()):
    """Note something that was just done, if a recording takes place."""
    on_a_stream()
    if recording is not None:
        if Stream.current() not in recording.streams:
            raise CUDARuntimeError("cudaErrorStreamCaptureImplicit: work on a stream that takes no part in the capture")
        recording.operations.append(Operation(again, reads, writes))


def owner(array):
    return array if array.base is None else array.base


def strictly(value):
    """The NumPy memory behind a device array; an array of the host is refused."""
    if isinstance(value, ndarray):
        return value.a
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(strictly(v) for v in value)
    return value


def no_waiting(what="synchronous API calls"):
    if recording is not None:
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


def wrapped(result, owner=None):
    array = ndarray.__new__(ndarray)
    array.a = result
    array.base = owner
    if owner is None:
        alive.add(array)
        array.pool = allocators[-1]
        if array.pool is not None:
            array.pool.bytes += result.nbytes
        if recording is not None:
            recording.made[id(array)] = array.pool
    return array


def inputs_of(values):
    flat = [a for each in values for a in (each if isinstance(each, (tuple, list)) else (each,))]
    return [a for a in flat if isinstance(a, ndarray)]


def call(function, *arguments, **settings):
    """One operation: its result is a view of an input, or new memory, into which a replay will write again."""
    plain, named = strictly(arguments), {k: strictly(v) for k, v in settings.items()}
    result = function(*plain, **named)
    if isinstance(result, (tuple, list)):
        return type(result)(settle(r, arguments) for r in result)
    result = settle(result, arguments)
    if isinstance(result, ndarray) and result.base is None:
        if lay_out_anew and function is not astype:
            result.a = np.asarray(result.a, order="C")
        memory = result.a                       # not the array: whoever drops that gives its memory back

        def again():
            memory[...] = function(*plain, **named)
        record(again, inputs_of((*arguments, *settings.values())), [result])
    return result


def settle(result, arguments):
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    owner = next((a for a in inputs_of(arguments) if result.size and np.may_share_memory(a.a, result)), None)
    return wrapped(result, owner if owner is None or owner.base is None else owner.base)


def change(function, writes, reads=()):
    """Something done in place."""
    function()
    record(function, reads, writes)


class ndarray:
    __array_ufunc__ = None
    __hash__ = object.__hash__
    shape = property(lambda self: self.a.shape)
    ndim = property(lambda self: self.a.ndim)
    size = property(lambda self: self.a.size)
    dtype = property(lambda self: self.a.dtype)
    strides = property(lambda self: self.a.strides)
    flags = property(lambda self: self.a.flags)
    T = property(lambda self: self.transpose())
    data = property(lambda self: types.SimpleNamespace(ptr=self.a.ctypes.data))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
                        "array explicitly.")

    def get(self):
        no_waiting("D2H transfers")
        on_a_stream()
        if not self.flags.c_contiguous:
            with Stream.current():          # where it is put into order; at the end CuPy forgets who was only used
                pass
        return self.a.copy()

    def __float__(self): return float(self.get())
    def __int__(self): return int(self.get())
    def __bool__(self): return bool(self.get())
    def __len__(self): return len(self.a)

    def __getitem__(self, index):
        if any(a.dtype == bool for a in inputs_of((index,))):
            no_waiting("boolean indices, whose results have a size that the device alone knows,")
        return call(lambda a, i: a[i], self, index)

    def __setitem__(self, index, value):
        plain, memory, new = strictly(index), self.a, strictly(value)
        change(lambda: memory.__setitem__(plain, new), [self], inputs_of((index, value)))

    def fill(self, value):
        memory, new = self.a, strictly(value)
        change(lambda: memory.fill(new), [self], inputs_of((value,)))

    def set(self, values):
        no_waiting("H2D transfers")
        on_a_stream()
        if not isinstance(values, np.ndarray) or values.dtype != self.dtype or values.shape != self.shape:
            raise TypeError(f"{values!r} cannot be set to {self.dtype} {self.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        copies.append(values.nbytes)
        self.a[...] = values


def astype(array, *arguments, **settings):
    return array.astype(*arguments, **settings)


def method(name):
    if name == "astype":
        return lambda self, *arguments, **settings: call(astype, self, *arguments, **settings)
    return lambda self, *arguments, **settings: call(
        lambda a, *rest, **named: getattr(a, name)(*rest, **named), self, *arguments, **settings)


def binary(function, swapped=False):
    return lambda self, other: call(function, *((other, self) if swapped else (self, other)))


def unary(function):
    return lambda self: call(function, self)


def in_place(function):
    def update(self, other):
        memory, plain = self.a, strictly(other)
        change(lambda: function(memory, plain), [self], [self, *inputs_of((other,))])
        return self
    return update


for name in ("copy", "astype", "reshape", "transpose", "swapaxes", "sum", "mean", "max", "min", "all", "any", "argmax",
             "take", "ravel"):
    setattr(ndarray, name, method(name))
for name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "and", "or"):
    function = getattr(operator, {"and": "and_", "or": "or_"}.get(name, name))
    setattr(ndarray, f"__{name}__", binary(function))
    setattr(ndarray, f"__r{name}__", binary(function, swapped=True))
ndarray.__matmul__ = lambda self, other: __getattr__("matmul")(self, other)
for name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{name}__", binary(getattr(operator, name)))
for name in ("iadd", "isub", "imul", "itruediv"):
    setattr(ndarray, f"__{name}__", in_place(getattr(operator, name)))
for name in ("neg", "invert", "abs"):
    setattr(ndarray, f"__{name}__", unary(getattr(operator, name)))


class RawModule:
    """Compiles as the real one is asked to; a launch is refused where a card would read other bytes than were meant."""

    def __init__(self, code, options=()):
        assert isinstance(code, str)
        assert all(isinstance(option, str) for option in options)
        self.module, self.signatures = Module(code), sources.signatures(code)

    def compile(self):
        """Done already."""

    def get_function(self, name):
        kernel, kinds = self.module.get_function(name), self.signatures[name]
        pointers = read_only(name, self.module.source)

        def launch(grid, block, arguments):
            assert isinstance(grid, tuple)
            assert isinstance(block, tuple)
            assert isinstance(arguments, tuple)
            if len(arguments) != len(kinds):
                raise TypeError(f"{name} takes {len(kinds)} arguments, got {len(arguments)}")
            for argument, kind in zip(arguments, kinds):
                if kind is None and not isinstance(argument, ndarray) and not (
                        isinstance(argument, np.uintp) and argument == 0):
                    raise TypeError(f"{name}: {argument!r} for a pointer")
                if kind is not None and (not isinstance(argument, np.generic) or argument.dtype != kind):
                    raise TypeError(f"{name}: {argument!r} for a {np.dtype(kind)}, and CuPy would not check it")
            wide, high, deep = (*grid, 1, 1)[:3]
            if not (0 < wide < 2**31 and 0 < high < 2**16 and 0 < deep < 2**16):
                raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: a grid of {grid}")
            plain = strictly(arguments)
            launches.append(name)
            reads = [a for a, constant in zip(arguments, pointers) if isinstance(a, ndarray) and constant]
            writes = [a for a, constant in zip(arguments, pointers) if isinstance(a, ndarray) and not constant]
            change(lambda: kernel(grid, block, plain), writes, [*reads, *writes])
        return launch


def read_only(name, source):
    """Which arguments of a kernel are const."""
    found = re.search(rf"__global__ void[^;{{]*?\b{name}\(([^)]*)\)\s*{{", re.sub(r"//[^\n]*", "", source))
    return ["const" in argument for argument in found[1].split(",")]


class Graph:
    """Recorded operations, which are done again by `launch`."""

    lots = random.Random(0)

    def __init__(self, recorded):
        self.queues = collections.defaultdict(list)
        for operation in recorded.operations:
            self.queues[operation.stream].append(operation)
        self.refuse_races(recorded.operations)
        self.pools = {id(pool): weakref.ref(pool) for pool in recorded.made.values() if pool is not None}
        used = {key: array for each in recorded.operations for key, array in (each.reads | each.writes).items()}
        self.needed = [weakref.ref(array) for key, array in used.items() if recorded.made.get(key) is None]
        for operation in recorded.operations:
            operation.reads = operation.writes = None       # or the graph itself would keep alive what it must not

    @staticmethod
    def refuse_races(operations):
        """Two operations without an order between them, and one writes where the other reads or writes."""
        touched = collections.defaultdict(list)
        for operation in operations:
            for key in operation.reads | operation.writes:
                touched[key].append(operation)
        for key, each in touched.items():
            writers = [operation for operation in each if key in operation.writes]
            for one in writers:
                for two in each:
                    if one is not two and not (one.follows(two) or two.follows(one)):
                        raise CUDARuntimeError("a race: two streams use the same memory in no order")

    def launch(self, stream=None):
        launches.append("graph")
        if any(array() is None for array in self.needed) or any(pool() is None for pool in self.pools.values()):
            raise CUDARuntimeError("cudaErrorIllegalAddress: the graph uses memory that has been given back")
        done, waiting = collections.Counter(), {s: list(each) for s, each in self.queues.items()}
        while waiting:
            ready = [s for s, each in waiting.items() if all(
                done[other] >= count for other, count in each[0].before.items() if other is not s)]
            chosen = self.lots.choice(ready)
            waiting[chosen].pop(0).again()
            done[chosen] += 1
            if not waiting[chosen]:
                del waiting[chosen]


class Event:
    pass


class Stream:
    entered: typing.ClassVar[list] = []         # whose `with` has begun and not ended
    now: typing.ClassVar = None                 # the current one; None: CUDA's default stream

    def __init__(self, non_blocking=False):
        self.non_blocking, self.known = non_blocking, collections.Counter()

    @classmethod
    def current(cls):
        return cls.now

    def use(self):
        Stream.now = self

    def __enter__(self):
        Stream.entered.append(self)
        Stream.now = self
        return self

    def __exit__(self, *_):
        """Back to the one entered before: whoever was only used is forgotten, as CuPy's tests say."""
        Stream.entered.pop()
        Stream.now = Stream.entered[-1] if Stream.entered else None

    def record(self):
        event = Event()
        event.known = None if recording is None or self not in recording.streams else self.known.copy()
        return event

    def wait_event(self, event):
        if recording is None:
            return
        if event.known is None:
            raise CUDARuntimeError("cudaErrorStreamCaptureIsolation: a capture waits for an event from outside it")
        if self not in recording.streams:
            recording.streams.add(self)
            self.known = collections.Counter()
        self.known |= event.known               # the larger count of each

    def begin_capture(self):
        global recording
        assert self.non_blocking, "cannot capture on the default stream"
        self.before = [(array, array.a.copy()) for array in alive]
        recording = Recording(self)

    def end_capture(self):
        """The graph; and all memory as it was, or full of nonsense where it is new: recording computes nothing."""
        global recording
        recorded, recording = recording, None
        for array, values in self.before:
            array.a[...] = values
        self.before = None
        for array in alive:
            if id(array) in recorded.made:
                array.a.fill(np.nan if array.dtype.kind == "f" else 77)
        for operation in recorded.operations:
            if self.known[operation.stream] < operation.number:
                raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined: a stream that the first one did not wait for")
        return Graph(recorded)


class MemoryPool:
    """Nothing is used twice, but the sums are right."""

    lost = 0                    # the bytes that lay free in pools when they were dropped: CuPy 14 never gives them back

    def __init__(self):
        self.bytes = 0

    def malloc(self, size):
        raise NotImplementedError

    def total_bytes(self):
        return self.bytes

    def used_bytes(self):
        return sum(array.a.nbytes for array in alive if array.pool is self)

    def free_all_blocks(self):
        self.bytes = self.used_bytes()

    def __del__(self):
        MemoryPool.lost += self.bytes


@contextlib.contextmanager
def using_allocator(malloc):
    allocators.append(malloc.__self__)
    try:
        yield
    finally:
        allocators.pop()


def asarray(data, dtype=None):
    if isinstance(data, ndarray):
        return data if dtype is None else data.astype(dtype, copy=False)
    no_waiting("H2D transfers")
    on_a_stream()
    array = wrapped(np.array(data, dtype))
    copies.append(array.a.nbytes)
    return array


CUBLAS = ("matmul", "dot", "tensordot", "inner", "outer", "einsum", "vdot")
WAITING = ("nonzero", "unique", "flatnonzero", "argwhere", "array_equal", "allclose")


def __getattr__(name):
    """Every other function is NumPy's, on device arrays only."""
    if name.startswith("__") or not hasattr(np, name):
        raise AttributeError(name)
    function = getattr(np, name)
    if isinstance(function, type) or not callable(function):
        return function

    def strict(*arguments, **settings):
        if name in CUBLAS and recording is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        if name in WAITING:
            no_waiting()
        if isinstance(function, np.ufunc) and "where" in settings:
            raise TypeError(f"{name}() got an unexpected keyword argument 'where'")
        return call(function, *arguments, **settings)

    def at(*_):
        raise TypeError(f"{name}.at adds by atomic operations: no two runs need have the same bits")

    strict.at = at
    return strict


runtime = types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1,
                                runtimeGetVersion=lambda: 13000)
memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
cuda = types.SimpleNamespace(
    runtime=runtime, memory=memory, Stream=Stream, get_current_stream=Stream.current, MemoryPool=MemoryPool,
    using_allocator=using_allocator,
    Device=lambda: types.SimpleNamespace(compute_capability="90", synchronize=no_waiting))
