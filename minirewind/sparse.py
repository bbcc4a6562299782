"""The pruned network as a fast program and as a small file.

A framework runs a network operation by operation, as Python calls them. Once training is over that can be done better:
`compile` watches one evaluation pass, takes down the list of its operations, and makes a program of that list in which
batch norm, residual addition and ReLU are part of the convolution before them and pruned weights are left out.

`save` writes the network without its pruned weights: one bit per weight says whether it is kept, and only the kept ones
follow. `load` builds the network again.
"""

import collections
import inspect
import io
import itertools
import json
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import files, functional, kernels, models, nn, tensor
from .errors import Error
from .kernels.maps import Filter, Segment
from .tensor import Call, Function, Tensor

THIN = 0.3      # below this share of multiplications left flat maps are faster for many images too (ResNet-20, AVX2)
FEW = 4         # up to so many images are taken one by one, their maps flat; more of them side by side
SLICE = 128     # images at a time, so that memory does not grow with their number

KNOWN = (
    tensor.Add, tensor.Sub, tensor.Mul, tensor.Div, tensor.Neg, tensor.Pow, tensor.Exp, tensor.Log, tensor.Sqrt,
    tensor.Sum, tensor.Amax, tensor.MatMul, tensor.Reshape, tensor.Permute, tensor.GetItem, tensor.Concatenate,
    tensor.Pad, functional.ReLU, functional.Sigmoid, functional.Tanh, functional.Softplus, functional.Linear,
    functional.Conv2d, functional.MaxPool2d, functional.AvgPool2d, functional.BatchNorm, functional.LogSoftmax,
)


# --------------------------------------------------------------------------------------- what one pass over images does


class Operation(NamedTuple):
    """One operation of a network: what it reads (values by number, constants as arrays) and which value it makes."""

    function: type[Function]
    inputs: tuple
    settings: dict
    output: int

    def values(self) -> list[int]:
        """The values that it reads."""
        return [x for x in self.inputs if isinstance(x, int)]


class Graph(NamedTuple):
    """A network as the list of its operations, for any number of images; value 0 is the images."""

    operations: list[Operation]
    output: int
    shapes: list[tuple[int, ...]]       # of each value, without the axis of the images
    dtype: np.dtype
    backend: Any


def trace(model: nn.Module, example) -> Graph:
    """The operations that `model` performs in evaluation on images like `example` (N, ...).

    The pass is made twice, the second time with one image more: what differs between the two depends on the number of
    images, and must be the first axis and nothing else. Branches that depend on the images' values are not seen.
    """
    leaf = next(model.parameters(), None)
    dtype, device = (leaf.dtype, leaf.device) if leaf is not None else (np.dtype(np.float32), "cpu")
    example = np.asarray(example, dtype)
    if example.ndim < 2 or not len(example):
        raise Error(f"compile: the example has shape {example.shape}; expected a batch of images, (N, C, H, W)")
    x, y = (Tensor(a, device=device) for a in (example, np.concatenate([example, example[:1]])))
    with model.evaluating():
        calls, output = recorded(model, x)
        more, _ = recorded(model, y)
    if [call.function for call in calls] != [call.function for call in more]:
        raise Error("compile: the network performs other operations for another number of images")

    numbers, shapes, operations = {id(x): 0}, [example.shape[1:]], []
    for call, other in zip(calls, more):
        inputs = tuple(numbers.get(id(a), a) for a in call.inputs)
        if not any(isinstance(a, int) for a in inputs):
            continue                                                            # made of constants: a constant itself
        check(call, other, len(example))
        constants = tuple(a if isinstance(a, int) else constant(call, a, b) for a, b in zip(inputs, other.inputs))
        numbers[id(call.output)] = len(shapes)
        operations.append(Operation(call.function, constants, fixed(call), len(shapes)))
        shapes.append(call.output.shape[1:])
    if id(output) not in numbers:
        raise Error("compile: the result does not depend on the images by operations of minirewind")
    backend = kernels.backend("reference" if device == "reference" else "cpu")
    return Graph(operations, numbers[id(output)], shapes, dtype, backend)


def recorded(model: nn.Module, x: Tensor) -> tuple[list[Call], Tensor]:
    """The operations of one pass, and its result."""
    with tensor.no_grad(), tensor.recording() as calls:
        output = model(x)
    if not isinstance(output, Tensor):
        raise Error(f"compile: the network returned a {type(output).__name__}, expected one Tensor")
    return [dense(call) for call in calls], output


