"""The CUDA kernels, on the emulated device; and the host code around them, with a stand-in for CuPy."""

import dataclasses
import functools
import gc
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from minirewind import Error, cli, data, files, functional, kernels, models, nn, prune, retrain, study, tensor, train
from minirewind.kernels import hashing
from minirewind.kernels.gpu import sources
from minirewind.tensor import Tensor

if shutil.which("g++") is None or not sys.platform.startswith("linux"):
    pytest.skip("the emulated device needs Linux and g++", allow_module_level=True)

from minirewind.kernels.gpu import card, emulator

EXACT = kernels.backend("reference")


class Poison:
    """NumPy, but new memory is full of NaN, or of a number that no index should be: what nobody wrote, shows."""

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=np.float32):
        return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 99, dtype)


def device(precision="fp32", seed=0):
    emulated = emulator.Emulated()
    emulated.precision, emulated.seed, emulated.xp = precision, seed, Poison()
    return emulated


FP32, TF32 = device(), device("tf32")


@pytest.fixture
def exactly():
    """Networks on "emulated" in full float32 precision."""
    backend = kernels.backend("emulated")
    before, backend.precision = backend.precision, "fp32"
    yield backend
    backend.precision = before


def rng(*key):
    return np.random.default_rng(key)


def normal(*shape, seed=0):
    return rng(seed, *shape).standard_normal(shape, np.float32)


