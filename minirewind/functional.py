"""The differentiable operations of a network: forward above backward, nothing between.

Each is a Function on arrays, and below it the function a user calls, which looks at the shapes first. Names, arguments
and meaning are PyTorch's. The operations on any tensor (arithmetic, sums, products, shapes) are methods of Tensor; they
stand in tensor.py and are spelled out as functions at the end of this page.
"""

import math
import operator

import numpy as np

from . import tensor
from .errors import Error
from .kernels import hashing
from .tensor import Function, Tensor, as_tensor, beside_floats, floating

# --------------------------------------------------------------------------------------------------------- activations


class ReLU(Function):
    """z = max(x, 0); the gradient at 0 is 0"""

    def forward(self, x):
        self.z = self.backend.relu(x)
        return self.z

    def backward(self, dz):
        return self.backend.relu_gradient(dz, self.z)


class Sigmoid(Function):
    """z = 1 / (1 + e^-x)"""

    def forward(self, x):
        small = self.xp.exp(-abs(x))                            # never overflows
        self.z = self.xp.where(x >= 0, 1, small) / (1 + small)
        return self.z

    def backward(self, dz):
        return dz * self.z * (1 - self.z)


class Tanh(Function):
    """z = tanh x"""

    def forward(self, x):
        self.z = self.xp.tanh(x)
        return self.z

    def backward(self, dz):
        return dz * (1 - self.z * self.z)


class Softplus(Function):
    """z = log(1 + e^(beta x)) / beta, a ReLU without a corner; above the threshold x itself"""

    def forward(self, x, beta, threshold):
        self.slope = self.xp.where(beta * x > threshold, 1, self.xp.exp(-self.xp.logaddexp(0, -beta * x)))
        return self.xp.where(beta * x > threshold, x, self.xp.logaddexp(0, beta * x) / beta)

    def backward(self, dz):
        return dz * self.slope


def relu(x) -> Tensor:
    """max(x, 0), element by element; NaN stays NaN."""
    return ReLU.apply(x)


def sigmoid(x) -> Tensor:
    """1 / (1 + exp(-x)), element by element."""
    return Sigmoid.apply(floating(x))


def tanh(x) -> Tensor:
    """The hyperbolic tangent, element by element."""
    return Tanh.apply(floating(x))


