"""Every kernel of every backend, held to the NumPy reference in float64."""

import inspect
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirewind import errors, kernels
from minirewind.kernels import loops, process
from minirewind.kernels.reference import Reference

EXACT = kernels.backend("reference")
KERNELS = [name for name, kernel in vars(Reference).items() if isinstance(kernel, staticmethod)]

FAST = settings(max_examples=20, deadline=None)


@pytest.fixture(params=["reference", "cpu", pytest.param("emulated", marks=pytest.mark.slow)], scope="module")
def backend(request):
    if request.param != "emulated":
        return kernels.backend(request.param)
    if shutil.which("g++") is None or not sys.platform.startswith("linux"):
        pytest.skip("the emulated device needs Linux and g++")
    from minirewind.kernels.gpu.emulator import Emulated
    device = Emulated()
    device.precision = "fp32"                   # tests/test_gpu.py has the tensor cores, and is quicker
    return device


def rng(*key):
    return np.random.default_rng(key)


def error(result, exact):
    """norm(a - b) / norm(b), the relative error of a whole array."""
    result, exact = np.asarray(result, np.float64), np.asarray(exact, np.float64)
    assert result.shape == exact.shape
    return np.linalg.norm(result - exact) / max(np.linalg.norm(exact), 1e-20)


def hold(backend, name, *arguments, tolerance=1e-4):
    """The kernel in float32 against the reference's in float64: every result, and every array it changes in place."""
    def copied(dtype):
        return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in arguments]

    ours, theirs = list(arguments), copied(np.float64)
    ours = [a if not isinstance(a, np.ndarray) or not a.flags.c_contiguous else a.copy() for a in ours]
    results, exact = getattr(backend, name)(*ours), getattr(EXACT, name)(*theirs)
    if not isinstance(results, tuple):
        results, exact = (results,), (exact,)
    for result, wanted in zip(results, exact, strict=True):
        if wanted is not None:
            assert error(result, wanted) < tolerance
            assert not np.issubdtype(wanted.dtype, np.floating) or result.dtype == np.float32
    for changed, wanted in zip(ours, theirs):
        if isinstance(changed, np.ndarray) and changed.dtype == np.float32:
            assert error(np.nan_to_num(changed), np.nan_to_num(wanted)) < tolerance
    return results


# Inputs of any layout -------------------------------------------------------------------------------------------------


def laid(array, layout):
    """The same values (N, C, H, W), otherwise in memory."""
    if layout == "batch innermost":
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    if layout == "channels last":
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == "every other":
        wide = np.zeros((*array.shape[:-1], array.shape[-1] * 2), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "backwards":
        return np.ascontiguousarray(array[::-1, :, ::-1])[::-1, :, ::-1]
    return array


LAYOUTS = st.sampled_from(["C", "batch innermost", "channels last", "every other", "backwards"])
BATCHES = st.sampled_from([1, 2, 7, 8, 16, 24, 33, 64])
CHANNELS = st.sampled_from([1, 2, 3, 4, 5, 8, 11])


@st.composite
def convolutions(draw):
    """x, weight, bias, stride, padding of any convolution that has an output."""
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (2, 2), (3, 1), (7, 4)]))
    stride, padding = draw(st.tuples(*[st.integers(1, 3)] * 2)), draw(st.tuples(*[st.integers(0, 3)] * 2))
    size = [draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding)]
    N, C, K, seed = draw(BATCHES), draw(CHANNELS), draw(CHANNELS), draw(st.integers(0, 99))
    x = rng(seed).standard_normal((N, C, *size), np.float32)
    weight = rng(seed, 1).standard_normal((K, C, *kernel), np.float32)
    bias = draw(st.sampled_from([None, rng(seed, 2).standard_normal(K, np.float32)]))
    return laid(x, draw(LAYOUTS)), weight, bias, stride, padding


@FAST
@given(convolutions())
def test_convolution(backend, case):
    hold(backend, "conv2d", *case)