def dense(call: Call) -> Call:
    """A layer that the model itself took as sparse, which may depend on the number of images, as any other."""
    function = {functional.SparseConv2d: functional.Conv2d,
                functional.SparseLinear: functional.Linear}.get(call.function)
    if function is None:
        return call
    settings = {name: value for name, value in call.settings.items() if name != "entries"}
    return call._replace(function=function, settings=settings)


def check(call: Call, other: Call, count: int) -> None:
    """An Error unless this operation is known, and does to each image the same whatever the number of images."""
    name = call.function.__name__
    if call.function not in KNOWN:
        raise Error(f"compile: the operation {name} is not known; "
                    f"known are {', '.join(sorted(function.__name__ for function in KNOWN))}")
    shape = call.output.shape
    if shape[:1] != (count,) or other.output.shape != (count + 1, *shape[1:]):
        raise Error(f"compile: {name} makes shape {shape} of {count} images and {other.output.shape} of {count + 1}; "
                    f"the first axis must be the images, and no other may depend on them")
    if call.settings.get("training"):
        raise Error("compile: a batch_norm normalises by the batch even in evaluation (training=True)")
    parts = call.settings.get("index", ())
    parts = parts if isinstance(parts, tuple) else (parts,)
    for part in parts:
        if not (part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice))):
            raise Error("compile: GetItem with an array as its index is not known; numbers and slices are")
    dims, ndim = call.settings.get("dim"), call.inputs[0].ndim
    dims = dims if isinstance(dims, tuple) else () if dims is None else (dims,)
    if not takes_every_image(parts, ndim) or any(dim % ndim == 0 for dim in dims):
        raise Error(f"compile: {name} mixes or selects images; each result must depend on its own image only")


def takes_every_image(parts, ndim: int) -> bool:
    """Whether an index leaves the first of `ndim` axes as it is."""
    named = [part for part in parts if part is not None]
    if sum(part is not Ellipsis for part in named) == ndim:                             # "..." stands for no axis
        named = [part for part in named if part is not Ellipsis]
    first = named[0] if named else Ellipsis
    return first is Ellipsis or (isinstance(first, slice) and first.indices(sys.maxsize) == (0, sys.maxsize, 1))


def constant(call: Call, a: Tensor, b: Tensor) -> np.ndarray:
    """A copy of the values of `a`, which must not depend on the images."""
    if a is not b and not np.array_equal(a.numpy(), b.numpy(), equal_nan=a.dtype.kind == "f"):
        raise Error(f"compile: an input of {call.function.__name__} depends on the images in a way that was not "
                    f"recorded; expected operations of minirewind from the images to the result")
    return a.numpy()


def fixed(call: Call) -> dict:
    """The settings of an operation, with the number of images left free and arrays that may change copied."""
    to_host = call.output.backend.to_host
    settings = {name: np.array(to_host(value)) if hasattr(value, "dtype") else value
                for name, value in call.settings.items()}
    if call.function is tensor.Reshape:
        settings["shape"] = (-1, *call.output.shape[1:])
    return settings


# ------------------------------------------------------------------------------------------------------------- folding


def fold(graph: Graph) -> list[Operation | Filter]:
    """The operations, with convolutions as Filters that take in the batch norm, addition and ReLU behind them.

    A convolution may take in the operation that reads its result if nothing else does. It then stands at that
    operation's place, where a residual is there already.
    """
    uses = collections.Counter(value for operation in graph.operations for value in operation.values())
    uses[graph.output] += 1
    made: dict[int, Operation | Filter] = {}
    for operation in graph.operations:
        made[operation.output] = as_filter(operation)
        for x in operation.values():
            before = made.get(x)
            if isinstance(before, Filter) and uses[x] == 1 and not before.relu:
                joined = absorb(before, operation, graph.shapes)
                if joined is not None:
                    del made[x]
                    made[operation.output] = joined
                    break
    return list(made.values())


