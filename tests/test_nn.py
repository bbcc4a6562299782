"""Facts about modules, their parameters, and the flat vectors of a packed model."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirewind import functional, nn, optim
from minirewind.errors import Error
from minirewind.tensor import Tensor


class Own(nn.Module):
    """A user's module without a convolution: lists of layers, a list in a list, a dict, a parameter of its own."""

    def __init__(self):
        self.scale = nn.Parameter(np.full(3, 2, np.float32))
        self.layers = [nn.Linear(3, 4), nn.Linear(4, 4)]
        self.branches = [[nn.Linear(4, 2)], (nn.Linear(4, 2),)]
        self.heads = {"last": nn.Linear(2, 3)}
        self.offsets = [nn.Parameter(np.zeros(3, np.float32)), nn.Parameter(np.ones(3, np.float32))]

    def forward(self, x):
        x = x * self.scale
        for layer in self.layers:
            x = functional.softplus(layer(x))
        x = self.branches[0][0](x) + self.branches[1][0](x)
        return self.heads["last"](x) + self.offsets[0] + self.offsets[1]


class Convolutional(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        return self.fc(functional.global_avg_pool2d(self.drop(self.norm.add_relu(self.conv(x)))))


IMAGES = np.random.default_rng(5).standard_normal((4, 2, 6, 6)).astype(np.float32)
ROWS = np.random.default_rng(6).standard_normal((4, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1])


def backward(model, x, labels=LABELS):
    dtype, device = next((p.dtype, p.device) for p in model.parameters())
    loss = functional.cross_entropy(model(Tensor(x, dtype=dtype, device=device)), Tensor(labels, device=device))
    loss.backward()
    return loss.item()


def half_masked(model, seed=0):
    """The packed model's vectors, about half of the prunable weights masked, with some momentum."""
    vectors = nn.pack(model)
    random = np.random.default_rng(seed)
    vectors.momentum[...] = random.standard_normal(vectors.momentum.shape)
    vectors.set_mask((random.random(vectors.mask.shape) < 0.5) | ~vectors.prunable)
    return vectors


# ------------------------------------------------------------------------------------------------------ finding things


def test_parameters_are_found_in_lists_of_lists_and_dicts_in_the_order_of_registration():
    assert [name for name, _ in Own().named_parameters()] == [
        "scale", "offsets.0", "offsets.1", "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias",
        "branches.0.0.weight", "branches.0.0.bias", "branches.1.0.weight", "branches.1.0.bias",
        "heads.last.weight", "heads.last.bias"]


def test_weights_of_layers_are_prunable_and_everything_else_is_not():
    prunable = {name for model in (Own(), Convolutional()) for name, p in model.named_parameters() if p.prunable}
    assert prunable == {"layers.0.weight", "layers.1.weight", "branches.0.0.weight", "branches.1.0.weight",
                        "heads.last.weight", "conv.weight", "fc.weight"}


def test_a_shared_parameter_counts_once_and_has_both_names_in_the_state_dict():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert sum(p.size for p in model.parameters()) == 9 + 3 + 3
    state = model.state_dict()
    assert list(state) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    state["0.weight"] = state["1.weight"] = np.ones((3, 3), np.float32)
    model.load_state_dict(state)
    assert (model[1].weight.numpy() == 1).all()


def test_train_and_eval_reach_every_module():
    model = Own()
    assert model.eval() is model
    assert not any(module.training for _, module in model.named_modules())
    assert all(module.training for _, module in model.train().named_modules())


def test_a_sequential_can_be_indexed_sliced_and_counted():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    assert len(model) == 3
    assert model[-1].weight.shape == (2, 5)
    x = Tensor(ROWS)
    assert (model[:2](x).numpy() == functional.relu(model[0](x)).numpy()).all()


def test_what_is_no_module_does_not_go_into_a_sequential():
    with pytest.raises(Error, match=r"number 1 is a function, expected a Module"):
        nn.Sequential(nn.Linear(3, 3), functional.relu)


@pytest.mark.parametrize("make", [lambda: nn.Linear(0, 3), lambda: nn.Linear(3, 2.5), lambda: nn.Conv2d(3, -1, 3),
                                  lambda: nn.BatchNorm2d(0)])
def test_layers_have_sizes_from_one(make):
    with pytest.raises(Error, match="whole numbers from 1"):
        make()


def test_a_setting_that_a_layer_does_not_have_is_refused_by_its_name():
    with pytest.raises(TypeError, match="groups"):
        nn.Conv2d(4, 4, 3, groups=2)


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module needs a forward"):
        nn.Module()(ROWS)


def test_wrong_inputs_of_layers_are_told_with_both_shapes():
    with pytest.raises(Error, match=r"x has 3 channels .*\(4, 3, 6, 6\) but the filters want 2"):
        nn.Conv2d(2, 4, 3)(Tensor(np.zeros((4, 3, 6, 6), np.float32)))
    with pytest.raises(Error, match=r"x has shape \(4, 3\), the weight \(2, 5\)"):
        nn.Linear(5, 2)(Tensor(ROWS))
    with pytest.raises(Error, match="float64"):
        nn.Linear(3, 2)(Tensor(ROWS.astype(np.float64)))


# ------------------------------------------------------------------------------------------------------ initial values


def test_equal_seed_and_round_give_equal_bits_wherever_the_model_was_before():
    first, second = Convolutional().initialise(3, 1), Convolutional()
    backward(second, IMAGES)
    half_masked(second)
    second.initialise(3, 1)
    for name, values in first.state_dict().items():
        assert (values == second.state_dict()[name]).all(), name


@pytest.mark.parametrize(("seed", "round"), [(4, 0), (3, 1)])
def test_another_seed_or_round_gives_every_weight_another_value(seed, round):
    first, second = Convolutional().initialise(3, 0), Convolutional().initialise(seed, round)
    for name in ("conv.weight", "fc.weight"):
        assert (first.state_dict()[name] != second.state_dict()[name]).all()


def test_layers_of_equal_shape_are_initialised_differently():
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20)).initialise(0)
    assert (model[0].weight.numpy() != model[1].weight.numpy()).all()


