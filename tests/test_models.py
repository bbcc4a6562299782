"""Facts about the networks: their sizes, and that they are PyTorch's by name, shape, value and gradient."""

import numpy as np
import pytest

from minirewind import functional, models, nn
from minirewind.errors import Error
from minirewind.tensor import Tensor


def images(count=6, shape=(3, 8, 8), seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape))


# -------------------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(("depth", "prunable"), [(20, 271_152), (56, 851_760), (110, 1_722_672)])
def test_the_papers_networks_have_the_papers_number_of_prunable_weights(depth, prunable):
    model = models.build(f"resnet{depth}", input_shape=(3, 32, 32), classes=10)
    assert nn.pack(model).prunable.sum() == prunable
    assert {p.ndim for p in model.parameters() if p.prunable} == {2, 4}         # convolutions and the dense layer
    assert {p.ndim for p in model.parameters() if not p.prunable} == {1}        # batch norm and biases
    convolutions = [p for p in model.parameters() if p.ndim == 4]
    assert len(convolutions) == depth - 1 + 3                                   # the projections are not counted


def test_lenet_has_the_lottery_tickets_266200_weights():
    assert nn.pack(models.lenet_300_100()).prunable.sum() == 784 * 300 + 300 * 100 + 100 * 10


def test_vgg16_has_14_7_million_weights():
    assert nn.pack(models.vgg16()).prunable.sum() == 14_710_464 + 5_120


def test_the_last_layer_begins_with_standard_deviation_a_hundredth():
    for last in (models.resnet(8, 64, classes=200).fc, models.lenet_300_100(classes=200).fc3):
        assert last.weight.numpy().std() == pytest.approx(0.01, rel=0.03)
        assert (last.bias.numpy() == 0).all()


def test_a_network_is_born_as_seed_0():
    model = models.resnet(8, 4)
    before = model.state_dict()
    model.initialise(0)
    assert all((values == before[name]).all() for name, values in model.state_dict().items())


# ------------------------------------------------------------------------------------------------------ beside PyTorch


def torch_or_skip():
    return pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")