def as_filter(operation: Operation) -> Operation | Filter:
    """A convolution with constant filters as a Filter, anything else as it is."""
    x, *constants = operation.inputs
    if operation.function is not functional.Conv2d or not all(isinstance(c, np.ndarray) for c in constants):
        return operation
    weight = constants[0]
    bias = constants[1] if len(constants) > 1 else np.zeros(len(weight), weight.dtype)
    return Filter(x, weight, bias, **operation.settings, residual=None, relu=False, output=operation.output)


def absorb(f: Filter, operation: Operation, shapes) -> Filter | None:
    """The convolution with the operation behind it taken in; None where that is not possible."""
    kind, x, output = operation.function, f.output, operation.output
    if kind is functional.ReLU:
        return f._replace(relu=True, output=output)
    if kind is tensor.Add and f.residual is None:
        others = [value for value in operation.values() if value != x]                  # none: a constant is added
        if others and shapes[others[0]] == shapes[x]:
            return f._replace(residual=others[0], output=output)
    if kind is functional.BatchNorm and f.residual is None:
        normalised, weight, bias, *residual = operation.inputs
        if (isinstance(normalised, int) and normalised == x and all(isinstance(r, int) for r in residual)
                and all(isinstance(c, np.ndarray) for c in (weight, bias))):
            settings = operation.settings
            scale = weight / np.sqrt(settings["running_var"] + weight.dtype.type(settings["eps"]))
            return f._replace(weight=f.weight * scale[:, None, None, None],
                              bias=(f.bias - settings["running_mean"]) * scale + bias,
                              residual=residual[0] if residual else None,
                              relu=settings.get("relu", False), output=output)
    return None


# ------------------------------------------------------------------------------------------------------------- program


class Step(NamedTuple):
    """Run a function on some values; it returns a list of others. `done` are read here for the last time."""

    run: Callable
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    done: tuple[int, ...] = ()


def compile(model: nn.Module, example) -> Callable[[np.ndarray], np.ndarray]:
    """`model` in evaluation as a fast function from images (N, C, H, W) to results, for any N.

    `example` is a batch like those to come; the number of its images does not matter. The function has the weights of
    this moment: train on, and it must be compiled again. It runs on the CPU, wherever the model is.

    It does what the model does to `example`: a forward with branches that depend on the images' values is not followed.
    An operation unknown to it is an Error that names it.
    """
    return Program(trace(model, example))


class Program:
    """What `compile` makes: two lists of steps, for images side by side and for one image."""

    def __init__(self, graph: Graph):
        self.graph = graph
        folded = fold(graph)
        flat = graph.backend.name == "cpu" and graph.dtype == np.float32 and any(
            isinstance(part, Filter) for part in folded)
        self.one = with_ends(self.in_maps(folded, 1), graph.output) if flat else None
        self.many = with_ends(self.in_maps(folded, graph.backend.maps_block) if flat else
                              [self.side_by_side(part) for part in folded], graph.output)
        self.lock = threading.Lock()            # flat maps lie in one place, whoever calls

    def __call__(self, images) -> np.ndarray:
        graph = self.graph
        images = np.asarray(images, graph.dtype)
        if images.shape[1:] != graph.shapes[0] or images.ndim != len(graph.shapes[0]) + 1:
            raise Error(f"this network was compiled for images of shape {('N', *graph.shapes[0])}, "
                        f"got {images.shape}".replace("'", ""))
        steps, size = self.many, SLICE
        if 0 < len(images) <= FEW and self.one is not None:
            steps, size = self.one, 1
        with self.lock:
            parts = [self.run(steps, images[i : i + size]) for i in range(0, max(len(images), 1), size)]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def run(self, steps: list[Step], images):
        """The steps, one after the other."""
        values: dict[int, Any] = {0: images}
        for step in steps:
            values.update(zip(step.makes, step.run(*(values[x] for x in step.reads))))
            for x in step.done:
                del values[x]
        return values[self.graph.output]

    def side_by_side(self, part: Operation | Filter) -> Step:
        """A step for many images at once."""
        backend = self.graph.backend
        if isinstance(part, Operation):
            return sparse_linear_step(part, backend) or plain_step(part, backend)
        reads = (part.x,) if part.residual is None else (part.x, part.residual)
        shape = SLICE, *self.graph.shapes[part.x]
        kept = np.count_nonzero(part.weight)
        place = part.stride, part.padding
        convolve, weight = backend.conv2d, part.weight
        if backend.sparse_pays(shape, weight.shape, kept, *place):
            convolve, weight = backend.sparse_conv2d, (weight, backend.sparse_entries(weight != 0))
        K = len(part.weight)
        nothing, one = np.zeros((2, K), self.graph.dtype)
        one += 1

        def run(x, residual=None):
            y = (convolve(x, weight, part.bias, *place) if convolve is backend.conv2d else
                 backend.sparse_conv2d(x, weight[0], part.bias, weight[1], *place))
            if residual is not None:
                y = backend.normalise(y, residual, nothing, one, one, nothing, part.relu)
            elif part.relu:
                y = backend.relu(y)
            return [y]
        return Step(run, reads, (part.output,))

    def thin(self, chain: list[Filter]) -> bool:
        """Whether few enough of the multiplications of these convolutions are left."""
        pixels = [np.prod(self.graph.shapes[f.output][1:]) for f in chain]
        kept = sum(np.count_nonzero(f.weight) * size for f, size in zip(chain, pixels))
        return kept < THIN * sum(f.weight.size * size for f, size in zip(chain, pixels))

    def in_maps(self, folded: list[Operation | Filter], block: int) -> list[Step]:
        """Steps in flat maps, `block` images side by side; convolutions that follow one another are one step."""
        backend, shapes = self.graph.backend, self.graph.shapes
        steps: list[Step] = []
        for is_chain, parts in itertools.groupby(folded, lambda part: isinstance(part, Filter)):
            chain: list[Any] = list(parts)
            if not is_chain or (block > 1 and not self.thin(chain)):
                steps += [self.side_by_side(part) for part in chain]
                continue
            made = {f.output for f in chain}
            needed = {self.graph.output}.union(*(reads_of(part) for part in folded if part.output not in made))
            values = {x for f in chain for x in (f.x, f.residual, f.output) if x is not None}
            segment = Segment(chain, {x: shapes[x] for x in values}, needed, block)
            steps.append(Step(lambda *images, segment=segment: segment(backend, *images),
                              segment.inputs, segment.outputs))
        return steps


