"""Facts about training: the state of a run, its records, and what happens when numbers go bad."""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirewind import data, functional, nn, optim, train
from minirewind.errors import Error
from minirewind.tensor import Tensor

RECIPE = train.Recipe(12, batch_size=7, rate=0.1, weight_decay=0.01)


class Net(nn.Module):
    """Convolution, batch norm, dropout, a dense layer."""

    def __init__(self, drop=0.3):
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(drop)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.drop(self.norm.add_relu(self.conv(x)))
        return self.fc(functional.global_avg_pool2d(x))


class Own(nn.Module):
    """A user's module in which nothing is prunable."""

    def __init__(self):
        self.table = nn.Parameter(np.random.default_rng(0).standard_normal((72, 3)).astype(np.float32))

    def forward(self, x):
        return x.flatten(1) @ self.table


def dataset(dtype=np.float32, pad=1, flip=True):
    random = np.random.default_rng(0)
    splits = []
    for count in (24, 9, 11):
        labels = np.arange(count) % 3
        images = 40 * random.standard_normal((count, 2, 6, 6)) + 60 * labels[:, None, None, None] + 60
        images = images.clip(0, 255).astype(np.uint8) if dtype == np.uint8 else ((images - 120) / 60).astype(dtype)
        splits.append(data.Split(images, labels))
    return data.Data(*splits, classes=3, pad=pad, flip=flip)


DATA = dataset()


def new(seed=0, density=1.0):
    """A model, its prunable weights masked at random down to about this density."""
    model = Net().initialise(seed)
    vectors = nn.pack(model)
    vectors.set_mask((np.random.default_rng(seed).random(vectors.mask.shape) < density) | ~vectors.prunable)
    return model


def run(model, set=DATA, recipe=RECIPE, seed=0, **settings):
    """Train; the records."""
    return list(train.train(model, set, recipe, seed=seed, **settings))


def equal(a, b):
    """Two states, bit for bit."""
    names = ("weights", "momentum", "mask", "statistics")
    return a.step == b.step and all(getattr(a, n).tobytes() == getattr(b, n).tobytes() for n in names)


# ----------------------------------------------------------------------------------------------- stop, resume, restore


@pytest.fixture(scope="module")
def uninterrupted():
    """The states at the end of a run without a stop: dense float, dense uint8, pruned float."""
    ends = {}
    for kind, (set, density) in KINDS.items():
        model = new(density=density)
        run(model, set)
        ends[kind] = train.State.copy(model)
    return ends


KINDS = {"float": (DATA, 1.0), "uint8": (dataset(np.uint8), 1.0), "pruned": (DATA, 0.5)}


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 12), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_stopping_after_any_step_and_resuming_gives_the_bits_of_never_stopping(uninterrupted, kind, stop, report_every):
    set, density = KINDS[kind]
    model = new(density=density)
    run(model, set, stop=stop, report_every=report_every)
    state = train.State.copy(model)
    assert state.step == stop
    another = new(seed=9)                               # what resumes is another process with another model
    run(another, set, start=state)
    assert equal(train.State.copy(another), uninterrupted[kind])


def test_stopping_to_ask_for_a_record_or_to_evaluate_changes_nothing(uninterrupted):
    model = new()
    for _ in train.train(model, DATA, RECIPE, seed=0, report_every=1):
        train.evaluate(model, DATA.validation)
    assert equal(train.State.copy(model), uninterrupted["float"])


def test_a_model_left_in_evaluation_mode_trains_in_training_mode(uninterrupted):
    model = new().eval()
    run(model)
    assert model.training
    assert equal(train.State.copy(model), uninterrupted["float"])


def test_a_generator_left_early_leaves_the_model_at_the_step_of_its_last_record():
    model = new()
    records = train.train(model, DATA, RECIPE, seed=0, report_every=5)
    assert next(records).step == 5
    records.close()
    assert nn.pack(model).step == 5
    assert [r.step for r in run(model, report_every=5)] == [10, 12]


@pytest.mark.parametrize("change", [{"seed": 1}, {"stream": 1}, {"round": 1}])
def test_another_seed_stream_or_round_is_another_run(uninterrupted, change):
    model = new()
    run(model, **change)
    assert not equal(train.State.copy(model), uninterrupted["float"])


