"""Facts about masks: how many weights they keep, and which."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirewind import models, nn, prune, train
from minirewind.errors import Error

few = settings(max_examples=40, deadline=None)


class Net(nn.Module):
    """Three prunable layers (36, 12 and 20 weights) between parameters that are not."""

    def __init__(self):
        self.conv = nn.Conv2d(2, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.fc1 = nn.Linear(3, 4)
        self.fc2 = nn.Linear(4, 5)


PRUNABLE = 36 + 12 + 20


def state_of(model, seed=0, tied=False):
    """The model's state with random weights; with ties, of three magnitudes and either sign."""
    vectors = nn.pack(model)
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, vectors.weights.shape) if tied else random.standard_normal(vectors.weights.shape)
    vectors.weights[...] = np.where(vectors.mask, values, 0)
    return train.State.copy(model)


def methods(model, key=0):
    return {"global_magnitude": prune.global_magnitude,
            "layerwise_magnitude": functools.partial(prune.layerwise_magnitude, layers=prune.prunable_layers(model)),
            "random_mask": functools.partial(prune.random_mask, key=key),
            "layerwise_random": functools.partial(prune.layerwise_random, layers=prune.prunable_layers(model), key=key),
            "l1_filters": functools.partial(prune.l1_filters, layers=prune.prunable_layers(model))}


METHODS = st.sampled_from(["global_magnitude", "layerwise_magnitude", "random_mask", "layerwise_random", "l1_filters"])
DENSITIES = st.floats(1e-6, 1)


# -------------------------------------------------------------------------------------------------------------- counts


@given(METHODS, DENSITIES, st.booleans(), st.integers(0, 99))
@few
def test_every_method_keeps_exactly_the_count_of_the_density_with_ties_too(name, density, tied, seed):
    model = Net()
    mask = prune.new_mask(model, state_of(model, seed, tied), density, methods(model)[name])
    prunable = nn.pack(model).prunable
    assert mask.dtype == bool
    assert mask[prunable].sum() == prune.keep_count(PRUNABLE, density) == max(1, math.floor(density * PRUNABLE + 0.5))
    assert mask[~prunable].all()


@given(METHODS, st.integers(0, 99), st.booleans(), st.lists(DENSITIES, min_size=2, max_size=5))
@few
def test_masks_only_shrink(name, seed, tied, densities):
    model = Net()
    for density in sorted(densities, reverse=True):
        before = state_of(model, seed, tied)
        mask = prune.new_mask(model, before, density, methods(model, seed)[name])
        assert not (mask & ~before.mask).any()
        nn.pack(model).set_mask(mask)
        seed += 1                                       # between the rounds the weights change