def tf32(x):
    """Rounded as the tensor cores do, to 10 bits of fraction, half away from zero."""
    return (x.astype(np.float32).view(np.uint32) + np.uint32(0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def error(result, exact):
    """norm(a - b) / norm(b)"""
    result, exact = np.asarray(result, np.float64), np.asarray(exact, np.float64)
    assert result.shape == exact.shape
    return np.linalg.norm(result - exact) / max(np.linalg.norm(exact), 1e-20)


def hold(backend, name, *arguments, tolerance=1e-5):
    """A kernel in float32 against the reference in float64: its results, and what it changes in place."""
    def copies(dtype):
        return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in arguments]

    ours, exact = copies(np.float32), copies(np.float64)
    results, wanted = getattr(backend, name)(*ours), getattr(EXACT, name)(*exact)
    pairs = zip(results, wanted, strict=True) if isinstance(wanted, tuple) else [(results, wanted)]
    for a, b in [*pairs, *zip(ours, exact)]:
        if isinstance(b, (np.ndarray, np.floating)):
            assert error(a, b) < tolerance
    return results


# Kernels against the reference ----------------------------------------------------------------------------------------

CONVOLUTIONS = {        # x, filters, stride, padding
    "3x3": ((2, 16, 8, 8), (16, 16, 3, 3), (1, 1), (1, 1)),
    "first layer": ((2, 3, 9, 7), (16, 3, 3, 3), (1, 1), (1, 1)),
    "stride 2": ((2, 16, 8, 8), (32, 16, 3, 3), (2, 2), (1, 1)),
    "1x1, stride 2": ((2, 16, 7, 7), (20, 16, 1, 1), (2, 2), (0, 0)),
    "wide": ((1, 68, 4, 4), (70, 68, 3, 3), (1, 1), (1, 1)),
    "odd everything": ((3, 5, 9, 8), (7, 5, 2, 4), (2, 3), (3, 1)),
    "one number": ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0)),
    "many pixels": ((6, 4, 9, 9), (8, 4, 3, 3), (1, 1), (0, 0)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_and_gradients_emulated_in_float32(case):
    x_shape, weight_shape, stride, padding = CONVOLUTIONS[case]
    x, weight, bias = normal(*x_shape), normal(*weight_shape, seed=1), normal(weight_shape[0], seed=2)
    y = hold(FP32, "conv2d", x, weight, bias, stride, padding)
    dy = normal(*y.shape, seed=3)
    hold(FP32, "conv2d", x, weight, None, stride, padding)
    hold(FP32, "conv2d_input_gradient", dy, weight, x_shape, stride, padding)
    hold(FP32, "conv2d_weight_gradient", dy, x, weight_shape, stride, padding)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_and_gradients_emulated_on_tensor_cores(case):
    x_shape, weight_shape, stride, padding = CONVOLUTIONS[case]
    x, weight, bias = tf32(normal(*x_shape)), tf32(normal(*weight_shape, seed=1)), normal(weight_shape[0], seed=2)
    y = hold(TF32, "conv2d", x, weight, bias, stride, padding, tolerance=1e-6)
    dy = tf32(normal(*y.shape, seed=3))
    hold(TF32, "conv2d_input_gradient", dy, weight, x_shape, stride, padding, tolerance=1e-6)
    hold(TF32, "conv2d_weight_gradient", dy, x, weight_shape, stride, padding)


def test_images_may_begin_anywhere_emulated():
    """A part of another array may be whole, and yet begin where 16 bytes cannot be loaded at once."""
    weight, place = tf32(normal(4, 4, 1, 1)), ((1, 1), (0, 0))
    for start in range(4):
        x, dy = (tf32(normal(start + 24, seed=k))[start:].reshape(6, 4, 1, 1) for k in range(2))
        for name, *arguments in (("conv2d", x, weight, None), ("conv2d_input_gradient", dy, weight, x.shape),
                                 ("conv2d_weight_gradient", dy, x, weight.shape)):
            ours, exact = (getattr(backend, name)(*arguments, *place) for backend in (TF32, EXACT))
            assert error(ours, exact) < 1e-6


def test_more_than_an_int_can_count_is_not_for_the_kernels_emulated(monkeypatch):
    """Neither where it goes in nor where only the result is as large."""
    def launch(file, name, *_):
        raise AssertionError(name)

    monkeypatch.setattr(FP32, "launch", launch)
    monkeypatch.setattr("minirewind.kernels.gpu.host.LARGEST", 100)
    place = (1, 1), (0, 0)
    hold(FP32, "conv2d", normal(1, 1, 5, 5), normal(5, 1, 1, 1), None, *place)
    hold(FP32, "conv2d_input_gradient", normal(1, 1, 4, 4), normal(1, 7, 1, 1), (1, 7, 4, 4), *place)
    hold(FP32, "conv2d_weight_gradient", normal(1, 20, 1, 1), normal(1, 6, 1, 1), (20, 6, 1, 1), *place)
    hold(FP32, "matmul", normal(11, 5), normal(5, 10))
    hold(FP32, "relu", normal(101))


def test_a_product_higher_than_a_grid_can_be_is_not_for_the_kernels_emulated(doubled):
    x, y = (Tensor(np.ones(shape, np.float32), device="gpu") for shape in ((16 * 65_535 + 1, 1), (1, 1)))
    assert (x @ y).numpy().sum() == x.size


def test_tensor_cores_emulated_round_their_inputs_to_tf32():
    x, weight = normal(2, 8, 6, 6), normal(8, 8, 3, 3, seed=1)
    y = TF32.conv2d(x, weight, None, (1, 1), (1, 1))
    assert np.array_equal(y, TF32.conv2d(tf32(x), tf32(weight), None, (1, 1), (1, 1)))
    assert 1e-5 < error(y, EXACT.conv2d(x.astype(float), weight, None, (1, 1), (1, 1))) < 1e-3


def test_images_emulated_may_lie_anyhow_and_results_lie_channels_last():
    x, weight = normal(2, 8, 6, 6), normal(8, 8, 3, 3, seed=1)
    y = FP32.conv2d(x, weight, None, (1, 1), (1, 1))
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert FP32.empty((2, 8, 6, 6)).transpose(0, 2, 3, 1).flags.c_contiguous
    turned = np.asfortranarray(x)[::-1]
    assert np.array_equal(FP32.conv2d(turned, weight, None, (1, 1), (1, 1)), y[::-1])


@pytest.mark.parametrize("shape", [(3, 16, 5, 4), (2, 3, 6, 6), (40, 7), (2, 70, 3, 3), (1, 4, 20, 20)])
def test_batch_norm_emulated(shape):
    x, residual, dy = (normal(*shape, seed=k) for k in range(3))
    mean, inverse_std, weight, bias = (rng(7, k).uniform(0.5, 1.5, shape[1]).astype(np.float32) for k in range(4))
    hold(FP32, "moments", 3 * x + 1, 1e-5, mean, weight, 0.1)
    hold(FP32, "moments", x, 1e-5, None, None, 0.1)
    for relu, other in (True, residual), (False, None):
        y = hold(FP32, "normalise", x, other, mean, inverse_std, weight, bias, relu)
        for batch_statistics in True, False:
            hold(FP32, "normalise_gradient", dy, y, x, mean, inverse_std, weight, relu, batch_statistics)


def test_moments_emulated_keep_their_digits_far_from_zero():
    hold(FP32, "moments", 1000 + normal(8, 3, 8, 8), 1e-5, None, None, 0.1)


@pytest.mark.parametrize("case", ["3x3", "stride 2", "wide", "odd everything", "many pixels"])
def test_moments_emulated_out_of_the_convolutions_epilogue(case):
    """The convolution is the same to the bit, and x need not be read again: NaN in its place changes nothing."""
    x_shape, weight_shape, *place = CONVOLUTIONS[case]
    for backend, offset in (TF32, 0), (TF32, 1000), (FP32, 0):
        x, weight = normal(*x_shape) + np.float32(offset), normal(*weight_shape, seed=1)
        y, sums = backend.conv2d_and_sums(x, weight, *place)
        assert np.array_equal(y, backend.conv2d(x, weight, None, *place))
        running, exact = [np.ones(len(weight), np.float32) for _ in range(2)], [np.ones(len(weight)) for _ in range(2)]
        assert (sums is None) == (backend is FP32)
        unread = y if sums is None else np.full_like(y, np.nan)
        moments = backend.moments(unread, 1e-5, *running, 0.1, sums)
        wanted = EXACT.moments(y.astype(np.float64), 1e-5, *exact, 0.1)
        for a, b in zip((*moments, *running), (*wanted, *exact)):
            assert error(a, b) < 1e-5


def test_a_batch_norm_behind_a_convolution_takes_its_sums_emulated(monkeypatch):
    asked, backend = [], kernels.backend("emulated")
    moments = backend.moments
    monkeypatch.setattr(backend, "moments", lambda *arguments: asked.append(arguments[-1]) or moments(*arguments))
    x, weight, bias = (Tensor(normal(*s), True, device="emulated") for s in ((2, 3, 5, 5), (4, 3, 3, 3), (4,)))
    z = functional.conv2d(x, weight)
    for follows in z, functional.conv2d(x, weight, bias), functional.relu(z):
        functional.batch_norm(follows, None, None, training=True)
    assert asked == [z.function.sums, None, None]
    assert z.function.sums.shape == (1, 2, 4)
    with tensor.no_grad():
        assert functional.conv2d(x, weight).function is None


def test_statistics_that_are_parts_of_something_else_emulated():
    x, both = normal(4, 5, 3, 3), np.stack([normal(5), normal(5) ** 2], axis=1)
    running = both.copy()
    moments = FP32.moments(x, 1e-5, running[:, 0], running[:, 1], 0.1)
    EXACT.moments(x, 1e-5, both[:, 0], both[:, 1], 0.1)
    assert np.allclose(running, both, rtol=1e-5)
    y = FP32.normalise(x, None, *(np.repeat(m, 2)[::2] for m in moments), both[:, 0], both[:, 1], False)
    assert error(y, EXACT.normalise(x, None, *moments, both[:, 0], both[:, 1], False)) < 1e-5
    vectors = [normal(20, seed=k)[::2] for k in range(3)]
    exact = [v.astype(float) for v in vectors]
    for backend, v in (FP32, vectors), (EXACT, exact):
        backend.sgd(*v, np.arange(10) > 3, 0.1, 0.9, True, 1e-4)
    assert error(vectors[0], exact[0]) < 1e-5


def test_sums_of_images_emulated_lie_channels_last():
    x, y = normal(2, 3, 4, 5), np.moveaxis(normal(2, 4, 5, 3, seed=1), 3, 1)
    assert np.array_equal(FP32.add(x, y), x + y)
    assert FP32.add(x, y).transpose(0, 2, 3, 1).flags.c_contiguous
    for a, b in (x[0], y), (x, y[:1]), (x[:0], y[:0]), (x.astype(float), y):
        assert np.array_equal(FP32.add(a, b), a + b)


def test_nothing_is_laid_out_anew_between_the_layers_of_a_resnet_emulated(doubled, monkeypatch):
    """CuPy's own arithmetic gives channels first, whatever it is given; so none of it may stand between layers."""
    model = models.build("resnet8-4", input_shape=(3, 8, 8), classes=4).to("gpu")
    x, y = Tensor(normal(4, 3, 8, 8), device="gpu"), Tensor([0, 1, 2, 3], device="gpu")
    doubled.lay_out_anew, turned = True, []

    def channels_last(backend, x, original=card.Card.channels_last):
        if x.ndim == 4 and not x.transpose(0, 2, 3, 1).flags.c_contiguous:
            turned.append(x.shape)
        return original(backend, x)

    monkeypatch.setattr(card.Card, "channels_last", channels_last)
    functional.cross_entropy(model(x), y).backward()
    assert turned == [(4, 3, 8, 8), (4, 3, 8, 8)]      # our own images, twice


def test_nan_passes_relu_emulated():
    x = normal(5, 6, 4, 4)
    x[1, 2], x[2, 3], x[3, 3] = np.nan, np.inf, -np.inf
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    for y in FP32.relu(x), FP32.normalise(x, None, zeros, ones, ones, zeros, True):
        assert np.array_equal(y, np.maximum(x, 0), equal_nan=True)
    hold(FP32, "relu_gradient", normal(5, 6, 4, 4, seed=1), normal(5, 6, 4, 4, seed=2))


@pytest.mark.parametrize("place", [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 2), (1, 3), (1, 0)),
                                   ((4, 4), (4, 4), (0, 0))])