def test_a_state_and_its_model_never_share_memory():
    model = new(density=0.5)
    run(model, stop=3)
    state = train.State.copy(model)
    kept = copy.deepcopy(state)
    run(model, stop=6)
    assert equal(state, kept)
    state.restore(model)
    assert equal(train.State.copy(model), kept)
    run(model, stop=6)
    model.initialise(5)
    assert equal(state, kept)
    masked = state.masked(~state.mask, 2)
    for name in ("weights", "momentum", "mask", "statistics"):
        for other in (getattr(model.vectors, name), getattr(masked, name)):
            assert not np.shares_memory(getattr(state, name), other)


def test_restoring_brings_back_weights_momentum_mask_statistics_and_step():
    model = new(density=0.5)
    run(model, stop=3)
    state = train.State.copy(model)
    assert state.momentum.any()
    assert state.statistics.any()
    other = new(seed=1, density=0.9)
    run(other, stop=5)
    state.restore(other)
    assert equal(train.State.copy(other), state)
    assert other.fc.weight.masked


def test_a_state_under_another_mask_has_that_mask_in_weights_and_momentum():
    model = new(density=0.5)
    run(model, stop=3)
    state = train.State.copy(model)
    mask = state.mask.copy()
    mask[:20] = ~mask[:20]                              # its own mask is never used, only the new one
    masked = state.masked(mask, 7)
    assert masked.step == 7
    assert (masked.mask == mask).all()
    assert (masked.weights == np.where(mask, state.weights, 0)).all()
    assert (masked.momentum == np.where(mask, state.momentum, 0)).all()
    assert (masked.statistics == state.statistics).all()


@pytest.mark.parametrize("bad", [np.ones(95, np.int64), np.ones(94, bool), np.ones(95, np.float32)])
def test_a_state_takes_only_a_bool_mask_of_its_size(bad):
    state = train.State.copy(new())
    assert state.mask.size == 72 + 8 + 15
    with pytest.raises(Error, match=r"expected bool \(95,\)"):
        state.masked(bad, 0)


def test_the_state_of_another_network_or_dtype_is_refused_and_changes_nothing():
    model, wide = new(), Own()
    before = train.State.copy(model)
    with pytest.raises(Error, match=r"another network: it has 216 weights \(float32\), the model 95"):
        train.State.copy(wide).restore(model)
    with pytest.raises(Error, match=r"it has 95 weights \(float64\), the model 95 \(float32\)"):
        train.State.copy(new(3).to(dtype=np.float64)).restore(model)
    with pytest.raises(Error, match="it has 6 statistics"):
        dataclasses.replace(before, statistics=np.ones(6, np.float32)).restore(model)
    assert equal(train.State.copy(model), before)


# -------------------------------------------------------------------------------------------------------------- records


@given(st.integers(0, 11), st.integers(0, 12), st.integers(1, 15))
@settings(max_examples=20, deadline=None)
def test_records_come_at_absolute_multiples_and_at_the_end(begin, steps, report_every):
    stop, model = min(begin + steps, 12), Own()
    nn.pack(model).step = begin
    expected = [s for s in range(begin + 1, stop + 1) if s % report_every == 0 or s == stop]
    assert [r.step for r in run(model, stop=stop, report_every=report_every)] == expected


def test_a_record_holds_the_rate_of_the_last_update_and_the_loss_of_its_batch():
    model = new()
    records = run(model, report_every=1)
    assert [r.rate for r in records] == [RECIPE.rates()(step) for step in range(12)]
    assert [r.rate for r in records] == [0.1] * 6 + [0.1 * 0.1] * 3 + [0.1 * 0.1**2] * 3
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(records))

    again = new()
    again.clock = clock = train.Clock(0, 0, 0, 7)
    x, y = data.batch(DATA, 7, clock)
    assert records[0].loss == functional.cross_entropy(again(Tensor(x)), Tensor(y)).item()