def softplus(x, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta * x)) / beta, element by element: a smooth ReLU, for checks by small differences."""
    return Softplus.apply(floating(x), beta=beta, threshold=threshold)


class Dropout(Function):
    """z = x / (1 - p) where the hash of (key, position) keeps it, else 0"""

    def forward(self, x, p, key):
        uniform = (hashing.hash_words(key, np.arange(x.size)) >> np.uint64(11)) * 2.0**-53     # in [0, 1)
        keep = self.backend.asarray(uniform >= p).reshape(x.shape)
        self.scale = keep * x.dtype.type(0 if p == 1 else 1 / (1 - p))
        return x * self.scale

    def backward(self, dz):
        return dz * self.scale


def dropout(x, p: float = 0.5, training: bool = True, *, key: int) -> Tensor:
    """In training, zero each element with probability p and divide the others by 1 - p.

    Which ones is a function of `key` (an integer) and the element's position: the same key drops the same elements.
    """
    if not 0 <= p <= 1:
        raise Error(f"dropout: p is a probability, expected 0 to 1, got {p}")
    return Dropout.apply(floating(x), p=p, key=key) if training and p > 0 else as_tensor(x)


# ------------------------------------------------------------------------------------------------------- linear layers


class Linear(Function):
    """z = x W^T + b"""

    def forward(self, x, weight, bias=None):
        self.x, self.weight = x, weight
        z = self.backend.matmul(x, weight.T)                    # (..., out)
        return z if bias is None else z + bias

    def backward(self, dz):
        count = math.prod(dz.shape[:-1])
        rows, dz_rows = self.x.reshape(count, self.x.shape[-1]), dz.reshape(count, dz.shape[-1])
        dx = self.backend.matmul(dz, self.weight) if self.needs[0] else None             # (..., in)
        dweight = self.backend.matmul(dz_rows.T, rows) if self.needs[1] else None        # (out, in)
        return (dx, dweight) if len(self.needs) == 2 else (dx, dweight, dz_rows.sum(axis=0))


class SparseLinear(Function):
    """The same z, of weights most of which are masked: only the kept ones are read, only they get gradients"""

    def forward(self, x, weight, bias=None, *, entries):
        self.rows, self.weight, self.entries = x.reshape(-1, x.shape[-1]), weight, entries         # (N, in)
        self.shape = x.shape
        return self.backend.sparse_linear(self.rows, weight, bias, entries).reshape(*x.shape[:-1], len(weight))

    def backward(self, dz):
        backend, dz = self.backend, dz.reshape(-1, dz.shape[-1])                                   # (N, out)
        dx = dweight = None
        if self.needs[0]:
            dx = backend.sparse_linear_input_gradient(dz, self.weight, self.entries).reshape(self.shape)
        if self.needs[1]:
            dweight = backend.sparse_linear_weight_gradient(dz, self.rows, self.entries)
        return (dx, dweight) if len(self.needs) == 2 else (dx, dweight, dz.sum(axis=0))


def linear(x, weight, bias=None) -> Tensor:
    """x (..., in) times weight (out, in), transposed, plus bias (out,).    -> (..., out)

    Where most of a Parameter is masked and the device is faster that way, only its kept weights are multiplied.
    """
    x, weight = as_tensor(x), as_tensor(weight)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise Error(f"linear: x has shape {x.shape}, the weight {weight.shape}; expected (..., in) and (out, in)")
    inputs = _weighted("linear", x, weight, bias)
    if getattr(weight, "masked", False) and x.backend.sparse_linear_pays(x.shape, weight.shape, weight.kept):
        return SparseLinear.apply(*inputs, entries=weight.entries())
    return Linear.apply(*inputs)


class Conv2d(Function):
    """z[n, k, p, q] = b[k] + the sum of x under filter k laid at (p, q); the sums stand in kernels/reference"""

    def forward(self, x, weight, bias=None, *, stride, padding):
        self.x, self.weight, self.stride, self.padding = x, weight, stride, padding
        if bias is None and any(self.needs):        # a batch norm follows, and will ask for the sums
            z, self.sums = self.backend.conv2d_and_sums(x, weight, stride, padding)
            return z
        return self.backend.conv2d(x, weight, bias, stride, padding)

    def backward(self, dz):
        backend, place = self.backend, (self.stride, self.padding)
        dx = backend.conv2d_input_gradient(dz, self.weight, self.x.shape, *place) if self.needs[0] else None
        dweight = backend.conv2d_weight_gradient(dz, self.x, self.weight.shape, *place) if self.needs[1] else None
        return (dx, dweight) if len(self.needs) == 2 else (dx, dweight, backend.conv2d_bias_gradient(dz))


class SparseConv2d(Function):
    """The same z, of filters most of which are masked: only the kept weights are read, only they get gradients"""

    def forward(self, x, weight, bias=None, *, stride, padding, entries):
        self.x, self.weight, self.entries, self.place = x, weight, entries, (stride, padding)
        return self.backend.sparse_conv2d(x, weight, bias, entries, stride, padding)

    def backward(self, dz):
        backend, entries = self.backend, self.entries
        dx = dweight = None
        if self.needs[0]:
            dx = backend.sparse_conv2d_input_gradient(dz, self.weight, entries, self.x.shape, *self.place)
        if self.needs[1]:
            dweight = backend.sparse_conv2d_weight_gradient(dz, self.x, entries, *self.place)
        return (dx, dweight) if len(self.needs) == 2 else (dx, dweight, backend.conv2d_bias_gradient(dz))


def conv2d(x, weight, bias=None, stride=1, padding=0) -> Tensor:
    """Slide the filters weight (K, C, R, S) over the images x (N, C, H, W).    -> (N, K, P, Q)

    `stride` and `padding` (zeros on every side) are numbers or (vertical, horizontal) pairs; padding also "valid" or
    "same". P = (H + 2 padding - R) // stride + 1, Q likewise. A single image (C, H, W) gives (K, P, Q). Where most of a
    Parameter is masked and the device is faster that way, only its kept weights are multiplied.
    """
    x, weight = as_tensor(x), as_tensor(weight)
    if x.ndim == 3:
        return conv2d(x.reshape(1, *x.shape), weight, bias, stride, padding)[0]
    if x.ndim != 4 or weight.ndim != 4:
        raise Error(f"conv2d: x has shape {x.shape}, the filters {weight.shape}; "
                    f"expected (N, C, H, W) and (K, C, R, S)")
    if x.shape[1] != weight.shape[1]:
        raise Error(f"conv2d: x has {x.shape[1]} channels (N, C, H, W) = {x.shape} "
                    f"but the filters want {weight.shape[1]} (K, C, R, S) = {weight.shape}")
    stride, kernel = _two("conv2d: stride", stride, least=1), weight.shape[2:]
    if padding == "valid":
        padding = 0
    elif padding == "same":
        if stride != (1, 1):
            raise Error(f'conv2d: padding "same" keeps the size only at stride 1, the stride is {stride}')
        padding = tuple((size - 1) // 2 for size in kernel)
        even = tuple((size - 1) % 2 for size in kernel)         # an even filter needs one more row behind
        x = pad(x, (0, even[1], 0, even[0])) if any(even) else x
    padding = _two('conv2d: padding (or "valid", or "same")', padding)
    _check_fit("conv2d", x, kernel, padding)
    inputs = _weighted("conv2d", x, weight, bias)
    if getattr(weight, "masked", False) and x.backend.sparse_pays(x.shape, weight.shape, weight.kept, stride, padding):
        return SparseConv2d.apply(*inputs, stride=stride, padding=padding, entries=weight.entries())
    return Conv2d.apply(*inputs, stride=stride, padding=padding)


# ------------------------------------------------------------------------------------------------------------- pooling


class MaxPool2d(Function):
    """z = the largest value under each window"""

    def forward(self, x, size, stride, padding):
        self.shape = x.shape
        z, self.source = self.backend.max_pool2d(x, size, stride, padding)
        return z

    def backward(self, dz):
        return self.backend.max_pool2d_gradient(dz, self.source, self.shape)


class AvgPool2d(Function):
    """z = the mean under each window"""

    def forward(self, x, size, stride, padding):
        self.shape, self.window = x.shape, (size, stride, padding)
        return self.backend.avg_pool2d(x, *self.window)

    def backward(self, dz):
        return self.backend.avg_pool2d_gradient(dz, self.shape, *self.window)


def max_pool2d(x, kernel_size, stride=None, padding=0) -> Tensor:
    """The largest value under each window, (N, C, H, W) -> (N, C, P, Q); the stride is the window's size by default."""
    return _pool("max_pool2d", MaxPool2d, x, kernel_size, stride, padding)


