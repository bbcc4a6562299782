"""Facts about whole networks on the fast kernels: the same numbers as float64 on the plain ones, and no growth."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest

from minirewind import data, functional, models, nn, prune, sparse, train
from minirewind.tensor import Tensor


class Smooth(nn.Module):
    """A small residual network without corners: its gradients can be compared closely."""

    def __init__(self):
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv3, self.bn3 = nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        x = functional.softplus(self.bn1(self.conv1(x)))
        x = functional.softplus(self.bn2(self.conv2(x)) + x)
        x = functional.softplus(self.bn3(self.conv3(x)))
        return self.fc(functional.global_avg_pool2d(x))


def batch(count, shape=(3, 16, 16)):
    random = np.random.default_rng(0)
    return random.standard_normal((count, *shape)), random.integers(0, 10, count)


def pruned(model, density):
    """The model with random weights left in every layer."""
    if density < 1:
        layers, lots = prune.prunable_layers(model), np.random.default_rng(0).random(int(nn.pack(model).prunable.sum()))

        def method(weights, mask, keep):
            return prune.layerwise_magnitude(lots, mask, keep, layers=layers)

        state = train.State.copy(model)
        state.masked(prune.new_mask(model, state, density, method), step=0).restore(model)
    return model


def gradients(model, x, y):
    vectors = nn.pack(model)
    vectors.gradients.fill(0)
    functional.cross_entropy(model(Tensor(x, dtype=vectors.weights.dtype)), y).backward()
    return vectors.gradients.astype(np.float64)


@pytest.mark.parametrize("density", [1, 0.3, 0.05])
@pytest.mark.parametrize("count", [64, 7])
def test_a_smooth_networks_gradients_are_those_of_float64(density, count):
    x, y = batch(count)
    model = pruned(Smooth().initialise(0), density)
    fast = gradients(model, x, y)
    exact = gradients(model.to(dtype=np.float64), x, y)
    assert np.linalg.norm(fast - exact) / np.linalg.norm(exact) < 1e-3


@pytest.mark.parametrize("density", [1, 0.05])
def test_a_resnets_gradients_point_where_those_of_float64_do(density):
    x, y = batch(16, (3, 32, 32))
    model = pruned(models.resnet(20), density)
    fast = gradients(model, x, y)
    exact = gradients(model.to(dtype=np.float64), x, y)
    assert fast @ exact / np.linalg.norm(fast) / np.linalg.norm(exact) > 0.9999


def test_most_of_a_masked_network_runs_on_the_sparse_kernels():
    from minirewind import tensor

    x, y = batch(64, (3, 32, 32))
    used = {}
    for density in (1, 0.05):
        with tensor.recording() as calls:
            gradients(pruned(models.resnet(8), density), x, y)
        used[density] = [call.function.__name__ for call in calls if call.function.__name__.endswith("Conv2d")]
    assert set(used[1]) == {"Conv2d"}
    assert used[0.05].count("SparseConv2d") > len(used[0.05]) / 2


@pytest.mark.parametrize("count", [7, 64])
def test_a_masked_linear_layer_is_sparse_by_itself_and_learns_by_the_kept_weights_only(count):
    from minirewind import tensor

    x, y = batch(count, (1, 28, 28))
    model = pruned(models.lenet_300_100(), 0.05)
    with tensor.recording() as calls:
        fast = gradients(model, x, y)
    assert "SparseLinear" in [call.function.__name__ for call in calls]
    assert (fast[~model.vectors.mask] == 0).all()
    exact = gradients(model.to(dtype=np.float64), x, y)
    assert np.linalg.norm(fast - exact) < 1e-3 * np.linalg.norm(exact)


def odd_networks():
    yield "5x5 at stride 3, then 7x7", (3, 17, 19), nn.Sequential(
        nn.Conv2d(3, 7, 5, stride=3, padding=2), nn.Softplus(), nn.Conv2d(7, 11, 7, padding=3), nn.Softplus(),
        nn.Flatten(), nn.Linear(11 * 6 * 7, 9))
    yield "no convolutions", (301,), nn.Sequential(nn.Linear(301, 203), nn.Softplus(), nn.Linear(203, 5, bias=False))
    yield "a row of vectors for each image", (5, 301), nn.Sequential(nn.Linear(301, 203), nn.Flatten())


@pytest.mark.parametrize("density", [1, 0.05])
@pytest.mark.parametrize(("shape", "model"), [pytest.param(*rest, id=what) for what, *rest in odd_networks()])
def test_odd_networks_train_and_compile_for_odd_batches_in_any_layout(shape, model, density):
    model = pruned(copy.deepcopy(model).initialise(0), density)
    twin = copy.deepcopy(model).to(dtype=np.float64)
    program = sparse.compile(model, np.zeros((2, *shape)))
    for count in (1, 7):
        x = np.random.default_rng(count).standard_normal((count, *shape[:-1], 2 * shape[-1]), np.float32)
        x = x[::-1, ..., ::2]
        y = np.arange(count) % 5
        fast, exact = gradients(model, x, y), gradients(twin, x, y)
        assert np.linalg.norm(fast - exact) < 1e-3 * np.linalg.norm(exact)
        assert (fast[~model.vectors.mask] == 0).all()
        scores = twin(Tensor(x, dtype=np.float64)).numpy()
        assert np.linalg.norm(program(x) - scores) < 1e-4 * np.linalg.norm(scores)


def toy():
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 64)
    images = random.normal(size=(64, 3, 16, 16)) + labels[:, None, None, None] / 5
    part = data.Split(images.astype(np.float32), labels)
    return data.Data(part, part, part, 10, pad=2, flip=True)


@pytest.mark.slow
def test_a_short_training_of_resnet20_follows_the_references_loss_curve():
    recipe = train.Recipe(steps=12, batch_size=16, rate=0.02)

    def curve(device):
        model = models.resnet(20, input_shape=(3, 16, 16)).to(device).initialise(0)
        return [record.loss for record in train.train(model, toy(), recipe, seed=0, report_every=1)]

    np.testing.assert_allclose(curve("cpu"), curve("reference"), rtol=2e-3)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory of this process from /proc")
def test_memory_is_flat_over_500_steps():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    model = models.resnet(8, 4, input_shape=(3, 16, 16))
    steps = train.train(model, toy(), train.Recipe(steps=600, batch_size=32, rate=0.01), seed=0, report_every=100)
    next(steps)
    before = resident()
    assert [record.step for record in steps][-1] == 600
    assert resident() - before < 4 << 20