def test_pooling_emulated(place):
    x = rng(0).integers(-3, 4, (2, 5, 7, 8)).astype(np.float32)             # integers: many equal values
    y, source = hold(FP32, "max_pool2d", x, *place)
    assert np.array_equal(source, EXACT.max_pool2d(x, *place)[1])
    dy = normal(*y.shape)
    hold(FP32, "max_pool2d_gradient", dy, source, x.shape)
    hold(FP32, "avg_pool2d", x, *place)
    hold(FP32, "avg_pool2d_gradient", dy, x.shape, *place)


def test_nan_and_infinity_in_max_pooling_emulated():
    x = normal(4, 3, 6, 6)
    x[0, 0, 1, 1], x[1, 1, 2:4, 2:4], x[2], x[3] = np.nan, np.inf, -np.inf, np.nan
    place = (3, 3), (2, 2), (1, 1)
    for ours, exact in zip(FP32.max_pool2d(x, *place), EXACT.max_pool2d(x, *place)):
        assert np.array_equal(ours, exact, equal_nan=True)


@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (3, 100)])
def test_cross_entropy_emulated(shape):
    logits, target = 20 * normal(*shape), rng(1).integers(0, shape[1], shape[0])
    _, probabilities = hold(FP32, "cross_entropy", logits, target)
    hold(FP32, "cross_entropy_gradient", np.float32(0.3), probabilities, target)
    target[0] = shape[1]
    assert np.isnan(FP32.cross_entropy(logits, target)[0])


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_emulated(nesterov):
    weights, gradients, momentum = (normal(700, seed=k) for k in range(3))
    mask = rng(3).random(700) < 0.6
    hold(FP32, "sgd", weights, gradients, momentum, mask, 0.1, 0.9, nesterov, 2e-4)
    gradients[:] = np.nan
    FP32.sgd(weights, gradients, momentum, mask, np.full((), 0.1, np.float32), 0.9, nesterov, 2e-4)
    assert (weights[~mask] == 0).all()
    assert (momentum[~mask] == 0).all()


@pytest.mark.parametrize("count", [1, 4, 5])
def test_gradients_emulated_come_home_four_by_four(count):
    """Added, never where a weight is masked, were it NaN; leaves that are no parameters of a packed model go alone."""
    class Leaves(nn.Module):
        def __init__(self):
            self.some = [nn.Parameter(normal(3 * i + 1, 100), prunable=True) for i in range(count)]

    model, backend = Leaves().to("emulated"), kernels.backend("emulated")
    vectors = nn.pack(model)
    vectors.set_mask(rng(1).random(vectors.mask.shape) < 0.6)
    vectors.gradients[...] = before = np.where(vectors.mask, normal(*vectors.mask.shape), 0)
    alone = Tensor(normal(5), True, device="emulated")
    arrived = [(p, normal(*p.shape, seed=1)) for p in model.parameters()]
    arrived[0][1][0] = np.where(arrived[0][0].mask[0], 1, np.nan)
    backend.accumulate([*arrived, (alone, normal(5, seed=1))])
    found = np.concatenate([gradient.ravel() for _, gradient in arrived])
    assert np.array_equal(vectors.gradients, np.where(vectors.mask, before + found, 0))
    assert np.array_equal(alone.grad, normal(5, seed=1))