def avg_pool2d(x, kernel_size, stride=None, padding=0) -> Tensor:
    """The mean under each window, zeros of the padding included, (N, C, H, W) -> (N, C, P, Q)."""
    return _pool("avg_pool2d", AvgPool2d, x, kernel_size, stride, padding)


def global_avg_pool2d(x) -> Tensor:
    """The mean of every channel's map: (N, C, H, W) -> (N, C)."""
    x = as_tensor(x)
    if x.ndim != 4:
        raise Error(f"global_avg_pool2d: x has shape {x.shape}, expected (N, C, H, W)")
    return avg_pool2d(x, x.shape[2:]).reshape(x.shape[:2])


def _pool(name, function, x, kernel_size, stride, padding):
    x = floating(x)
    if x.ndim == 3:
        return _pool(name, function, x.reshape(1, *x.shape), kernel_size, stride, padding)[0]
    if x.ndim != 4:
        raise Error(f"{name}: x has shape {x.shape}, expected (N, C, H, W)")
    size = _two(f"{name}: kernel_size", kernel_size, least=1)
    stride = size if stride is None or np.size(stride) == 0 else _two(f"{name}: stride", stride, least=1)
    padding = _two(f"{name}: padding", padding)
    if any(2 * p > k for p, k in zip(padding, size)):
        raise Error(f"{name}: padding {padding} must be at most half the window {size}")
    _check_fit(name, x, size, padding)
    return function.apply(x, size=size, stride=stride, padding=padding)