def test_a_layer_more_does_not_change_the_initial_values_of_the_others():
    small, large = Convolutional(), Convolutional()
    large.more = nn.Linear(7, 7)
    small.initialise(1), large.initialise(1)
    assert (small.fc.weight.numpy() == large.fc.weight.numpy()).all()


@pytest.mark.parametrize(("layer", "fan_in"), [(nn.Linear(60, 2000), 60), (nn.Conv2d(6, 2000, (3, 5)), 90)])
def test_weights_begin_with_variance_one_over_fan_in_cut_at_two_standard_deviations(layer, fan_in):
    weight = layer.initialise(0).weight.numpy().astype(np.float64)
    assert abs(weight.var() * fan_in - 1) < 0.02                   # the mean of 120,000: its own error is 0.003
    assert abs(weight.mean()) * np.sqrt(fan_in) < 0.02
    # Before the cut the variance is larger: that of a normal cut at +-2 is 1 - 4 phi(2) / (2 Phi(2) - 1) of it.
    phi, inside = np.exp(-2) / np.sqrt(2 * np.pi), 0.9544997361036416
    sigma = np.sqrt(1 / fan_in / (1 - 4 * phi / inside))
    assert 1.99 * sigma < abs(weight).max() <= 2 * sigma * (1 + 1e-6)


def test_biases_begin_at_zero_and_batch_norm_at_one_and_zero():
    model = Convolutional().initialise(0)
    state = model.state_dict()
    assert (state["fc.bias"] == 0).all()
    assert (state["norm.weight"] == 1).all()
    assert (state["norm.bias"] == 0).all()


def test_initialise_resets_statistics_momentum_mask_and_step_and_own_parameters():
    model = Convolutional()
    model.own = nn.Parameter(np.arange(3.0, dtype=np.float32))
    vectors = half_masked(model)
    backward(model, IMAGES)
    optim.SGD(model).step(0.1)
    model.own.data[...] = 7
    assert model.initialise(0) is model
    assert vectors.step == 0
    assert vectors.mask.all()
    assert (vectors.momentum == 0).all()
    assert (model.norm.running_mean.numpy() == 0).all()
    assert (model.norm.running_var.numpy() == 1).all()
    assert model.own.numpy().tolist() == [0, 1, 2]
    assert not model.fc.weight.masked


def test_initialising_a_part_of_a_pruned_model_revives_nothing():
    model = Convolutional()
    vectors = half_masked(model)
    model.fc.initialise(3)
    assert (vectors.weights[~vectors.mask] == 0).all()
    assert (model.fc.weight.numpy()[model.fc.weight.mask] != 0).all()


def test_negative_seeds_are_refused():
    with pytest.raises(Error, match="count from 0"):
        Own().initialise(-1)


