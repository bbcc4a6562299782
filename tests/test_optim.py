"""Facts about SGD and the learning-rate schedules."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from minirewind import functional, nn, optim
from minirewind.errors import Error
from minirewind.tensor import Tensor

SETTINGS = st.tuples(st.floats(0, 0.99), st.booleans(), st.sampled_from([0.0, 2e-4, 0.1]))
few = settings(max_examples=25, deadline=None)


def packed(dtype=np.float64, seed=0, density=1.0):
    """Vectors of a small model with random weights and, at a density below 1, a random mask."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)).initialise(seed).to(dtype=dtype)
    vectors = nn.pack(model)
    random = np.random.default_rng(seed)
    vectors.set_mask(random.random(vectors.mask.shape) < density)
    return model, vectors


def difference(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# ----------------------------------------------------------------------------------------------------------------- SGD


@given(SETTINGS, st.lists(st.floats(1e-4, 1), min_size=1, max_size=8), st.integers(0, 99))
@few
def test_sgd_is_pytorchs_step_by_step(setting, rates, seed):
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    momentum, nesterov, decay = setting
    assume(momentum > 0 or not nesterov)
    model, vectors = packed(seed=seed)
    mine = optim.SGD(model, momentum, nesterov, decay)
    weights = torch.nn.Parameter(torch.tensor(vectors.weights))
    theirs = torch.optim.SGD([weights], 1, momentum, nesterov=nesterov, weight_decay=decay)
    random = np.random.default_rng(seed)
    for rate in rates:
        gradient = random.standard_normal(weights.shape)
        vectors.gradients[...] = gradient
        mine.step(rate)
        weights.grad, theirs.param_groups[0]["lr"] = torch.tensor(gradient), rate
        theirs.step()
        assert difference(vectors.weights, weights.detach().numpy()) < 1e-13
    if momentum:
        assert difference(vectors.momentum, theirs.state[weights]["momentum_buffer"].numpy()) < 1e-13
    assert vectors.step == len(rates)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-6)])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, False), (0.9, True), (0, False)])
def test_the_fused_step_equals_the_step_by_step_one(dtype, tolerance, momentum, nesterov):
    (_, fused), (_, stepwise) = pairs = [packed(dtype, density=0.6) for _ in range(2)]
    first, second = (optim.SGD(model, momentum, nesterov, 0.01) for model, _ in pairs)
    random = np.random.default_rng(0)
    for rate in (0.1, 0.1, 0.03, 0.5):
        fused.gradients[...] = stepwise.gradients[...] = random.standard_normal(fused.weights.shape)
        first.step(rate), second.step_steps(rate)
        assert difference(fused.weights, stepwise.weights) < tolerance
        assert difference(fused.momentum, stepwise.momentum) < tolerance
    assert fused.step == stepwise.step == 4
    assert fused.weights.dtype == stepwise.weights.dtype == dtype


@given(SETTINGS, st.floats(0.05, 0.95), st.integers(0, 99), st.sampled_from(["step", "step_steps"]))
@few
def test_pruned_weights_and_their_momentum_are_exactly_zero_after_every_step(setting, density, seed, which):
    momentum, nesterov, decay = setting
    assume(momentum > 0 or not nesterov)
    model, vectors = packed(np.float32, seed, density)
    optimiser = optim.SGD(model, momentum, nesterov, decay)
    random = np.random.default_rng(seed)
    for _ in range(3):
        vectors.gradients[...] = random.standard_normal(vectors.weights.shape)      # of pruned weights too
        getattr(optimiser, which)(0.1)
        assert (vectors.weights[~vectors.mask] == 0).all()
        assert (vectors.momentum[~vectors.mask] == 0).all()
        assert (vectors.momentum[vectors.mask] != 0).all()


@pytest.mark.parametrize("which", ["step", "step_steps"])
def test_weight_decay_and_momentum_do_not_revive_a_weight_that_was_set_by_hand(which):
    model, vectors = packed(density=0.5)
    vectors.weights[~vectors.mask] = vectors.momentum[~vectors.mask] = 1            # not through set_mask
    getattr(optim.SGD(model, 0.9, weight_decay=0.5), which)(0.1)
    assert (vectors.weights[~vectors.mask] == 0).all()
    assert (vectors.momentum[~vectors.mask] == 0).all()