@st.composite
def three_by_three(draw):
    """Convolutions of the kind that Winograd's algorithm takes."""
    padding = draw(st.tuples(*[st.integers(0, 2)] * 2))
    N, C, K = (draw(st.sampled_from(some)) for some in ([16, 24, 33, 64, 130], [8, 12, 20], [8, 12, 20]))
    seed, size = draw(st.integers(0, 99)), draw(st.tuples(*[st.integers(4, 10)] * 2))
    x, weight = rng(seed).standard_normal((N, C, *size), np.float32), rng(1).standard_normal((K, C, 3, 3), np.float32)
    bias = draw(st.sampled_from([None, rng(seed, 2).standard_normal(K, np.float32)]))
    return laid(x, draw(LAYOUTS)), weight, bias, (1, 1), padding


@FAST
@given(three_by_three())
def test_three_by_three_convolution(backend, case):
    x, weight, _, stride, padding = case
    y, = hold(backend, "conv2d", *case)
    dy = rng(3).standard_normal(y.shape, np.float32)
    hold(backend, "conv2d_input_gradient", dy, weight, x.shape, stride, padding)
    hold(backend, "conv2d_weight_gradient", dy, x, weight.shape, stride, padding)


@FAST
@given(convolutions(), LAYOUTS)
def test_gradients_of_convolution(backend, case, layout):
    x, weight, bias, stride, padding = case
    y = EXACT.conv2d(x, weight, bias, stride, padding)
    dy = laid(rng(3).standard_normal(y.shape, np.float32), layout)
    hold(backend, "conv2d_input_gradient", dy, weight, x.shape, stride, padding)
    hold(backend, "conv2d_weight_gradient", dy, x, weight.shape, stride, padding)
    if dy.shape[0] > 1:                          # a sum near zero of a few numbers is not worth a relative error
        hold(backend, "conv2d_bias_gradient", dy)


@pytest.fixture(scope="module")
def looping():
    """The NumPy reference with its loops in place of its convolutions, and the CPU's with theirs."""
    plain = pytest.importorskip("minirewind.kernels.cpu.plain")

    class Loops(Reference):
        conv2d = staticmethod(loops.conv2d_steps)
        conv2d_input_gradient = staticmethod(loops.conv2d_input_gradient)
        conv2d_weight_gradient = staticmethod(loops.conv2d_weight_gradient)

    class Planes(Reference):
        conv2d = staticmethod(plain.conv2d)
        conv2d_input_gradient = staticmethod(plain.conv2d_input_gradient)
        sparse_conv2d = staticmethod(plain.sparse_conv2d)
        sparse_conv2d_input_gradient = staticmethod(plain.sparse_conv2d_input_gradient)

    return Loops(), Planes()


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([((1, 1), (0, 0)), ((1, 1), (1, 1)), ((2, 1), (1, 2)), ((3, 2), (2, 0))]), st.integers(0, 9))
def test_the_loops_are_what_convolution_means(looping, place, seed):
    (stride, padding), generator = place, rng(seed)
    shape = tuple(generator.integers((1, 1, 3, 3), (4, 4, 6, 6)))
    x = generator.standard_normal(shape, np.float32)
    weight = generator.standard_normal((2, shape[1], *generator.integers(1, 4, 2)), np.float32)
    bias, mask = generator.standard_normal(2, np.float32), generator.random(weight.shape) < 0.5
    for backend in looping:
        y, = hold(backend, "conv2d", x, weight, bias, stride, padding)
        hold(backend, "conv2d", x, weight, None, stride, padding)
        dy = generator.standard_normal(y.shape, np.float32)
        hold(backend, "conv2d_input_gradient", dy, weight, x.shape, stride, padding)
        hold(backend, "conv2d_weight_gradient", dy, x, weight.shape, stride, padding)
        hold(backend, "sparse_conv2d", x, weight, bias, EXACT.sparse_entries(mask), stride, padding)
        hold(backend, "sparse_conv2d_input_gradient", dy, weight, EXACT.sparse_entries(mask), x.shape, stride, padding)


@pytest.mark.parametrize("mirrored", [False, True])
def test_winograds_convolution_tile_by_tile_is_the_kernels(mirrored):
    pytest.importorskip("numba")
    from minirewind.kernels.cpu import convolution, plain, winograd

    x, weight = rng(0).standard_normal((35, 8, 128), np.float32), rng(1).standard_normal((16, 8, 3, 3), np.float32)
    bias = rng(2).standard_normal(16, np.float32)
    arguments = x, convolution.pack(weight, bias, False), mirrored, (5, 7), (1, 2), 16
    images, filters = x.reshape(5, 7, 8, 128).transpose(3, 2, 0, 1), weight[..., ::-1, ::-1] if mirrored else weight
    exact = EXACT.conv2d(images.astype(float), filters.astype(float), bias.astype(float), (1, 1), (1, 2))
    for convolve in (plain.winograd, winograd.convolve):
        assert error(convolve(*arguments), exact.transpose(2, 3, 1, 0).reshape(-1, 16, 128)) < 1e-4


