"""The autograd engine: Tensors, the operations on them, and backward().

A Tensor holds an array. An operation (a Function) turns arrays into an array and remembers its inputs, so the results
of a computation form a graph. `backward()` walks that graph from the result back to the leaves and hands every
Function the gradient of its output; the Function answers with the gradients of its inputs.

Functions know arrays and maths only. Everything else stands here once: broadcasting undone, gradients accumulated, the
order of the walk, the release of the graph.
"""

import contextlib
import contextvars
import copy
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import kernels
from .errors import Error

_grad_enabled = contextvars.ContextVar("grad_enabled", default=True)
_recording: contextvars.ContextVar[list["Call"] | None] = contextvars.ContextVar("recording", default=None)


class Tensor:
    """An n-dimensional array that knows how it was computed.

    Arrays keep their dtype; Python floats become float32 and integers int64, unless `dtype` says otherwise.
    `data` and `grad` are arrays of the device's backend, never Tensors.
    """

    __array_ufunc__ = None          # numpy_array * tensor asks the Tensor, not NumPy

    def __init__(self, data, requires_grad: bool = False, dtype=None, device: str = "cpu"):
        self.backend = kernels.backend(device)
        self.data = self.backend.asarray(_with_dtype(data, dtype))
        self.grad: Any = None
        self.function: Function | None = None       # what computed this Tensor; None for a leaf
        self.requires_grad = requires_grad
        self.device = device
        if requires_grad and self.data.dtype.kind != "f":
            raise Error(f"only floating-point tensors have gradients, this one is {self.dtype}; try dtype=np.float32")

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    dtype = property(lambda self: self.data.dtype)

    def numpy(self) -> np.ndarray:
        """A copy on the host, in C order."""
        return np.array(self.backend.to_host(self.data), order="C")

    def item(self) -> float:
        """The value of a tensor with one element, as a Python number."""
        if self.size != 1:
            raise Error(f"item: this tensor of shape {self.shape} has {self.size} elements, expected one")
        return self.numpy().item()

    def detach(self) -> "Tensor":
        """The same data, outside the graph."""
        return Tensor(self.data, device=self.device)

    def to(self, device: str) -> "Tensor":
        """A leaf with the same values on another device."""
        return Tensor(self.backend.to_host(self.data), self.requires_grad, device=device)

    def accumulate(self, gradient) -> None:
        """Add to `grad`: a tensor used several times, or in several backward passes, collects the sum."""
        self.grad = gradient.copy() if self.grad is None else self.grad + gradient

    def backward(self, grad=None) -> None:
        """Add the gradient of this tensor to the `grad` of every leaf that it was computed from.

        `grad` is the gradient of this tensor itself; a tensor with one element may leave it out, it is then 1.
        The graph is released on the way: a second call needs a second forward pass.
        """
        if not self.requires_grad:
            raise Error("backward: this tensor does not depend on any tensor with requires_grad=True")
        if grad is None:
            if self.size != 1:
                raise Error(f"backward: a tensor of shape {self.shape} needs a gradient of that shape; try .sum()")
            grad = 1
        grad = _array(grad)
        if grad.shape not in ((), self.shape):
            raise Error(f"backward: the gradient has shape {grad.shape}, this tensor {self.shape}")
        gradients = {id(self): self.backend.xp.broadcast_to(self.backend.asarray(grad, self.dtype), self.shape)}

        walk, arrived = topological_order(self)[::-1], []
        while walk:
            tensor = walk.pop()                     # what only the walk still holds is freed here
            gradient = gradients.pop(id(tensor))
            if tensor.function is None:
                arrived.append((tensor, gradient))
                continue
            inputs = tensor.function.inputs
            for x, dx in zip(inputs, tensor.function.input_gradients(gradient)):
                if x.requires_grad:
                    gradients[id(x)] = self.backend.add(gradients[id(x)], dx) if id(x) in gradients else dx
            tensor.function.release()
        self.backend.accumulate(arrived)

    def __deepcopy__(self, memo):
        if self.function is not None:
            raise Error("deepcopy: this tensor was computed from others; copy .detach() instead")
        twin = copy.copy(self)
        twin.data, twin.grad = self.data.copy(), None if self.grad is None else self.grad.copy()
        memo[id(self)] = twin
        return twin

    def __repr__(self) -> str:
        tail = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(self.numpy(), precision=4, separator=', ', prefix='Tensor(')}{tail})"

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a tensor without dimensions has no length")
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __add__(self, other): return Add.apply(*_pair("add", self, other))
    def __sub__(self, other): return Sub.apply(*_pair("sub", self, other))
    def __mul__(self, other): return Mul.apply(*_pair("mul", self, other))
    def __truediv__(self, other): return Div.apply(*_pair("div", self, other, inexact=True))
    def __pow__(self, other): return Pow.apply(*_pair("pow", self, other))
    def __matmul__(self, other): return matmul(self, other)
    def __radd__(self, other): return Add.apply(*_pair("add", other, self))
    def __rsub__(self, other): return Sub.apply(*_pair("sub", other, self))
    def __rmul__(self, other): return Mul.apply(*_pair("mul", other, self))
    def __rtruediv__(self, other): return Div.apply(*_pair("div", other, self, inexact=True))
    def __rpow__(self, other): return Pow.apply(*_pair("pow", other, self))
    def __rmatmul__(self, other): return matmul(other, self)
    def __neg__(self): return Neg.apply(self)
    def __getitem__(self, index): return GetItem.apply(self, index=_plain_index(index, self.backend))

    def exp(self): return Exp.apply(floating(self))
    def log(self): return Log.apply(floating(self))
    def sqrt(self): return Sqrt.apply(floating(self))
    def sum(self, dim=None, keepdim=False): return Sum.apply(self, dim=_dims(self, dim), keepdim=keepdim)
    def mean(self, dim=None, keepdim=False): return mean(self, dim, keepdim)
    def amax(self, dim=None, keepdim=False): return amax(self, dim, keepdim)
    def reshape(self, *shape): return reshape(self, *shape)
    def permute(self, *dims): return permute(self, *dims)
    def transpose(self, dim0, dim1): return transpose(self, dim0, dim1)
    def flatten(self, start_dim=0, end_dim=-1): return flatten(self, start_dim, end_dim)
    T = property(lambda self: permute(self, tuple(range(self.ndim))[::-1]))