# ------------------------------------------------------------------------------------------------- batch normalisation


class BatchNorm(Function):
    """z = (x - mean) / sqrt(variance + eps) * weight + bias, per channel; with a residual: z = relu(that + residual)

    The kernels behind it do everything in one pass over the images, forward, and in two, backward.
    """

    def forward(self, x, weight, bias, residual=None, *,
                running_mean, running_var, training, momentum, eps, sums=None, relu=False):
        if training:
            mean, inverse_std = self.backend.moments(x, eps, running_mean, running_var, momentum, sums)
        else:
            mean, inverse_std = running_mean, 1 / self.xp.sqrt(running_var + x.dtype.type(eps))
        z = self.backend.normalise(x, residual, mean, inverse_std, weight, bias, relu)
        self.saved = z if relu else None, x, mean, inverse_std, weight, relu, training
        return z

    def backward(self, dz):
        dx, dresidual, dweight, dbias = self.backend.normalise_gradient(dz, *self.saved)
        return (dx, dweight, dbias, dresidual)[: len(self.needs)]


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5) -> Tensor:
    """Normalise every channel of x (N, C, ...) to mean `bias` and standard deviation `weight`, both (C,).

    In training with the batch's own statistics, towards which the running ones (C,) are moved by `momentum`, in place
    (None: not kept); otherwise with the running ones. PyTorch's conventions throughout.
    """
    x, weight, bias, statistics = _batch_norm_inputs("batch_norm", x, running_mean, running_var, weight, bias, training)
    return BatchNorm.apply(x, weight, bias, **statistics, training=training, momentum=momentum, eps=eps, sums=_sums(x))


def batch_norm_add_relu(x, residual, running_mean, running_var, weight, bias, training=False, momentum=0.1, eps=1e-5):
    """relu(batch_norm(x) + residual) in one operation: the end of every residual block. `residual` may be None."""
    x, weight, bias, statistics = _batch_norm_inputs("batch_norm_add_relu", x, running_mean, running_var, weight, bias,
                                                     training)
    if residual is not None and as_tensor(residual).shape != x.shape:
        raise Error(f"batch_norm_add_relu: x has shape {x.shape}, the residual {as_tensor(residual).shape}; "
                    f"expected equal shapes")
    inputs = (x, weight, bias) if residual is None else (x, weight, bias, residual)
    return BatchNorm.apply(*inputs, **statistics, training=training, momentum=momentum, eps=eps, sums=_sums(x),
                           relu=True)


def batch_norm_add_relu_steps(x, residual, running_mean, running_var, weight, bias, training=False, momentum=0.1,
                              eps=1e-5):
    """The same, step by step: what batch_norm_add_relu must equal."""
    z = batch_norm_steps(x, running_mean, running_var, weight, bias, training, momentum, eps)
    return relu(z if residual is None else z + residual)


