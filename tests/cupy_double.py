"""A stand-in for CuPy, for machines without a card: as strict as CuPy, and it can record and replay.

Its arrays hold NumPy memory, but NumPy cannot have it: every mixture of an array of the "device" with one of the host
is a TypeError, as it is in CuPy, unless it goes through asarray() or .get(). While a stream is being recorded, whatever
would have to wait for the device is an error, as in CUDA, nothing that is computed stays, and `Graph.launch` does it
all again, with the same arrays. Kernels run on the emulated device.
"""

import contextlib
import operator
import types
import weakref

import numpy as np

from minirewind.kernels.gpu.emulator import Module


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


alive = weakref.WeakSet()           # the arrays that own their memory
recording = None                    # the calls of the graph being recorded
launches = []                       # what was launched, by name


def strictly(value):
    """The NumPy memory behind a device array; an array of the host is refused."""
    if isinstance(value, ndarray):
        return value.a
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(strictly(v) for v in value)
    return value


def no_waiting():
    if recording is not None:
        raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")


def wrapped(result, owner=None):
    array = ndarray.__new__(ndarray)
    array.a = result
    array.base = owner
    if owner is None:
        alive.add(array)
    return array


def call(function, *arguments, **settings):
    """One operation: its result is a view of an input, or new memory, into which a replay will write again."""
    plain, named = strictly(arguments), {k: strictly(v) for k, v in settings.items()}
    result = function(*plain, **named)
    if isinstance(result, (tuple, list)):
        return type(result)(settle(r, arguments) for r in result)
    result = settle(result, arguments)
    if recording is not None and isinstance(result, ndarray) and result.base is None:
        def again():
            result.a[...] = function(*plain, **named)
        recording.append(again)
    return result


def settle(result, arguments):
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    flat = [a for each in arguments for a in (each if isinstance(each, (tuple, list)) else (each,))]
    owner = next((a for a in flat if isinstance(a, ndarray) and result.size and np.may_share_memory(a.a, result)), None)
    return wrapped(result, owner if owner is None or owner.base is None else owner.base)


def change(function):
    """Something done in place."""
    function()
    if recording is not None:
        recording.append(function)


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

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
                        "array explicitly.")

    def get(self):
        no_waiting()
        return self.a.copy()

    def __float__(self): return float(self.get())
    def __int__(self): return int(self.get())
    def __bool__(self): return bool(self.get())
    def __index__(self): return operator.index(self.get().item())
    def __len__(self): return len(self.a)
    def __getitem__(self, index): return call(lambda a, i: a[i], self, index)

    def __setitem__(self, index, value):
        index, value = strictly(index), strictly(value)
        change(lambda: self.a.__setitem__(index, value))

    def fill(self, value):
        change(lambda: self.a.fill(value))


def method(name):
    return lambda self, *arguments, **settings: call(
        lambda a, *rest, **named: getattr(a, name)(*rest, **named), self, *arguments, **settings)


def binary(function, swapped=False):
    return lambda self, other: call(function, *((other, self) if swapped else (self, other)))


def unary(function):
    return lambda self: call(function, self)


def in_place(function):
    def update(self, other):
        other = strictly(other)
        change(lambda: function(self.a, other))
        return self
    return update


for name in ("copy", "astype", "reshape", "transpose", "swapaxes", "sum", "mean", "max", "min", "all", "any", "argmax",
             "take", "ravel"):
    setattr(ndarray, name, method(name))
for name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "matmul", "and", "or"):
    function = getattr(operator, {"and": "and_", "or": "or_"}.get(name, name))
    setattr(ndarray, f"__{name}__", binary(function))
    setattr(ndarray, f"__r{name}__", binary(function, swapped=True))
for name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{name}__", binary(getattr(operator, name)))
for name in ("iadd", "isub", "imul", "itruediv"):
    setattr(ndarray, f"__{name}__", in_place(getattr(operator, name)))
for name in ("neg", "invert", "abs"):
    setattr(ndarray, f"__{name}__", unary(getattr(operator, name)))


class RawModule:
    def __init__(self, code, options=()):
        self.module = Module(code)

    def get_function(self, name):
        kernel = self.module.get_function(name)

        def launch(grid, block, arguments):
            for argument in arguments:
                assert isinstance(argument, (ndarray, np.generic)), f"{name}: {argument!r} would be passed unchecked"
            plain = strictly(tuple(arguments))
            launches.append(name)
            change(lambda: kernel(grid, block, plain))
        return launch


class Graph:
    def __init__(self, calls):
        self.calls = calls

    def launch(self, stream=None):
        launches.append("graph")
        for again in self.calls:
            again()


class Stream:
    def __init__(self, non_blocking=False):
        self.non_blocking = non_blocking

    def use(self):
        pass

    def begin_capture(self):
        global recording
        assert self.non_blocking
        recording = []
        self.before = [(array, array.a.copy()) for array in alive]

    def end_capture(self):
        """The graph; and all memory as it was, or full of nonsense where it is new: recording computes nothing."""
        global recording
        calls, recording = recording, None
        kept = {id(array) for array, _ in self.before}
        for array, values in self.before:
            array.a[...] = values
        for array in alive:
            if id(array) not in kept:
                array.a.fill(np.nan if array.dtype.kind == "f" else 77)
        return Graph(calls)


class MemoryPool:
    def malloc(self, size):
        raise NotImplementedError


def asarray(data, dtype=None):
    if isinstance(data, ndarray):
        return data if dtype is None else data.astype(dtype, copy=False)
    no_waiting()
    return wrapped(np.array(data, dtype))


def __getattr__(name):
    """Every other function is NumPy's, on device arrays only."""
    if name.startswith("__") or not hasattr(np, name):
        raise AttributeError(name)
    function = getattr(np, name)
    if isinstance(function, type) or not callable(function):
        return function

    def strict(*arguments, **settings):
        if isinstance(function, np.ufunc) and "where" in settings:
            raise TypeError(f"{name}() got an unexpected keyword argument 'where'")
        return call(function, *arguments, **settings)
    return strict


runtime = types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1)
memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
cuda = types.SimpleNamespace(
    runtime=runtime, memory=memory, Stream=Stream, MemoryPool=MemoryPool,
    using_allocator=lambda allocator: contextlib.nullcontext(),
    Device=lambda: types.SimpleNamespace(compute_capability="90", synchronize=lambda: None))