# --------------------------------------------------------------------------------------------------------- state dicts


def test_a_state_dict_is_a_copy():
    model = Convolutional()
    for packed in (False, True):
        if packed:
            nn.pack(model)
        before = model.state_dict()
        model.state_dict()["fc.weight"][...] = 9
        model.fc.bias.data += 1
        assert (model.fc.weight.numpy() == before["fc.weight"]).all()
        assert (model.fc.bias.numpy() != before["fc.bias"]).all()


@pytest.mark.parametrize("packed", [False, True])
def test_a_state_dict_brings_all_values_to_another_model_and_masked_weights_stay_zero(packed):
    source, target = Convolutional().initialise(1), Convolutional().initialise(2)
    source.norm.running_var.data[...] = 5
    if packed:
        vectors = half_masked(target)
    target.load_state_dict(source.state_dict())
    for name, values in source.state_dict().items():
        kept = dict(target.named_parameters())[name].mask if packed and name.endswith("weight") else True
        assert (target.state_dict()[name] == np.where(kept, values, 0)).all()
    if packed:
        assert nn.pack(target) is vectors


BAD = {
    "a missing name": (lambda s: s.pop("fc.bias"), "'fc.bias' is missing"),
    "an unknown name": (lambda s: s.update({"fc.wieght": s["fc.weight"]}), "'fc.wieght': did you mean 'fc.weight'"),
    "a wrong shape": (lambda s: s.update({"fc.bias": np.zeros(5)}), r"'fc.bias' has shape \(5,\), expected \(4,\)"),
    "a transposed weight": (lambda s: s.update({"fc.weight": s["fc.weight"].T}), r"\(3, 4\), expected \(4, 3\)"),
    "text": (lambda s: s.update({"fc.bias": np.array(["a"] * 4)}), "'fc.bias' holds <U1, expected numbers"),
    "complex numbers": (lambda s: s.update({"fc.bias": np.zeros(4, complex)}), "holds complex128"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_state_dict_is_refused_and_changes_nothing(fault):
    model = Convolutional()
    before = model.state_dict()
    state = {name: values + 1 for name, values in before.items()}
    spoil, message = BAD[fault]
    spoil(state)
    with pytest.raises(Error, match=message):
        model.load_state_dict(state)
    assert all((values == before[name]).all() for name, values in model.state_dict().items())


def test_an_error_about_one_of_many_names_stays_short():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(40)))
    with pytest.raises(Error, match="did you mean") as error:
        model.load_state_dict({**model.state_dict(), "7.wieght": 0})
    assert len(str(error.value)) < 360


# -------------------------------------------------------------------------------------------------------- flat vectors


