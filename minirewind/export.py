"""A finished run's network for other programs: its folder read back, an ONNX graph, a safetensors file.

The ONNX graph is made of the same list of operations as the compiled program (`sparse.trace`, `sparse.fold`), one node
after another, with the number of images left free.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from . import files, functional, models, nn, sparse, tensor
from .errors import Error

OPSET, IR_VERSION = 18, 9


def read_run(folder) -> nn.Module:
    """The network of a folder that `minirewind prune` wrote, or of one run in a folder of `minirewind compare`."""
    folder = Path(folder)
    for name in ("run.json", "state.npz"):
        if not (folder / name).is_file():
            raise Error(f"{folder} has no {name}; expected a folder of `minirewind prune`, or runs/NAME in a folder of "
                        f"`minirewind compare`")
    path = folder / "run.json"
    about = described(path)
    if "network" not in about:
        path = folder.absolute().parent.parent / "study.json"
        about = described(path)
    try:
        model = models.build(about["network"], input_shape=about["input_shape"], classes=about["classes"])
    except KeyError as reason:
        raise Error(f"{path} does not say {reason} of the network; load the state in Python and write it by "
                    f"sparse.save") from reason
    state, _ = files.read_state(folder / "state.npz")
    vectors = nn.pack(model)
    if state.weights.shape != vectors.weights.shape or state.statistics.shape != vectors.statistics.shape:
        raise Error(f"{folder}: the state has {state.weights.size:,} parameters, {about['network']} has "
                    f"{vectors.weights.size:,}; was the network changed since?")
    state.restore(model)
    return model.eval()


def described(path: Path) -> dict[str, Any]:
    """A JSON file that says what stands beside it."""
    try:
        about = json.loads(path.read_text())
        return about if isinstance(about, dict) else {}
    except FileNotFoundError:
        raise Error(f"{path} does not exist; it says which network the run beside it is of") from None
    except (OSError, ValueError) as reason:
        raise files.damaged(path, reason) from reason


# --------------------------------------------------------------------------------------------------------- safetensors


def safetensors(model: nn.Module) -> bytes:
    """The network's state_dict as a safetensors file: PyTorch's names, pruned weights as zeros."""
    numpy = needed("safetensors.numpy")
    return numpy.save({name: np.ascontiguousarray(values) for name, values in model.state_dict().items()})


def needed(name: str):
    """A module of the extra `export`."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.split(".")[0]
        raise Error(f"{package} is not installed; it comes with: pip install 'minirewind[export]'") from None


# ---------------------------------------------------------------------------------------------------------------- ONNX


def onnx(model: nn.Module, example) -> bytes:
    """The network in evaluation as an ONNX file, for images like `example` (N, C, H, W), any number of them."""
    package = needed("onnx")
    graph = Graph(package, sparse.trace(model, example))
    whole = package.helper.make_model(graph.proto(), ir_version=IR_VERSION, producer_name="minirewind",
                                      opset_imports=[package.helper.make_opsetid("", OPSET)])
    package.checker.check_model(whole)
    return whole.SerializeToString()


SAME = {tensor.Add: "Add", tensor.Sub: "Sub", tensor.Mul: "Mul", tensor.Div: "Div", tensor.Neg: "Neg",
        tensor.Pow: "Pow", tensor.Exp: "Exp", tensor.Log: "Log", tensor.Sqrt: "Sqrt", tensor.MatMul: "MatMul",
        functional.ReLU: "Relu", functional.Sigmoid: "Sigmoid", functional.Tanh: "Tanh"}