@pytest.mark.parametrize("which", ["step", "step_steps"])
def test_a_nan_in_the_gradient_of_a_pruned_weight_does_not_matter(which):
    (_, clean), (_, dirty) = pairs = [packed(density=0.5) for _ in range(2)]
    dirty.gradients[~dirty.mask] = np.nan
    for model, _ in pairs:
        getattr(optim.SGD(model, 0.9, True, 0.1), which)(0.1)
    assert (clean.weights == dirty.weights).all()
    assert (clean.momentum == dirty.momentum).all()


@pytest.mark.parametrize("which", ["step", "step_steps"])
def test_parameters_without_requires_grad_stay_as_they_are(which):
    model, vectors = packed()
    dict(model.named_parameters())["0.weight"].requires_grad = False
    before = vectors.weights.copy()
    optimiser = optim.SGD(model, weight_decay=0.1)
    functional.cross_entropy(model(Tensor(np.ones((2, 6)), dtype=np.float64)), Tensor(np.array([0, 1]))).backward()
    getattr(optimiser, which)(0.1)
    (layer,) = [layer for layer in vectors.layers if layer.name == "0.weight"]
    still = np.zeros(len(before), bool)
    still[layer.start:layer.stop] = True
    assert np.array_equal(vectors.weights == before, still)


def test_an_optimiser_made_before_the_model_was_converted_is_refused():
    model, _ = packed()
    optimiser = optim.SGD(model)
    model.to(dtype=np.float32)
    with pytest.raises(Error, match="make the optimiser last"):
        optimiser.step(0.1)


def test_zero_grad_forgets_the_gradients():
    model, vectors = packed()
    vectors.gradients[...] = np.nan
    optim.SGD(model).zero_grad()
    assert (vectors.gradients == 0).all()


@pytest.mark.parametrize("bad", [{"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": -1},
                                 {"momentum": 0, "nesterov": True}, {"momentum": math.nan}])
def test_settings_without_meaning_are_refused(bad):
    with pytest.raises(Error, match="0 <= momentum < 1"):
        optim.SGD(packed()[0], **bad)


class Net(nn.Module):
    """A small network; with masks, its weights are multiplied by them in every forward pass."""

    def __init__(self, masks=None):
        self.masks = masks
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        conv, fc = self.conv.weight, self.fc.weight
        if self.masks is not None:
            conv, fc = conv * self.masks[0], fc * self.masks[1]
        x = self.norm.add_relu(functional.conv2d(x, conv, padding=1))
        return functional.linear(functional.global_avg_pool2d(x), fc, self.fc.bias)


@pytest.mark.parametrize("nesterov", [False, True])
def test_masked_training_has_the_loss_curve_of_weights_times_mask(nesterov):
    random = np.random.default_rng(0)
    images, labels = random.standard_normal((20, 8, 2, 6, 6)), random.integers(0, 3, (20, 8))
    masked = Net().initialise(0).to(dtype=np.float64)
    vectors = nn.pack(masked)
    vectors.set_mask((random.random(vectors.mask.shape) < 0.4) | ~vectors.prunable)
    masks = [Tensor(p.mask.astype(np.float64)) for p in (masked.conv.weight, masked.fc.weight)]
    times_mask = Net(masks).initialise(0).to(dtype=np.float64)
    losses = []
    for model in (masked, times_mask):
        optimiser = optim.SGD(model, 0.9, nesterov, 0.01)
        losses.append([])
        for x, y in zip(images, labels):
            optimiser.zero_grad()
            loss = functional.cross_entropy(model(Tensor(x)), Tensor(y))
            loss.backward()
            optimiser.step(0.1)
            losses[-1].append(loss.item())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)
    raw = nn.pack(times_mask).weights
    assert (raw[~vectors.mask] != 0).all()              # there they decay and move unseen
    np.testing.assert_allclose(vectors.weights[vectors.mask], raw[vectors.mask], rtol=1e-9, atol=1e-12)


# ----------------------------------------------------------------------------------------------------------- schedules