@pytest.mark.parametrize(("M", "N", "K"), [(1, 1, 1), (17, 5, 40), (32, 16, 16)])
def test_matmul_emulated(M, N, K):
    x, y = normal(M, K), normal(K, N, seed=1)
    z = hold(FP32, "matmul", x, y)
    for a, b in (x.T.copy().T, y), (x, y.T.copy().T), (np.repeat(x, 2, 0)[::2], y):
        assert np.array_equal(FP32.matmul(a, b), z)
    direct = np.empty((M, N), np.float32)
    FP32.launch("matmul", "matmul_direct", (-(-N // 16), -(-M // 16)), (16, 16), x, y, direct, M, N, K, K, 1, N, 1)
    assert error(direct, z) < 1e-6


def test_other_types_and_empty_arrays_go_through_the_reference_emulated():
    x, weight = normal(2, 3, 6, 6).astype(np.float64), normal(4, 3, 3, 3).astype(np.float64)
    where = (1, 1), (1, 1)
    assert np.array_equal(FP32.conv2d(x, weight, None, *where), EXACT.conv2d(x, weight, None, *where))
    assert FP32.conv2d(np.float32(x[:0]), np.float32(weight), None, *where).shape == (0, 4, 6, 6)
    assert FP32.relu(x).dtype == np.float64


def test_gradients_of_the_engine_emulated_agree_with_differences():
    """Through the reference, in float64: the device's name changes nothing about the graph."""
    def network(x, weight):
        return functional.softplus(functional.conv2d(x, weight, padding=1)).mean((2, 3))

    shapes = (2, 2, 5, 5), (3, 2, 3, 3)
    assert tensor.gradcheck(network, *(Tensor(normal(*s).astype(float), True, device="emulated") for s in shapes))


# The batch of a step: equal to the bit --------------------------------------------------------------------------------


def toy(count=11, floats=False, size=6):
    images = rng(0).integers(0, 256, (count, 3, size, size)).astype(np.float32 if floats else np.uint8)
    split = data.Split(images / 256 if floats else images, rng(1).integers(0, 4, count))
    return data.Data(split, split, split, 4, pad=2, flip=True)


@pytest.mark.parametrize("floats", [False, True])
def test_batches_emulated_have_the_same_bits(floats):
    dataset = toy(floats=floats)
    for step in 0, 1, 5, 400:                   # batches of 7 out of 11 images: some straddle two epochs, or three
        for size in 7, 30:
            clock = train.Clock(3, 1, 2, size, step)
            ours = FP32.clock(clock)
            data.wind(ours, dataset, step, 0.1)
            x, y = data.batch(dataset, size, ours, FP32)
            exact_x, exact_y = data.batch(dataset, size, clock, EXACT)
            assert np.array_equal(x, exact_x)
            assert np.array_equal(y, exact_y)
            assert np.array_equal(data.batch(dataset, size, clock, FP32)[0], exact_x)


def test_the_hash_emulated_is_the_hosts():
    key, step = int(hashing.hash_words(1, 2, 3)), np.array(2**40, np.int64)
    order = np.arange(50)
    _, dy, dx, flip = FP32.batch_plan(order, step, key, 50, 50, 1000, True)
    bits = hashing.hash_words(1, 2, 3, 2**40, np.arange(50))
    places, low = np.uint64(2001), np.uint64(2**24 - 1)
    assert np.array_equal(dy, (bits >> np.uint64(40)) * places >> np.uint64(24))
    assert np.array_equal(dx, (bits >> np.uint64(16) & low) * places >> np.uint64(24))
    assert np.array_equal(flip, bits % np.uint64(2) == 1)


# Whole networks -------------------------------------------------------------------------------------------------------


class Smooth(nn.Module):
    """A small network without corners: convolutions, batch norm with a residual, pooling, a dense layer."""

    def __init__(self, dropout=0.0):
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.pool = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.AvgPool2d(3)
        self.softplus, self.dropout, self.fc = nn.Softplus(), nn.Dropout(dropout), nn.Linear(12, 4)

    def forward(self, x):
        x = self.softplus(self.bn1(self.conv1(x)))
        x = self.pool(self.softplus(self.conv2(x)))
        return self.fc(self.dropout(x.flatten(1)))


RECIPE = train.Recipe(20, batch_size=4, rate=0.05, nesterov=True, weight_decay=2e-4)


def trained(device, recipe=RECIPE, model=None, **settings):
    model = (model or Smooth()).to(device).initialise(0)
    records = list(train.train(model, toy(), recipe, seed=0, report_every=5, **settings))
    return train.State.copy(model), [record.loss for record in records], model


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("weights", "momentum", "statistics"))


def test_twenty_steps_emulated_follow_the_reference(exactly):
    ours, losses, model = trained("emulated")
    exact, wanted, _ = trained("reference")
    assert error(ours.weights, exact.weights) < 1e-5
    assert error(ours.momentum, exact.momentum) < 1e-4
    assert error(ours.statistics, exact.statistics) < 1e-5
    assert np.allclose(losses, wanted, rtol=1e-5)
    assert ours.step == 20
    assert train.evaluate(model, toy().test) == train.evaluate(model.to("reference"), toy().test)


def test_tensor_cores_emulated_train_nearly_the_same():
    assert kernels.backend("emulated").precision == "tf32"
    assert error(trained("emulated")[0].weights, trained("reference")[0].weights) < 1e-2


def test_two_runs_emulated_have_the_same_bits_whatever_the_order_of_threads():
    backend = kernels.backend("emulated")
    short = train.Recipe(3, batch_size=4)
    first = trained("emulated", short)[0]
    for backend.seed in 1, 2:
        assert same(trained("emulated", short)[0], first)
    backend.seed = 0


def test_gradients_of_a_residual_network_emulated_are_the_references(exactly):
    gradients = {}
    for name in "emulated", "reference":
        model = models.build("resnet8-4", input_shape=(3, 8, 8), classes=4, bn_momentum=0.1).initialise(0).to(name)
        nn.pack(model)
        x, y = Tensor(normal(4, 3, 8, 8), device=name), Tensor([0, 1, 2, 3], device=name)
        functional.cross_entropy(model(x), y).backward()
        gradients[name] = model.vectors.gradients
    a, b = gradients["emulated"], gradients["reference"].astype(np.float64)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9999
    assert error(a, b) < 1e-3


def test_pruning_and_retraining_emulated(exactly):
    recipe = train.Recipe(4, batch_size=4)
    model = Smooth().to("emulated").initialise(0)
    early = train.State.copy(model)
    list(train.train(model, toy(), recipe, seed=0))
    dense = train.State.copy(model)
    list(retrain.one_round(model, toy(), recipe, dense, early, retrain.weight_rewinding, 0.3, seed=0))
    state, prunable = train.State.copy(model), nn.pack(model).prunable
    assert state.mask[prunable].sum() == prune.keep_count(prunable.sum(), 0.3)
    assert (state.weights[~state.mask] == 0).all()
    assert (state.momentum[~state.mask] == 0).all()


# The emulator notices what is wrong -----------------------------------------------------------------------------------


class Mutant(emulator.Emulated):
    """The emulated device with one file's text replaced."""

    def __init__(self, file, text):
        super().__init__()
        self.file, self.text = file, text

    @functools.cache  # noqa: B019
    def compile(self, name):
        return emulator.Module(self.text) if name == self.file else TF32.compile(name)


def exercised(backend, file):
    """Results of a file's kernels that have barriers, on shapes with several blocks, chunks and slices."""
    x, weight, place = normal(4, 16, 9, 9), normal(20, 16, 3, 3, seed=1), ((1, 1), (1, 1))
    dy, channel = normal(4, 20, 9, 9, seed=2), normal(16, seed=3)
    with np.errstate(all="ignore"):
        if file in ("tensor_cores", "convolution"):
            return (*backend.conv2d_and_sums(x, weight, *place),
                    backend.conv2d_weight_gradient(dy, x, weight.shape, *place))
        if file == "normalisation":
            return (*backend.moments(x, 1e-5, None, None, 0.1),
                    *backend.normalise_gradient(x, x, x, channel, channel, channel, True, True))
        if file == "loss":
            return backend.cross_entropy(normal(70, 10), np.arange(70) % 10)
        return (backend.matmul(normal(20, 40), normal(40, 20, seed=1)),)


BARRIERS = [(file, match.start()) for file in sources.names()
            for match in re.finditer(r"__syncthreads\(\);", sources.text(file))]


def without(text, place):
    return text[:place] + text[place:].replace("__syncthreads();", "", 1)


@pytest.mark.parametrize(("file", "place"), BARRIERS)
def test_a_missing_barrier_emulated_is_noticed(file, place):
    good = exercised(TF32, file)
    mutant = Mutant(file, without(sources.text(file), place))
    for mutant.seed in 0, 1, 2, 3:
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(exercised(mutant, file), good)):
            return
    raise AssertionError(f"nobody misses the barrier in {sources.text(file)[place - 300 : place]}")


@pytest.mark.parametrize("file", sorted({file for file, _ in BARRIERS}))
def test_with_its_barriers_a_kernel_emulated_does_not_depend_on_the_order(file):
    good = exercised(TF32, file)
    for seed in 1, 2, 3:
        for a, b in zip(exercised(device("tf32", seed), file), good):
            assert np.array_equal(a, b)


def test_what_cannot_go_on_is_an_error_emulated():
    module = emulator.Module(sources.text("update") + """
        extern "C" __global__ void wait(int n) {
          if ((int)threadIdx.x < n) __syncthreads();
          else if (threadIdx.x == 40) __syncthreads(), __syncwarp(), __syncthreads();
          else __syncwarp(), __syncthreads();
        }
        extern "C" __global__ void leave(int n) {
          if ((int)threadIdx.x < n) __syncthreads();
        }""")
    kernel, leave = module.get_function("wait"), module.get_function("leave")
    kernel((1,), (64,), (64,))
    leave((1,), (64,), (64,))
    for each, n in (kernel, 32), (leave, 63):           # who has ended reaches no barrier either
        with pytest.raises(RuntimeError, match="never reach"):
            each((1,), (64,), (n,))
    with pytest.raises(TypeError, match="takes 1 arguments, got 2"):
        kernel((1,), (32,), (1, 2))
    with pytest.raises(RuntimeError, match="1 to 1024 threads"):
        kernel((1,), (2048,), (1,))


def test_a_kernel_gets_whole_arrays_only_emulated():
    with pytest.raises(TypeError, match="whole arrays"):
        FP32.launch("normalisation", "relu", (1,), (256,), normal(10)[::2], normal(5), 5)


def test_what_gplusplus_does_not_take_is_told():
    with pytest.raises(RuntimeError, match="does not take"):
        emulator.Module("nonsense;")


def test_without_gplusplus_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Error, match="g\\+\\+"):
        emulator.Emulated()