def reads_of(part: Operation | Filter) -> tuple[int, ...]:
    """The values that an operation or a convolution reads."""
    if isinstance(part, Operation):
        return tuple(part.values())
    return (part.x,) if part.residual is None else (part.x, part.residual)


def sparse_linear_step(operation: Operation, backend) -> Step | None:
    """A linear layer with constant weights, few enough of them left; None where that does not pay."""
    x, *constants = operation.inputs
    if operation.function is not functional.Linear or not all(isinstance(c, np.ndarray) for c in constants):
        return None
    weight, bias = constants if len(constants) > 1 else (constants[0], None)
    kept = np.count_nonzero(weight)
    if not backend.sparse_linear_pays((SLICE, weight.shape[1]), weight.shape, kept):
        return None
    entries = backend.sparse_entries(weight != 0)

    def run(x):
        if not backend.sparse_linear_pays(x.shape, weight.shape, kept):
            y = backend.matmul(x, weight.T)
            return [y if bias is None else y + bias]
        y = backend.sparse_linear(x.reshape(-1, x.shape[-1]), weight, bias, entries)
        return [y.reshape(*x.shape[:-1], len(weight))]
    return Step(run, (x,), (operation.output,))


def plain_step(operation: Operation, backend) -> Step:
    """The operation as the model itself performs it."""
    def run(*values):
        function, given = operation.function(), iter(values)
        function.backend, function.xp, function.needs = backend, backend.xp, (False,) * len(operation.inputs)
        return [function.forward(*(next(given) if isinstance(x, int) else x for x in operation.inputs),
                                 **operation.settings)]
    return Step(run, tuple(operation.values()), (operation.output,))


def with_ends(steps: list[Step], output: int) -> list[Step]:
    """The same steps, each with the values that nobody reads after it."""
    alive, result = {output}, []
    for step in reversed(steps):
        result.append(step._replace(done=tuple({*step.reads, *step.makes} - alive)))
        alive.update(step.reads)
    return result[::-1]


# ---------------------------------------------------------------------------------------------------------------- file

FORMAT = "minirewind sparse 1"


def packed(mask, weights):
    """One bit for every weight, eight in a byte; and the weights that are kept."""
    return np.packbits(mask), weights[mask]