@example(100, [70], 0.1)                                # 0.07 * 100 is a little more than 7 in floating point
@given(st.integers(1, 3000), st.lists(st.integers(0, 1000), max_size=4), st.floats(1e-3, 10))
@few
def test_a_drop_is_at_the_first_step_not_before_its_fraction_of_the_run(steps, thousandths, base):
    rate = optim.step_decay(steps, base, [f / 1000 for f in thousandths])
    for step in {0, steps // 2, steps - 1, *(f * steps // 1000 + d for f in thousandths for d in (-1, 0, 1))}:
        if 0 <= step < steps:
            passed = sum(1000 * step >= f * steps for f in thousandths)         # in whole numbers
            assert rate(step) == base * 0.1**passed


def test_the_papers_schedule_drops_at_a_half_and_at_three_quarters():
    rate = optim.step_decay(63_984)
    assert [rate(step) for step in (0, 31_991, 31_992, 47_987, 47_988, 63_983)] == [
        0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1, 0.1 * 0.1**2, 0.1 * 0.1**2]


@given(st.integers(1, 500), st.integers(0, 1000), st.sampled_from(sorted(optim.SCHEDULES)))
@few
def test_from_the_last_step_on_the_last_rate_holds(steps, later, name):
    rate = optim.SCHEDULES[name](steps, 0.1)
    assert rate(steps - 1 + later) == rate(steps - 1)


@given(st.integers(1, 500), st.floats(1e-3, 10), st.sampled_from(sorted(optim.SCHEDULES)))
@few
def test_no_rate_is_above_the_base_or_below_a_hundredth_of_it(steps, base, name):
    rates = [optim.SCHEDULES[name](steps, base)(step) for step in range(steps)]
    assert max(rates) <= base * (1 + 1e-12)
    assert min(rates) >= base / 100 * (1 - 1e-12)


@given(st.integers(2, 500), st.floats(1e-3, 10), st.sampled_from([optim.cosine, optim.linear]))
@few
def test_a_cosine_and_a_line_fall_from_the_base_to_a_hundredth_of_it(steps, base, schedule):
    rates = [schedule(steps, base)(step) for step in range(steps)]
    assert rates[0] == pytest.approx(base, rel=1e-12)
    assert rates[-1] == base * 0.01
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert (rates[0] + rates[-1]) / 2 == pytest.approx((rates[steps // 2] + rates[(steps - 1) // 2]) / 2, rel=1e-9)


def test_a_line_falls_by_the_same_amount_at_every_step():
    assert [optim.linear(5, 1.0, 0.2)(step) for step in range(6)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert optim.linear(5, 1.0, 0)(4) == 0


@pytest.mark.parametrize("steps", [10, 20, 450, 1000])
def test_one_cycle_is_pytorchs_where_its_top_falls_on_a_step(steps):
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, steps, pct_start=0.3, cycle_momentum=False,
                                                 div_factor=100, final_div_factor=1)
    rates = [optimiser.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimiser.step(), theirs.step()
        rates.append(optimiser.param_groups[0]["lr"])
    assert [optim.one_cycle(steps)(step) for step in range(steps)] == pytest.approx(rates, rel=1e-9)


@given(st.integers(1, 300), st.floats(0, 0.99))
@few
def test_one_cycle_rises_to_the_base_and_falls_again(steps, top):
    rates = [optim.one_cycle(steps, 1.0, top)(step) for step in range(steps)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(1)
    assert abs(peak - (top * steps - 1)) <= 1
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_a_warm_up_rises_in_a_straight_line_and_then_leaves_the_schedule_alone():
    rate = optim.warm_up(optim.step_decay(100, 1.0), 4)
    assert [rate(step) for step in (0, 1, 2, 3, 4, 49, 50, 75)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.01])
    assert optim.warm_up(optim.constant(0.3), 0)(0) == 0.3


def test_a_constant_is_the_same_at_every_step():
    assert {optim.constant(0.03)(step) for step in (0, 1, 10**6)} == {0.03}


@pytest.mark.parametrize(("make", "message"), [
    (lambda: optim.step_decay(0), "at least one step"), (lambda: optim.cosine(10, 0), "a rate above 0"),
    (lambda: optim.step_decay(10, math.inf), "a rate above 0"), (lambda: optim.cosine(10, math.nan), "a rate above 0"),
    (lambda: optim.linear(0), "at least one step"), (lambda: optim.one_cycle(10, -1), "a rate above 0"),
    (lambda: optim.one_cycle(10, top=30), "0 to below 1"),
    (lambda: optim.step_decay(10, drops=(0.5, 75)), "0 to 1"), (lambda: optim.warm_up(optim.constant(1), -1), "from 0"),
])
def test_schedules_without_meaning_are_refused(make, message):
    with pytest.raises(Error, match=message):
        make()