def test_parameters_gradients_momentum_masks_and_statistics_are_views_of_the_vectors():
    model = Convolutional()
    vectors = nn.pack(model)
    for layer, (name, p) in zip(vectors.layers, model.named_parameters(), strict=True):
        assert (layer.name, layer.shape) == (name, p.shape)
        for array, vector in ((p.data, vectors.weights), (p.grad, vectors.gradients),
                              (p.momentum, vectors.momentum), (p.mask, vectors.mask)):
            assert np.shares_memory(array, vector)
            vector[layer.start : layer.stop] = np.arange(p.size) % 2
            assert (array.ravel() == np.arange(p.size) % 2).all()
    assert vectors.layers[-1].stop == vectors.weights.size
    vectors.statistics[...] = np.arange(6)
    assert model.norm.running_mean.numpy().tolist() == [0, 1, 2]
    assert model.norm.running_var.numpy().tolist() == [3, 4, 5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packing_changes_no_value_keeps_the_dtype_and_happens_once(dtype):
    model = Convolutional().to(dtype=dtype)
    before = model.state_dict()
    vectors = nn.pack(model)
    assert vectors.weights.dtype == vectors.momentum.dtype == vectors.statistics.dtype == dtype
    assert vectors.mask.dtype == vectors.prunable.dtype == bool
    assert vectors.mask.all()
    assert all((values == before[name]).all() for name, values in model.state_dict().items())
    assert nn.pack(model) is vectors is model.vectors


def test_backward_adds_into_the_vector_of_gradients():
    alone, packed = Convolutional(), Convolutional()
    vectors = nn.pack(packed)
    assert backward(alone, IMAGES) == backward(packed, IMAGES)
    assert (np.concatenate([p.grad.ravel() for p in alone.parameters()]) == vectors.gradients).all()


def test_prunable_may_be_set_afterwards():
    model = Convolutional()
    vectors = nn.pack(model)
    assert vectors.prunable.sum() == 54 + 12
    model.fc.weight.prunable, model.norm.bias.prunable = False, True
    assert vectors.prunable.sum() == 54 + 3


def _replace(model): model.fc = nn.Linear(3, 4)
def _replace_parameter(model): model.fc.bias = nn.Parameter(np.zeros(4, np.float32))
def _replace_data(model): model.fc.weight.data = model.fc.weight.data * 2
def _replace_gradient(model): model.fc.weight.grad = None
def _replace_momentum(model): model.fc.weight.momentum = np.zeros((4, 3), np.float32)
def _replace_mask(model): model.fc.weight.mask = np.zeros((4, 3), bool)
def _replace_statistics(model): model.norm.running_var.data = np.ones(3, np.float32)
def _share(model): model.norm.bias = model.norm.weight
def _remove(model): del model.fc
def _add(model): model.extra = nn.Linear(2, 2)
def _add_buffer(model): model.count = nn.Buffer(np.zeros(1))


@pytest.mark.parametrize(("change", "message"), [
    (_replace, "'fc.weight' was replaced or shared"), (_replace_parameter, "'fc.bias' was replaced"),
    (_replace_data, "array data of 'fc.weight' was replaced"), (_replace_gradient, "array grad of 'fc.weight'"),
    (_replace_momentum, "array momentum of 'fc.weight'"), (_replace_mask, "array mask of 'fc.weight'"),
    (_replace_statistics, "'norm.running_var' was replaced"), (_share, "'norm.bias' was replaced or shared"),
    (_remove, "'fc.weight' was replaced"), (_add, "'extra.weight' was added"), (_add_buffer, "'count' was added"),
])
def test_a_packed_model_whose_parameters_were_exchanged_says_so(change, message):
    model = Convolutional()
    nn.pack(model)
    change(model)
    with pytest.raises(Error, match=message):
        nn.pack(model)


def test_changing_values_in_place_is_fine():
    model = Convolutional()
    vectors = nn.pack(model)
    model.fc.weight.data -= 1
    model.fc.weight.data[0] = 5
    assert nn.pack(model) is vectors
    assert (vectors.weights.reshape(-1)[-16:-13] == 5).all()


def test_a_model_without_parameters_or_with_two_dtypes_cannot_be_packed():
    with pytest.raises(Error, match="ReLU has no parameters"):
        nn.pack(nn.ReLU())
    model = Own()
    model.offsets[0] = nn.Parameter(np.zeros(3))
    with pytest.raises(Error, match="found float32 on cpu, float64 on cpu"):
        nn.pack(model)


# --------------------------------------------------------------------------------------------------------------- masks


def test_a_mask_makes_weight_momentum_and_gradient_exactly_zero():
    model = Convolutional()
    nn.pack(model)
    backward(model, IMAGES)
    vectors = half_masked(model)
    for vector in (vectors.weights, vectors.momentum, vectors.gradients):
        assert (vector[~vectors.mask] == 0).all()
        assert (vector[vectors.mask & vectors.prunable] != 0).any()


def test_the_gradient_of_a_masked_weight_is_zero_even_if_it_would_be_nan():
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    vectors = nn.pack(model)
    vectors.set_mask(np.array([True, False, True, True, False, True]))
    with np.errstate(invalid="ignore"):
        backward(model, np.array([[1, np.nan, 2]], np.float32), np.array([0]))
        backward(model, np.array([[1, np.inf, 2]], np.float32), np.array([0]))
    assert (vectors.gradients[[1, 4]] == 0).all()


def test_the_version_of_a_mask_counts_its_changes():
    model = Convolutional()
    vectors = nn.pack(model)

    def versions():
        return model.conv.weight.mask_version, model.fc.weight.mask_version

    assert versions() == (0, 0)
    mask = vectors.mask.copy()
    mask[0] = False                                     # the first weight of conv
    vectors.set_mask(mask)
    assert versions() == (1, 0)
    vectors.set_mask(mask)
    assert versions() == (1, 0)
    vectors.set_mask(np.ones_like(mask))
    assert versions() == (2, 0)


@pytest.mark.parametrize("bad", [np.ones(85, np.int64), np.ones(84, bool), np.ones((1, 85), bool)])
def test_a_mask_is_bool_and_has_an_entry_for_every_parameter(bad):
    vectors = nn.pack(Convolutional())
    assert vectors.mask.size == 54 + 6 + 16
    with pytest.raises(Error, match=r"expected bool \(76,\)"):
        vectors.set_mask(bad)


# -------------------------------------------------------------------------------------------------------- copy, convert


@pytest.mark.parametrize("make", [Own, Convolutional])
@pytest.mark.parametrize("packed", [False, True])
def test_a_deep_copy_is_equal_independent_and_trains(make, packed):
    model, x = make(), ROWS if make is Own else IMAGES
    if packed:
        half_masked(model).step = 7
    twin = copy.deepcopy(model)
    before = model.state_dict()
    assert all((values == before[name]).all() for name, values in twin.state_dict().items())
    assert backward(twin, x) == backward(model, x)
    if packed:
        mine, theirs = nn.pack(model), nn.pack(twin)
        assert theirs.step == 7
        assert (theirs.momentum == mine.momentum).all()
        assert (theirs.mask == mine.mask).all()
        assert (theirs.gradients == mine.gradients).all()
    optim.SGD(twin).step(0.5)
    twin.vectors.set_mask(~twin.vectors.prunable)
    assert all((values == before[name]).all() for name, values in model.state_dict().items() if "running" not in name)
    assert (twin.state_dict()["heads.last.weight" if make is Own else "fc.weight"] == 0).all()


def test_a_deep_copy_of_a_part_of_a_pruned_model_belongs_to_itself():
    model = Convolutional()
    half_masked(model)
    part = copy.deepcopy(model.fc)
    assert part.weight.mask is None
    assert part.initialise(1).weight.numpy().all()
    assert nn.pack(part).mask.all()
    assert not np.shares_memory(part.weight.data, model.fc.weight.data)


def test_a_deep_copy_keeps_what_is_shared_shared():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    nn.pack(model)
    twin = copy.deepcopy(model)
    assert twin[1].weight is twin[0].weight
    assert nn.pack(twin).weights.size == 15


def test_conversion_keeps_values_momentum_mask_and_step():
    model = Convolutional()
    before, half = model.state_dict(), half_masked(model)
    half.step = 3
    assert model.to(dtype=np.float64) is model
    after = nn.pack(model)
    assert after.weights.dtype == after.statistics.dtype == np.float64
    assert after.step == 3
    for name in ("weights", "momentum", "mask", "statistics"):
        assert (getattr(after, name) == getattr(half, name)).all(), name
    assert (model.fc.weight.numpy()[model.fc.weight.mask] == before["fc.weight"][model.fc.weight.mask]).all()
    backward(model, IMAGES)
    assert after.gradients.any()
    assert (after.gradients[~after.mask] == 0).all()


def test_conversion_there_and_back_is_the_identity():
    model = Own()
    before = model.state_dict()
    model.to(dtype="float64").to(dtype="float32")
    assert all((values == before[name]).all() for name, values in model.state_dict().items())


def test_a_model_moves_to_another_device_and_computes_the_same_there():
    model, other = Convolutional().eval(), Convolutional().eval().to(device="reference")
    assert {p.device for p in other.parameters()} == {"reference"}
    here, there = backward(model, IMAGES), backward(other, IMAGES)
    assert here == pytest.approx(there, rel=1e-6)
    for p, q in zip(model.parameters(), other.parameters()):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [{"device": "referense"}, {"dtype": np.int64}])