def under_the_address_sanitizer(code):
    """What a Python program says in which every access of sanitised C++ is checked; skips where that cannot be."""
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not Path(runtime).is_file():
        pytest.skip("g++ has no address sanitizer here")
    environment = {**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0",
                   "PYTHONPATH": str(Path(data.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
                          env=environment)
    if not done.stdout and "AddressSanitizer" not in done.stderr:
        pytest.skip(f"Python does not start under the address sanitizer: {done.stderr[-200:]}")
    return done


def test_reading_past_the_end_emulated_is_found_by_the_address_sanitizer():
    done = under_the_address_sanitizer("""
        import numpy as np
        from minirewind.kernels.gpu import emulator, sources
        module = emulator.Module(sources.text('normalisation'), flags=('-fsanitize=address',))
        x, y = np.ones(5000, np.float32), np.ones(5000, np.float32)
        for count in 5000, 5001:
            module.get_function('relu')((20,), (256,), (x, y, count))
            print('passed', count, flush=True)
        """)
    assert done.stdout == "passed 5000\n", done.stderr
    assert "heap-buffer-overflow" in done.stderr
    assert "normalisation.cu" in done.stderr


@pytest.mark.slow
def test_no_kernel_emulated_leaves_its_arrays():
    """All of them under the address sanitizer, on shapes that fill no tile."""
    done = under_the_address_sanitizer("""
        import functools
        import numpy as np
        from minirewind import data, train
        from minirewind.kernels.gpu import emulator, sources

        class Sanitised(emulator.Emulated):
            @functools.cache
            def compile(self, name):
                return emulator.Module(sources.text(name), flags=("-fsanitize=address",))

        gpu, normal = Sanitised(), lambda *shape: np.random.default_rng(0).standard_normal(shape, np.float32)
        for precision in "fp32", "tf32":
            gpu.precision = precision
            for N, C, K, size, kernel, stride, padding in (
                    (2, 3, 5, (9, 7), (3, 3), (1, 1), (1, 1)), (3, 8, 17, (5, 6), (2, 4), (2, 3), (3, 1)),
                    (1, 68, 70, (4, 4), (3, 3), (1, 1), (1, 1)), (6, 4, 8, (9, 9), (1, 1), (2, 2), (0, 0))):
                x, weight, bias = normal(N, C, *size), normal(K, C, *kernel), normal(K)
                y = gpu.conv2d(x, weight, bias, stride, padding)
                _, sums = gpu.conv2d_and_sums(x, weight, stride, padding)
                gpu.moments(y, 1e-5, None, None, 0.1, sums)
                gpu.conv2d_input_gradient(y, weight, x.shape, stride, padding)
                gpu.conv2d_weight_gradient(y, x, weight.shape, stride, padding)
        for shape in (3, 5, 4, 3), (2, 70, 3, 3), (40, 7):
            x, c = normal(*shape), normal(shape[1])
            gpu.moments(x, 1e-5, c.copy(), c.copy(), 0.1)
            y = gpu.normalise(x, x, c, c, c, c, True)
            gpu.normalise_gradient(x, y, x, c, c, c, True, True)
            gpu.relu_gradient(x, gpu.relu(x))
        for place in ((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 3), (1, 1)):
            x = normal(2, 5, 7, 8)
            y, source = gpu.max_pool2d(x, *place)
            gpu.max_pool2d_gradient(y, source, x.shape)
            gpu.avg_pool2d_gradient(gpu.avg_pool2d(x, *place), x.shape, *place)
        target = np.arange(7)
        _, probabilities = gpu.cross_entropy(normal(7, 10), target)
        gpu.cross_entropy_gradient(np.float32(1), probabilities, target)
        gpu.matmul(normal(17, 40), normal(40, 5))
        part = normal(33), normal(33), normal(33) > 0, 33
        gpu.launch("update", "accumulate", (1, 4), (256,), *part, *part[:3], 30, *(None, None, None, 0) * 2)
        gpu.add(normal(2, 3, 4, 5), normal(2, 3, 4, 5))
        gpu.sgd(normal(700), normal(700), normal(700), normal(700) > 0, 0.1, 0.9, True, 1e-4)
        images = np.zeros((11, 3, 6, 6), np.uint8)
        split = data.Split(images, np.arange(11) % 4)
        toy = data.Data(split, split, split, 4, pad=2, flip=True)
        clock = gpu.clock(train.Clock(0, 0, 0, 30))
        for step in range(3):
            data.wind(clock, toy, step, 0.1)
            data.batch(toy, 30, clock, gpu)
        print("all of them")
        """)
    assert done.stdout == "all of them\n", done.stderr


# The card's own host code, with a stand-in for CuPy -------------------------------------------------------------------


def load_double():
    """A stand-in of its own, as nothing has happened to it yet."""
    spec = importlib.util.spec_from_file_location("cupy", Path(__file__).parent / "cupy_double.py")
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    return double


@pytest.fixture
def doubled(monkeypatch):
    """Device "gpu" on a stand-in for CuPy, in full float32 precision, and what was launched on it."""
    double = load_double()
    monkeypatch.setitem(sys.modules, "cupy", double)
    backend, real = card.Card(), kernels.backend
    backend.precision = "fp32"
    monkeypatch.setattr(kernels, "backend", lambda name: backend if name == "gpu" else real(name))
    return double


def test_a_captured_step_has_the_same_bits_emulated(doubled, exactly):
    """Twelve steps over three epochs and two drops of the rate: one as it is, one recorded, eleven replays."""
    recipe = train.Recipe(12, batch_size=4, rate=0.05, nesterov=True)
    state, losses, model = trained("gpu", recipe)
    assert doubled.launches.count("graph") == 11
    expected, wanted, _ = trained("emulated", recipe)
    assert same(state, expected)
    assert losses == wanted
    assert state.step == 12
    assert train.evaluate(model, toy().test) == train.evaluate(model.to("reference"), toy().test)


def test_a_masked_network_is_captured_too_emulated(doubled, exactly):
    states = []
    for name in "gpu", "emulated":
        _, _, model = trained(name, train.Recipe(2, batch_size=4))
        now = train.State.copy(model)
        mask = prune.new_mask(model, now, 0.4)
        trained(name, train.Recipe(8, batch_size=4), model, start=now.masked(mask, 2))
        states.append(train.State.copy(model))
    assert doubled.launches.count("graph") == 1 + 5         # of 2 steps, and of 6
    assert same(*states)
    assert (states[0].weights[~states[0].mask] == 0).all()
    assert not states[0].mask.all()


def pruned(model, density, seed):
    start = train.State.copy(model.initialise(seed))
    return start.masked(prune.new_mask(model, start, density), 0)


def side_by_side(device, steps=6):
    """Three runs at once: of other seeds, one of them pruned, one at another rate. Their states, their losses."""
    recipe = train.Recipe(steps, batch_size=4, rate=0.05)
    models = [Smooth().to(device).initialise(seed) for seed in range(3)]
    runs = [train.Run(models[0], toy(), recipe, seed=0),
            train.Run(models[1], toy(), recipe, seed=1, start=pruned(models[1], 0.3, 1), round=2),
            train.Run(models[2], toy(), recipe, seed=2, rate=lambda step: 0.1 / (step + 1))]
    losses = {id(run): [] for run in runs}
    for run, record in train.train_together(runs, report_every=2):
        losses[id(run)].append((record.step, record.loss))
    return [train.State.copy(model) for model in models], list(losses.values())


def one_by_one(device, steps=6):
    recipe, states, losses = train.Recipe(steps, batch_size=4, rate=0.05), [], []
    for seed, more in enumerate([{}, {"round": 2}, {"rate": lambda step: 0.1 / (step + 1)}]):
        model = Smooth().to(device).initialise(seed)
        start = pruned(model, 0.3, 1) if seed == 1 else None
        losses.append([(record.step, record.loss) for record in train.train(
            model, toy(), recipe, seed=seed, start=start, report_every=2, **more)])
        states.append(train.State.copy(model))
    return states, losses


def test_runs_side_by_side_have_the_bits_of_runs_alone_emulated(doubled, exactly):
    """Branches of one graph, replayed in any order their dependencies allow, on streams and pools of their own."""
    states, losses = side_by_side("gpu")
    assert doubled.launches.count("graph") == 5
    for device in "emulated", "gpu":
        alone, wanted = one_by_one(device)
        assert losses == wanted
        assert all(same(*pair) for pair in zip(states, alone))
    assert not states[1].mask.all()
    assert (states[1].weights[~states[1].mask] == 0).all()


def scores_of_pixels(input_shape, classes):
    """As small as a network can be."""
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), classes))