# ---------------------------------------------------------------------------------------------------------- the engine


class Function:
    """One differentiable operation.

    `forward(*arrays, **settings)` returns an array and keeps on `self` what `backward` will need; `backward(dz)` gets
    the gradient of that array and returns one gradient per input (None where there is none). `self.backend` is the
    device's backend, `self.xp` its array module, and `self.needs[i]` says whether input i wants its gradient.
    A gradient may still have the shape of the broadcast result: the engine sums it back.
    """

    inputs: Any = ()

    def forward(self, *arrays, **settings):
        raise NotImplementedError(f"{type(self).__name__} has no forward yet")

    def backward(self, dz):
        raise NotImplementedError(f"{type(self).__name__} has no backward yet")

    @classmethod
    def apply(cls, *inputs, **settings) -> Tensor:
        """Run `forward` on the inputs' arrays; the result remembers this Function if a gradient may be asked for."""
        device = next((x.device for x in inputs if isinstance(x, Tensor)), "cpu")
        inputs = tuple(x if isinstance(x, Tensor) else Tensor(x, device=device) for x in inputs)
        for x in inputs:
            if x.device != device:
                raise Error(f"{cls.__name__}: inputs lie on {device!r} and on {x.device!r}; move one with .to(device)")
        function = cls()
        function.backend = inputs[0].backend
        function.xp = function.backend.xp
        function.needs = tuple(x.requires_grad and _grad_enabled.get() for x in inputs)
        output = Tensor(function.forward(*(x.data for x in inputs), **settings), device=device)
        if any(function.needs):
            function.inputs = inputs
            output.function = function
            output.requires_grad = True
        calls = _recording.get()
        if calls is not None:
            calls.append(Call(cls, inputs, output, settings))
        return output

    backend: Any
    xp: Any
    needs: tuple[bool, ...]

    def input_gradients(self, dz) -> list:
        """backward(dz), each gradient brought to the shape and dtype of its input."""
        gradients = self.backward(dz)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        name = type(self).__name__
        if len(gradients) != len(self.inputs):
            raise Error(f"{name}.backward returned {len(gradients)} gradients for {len(self.inputs)} inputs")
        result = []
        for x, dx in zip(self.inputs, gradients):
            if not x.requires_grad:
                dx = None
            elif dx is None:
                raise Error(f"{name}.backward returned None for an input of shape {x.shape} that needs its gradient")
            else:
                dx = unbroadcast(self.xp.asarray(dx, x.dtype), x.shape)
                if dx.shape != x.shape:
                    raise Error(f"{name}.backward returned a gradient of shape {dx.shape} for an input {x.shape}")
            result.append(dx)
        return result

    def release(self) -> None:
        """Forget the inputs and everything `forward` kept: memory is freed while backward() is still walking."""
        vars(self).clear()
        self.inputs = Released()