def test_a_conversion_that_cannot_be_made_changes_nothing(bad):
    model = Convolutional()
    vectors = half_masked(model)
    mask = vectors.mask.copy()
    with pytest.raises(Error, match=r"did you mean 'reference'|floating-point dtype, got int64"):
        model.to(**bad)
    assert nn.pack(model) is vectors
    assert (vectors.mask == mask).all()


# ------------------------------------------------------------------------------------------------------------- dropout


class Clock:
    def __init__(self, seed=0, stream=0, round=0, step=0):
        self.seed, self.stream, self.round, self.step = seed, stream, round, step


def dropped(clock, name="drop"):
    model = nn.Module()
    setattr(model, name, nn.Dropout(0.5))
    model.clock = clock
    return getattr(model, name)(Tensor(np.ones((20, 20), np.float32))).numpy() == 0


@given(*[st.integers(0, 2**32)] * 4)
@settings(max_examples=20, deadline=None)
def test_what_drops_is_a_function_of_seed_stream_round_step_and_name(seed, stream, round, step):
    key = dict(seed=seed, stream=stream, round=round, step=step)
    first = dropped(Clock(**key))
    assert (first == dropped(Clock(**key))).all()
    assert 0.3 < first.mean() < 0.7
    for word in key:
        assert 0.3 < (first != dropped(Clock(**{**key, word: key[word] + 1}))).mean() < 0.7
    assert 0.3 < (first != dropped(Clock(**key), "other")).mean() < 0.7


