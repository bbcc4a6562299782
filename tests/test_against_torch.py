"""The operations against PyTorch: its own operator samples, fed to our functions with the same arguments.

PyTorch tests its operators with samples (`torch.testing._internal`, `op_db`). Every sample goes to both; outputs and
gradients must agree. An argument given at PyTorch's default is left out, as a user would. What we do not have must be
refused, by Python's TypeError or by our Error, and never give other numbers; the refused are counted, with the reason.
"""

import inspect
from collections import Counter

import numpy as np
import pytest

from minirewind import functional as F
from minirewind.errors import Error
from minirewind.tensor import Tensor

torch = pytest.importorskip(
    "torch", reason="the oracle is missing: pip install torch --index-url https://download.pytorch.org/whl/cpu")
samples_of_torch = pytest.importorskip("torch.testing._internal.common_methods_invocations", reason="needs its op_db")

DTYPES = {torch.float64: 1e-9, torch.float32: 1e-5}             # and how far a result may be off, relative to its norm

# Our function, the name of PyTorch's operator, how many of its samples run, and how many are refused with which word.
# We have no alpha (write x + alpha * y), no rounding of quotients, no dtype (convert the input), no groups or dilation,
# no windows over an edge, no padding but a constant, no loss but the mean over class indices; and x of shape (0,) has
# no channels to normalise.
OPERATIONS = [
    (F.add, "add", 9, {"alpha": 2}),
    (F.sub, "sub", 9, {"alpha": 2}),
    (F.mul, "mul", 9, {}),
    (F.div, "div no_rounding_mode", 9, {}),
    (F.div, "div floor_rounding", 0, {"rounding_mode": 9}),
    (F.div, "true_divide", 9, {}),
    (F.pow, "pow", 9, {}),
    (F.neg, "neg", 1, {}),
    (F.exp, "exp", 3, {}),
    (F.log, "log", 3, {}),
    (F.sqrt, "sqrt", 1, {}),
    (F.sum, "sum", 20, {}),
    (F.mean, "mean", 20, {}),
    (F.amax, "amax", 20, {}),
    (F.matmul, "matmul", 15, {}),
    (F.matmul, "mm", 3, {}),
    (F.matmul, "bmm", 1, {}),
    (F.reshape, "reshape", 7, {}),
    (F.permute, "permute", 4, {}),
    (F.transpose, "transpose", 8, {}),
    (F.flatten, "flatten", 6, {}),
    (Tensor.__getitem__, "__getitem__", 16, {}),
    (F.cat, "cat", 9, {}),
    (F.pad, "nn.functional.pad constant", 51, {}),
    (F.pad, "nn.functional.pad reflect", 0, {"the only mode": 12}),
    (F.linear, "nn.functional.linear", 18, {}),
    (F.conv2d, "nn.functional.conv2d", 8, {"groups": 16, "dilation": 6}),
    (F.max_pool2d, "nn.functional.max_pool2d", 180, {"ceil_mode": 720, "dilation": 360, "return_indices": 180}),
    (F.avg_pool2d, "nn.functional.avg_pool2d", 1, {"ceil_mode": 5, "divisor_override": 1}),
    (F.batch_norm, "nn.functional.batch_norm", 10, {"expected (N, C)": 2}),
    (F.relu, "nn.functional.relu", 4, {}),
    (F.softplus, "nn.functional.softplus", 3, {}),
    (F.sigmoid, "sigmoid", 3, {}),
    (F.tanh, "tanh", 1, {}),
    (F.log_softmax, "log_softmax", 7, {}),
    (F.log_softmax, "log_softmax with_dtype", 0, {"dtype": 7}),
    (F.cross_entropy, "nn.functional.cross_entropy", 5,
     {"reduction": 4, "weight": 6, "ignore_index": 1, "class indices": 5}),
    (Tensor.__radd__, "__radd__", 9, {}),
    (Tensor.__rsub__, "__rsub__", 9, {}),
    (Tensor.__rmul__, "__rmul__", 9, {}),
    (Tensor.__rtruediv__, "__rdiv__", 9, {}),
    (Tensor.__rpow__, "__rpow__", 9, {}),
    (Tensor.__rmatmul__, "__rmatmul__", 15, {}),
]

