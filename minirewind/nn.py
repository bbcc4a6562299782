"""Layers and modules: they own the parameters, functional does the maths.

A packed model is a handful of flat vectors: every parameter is a view into one long array of weights, and beside it lie
the momentum, the mask and the batch-norm statistics. Saving a run, rewinding it, updating and pruning it are each one
operation on vectors.
"""

import contextlib
import copy
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import functional, kernels
from .errors import Error, choose
from .kernels import hashing
from .tensor import Tensor

Initial = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


# ------------------------------------------------------------------------------------------------------ initial values


def truncated_normal(fan_in: int) -> Initial:
    """Normal, cut at two standard deviations, with variance 1 / fan_in after the cut (the paper's initialisation)."""
    deviation = math.sqrt(1 / fan_in) / 0.87962566103423978      # the cut leaves this share of the standard deviation

    def initial(generator, shape):
        x = generator.standard_normal(shape)
        while (outside := abs(x) > 2).any():
            x[outside] = generator.standard_normal(outside.sum())
        return deviation * x
    return initial


def normal(deviation: float) -> Initial:
    """Normal with this standard deviation."""
    return lambda generator, shape: deviation * generator.standard_normal(shape)


def constant(value) -> Initial:
    """This value, or this array of values."""
    return lambda generator, shape: np.broadcast_to(value, shape)


class Parameter(Tensor):
    """A Tensor that training changes.

    In a packed model `data`, `grad`, `mask` and `momentum` are views into the model's vectors; before that mask and
    momentum are None. Only `Vectors.set_mask` changes a mask. `prunable` says whether pruning may mask its entries, and
    may be set. `kept` counts the entries its mask keeps, `mask_version` the changes of the mask. `initial` is how
    `Module.initialise` fills it: with its own first values by default.
    """

    def __init__(self, data, prunable: bool = False, initial: Initial | None = None):
        super().__init__(data, requires_grad=True)
        self.initial = initial or constant(self.data.copy())
        self.prunable = prunable
        self.mask: Any = None
        self.momentum: Any = None
        self.mask_version = 0
        self.kept = self.size
        self._entries: tuple[int, Any] = (-1, None)

    @property
    def masked(self) -> bool:
        """Whether anything of it is pruned."""
        return self.kept < self.size

    def entries(self):
        """Where weights are left, for the sparse kernels; made anew when the mask has changed."""
        if self._entries[0] != self.mask_version:
            self._entries = self.mask_version, self.backend.sparse_entries(self.backend.to_host(self.mask))
        return self._entries[1]

    def fill(self, values) -> None:
        """Put these values in place; a masked weight stays 0."""
        self.data[...] = self.backend.asarray(values, self.dtype)
        if self.masked:
            self.data[~self.mask] = 0

    def accumulate(self, gradient) -> None:
        """Add to `grad`; a masked weight's gradient stays 0, whatever arrives, NaN included."""
        if self.momentum is None:
            super().accumulate(gradient)
        elif self.masked:
            self.grad += self.backend.xp.where(self.mask, gradient, 0)
        else:
            self.grad += gradient

    def __deepcopy__(self, memo):
        twin = super().__deepcopy__(memo)
        twin.grad = twin.mask = twin.momentum = None        # not the original's: packing the copy makes its own
        twin.kept, twin._entries = twin.size, (-1, None)
        return twin


class Buffer(Tensor):
    """What a layer learns by counting, not by gradients: a running mean or variance."""

    def __init__(self, data):
        super().__init__(data)
        self.first = self.data.copy()

    def fill(self, values) -> None:
        """Put these values in place."""
        self.data[...] = self.backend.asarray(values, self.dtype)


def _sizes(layer: str, *sizes: int) -> None:
    if not all(isinstance(size, (int, np.integer)) and size >= 1 for size in sizes):
        raise Error(f"{layer}{sizes}: expected sizes that are whole numbers from 1")


def _born(initial: Initial, *shape: int, prunable: bool = False) -> Parameter:
    """A parameter with its first values already in it (seed 0), so that a layer can be tried at once."""
    return Parameter(initial(np.random.default_rng(0), shape).astype(np.float32), prunable, initial)


# ------------------------------------------------------------------------------------------------------------- modules