@given(METHODS, st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_round_i_keeps_four_fifths_to_the_i_of_the_dense_count(name, seed):
    model = Net()
    for i in range(1, 15):
        state = state_of(model, seed + i)
        nn.pack(model).set_mask(prune.new_mask(model, state, 0.8**i, methods(model)[name]))
        exact = Fraction(4, 5) ** i * PRUNABLE
        assert nn.pack(model).mask[nn.pack(model).prunable].sum() == max(1, math.floor(exact + Fraction(1, 2)))


def test_the_papers_counts_on_resnet20():
    counts = [prune.keep_count(271_152, 0.8**i) for i in (1, 2, 5, 10)]
    assert counts == [216_922, 173_537, 88_851, 29_115]


def test_a_half_is_rounded_up():
    assert [prune.keep_count(n, 0.5) for n in (1, 3, 5, 7)] == [1, 2, 3, 4]
    assert prune.keep_count(10, 0.049) == 1


@given(st.integers(1, 60))
def test_rounds_to_undoes_the_powers_of_four_fifths(rounds):
    assert prune.rounds_to(0.8**rounds) == rounds
    assert prune.rounds_to(0.8**rounds * 0.999) == rounds + 1
    assert prune.rounds_to(0.8**rounds * 1.001) == rounds


def test_rounds_to_understands_densities_written_as_decimals():
    assert [prune.rounds_to(density) for density in (0.8, 0.64, 0.512, 0.4096, 0.32768)] == [1, 2, 3, 4, 5]
    assert 0.64 < 0.8**2                                # which is why it is worth a test


def test_no_round_leads_to_the_dense_network():
    assert prune.rounds_to(1) == 0


def test_density_and_compression_count_prunable_entries_only():
    prunable = np.array([True, True, True, True, False, False])
    mask = np.array([True, False, False, False, True, True])
    assert prune.density(mask, prunable) == 0.25
    assert prune.compression(mask, prunable) == 4
    assert prune.density(mask, np.zeros(6, bool)) == 1


def test_layer_densities_are_by_name():
    model = Net()
    mask = nn.pack(model).mask.copy()
    mask[:9] = False
    nn.pack(model).set_mask(mask)
    assert prune.layer_densities(model) == {"conv.weight": 0.75, "fc1.weight": 1, "fc2.weight": 1}


def test_layers_of_the_prunable_weights_lie_end_to_end():
    assert [tuple(layer) for layer in prune.prunable_layers(Net())] == [
        ("conv.weight", (2, 2, 3, 3), 0, 36), ("fc1.weight", (4, 3), 36, 48), ("fc2.weight", (5, 4), 48, 68)]


# ------------------------------------------------------------------------------------------------------ which are kept


@given(st.integers(1, PRUNABLE), st.integers(0, 99), st.booleans())
@few
def test_global_magnitude_keeps_the_largest_and_of_equal_ones_the_lower_index(keep, seed, tied):
    random = np.random.default_rng(seed)
    weights = (random.integers(-3, 4, PRUNABLE) if tied else random.standard_normal(PRUNABLE)).astype(np.float32)
    alive = random.random(PRUNABLE) < 0.7
    keep = min(keep, int(alive.sum()))
    ranked = sorted(np.flatnonzero(alive), key=lambda i: (-abs(weights[i]), i))
    kept = prune.global_magnitude(weights, alive, keep)
    assert sorted(np.flatnonzero(kept)) == sorted(ranked[:keep])


def test_a_kept_weight_of_zero_ranks_above_a_pruned_one():
    kept = prune.global_magnitude(np.zeros(4, np.float32), np.array([False, True, False, True]), 2)
    assert kept.tolist() == [False, True, False, True]


@given(st.floats(0.01, 1), st.integers(0, 99))
@few
def test_layerwise_magnitude_is_magnitude_within_each_layer_at_nearly_the_same_share(density, seed):
    model = Net()
    state = state_of(model, seed)
    vectors = nn.pack(model)
    kept = prune.new_mask(model, state, density, methods(model)["layerwise_magnitude"])[vectors.prunable]
    weights = state.weights[vectors.prunable]
    keep = prune.keep_count(PRUNABLE, density)
    for layer in prune.prunable_layers(model):
        part, count = slice(layer.start, layer.stop), int(kept[layer.start : layer.stop].sum())
        assert abs(count - Fraction(keep * (layer.stop - layer.start), PRUNABLE)) < 1
        assert (kept[part] == prune.largest(abs(weights[part]), count)).all()


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 99), st.data())
@few
def test_shares_are_by_largest_remainder_and_never_more_than_is_left(sizes, seed, draw):
    random = np.random.default_rng(seed)
    ends = np.cumsum(sizes)
    layers = [nn.Layer(str(i), (n,), int(end - n), int(end)) for i, (n, end) in enumerate(zip(sizes, ends))]
    keep = draw.draw(st.integers(1, int(ends[-1])))
    full = prune.shares(keep, layers, np.ones(ends[-1], bool))
    assert sum(full) == keep
    exact = [Fraction(keep * n, int(ends[-1])) for n in sizes]
    floors = [math.floor(x) for x in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (floors[i] - exact[i], i))       # ties: the first layers
    more = set(by_remainder[: keep - sum(floors)])
    assert full == [floor + (i in more) for i, floor in enumerate(floors)]

    mask = random.random(ends[-1]) < 0.5
    if mask.any():
        keep = draw.draw(st.integers(1, int(mask.sum())))
        some = prune.shares(keep, layers, mask)
        assert sum(some) == keep
        assert all(0 <= n <= mask[layer.start : layer.stop].sum() for n, layer in zip(some, layers))


def test_the_random_mask_is_a_function_of_its_key_and_ignores_the_weights():
    weights, alive = np.random.default_rng(0).standard_normal(1000), np.ones(1000, bool)
    first = prune.random_mask(weights, alive, 300, key=1)
    assert (first == prune.random_mask(-3 * weights[::-1], alive, 300, key=1)).all()
    other = prune.random_mask(weights, alive, 300, key=2)
    assert 50 < (first & other).sum() < 130                        # by chance 90, give or take 8
    places = np.flatnonzero(first)
    assert 440 < places.mean() < 560                               # by chance 499.5, give or take 14