@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16]))
def test_a_sum_in_lanes_is_the_sum(length, lanes):
    x, w = rng(0).standard_normal(length), rng(1).standard_normal(length)
    assert np.isclose(loops.dot_in_lanes(x, w, lanes), x @ w)


@FAST
@given(convolutions(), LAYOUTS, st.sampled_from([0, 0.1, 0.5, 1]))
def test_sparse_convolution(backend, case, layout, density):
    x, weight, bias, stride, padding = case
    entries = backend.sparse_entries(rng(4).random(weight.shape) < density)
    weight[~entries.mask] = np.nan                                       # masked weights are not even read
    y, = hold(backend, "sparse_conv2d", x, weight, bias, entries, stride, padding)
    dy = laid(rng(3).standard_normal(y.shape, np.float32), layout)
    hold(backend, "sparse_conv2d_input_gradient", dy, weight, entries, x.shape, stride, padding)
    dweight, = hold(backend, "sparse_conv2d_weight_gradient", dy, x, entries, stride, padding)
    assert (dweight[~entries.mask] == 0).all()


def test_sparse_kernels_pay_below_some_density():
    cpu = kernels.backend("cpu")
    for shape, weight_shape, stride in [
            ((128, 16, 32, 32), (16, 16, 3, 3), (1, 1)), ((128, 64, 8, 8), (64, 64, 3, 3), (1, 1)),
            ((64, 8, 8, 8), (16, 8, 1, 1), (2, 2)), ((8, 5, 9, 9), (7, 5, 5, 5), (1, 1))]:
        size, padding = np.prod(weight_shape), (weight_shape[2] // 2,) * 2
        assert cpu.sparse_pays(shape, weight_shape, size // 20, stride, padding)
        assert not cpu.sparse_pays(shape, weight_shape, size, stride, padding)


@FAST
@given(BATCHES | st.just(200), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 0.1, 0.5, 1]),
       st.booleans(), st.booleans(), st.integers(0, 99))
def test_sparse_linear_layers(backend, N, inputs, outputs, density, biased, turned, seed):
    x, dy = (rng(seed, size).standard_normal((N, size), np.float32) for size in (inputs, outputs))
    if turned:
        x, dy = np.asfortranarray(x), dy[::-1, ::-1]
    weight = rng(seed, 1).standard_normal((outputs, inputs), np.float32)
    bias = rng(seed, 2).standard_normal(outputs, np.float32) if biased else None
    entries = backend.sparse_entries(rng(seed, 3).random(weight.shape) < density)
    weight[~entries.mask] = np.nan                                       # masked weights are not even read
    hold(backend, "sparse_linear", x, weight, bias, entries)
    hold(backend, "sparse_linear_input_gradient", dy, weight, entries)
    dweight, = hold(backend, "sparse_linear_weight_gradient", dy, x, entries)
    assert (dweight[~entries.mask] == 0).all()