def test_a_study_runs_side_by_side_on_a_card_to_the_same_bits_emulated(doubled, exactly, monkeypatch, tmp_path):
    wanted = study.Study(scores_of_pixels, toy(), train.Recipe(4, batch_size=4), protocols=("one_shot",), rounds=(2, 4),
                         techniques=("fine_tuning", "lr_rewinding"), retrain_fractions=(0.5,), seeds=3)
    widths, together = [], train.train_together
    monkeypatch.setattr(train, "train_together",
                        lambda runs, *every: widths.append(len(runs)) or together(runs, *every))
    side_by_side = study.run(wanted, tmp_path / "many", workers=4, device="gpu", progress=False)
    assert sorted(widths)[-3:] == [4, 4, 4]                     # of 3 seeds' 2 segments, and 12 pruned runs
    monkeypatch.undo()
    alone = study.run(wanted, tmp_path / "one", device="emulated", progress=False)
    assert len(alone) == 12
    for a, b in zip(side_by_side, alone):
        assert dataclasses.replace(a, seconds=0) == dataclasses.replace(b, seconds=0)
    for path in (tmp_path / "one" / "runs").glob("*/state.npz"):
        a, b = (files.read_state(tmp_path / folder / "runs" / path.parent.name / path.name)[0] for folder in
                ("one", "many"))
        assert same(a, b)
        assert np.array_equal(a.mask, b.mask)


@pytest.mark.parametrize("size", [4, 500])
def test_a_captured_evaluation_emulated(doubled, exactly, size):
    """11 images: full batches by a graph, the rest as it is; asked again, it sees the weights of now."""
    model = Smooth().to("gpu").initialise(0)
    accuracy = train.Evaluation(model, toy().test, size)
    full = 11 // min(size, 11)
    for round in range(2):
        model.initialise(round)
        assert accuracy() == train.evaluate(Smooth().initialise(round), toy().test)
        assert doubled.launches.count("graph") == full * (round + 1) - 1
        assert model.training
    doubled.launches.clear()
    model.to("reference").initialise(5)
    assert accuracy() == train.evaluate(Smooth().initialise(5), toy().test)
    assert not doubled.launches


def test_a_rewind_is_four_copies_emulated(doubled):
    model = Smooth().to("gpu").initialise(1)
    early = train.State.copy(model)
    list(train.train(model, toy(), train.Recipe(2, batch_size=4), seed=0))
    late = train.State.copy(model)
    start = early.masked(prune.new_mask(model, late, 0.5), 0)
    doubled.copies.clear()
    start.restore(model)
    assert doubled.copies == [v.nbytes for v in (early.weights, early.momentum, early.statistics, early.mask)]
    assert same(train.State.copy(model), start)