def _inside(name: str, value, kind) -> Iterator[tuple[str, Any]]:
    """`value` if it is of this kind, or those in it if it is a list, tuple or dict: by name, name.0, name.key, ..."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _inside(f"{name}.{key}", item, kind)


class Module:
    """Something with parameters and a `forward`. Attributes that are Parameters, Buffers or Modules, or lists or dicts
    of them, are found by themselves, in the order they were set.
    """

    training = True
    vectors: "Vectors | None" = None      # of a packed model
    origin: dict[str, Any] | None = None  # what models.build made it from
    _clock: Any = None
    _name = ""

    def forward(self, x):
        raise NotImplementedError(f"{type(self).__name__} needs a forward(self, x)")

    def __call__(self, *inputs):
        return self.forward(*inputs)

    def _own(self, kind) -> Iterator[tuple[str, Any]]:
        """What this module itself has of a kind, by name, in the order of registration."""
        for name, value in vars(self).items():
            yield from _inside(name, value, kind)

    def named_modules(self, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, "Module"]]:
        """This module and all inside it, by dotted name, each once; a child may hold on to its parent."""
        seen = set() if seen is None else seen
        if id(self) not in seen:
            seen.add(id(self))
            yield prefix, self
            for name, child in self._own(Module):
                yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def _named(self, kind) -> Iterator[tuple[str, Any]]:
        seen = set()
        for prefix, module in self.named_modules():
            for name, value in module._own(kind):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield f"{prefix}.{name}" if prefix else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter by its dotted name, once, in the order of registration."""
        return self._named(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter, once, in the order of registration."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer by its dotted name."""
        return self._named(Buffer)

    def train(self, mode: bool = True) -> "Module":
        """Training mode: batch norm uses the batch's statistics, dropout drops."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """Evaluation mode: batch norm uses its running statistics, dropout does nothing."""
        return self.train(False)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode inside; afterwards every module has the mode it had."""
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    @property
    def clock(self):
        """Which seed, round and step this is: where a Dropout layer takes its randomness from. Set by train.train."""
        return self._clock

    @clock.setter
    def clock(self, clock) -> None:
        for name, module in self.named_modules():
            module._clock, module._name = clock, name

    def initialise(self, seed: int, round: int = 0) -> "Module":
        """Fill every parameter from its own random stream, keyed by (seed, round, name), and reset everything else.

        Batch-norm statistics start over, the momentum is zero, nothing is masked, the step is 0. Returns the model.
        """
        if seed < 0 or round < 0:
            raise Error(f"initialise: seed and round count from 0, got seed {seed} and round {round}")
        if self.vectors is not None:
            vectors = pack(self)
            vectors.step = 0
            vectors.momentum[...] = 0
            vectors.set_mask(np.ones(vectors.mask.shape, bool))
        for name, parameter in self.named_parameters():
            generator = np.random.default_rng([seed, round, *name.encode()])
            parameter.fill(parameter.backend.asarray(parameter.initial(generator, parameter.shape), parameter.dtype))
        for _, buffer in self.named_buffers():
            buffer.fill(buffer.first)
        return self

    def _entries(self) -> Iterator[tuple[str, Any]]:
        """Parameters and buffers in PyTorch's order; a shared one under each of its names."""
        for prefix, module in self.named_modules():
            for kind in (Parameter, Buffer):
                yield from ((f"{prefix}.{name}" if prefix else name, leaf) for name, leaf in module._own(kind))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and statistics by PyTorch's names, as NumPy arrays."""
        result: dict[str, np.ndarray] = {}
        for name, leaf in self._entries():
            result[name] = leaf.numpy()
            if name.endswith("running_var"):
                result[name.replace("running_var", "num_batches_tracked")] = np.array(0, np.int64)
        return result

    def load_state_dict(self, state: dict) -> None:
        """Take over the values of `state` (NumPy arrays, or anything NumPy can read). Masked weights stay 0.

        Every name must be known and present and every shape equal; otherwise nothing is changed.
        """
        own = dict(self._entries())
        given = {name: np.asarray(value) for name, value in state.items() if not name.endswith("num_batches_tracked")}
        for name in given:
            choose("parameter", name, own)
        for name, mine in own.items():
            if name not in given:
                raise Error(f"load_state_dict: {name!r} is missing; expected an array of shape {mine.shape}")
            if given[name].shape != mine.shape:
                raise Error(f"load_state_dict: {name!r} has shape {given[name].shape}, expected {mine.shape}")
            if given[name].dtype.kind not in "fiu":
                raise Error(f"load_state_dict: {name!r} holds {given[name].dtype}, expected numbers")
        for name, mine in own.items():
            mine.fill(mine.backend.asarray(given[name], mine.dtype))

    def to(self, device: str | None = None, dtype=None) -> "Module":
        """Move the model to a device, convert it to a dtype, or both; momentum, mask and step come along."""
        target = None if device is None else kernels.backend(device)
        if dtype is not None and np.dtype(dtype).kind != "f":
            raise Error(f"to: a model has a floating-point dtype, got {np.dtype(dtype)}; try np.float32 or np.float64")
        before = self.vectors
        self.vectors = None
        for _, leaf in self._named((Parameter, Buffer)):
            backend = target or leaf.backend
            leaf.data = backend.asarray(leaf.backend.to_host(leaf.data).astype(dtype or leaf.dtype))
            leaf.backend, leaf.device, leaf.grad = backend, device or leaf.device, None
            if isinstance(leaf, Parameter):
                leaf.mask = leaf.momentum = None
                leaf.kept, leaf._entries = leaf.size, (-1, None)
        if before is not None:
            pack(self).take(before)
        return self

    def __deepcopy__(self, memo):
        twin = copy.copy(self)
        memo[id(self)] = twin
        twin.__dict__ = {k: copy.deepcopy(v, memo) for k, v in vars(self).items() if k != "vectors"}
        if self.vectors is not None:
            pack(twin).take(self.vectors)
        return twin

    def extra_repr(self) -> str:
        """What stands between the parentheses of this layer's line."""
        return ""

    def __repr__(self) -> str:
        lines = []
        for name, module in self.named_modules():
            own = [parameter for _, parameter in module._own(Parameter)]
            if own or module.extra_repr():
                kind, shapes = f"{type(module).__name__}({module.extra_repr()})", " ".join(str(p.shape) for p in own)
                lines.append((name, kind, shapes, sum(p.size for p in own)))
        widths = [max((len(line[i]) for line in lines), default=0) for i in range(3)]
        body = [f"  {n:{widths[0]}}  {k:{widths[1]}}  {s:{widths[2]}}  {c:>9,}" for n, k, s, c in lines]
        total, prunable = (sum(p.size for p in self.parameters() if p.prunable or every) for every in (True, False))
        if not list(self._own(Module)):
            return f"{lines[0][1]}  {lines[0][2]}" if lines else f"{type(self).__name__}()"
        return "\n".join([f"{type(self).__name__}: {total:,} parameters, {prunable:,} of them prunable", *body])


class Sequential(Module):
    """Modules one after another; named "0", "1", ..."""

    def __init__(self, *modules: Module):
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise Error(f"Sequential: number {i} is a {type(module).__name__}, expected a Module; "
                            f"a function has one as nn.ReLU() or a class of your own")
            setattr(self, str(i), module)

    def forward(self, x):
        for _, module in self._own(Module):
            x = module(x)
        return x

    def __getitem__(self, i):
        chosen = [module for _, module in self._own(Module)][i]
        return Sequential(*chosen) if isinstance(i, slice) else chosen

    def __len__(self) -> int:
        return len(list(self._own(Module)))


class Linear(Module):
    """x (N, in_features) -> (N, out_features): x W^T + b"""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, initial: Initial | None = None):
        _sizes("Linear", in_features, out_features)
        self.weight = _born(initial or truncated_normal(in_features), out_features, in_features, prunable=True)
        self.bias = _born(constant(0), out_features) if bias else None

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


