"""A real card, where there is one: every kernel against the reference, and whole runs, twice, to the same bits.

benchmarks/gpu_session.py runs this file on a card, and the tests called `kernel` also under compute-sanitizer. On the
stand-in for CuPy (cupy_double.py) the slow proofs run it without one, so that it is known to work.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from minirewind import Error, data, functional, kernels, nn, prune, train
from minirewind.tensor import Tensor

EXACT = kernels.backend("reference")


@pytest.fixture(scope="module", params=["card", pytest.param("stand-in", marks=pytest.mark.slow)])
def gpu(request):
    """The backend of device "gpu"; its precision is tf32, where the card has tensor cores."""
    if request.param == "card":
        try:
            yield kernels.backend("gpu")
        except Error as reason:
            pytest.skip(str(reason))
        return
    if shutil.which("g++") is None or not sys.platform.startswith("linux"):
        pytest.skip("the emulated device needs Linux and g++")
    from minirewind.kernels.gpu import card
    spec = importlib.util.spec_from_file_location("cupy", Path(__file__).parent / "cupy_double.py")
    with pytest.MonkeyPatch.context() as patch:
        double, real = importlib.util.module_from_spec(spec), kernels.backend
        patch.setitem(sys.modules, "cupy", double)
        spec.loader.exec_module(double)
        backend = card.Card()
        patch.setattr(kernels, "backend", lambda name: backend if name == "gpu" else real(name))
        yield backend


@pytest.fixture(params=["fp32", "tf32"])
def precision(request, gpu):
    if request.param == "tf32" and gpu.precision == "fp32":
        pytest.skip("this card has no tensor cores for TF32")
    before, gpu.precision = gpu.precision, request.param
    yield request.param
    gpu.precision = before


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def tf32(x):
    """Rounded as the tensor cores do, to 10 bits of fraction, half away from zero."""
    return (x.view(np.uint32) + np.uint32(0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def error(result, exact):
    """norm(a - b) / norm(b)"""
    result, exact = np.asarray(result, np.float64), np.asarray(exact, np.float64)
    assert result.shape == exact.shape
    return np.linalg.norm(result - exact) / max(np.linalg.norm(exact), 1e-20)


def hold(gpu, name, *arguments, tolerance=1e-5):
    """A kernel in float32 against the reference in float64, its results and what it changes in place; and again."""
    def ours():
        given = [gpu.asarray(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments]
        results = getattr(gpu, name)(*given)
        results = results if isinstance(results, tuple) else () if results is None else (results,)
        return [gpu.to_host(a) for a in (*results, *(a for a in given if isinstance(a, gpu.xp.ndarray)))]

    theirs = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else
              a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    exact = getattr(EXACT, name)(*theirs)
    exact = exact if isinstance(exact, tuple) else () if exact is None else (exact,)
    first, second = ours(), ours()
    for a, again, b in zip(first, second, (*exact, *(a for a in theirs if isinstance(a, np.ndarray))), strict=True):
        assert error(a, b) < tolerance
        assert np.array_equal(a, again)                         # no chance in it


CONVOLUTIONS = {        # x, filters, stride, padding
    "3x3": ((4, 16, 8, 8), (16, 16, 3, 3), (1, 1), (1, 1)),
    "first layer": ((2, 3, 9, 7), (16, 3, 3, 3), (1, 1), (1, 1)),
    "stride 2": ((2, 16, 8, 8), (32, 16, 3, 3), (2, 2), (1, 1)),
    "1x1, stride 2": ((2, 16, 7, 7), (20, 16, 1, 1), (2, 2), (0, 0)),
    "wide": ((1, 68, 4, 4), (70, 68, 3, 3), (1, 1), (1, 1)),
    "odd everything": ((3, 5, 9, 8), (7, 5, 2, 4), (2, 3), (3, 1)),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_kernels_of_convolution(gpu, precision, case):
    x_shape, weight_shape, stride, padding = CONVOLUTIONS[case]
    place = stride, padding
    rounded = tf32 if precision == "tf32" else np.asarray
    limit = 1e-4 if precision == "tf32" else 1e-5
    x, weight, bias = rounded(normal(*x_shape)), rounded(normal(*weight_shape, seed=1)), normal(weight_shape[0], seed=2)
    hold(gpu, "conv2d", x, weight, bias, *place, tolerance=limit)
    dy = rounded(normal(*EXACT.conv2d(x, weight, bias, *place).shape, seed=3))
    hold(gpu, "conv2d_input_gradient", dy, weight, x_shape, *place, tolerance=limit)
    hold(gpu, "conv2d_weight_gradient", dy, x, weight_shape, *place, tolerance=limit)
    y, sums = gpu.conv2d_and_sums(gpu.asarray(x), gpu.asarray(weight), *place)
    moments = gpu.moments(y, 1e-5, None, None, 0.1, sums)
    wanted = EXACT.moments(gpu.to_host(y).astype(np.float64), 1e-5, None, None, 0.1)
    assert all(error(gpu.to_host(a), b) < 1e-5 for a, b in zip(moments, wanted))


def test_kernels_of_convolution_take_images_that_begin_anywhere(gpu, precision):
    values, weight, place = tf32(normal(25)), tf32(normal(4, 4, 1, 1)), ((1, 1), (0, 0))
    ours, exact = (array[1:].reshape(6, 4, 1, 1) for array in (gpu.asarray(values), values))   # loaded 16 bytes at once
    y = gpu.conv2d(ours, gpu.asarray(weight), None, *place)
    dweight = gpu.conv2d_weight_gradient(ours, ours, weight.shape, *place)
    assert error(gpu.to_host(y), EXACT.conv2d(exact, weight, None, *place)) < 1e-4
    assert error(gpu.to_host(dweight), EXACT.conv2d_weight_gradient(exact, exact, weight.shape, *place)) < 1e-4


@pytest.mark.parametrize("shape", [(3, 16, 5, 4), (40, 7), (2, 70, 3, 3), (1, 4, 20, 20)])
def test_kernels_of_batch_norm(gpu, shape):
    x, residual, dy = (normal(*shape, seed=k) for k in range(3))
    mean, inverse_std, weight, bias = (0.5 + np.abs(normal(shape[1], seed=k)) for k in range(4))
    hold(gpu, "moments", 3 * x + 1, 1e-5, mean, weight, 0.1)
    y = np.maximum(x, 0)
    for relu, other in (True, residual), (False, None):
        hold(gpu, "normalise", x, other, mean, inverse_std, weight, bias, relu)
        for batch_statistics in True, False:
            hold(gpu, "normalise_gradient", dy, y, x, mean, inverse_std, weight, relu, batch_statistics)
    hold(gpu, "relu", x)
    hold(gpu, "relu_gradient", dy, y)


@pytest.mark.parametrize("place", [((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 3), (1, 0))])
def test_kernels_of_pooling(gpu, place):
    x = np.random.default_rng(0).integers(-3, 4, (2, 5, 7, 8)).astype(np.float32)       # integers: many equal values
    y, source = EXACT.max_pool2d(x, *place)
    dy = normal(*y.shape)
    hold(gpu, "max_pool2d", x, *place)
    hold(gpu, "max_pool2d_gradient", dy, source, x.shape)
    hold(gpu, "avg_pool2d", x, *place)
    hold(gpu, "avg_pool2d_gradient", dy, x.shape, *place)


def test_kernels_of_loss_update_and_matmul(gpu):
    logits, target = 20 * normal(70, 10), np.random.default_rng(1).integers(0, 10, 70)
    hold(gpu, "cross_entropy", logits, target)
    hold(gpu, "cross_entropy_gradient", np.float32(0.3), np.abs(normal(70, 10)), target)
    hold(gpu, "matmul", normal(17, 40), normal(40, 5))
    mask = np.random.default_rng(3).random(700) < 0.6
    for nesterov in True, False:
        hold(gpu, "sgd", *(normal(700, seed=k) for k in range(3)), mask, 0.1, 0.9, nesterov, 2e-4)


def toy(floats=False):
    images = np.random.default_rng(0).integers(0, 256, (11, 3, 6, 6)).astype(np.float32 if floats else np.uint8)
    split = data.Split(images / 256 if floats else images, np.random.default_rng(1).integers(0, 4, 11))
    return data.Data(split, split, split, 4, pad=2, flip=True)


@pytest.mark.parametrize("floats", [False, True])
def test_kernels_of_the_batch_are_equal_to_the_bit(gpu, floats):
    """Which images, how cropped and flipped, and every pixel; some batches straddle two epochs, or three."""
    for step in 0, 1, 5, 400:
        for size in 7, 30:
            clock = train.Clock(3, 1, 2, size, step)
            ours = gpu.clock(clock)
            data.wind(ours, toy(floats), step, 0.1)
            batch = map(gpu.to_host, data.batch(toy(floats), size, ours, gpu))
            assert all(np.array_equal(a, b) for a, b in zip(batch, data.batch(toy(floats), size, clock, EXACT)))


class Smooth(nn.Module):
    """A small network without corners."""

    def __init__(self):
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.pool = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.AvgPool2d(3)
        self.softplus, self.fc = nn.Softplus(), nn.Linear(12, 4)

    def forward(self, x):
        x = self.softplus(self.bn1(self.conv1(x)))
        return self.fc(self.pool(self.softplus(self.conv2(x))).flatten(1))


def runs(device, seeds, steps=20):
    """Of several seeds, the second one pruned."""
    recipe, found = train.Recipe(steps, batch_size=4, rate=0.05, nesterov=True), []
    for seed in seeds:
        model = Smooth().to(device).initialise(seed)
        start = train.State.copy(model)
        if seed == 1:
            start = start.masked(prune.new_mask(model, start, 0.3), 0)
        found.append(train.Run(model, toy(), recipe, seed=seed, start=start))
    return found


def trained(*side_by_side):
    losses = [record.loss for _, record in train.train_together(side_by_side, 5)]
    return [train.State.copy(run.model) for run in side_by_side], losses


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("weights", "momentum", "statistics"))


def test_all_work_goes_through_one_stream(gpu):
    """Also after a graph whose branches had streams of their own, and after CuPy has put an array into order."""
    counts = [gpu.xp.zeros((), np.int64) for _ in range(2)]

    def counting(count):
        def step():
            count[...] = count + 1
        return step

    step = gpu.capture(*map(counting, counts))
    for _ in range(5):
        step()
    gpu.to_host(gpu.empty((2, 3, 4, 5)))
    assert step.graph is not None
    assert [int(count) for count in counts] == [5, 5]
    assert gpu.cupy.cuda.get_current_stream() == gpu.stream


def test_twenty_steps_follow_the_cpu(gpu, precision):
    (ours,), losses = trained(*runs("gpu", [0]))
    (exact,), wanted = trained(*runs("reference", [0]))
    limit = 1e-5 if precision == "fp32" else 1e-2
    assert error(ours.weights, exact.weights) < limit
    assert error(ours.statistics, exact.statistics) < limit
    assert np.allclose(losses, wanted, rtol=limit)


def test_two_runs_have_the_same_bits_captured_or_not_alone_or_side_by_side(gpu, precision, monkeypatch):
    (first,), losses = trained(*runs("gpu", [0], 8))
    (second,), again = trained(*runs("gpu", [0], 8))
    assert losses == again
    assert same(first, second)
    assert not gpu.told                                         # or nothing was captured at all
    several, _ = trained(*runs("gpu", [0, 1, 2], 8))
    assert same(several[0], first)
    assert same(several[1], trained(*runs("gpu", [1], 8))[0][0])
    assert (several[1].weights[~several[1].mask] == 0).all()
    monkeypatch.setattr(gpu, "capture", lambda *steps: kernels.Backend.capture(gpu, *steps))
    (plain,), uncaptured = trained(*runs("gpu", [0], 8))
    assert uncaptured == losses
    assert same(plain, first)


def test_the_accuracy_is_the_references(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "precision", "fp32")               # two scores may be near each other
    model = Smooth().to("gpu").initialise(0)
    accuracy = train.Evaluation(model, toy().test, 4)
    for seed in range(3):
        model.initialise(seed)
        assert accuracy() == train.evaluate(Smooth().initialise(seed), toy().test)


def test_gradients_of_every_layer_are_the_references(gpu, precision):
    gradients = {}
    for device in "gpu", "reference":
        model = Smooth().to(device).initialise(0)
        x, y = Tensor(normal(4, 3, 8, 8)[:, :, :6, :6].copy(), device=device), Tensor([0, 1, 2, 3], device=device)
        nn.pack(model)
        functional.cross_entropy(model(x), y).backward()
        gradients[device] = kernels.backend(device).to_host(model.vectors.gradients)
    assert error(gradients["gpu"], gradients["reference"]) < (1e-4 if precision == "fp32" else 1e-2)