def unpacked(bits, values, size: int):
    """The mask and all `size` weights again, from what `packed` made of them; 0 where nothing is kept."""
    mask = np.unpackbits(bits, count=size).astype(bool)
    weights = np.zeros(size, values.dtype)
    weights[mask] = values
    return mask, weights


def save(path, model: nn.Module, network=None, **settings) -> int:
    """Write the network without its pruned weights, whole or not at all; returns the file's size in bytes.

    The file is an npz without pickles: `format`; `network`, the JSON of what models.build needs (a built-in name or
    an import path, input_shape, classes, bn_momentum); `step`; `shapes`, the JSON of the parameters' names and shapes;
    `mask`, one bit per parameter entry; `values`, the kept ones; `statistics`. The momentum is left behind.

    `network` is needed only for a model that models.build did not make: the class, function or import path that does,
    and as `settings` those of input_shape, classes and bn_momentum that it takes.
    """
    vectors = nn.pack(model)
    origin = origin_of(model, network, settings)
    twin = nn.pack(built(origin))
    if twin.layers != vectors.layers or twin.statistics.shape != vectors.statistics.shape:
        raise Error(f"save: {origin['name']!r} makes another network than this one; its parameters have other names "
                    f"or shapes, so the file could not be loaded")
    host = next(model.parameters()).backend.to_host
    bits, values = packed(host(vectors.mask), host(vectors.weights))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, format=np.array(FORMAT), network=np.array(json.dumps(origin)), step=vectors.step,
                        shapes=np.array(shapes_of(vectors)), mask=bits, values=values,
                        statistics=host(vectors.statistics))
    return files.write(path, buffer.getvalue())


def load(path) -> nn.Module:
    """The network that `save` wrote, in evaluation mode: weights, mask and statistics to the bit, the momentum zero.

    An import path in the file is imported, and must be a Module or a function that takes input_shape or classes.
    """
    arrays = read(path)
    try:
        origin = json.loads(str(arrays["network"]))
        model = built(origin)
        vectors = nn.pack(model.to(dtype=arrays["values"].dtype))
        if str(arrays["shapes"]) != shapes_of(vectors):
            raise Error(f"{path}: {origin['name']!r} makes another network now than when the file was written")
        mask, weights = unpacked(arrays["mask"], arrays["values"], vectors.weights.size)
        vectors.weights[...] = weights
        vectors.statistics[...] = arrays["statistics"]
        vectors.set_mask(mask)
        vectors.step = int(arrays["step"])
    except (KeyError, TypeError, ValueError) as reason:
        if isinstance(reason, Error):
            raise
        raise Error(f"{path} is damaged: {reason}") from reason
    return model.eval()


def read(path) -> dict[str, np.ndarray]:
    """The arrays of a sparse file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise Error(f"{path} does not exist") from None
    except files.UNREADABLE as reason:
        raise Error(f"{path} is damaged, or no file of sparse.save: {reason}") from reason
    if str(arrays.get("format")) != FORMAT:
        raise Error(f"{path} is no file of sparse.save; expected the format {FORMAT!r}")
    return arrays


def shapes_of(vectors: nn.Vectors) -> str:
    """Names and shapes of the parameters, as JSON."""
    return json.dumps({layer.name: layer.shape for layer in vectors.layers})


def origin_of(model: nn.Module, network, settings: dict) -> dict[str, Any]:
    """What models.build needs to make this network again."""
    if network is None and model.origin is None:
        raise Error(f"save: how to make this {type(model).__name__} again is not known; build it by models.build, or "
                    f'name what does: save(path, model, network="package.module:function")')
    origin = {"input_shape": (1, 1, 1), "classes": 1, "bn_momentum": 0.1} | (model.origin or {}) | settings
    if network is not None:
        origin["name"] = network if isinstance(network, str) else models.import_path(network)
    return origin


def built(origin: dict[str, Any]) -> nn.Module:
    """The network that `origin` describes. A function that does not look like one that makes networks is not called."""
    name = origin["name"]
    if ":" in name:
        factory = models.imported(name)
        module = isinstance(factory, type) and issubclass(factory, nn.Module)
        if not module and not {"input_shape", "classes"} & set(inspect.signature(factory).parameters):
            raise Error(f"the network {name!r} is neither a Module nor a function of input_shape or classes; only "
                        f"such are called")
    return models.build(**origin)