class Released:
    """In the place of a Function's inputs once backward() has passed it: a walk that comes here again is an Error."""

    def __iter__(self):
        raise Error("backward: this graph was already used and released by an earlier backward(); "
                    "run the forward pass again")


class Call(NamedTuple):
    """One operation that was performed: which Function, on what, with which settings, and what came out."""

    function: type[Function]
    inputs: tuple[Tensor, ...]
    output: Tensor
    settings: dict


def topological_order(root: Tensor) -> list[Tensor]:
    """Every tensor between `root` and its leaves, each before everything it was computed from.

    A tensor may hand its gradient on only when all the tensors that used it have handed it theirs: in a diamond, a
    depth-first walk without this order would visit its lower end twice, and each time with half the gradient. A
    stack of our own in place of recursion makes the depth of the graph a matter of memory only.
    """
    order: list[Tensor] = []
    seen: set[int] = set()
    stack = [(root, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            if tensor.function is not None:
                stack.extend((x, False) for x in tensor.function.inputs if x.requires_grad)
    return order[::-1]


def unbroadcast(gradient, shape):
    """Undo broadcasting: the gradient of an element that was repeated is the sum over its repetitions."""
    if gradient.shape == shape or gradient.ndim < len(shape):
        return gradient
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))      # dimensions put in front
    stretched = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    return gradient.sum(axis=stretched, keepdims=True) if stretched else gradient


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Inside, nothing is remembered for backward()."""
    token = _grad_enabled.set(False)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


@contextlib.contextmanager
def recording() -> Iterator[list[Call]]:
    """Gives a list that collects every operation performed inside, in order; also under no_grad()."""
    calls: list[Call] = []
    token = _recording.set(calls)
    try:
        yield calls
    finally:
        _recording.reset(token)


def gradcheck(function: Callable[..., Tensor], *tensors: Tensor, seed: int = 0, name: str = "") -> bool:
    """Compare backward() with central differences, along random directions; True, or an Error that shows both.

    For a random direction v and a random weighting w of the output, d/dh sum(w * f(x + h v)) at h = 0 must equal
    sum(gradient * v). The tensors must be float64: in float32 the differences themselves are too coarse.
    """
    name = name or getattr(function, "__name__", "function")
    generator = np.random.default_rng(seed)
    for tensor in tensors:
        if tensor.requires_grad and tensor.dtype != np.float64:
            raise Error(f"gradcheck: {name}: inputs must be float64, one is {tensor.dtype}")
    leaves = [Tensor(x.data.copy(), x.requires_grad, device=x.device) for x in tensors]
    output = function(*leaves)
    weighting = generator.standard_normal(output.shape)
    output.backward(weighting)

    def weighted_output(moved: int, step: np.ndarray) -> float:
        arrays = [x.numpy() + step if i == moved else x.numpy() for i, x in enumerate(tensors)]
        with no_grad():
            result = function(*(Tensor(a, device=x.device) for a, x in zip(arrays, tensors)))
        return float((result.numpy() * weighting).sum())

    h = 1e-6
    for i, leaf in enumerate(leaves):
        if not leaf.requires_grad:
            continue
        gradient = np.zeros(leaf.shape) if leaf.grad is None else leaf.backend.to_host(leaf.grad)
        for _ in range(3):
            direction = generator.standard_normal(leaf.shape)
            expected = (weighted_output(i, h * direction) - weighted_output(i, -h * direction)) / (2 * h)
            got = float((gradient * direction).sum())
            scale = max(abs(expected), abs(got), float(np.abs(gradient * direction).sum()), 1e-3)
            if not abs(got - expected) <= 1e-5 * scale < math.inf:
                raise Error(f"gradcheck: {name}: gradient of input {i}, shape {leaf.shape}, along a random direction:\n"
                            f"  got {got:.8g} from backward, expected {expected:.8g} from central differences\n"
                            f"  input {np.array2string(leaf.numpy().ravel()[:4], precision=4)}...")
    return True


# ------------------------------------------------------------------------------------------------------ the operations


class Add(Function):
    """z = x + y"""

    def forward(self, x, y):
        return x + y

    def backward(self, dz):
        return dz, dz


class Sub(Function):
    """z = x - y"""

    def forward(self, x, y):
        return x - y

    def backward(self, dz):
        return dz, -dz


class Mul(Function):
    """z = x * y"""

    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(self, dz):
        return dz * self.y, dz * self.x


class Div(Function):
    """z = x / y"""

    def forward(self, x, y):
        self.y, self.z = y, x / y
        return self.z

    def backward(self, dz):
        dx = dz / self.y
        return dx, -dx * self.z


class Neg(Function):
    """z = -x"""

    def forward(self, x):
        return -x

    def backward(self, dz):
        return -dz


class Pow(Function):
    """z = x ** y"""

    def forward(self, x, y):
        self.x, self.y, self.z = x, y, x ** y
        return self.z

    def backward(self, dz):
        dx = dy = None
        if self.needs[0]:                       # y x^(y-1), and 0 where y = 0, at x = 0 too
            dx = dz * self.xp.where(self.y == 0, 0, self.y * self.x ** self.xp.where(self.y == 0, 1, self.y - 1))
        if self.needs[1]:                       # x^y log x, and 0 where x^y is 0 for every small change of y
            flat = (self.x == 0) & (self.y >= 0)
            dy = dz * self.xp.where(flat, 0, self.z * self.xp.log(self.xp.where(flat, 1, self.x)))
        return dx, dy


class Exp(Function):
    """z = e ** x"""

    def forward(self, x):
        self.z = self.xp.exp(x)
        return self.z

    def backward(self, dz):
        return dz * self.z


class Log(Function):
    """z = log x"""

    def forward(self, x):
        self.x = x
        return self.xp.log(x)

    def backward(self, dz):
        return dz / self.x


class Sqrt(Function):
    """z = sqrt(x)"""

    def forward(self, x):
        self.z = self.xp.sqrt(x)
        return self.z

    def backward(self, dz):
        return dz / (2 * self.z)


class Sum(Function):
    """z = the sum over the dimensions `dim`"""

    def forward(self, x, dim, keepdim):
        self.shape, self.dim = x.shape, dim
        return x.sum(axis=dim, keepdims=keepdim)

    def backward(self, dz):
        return self.xp.broadcast_to(dz.reshape(_kept(self.shape, self.dim)), self.shape)


class Amax(Function):
    """z = the largest value over the dimensions `dim`; equal largest values share the gradient equally"""

    def forward(self, x, dim, keepdim):
        self.x, self.dim = x, dim
        z = x.max(axis=dim, keepdims=keepdim)
        self.z = z.reshape(_kept(x.shape, dim))
        return z

    def backward(self, dz):
        largest = self.x == self.z
        return largest * (dz.reshape(self.z.shape) / largest.sum(axis=self.dim, keepdims=True, dtype=dz.dtype))


class MatMul(Function):
    """z = x @ y over the last two dimensions, both at least 2-dimensional; the dimensions before them broadcast"""

    def forward(self, x, y):
        self.x, self.y = x, y
        return self.backend.matmul(x, y)

    def backward(self, dz):
        dx = self.backend.matmul(dz, self.y.swapaxes(-1, -2)) if self.needs[0] else None
        dy = self.backend.matmul(self.x.swapaxes(-1, -2), dz) if self.needs[1] else None
        return dx, dy


class Reshape(Function):
    """z = the same elements in C order, in another shape"""

    def forward(self, x, shape):
        self.shape = x.shape
        return x.reshape(shape)

    def backward(self, dz):
        return dz.reshape(self.shape)


class Permute(Function):
    """z = x with its dimensions in the order `dims`"""

    def forward(self, x, dims):
        self.dims = dims
        return x.transpose(dims)

    def backward(self, dz):
        back = tuple(self.dims.index(i) for i in range(len(self.dims)))
        return dz.transpose(back)


class GetItem(Function):
    """z = x[index]; where an element was taken several times its gradients add up"""

    def forward(self, x, index):
        self.shape, self.index = x.shape, index
        return x[index]

    def backward(self, dz):
        dx = self.xp.zeros(self.shape, dz.dtype)
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts):
            dx[self.index] = dz
        else:
            self.backend.add_at(dx, self.index, dz)
        return dx


class Concatenate(Function):
    """z = the inputs behind one another along `dim`"""

    def forward(self, *arrays, dim):
        self.dim = dim
        self.ends = np.cumsum([x.shape[dim] for x in arrays]).tolist()
        return self.xp.concatenate(arrays, axis=dim)

    def backward(self, dz):
        return tuple(self.xp.split(dz, self.ends[:-1], axis=self.dim))


class Pad(Function):
    """z = x with `value` around it; `widths` are (before, after) for every dimension, negative to cut off"""

    def forward(self, x, widths, value):
        self.shape = x.shape
        self.inner = tuple(slice(max(-before, 0), size - max(-after, 0))
                           for size, (before, after) in zip(x.shape, widths))
        self.outer = tuple(slice(max(before, 0), max(before, 0) + piece.stop - piece.start)
                           for piece, (before, _) in zip(self.inner, widths))
        z = self.xp.full([size + before + after for size, (before, after) in zip(x.shape, widths)], value, x.dtype)
        z[self.outer] = x[self.inner]
        return z

    def backward(self, dz):
        dx = self.xp.zeros(self.shape, dz.dtype)
        dx[self.inner] = dz[self.outer]
        return dx


# ----------------------------------------------------------------------------- operations that look at the shapes first


def mean(x: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """The mean over the dimensions `dim`, all of them by default."""
    x = floating(x)
    total = x.sum(dim, keepdim)
    return total / (x.size / total.size if total.size else 1.0)


def amax(x: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """The largest value over the dimensions `dim`, all of them by default."""
    dims = _dims(x, dim)
    if 0 in [x.shape[d] for d in dims]:
        raise Error(f"amax: shape {x.shape} has no elements along {dims}, and so no largest one")
    return Amax.apply(x, dim=dims, keepdim=keepdim)


def matmul(x, y) -> Tensor:
    """x @ y, as NumPy and PyTorch define it: vectors are rows on the left and columns on the right."""
    x, y = _pair("matmul", x, y, broadcast=False)
    if x.ndim == 0 or y.ndim == 0:
        raise Error(f"matmul: x has shape {x.shape} and y {y.shape}; both need at least one dimension")
    rows = reshape(x, (1, -1)) if x.ndim == 1 else x
    columns = reshape(y, (-1, 1)) if y.ndim == 1 else y
    if rows.shape[-1] != columns.shape[-2]:
        raise Error(f"matmul: x has shape {x.shape} and y {y.shape}; the last dimension of x must equal "
                    f"the {'first' if y.ndim == 1 else 'second last'} of y")
    _broadcast_shape("matmul", rows.shape[:-2], columns.shape[:-2])
    z = MatMul.apply(rows, columns)
    shape = z.shape
    if x.ndim == 1:
        shape = shape[:-2] + shape[-1:]
    if y.ndim == 1:
        shape = shape[:-1]
    return reshape(z, shape) if shape != z.shape else z


def reshape(x: Tensor, *shape) -> Tensor:
    """The same elements in another shape; one size may be -1, it follows from the others."""
    shape = _flat(shape)
    known = math.prod(size for size in shape if size != -1)
    fits = known != 0 and x.size % known == 0 if -1 in shape else known == x.size
    if not fits or shape.count(-1) > 1 or min(shape, default=0) < -1:
        raise Error(f"reshape: {x.size} elements of shape {x.shape} do not fit into {shape}")
    return Reshape.apply(x, shape=shape)


def permute(x: Tensor, *dims) -> Tensor:
    """The dimensions in another order."""
    dims = tuple(_dimension(d, x.ndim) for d in _flat(dims))
    if sorted(dims) != list(range(x.ndim)):
        raise Error(f"permute: {dims} is no order of the {x.ndim} dimensions of shape {x.shape}")
    return Permute.apply(x, dims=dims)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """x with two of its dimensions exchanged."""
    dim0, dim1 = _dimension(dim0, x.ndim), _dimension(dim1, x.ndim)
    if x.ndim == 0:
        return x
    dims = list(range(x.ndim))
    dims[dim0], dims[dim1] = dim1, dim0
    return Permute.apply(x, dims=tuple(dims))


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from start_dim to end_dim, both included, as one."""
    start, end = _dimension(start_dim, x.ndim), _dimension(end_dim, x.ndim)
    if x.ndim == 0:
        return reshape(x, (1,))
    if start > end:
        raise Error(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in shape {x.shape}")
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


# --------------------------------------------------------------------------------------------------- small conversions


def as_tensor(value, like: Tensor | None = None) -> Tensor:
    """`value` as a Tensor on the device of `like`; a plain number takes the dtype of `like`, if that can hold it."""
    if isinstance(value, Tensor):
        return value
    if like is None:
        return Tensor(value)
    kinds = {bool: "fiub", int: "fiu"}.get(type(value), "f")
    keeps = isinstance(value, (bool, int, float)) and like.dtype.kind in kinds
    return Tensor(value, dtype=like.dtype if keeps else None, device=like.device)


def floating(x) -> Tensor:
    """x itself, or its float32 version where it holds integers."""
    x = as_tensor(x)
    return x if x.dtype.kind == "f" else Tensor(x.data.astype(np.float32), device=x.device)


def beside_floats(*tensors: Tensor) -> list[Tensor]:
    """The tensors; beside a floating-point one, those that hold integers take its dtype."""
    dtype = next((x.dtype for x in tensors if x.dtype.kind == "f"), None)
    return [Tensor(x.data, dtype=dtype, device=x.device) if dtype and x.dtype.kind != "f" else x for x in tensors]


def _pair(name: str, x, y, inexact: bool = False, broadcast: bool = True) -> tuple[Tensor, Tensor]:
    """Two operands as Tensors that fit together."""
    x = as_tensor(x, like=y if isinstance(y, Tensor) else None)
    y = as_tensor(y, like=x)
    x, y = beside_floats(x, y)
    if inexact:
        x, y = floating(x), floating(y)
    if broadcast:
        _broadcast_shape(name, x.shape, y.shape)
    return x, y


def _broadcast_shape(name: str, x: tuple, y: tuple) -> None:
    if x != y and any(a != b and 1 not in (a, b) for a, b in zip(x[::-1], y[::-1])):
        raise Error(f"{name}: shapes {x} and {y} do not broadcast: sizes, compared from the right, must be equal or 1")


def _dims(x: Tensor, dim) -> tuple[int, ...]:
    dims = () if dim is None else tuple(_dimension(d, x.ndim) for d in (dim if np.iterable(dim) else (dim,)))
    if len(set(dims)) < len(dims):
        raise Error(f"dim={dim} names a dimension twice in shape {x.shape}")
    return dims[: x.ndim] or tuple(range(x.ndim))               # none named: all of them, as in PyTorch


def _dimension(dim: int, ndim: int) -> int:
    dim, count = operator.index(dim), max(ndim, 1)              # a tensor without dimensions may be told 0 or -1
    if not -count <= dim < count:
        raise Error(f"dimension {dim} does not exist: a tensor of {ndim} dimensions has {-count} to {count - 1}")
    return dim % count


def _kept(shape: tuple, dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction that keeps its dimensions, as ones."""
    return tuple(1 if i in dims else size for i, size in enumerate(shape))


def _flat(shape) -> tuple[int, ...]:
    return tuple(operator.index(n) for n in (shape[0] if len(shape) == 1 and np.iterable(shape[0]) else shape))


def _plain_index(index, backend):
    if isinstance(index, tuple):
        return tuple(_plain_index(i, backend) for i in index)
    if isinstance(index, Tensor):
        return index.data
    return backend.asarray(index) if isinstance(index, np.ndarray) else index


def _with_dtype(data, dtype):
    if isinstance(data, Tensor):
        data = data.data
    try:
        array = _array(data)
        numbers = array.dtype.kind in "biuf"
    except ValueError:                                          # NumPy's answer to rows of different lengths
        numbers = False
    if not numbers:
        raise Error(f"a tensor holds real numbers in a rectangular array; got {str(data)[:60]!r}")
    if dtype is None and not hasattr(data, "dtype") and array.dtype == np.float64:
        dtype = np.float32
    return array if dtype is None else array.astype(dtype, copy=False)


def _array(data):
    if isinstance(data, Tensor):
        return data.data
    own = hasattr(getattr(data, "dtype", None), "kind")         # NumPy's and CuPy's; PyTorch's is of another kind
    return data if own else np.asarray(data)