def test_sparse_linear_layers_pay_below_some_density_and_above_some_size():
    cpu = kernels.backend("cpu")
    for batch in (7, 128):
        assert cpu.sparse_linear_pays((batch, 784), (300, 784), 784 * 300 // 50)
        assert cpu.sparse_linear_pays((2, batch, 784), (300, 784), 784 * 300 // 50)
        assert not cpu.sparse_linear_pays((batch, 784), (300, 784), 784 * 300)
        assert not cpu.sparse_linear_pays((batch, 64), (10, 64), 0)      # the classifier of a ResNet-20


def test_relu_of_a_transposed_array_is_the_transposed_relu(backend):
    x, dy = (rng(k).standard_normal((24, 7), np.float32).T for k in range(2))
    for order in (np.asfortranarray, np.ascontiguousarray):
        hold(backend, "relu", order(x))
        hold(backend, "relu_gradient", dy, order(x))


@pytest.mark.parametrize(("channels", "filters", "size", "kernel", "stride"),
                         [(3, 16, 16, 3, 1), (16, 16, 8, 3, 1), (16, 32, 16, 3, 2), (32, 16, 7, 1, 2),
                          (16, 32, 9, 3, 1)])
def test_convolutions_of_a_resnet(backend, channels, filters, size, kernel, stride):
    x = rng(0).standard_normal((128, channels, size, size), np.float32)
    weight = rng(1).standard_normal((filters, channels, kernel, kernel), np.float32)
    where = (stride, stride), (kernel // 2, kernel // 2)
    y, = hold(backend, "conv2d", x, weight, None, *where)
    dy = rng(2).standard_normal(y.shape, np.float32)
    hold(backend, "conv2d_input_gradient", dy, weight, x.shape, *where)
    hold(backend, "conv2d_weight_gradient", dy, x, weight.shape, *where)


def test_filters_may_lie_anyhow(backend):
    x = rng(0).standard_normal((4, 3, 6, 6), np.float32)
    weight = laid(rng(1).standard_normal((5, 3, 3, 3), np.float32), "channels last")
    hold(backend, "conv2d", x, weight, None, (1, 1), (1, 1))


def test_an_image_of_nan_spoils_no_other(backend):
    x = rng(0).standard_normal((9, 4, 8, 8), np.float32)
    weight = rng(1).standard_normal((4, 4, 3, 3), np.float32)
    clean = backend.conv2d(x, weight, None, (1, 1), (1, 1))
    x[3] = np.nan
    y = backend.conv2d(x, weight, None, (1, 1), (1, 1))
    assert np.isnan(y[3]).all()
    assert np.array_equal(np.delete(y, 3, axis=0), np.delete(clean, 3, axis=0))


# Batch normalisation --------------------------------------------------------------------------------------------------


@st.composite
def maps(draw, count):
    """`count` float32 arrays of one shape, (N, C, H, W) or (N, C), each in a layout of its own."""
    shape = (draw(BATCHES), draw(CHANNELS), *draw(st.sampled_from([(), (1, 1), (4, 4), (5, 3)])))
    seed = draw(st.integers(0, 99))
    arrays = [rng(seed, k).standard_normal(shape, np.float32) for k in range(count)]
    return [laid(a, draw(LAYOUTS)) if len(shape) == 4 else a for a in arrays]


def channels(x, count):
    return [rng(7, k).uniform(0.5, 1.5, x.shape[1]).astype(np.float32) for k in range(count)]


@FAST
@given(maps(1), st.booleans())
def test_moments(backend, arrays, with_running):
    x, = arrays
    if x.size // x.shape[1] < 4:
        return                                   # the spread of one or two numbers is not worth a relative error
    running = channels(x, 2) if with_running else (None, None)
    hold(backend, "moments", x * 3 + 1, 1e-5, *running, 0.1)


def test_moments_keep_their_digits_far_from_zero(backend):
    x = 1000 + rng(0).standard_normal((64, 3, 8, 8), np.float32)
    hold(backend, "moments", x, 1e-5, None, None, 0.1)


@FAST
@given(maps(3), st.booleans(), st.booleans(), st.booleans())
def test_normalise_and_its_gradient(backend, arrays, relu, with_residual, batch_statistics):
    x, residual, dy = arrays
    mean, inverse_std, weight, bias = channels(x, 4)
    y, = hold(backend, "normalise", x, residual if with_residual else None, mean, inverse_std, weight, bias, relu)
    hold(backend, "normalise_gradient", dy, y, x, mean, inverse_std, weight, relu, batch_statistics)


@FAST
@given(maps(2))
def test_relu_and_its_gradient(backend, arrays):
    x, dy = arrays
    y, = hold(backend, "relu", x)
    hold(backend, "relu_gradient", dy, y)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 4, 4)])
def test_nan_passes_relu(backend, shape):
    x = rng(0).standard_normal(shape, np.float32)
    x[1, 2], x[2, 3], x[3, 3] = np.nan, np.inf, -np.inf
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    for y in backend.relu(x), backend.normalise(x, None, zeros, ones, ones, zeros, True):
        assert np.array_equal(y, np.maximum(x, 0), equal_nan=True)