@pytest.fixture
def narrow_vgg(monkeypatch):
    """VGG-16 with a sixteenth of the channels: the same network, in a hundredth of the time."""
    narrow = tuple(width if width == "M" else width // 16 for width in models.VGG16.widths)
    monkeypatch.setattr(models.VGG16, "widths", narrow)


def torch_resnet(depth, width, channels, classes):
    """The same network in PyTorch, with torchvision's names."""
    torch = torch_or_skip()
    relu = torch.nn.functional.relu

    class BasicBlock(torch.nn.Module):
        def __init__(self, C, K, stride, first):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(C, K, 3, stride, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(K)
            self.conv2 = torch.nn.Conv2d(K, K, 3, 1, 1, bias=False)
            self.bn2 = torch.nn.BatchNorm2d(K)
            self.downsample = None
            if first:
                self.downsample = torch.nn.Sequential(torch.nn.Conv2d(C, K, 1, stride, bias=False),
                                                      torch.nn.BatchNorm2d(K))

        def forward(self, x):
            identity = x if self.downsample is None else self.downsample(x)
            x = relu(self.bn1(self.conv1(x)))
            return relu(self.bn2(self.conv2(x)) + identity)

    class ResNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(channels, width, 3, 1, 1, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(width)
            C = width
            for i, K in enumerate((width, 2 * width, 4 * width)):
                blocks = [BasicBlock(C, K, 2 if i else 1, True)]
                blocks += [BasicBlock(K, K, 1, False) for _ in range((depth - 2) // 6 - 1)]
                setattr(self, f"layer{i + 1}", torch.nn.Sequential(*blocks))
                C = K
            self.fc = torch.nn.Linear(C, classes)

        def forward(self, x):
            x = relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.fc(x.mean((2, 3)))

    return ResNet()


def torch_vgg16(size, channels, classes, unit=64):
    """VGG-16 with batch norm in PyTorch; like ours without the halvings for which the maps are too small."""
    torch = torch_or_skip()
    layers, C = [], channels
    for block in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for K in (width * unit // 64 for width in block):
            layers += [torch.nn.Conv2d(C, K, 3, padding=1), torch.nn.BatchNorm2d(K), torch.nn.ReLU()]
            C = K
        if size > 1:
            layers.append(torch.nn.MaxPool2d(2))
            size //= 2

    class VGG(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Sequential(*layers)
            self.classifier = torch.nn.Linear(C, classes)

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    return VGG()


def torch_lenet(shape, classes):
    torch = torch_or_skip()

    class LeNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = torch.nn.Linear(int(np.prod(shape)), 300)
            self.fc2 = torch.nn.Linear(300, 100)
            self.fc3 = torch.nn.Linear(100, classes)

        def forward(self, x):
            x = torch.relu(self.fc1(x.flatten(1)))
            return self.fc3(torch.relu(self.fc2(x)))

    return LeNet()


PAIRS = {
    "resnet8-4": ((3, 8, 8), lambda: (models.resnet(8, 4, input_shape=(3, 8, 8)), torch_resnet(8, 4, 3, 10))),
    "resnet14-3": ((1, 7, 9), lambda: (models.resnet(14, 3, input_shape=(1, 7, 9), classes=4),
                                      torch_resnet(14, 3, 1, 4))),
    "vgg16": ((3, 8, 8), lambda: (models.vgg16(input_shape=(3, 8, 8), classes=5), torch_vgg16(8, 3, 5, unit=4))),
    "lenet": ((2, 5, 5), lambda: (models.lenet_300_100(input_shape=(2, 5, 5)), torch_lenet((2, 5, 5), 10))),
}
FULL_SIZE = {
    "resnet20": lambda: (models.resnet(20), torch_resnet(20, 16, 3, 10)),
    "vgg16": lambda: (models.vgg16(), torch_vgg16(32, 3, 10)),
    "lenet_300_100": lambda: (models.lenet_300_100(), torch_lenet((1, 28, 28), 10)),
}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_the_state_dict_has_pytorchs_names_order_shapes_and_dtypes(name):
    mine, theirs = FULL_SIZE[name]()
    assert [(k, v.shape, str(v.dtype)) for k, v in mine.state_dict().items()] == [
        (k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in theirs.state_dict().items()]


def pair(name, dtype):
    """Our network and PyTorch's with the same values in them, none of them special, and images for both."""
    mine, theirs = PAIRS[name][1]()
    theirs = theirs.double() if dtype == np.float64 else theirs.float()
    mine.to(dtype=dtype)
    random = np.random.default_rng(1)
    for key, values in theirs.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            noise = 0.1 * random.standard_normal(tuple(values.shape))
            values += torch_or_skip().tensor(abs(noise) if key.endswith("running_var") else noise)
    mine.load_state_dict({key: values.numpy() for key, values in theirs.state_dict().items()})
    return mine, theirs, images(6, PAIRS[name][0]).astype(dtype)


def gradients(mine, theirs, x):
    """Scores and all gradients of the cross-entropy, ours and PyTorch's, each gradient by name."""
    torch = torch_or_skip()
    labels = np.arange(len(x)) % 4
    scores, expected = mine(Tensor(x)), theirs(torch.tensor(x))
    functional.cross_entropy(scores, Tensor(labels)).backward()
    torch.nn.functional.cross_entropy(expected, torch.tensor(labels)).backward()
    grads = {name: (p.grad, q.grad.numpy()) for (name, p), q in zip(mine.named_parameters(), theirs.parameters())}
    return scores.numpy(), expected.detach().numpy(), grads


@pytest.mark.usefixtures("narrow_vgg")
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_outputs_statistics_and_gradients_are_pytorchs_in_float64(name, mode):
    mine, theirs, x = pair(name, np.float64)
    mine.train(mode == "train"), theirs.train(mode == "train")
    scores, expected, grads = gradients(mine, theirs, x)
    assert np.linalg.norm(scores - expected) < 1e-9 * np.linalg.norm(expected)
    scale = np.sqrt(sum(np.linalg.norm(b) ** 2 for _, b in grads.values()))
    for key, (a, b) in grads.items():           # a bias before batch norm has gradient 0: that is compared to the scale
        assert np.linalg.norm(a - b) < 1e-9 * max(np.linalg.norm(b), 1e-3 * scale), key
    theirs_after = theirs.state_dict()
    for key, values in mine.state_dict().items():
        if "running" in key:
            np.testing.assert_allclose(values, theirs_after[key].numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet8-4", "resnet14-3", "lenet"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradients_point_where_pytorchs_point_in_float32(name, mode):
    mine, theirs, x = pair(name, np.float32)
    mine.train(mode == "train"), theirs.train(mode == "train")
    scores, expected, grads = gradients(mine, theirs, x)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
    a, b = (np.concatenate([pair[i].ravel() for pair in grads.values()]).astype(np.float64) for i in (0, 1))
    assert a @ b > 0.9999 * np.linalg.norm(a) * np.linalg.norm(b)
    assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(b), rel=1e-3)


@pytest.mark.usefixtures("narrow_vgg")
@pytest.mark.parametrize("name", PAIRS)
def test_our_state_dict_loads_into_pytorch(name):
    torch = torch_or_skip()
    mine, theirs = PAIRS[name][1]()
    theirs.load_state_dict({key: torch.tensor(values) for key, values in mine.state_dict().items()})     # strict
    x = images(3, PAIRS[name][0]).astype(np.float32)
    expected = theirs.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(mine.eval()(Tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-6)


# -------------------------------------------------------------------------------------------------------- by its name


@pytest.mark.usefixtures("narrow_vgg")
@pytest.mark.parametrize("name", ["resnet8", "resnet8-4", "vgg16", "lenet_300_100"])
def test_every_network_fits_small_grey_images(name):
    model = models.build(name, input_shape=(1, 6, 6), classes=7)
    assert model.eval()(Tensor(images(2, (1, 6, 6)).astype(np.float32))).shape == (2, 7)


@pytest.mark.usefixtures("narrow_vgg")
def test_the_name_gives_depth_and_width_and_bn_momentum_is_passed_on():
    model = models.build("resnet14-5", input_shape=(2, 8, 8), classes=3, bn_momentum=0.003)
    assert model.conv1.weight.shape == (5, 2, 3, 3)
    assert len(model.layer3) == 2
    assert {m.momentum for _, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)} == {0.003}
    vgg = models.build("vgg16", input_shape=(3, 8, 8), classes=3, bn_momentum=0.2)
    assert {m.momentum for _, m in vgg.named_modules() if isinstance(m, nn.BatchNorm2d)} == {0.2}


FACTORIES = """
from minirewind import nn

class Net(nn.Module):
    def __init__(self, classes):
        self.fc = nn.Linear(2, classes)

def some(classes): return Net(classes)
def every(**settings): return Net(settings["classes"] + settings["input_shape"][0])
def none(): return Net(2)
def wrong(): return "a network"
number = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "their_networks.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(("factory", "outputs"), [("some", 4), ("every", 7), ("none", 2)])
def test_a_users_factory_gets_the_keywords_it_names(factory, outputs):
    model = models.build(f"their_networks:{factory}", input_shape=(3, 6, 6), classes=4)
    assert model.fc.weight.shape == (outputs, 2)
    assert (model.fc.weight.numpy() == type(model)(outputs).initialise(0).fc.weight.numpy()).all()


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(("name", "message"), [
    ("resnet21", "depth 21 is not 6 n \\+ 2; the nearest are 20 and 26"), ("resnet2", "nearest are 8 and 14"),
    ("resnet8-0", "at least one channel"), ("resnt20", "did you mean 'resnet20'"), ("vgg-16", "did you mean 'vgg16'"),
    ("their_networks:sum", "no attribute 'sum'"), ("their_network:some", "No module named"), (":some", "Empty module"),
    ("their_networks:wrong", "returned a str, expected a minirewind nn.Module"),
    ("their_networks:number", "is a int, expected a function"),
])
def test_a_bad_name_is_told_with_what_would_do(name, message):
    with pytest.raises(Error, match=message):
        models.build(name, input_shape=(3, 8, 8), classes=4)


@pytest.mark.parametrize("name", ["resnet8", "vgg16", "lenet_300_100"])
@pytest.mark.parametrize(("settings", "message"), [
    ({"input_shape": (28, 28), "classes": 10}, r"\(28, 28\), expected \(C, H, W\)"),
    ({"input_shape": (3, 0, 8), "classes": 10}, r"expected \(C, H, W\)"),
    ({"input_shape": (3, 8, 8), "classes": 0}, "for 0 classes"),
])
def test_a_bad_shape_or_number_of_classes_is_refused(name, settings, message):
    with pytest.raises(Error, match=message):
        models.build(name, **settings)


def test_images_of_other_channels_are_refused_with_both_numbers():
    with pytest.raises(Error, match=r"x has 1 channels .* but the filters want 3"):
        models.resnet(8, 4)(Tensor(np.zeros((2, 1, 8, 8), np.float32)))