@given(st.floats(0.01, 1), st.integers(0, 99))
@few
def test_the_shuffled_mask_keeps_as_many_of_each_layer_as_global_magnitude(density, seed):
    model = Net()
    nn.pack(model).set_mask(np.random.default_rng(seed).random(nn.pack(model).mask.shape) < 0.7)
    state, prunable = state_of(model, seed), nn.pack(model).prunable
    weights, alive = state.weights[prunable], state.mask[prunable]
    keep = prune.keep_count(int(alive.sum()), density)
    layers = prune.prunable_layers(model)
    magnitude = prune.global_magnitude(weights, alive, keep)
    shuffled = prune.layerwise_random(weights, alive, keep, layers=layers, key=seed)
    assert not (shuffled & ~alive).any()
    for layer in layers:
        part = slice(layer.start, layer.stop)
        assert shuffled[part].sum() == magnitude[part].sum()


def test_within_a_layer_the_shuffled_mask_is_by_lot_and_another_in_each_layer():
    layers = [nn.Layer("a", (1000,), 0, 1000), nn.Layer("b", (1000,), 1000, 2000)]
    weights, alive = np.random.default_rng(0).standard_normal(2000), np.ones(2000, bool)
    magnitude = prune.global_magnitude(weights, alive, 600)
    shuffled = prune.layerwise_random(weights, alive, 600, layers=layers, key=1)
    assert 120 < (magnitude & shuffled).sum() < 240                 # by chance 180, give or take 11
    assert 50 < (shuffled[:1000] & shuffled[1000:]).sum() < 130     # by chance 90, give or take 8
    assert (shuffled != prune.layerwise_random(weights, alive, 600, layers=layers, key=2)).any()


@given(st.integers(1, PRUNABLE), st.integers(0, 99), st.floats(0.3, 1))
@few
def test_l1_filters_takes_whole_filters_the_smallest_first_and_cuts_at_most_one(keep, seed, before):
    model = Net()
    random = np.random.default_rng(seed)
    weights, alive = random.standard_normal(PRUNABLE), random.random(PRUNABLE) < before
    keep = min(keep, int(alive.sum()))
    layers = prune.prunable_layers(model)
    kept = prune.l1_filters(weights, alive, keep, layers=layers)
    conv, rest = layers[0], slice(layers[0].stop, None)
    filters = (kept & alive)[conv.start : conv.stop].reshape(2, 18)
    were = alive[conv.start : conv.stop].reshape(2, 18)
    size = abs(weights * alive)[conv.start : conv.stop].reshape(2, 18).mean(axis=1)
    small, large = np.argsort(size)
    assert (filters[large] == were[large]).all() or not filters[small].any()
    cut = [0 < f.sum() < w.sum() for f, w in zip(filters, were)]
    assert sum(cut) <= 1
    assert (kept[rest] == alive[rest]).all() or not filters.any()


# -------------------------------------------------------------------------------------------- what new_mask looks after


@given(METHODS, DENSITIES)
@settings(max_examples=10, deadline=None)
def test_what_is_not_prunable_is_never_masked_whatever_its_size(name, density):
    model = Net()
    vectors = nn.pack(model)
    model.fc1.weight.prunable, model.norm.weight.prunable = False, True
    state = state_of(model)
    state.weights[~vectors.prunable] = 1e-30
    mask = prune.new_mask(model, state, density, methods(model)[name])
    assert mask[~vectors.prunable].all()
    assert mask[vectors.prunable].sum() == prune.keep_count(36 + 2 + 20, density)


def test_a_layer_that_stops_being_prunable_keeps_its_mask():
    model = Net()
    vectors = nn.pack(model)
    vectors.set_mask(prune.new_mask(model, state_of(model), 0.5))
    before = model.conv.weight.mask.copy()
    assert 0 < before.sum() < 36
    model.conv.weight.prunable = False
    vectors.set_mask(prune.new_mask(model, state_of(model), 0.1))
    assert (model.conv.weight.mask == before).all()


def test_the_state_and_the_model_are_left_as_they_are():
    def destructive(weights, mask, keep):
        new = prune.global_magnitude(weights, mask, keep)
        weights[:], mask[:] = 0, False
        return new

    model = Net()
    state = state_of(model)
    weights = state.weights.copy()
    assert weights.all()
    prune.new_mask(model, state, 0.3, destructive)
    assert (state.weights == weights).all()
    assert (nn.pack(model).weights == weights).all()
    assert state.mask.all()
    assert nn.pack(model).mask.all()


def test_the_multiply_adds_of_resnet20_are_those_counted_by_hand():
    """Stem and stage 1 on maps of 32x32, stage 2 of 16x16, stage 3 of 8x8: weights times places, layer by layer."""
    counts = prune.layer_multiply_adds(models.resnet(20), (3, 32, 32))
    assert counts["conv1.weight"] == 3 * 16 * 9 * 32 * 32
    assert counts["layer1.0.downsample.0.weight"] == 16 * 16 * 32 * 32
    assert counts["layer2.0.conv1.weight"] == 16 * 32 * 9 * 16 * 16
    assert counts["layer3.2.conv2.weight"] == 64 * 64 * 9 * 8 * 8
    assert counts["fc.weight"] == 64 * 10
    assert sum(counts.values()) == 41_075_328