# Pooling --------------------------------------------------------------------------------------------------------------


@st.composite
def poolings(draw):
    size = draw(st.sampled_from([(2, 2), (3, 3), (3, 2), (1, 1), (4, 4)]))
    stride = draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in size)
    shape = (draw(BATCHES), draw(CHANNELS), draw(st.integers(4, 8)), draw(st.integers(4, 8)))
    x = rng(draw(st.integers(0, 99))).integers(-3, 4, shape).astype(np.float32)      # integers: many equal values
    return laid(x, draw(LAYOUTS)), size, stride, padding


@FAST
@given(poolings())
def test_max_pooling_and_its_gradient(backend, case):
    y, source = hold(backend, "max_pool2d", *case)
    dy = rng(1).standard_normal(y.shape, np.float32)
    assert np.array_equal(source, EXACT.max_pool2d(*case)[1])
    hold(backend, "max_pool2d_gradient", dy, source, case[0].shape)


@FAST
@given(poolings())
def test_average_pooling_and_its_gradient(backend, case):
    y, = hold(backend, "avg_pool2d", *case)
    dy = rng(1).standard_normal(y.shape, np.float32)
    hold(backend, "avg_pool2d_gradient", dy, case[0].shape, *case[1:])


def test_nan_and_infinity_in_max_pooling(backend):
    x = rng(0).standard_normal((8, 3, 6, 6), np.float32)
    x[0, 0, 1, 1], x[1, 1, 2:4, 2:4], x[2], x[3] = np.nan, np.inf, -np.inf, np.nan
    case = x, (3, 3), (2, 2), (1, 1)
    for ours, exact in zip(backend.max_pool2d(*case), EXACT.max_pool2d(*case)):
        assert np.array_equal(ours, exact, equal_nan=True)


# Loss and update ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (128, 10), (64, 1000)])
def test_cross_entropy_and_its_gradient(backend, shape):
    logits = 20 * rng(0).standard_normal(shape, np.float32)
    target = rng(1).integers(0, shape[1], shape[0])
    _, probabilities = hold(backend, "cross_entropy", logits, target)
    hold(backend, "cross_entropy_gradient", np.float32(1), probabilities, target)
    hold(backend, "cross_entropy_gradient", np.float32(0.3), probabilities, target.astype(np.int32))


def test_cross_entropy_survives_huge_logits(backend):
    loss, probabilities = backend.cross_entropy(np.float32([[1e30, 0], [-1e30, 0]]), np.array([0, 1]))
    assert loss == 0
    assert np.array_equal(probabilities, [[1, 0], [0, 1]])


def test_cross_entropy_of_nan_is_nan(backend):
    loss, _ = backend.cross_entropy(np.float32([[0, 1], [np.nan, 0]]), np.array([0, 1]))
    assert np.isnan(loss)


def test_a_class_that_does_not_exist_is_an_error(backend):
    if not backend.immediate:                   # a card does not stop to look
        assert np.isnan(backend.cross_entropy(np.zeros((2, 10), np.float32), np.array([3, 10]))[0])
        return
    with pytest.raises((errors.Error, IndexError)):
        backend.cross_entropy(np.zeros((2, 10), np.float32), np.array([3, 10]))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("size", [1, 1000, 100_001])
def test_sgd(backend, size, nesterov):
    weights, gradients, momentum = (rng(k).standard_normal(size, np.float32) for k in range(3))
    mask = rng(3).random(size) < 0.6
    hold(backend, "sgd", weights, gradients, momentum, mask, 0.1, 0.9, nesterov, 2e-4)


def test_a_masked_weight_is_zero_whatever_its_gradient(backend):
    weights, momentum = np.ones(9, np.float32), np.ones(9, np.float32)
    gradients = np.full(9, np.nan, np.float32)
    mask = np.arange(9) % 2 == 0
    backend.sgd(weights, gradients, momentum, mask, 0.1, 0.9, True, 1e-4)
    assert (weights[~mask] == 0).all()
    assert (momentum[~mask] == 0).all()
    assert np.isnan(weights[mask]).all()


# What holds for all of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
def test_signatures_are_the_references(backend, name):
    ours, exact = (list(inspect.signature(getattr(each, name)).parameters) for each in (backend, EXACT))
    assert ours == exact