class Conv2d(Module):
    """x (N, in_channels, H, W) -> (N, out_channels, P, Q): filters slid over images"""

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, bias: bool = True):
        _sizes("Conv2d", in_channels, out_channels)
        size = functional._two("Conv2d: kernel_size", kernel_size, least=1)
        fan_in = in_channels * size[0] * size[1]
        self.weight = _born(truncated_normal(fan_in), out_channels, in_channels, *size, prunable=True)
        self.bias = _born(constant(0), out_channels) if bias else None
        self.stride, self.padding = stride, padding

    def forward(self, x):
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        K, C, *size = self.weight.shape
        kernel_size = size[0] if size[0] == size[1] else tuple(size)
        return f"{C}, {K}, {kernel_size}, stride={self.stride}, padding={self.padding}"


class BatchNorm2d(Module):
    """Every channel of x (N, C, H, W) normalised; also (N, C)."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        _sizes("BatchNorm2d", num_features)
        self.weight = _born(constant(1), num_features)
        self.bias = _born(constant(0), num_features)
        self.running_mean = Buffer(np.zeros(num_features, np.float32))
        self.running_var = Buffer(np.ones(num_features, np.float32))
        self.eps, self.momentum = eps, momentum

    def _settings(self) -> tuple:
        return (self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps)

    def forward(self, x):
        return functional.batch_norm(x, *self._settings())

    def add_relu(self, x, residual=None):
        """relu(self(x) + residual), in one operation."""
        return functional.batch_norm_add_relu(x, residual, *self._settings())

    def extra_repr(self) -> str:
        return f"{self.weight.size}"


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, x):
        return functional.relu(x)


class Softplus(Module):
    """A ReLU without a corner."""

    def forward(self, x):
        return functional.softplus(x)


class MaxPool2d(Module):
    """The largest value under each window."""

    def __init__(self, kernel_size, stride=None, padding=0):
        self.window = kernel_size, stride, padding

    def forward(self, x):
        return functional.max_pool2d(x, *self.window)


class AvgPool2d(Module):
    """The mean under each window."""

    def __init__(self, kernel_size, stride=None, padding=0):
        self.window = kernel_size, stride, padding

    def forward(self, x):
        return functional.avg_pool2d(x, *self.window)


class GlobalAvgPool2d(Module):
    """The mean of every map: (N, C, H, W) -> (N, C)."""

    def forward(self, x):
        return functional.global_avg_pool2d(x)


class Flatten(Module):
    """(N, C, H, W) -> (N, C * H * W)"""

    def forward(self, x):
        return x.flatten(1)


class Dropout(Module):
    """In training, zeros with probability p; which ones is a function of the clock and the layer's name.

    So a layer used twice in one step drops the same both times. Without a clock, in a loop of one's own, its calls are
    counted in place of the steps.
    """

    calls = 0

    def __init__(self, p: float = 0.5):
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return functional.dropout(x, self.p, False, key=0)
        c = self.clock
        where = (0, 0, 0, self.calls) if c is None else (c.seed, c.stream, c.round, int(c.step))
        self.calls += c is None
        key = int(hashing.hash_words(zlib.crc32(self._name.encode()), *where))
        return functional.dropout(x, self.p, self.training, key=key)

    def extra_repr(self) -> str:
        return f"p={self.p}"


# -------------------------------------------------------------------------------------------------------- flat vectors


class Layer(NamedTuple):
    """Where one parameter lies in the vectors: [start, stop)."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