def test_the_stand_in_for_cupy_refuses_what_a_card_would():
    """What it does not refuse, nobody has seen to be right."""
    double = load_double()
    stream, other = double.cuda.Stream(non_blocking=True), double.cuda.Stream(non_blocking=True)
    for forgetful in (lambda: other.__enter__().__exit__(), lambda: double.asarray(np.ones((2, 2))).T.get()):
        stream.use()
        forgetful()
        with pytest.raises(double.CUDARuntimeError, match="default stream"):
            double.asarray(np.ones(4))
    stream.__enter__()
    x, y = double.asarray(np.ones(4, np.float32)), double.asarray(np.ones((2, 2), np.float32))

    def captured(step, launch=True):
        stream.begin_capture()
        try:
            step()
        finally:
            graph = stream.end_capture()
        return graph

    for step, error, said in [
            (lambda: x.get(), RuntimeError, "D2H transfers are disallowed"),
            (lambda: float(x.sum()), RuntimeError, "D2H"),
            (lambda: double.asarray(np.ones(3)), RuntimeError, "H2D transfers are disallowed"),
            (lambda: x.set(np.ones(4, np.float32)), RuntimeError, "H2D"),
            (lambda: double.cuda.Device().synchronize(), RuntimeError, "synchronous"),
            (lambda: x[x > 0], RuntimeError, "boolean indices"),
            (lambda: y @ y, NotImplementedError, "cuBLAS"),
            (lambda: double.tensordot(y, y), NotImplementedError, "cuBLAS")]:
        with pytest.raises(error, match=said):
            captured(step)

    def elsewhere(before, after):
        start = stream.record()
        with other:
            if before:
                other.wait_event(start)
            x.fill(2)
            end = other.record()
        if after:
            stream.wait_event(end)
        return x + 1

    kept = []
    graph = captured(lambda: kept.append(elsewhere(True, True)))
    graph.launch()
    assert kept[0].get().tolist() == [3, 3, 3, 3]
    with pytest.raises(double.CUDARuntimeError, match="Implicit"):
        captured(lambda: elsewhere(False, True))
    with pytest.raises(double.CUDARuntimeError, match="Unjoined"):
        captured(lambda: elsewhere(True, False))

    def race():
        start = stream.record()
        with other:
            other.wait_event(start)
            x.fill(2)
            end = other.record()
        kept.append(x + 1)
        stream.wait_event(end)
    with pytest.raises(double.CUDARuntimeError, match="race"):
        captured(race)

    graph = captured(lambda: x + 1)                 # its result is dropped, and was in nobody's own pool
    with pytest.raises(double.CUDARuntimeError, match="given back"):
        graph.launch()

    sgd = double.RawModule(code=sources.text("update"), options=("-std=c++17",)).get_function("sgd")
    mask = double.asarray(np.ones(4, bool))
    rate = double.asarray(np.ones((), np.float32))
    right = [x, x, x, mask, rate, np.float32(0.9), np.int32(0), np.float32(0), np.int32(4)]
    sgd((1,), (256,), tuple(right))
    for place, wrong in (0, x.a), (0, 0), (5, 0.9), (5, np.float64(0.9)), (6, 0), (8, np.int64(4)):
        with pytest.raises((TypeError, AssertionError)):
            sgd((1,), (256,), (*right[:place], wrong, *right[place + 1 :]))
    with pytest.raises(double.CUDARuntimeError, match="grid"):
        sgd((1, 70000), (256,), tuple(right))


def test_a_step_that_cannot_be_captured_runs_as_it_is_after_one_sentence_emulated(doubled, exactly, capsys):
    recipe = train.Recipe(6, batch_size=4)
    state, _, _ = trained("gpu", recipe, Smooth(dropout=0.5))           # its mask is hashed on the host
    assert capsys.readouterr().err.count("cannot be recorded") == 1
    assert "graph" not in doubled.launches
    assert same(state, trained("emulated", recipe, Smooth(dropout=0.5))[0])