def test_a_record_counts_densities_and_names_layers_with_nothing_left():
    model = new()
    mask = nn.pack(model).mask.copy()
    mask[:18] = False                                   # a quarter of conv
    mask[80:92] = False                                 # all of fc.weight
    nn.pack(model).set_mask(mask)
    record = run(model)[-1]
    assert record.density == 54 / 84
    assert record.layer_densities == {"conv.weight": 0.75, "fc.weight": 0}
    assert record.empty_layers == ("fc.weight",)
    assert math.isfinite(record.loss)


def test_sign_flips_are_the_share_of_weights_whose_sign_is_not_that_of_the_start():
    model = new(density=0.5)
    before = train.State.copy(model)
    record = run(model, rate=optim.constant(1.0))[-1]
    after = nn.pack(model).weights
    expected = (np.sign(before.weights) * np.sign(after) == -1).sum() / before.mask.sum()
    assert record.sign_flips == expected > 0
    assert run(new(), stop=1, rate=optim.constant(1e-9))[-1].sign_flips == 0


def test_a_users_own_module_with_nothing_prunable_trains():
    model = Own()
    records = run(model, recipe=train.Recipe(40, 8, 0.05), report_every=1)
    assert records[-1].loss < 0.5 * records[0].loss
    assert records[-1].density == 1
    assert records[-1].layer_densities == {}


def test_another_schedule_may_be_given():
    assert [r.rate for r in run(new(), rate=lambda step: 0.01 * (step + 1), stop=3, report_every=1)] == [
        0.01, 0.02, 0.03]


# ----------------------------------------------------------------------------------------------------- it really trains