def test_images_lie_batch_innermost_on_the_cpu():
    cpu = kernels.backend("cpu")
    x = cpu.empty((6, 3, 5, 4))
    assert x.shape == (6, 3, 5, 4)
    assert x.transpose(2, 3, 1, 0).flags.c_contiguous
    y = cpu.conv2d(np.ones((6, 3, 5, 4), np.float32), np.ones((2, 3, 3, 3), np.float32), None, (1, 1), (1, 1))
    assert y.transpose(2, 3, 1, 0).flags.c_contiguous


def every_kernel(backend, dtype=np.float32, N=32):
    """The results of all kernels on one input, large enough that they run in parallel."""
    shape = N, 16, 12, 12
    x, residual, dy = (rng(k).standard_normal(shape).astype(dtype) for k in range(3))
    weight = rng(4).standard_normal((16, 16, 3, 3)).astype(dtype)
    mean, inverse_std, gamma, beta = (rng(5, k).uniform(0.5, 1.5, 16).astype(dtype) for k in range(4))
    running, ones = (beta.copy(), gamma.copy()), (1, 1)
    vectors = [rng(6, k).standard_normal(200_000).astype(dtype) for k in range(3)]
    y = backend.normalise(x, residual, mean, inverse_std, gamma, beta, True)
    pooled, source = backend.max_pool2d(x, (3, 3), (2, 2), ones)
    mask, entries = vectors[0] < 1, backend.sparse_entries(weight > 1)
    rows, dense = x.reshape(N, -1)[:, :784], rng(7).standard_normal((200, 784)).astype(dtype)
    few = backend.sparse_entries(dense > 1)
    backend.sgd(*vectors, mask, 0.1, 0.9, True, 1e-4)
    return [
        backend.conv2d(x, weight, beta, ones, ones),
        backend.conv2d(x, weight, None, (2, 2), ones),
        backend.conv2d_input_gradient(dy, weight, shape, ones, ones),
        backend.conv2d_weight_gradient(dy, x, weight.shape, ones, ones),
        backend.conv2d_bias_gradient(dy),
        backend.conv2d_weight_gradient(dy[:, :, ::2, ::2], x, weight.shape, (2, 2), ones),
        backend.sparse_conv2d(x, weight, beta, entries, ones, ones),
        backend.sparse_conv2d_input_gradient(dy, weight, entries, shape, ones, ones),
        backend.sparse_conv2d_weight_gradient(dy, x, entries, ones, ones),
        backend.sparse_linear(rows, dense, None, few),
        backend.sparse_linear_input_gradient(rows[:, : len(dense)], dense, few),
        backend.sparse_linear_weight_gradient(rows[:, : len(dense)], rows, few),
        *backend.moments(x, 1e-5, *running, 0.1), *running, y,
        *backend.normalise_gradient(dy, y, x, mean, inverse_std, gamma, True, True),
        *backend.normalise_gradient(dy, y, x, mean, inverse_std, gamma, False, False),
        backend.relu(x), backend.relu_gradient(dy, y),
        pooled, source, backend.max_pool2d_gradient(pooled, source, shape),
        backend.avg_pool2d(x, (12, 12), (12, 12), (0, 0)),
        backend.avg_pool2d_gradient(pooled, shape, (2, 2), (2, 2), (0, 0)),
        *backend.cross_entropy(x[:, :, 0, 0], np.arange(N) % 16), *vectors,
    ]


def test_the_same_bits_on_one_thread_and_on_two():
    cpu, before = kernels.backend("cpu"), process.threads()
    if before < 2:
        pytest.skip("one thread is all there is")
    both = every_kernel(cpu)
    try:
        process.set_threads(1)
        one = every_kernel(cpu)
    finally:
        process.set_threads(before)
    for a, b in zip(one, both, strict=True):
        assert np.array_equal(a, b)


def test_float64_goes_through_the_reference():
    both = every_kernel(kernels.backend("cpu"), np.float64), every_kernel(EXACT, np.float64)
    for ours, exact in zip(*both, strict=True):
        assert ours.dtype == exact.dtype
        assert np.array_equal(ours, exact)