class Graph:
    """An ONNX graph in the making. Values are named by their numbers; `make` adds a node and names what comes out."""

    def __init__(self, package, traced: sparse.Graph):
        self.helper, self.numpy_helper = package.helper, package.numpy_helper
        self.kind = package.helper.np_dtype_to_tensor_dtype(traced.dtype)
        self.traced = traced
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names = {0: "images"}
        for part in sparse.fold(traced):
            name = self.convolution(part) if isinstance(part, sparse.Filter) else self.operation(part)
            self.names[part.output] = name

    def proto(self):
        """The finished graph."""
        result = self.names[self.traced.output]
        ends = [self.helper.make_tensor_value_info(name, self.kind, ["N", *self.traced.shapes[value]])
                for name, value in (("images", 0), (result, self.traced.output))]
        return self.helper.make_graph(self.nodes, "minirewind", ends[:1], ends[1:], self.constants)

    def make(self, kind: str, *inputs, **attributes) -> str:
        """A node; its inputs are names, or arrays that become constants."""
        name = f"{kind.lower()}{len(self.nodes)}"
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        self.nodes.append(self.helper.make_node(kind, names, [name], name, **attributes))
        return name

    def constant(self, values) -> str:
        """An array as a constant of the graph."""
        name = f"constant{len(self.constants)}"
        self.constants.append(self.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def named(self, x):
        """A value's name; an array as it is."""
        return self.names[x] if isinstance(x, int) else x

    def convolution(self, f: sparse.Filter) -> str:
        """A convolution with its residual and ReLU."""
        y = self.make("Conv", self.names[f.x], f.weight, f.bias, strides=f.stride, pads=f.padding * 2)
        return self.finished(y, None if f.residual is None else self.names[f.residual], f.relu)

    def finished(self, y: str, residual, relu: bool) -> str:
        y = y if residual is None else self.make("Add", y, residual)
        return self.make("Relu", y) if relu else y

    def operation(self, operation: sparse.Operation) -> str:
        """The nodes of any other operation."""
        kind, settings = operation.function, operation.settings
        inputs = [self.named(x) for x in operation.inputs]
        if kind in SAME:
            return self.make(SAME[kind], *inputs)
        return getattr(self, kind.__name__.lower())(operation, *inputs, **settings)

    def sum(self, operation, x, *, dim, keepdim):
        return self.make("ReduceSum", x, np.array(dim), keepdims=int(keepdim))

    def amax(self, operation, x, *, dim, keepdim):
        return self.make("ReduceMax", x, np.array(dim), keepdims=int(keepdim))

    def reshape(self, operation, x, *, shape):
        return self.make("Reshape", x, np.array(shape, np.int64))

    def permute(self, operation, x, *, dims):
        return self.make("Transpose", x, perm=dims)

    def concatenate(self, operation, *inputs, dim):
        return self.make("Concat", *inputs, axis=dim)

    def logsoftmax(self, operation, x, *, dim):
        return self.make("LogSoftmax", x, axis=dim[0])

    def pad(self, operation, x, *, widths, value):
        before, after = zip(*widths)
        return self.make("Pad", x, np.array(before + after, np.int64), np.array(value, self.traced.dtype))

    def softplus(self, operation, x, *, beta, threshold):
        beta = np.array(beta, self.traced.dtype)
        return self.make("Div", self.make("Softplus", self.make("Mul", x, beta)), beta)

    def maxpool2d(self, operation, x, *, size, stride, padding):
        return self.make("MaxPool", x, kernel_shape=size, strides=stride, pads=padding * 2)

    def avgpool2d(self, operation, x, *, size, stride, padding):
        return self.make("AveragePool", x, kernel_shape=size, strides=stride, pads=padding * 2, count_include_pad=1)

    def conv2d(self, operation, *inputs, stride, padding):
        return self.make("Conv", *inputs, strides=stride, pads=padding * 2)

    def linear(self, operation, x, weight, *bias):
        z = self.make("MatMul", x, weight.T if isinstance(weight, np.ndarray) else self.make("Transpose", weight))
        return self.make("Add", z, *bias) if bias else z

    def batchnorm(self, operation, x, weight, bias, residual=None, *, running_mean, running_var, eps, relu=False,
                  **training):
        y = self.make("BatchNormalization", x, weight, bias, running_mean, running_var, epsilon=float(eps))
        return self.finished(y, residual, relu)

    def getitem(self, operation, x, *, index):
        """Slices, then the axes that a number took away, then the new ones."""
        shape = (None, *self.traced.shapes[operation.inputs[0]])
        parts = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis not in parts:
            parts.append(Ellipsis)
        place = parts.index(Ellipsis)
        missing = len(shape) - sum(part is not None and part is not Ellipsis for part in parts)
        parts[place : place + 1] = [slice(None)] * missing
        axis, cuts, gone, new, kept = 0, [], [], [], 0
        for part in parts:
            if part is None:
                new.append(kept)
                kept += 1
                continue
            if part != slice(None):
                if axis == 0:
                    raise Error(f"onnx: {part} takes some of the images only; expected all of them, [:, ...]")
                cuts.append((axis, *bounds(part, shape[axis])))
            if isinstance(part, slice):
                kept += 1
            else:
                gone.append(axis)
            axis += 1
        if cuts:
            axes, starts, ends, steps = np.array(cuts, np.int64).T
            x = self.make("Slice", x, starts, ends, axes, steps)
        x = self.make("Squeeze", x, np.array(gone, np.int64)) if gone else x
        return self.make("Unsqueeze", x, np.array(new, np.int64)) if new else self.make("Identity", x)


def bounds(part, size: int) -> tuple[int, int, int]:
    """(start, end, step) of a slice, or of a number, as ONNX wants them."""
    if not isinstance(part, slice):
        return int(part) % size, int(part) % size + 1, 1
    start, end, step = part.indices(size)
    return start, end if end >= 0 else -size - 1, step


def run_onnx(content: bytes):
    """The graph as a function of images, by onnxruntime; None where that is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def difference(result, wanted) -> float:
    """norm(a - b) / norm(b)"""
    return float(np.linalg.norm(result - wanted) / max(float(np.linalg.norm(wanted)), 1e-30))