@pytest.mark.parametrize("density", [0, -0.1, 1.0001, 80, math.nan, math.inf])
def test_a_density_outside_0_to_1_is_refused(density):
    model = Net()
    for ask in (lambda: prune.new_mask(model, state_of(model), density), lambda: prune.rounds_to(density),
                lambda: prune.keep_count(100, density)):
        with pytest.raises(Error, match=r"is not in \(0, 1\]"):
            ask()


def test_a_density_above_what_is_left_is_refused():
    model = Net()
    nn.pack(model).set_mask(prune.new_mask(model, state_of(model), 0.25))
    with pytest.raises(Error, match=r"density 0.5 would keep 34 weights, but only 17 are left: masks only shrink"):
        prune.new_mask(model, state_of(model), 0.5)
    assert prune.new_mask(model, state_of(model), 0.25).sum() == nn.pack(model).mask.sum()


def revives(weights, mask, keep):
    return prune.largest(-mask.astype(float), keep)


def revives_in_place(weights, mask, keep):
    mask[...] = prune.largest(-mask.astype(float), keep)
    return mask


def keeps_one_more(weights, mask, keep):
    return prune.global_magnitude(weights, mask, keep + 1)


@pytest.mark.parametrize(("method", "message"), [
    (revives, "revives kept 7 weights, 7 of them pruned before; expected 7 of those still there"),
    (revives_in_place, "revives_in_place kept 7 weights, 7 of them pruned before"),
    (keeps_one_more, "keeps_one_more kept 8 weights, 0 of them pruned before; expected 7"),
    (lambda weights, mask, keep: np.where(mask, weights, 0), r"returned float32 of shape \(68,\), expected a bool"),
    (lambda weights, mask, keep: mask[:keep], r"returned bool of shape \(7,\), expected a bool mask, \(68,\)"),
    (lambda weights, mask, keep: mask.tolist(), "returned a list, expected a bool mask"),
    (lambda weights, mask, keep: None, "returned a NoneType, expected a bool mask"),
])
def test_a_method_that_breaks_the_rules_is_told_which(method, message):
    model = Net()
    nn.pack(model).set_mask(prune.new_mask(model, state_of(model), 0.25))
    with pytest.raises(Error, match=message):
        prune.new_mask(model, state_of(model), 0.1, method)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_cannot_be_ranked(bad):
    model = Net()
    state = state_of(model)
    state.weights[0] = bad
    with pytest.raises(Error, match="NaN or infinity"):
        prune.new_mask(model, state, 0.5)


def test_a_network_without_prunable_parameters_is_told_so():
    model = nn.Sequential(nn.BatchNorm2d(3))
    with pytest.raises(Error, match="nothing to prune: no parameter of this model is prunable"):
        prune.new_mask(model, train.State.copy(model), 0.5)


def test_the_state_of_another_network_is_told_so():
    other = train.State.copy(nn.Linear(3, 3))
    with pytest.raises(Error, match="another network: it has 12 weights, the model 81"):
        prune.new_mask(Net(), other, 0.5)


def test_magnitude_pruning_is_pytorchs():
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    import torch.nn.utils.prune as theirs

    model, twin = Net(), torch.nn.ModuleList([torch.nn.Conv2d(2, 2, 3, bias=False), torch.nn.Linear(3, 4),
                                              torch.nn.Linear(4, 5)])
    mine = [model.conv.weight, model.fc1.weight, model.fc2.weight]
    state = state_of(model, seed=3)
    for layer, weight in zip(twin, mine):
        layer.weight.data = torch.tensor(weight.numpy())
    nn.pack(model).set_mask(prune.new_mask(model, state, 0.25))
    theirs.global_unstructured([(layer, "weight") for layer in twin], theirs.L1Unstructured, amount=PRUNABLE - 17)
    for layer, weight in zip(twin, mine):
        assert (layer.weight_mask.numpy().astype(bool) == weight.mask).all()


@given(st.sampled_from(["global_magnitude", "layerwise_magnitude"]), st.floats(0.2, 0.8), st.integers(0, 9))
@few
def test_a_kept_weight_that_is_zero_comes_before_one_that_is_pruned(name, density, seed):
    model = Net()
    state = state_of(model, seed)
    first = prune.new_mask(model, state, 0.9, methods(model)["random_mask"])
    state = train.State(0, np.zeros_like(state.weights), state.momentum, first, state.statistics)
    state.restore(model)
    assert not (prune.new_mask(model, state, density, methods(model)[name]) & ~first).any()