def test_an_empty_batch(backend):
    x = np.zeros((0, 3, 6, 6), np.float32)
    weight = np.zeros((4, 3, 3, 3), np.float32)
    y = backend.conv2d(x, weight, None, (1, 1), (1, 1))
    assert y.shape == (0, 4, 6, 6)
    assert backend.conv2d_input_gradient(y, weight, x.shape, (1, 1), (1, 1)).shape == x.shape
    assert (backend.conv2d_weight_gradient(y, x, weight.shape, (1, 1), (1, 1)) == 0).all()
    assert backend.relu(x).shape == x.shape
    assert backend.max_pool2d(x, (2, 2), (2, 2), (0, 0))[0].shape == (0, 3, 3, 3)


# The process ----------------------------------------------------------------------------------------------------------


def test_threads_are_counted_from_one():
    kernels.backend("cpu")
    with pytest.raises(errors.Error, match="at least 1"):
        process.set_threads(0)
    with pytest.raises(errors.Error, match="NUMBA_NUM_THREADS=10000"):
        process.set_threads(10_000)


def run(code, **environment):
    result = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment},
                            capture_output=True, text=True, check=True)
    return result.stdout, result.stderr


def test_importing_the_package_does_not_import_numba():
    run("import minirewind.kernels, sys; assert 'numba' not in sys.modules")


def test_only_the_first_run_compiles_and_says_so_once(tmp_path):
    code = ("import numpy as np; from minirewind import kernels; cpu = kernels.backend('cpu');"
            "cpu.relu(np.ones((4, 4), np.float32)); cpu.relu_gradient(*np.ones((2, 4, 4), np.float32))")
    first, second = (run(code, NUMBA_CACHE_DIR=str(tmp_path))[1] for _ in range(2))
    assert first.count("compiling") == 1
    assert second == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no child processes by fork")
def test_a_child_that_waits_for_ever_is_stopped_and_then_there_are_no_more_children():
    code = ("import time, minirewind.kernels as k; k.backend('cpu'); from minirewind.kernels.cpu import compiling;"
            "compiling.PATIENCE = 1; start = time.monotonic();"
            "print(compiling.in_a_child(lambda: None), compiling.in_a_child(lambda: time.sleep(60)),"
            "      compiling.in_a_child(lambda: None), time.monotonic() - start < 30)")
    assert run(code)[0].split() == ["True", "True", "False", "True"]


@pytest.mark.slow
def test_the_run_that_compiles_has_the_bits_of_all_later_ones(tmp_path):
    code = ("import numpy as np; from minirewind import kernels; cpu = kernels.backend('cpu');"
            "x = np.random.default_rng(0).standard_normal((128, 16, 32, 32), np.float32) + 0.3;"
            "print(cpu.moments(x, 1e-5, None, None, 0.1)[0].tobytes().hex())")
    first, second = (run(code, NUMBA_CACHE_DIR=str(tmp_path))[0] for _ in range(2))
    assert first == second


def test_nothing_compiled_is_left_beside_the_sources(tmp_path):
    code = ("from minirewind.kernels.cpu import layout, update; import numpy as np, pathlib;"
            "layout.batch_innermost(np.ones((2, 2, 2, 2), np.float32));"
            "print(update.masked_momentum_step.serial.stats.cache_path)")
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path))[0].startswith(str(tmp_path / "minirewind" / "kernels-"))


def test_only_the_last_few_caches_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    names = [f"kernels-{number:02}" for number in range(process.KEPT_CACHES + 3)]
    for age, name in enumerate(names[:-1]):
        (tmp_path / "minirewind" / name).mkdir(parents=True)
        os.utime(tmp_path / "minirewind" / name, (age, age))
    (tmp_path / "minirewind" / "other").mkdir()
    process.writable_cache(names[-1])
    left = sorted(folder.name for folder in (tmp_path / "minirewind").iterdir())
    assert left == [*names[-process.KEPT_CACHES:], "other"]


def test_without_numba_numpy_steps_in_after_one_sentence():
    code = ("import sys, importlib.util as u; find = u.find_spec;"
            "u.find_spec = lambda name, *a: None if name == 'numba' else find(name, *a);"
            "from minirewind import kernels; b = kernels.backend('cpu'); kernels.backend('cpu');"
            "assert b.name == 'cpu' and 'numba' not in sys.modules")
    assert run(code)[1].count("Numba is not installed") == 1