def test_in_a_loop_of_ones_own_each_call_drops_other_places_and_a_second_run_the_same():
    def run():
        layer = nn.Dropout(0.5)
        return [layer(Tensor(np.ones((20, 20), np.float32))).numpy() == 0 for _ in range(3)]

    masks = run()
    assert 0.3 < (masks[0] != masks[1]).mean() < 0.7
    assert 0.3 < (masks[1] != masks[2]).mean() < 0.7
    assert np.array_equal(masks, run())


# ---------------------------------------------------------------------------------------------------------------- repr


def test_a_model_prints_every_layer_with_shapes_and_counts():
    lines = repr(Convolutional()).splitlines()
    assert lines[0] == "Convolutional: 76 parameters, 66 of them prunable"
    assert [line.split() for line in lines[1:]] == [
        ["conv", "Conv2d(2,", "3,", "3,", "stride=1,", "padding=1)", "(3,", "2,", "3,", "3)", "54"],
        ["norm", "BatchNorm2d(3)", "(3,)", "(3,)", "6"],
        ["drop", "Dropout(p=0.3)", "0"],
        ["fc", "Linear(3,", "4)", "(4,", "3)", "(4,)", "16"]]
    assert repr(nn.Linear(3, 4)) == "Linear(3, 4)  (4, 3) (4,)"
    assert repr(nn.ReLU()) == "ReLU()"


def test_a_users_own_module_prints_its_own_parameters():
    text = repr(Own())
    assert text.startswith("Own: 74 parameters, 50 of them prunable")
    assert "heads.last" in text
    assert "branches.1.0" in text


# ------------------------------------------------------------------------------------------------ layers beside PyTorch


LAYERS = {
    "Linear": (lambda n: n.Linear(5, 3), (4, 5)),
    "Linear without bias": (lambda n: n.Linear(5, 3, bias=False), (4, 5)),
    "Conv2d": (lambda n: n.Conv2d(2, 3, 3, 2, 1), (4, 2, 7, 6)),
    "Conv2d oblong": (lambda n: n.Conv2d(2, 3, (1, 3), (2, 1), (0, 1), bias=False), (4, 2, 7, 6)),
    "BatchNorm2d": (lambda n: n.BatchNorm2d(3, eps=1e-3, momentum=0.3), (4, 3, 5, 5)),
    "ReLU": (lambda n: n.ReLU(), (4, 3)),
    "Softplus": (lambda n: n.Softplus(), (4, 3)),
    "MaxPool2d": (lambda n: n.MaxPool2d(3, 2, 1), (4, 2, 7, 6)),
    "AvgPool2d": (lambda n: n.AvgPool2d(2), (4, 2, 7, 6)),
    "Flatten": (lambda n: n.Flatten(), (4, 2, 3, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mode", [True, False])
def test_every_layer_is_pytorchs(name, mode):
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    make, shape = LAYERS[name]
    theirs, mine = make(torch.nn).double(), make(nn).to(dtype=np.float64)
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    theirs.train(mode), mine.train(mode)
    random = np.random.default_rng(0)
    values = random.standard_normal(shape)
    x, y = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    z, expected = mine(x), theirs(y)
    dz = random.standard_normal(z.shape)
    z.backward(dz), expected.backward(torch.tensor(dz))
    np.testing.assert_allclose(z.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(x.grad, y.grad.numpy(), rtol=1e-9, atol=1e-9)
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-9, atol=1e-9)
    for key, values in theirs.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_allclose(mine.state_dict()[key], values.numpy(), rtol=1e-9, atol=1e-12)


def test_a_child_may_hold_on_to_its_parent_and_a_shared_layer_is_listed_once():
    class Child(nn.Module):
        def __init__(self, parent):
            self.parent = parent
            self.fc = nn.Linear(2, 2)

    class Parent(nn.Module):
        def __init__(self):
            self.child = Child(self)
            self.again = self.child

    assert [name for name, _ in Parent().named_modules()] == ["", "child", "child.fc"]
