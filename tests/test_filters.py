"""Facts about pruning whole filters at hand-picked rates: which go, and the paper's densities."""

import functools
import itertools
import math

import numpy as np
import pytest

from minirewind import filters, models, nn, prune, train
from minirewind.errors import Error

PUBLISHED = {               # the densities of the authors' results, after one to five steps
    ("resnet56", "A"): (0.9209, 0.8453, 0.7780, 0.7163, 0.6644),
    ("resnet56", "B"): (0.8712, 0.7763, 0.6999, 0.6381, 0.5879),
    ("resnet110", "A"): (0.9773, 0.9659, 0.9602, 0.9574, 0.9562),
    ("resnet110", "B"): (0.6876, 0.4790, 0.3384, 0.2468, 0.1831),
}
METHODS = {"A": filters.variant_a, "B": filters.variant_b}


class Narrow(models.VGG16):
    """VGG-16 of an eighth of its width."""

    widths = tuple(width if width == "M" else width // 8 for width in models.VGG16.widths)


@functools.cache
def network(name):
    """A network with its initial weights, their state, and its prunable layers."""
    model = Narrow((3, 32, 32), 10, 0.1) if name == "vgg16" else models.build(name, input_shape=(3, 32, 32), classes=10)
    return model, train.State.copy(model), prune.prunable_layers(model)


def pruned(name, variant, steps):
    model, state, layers = network(name)
    method = functools.partial(METHODS[variant], layers=layers)
    mask = prune.new_mask(model, state, filters.density_after(steps, variant, layers), method)
    return mask[nn.pack(model).prunable]


@pytest.mark.parametrize(("name", "variant"), PUBLISHED)
def test_the_papers_densities_come_out_but_for_its_rounding_by_lot(name, variant):
    """Rounding by lot moves each layer's count by less than one filter: 0.0056 of the weights at most."""
    for steps, published in enumerate(PUBLISHED[name, variant], 1):
        density = filters.density_with_inputs(pruned(name, variant, steps), network(name)[2])
        assert density == pytest.approx(published, abs=0.0057)


@pytest.mark.parametrize(("name", "variant"), [*PUBLISHED, ("vgg16", "A")])
@pytest.mark.parametrize("steps", [1, 3])
def test_whole_filters_go_those_of_smallest_norm_and_only_where_the_variant_says(name, variant, steps):
    model, state, layers = network(name)
    mask, weights = pruned(name, variant, steps), state.weights[nn.pack(model).prunable]
    rates = filters.rates(variant, layers)
    for layer, rows in prune.filters_of(mask, layers):
        assert (rows.all(axis=1) == rows.any(axis=1)).all(), f"a filter of {layer.name} was cut"
        K, gone = len(rows), int((~rows.any(axis=1)).sum())
        share = 1 - (1 - rates.get(layer.name, 0)) ** steps
        assert abs(gone - share * K) <= 0.5 + 1e-6
        norms = abs(weights[layer.start : layer.stop].reshape(K, -1)).sum(axis=1)
        assert set(np.flatnonzero(~rows.any(axis=1))) == set(np.argsort(norms, kind="stable")[:gone])
    assert mask[layers[-1].start :].all()                           # the dense layer is left whole


def test_the_variants_prune_the_convolutions_that_the_paper_names():
    def numbers(name, variant):
        """Which first convolutions of blocks lose filters; counted from the stem, 1, two to a block."""
        layers = network(name)[2]
        first = [layer.name for layer in layers if ".conv1." in layer.name]
        return [2 + 2 * first.index(pruned) for pruned in filters.rates(variant, layers)]

    assert numbers("resnet56", "A") == [n for n in range(2, 55, 2) if n not in (16, 20, 38, 54)]
    assert numbers("resnet56", "B") == [n for n in range(2, 55, 2) if n not in (16, 18, 20, 34, 38, 54)]
    assert numbers("resnet110", "A") == list(range(2, 35, 2))
    assert numbers("resnet110", "B") == [n for n in range(2, 109, 2) if n not in (36, 38, 74)]
    rates = filters.rates("B", network("resnet56")[2])
    assert {rates[f"layer{stage}.2.conv1.weight"] for stage in (1, 2, 3)} == {0.6, 0.3, 0.1}
    assert rates["layer1.0.conv1.weight"] == 0.6
    assert list(filters.rates("A", network("vgg16")[2])) == [
        network("vgg16")[2][n - 1].name for n in (1, 8, 9, 10, 11, 12, 13)]


def test_between_two_steps_filters_go_one_by_one_and_at_most_one_is_cut():
    model, state, layers = network("resnet56")
    method = functools.partial(filters.variant_b, layers=layers)
    before = None
    for density in (0.93, 0.91, 0.9, 0.891, 0.85):
        mask = prune.new_mask(model, state, density, method)[nn.pack(model).prunable]
        cut = sum(int((rows.any(axis=1) & ~rows.all(axis=1)).sum()) for _, rows in prune.filters_of(mask, layers))
        assert cut <= 1
        assert before is None or not (mask & ~before).any()
        before = mask


def test_a_filter_and_its_channel_are_counted_once_each():
    layers = (nn.Layer("b.conv1.weight", (2, 3, 1, 1), 0, 6), nn.Layer("b.conv2.weight", (4, 2, 1, 1), 6, 14),
              nn.Layer("fc.weight", (1, 6), 14, 20))
    mask = np.ones(20, bool)
    mask[:3] = False                                                # one filter of the first
    assert filters.density_with_inputs(mask, layers) == (20 - 3 - 4) / 20
    mask[6] = False                                                 # a weight that reads the channel already gone
    assert filters.density_with_inputs(mask, layers) == (20 - 3 - 4) / 20
    mask[3] = False                                                 # the other filter is cut, not gone
    assert filters.density_with_inputs(mask, layers) == (20 - 4 - 4) / 20


def test_a_chain_of_convolutions_ends_in_the_dense_layer():
    layers = network("vgg16")[2]
    mask = pruned("vgg16", "A", 1)
    counted = sum(layer.stop - layer.start for layer in layers) * filters.density_with_inputs(mask, layers)
    widths = [3, *(width for width in Narrow.widths if width != "M")]
    left = [width / 2 if number in (1, 8, 9, 10, 11, 12, 13) else width for number, width in enumerate(widths)]
    expected = sum(9 * C * K for C, K in itertools.pairwise(left)) + left[-1] * 10
    assert counted == pytest.approx(expected)


def test_a_density_that_the_rates_cannot_reach_is_refused():
    model, state, layers = network("resnet56")
    with pytest.raises(Error, match=r"leave at least 5\d\d,\d\d\d of 851,760 weights, density 0.\d+; asked for 85,176"):
        prune.new_mask(model, state, 0.1, functools.partial(filters.variant_a, layers=layers))


@pytest.mark.parametrize(("name", "variant"), [("resnet20", "A"), ("vgg16", "B"), ("lenet_300_100", "A")])
def test_a_network_without_such_a_table_is_refused(name, variant):
    layers = network(name)[2]
    with pytest.raises(Error, match=f"variant {variant} of Li et al. is known for ResNet-56, ResNet-110"):
        filters.rates(variant, layers)


def test_own_rates_may_be_given():
    model, state, layers = network("resnet20")
    method = functools.partial(filters.by_rates, layers=layers, rates={"layer3.1.conv1.weight": 0.25})
    one = 64 * 9
    mask = prune.new_mask(model, state, 1 - 16 * one / 271_152, method)
    mask = mask[nn.pack(model).prunable]
    for layer in layers:
        assert mask[layer.start : layer.stop].mean() == (0.75 if layer.name == "layer3.1.conv1.weight" else 1)


def test_filters_are_gone_by_the_nearest_whole_number():
    assert [filters.gone(1, K, 0.1) for K in (16, 32, 64)] == [2, 3, 6]
    assert [filters.gone(i, 16, 0.5) for i in (1, 2, 3, 4, 5)] == [8, 12, 14, 15, 15]       # a half, 15.5, down
    assert math.isclose(filters.step_of(15, 16, 0.5), 5)