OPERATIONS = {
    "arithmetic": lambda x, w: (x + 1) * x - x / (x * x + 2) + 2 ** x - (-x) ** 2,
    "broadcast": lambda x, w: x * x[:1] + x.sum((2, 3), keepdim=True),
    "functions": lambda x, w: functional.sigmoid(x) + functional.tanh(x).exp() + functional.softplus(x).sqrt().log(),
    "reductions": lambda x, w: x.mean((2, 3)) + x.amax((2, 3)) + x.sum(0).amax((1, 2)),
    "shapes": lambda x, w: x.permute(1, 0, 2, 3).reshape(4, -1).transpose(0, 1).flatten(),
    "index": lambda x, w: x[:, 1:3][..., 0] + x[1, None, 2:, :, 3],
    "rows": lambda x, w: x[Tensor([1, 0, 1], device=x.device)],
    "concatenate and pad": lambda x, w: functional.pad(functional.concatenate([x, x[:1]], 0), (1, 2, 0, -1), value=3),
    "matmul": lambda x, w: x @ x.transpose(2, 3),
    "linear": lambda x, w: functional.linear(x, w.reshape(9, -1)[:, :5], w.reshape(-1)[:9]),
    "relu": lambda x, w: functional.relu(x),
    "dropout": lambda x, w: functional.dropout(x, 0.4, key=3),
    "conv2d": lambda x, w: functional.conv2d(x, w, w.sum((1, 2, 3)), padding="same"),
    "pooling": lambda x, w: functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2),
    "batch norm": lambda x, w: functional.batch_norm_add_relu(x, x, None, None, w[0, :, 0, 0], w[0, :, 1, 1], True),
    "batch norm, steps": lambda x, w: functional.batch_norm_steps(x, None, None, training=True),
    "softmax": lambda x, w: functional.log_softmax(x, 1),
    "loss": lambda x, w: functional.cross_entropy(x, Tensor(np.ones((2, 6, 5), int), device=x.device)),
    "loss, steps": lambda x, w: functional.cross_entropy_steps(x.mean((2, 3)), Tensor([3, 1], device=x.device)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_operation_hands_arrays_of_the_card_to_numpy_emulated(doubled, name):
    results = []
    for place in "gpu", "reference":
        x, w = (Tensor(normal(*shape), True, device=place) for shape in ((2, 4, 6, 5), (3, 4, 3, 3)))
        z = OPERATIONS[name](x, w)
        z.backward(np.ones(z.shape, np.float32))
        results.append([z.numpy(), *(None if leaf.grad is None else Tensor(leaf.grad, device=place).numpy()
                                     for leaf in (x, w))])
    for ours, exact in zip(*results):
        assert ours is exact is None or error(ours, exact) < 1e-5


def test_networks_go_to_the_card_and_back_emulated(doubled):
    model = Smooth().initialise(3)
    before = model.state_dict()
    for device in "gpu", "cpu", "gpu", "reference":
        assert all(np.array_equal(before[name], values) for name, values in model.to(device).state_dict().items())
    assert "Parameter" not in repr(model.to("gpu"))
    model.load_state_dict(before)
    assert train.State.copy(model.to("gpu")).weights.shape == nn.pack(model).weights.shape


def test_the_first_nan_on_a_card_is_explained_emulated(doubled):
    with pytest.raises(Error, match="the learning rate was 1e\\+30"):
        trained("gpu", train.Recipe(10, batch_size=4, rate=1e30))


def test_resuming_on_a_card_has_the_same_bits_emulated(doubled):
    whole, _, model = trained("gpu", train.Recipe(8, batch_size=4))
    half, _, model = trained("gpu", train.Recipe(8, batch_size=4), stop=3)
    list(train.train(model, toy(), train.Recipe(8, batch_size=4), seed=0, start=half))
    assert same(train.State.copy(model), whole)


def test_images_on_the_card_go_with_those_on_the_host_emulated(doubled):
    backend = kernels.backend("gpu")
    images = toy().train.images
    assert backend.resident(images) is backend.resident(images)
    del images
    assert not backend._resident


def test_full_memory_is_one_sentence_emulated(doubled, monkeypatch):
    def step():
        raise doubled.OutOfMemoryError("Out of memory allocating 512 bytes")

    backend = kernels.backend("gpu")
    with pytest.raises(Error, match=r"512 bytes.*\ntry a smaller batch"):
        backend.capture(step)()
    with pytest.raises(Error, match="fewer runs side by side"):
        backend.capture(step, step)()
    monkeypatch.setattr(doubled, "asarray", lambda data: step())
    with pytest.raises(Error, match="fewer images"):
        Tensor(np.ones(3), device="gpu")


def test_a_recording_for_which_memory_runs_out_is_not_used_emulated(doubled, capsys):
    """CuPy may then have given back memory that was recorded already."""
    backend, done = kernels.backend("gpu"), []
    step = backend.capture(lambda: done.append(backend.asarray(1.0)))
    step()
    step.pools[0].total_bytes = iter([100, 50]).__next__
    step()
    step()
    assert step.graph is None
    assert len(done) == 4
    assert "nearly full" in capsys.readouterr().err


def test_the_memory_of_graphs_that_are_gone_is_not_lost_emulated(doubled):
    """A training, an evaluation's full batches and its last one have a pool each; the next round takes them over."""
    backend, pools = kernels.backend("gpu"), set()
    for _ in range(3):
        train.evaluate(trained("gpu", train.Recipe(3, batch_size=4))[2], toy().test, 4)
        gc.collect()
        pools |= {*backend.pools}
        backend.capture(lambda: None)
        assert all(pool.total_bytes() == pool.used_bytes() for pool in backend.pools)
    gc.collect()
    assert 1 <= len(pools) <= 3
    assert doubled.MemoryPool.lost == 0


def test_a_cupy_that_cannot_compile_is_one_sentence_emulated(doubled, monkeypatch):
    """Neither ours nor its own: those include CUDA's headers."""
    def missing(*_):
        raise RuntimeError("CuPy failed to load libnvrtc.so.13")

    for place, name in (doubled.RawModule, "compile"), (doubled, "full"):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, missing, raising=False)
            with pytest.raises(Error, match=r"libnvrtc.so.13\);\npip install 'minirewind\[gpu12\]'"):
                card.Card()


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["compare", "prune"])
def test_the_command_line_works_on_a_card_emulated(doubled, tmp_path, capsys, verb):
    """The embedded digits, a few steps; rows and state as on the CPU's reference, to rounding."""
    pytest.importorskip("jsonargparse")
    more = {"compare": ["--seeds", "1", "--rounds", "2", "--protocols", "one_shot", "--techniques", "lr_rewinding"],
            "prune": ["--density", "0.7"]}[verb]
    for device in "gpu", "reference":
        cli.main([verb, "--device", device, "--network", "lenet_300_100", "--recipe.steps", "2", "--recipe.batch_size",
                  "4", "--out", str(tmp_path / device), *more])
    assert "graph" in doubled.launches
    ours, exact = (sorted((tmp_path / device / "runs").glob("*/state.npz")) for device in ("gpu", "reference"))
    assert [path.parent.name for path in ours] == [path.parent.name for path in exact]
    for a, b in zip(ours, exact):
        assert error(files.read_state(a)[0].weights, files.read_state(b)[0].weights) < 1e-4


@pytest.mark.parametrize(("cuda", "version", "said"), [
    (12, "61", "7.0 or more; this one has 6.1.\nUse device cpu$"), (12, "70", None), (12, "75", None),
    (13, "70", r"7.5 or more; this one has 7.0.\nUse device cpu, or minirewind\[gpu12\]"), (13, "120", None)])
def test_old_cards_emulated(doubled, monkeypatch, cuda, version, said):
    monkeypatch.setattr(doubled.runtime, "runtimeGetVersion", lambda: 1000 * cuda + 20)
    monkeypatch.setattr(doubled.cuda, "Device", lambda: type("Device", (), {"compute_capability": version}))
    if said:
        with pytest.raises(Error, match=said):
            card.Card()
        return
    backend = card.Card()
    assert backend.precision == ("fp32" if version in ("70", "75") else "tf32")
    if version == "75":
        backend.precision = "tf32"
        with pytest.raises(Error, match="tensor cores"):
            backend.conv2d(*(backend.asarray(np.ones((1, 1, 1, 1), np.float32)),) * 2, None, (1, 1), (0, 0))


def test_without_cupy_or_without_a_card_there_is_one_sentence(doubled, monkeypatch):
    def no_driver():
        raise doubled.CUDARuntimeError("cudaErrorInsufficientDriver")

    for count in no_driver, lambda: 0:
        monkeypatch.setattr(doubled.runtime, "getDeviceCount", count)
        with pytest.raises(Error, match="NVIDIA card and its driver"):
            card.find_cupy()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(Error, match=r"minirewind\[gpu12\]"):
        card.find_cupy()


# The compilers for real cards -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("file", sources.names())
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
def test_kernels_compile_as_cupy_compiles_them(file, architecture):
    """By NVRTC, which has no headers of the C library, with the options that card.py and CuPy give it."""
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        nvrtc.getVersion()
    except Exception as reason:
        pytest.skip(f"NVRTC is not installed: {reason}")
    program = nvrtc.createProgram(sources.text(file), f"{file}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*card.OPTIONS, "-ftz=true", f"-arch={architecture}",
                                       "--device-as-default-execution-space"))
    except Exception:
        assert (file, architecture) == ("tensor_cores", "sm_75"), nvrtc.getProgramLog(program)
    else:
        assert nvrtc.getCUBIN(program)
        assert "warning" not in nvrtc.getProgramLog(program)
        assert (file, architecture) != ("tensor_cores", "sm_75")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("file", sources.names())
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_kernels_compile_for_real_cards_and_nothing_spills(file, architecture, tmp_path):
    (tmp_path / f"{file}.cu").write_text(sources.text(file))
    done = subprocess.run(["nvcc", "-std=c++17", f"-arch={architecture}", "-cubin", "-o", tmp_path / "out",
                           "--ptxas-options=-v", tmp_path / f"{file}.cu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
    assert spills
    assert set(spills) == {"0"}
