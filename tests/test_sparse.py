"""Facts about the pruned network as a fast program, as a small file, and for other programs."""

import functools
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minirewind import cli, export, functional, kernels, models, nn, prune, sparse, study, tensor, train
from minirewind.errors import Error
from minirewind.tensor import Function, Tensor
from minirewind.train import State

NETWORKS = [("resnet8-8", (1, 8, 8)), ("resnet20", (3, 32, 32)), ("lenet_300_100", (1, 28, 28))]


def rng(*key):
    return np.random.default_rng(key)


def network(name, shape, density=1.0):
    """A network as after some training, pruned to the density."""
    return worn(models.build(name, input_shape=shape, classes=10), shape, density)


def worn(model, shape, density=1.0):
    """The same, of any model: what is left of it tells images apart, and its statistics are those of images."""
    random = rng(1)
    nn.pack(model)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.fill(parameter.data + 0.2 * random.standard_normal(parameter.shape))
        else:
            fan_in = parameter.size / len(parameter)
            parameter.fill(np.sqrt(2 / fan_in) * random.standard_normal(parameter.shape))
    if density < 1:                     # layer by layer: a classifier that lost all would hide what is before it
        state = State.copy(model)
        method = functools.partial(prune.layerwise_magnitude, layers=prune.prunable_layers(model))
        state.masked(prune.new_mask(model, state, density, method), step=3).restore(model)
    norms = [module for _, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with tensor.no_grad():
        model.train()(Tensor(images(64, shape, seed=1)))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def images(count, shape, seed=0):
    return rng(seed, count).standard_normal((count, *shape)).astype(np.float32)


@pytest.mark.parametrize("density", [1, 0.3, 0.05])
@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_the_networks_of_these_tests_tell_images_apart(name, shape, density):
    scores = evaluated(network(name, shape, density), images(8, shape))
    assert scores.std(axis=0).mean() > 0.05 * abs(scores).mean()


def evaluated(model, x):
    with tensor.no_grad():
        model.eval()
        return model(Tensor(x)).numpy()


def assert_compiled_equals(model, shape, counts=(1, 7, 128)):
    program = sparse.compile(model, images(2, shape))
    for count in counts:
        x = images(count, shape)
        wanted = evaluated(model, x)
        result = program(x)
        assert result.shape == wanted.shape
        assert np.linalg.norm(result - wanted) < 1e-4 * np.linalg.norm(wanted)


class Net(nn.Module):
    """A user's module from a function of x."""

    def __init__(self, function, **layers):
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


# ------------------------------------------------------------------------------------------------------------- compile


@pytest.mark.parametrize("density", [1.0, 0.3, 0.02])
@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_the_program_computes_what_the_model_computes_for_any_number_of_images(name, shape, density):
    assert_compiled_equals(network(name, shape, density), shape)


def test_vgg_with_its_pools_between_the_convolutions(monkeypatch):
    widths = tuple(width if width == "M" else width // 16 for width in models.VGG16.widths)
    monkeypatch.setattr(models.VGG16, "widths", widths)
    assert_compiled_equals(network("vgg16", (3, 32, 32), 0.2), (3, 32, 32))


F = functional


def odd_networks():
    conv = nn.Conv2d
    yield "7 channels, 5x5, stride 3", (7, 11, 13), Net(
        lambda m, x: F.relu(m.b(m.a(x))).mean((2, 3)), a=conv(7, 5, 5, stride=3, padding=2), b=conv(5, 3, 3, padding=1))
    yield "no padding at all", (3, 9, 9), Net(
        lambda m, x: m.b(F.relu(m.a(x))).flatten(1), a=conv(3, 4, 3), b=conv(4, 2, 3))
    yield "maps that grow", (2, 5, 4), Net(
        lambda m, x: m.b(F.relu(m.a(x))), a=conv(2, 3, 2, padding=2), b=conv(3, 2, 1, padding=1))
    yield "strides and paddings by axis", (3, 12, 10), Net(
        lambda m, x: m.b(m.a(x)), a=conv(3, 4, (3, 5), stride=(2, 1), padding=(0, 2)),
        b=conv(4, 4, (2, 3), stride=(1, 2), padding=(1, 0)))
    yield "a batch norm before, and one read twice", (3, 8, 8), Net(
        lambda m, x: (lambda y: F.relu(y) + y)(m.n(m.a(m.p(x)))),
        p=nn.BatchNorm2d(3), a=conv(3, 6, 3, padding=1, bias=False), n=nn.BatchNorm2d(6))
    yield "the result of a convolution read twice", (3, 8, 8), Net(
        lambda m, x: (lambda y: m.n(y) + y)(m.a(x)), a=conv(3, 6, 3, padding=1), n=nn.BatchNorm2d(6))
    yield "two convolutions added", (3, 8, 8), Net(
        lambda m, x: F.relu(m.n(m.a(x)) + m.b(x)), a=conv(3, 6, 3, padding=1), b=conv(3, 6, 1), n=nn.BatchNorm2d(6))
    yield "a convolution added to itself", (3, 8, 8), Net(
        lambda m, x: (lambda y: F.relu(y + y))(m.a(x)), a=conv(3, 6, 3, padding=1))
    yield "the images added to what became of them", (3, 8, 8), Net(
        lambda m, x: m.b(F.relu(m.a(x) + x)) + x, a=conv(3, 3, 3, padding=1), b=conv(3, 3, 3, padding=1))
    yield "a long chain", (4, 6, 6), Net(
        lambda m, x: m.d(F.relu(m.c(F.relu(m.b(F.relu(m.a(x)))))) + x),
        a=conv(4, 4, 3, padding=1), b=conv(4, 4, 3, padding=1), c=conv(4, 4, 3, padding=1), d=conv(4, 4, 3, padding=1))
    yield "concatenation", (3, 8, 8), Net(
        lambda m, x: F.concatenate([m.a(x), x], dim=1).amax((2, 3)), a=conv(3, 2, 3, padding=1))
    yield "no convolutions", (12,), Net(
        lambda m, x: F.log_softmax(m.b(F.tanh(m.n(m.a(x))))), a=nn.Linear(12, 9), n=nn.BatchNorm2d(9),
        b=nn.Linear(9, 4))
    yield "padding same with an even filter", (3, 7, 7), Net(
        lambda m, x: F.avg_pool2d(F.max_pool2d(m.a(x), 3, 2, 1), 2), a=conv(3, 4, 2, padding="same"))
    yield "arithmetic with numbers and slices", (3, 8, 8), Net(
        lambda m, x: (m.a((x * 2 - 1)[:, :, 1:]) / 3).exp().sum((2, 3)), a=conv(3, 2, 3))
    yield "filters made of parameters", (3, 8, 8), Net(
        lambda m, x: F.conv2d(x, m.a.weight - m.a.weight.mean(), m.a.bias, 2, 1), a=conv(3, 2, 3))


@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize(("shape", "model"), [pytest.param(*rest, id=what) for what, *rest in odd_networks()])
def test_a_users_own_network(shape, model, density):
    assert_compiled_equals(worn(model, shape, density), shape, (1, 3, 7))


def test_a_network_whose_weights_are_all_pruned():
    model = network("resnet8-8", (1, 8, 8))
    nn.pack(model).set_mask(~model.vectors.prunable)
    assert_compiled_equals(model, (1, 8, 8))


@pytest.mark.parametrize("block", [1, 2, 8, 16])
def test_the_chain_of_convolutions_is_the_references(block):
    graph = sparse.trace(network("resnet8-8", (2, 9, 9), 0.3), images(1, (2, 9, 9)))
    chain = [part for part in sparse.fold(graph) if isinstance(part, sparse.Filter)]
    assert len(chain) == 10                                     # batch norms, additions and ReLUs are in them
    sizes = dict(enumerate(graph.shapes))
    x, results = images(1 if block == 1 else 11, (2, 9, 9)), []
    for device in ("reference", "cpu"):
        segment = sparse.Segment(chain, sizes, {f.output for f in chain}, block)
        results.append(segment(kernels.backend(device), x))
    for exact, fast in zip(*results, strict=True):
        assert np.linalg.norm(fast - exact) < 1e-5 * np.linalg.norm(exact)


def test_float64_and_the_reference_device():
    shape = (1, 8, 8)
    for model in (network("resnet8-8", shape, 0.3).to(dtype=np.float64),
                  network("resnet8-8", shape, 0.3).to("reference")):
        program = sparse.compile(model, images(2, shape))
        x = images(3, shape).astype(model.fc.weight.dtype)
        with tensor.no_grad():
            wanted = model.eval()(Tensor(x, device=model.fc.weight.device)).numpy()
        assert program(x).dtype == x.dtype
        assert np.allclose(program(x), wanted, rtol=1e-5, atol=1e-6)


def test_the_program_keeps_the_weights_of_its_moment():
    model = network("resnet8-8", (1, 8, 8))
    program, x = sparse.compile(model, images(1, (1, 8, 8))), images(5, (1, 8, 8))
    before = program(x)
    model.vectors.weights[...] = 7
    model.vectors.statistics[...] = 7
    assert (program(x) == before).all()


def test_compiling_leaves_every_modules_mode_as_it_was():
    model = network("resnet8-8", (1, 8, 8)).train()
    model.layer2.eval()
    before = {name: module.training for name, module in model.named_modules()}
    sparse.compile(model, images(1, (1, 8, 8)))
    assert {name: module.training for name, module in model.named_modules()} == before


def test_a_program_may_be_called_from_several_threads_at_once():
    program = sparse.compile(network("resnet8-8", (1, 8, 8), 0.1), images(2, (1, 8, 8)))
    batches = [images(1, (1, 8, 8), seed) for seed in range(4)]
    alone = [program(x) for x in batches]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(program, 100 * batches))
    finally:
        sys.setswitchinterval(before)
    assert all(np.array_equal(z, wanted) for z, wanted in zip(together, 100 * alone, strict=True))


def test_the_same_bits_for_any_number_of_threads():
    model = network("resnet8-8", (1, 8, 8), 0.2)
    program = sparse.compile(model, images(1, (1, 8, 8)))
    results = []
    for threads in (1, 2):
        kernels.set_threads(threads)
        results.append([program(images(count, (1, 8, 8))) for count in (1, 70)])
    for one, two in zip(*results):
        assert (one == two).all()


def test_no_images_give_no_results():
    program = sparse.compile(network("resnet8-8", (1, 8, 8)), images(1, (1, 8, 8)))
    assert program(images(0, (1, 8, 8))).shape == (0, 10)


class Swish(Function):
    """x * sigmoid(x)"""

    def forward(self, x):
        return x / (1 + np.exp(-x))


@pytest.mark.parametrize(("function", "said"), [
    (lambda m, x: Swish.apply(x), "Swish is not known"),
    (lambda m, x: F.dropout(x, 0.5, training=True, key=1), "Dropout is not known"),
    (lambda m, x: x.sum(), "Sum makes shape"),
    (lambda m, x: x.flatten(0, 1), "Reshape makes shape"),
    (lambda m, x: x.permute(1, 0, 2, 3), "Permute makes shape"),
    (lambda m, x: x * float(len(x)), "depends on the images"),
    (lambda m, x: x + Tensor(x.data * 2), "depends on the images"),
    (lambda m, x: Tensor(x.data * 2), "does not depend on the images"),
    (lambda m, x: x[:, np.array([0, 0])], "GetItem"),
    (lambda m, x: x[::-1], "GetItem mixes or selects images"),
    (lambda m, x: F.log_softmax(x, 0), "mixes or selects images"),
    (lambda m, x: x if len(x) == 2 else x.exp(), "other operations"),
    (lambda m, x: F.batch_norm(x, None, None, training=True), "training=True"),
    (lambda m, x: (x, x), "returned a tuple"),
])
def test_what_cannot_be_compiled_is_refused_by_name(function, said):
    with pytest.raises(Error, match=said):
        sparse.compile(Net(function), images(2, (3, 4, 4)))


def test_images_of_another_shape_are_refused():
    program = sparse.compile(network("resnet8-8", (1, 8, 8)), images(1, (1, 8, 8)))
    with pytest.raises(Error, match=r"\(N, 1, 8, 8\)"):
        program(images(1, (1, 9, 8)))
    with pytest.raises(Error, match="example"):
        sparse.compile(network("resnet8-8", (1, 8, 8)), images(0, (1, 8, 8)))


# ---------------------------------------------------------------------------------------------------------------- file


@pytest.mark.parametrize("density", [1.0, 0.1])
@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_a_file_gives_the_network_back_to_the_bit(name, shape, density, tmp_path):
    model = network(name, shape, density)
    size = sparse.save(tmp_path / "network.npz", model)
    twin = sparse.load(tmp_path / "network.npz")
    assert size == (tmp_path / "network.npz").stat().st_size
    assert twin.vectors.layers == model.vectors.layers
    for vector in ("weights", "mask", "statistics"):
        assert getattr(twin.vectors, vector).tobytes() == getattr(model.vectors, vector).tobytes()
    assert twin.vectors.step == model.vectors.step
    assert not twin.training


def test_a_pruned_network_is_a_small_file(tmp_path):
    model = network("resnet20", (3, 32, 32), 0.1)
    dense = sum(values.nbytes for values in model.state_dict().values())
    assert sparse.save(tmp_path / "pruned.npz", model) < 0.16 * dense


def test_a_users_own_network_is_found_by_its_import_path(tmp_path, monkeypatch):
    (tmp_path / "users_networks.py").write_text(
        "from minirewind import nn\n\n"
        "def network(input_shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(4, classes))\n\n"
        "class Network(nn.Sequential):\n"
        "    def __init__(self):\n        super().__init__(nn.Flatten(), nn.Linear(4, 2))\n\n"
        "def anything():\n    raise SystemExit('called')\n")
    monkeypatch.syspath_prepend(tmp_path)
    import users_networks

    by_name = models.build("users_networks:network", input_shape=(1, 2, 2), classes=3)
    sparse.save(tmp_path / "a.npz", by_name)
    assert sparse.load(tmp_path / "a.npz").state_dict().keys() == by_name.state_dict().keys()
    sparse.save(tmp_path / "b.npz", users_networks.Network(), network=users_networks.Network)
    assert isinstance(sparse.load(tmp_path / "b.npz"), users_networks.Network)
    with pytest.raises(Error, match="is not known"):
        sparse.save(tmp_path / "c.npz", users_networks.Network())
    with pytest.raises(Error, match="another network"):
        sparse.save(tmp_path / "c.npz", by_name, network="lenet_300_100")
    with pytest.raises(Error, match="only such are called"):
        sparse.save(tmp_path / "c.npz", by_name, network="users_networks:anything")
    assert not (tmp_path / "c.npz").exists()


def test_a_damaged_or_foreign_file_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "network.npz"
    with pytest.raises(Error, match="does not exist"):
        sparse.load(path)
    sparse.save(path, network("resnet8-8", (1, 8, 8), 0.5))
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-1], np.zeros(3).tobytes()):
        path.write_bytes(content)
        with pytest.raises(Error, match=r"network\.npz"):
            sparse.load(path)
    random = rng(5)
    for _ in range(40):                     # a flipped bit is found, or it stood where it says nothing
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            sparse.load(path)
        except Error as error:
            assert "network.npz" in str(error)      # noqa: PT017
    np.savez(path, weights=np.zeros(3))
    with pytest.raises(Error, match="no file of sparse"):
        sparse.load(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(Error, match=r"array\.npy"):
        sparse.load(tmp_path / "array.npy")
    np.savez(path, format=np.array(sparse.FORMAT), network=np.array(["a", None], dtype=object))
    with pytest.raises(Error, match=r"network\.npz"):
        sparse.load(path)
    with pytest.raises(Error, match="cannot write"):
        sparse.save(tmp_path / "nowhere" / "network.npz", network("resnet8-8", (1, 8, 8)))


# -------------------------------------------------------------------------------------------------------------- export


def by_onnxruntime(model, shape, counts=(1, 7)):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    run = export.run_onnx(export.onnx(model, images(2, shape)))
    for count in counts:
        x = images(count, shape)
        assert export.difference(run(x), evaluated(model, x)) < 1e-4


@pytest.mark.parametrize(("name", "shape"), NETWORKS)
def test_onnx_computes_the_same_for_any_number_of_images(name, shape):
    by_onnxruntime(network(name, shape, 0.3), shape)


@pytest.mark.parametrize(("shape", "model"), [pytest.param(*rest, id=what) for what, *rest in odd_networks()])
def test_onnx_of_a_users_own_network(shape, model):
    by_onnxruntime(worn(model, shape), shape)


@pytest.mark.parametrize("function", [
    lambda m, x: x[:, 1, ::2, None, -1], lambda m, x: x[..., 1:3], lambda m, x: x[:, ..., ::-1], lambda m, x: x[:, -1],
    lambda m, x: F.pad(x, (1, 2, 0, -1), value=3.0), lambda m, x: F.softplus(x, beta=2) + F.sigmoid(x) ** 2,
    lambda m, x: F.avg_pool2d(x, 3, 2, 1), lambda m, x: F.linear(x, np.ones((2, 4), np.float32)),
    lambda m, x: x.permute(0, 2, 3, 1).reshape(len(x), -1), lambda m, x: -(x * x).amax(2, keepdim=True).sqrt(),
    lambda m, x: (x @ np.ones((4, 3), np.float32)).sum((1, 3)).exp().log(),
    lambda m, x: F.batch_norm_add_relu(x, x, np.ones(3, np.float32), np.ones(3, np.float32), None, None),
])
def test_onnx_of_every_other_operation(function):
    by_onnxruntime(Net(function), (3, 4, 4))
    assert_compiled_equals(Net(function), (3, 4, 4), (1, 7))


def test_safetensors_hold_pytorchs_state_dict():
    numpy = pytest.importorskip("safetensors.numpy")
    model = network("resnet8-8", (1, 8, 8), 0.3)
    back = numpy.load(export.safetensors(model))
    assert back.keys() == model.state_dict().keys()
    for name, values in model.state_dict().items():
        assert back[name].tobytes() == values.tobytes(), name


@pytest.mark.parametrize(("to", "module"), [("onnx", "onnx"), ("safetensors", "safetensors")])
def test_a_missing_extra_is_one_clear_sentence(to, module, pruned_run, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert command("export", pruned_run, "--to", to) == 2
    assert "minirewind[export]" in capsys.readouterr().err


def command(*arguments):
    """The exit code of a command."""
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def pruned_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert command("prune", "--density", 0.3, "--recipe.steps", 10, "--out", folder) == 0
    return folder


@pytest.mark.parametrize("to", ["sparse", "onnx", "safetensors"])
def test_export_prints_bytes_and_milliseconds_beside_the_dense_networks(to, pruned_run, tmp_path, capsys):
    if to != "sparse":
        pytest.importorskip(to)
    assert command("export", pruned_run, "--to", to, "--out", tmp_path / "network") == 0
    out = capsys.readouterr().out
    assert f"{(tmp_path / 'network').stat().st_size:,} bytes" in out
    assert "30.00%" in out
    assert "dense" in out
    assert "ms for one image" in out


def test_an_exported_run_is_the_run(pruned_run, capsys):
    assert command("export", pruned_run) == 0
    model, twin = export.read_run(pruned_run), sparse.load(pruned_run / "network.npz")
    for vector in ("weights", "mask", "statistics"):
        assert getattr(twin.vectors, vector).tobytes() == getattr(model.vectors, vector).tobytes()
    assert twin.vectors.step == model.vectors.step


def test_a_run_of_a_comparison_can_be_exported(tmp_path, capsys):
    recipe = train.Recipe(10, 16)
    study.run(study.Study("resnet8-4", "digits", recipe, protocols=("one_shot",), techniques=("lr_rewinding",),
                          rounds=(3,), seeds=1), tmp_path, progress=False)
    folder = next(tmp_path.glob("runs/*lr_rewinding*"))
    assert command("export", folder, "--out", tmp_path / "network.npz") == 0
    assert prune.density(sparse.load(tmp_path / "network.npz").vectors.mask,
                         export.read_run(folder).vectors.prunable) == pytest.approx(0.512, abs=1e-3)
    whole = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({name: whole[name] for name in ("network", "input_shape")}))
    assert command("export", folder) == 2
    assert "study.json does not say 'classes' of the network" in capsys.readouterr().err
    (tmp_path / "study.json").unlink()
    assert command("export", folder) == 2
    assert "study.json" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "said"), [
    ("nowhere", "no run.json"), ("RUN --to onx", "onnx"), ("RUN --out nowhere/network.npz", "cannot write"),
    ("", "run"),
])
def test_a_mistake_in_export_is_one_short_message(options, said, pruned_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("export", *options.replace("RUN", str(pruned_run)).split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("minirewind: ")
    assert said in captured.err
    assert len(captured.err.splitlines()) <= 3
    assert not captured.out