def views(vector, shapes):
    """Arrays of these shapes that lie in `vector`, one after the other; they share its memory."""
    result, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        result.append(vector[start:stop].reshape(shape))
        start = stop
    return result


class Vectors:
    """A model as flat vectors. The parameters are views into them, so they are changed in place only.

    step        how many updates led here
    weights     all parameters, one after the other in the order of registration, each in its logical shape, C order
    gradients   beside them
    momentum    beside them; exactly 0 where masked
    mask        beside them, bool; False is pruned
    statistics  all buffers: running means and variances
    prunable    beside the weights, bool: which entries pruning may mask
    layers      name, shape, start and stop of every parameter
    """

    def __init__(self, model: Module):
        self._parameters = list(model.named_parameters())
        self._buffers = list(model.named_buffers())
        leaves = [p for _, p in self._parameters]
        if not leaves:
            raise Error(f"pack: {type(model).__name__} has no parameters; set nn.Parameter or layers as attributes")
        if len({(p.dtype, p.device) for p in leaves}) > 1:
            found = sorted({f"{p.dtype} on {p.device}" for p in leaves})
            raise Error(f"pack: the parameters must share dtype and device, found {', '.join(found)}")
        self.backend, dtype = leaves[0].backend, leaves[0].dtype
        xp = self.backend.xp
        self.step = 0
        self.weights = xp.concatenate([p.data.reshape(-1) for p in leaves])
        self.gradients = xp.zeros_like(self.weights)
        self.momentum = xp.zeros_like(self.weights)
        self.mask = xp.ones(self.weights.shape, bool)
        statistics = [b.data.reshape(-1) for _, b in self._buffers]
        self.statistics = xp.concatenate([xp.empty(0, dtype), *statistics], dtype=dtype)
        shapes = [p.shape for p in leaves]
        for name, vector in (("data", self.weights), ("grad", self.gradients), ("momentum", self.momentum),
                             ("mask", self.mask)):
            for p, view in zip(leaves, views(vector, shapes)):
                setattr(p, name, view)
        for (_, b), view in zip(self._buffers, views(self.statistics, [b.shape for _, b in self._buffers])):
            b.data = view
        layers, start = [], 0
        for name, p in self._parameters:
            p.kept = p.size
            layers.append(Layer(name, p.shape, start, start + p.size))
            start += p.size
        self.layers = tuple(layers)

    @property
    def prunable(self) -> np.ndarray:
        """Which entries pruning may mask: those of the parameters whose `prunable` is set."""
        return np.concatenate([np.full(p.size, p.prunable) for _, p in self._parameters])

    def trained(self) -> list[slice]:
        """Where the parameters lie whose requires_grad is set; neighbours are one slice."""
        parts: list[slice] = []
        for layer, (_, p) in zip(self.layers, self._parameters):
            if p.requires_grad:
                joins = parts and parts[-1].stop == layer.start
                parts.append(slice(parts.pop().start if joins else layer.start, layer.stop))
        return parts

    def set_mask(self, mask) -> None:
        """Put a mask in place: what it prunes becomes exactly 0, weight, momentum and gradient."""
        if mask.dtype != bool or mask.shape != self.mask.shape:
            raise Error(f"set_mask: the mask is {mask.dtype} {mask.shape}, expected bool {self.mask.shape}: "
                        f"one entry for every parameter, True is kept")
        old, new = self.backend.to_host(self.mask), self.backend.to_host(mask)
        for layer, (_, p) in zip(self.layers, self._parameters):
            p.mask_version += not np.array_equal(old[layer.start : layer.stop], new[layer.start : layer.stop])
            p.kept = int(new[layer.start : layer.stop].sum())
        self.backend.put(self.mask, mask)
        for vector in (self.weights, self.momentum, self.gradients):
            vector[~self.mask] = 0

    def take(self, other: "Vectors") -> None:
        """Take over another model's values, converted to this one's dtype and device."""
        self.step = other.step
        for mine, theirs in ((self.weights, other.weights), (self.momentum, other.momentum),
                             (self.statistics, other.statistics)):
            mine[...] = self.backend.asarray(other.backend.to_host(theirs), mine.dtype)
        self.set_mask(other.backend.to_host(other.mask))

    def check(self, model: Module) -> None:
        """An Error if the model's parameters are no longer the ones that were packed."""
        now = dict(model.named_parameters()) | dict(model.named_buffers())
        for name, leaf in (*self._parameters, *self._buffers):
            if now.pop(name, None) is not leaf:
                raise Error(f"the parameter {name!r} was replaced or shared after the model was packed; "
                            f"change values in place, model.{name}.data[...] = values, or build the model anew")
            homes = {"data": self.weights, "grad": self.gradients, "momentum": self.momentum, "mask": self.mask}
            if isinstance(leaf, Buffer):
                homes = {"data": self.statistics}
            for array, home in homes.items():
                if getattr(getattr(leaf, array), "base", None) is not home:
                    instead = ("set all masks at once: nn.pack(model).set_mask(mask)" if array == "mask" else
                               f"change values in place: model.{name}.{array}[...] = values")
                    raise Error(f"the array {array} of {name!r} was replaced after the model was packed; {instead}")
        if now:
            raise Error(f"the parameter {next(iter(now))!r} was added after the model was packed; build the model anew")


def pack(model: Module) -> Vectors:
    """Lay all parameters of a model into flat vectors, or check that those it already has still hold."""
    if model.vectors is None:
        model.vectors = Vectors(model)
    model.vectors.check(model)
    return model.vectors