def batch_norm_steps(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """batch_norm out of plain operations: what batch_norm must equal, and where its gradient comes from."""
    x, weight, bias, statistics = _batch_norm_inputs("batch_norm", x, running_mean, running_var, weight, bias, training)
    channels = (1, -1, *[1] * (x.ndim - 2))
    if training:
        mean, variance = channel_moments(x)
        if running_mean is not None:
            update_running(**statistics, mean=mean.data.ravel(), variance=variance.data.ravel(),
                           count=x.size // x.shape[1], momentum=momentum)
    else:
        mean, variance = (Tensor(s, device=x.device).reshape(channels) for s in statistics.values())
    normal = (x - mean) / (variance + eps).sqrt()
    return normal * weight.reshape(channels) + bias.reshape(channels)


def channel_moments(x):
    """Each channel's mean and variance over all its values, tensors of shape (1, C, 1, 1) for x (N, C, H, W)."""
    others = (0, *range(2, x.ndim))
    mean = x.mean(others, keepdim=True)                         # (1, C, 1, 1)
    variance = ((x - mean) * (x - mean)).mean(others, keepdim=True)
    return mean, variance


def update_running(running_mean, running_var, mean, variance, count, momentum):
    """Move the running statistics by `momentum` towards a batch's, in place; `count` values of each channel were in it.

    The variance that is kept is the unbiased one.
    """
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (variance * (count / (count - 1)) - running_var)


def _sums(x):
    """What the convolution that made x noted of its channels, if it was one and noted anything."""
    return getattr(x.function, "sums", None)


def _batch_norm_inputs(name, x, running_mean, running_var, weight, bias, training):
    x = floating(x)
    if x.ndim < 2:
        raise Error(f"{name}: x has shape {x.shape}, expected (N, C) or (N, C, H, W)")
    C = x.shape[1]
    if training and x.size < 2 * C:
        raise Error(f"{name}: x of shape {x.shape} has fewer than two values per channel, and so no variance; "
                    f"use a larger batch, or evaluation mode")
    if (running_mean is None) != (running_var is None):
        raise Error(f"{name}: give both the running mean and the running variance, or neither")
    if not training and running_mean is None:
        raise Error(f"{name}: in evaluation the running mean and variance are needed, and they are None")
    weight = Tensor(x.backend.xp.ones(C, x.dtype), device=x.device) if weight is None else as_tensor(weight)
    bias = Tensor(x.backend.xp.zeros(C, x.dtype), device=x.device) if bias is None else as_tensor(bias)
    running = [s.data if isinstance(s, Tensor) else s for s in (running_mean, running_var)]
    for what, values in zip(("weight", "bias", "running mean", "running variance"), (weight, bias, *running)):
        if values is not None and values.shape != (C,):
            raise Error(f"{name}: x has {C} channels {x.shape}, the {what} has shape {values.shape}; expected ({C},)")
    _same_dtype(name, x, weight, bias)
    return x, weight, bias, dict(zip(("running_mean", "running_var"), running))


# ----------------------------------------------------------------------------------------------------------- the loss


class LogSoftmax(Function):
    """z = x - log(sum of e^x)"""

    def forward(self, x, dim):
        shifted = x - x.max(axis=dim, keepdims=True)
        self.z = shifted - self.xp.log(self.xp.exp(shifted).sum(axis=dim, keepdims=True))
        self.dim = dim
        return self.z

    def backward(self, dz):
        return dz - self.xp.exp(self.z) * dz.sum(axis=self.dim, keepdims=True)


class CrossEntropy(Function):
    """z = the mean of -log softmax(x)[target]"""

    def forward(self, x, target):
        z, self.probabilities = self.backend.cross_entropy(x, target)
        self.target = target
        return z

    def backward(self, dz):
        return self.backend.cross_entropy_gradient(dz, self.probabilities, self.target), None


def log_softmax(x, dim: int = -1) -> Tensor:
    """The logarithm of the softmax over one dimension."""
    x = floating(x)
    dims = tensor._dims(x, operator.index(dim))
    return LogSoftmax.apply(x, dim=dims) if x.size else x


def cross_entropy(x, target) -> Tensor:
    """The mean over images of -log softmax(x)[target]: x (N, K) scores, target (N,) class indices 0 to K - 1.

    Also one image, (K,) and (), and one class per place, (N, K, ...) and (N, ...).
    """
    x, target = _scores_and_classes(x, target)
    return CrossEntropy.apply(x, target)


def cross_entropy_steps(x, target) -> Tensor:
    """The same, step by step: what cross_entropy must equal."""
    x, target = _scores_and_classes(x, target)
    return -log_softmax(x, dim=1)[np.arange(len(target)), target].mean()


def _scores_and_classes(x, target):
    x, target = floating(x), as_tensor(target)
    if target.dtype.kind not in "iu":
        raise Error(f"cross_entropy: the target holds class indices, expected integers, got {target.dtype}")
    if x.ndim == 1:
        x, target = x.reshape(1, -1), target.reshape(1, *target.shape)
    if x.ndim < 2 or target.shape != (x.shape[0], *x.shape[2:]):
        raise Error(f"cross_entropy: x has shape {x.shape}, the target {target.shape}; expected (N, K) and (N,)")
    if target.size == 0:
        raise Error(f"cross_entropy: x has shape {x.shape}, and the mean over no images is no number")
    K = x.shape[1]
    if target.backend.immediate and not (target.data.min() >= 0 and target.data.max() < K):
        raise Error(f"cross_entropy: classes run from 0 to {K - 1}, the target from {target.data.min()} "
                    f"to {target.data.max()}")
    if x.ndim > 2:
        x = x.permute(0, *range(2, x.ndim), 1).reshape(-1, K)
        target = target.reshape(-1)
    return x, Tensor(target.data, dtype=np.int64, device=target.device)


# -------------------------------------------------------------------------- the operations on any tensor, as functions


def add(x, other) -> Tensor:
    """x + other"""
    return tensor.Add.apply(*tensor._pair("add", x, other))


def sub(x, other) -> Tensor:
    """x - other"""
    return tensor.Sub.apply(*tensor._pair("sub", x, other))


def mul(x, other) -> Tensor:
    """x * other"""
    return tensor.Mul.apply(*tensor._pair("mul", x, other))


def div(x, other) -> Tensor:
    """x / other"""
    return tensor.Div.apply(*tensor._pair("div", x, other, inexact=True))


def pow(x, exponent) -> Tensor:
    """x ** exponent"""
    return tensor.Pow.apply(*tensor._pair("pow", x, exponent))


def neg(x) -> Tensor:
    """-x"""
    return -as_tensor(x)


def exp(x) -> Tensor:
    """e ** x"""
    return as_tensor(x).exp()


def log(x) -> Tensor:
    """The natural logarithm."""
    return as_tensor(x).log()


def sqrt(x) -> Tensor:
    """The square root."""
    return as_tensor(x).sqrt()


def sum(x, dim=None, keepdim: bool = False) -> Tensor:
    """The sum over the dimensions `dim`, all of them by default."""
    return as_tensor(x).sum(dim, keepdim)


def mean(x, dim=None, keepdim: bool = False) -> Tensor:
    """The mean over the dimensions `dim`, all of them by default."""
    return tensor.mean(as_tensor(x), dim, keepdim)


def amax(x, dim=None, keepdim: bool = False) -> Tensor:
    """The largest value over the dimensions `dim`; equal ones share the gradient equally."""
    return as_tensor(x).amax(dim, keepdim)


def matmul(x, other) -> Tensor:
    """The matrix product over the last two dimensions; those before them broadcast."""
    return tensor.matmul(x, other)


def reshape(x, shape) -> Tensor:
    """The same elements in another shape; one size may be -1."""
    return tensor.reshape(as_tensor(x), shape)


def permute(x, dims) -> Tensor:
    """The dimensions in another order."""
    return tensor.permute(as_tensor(x), dims)


def transpose(x, dim0: int, dim1: int) -> Tensor:
    """x with two of its dimensions exchanged."""
    return tensor.transpose(as_tensor(x), dim0, dim1)


def flatten(x, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from start_dim to end_dim, both included, as one."""
    return tensor.flatten(as_tensor(x), start_dim, end_dim)


def concatenate(tensors, dim: int = 0) -> Tensor:
    """The tensors behind one another along `dim`; in all other dimensions their sizes are equal."""
    tensors = beside_floats(*map(as_tensor, tensors))
    if not tensors:
        raise Error("concatenate: expected at least one tensor, got none")
    tensors = [x for x in tensors if x.shape != (0,)] or tensors[:1]        # Tensor([]) fits everywhere
    if tensors[0].ndim == 0:
        raise Error("concatenate: a tensor without dimensions has no side to put another at; try .reshape(1)")
    dim = tensor._dimension(dim, tensors[0].ndim)
    for x in tensors:
        if x.ndim != tensors[0].ndim or any(
                a != b for i, (a, b) in enumerate(zip(x.shape, tensors[0].shape)) if i != dim):
            raise Error(f"concatenate: shapes {tensors[0].shape} and {x.shape} must be equal but for dimension {dim}")
    return tensor.Concatenate.apply(*tensors, dim=dim)


cat = concatenate


def pad(x, pad, mode: str = "constant", value: float | None = None) -> Tensor:
    """x with `value` around it, by default 0.

    `pad` lists (before, after) for the last dimension, then for the one before, and so on: pad(x, (1, 1, 2, 2)) adds
    one column left and right and two rows above and below. Negative numbers cut off.
    """
    x, widths = as_tensor(x), tuple(pad)
    if mode != "constant":
        raise Error(f'pad: the only mode is "constant", got {mode!r}')
    if len(widths) % 2 or len(widths) > 2 * x.ndim:
        raise Error(f"pad: {widths} must be pairs (before, after), at most {x.ndim} of them for shape {x.shape}")
    pairs = [widths[i : i + 2] for i in range(0, len(widths), 2)][::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if any(size + min(before, 0) + min(after, 0) < 0 for size, (before, after) in zip(x.shape, pairs)):
        raise Error(f"pad: {widths} cuts more off than shape {x.shape} has")
    return tensor.Pad.apply(x, widths=pairs, value=0 if value is None else value)


# ------------------------------------------------------------------------------------------------------- small checks


def _two(what: str, value, least: int = 0) -> tuple[int, int]:
    """A number, or a pair, as a (vertical, horizontal) pair."""
    try:
        pair = tuple(operator.index(v) for v in (value if np.iterable(value) else (value,)))
    except TypeError:
        pair = ()
    pair = pair * 2 if len(pair) == 1 else pair
    if len(pair) != 2 or min(pair) < least:
        raise Error(f"{what} is {value!r}; expected a whole number or a pair of them, at least {least}")
    return pair


def _check_fit(name, x, size, padding) -> None:
    if any(n + 2 * p < k for n, k, p in zip(x.shape[2:], size, padding)):
        raise Error(f"{name}: the window {size} is larger than the images {x.shape[2:]} with padding {padding}")


def _same_dtype(name, x, weight, *bias) -> None:
    for what, values in zip(("weight", "bias"), (weight, *bias)):
        if values.dtype != x.dtype:
            raise Error(f"{name}: x is {x.dtype} but the {what} is {values.dtype}; convert one of them, "
                        f"e.g. Tensor(x, dtype=np.{values.dtype})")


def _weighted(name, x, weight, bias) -> list[Tensor]:
    """The inputs of a layer: x, its weight and, where there is one, its bias."""
    inputs = [x, weight] if bias is None else [x, weight, as_tensor(bias)]
    _same_dtype(name, *inputs)
    if bias is not None and inputs[2].shape != weight.shape[:1]:
        raise Error(f"{name}: the bias has shape {inputs[2].shape}, expected one number per output: {weight.shape[:1]}")
    return inputs
