"""Facts about the plug-ins: what each method promises, and that the framework does without them."""

import functools
import inspect
import itertools
import pathlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minirewind
from minirewind import data, functional, models, nn, prune, sparse, study, tensor, train
from minirewind.errors import Error
from minirewind.plugins import channels, gradual, snip, synflow
from minirewind.study import methods
from minirewind.tensor import Tensor


def dataset(shape=(2, 6, 6)):
    random = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count) % 3
        images = random.standard_normal((count, *shape)) + labels[:, None, None, None] - 1
        return data.Split(images.astype(np.float32), labels)
    return data.Data(split(24), split(12), split(12), classes=3, pad=1, flip=True)


DATA = dataset()
RECIPE = train.Recipe(20, batch_size=7)


class Net(nn.Module):
    """A convolution, batch norm and two dense layers without corners: its loss can be differentiated by differences."""

    def __init__(self):
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc1 = nn.Linear(4, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x):
        x = functional.softplus(self.norm(self.conv(x)))
        return self.fc2(functional.softplus(self.fc1(functional.global_avg_pool2d(x))))


class Narrow(models.VGG16):
    """VGG-16 of an eighth of its width."""

    widths = tuple(width if width == "M" else width // 8 for width in models.VGG16.widths)


PRUNABLE = 72 + 20 + 15


def bits(state):
    return state.step, *(getattr(state, n).tobytes() for n in ("weights", "momentum", "mask", "statistics"))


def test_the_framework_does_not_need_its_plug_ins():
    package = pathlib.Path(minirewind.__file__).parent
    wanted = re.compile(r"(?m)^\s*(from|import) .*plugins")
    assert [file for file in package.rglob("*.py") if wanted.search(file.read_text())] == []


def test_a_study_takes_them_by_import_path():
    for name in ("minirewind.plugins.snip:snip", "minirewind.plugins.synflow:synflow"):
        method = methods.bound("pruning method", name, Net(), DATA, RECIPE, 0)
        model = Net()
        mask = prune.new_mask(model, train.State.copy(model), 0.3, method)
        assert mask[nn.pack(model).prunable].sum() == round(0.3 * PRUNABLE)


def test_a_study_gives_every_technique_and_every_method_what_it_asks_for():
    names = [(kind, name) for kind, known in methods.KNOWN.items() for name in known]
    names += [("pruning method", f"minirewind.filters:variant_{variant}") for variant in "ab"]
    assert len(names) >= 9 + 5 + 2
    for kind, name in names:
        bound = methods.bound(kind, name, Net(), DATA, RECIPE, 0)
        inspect.signature(bound).bind(*methods.STARTS[kind])        # nothing is missing but what every call gives


def test_the_lines_of_contributing_run_in_a_study(tmp_path, monkeypatch):
    text = (pathlib.Path(minirewind.__file__).parent.parent / "CONTRIBUTING.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "own.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    wanted = study.Study("resnet8-2", DATA, RECIPE, rounds=(3,), seeds=1, protocols=("one_shot",),
                         techniques=("lr_rewinding", "own:lr_rewinding_at_rest"),
                         pruning=("global_magnitude", "own:relative_magnitude"))
    rows = study.run(wanted, tmp_path / "out", progress=False)
    assert len(rows) == 4
    assert len({row.density for row in rows}) == 1
    ends = {path.read_bytes() for path in tmp_path.glob("out/runs/*/state.npz")}
    assert len(ends) == 3 + 4                           # the dense run to steps 0, 2 and 20; no two runs ended alike


# ------------------------------------------------------------------------------------------------------------- gradual


@given(st.floats(0.01, 1), st.integers(0, 50), st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_the_density_falls_along_zhu_and_guptas_cubic(density, first, length):
    last = first + length
    curve = [gradual.cubic(step, first, last, density) for step in range(last + 5)]
    assert curve[: first + 1] == [1] * (first + 1)
    assert curve[last:] == [density] * 5
    for step in range(first, last):
        sparsity = (1 - density) * (1 - (1 - (step - first) / length) ** 3)         # equation 1, from no sparsity
        assert curve[step] == pytest.approx(1 - sparsity)
    assert curve == sorted(curve, reverse=True)


@given(st.floats(0.02, 1), st.integers(1, 6), st.sampled_from([(0, 0.5), (0.1, 0.7), (0.3, 0.95)]))
@settings(max_examples=8, deadline=None)
def test_gradual_pruning_follows_the_curve_and_ends_at_the_exact_density(density, every, when):
    model = Net().initialise(0)
    records = list(gradual.train(model, DATA, RECIPE, density, seed=0, begin=when[0], end=when[1], every=every,
                                 report_every=1))
    first, last = int(when[0] * 20), int(np.ceil(when[1] * 20))
    assert [r.step for r in records] == list(range(1, 21))
    for r in records:
        pruned_at = max((t for t in [*range(first + every, last, every), last] if t < r.step), default=0)
        kept = prune.keep_count(PRUNABLE, gradual.cubic(pruned_at, first, last, density)) if pruned_at else PRUNABLE
        assert r.density == kept / PRUNABLE
    v = nn.pack(model)
    assert v.mask[v.prunable].sum() == prune.keep_count(PRUNABLE, density)
    assert (v.weights[~v.mask] == 0).all()
    assert (v.momentum[~v.mask] == 0).all()


def test_gradual_pruning_stopped_at_any_report_goes_on_to_the_same_bits():
    def run(**more):
        return gradual.train(model, DATA, RECIPE, 0.2, seed=0, every=3, report_every=1, **more)

    model = Net().initialise(0)
    states = [train.State.copy(model) for _ in run()]
    for state in states[::3]:
        list(run(start=state))
        assert bits(train.State.copy(model)) == bits(states[-1])


def test_gradual_pruning_to_density_1_is_training():
    model, plain = Net().initialise(0), Net().initialise(0)
    list(gradual.train(model, DATA, RECIPE, 1.0, seed=0))
    list(train.train(plain, DATA, RECIPE, seed=0))
    assert bits(train.State.copy(model)) == bits(train.State.copy(plain))


@pytest.mark.parametrize("bad", [{"begin": 0.5, "end": 0.5}, {"end": 1.1}, {"begin": -0.1}, {"every": 0}])
def test_gradual_pruning_without_meaning_is_refused(bad):
    with pytest.raises(Error, match="0 <= begin < end <= 1"):
        list(gradual.train(Net(), DATA, RECIPE, 0.2, seed=0, **bad))


# ---------------------------------------------------------------------------------------------------------------- SNIP


def test_snips_score_is_how_the_loss_changes_with_a_factor_before_the_weight():
    """The definition: |d loss / d c| at c = 1, where every weight is multiplied by its own c; by finite differences."""
    model = Net().initialise(1).to(dtype=np.float64)
    v, random = nn.pack(model), np.random.default_rng(0)
    weights, mask = random.standard_normal(PRUNABLE) / 3, random.random(PRUNABLE) < 0.8
    weights[~mask] = 0
    scores = abs(weights * snip.gradient(weights, mask, model, DATA, 5, 16))
    clock = train.Clock(5, 0, 0, 16)
    x, y = data.batch(DATA, 16, clock)

    def loss(values):
        v.weights[v.prunable] = values
        return functional.cross_entropy(model.train()(Tensor(x, dtype=np.float64)), Tensor(y)).item()

    for i in range(0, PRUNABLE, 7):
        up, down = weights.copy(), weights.copy()
        up[i] *= 1 + 1e-5
        down[i] *= 1 - 1e-5
        assert scores[i] == pytest.approx(abs(loss(up) - loss(down)) / 2e-5, rel=1e-5, abs=1e-9)
    assert (scores[mask] > 0).all()
    assert (scores[~mask] == 0).all()


def test_snip_leaves_the_model_alone_and_is_a_function_of_its_key():
    model = Net().initialise(0)
    state = train.State.copy(model)
    masks = [prune.new_mask(model, state, 0.3, functools.partial(snip.snip, model=model, data=DATA, key=key, images=8))
             for key in (0, 0, 1)]
    assert bits(train.State.copy(model)) == bits(state)
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != masks[2]).any()


# -------------------------------------------------------------------------------------------------------------- SynFlow


class Deep(nn.Module):
    """Dense layers that grow narrow: the network that one-shot scores empty."""

    def __init__(self, widths=(72, 40, 40, 40, 8, 40, 3)):
        self.layers = nn.Sequential(*(nn.Linear(*pair) for pair in itertools.pairwise(widths)))

    def forward(self, x):
        x = x.flatten(1)
        for i in range(len(self.layers)):
            x = self.layers[i](x)
            x = functional.relu(x) if i < len(self.layers) - 1 else x
        return x


@pytest.mark.parametrize("make", [Deep, lambda: Narrow((2, 6, 6), 3, 0.1)], ids=["dense", "vgg"])
def test_the_flow_through_every_layer_is_the_whole_flow(make):
    """Tanaka's conservation: synaptic saliency summed over any layer is the sum of the outputs."""
    model = make().initialise(0)
    twin = synflow.positive(model)
    weights = nn.pack(model).weights[nn.pack(model).prunable]
    scores = synflow.flow(twin, weights, DATA)
    with tensor.no_grad():
        whole = twin(Tensor(np.ones((1, *DATA.input_shape)), device="reference")).numpy().sum()
    for layer in prune.prunable_layers(model):
        assert scores[layer.start : layer.stop].sum() == pytest.approx(whole, rel=1e-9)
    assert (scores >= 0).all()


def test_what_flows_into_a_unit_flows_out_of_it():
    model = Deep().initialise(0)
    v = nn.pack(model)
    scores = synflow.flow(synflow.positive(model), v.weights[v.prunable], DATA)
    layers = prune.prunable_layers(model)
    for before, after in itertools.pairwise(layers):
        into = scores[before.start : before.stop].reshape(before.shape).sum(axis=1)
        out_of = scores[after.start : after.stop].reshape(after.shape).sum(axis=0)
        np.testing.assert_allclose(into, out_of, rtol=1e-9)


@pytest.mark.parametrize("keep", [6, 30, 100, 1000])
def test_synflow_empties_no_layer_where_its_scores_taken_once_and_magnitude_do(keep):
    model = Deep().initialise(3)
    v = nn.pack(model)
    weights, alive = v.weights[v.prunable], np.ones(v.prunable.sum(), bool)

    def emptied(mask):
        return sum(not mask[layer.start : layer.stop].any() for layer in prune.prunable_layers(model))

    masks = [synflow.synflow(weights, alive, keep, model=model, data=DATA, steps=steps) for steps in (100, 1)]
    assert [mask.sum() for mask in masks] == [keep, keep]
    assert emptied(masks[0]) == 0
    assert keep > 30 or emptied(masks[1]) > 0
    assert keep > 6 or emptied(prune.global_magnitude(weights, alive, keep)) > 0


def test_synflow_sees_no_data_and_leaves_the_model_alone():
    model = Net().initialise(0)
    state = train.State.copy(model)
    other = dataset()
    other.train.images[...] = np.nan
    masks = [prune.new_mask(model, state, 0.2, functools.partial(synflow.synflow, model=model, data=d, steps=10))
             for d in (DATA, other)]
    assert (masks[0] == masks[1]).all()
    assert bits(train.State.copy(model)) == bits(state)


# ------------------------------------------------------------------------------------------------------------- channels


def trained_looking(model, seed, density):
    """The model with batch norms that shift, as after training, and filters pruned from it, whole and in part."""
    random = np.random.default_rng(seed)
    for module in (module for _, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)):
        module.weight.fill(random.uniform(0.5, 1.5, module.weight.shape))
        module.bias.fill(random.normal(0, 0.5, module.bias.shape))
        module.running_mean.fill(random.normal(0, 0.2, module.bias.shape))
        module.running_var.fill(random.uniform(0.5, 2, module.bias.shape))
    method = functools.partial(prune.l1_filters, layers=prune.prunable_layers(model))
    state = train.State.copy(model)
    state.masked(prune.new_mask(model, state, density, method), 0).restore(model)
    return model.eval()


NETWORKS = {"resnet8": lambda: models.resnet(8, 6, input_shape=(3, 12, 12)),
            "resnet20": lambda: models.resnet(20, 4, input_shape=(3, 8, 8)),
            "vgg": lambda: Narrow((3, 8, 8), 10, 0.1).initialise(0)}


def biases(model):
    for name, p in model.named_parameters():
        if name.startswith("features") and name.endswith("bias"):
            p.fill(np.random.default_rng(7).normal(0, 0.3, p.shape))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("density", [0.9, 0.5, 0.2])
def test_the_smaller_network_has_the_results_of_the_masked_one(network, density):
    model = NETWORKS[network]()
    biases(model)
    model = trained_looking(model, 0, density)
    before = train.State.copy(model)
    shape = (3, 8, 8) if network == "vgg" else model.origin["input_shape"]
    images = np.random.default_rng(1).standard_normal((5, *shape)).astype(np.float32)
    small = channels.shrink(model, images)
    with tensor.no_grad():
        expected, found = model(Tensor(images)).numpy(), small(Tensor(images)).numpy()
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
    assert bits(train.State.copy(model)) == bits(before)
    empty = sum(int((~(p.data != 0).any(axis=(1, 2, 3))).sum()) for name, p in model.named_parameters()
                if p.data.ndim == 4 and (network == "vgg" or ".conv1." in name))
    gone = sum(p.shape[0] for p in model.parameters()) - sum(
        p.shape[0] for name, p in small.named_parameters() if not name.endswith("shift"))
    assert (gone > 0) == (empty > 0)
    compiled = sparse.compile(small, images)
    assert np.linalg.norm(compiled(images) - expected) < 1e-5 * np.linalg.norm(expected)


def test_the_map_that_a_removed_channel_leaves_is_not_flat_at_the_border():
    model = models.resnet(8, 6, input_shape=(3, 12, 12)).eval()
    block = dict(model.named_modules())["layer1.0"]
    block.conv1.weight.data[2] = 0
    block.bn1.bias.fill(np.full(6, 0.7))
    small = channels.shrink(model, np.zeros((1, 3, 12, 12), np.float32))
    shift = small.state_dict()["layer1.0.conv2.shift"]                         # (1, 6, 12, 12)
    inside = 0.7 * block.conv2.weight.data[:, 2].sum(axis=(1, 2))
    np.testing.assert_allclose(shift[0, :, 1:-1, 1:-1], np.broadcast_to(inside[:, None, None], (6, 10, 10)), rtol=1e-5)
    corner = 0.7 * block.conv2.weight.data[:, 2, 1:, 1:].sum(axis=(1, 2))
    np.testing.assert_allclose(shift[0, :, 0, 0], corner, rtol=1e-5)


def test_a_network_whose_convolutions_lost_everything_keeps_one_channel_of_each():
    model = trained_looking(NETWORKS["resnet8"](), 0, 0.001)
    images = np.random.default_rng(1).standard_normal((2, 3, 12, 12)).astype(np.float32)
    small = channels.shrink(model, images)
    assert {block.shape[0] for name, block in small.named_parameters() if name.endswith("conv1.weight")} >= {1}
    with tensor.no_grad():
        np.testing.assert_allclose(small(Tensor(images)).numpy(), model(Tensor(images)).numpy(), rtol=1e-4, atol=1e-5)


def test_the_smaller_network_can_be_trained_on():
    model = trained_looking(models.resnet(8, 4, input_shape=(2, 6, 6), classes=3), 0, 0.5)
    small = channels.shrink(model, DATA.test.images)
    first, *_, last = train.train(small, DATA, train.Recipe(40, batch_size=8, rate=0.02), seed=0, report_every=1)
    assert last.loss < first.loss
    assert nn.pack(small).prunable.sum() < nn.pack(model).prunable.sum()


def test_own_networks_name_their_chains():
    class Own(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 4, 3, padding=1)
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            x = functional.relu(self.b(functional.max_pool2d(functional.relu(self.a(x)), 2)))
            return self.fc(functional.global_avg_pool2d(x))

    model = Own().initialise(0).eval()
    model.a.bias.fill(np.linspace(-1, 1, 6))
    model.b.bias.fill([0.5, -0.5, 1, 0])
    images = DATA.test.images
    for conv in (model.a, model.b):
        conv.weight.data[[1, 3]] = 0
    with pytest.raises(Error, match="knows the channels of ResNet and VGG16, not of Own"):
        channels.shrink(model, images)
    small = channels.shrink(model, images, [channels.Chain("a", None, "b"), channels.Chain("b", None, "fc")])
    assert [p.shape[0] for name, p in small.named_parameters() if name.startswith("a")] == [4, 4]
    with tensor.no_grad():
        np.testing.assert_allclose(small(Tensor(images)).numpy(), model(Tensor(images)).numpy(), rtol=1e-5, atol=1e-6)