# The defaults of the arguments we do not have: a sample that spells them out asks for nothing more.
DEFAULTS = {"groups": 1, "dilation": 1, "ceil_mode": False, "return_indices": False, "count_include_pad": True,
            "divisor_override": None, "reduction": "mean", "ignore_index": -100}
POSITIONS = {"nn.functional.avg_pool2d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
                                          "divisor_override")}


def operator(name):
    """PyTorch's operator of this name, with its variant after a blank."""
    return next(op for op in samples_of_torch.op_db if f"{op.name} {op.variant_test_name}".strip() == name)


def ours(value):
    """PyTorch's tensors, in whatever they lie, as ours."""
    if isinstance(value, torch.Tensor):
        return Tensor(value.detach().numpy().copy(), value.requires_grad)
    return type(value)(ours(v) for v in value) if isinstance(value, (tuple, list)) else value


def tensors(value, kind):
    """Every tensor in a nest of arguments, in order."""
    if isinstance(value, kind):
        return [value]
    return [t for v in value for t in tensors(v, kind)] if isinstance(value, (tuple, list)) else []


def arguments(function, name, sample):
    """The sample's arguments as ours, less those at a default that our function does not know."""
    args, kwargs = sample.args, dict(sample.kwargs)
    if name in POSITIONS:
        kwargs, args = dict(zip(POSITIONS[name], args)) | kwargs, ()
    known = inspect.signature(function).parameters
    kwargs = {k: v for k, v in kwargs.items() if k in known or k not in DEFAULTS or v != DEFAULTS[k]}
    return (ours(sample.input), *map(ours, args)), {k: ours(v) for k, v in kwargs.items()}


def in_double(value):
    """A tensor with the same values in float64."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return value.detach().clone().double().requires_grad_(value.requires_grad)


def results(output, inputs, backward):
    """What a call left behind: the output, every input after it, and the gradient of every leaf, as arrays."""
    weighting = np.random.default_rng(0).standard_normal(tuple(output.shape))
    backward(weighting)
    gradients = [0 * x.detach().numpy() if x.grad is None else np.asarray(x.grad) for x in inputs if x.requires_grad]
    return [x.detach().numpy() for x in (output, *inputs)] + gradients


def results_of_torch(op, sample):
    output = op(sample.input, *sample.args, **sample.kwargs)
    inputs = tensors((sample.input, *sample.args, *sample.kwargs.values()), torch.Tensor)
    return results(output, inputs, lambda w: output.backward(torch.tensor(w, dtype=output.dtype)))


def assert_near(got, theirs, truth, tolerance):
    """`got` is within the tolerance of the truth, or at least as near to it as twice PyTorch's own rounding."""
    assert got.shape == theirs.shape
    assert got.dtype == theirs.dtype
    wild = ~np.isfinite(truth)
    np.testing.assert_array_equal(got[wild], truth[wild])
    got, theirs, truth = (x[~wild].astype(np.float64) for x in (got, theirs, truth))
    allowed = max(tolerance * np.linalg.norm(truth), 2 * np.linalg.norm(theirs - truth))
    assert np.linalg.norm(got - truth) <= allowed


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """PyTorch's threads cost more than they bring on samples this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize(("function", "name", "runs", "refused"), OPERATIONS, ids=[row[1] for row in OPERATIONS])
@np.errstate(all="ignore")                                       # some samples are NaN on purpose: (-1.7) ** -8.4
def test_every_sample_of_torch_agrees_or_is_refused(function, name, runs, refused, dtype):
    torch.manual_seed(0)
    op, count, messages = operator(name), 0, []
    for sample in op.sample_inputs("cpu", dtype, requires_grad=True):
        args, kwargs = arguments(function, name, sample)
        try:
            output = function(*args, **kwargs)
        except (TypeError, Error) as refusal:
            messages.append(str(refusal))
            continue
        count += 1
        got = results(output, tensors((*args, *kwargs.values()), Tensor), output.backward)
        truth = results_of_torch(op, sample.transform(in_double))
        theirs = truth if dtype is torch.float64 else results_of_torch(op, sample)
        assert len(got) == len(theirs)
        for arrays in zip(got, theirs, truth):
            assert_near(*arrays, DTYPES[dtype])
    assert count == runs
    assert Counter(next((word for word in refused if word in m), m) for m in messages) == refused