@pytest.mark.parametrize(("nesterov", "density"), [(False, 1.0), (True, 1.0), (False, 0.5)])
def test_training_is_pytorchs_training_in_float64(nesterov, density):
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    set = dataset(np.float64)
    recipe = dataclasses.replace(RECIPE, nesterov=nesterov)
    model = Net(drop=0).initialise(0).to(dtype=np.float64)
    vectors = nn.pack(model)
    vectors.set_mask((np.random.default_rng(1).random(95) < density) | ~vectors.prunable)

    conv, norm, fc = torch.nn.Conv2d(2, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 3)
    theirs = torch.nn.ModuleDict({"conv": conv, "norm": norm, "fc": fc}).double()
    theirs.load_state_dict({name: torch.tensor(values) for name, values in model.state_dict().items()})
    masks = {name: torch.tensor(p.mask) for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(theirs.parameters(), 0.1, 0.9, nesterov=nesterov, weight_decay=0.01)
    losses = []
    for step in range(12):
        x, y = data.batch(set, 7, train.Clock(0, 0, 0, 7, step))
        z = fc(torch.relu(norm(conv(torch.tensor(x)))).mean((2, 3)))
        loss = torch.nn.functional.cross_entropy(z, torch.tensor(y))
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = 0.1 * 0.1 ** ((step >= 6) + (step >= 9))
        optimiser.step()
        with torch.no_grad():
            for name, p in theirs.named_parameters():
                p[~masks[name]] = 0
        losses.append(loss.item())

    records = run(model, set, recipe, report_every=1)
    np.testing.assert_allclose([r.loss for r in records], losses, rtol=1e-10)
    for name, values in theirs.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(model.state_dict()[name], values.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pixels", [np.uint8, np.float32, np.float64])
def test_a_model_of_either_dtype_learns_from_images_of_any(dtype, pixels):
    model = Net(drop=0.1).initialise(0).to(dtype=dtype)
    set = dataset(pixels)
    records = run(model, set, train.Recipe(60, 12, 0.3), report_every=1)
    assert np.mean([r.loss for r in records[-5:]]) < 0.5 * records[0].loss
    assert train.evaluate(model, set.validation) > 70
    assert nn.pack(model).weights.dtype == dtype


# ------------------------------------------------------------------------------------------------------------- evaluate


@pytest.mark.parametrize("batch_size", [1, 4, 9, 500])
def test_evaluate_is_the_share_of_right_answers_in_evaluation_mode_whatever_the_batch(batch_size):
    model = new()
    run(model)
    answers = copy.deepcopy(model).eval()(Tensor(DATA.validation.images)).numpy().argmax(axis=1)
    expected = 100 * (answers == DATA.validation.labels).mean()
    assert 0 < expected < 100
    assert train.evaluate(model, DATA.validation, batch_size) == pytest.approx(expected, rel=1e-12)
    assert train.evaluate_steps(model, DATA.validation, batch_size) == pytest.approx(expected, rel=1e-12)


def test_evaluate_keeps_modes_statistics_and_gradients():
    model = new()
    run(model, stop=3)
    model.train()
    model.norm.training = False                         # a frozen layer
    before, gradients = train.State.copy(model), nn.pack(model).gradients.copy()
    train.evaluate(model, DATA.test)
    assert [m.training for _, m in model.named_modules()] == [True, True, False, True, True]
    assert equal(train.State.copy(model), before)
    assert (nn.pack(model).gradients == gradients).all()
    with pytest.raises(Error):
        train.evaluate(model, data.Split(DATA.test.images[:, :1], DATA.test.labels))
    assert model.training
    assert not model.norm.training


def test_evaluate_does_not_move_the_statistics_of_a_model_in_training_mode():
    model = new().train()
    train.evaluate(model, DATA.test)
    assert (model.norm.running_mean.numpy() == 0).all()
    assert (model.norm.running_var.numpy() == 1).all()


def test_evaluating_batches_of_none_is_refused():
    with pytest.raises(Error, match="batch_size is 0"):
        train.evaluate(new(), DATA.test, 0)


# ---------------------------------------------------------------------------------------------------------- bad numbers


def test_a_nan_in_the_data_stops_training_at_its_step_and_names_the_data():
    set = dataset(pad=0)
    step = next(s for s in range(12) if 5 in data.batch_indices(24, 7, train.Clock(0, 0, 0, 7, s)) and s > 0)
    set.train.images[5, 1, 2, 3] = np.nan
    with pytest.raises(Error, match=rf"stopped at step {step}: an input of Conv2d, shape \(7, 2, 6, 6\).* data"):
        run(new(), set)


class Logarithm(Net):
    """A layer of the user's that is only now and then not finite."""

    def forward(self, x):
        return super().forward(x) + ((x[:, 0, 0, 0] - LOWEST).log() * 1e-3).reshape(-1, 1)


LOWEST = float(DATA.train.images[5, 0, 0, 0])           # image 5 gives log 0


def test_a_loss_that_is_not_finite_stops_training_and_names_the_operation():
    set = dataclasses.replace(DATA, pad=0, flip=False, train=data.Split(
        np.maximum(DATA.train.images, np.float32(LOWEST)), DATA.train.labels))
    bad = set.train.images[:, 0, 0, 0] == np.float32(LOWEST)
    step = next(s for s in range(12) if bad[data.batch_indices(24, 7, train.Clock(0, 0, 0, 7, s))].any())
    with pytest.raises(Error, match=rf"stopped at step {step}: the output of Log, shape \(7,\), is not finite"):
        run(Logarithm().initialise(0), set)


@pytest.mark.parametrize("report_every", [1, 5, 100])
def test_weights_that_explode_stop_training_at_the_step_whatever_the_reports(report_every):
    with pytest.raises(Error, match=r"stopped at step 3: the .*\nthe learning rate was 1e\+38; try a lower one"):
        run(new(), rate=lambda step: 1e38 if step >= 2 else 0.1, report_every=report_every)


def test_weights_that_are_nan_before_training_are_named():
    model = new()
    model.fc.bias.data[1] = np.nan
    with pytest.raises(Error, match=r"fc.bias holds NaN or infinity at step 0, before any update"):
        run(model)


def test_a_nan_that_does_not_come_back_is_told_and_does_not_hang():
    class Once(Net):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            return super().forward(x) * (math.nan if self.calls == 2 else 1)

    with pytest.raises(Error, match="not when the steps since 0 were run again; is there randomness"):
        run(Once().initialise(0))


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(("bad", "message"), [
    ({"steps": 0}, "steps and a batch size"), ({"steps": 10.5}, "whole numbers"), ({"batch_size": 0}, "batch size"),
    ({"rate": 0}, "rate above 0"), ({"rate": math.inf}, "rate above 0"), ({"rate": math.nan}, "rate above 0"),
    ({"schedule": "step-decay"}, "unknown schedule 'step-decay': did you mean 'step_decay'"),
])
def test_a_recipe_without_meaning_is_refused(bad, message):
    with pytest.raises(Error, match=message):
        train.Recipe(**{"steps": 10, **bad})


@pytest.mark.parametrize(("schedule", "rates"), [
    ("step_decay", optim.step_decay(12, 0.3)), ("cosine", optim.cosine(12, 0.3)), ("constant", optim.constant(0.3))])
def test_a_recipe_names_its_schedule(schedule, rates):
    mine = train.Recipe(12, rate=0.3, schedule=schedule).rates()
    assert [mine(step) for step in range(15)] == [rates(step) for step in range(15)]


def test_the_default_recipe_is_the_papers_for_large_sets_and_thirty_epochs_for_small_ones():
    class Images:
        def __init__(self, count): self.train = range(count)

    assert train.default_recipe(Images(45_000)) == train.Recipe(63_985, 128)
    assert train.default_recipe(Images(1000)) == train.Recipe(468, 64)
    assert train.default_recipe(Images(1)).steps == 1


def test_short_runs_have_a_quicker_batch_norm():
    assert [train.bn_momentum(train.Recipe(steps)) for steps in (4999, 5000)] == [0.1, 0.003]


def test_a_stop_before_the_start_and_reports_of_no_steps_are_refused():
    model = new()
    run(model, stop=5)
    with pytest.raises(Error, match="the start is at step 5, after the stop at step 3"):
        run(model, stop=3)
    with pytest.raises(Error, match="report_every counts steps"):
        run(model, report_every=0)
    assert run(model, stop=5) == []


def test_labels_beyond_the_models_classes_are_refused():
    set = dataclasses.replace(DATA, classes=9, train=data.Split(DATA.train.images, DATA.train.labels + 3))
    with pytest.raises(Error, match="classes run from 0 to 2"):
        run(new(), set)


def test_images_of_another_shape_than_the_models_are_refused():
    set = data.Data(*[data.Split(s.images[:, :1], s.labels) for s in (DATA.train, DATA.validation, DATA.test)], 3)
    with pytest.raises(Error, match=r"x has 1 channels .* but the filters want 2"):
        run(new(), set)
    with pytest.raises(Error, match="x has 1 channels"):
        train.evaluate(new(), set.test)


def test_runs_together_have_the_bits_and_the_records_of_runs_alone():
    """Other seeds, masks, rates and steps; each reports at its own multiples, at most `report_every` steps apart."""
    def runs():
        late = train.State.copy(new(1, 0.5))
        late = late.masked(late.mask, 3)
        return [(new(0), {"seed": 0, "stop": 9}), (new(1, 0.5), {"seed": 1, "start": late}),
                (new(2), {"seed": 2, "round": 4, "stop": 9, "rate": optim.constant(0.01)})]

    def told(record):
        return dataclasses.replace(record, seconds=0)

    together = [(model, train.Run(model, DATA, RECIPE, **more)) for model, more in runs()]
    records = {run: [] for _, run in together}
    for each, record in train.train_together(list(records), 4):
        records[each].append(told(record))
    for (model, each), (twin, more) in zip(together, runs()):
        assert records[each] == [told(record) for record in run(twin, report_every=4, **more)]
        assert equal(train.State.copy(model), train.State.copy(twin))
    assert [[record.step for record in each] for each in records.values()] == [[4, 8, 9], [4, 8, 12], [4, 8, 9]]
    assert list(train.train_together(list(records))) == []


def test_runs_together_go_as_many_steps():
    few, many = (train.Run(new(), DATA, RECIPE, seed=0, stop=stop) for stop in (2, 3))
    with pytest.raises(Error, match="these have 2 on cpu, 3 on cpu"):
        next(train.train_together([few, many]))


@pytest.mark.parametrize("size", [1, 4, 9, 100])
def test_an_evaluation_sees_the_weights_of_now(size):
    model = new()
    accuracy = train.Evaluation(model, DATA.validation, size)
    for seed in range(3):
        model.initialise(seed)
        assert accuracy() == train.evaluate(model, DATA.validation) == accuracy.steps()
        assert model.training
    model.to(dtype=np.float64)
    assert accuracy() == train.evaluate(model, DATA.validation)
