"""Facts about the operations of a network: against their slow definitions, and their gradients."""

import inspect
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from minirewind import functional as F
from minirewind.errors import Error
from minirewind.kernels import hashing
from minirewind.tensor import Tensor, gradcheck

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
few = settings(max_examples=25, deadline=None)


def normal(*shape, seed=0, requires_grad=True, dtype=np.float64):
    """Random numbers."""
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad)


def spread(*shape, seed=0):
    """Random numbers that differ from one another and from 0 by at least 0.1: no step of a check crosses a corner."""
    size = int(np.prod(shape))
    values = (np.random.default_rng(seed).permutation(size) - size // 2 + 0.5) * 0.1
    return Tensor(values.reshape(shape), True)


def gradients(function, *inputs):
    """The output and the gradients of a function, for a random gradient of its output."""
    leaves = [Tensor(x.data, x.requires_grad) for x in inputs]
    z = function(*leaves)
    z.backward(np.random.default_rng(7).standard_normal(z.shape))
    return [z.numpy(), *(x.grad for x in leaves if x.requires_grad)]


def assert_twins(fused, steps, *inputs, rtol=1e-9):
    """Two functions agree, outputs and gradients."""
    for a, b in zip(gradients(fused, *inputs), gradients(steps, *inputs)):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


# --- Activations -----------------------------------------------------------------------------------------------------

@few
@given(SHAPES, st.integers(0, 9))
def test_activations_have_the_right_gradients_in_every_shape(shape, seed):
    for function in (F.relu, F.sigmoid, F.tanh, F.softplus, lambda x: F.softplus(x, beta=3, threshold=0.2)):
        gradcheck(function, spread(*shape, seed=seed))


def test_activations_are_their_formulas():
    x = normal(20).data
    np.testing.assert_array_equal(F.relu(x).numpy(), np.where(x > 0, x, 0))
    np.testing.assert_allclose(F.sigmoid(x).numpy(), 1 / (1 + np.exp(-x)), rtol=1e-14)
    np.testing.assert_allclose(F.tanh(x).numpy(), (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)), rtol=1e-12)
    np.testing.assert_allclose(F.softplus(x, beta=2).numpy(), np.log(1 + np.exp(2 * x)) / 2, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_passes_relu(dtype):
    z = F.relu(Tensor(np.array([np.nan, -1, 1, np.inf, -np.inf], dtype))).numpy()
    np.testing.assert_array_equal(z, np.array([np.nan, 0, 1, np.inf, 0], dtype))


def test_the_gradient_of_relu_at_0_is_0():
    x = Tensor([0.0, -0.0, 1e-30], True)
    F.relu(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 1])


@np.errstate(over="raise", invalid="raise", divide="raise")
def test_huge_numbers_overflow_in_no_activation():
    x = Tensor([-1e4, 1e4], True)
    np.testing.assert_array_equal(F.sigmoid(x).numpy(), [0, 1])
    np.testing.assert_array_equal(F.tanh(x).numpy(), [-1, 1])
    np.testing.assert_array_equal(F.softplus(x).numpy(), [0, 1e4])
    (F.sigmoid(x) + F.tanh(x) + F.softplus(x)).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 1])


def test_softplus_is_x_itself_above_the_threshold():
    x = Tensor([0.9, 1.1], True)
    z = F.softplus(x, beta=2, threshold=2)
    z.sum().backward()
    assert z.numpy()[0] > np.float32(0.9)
    assert z.numpy()[1] == np.float32(1.1)
    assert x.grad[1] == 1


# --- Dropout ---------------------------------------------------------------------------------------------------------

def test_dropout_is_a_function_of_its_key():
    x = Tensor(np.ones((20, 30)))
    np.testing.assert_array_equal(F.dropout(x, key=3).numpy(), F.dropout(x, key=3).numpy())
    assert (F.dropout(x, key=3).numpy() != F.dropout(x, key=4).numpy()).mean() == pytest.approx(0.5, abs=0.1)
    assert F.dropout(x, key=-1).shape == x.shape


def test_dropout_keeps_an_element_by_the_hash_of_key_and_position():
    uniform = [int(hashing.hash_words(3, i)) / 2**64 for i in range(60)]
    np.testing.assert_array_equal(F.dropout(np.ones((3, 20)), 0.4, key=3).numpy().ravel() > 0, np.array(uniform) >= 0.4)


def test_dropout_does_not_depend_on_the_order_in_memory():
    x = np.random.default_rng(0).standard_normal((4, 5, 6))
    other = np.asfortranarray(x)
    np.testing.assert_array_equal(F.dropout(x, key=1).numpy(), F.dropout(other, key=1).numpy())


def test_a_higher_rate_drops_the_same_elements_and_more():
    x = Tensor(np.ones(1000))
    few_dropped, many_dropped = (F.dropout(x, p, key=5).numpy() == 0 for p in (0.2, 0.6))
    assert (few_dropped <= many_dropped).all()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_at_its_rate_and_scales_the_rest(p):
    n = 100_000
    z = F.dropout(np.ones(n), p, key=1).numpy()
    assert (z == 0).mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n))
    np.testing.assert_allclose(z[z != 0], 1 / (1 - p))


def test_dropout_hands_the_gradient_to_what_it_kept():
    x = normal(50)
    z = F.dropout(x, 0.3, key=2)
    z.sum().backward()
    np.testing.assert_allclose(x.grad, np.where(z.data == 0, 0, 1 / 0.7))
    gradcheck(lambda x: F.dropout(x, 0.3, key=2), x)


def test_dropout_with_p_0_or_in_evaluation_is_x_itself_and_with_p_1_it_is_0():
    x = normal(5)
    assert F.dropout(x, 0, key=1) is x
    assert F.dropout(x, 0.5, training=False, key=1) is x
    z = F.dropout(x, 1, key=1)
    z.sum().backward()
    np.testing.assert_array_equal(z.numpy(), np.zeros(5))
    np.testing.assert_array_equal(x.grad, np.zeros(5))


def test_dropout_wants_a_probability_and_a_key():
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(Error, match="dropout: p is a probability"):
            F.dropout([1.0], p, key=1)
    with pytest.raises(TypeError, match="key"):
        F.dropout([1.0])


# --- Linear ----------------------------------------------------------------------------------------------------------

@few
@given(arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3), st.integers(0, 3), st.booleans())
def test_linear_is_a_product_and_a_sum_in_every_shape(shape, out, with_bias):
    x, weight, bias = normal(*shape), normal(out, shape[-1], seed=1), normal(out, seed=2)
    inputs = (x, weight, bias) if with_bias else (x, weight)
    expected = x.data @ weight.data.T + (bias.data if with_bias else 0)
    np.testing.assert_allclose(F.linear(*inputs).numpy(), expected, rtol=1e-12, atol=1e-12)
    gradcheck(F.linear, *inputs)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_a_frozen_part_of_a_layer_gets_no_gradient_and_the_others_theirs(frozen):
    for function, shapes in ((F.linear, [(4, 3), (2, 3), (2,)]), (F.conv2d, [(2, 3, 4, 4), (2, 3, 3, 3), (2,)])):
        inputs = [normal(*shape, seed=i, requires_grad=i != frozen) for i, shape in enumerate(shapes)]
        gradcheck(function, *inputs)
        function(*inputs).sum().backward()
        assert [x.grad is None for x in inputs] == [i == frozen for i in range(3)]


# --- Convolution and pooling -----------------------------------------------------------------------------------------

def slow_conv2d(x, weight, bias, stride, padding):
    """The definition, as loops over every place of every filter."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    (N, _, H, W), (K, _, R, S) = x.shape, weight.shape
    z = np.empty((N, K, (H - R) // stride[0] + 1, (W - S) // stride[1] + 1))
    for n, k, p, q in np.ndindex(z.shape):
        patch = x[n, :, p * stride[0] : p * stride[0] + R, q * stride[1] : q * stride[1] + S]
        z[n, k, p, q] = (patch * weight[k]).sum() + bias[k]
    return z


@st.composite
def places(draw, most=3):
    """The shape of images and a window, its stride and its padding, all (vertical, horizontal), that fit together."""
    N, C = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    pair = [(draw(st.integers(1, most)), draw(st.integers(1, 3)), draw(st.integers(0, 2))) for _ in range(2)]
    (R, u, p), (S, v, q) = ((k, s, min(p, k // 2)) for k, s, p in pair)
    H, W = draw(st.integers(max(1, R - 2 * p), 6)), draw(st.integers(max(1, S - 2 * q), 6))
    return (N, C, H, W), (R, S), (u, v), (p, q)


@few
@given(places(), st.integers(1, 3), st.booleans())
def test_conv2d_is_its_definition_for_every_kernel_stride_and_padding(place, K, with_bias):
    shape, kernel, stride, padding = place
    x, weight, bias = normal(*shape), normal(K, shape[1], *kernel, seed=1), normal(K, seed=2)
    inputs = (x, weight, bias) if with_bias else (x, weight)
    expected = slow_conv2d(x.data, weight.data, bias.data if with_bias else np.zeros(K), stride, padding)
    z = F.conv2d(*inputs, stride=stride, padding=padding).numpy()
    assert z.shape == expected.shape
    np.testing.assert_allclose(z, expected, rtol=1e-12, atol=1e-12)
    gradcheck(lambda *inputs: F.conv2d(*inputs, stride=stride, padding=padding), *inputs, name="conv2d")


def test_padding_may_be_wider_than_the_kernel():
    x, weight = normal(1, 1, 2, 2), normal(1, 1, 1, 1, seed=1)
    assert F.conv2d(x, weight, padding=3).shape == (1, 1, 8, 8)
    gradcheck(lambda x, weight: F.conv2d(x, weight, stride=2, padding=3), x, weight)


@pytest.mark.parametrize("kernel", list(product([1, 2, 3, 4], [2, 3])))
def test_same_keeps_the_size_and_an_even_filter_looks_further_behind(kernel):
    x, weight = normal(2, 2, 5, 4), normal(3, 2, *kernel, seed=1)
    before = [(k - 1) // 2 for k in kernel]
    padded = np.pad(x.data, ((0, 0), (0, 0), *((b, k - 1 - b) for b, k in zip(before, kernel))))
    z = F.conv2d(x, weight, padding="same")
    np.testing.assert_allclose(z.numpy(), slow_conv2d(padded, weight.data, np.zeros(3), (1, 1), (0, 0)), rtol=1e-12)
    assert z.shape == (2, 3, 5, 4)
    gradcheck(lambda x, weight: F.conv2d(x, weight, padding="same"), x, weight)


def test_valid_is_no_padding():
    x, weight = normal(1, 2, 5, 5), normal(1, 2, 3, 3, seed=1)
    np.testing.assert_array_equal(F.conv2d(x, weight, padding="valid").numpy(), F.conv2d(x, weight).numpy())


def slow_pool(x, size, stride, padding, value, reduce):
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), constant_values=value)
    N, C, H, W = x.shape
    z = np.empty((N, C, (H - size[0]) // stride[0] + 1, (W - size[1]) // stride[1] + 1))
    for n, c, p, q in np.ndindex(z.shape):
        top, left = p * stride[0], q * stride[1]
        z[n, c, p, q] = reduce(x[n, c, top : top + size[0], left : left + size[1]])
    return z


@few
@given(places())
def test_pooling_is_its_definition_for_every_window_stride_and_padding(place):
    shape, *window = place
    x = spread(*shape)
    for function, value, reduce in ((F.max_pool2d, -np.inf, np.max), (F.avg_pool2d, 0, np.mean)):
        z, expected = function(x, *window).numpy(), slow_pool(x.data, *window, value, reduce)
        assert z.shape == expected.shape
        np.testing.assert_allclose(z, expected, rtol=1e-12, atol=1e-15)
        gradcheck(lambda x: function(x, *window), x, name=function.__name__)         # noqa: B023


@pytest.mark.parametrize("function", [F.max_pool2d, F.avg_pool2d])
def test_a_window_moves_by_its_own_size_unless_told_otherwise(function):
    x = normal(2, 3, 7, 6)
    np.testing.assert_array_equal(function(x, (3, 2)).numpy(), function(x, (3, 2), (3, 2)).numpy())
    np.testing.assert_array_equal(function(x, 2, 1, 1).numpy(), function(x, [2, 2], [1], np.array([1, 1])).numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_passes_max_pooling(dtype):
    x = np.arange(16, dtype=dtype).reshape(1, 1, 4, 4)
    x[0, 0, 0, 1] = np.nan
    np.testing.assert_array_equal(F.max_pool2d(Tensor(x), 2).numpy(), np.array([[[[np.nan, 7], [13, 15]]]], dtype))


def test_the_first_of_equal_largest_values_gets_the_whole_gradient_of_max_pooling():
    x = Tensor(np.ones((1, 1, 2, 4)), True)
    F.max_pool2d(x, 2).sum().backward()
    np.testing.assert_array_equal(x.grad[0, 0], [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_padding_never_wins_max_pooling():
    x = Tensor(np.full((1, 1, 3, 3), -np.inf), True)
    z = F.max_pool2d(x, 3, 1, 1)
    z.sum().backward()
    assert (z.data == -np.inf).all()
    np.testing.assert_array_equal(x.grad[0, 0], [[4, 2, 0], [2, 1, 0], [0, 0, 0]])     # the first pixel of each window


def test_a_single_image_is_a_batch_without_its_first_dimension():
    x, weight = normal(2, 5, 5), normal(3, 2, 3, 3, seed=1)
    batch = x.data[None]
    np.testing.assert_array_equal(F.conv2d(x, weight, padding=1).numpy(), F.conv2d(batch, weight, padding=1).numpy()[0])
    for function in (F.max_pool2d, F.avg_pool2d):
        np.testing.assert_array_equal(function(x, 2).numpy(), function(batch, 2).numpy()[0])
        gradcheck(lambda x: function(x, 2), x)                                       # noqa: B023


def test_the_global_average_is_one_number_per_channel():
    x = normal(2, 3, 4, 5)
    np.testing.assert_allclose(F.global_avg_pool2d(x).numpy(), x.data.mean(axis=(2, 3)), rtol=1e-12)
    gradcheck(F.global_avg_pool2d, x)


def test_no_images_give_no_images_and_gradients_of_zero():
    x, weight = normal(0, 3, 6, 6), normal(2, 3, 3, 3)
    z = F.global_avg_pool2d(F.avg_pool2d(F.max_pool2d(F.relu(F.conv2d(x, weight, padding=1)), 2), 2))
    z.sum().backward()
    assert z.shape == (0, 2)
    assert x.grad.shape == x.shape
    np.testing.assert_array_equal(weight.grad, np.zeros(weight.shape))


# --- Batch normalisation ---------------------------------------------------------------------------------------------

def batch_norm_inputs(*shape, dtype=np.float64):
    """x, weight, bias, and running statistics that are not 0 and 1."""
    C = shape[1]
    x, weight, bias = (normal(*s, seed=i, dtype=dtype) for i, s in enumerate((shape, (C,), (C,))))
    running = np.linspace(-1, 1, C).astype(dtype), np.linspace(0.5, 2, C).astype(dtype)
    return x, weight, bias, running


BATCHES = st.tuples(st.integers(2, 4), st.integers(1, 3)).flatmap(
    lambda NC: arrays.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3).map(lambda rest: (*NC, *rest)))


@few
@given(BATCHES, st.booleans())
def test_batch_norm_is_its_steps_and_has_the_right_gradients(shape, training):
    x, weight, bias, running = batch_norm_inputs(*shape)

    def fused(x, weight, bias):
        return F.batch_norm(x, *map(np.copy, running), weight, bias, training)

    def steps(x, weight, bias):
        return F.batch_norm_steps(x, *map(np.copy, running), weight, bias, training)

    assert_twins(fused, steps, x, weight, bias)
    gradcheck(fused, x, weight, bias, name="batch_norm")


@few
@given(BATCHES, st.booleans(), st.booleans())
def test_batch_norm_add_relu_is_its_steps(shape, training, with_residual):
    x, weight, bias, running = batch_norm_inputs(*shape)
    inputs = (x, weight, bias, normal(*shape, seed=5)) if with_residual else (x, weight, bias)

    def fused(x, weight, bias, residual=None):
        return F.batch_norm_add_relu(x, residual, *map(np.copy, running), weight, bias, training)

    def steps(x, weight, bias, residual=None):
        return F.batch_norm_add_relu_steps(x, residual, *map(np.copy, running), weight, bias, training)

    assert_twins(fused, steps, *inputs)


def test_batch_norm_add_relu_has_the_right_gradients():
    x, weight, bias, running = batch_norm_inputs(4, 3, 3, 3)
    residual = normal(4, 3, 3, 3, seed=5)
    z = F.batch_norm_steps(x, *map(np.copy, running), weight, bias, training=True).data + residual.data
    residual.data += np.where(z > 0, 0.1, -0.1)                 # away from the corner
    gradcheck(lambda x, residual, weight, bias: F.batch_norm_add_relu(
        x, residual, *map(np.copy, running), weight, bias, training=True), x, residual, weight, bias)


def test_a_normalised_channel_has_mean_bias_and_standard_deviation_weight():
    x, weight, bias, _ = batch_norm_inputs(8, 3, 4, 4)
    z = F.batch_norm(x, None, None, weight, bias, training=True, eps=0).numpy()
    np.testing.assert_allclose(z.mean(axis=(0, 2, 3)), bias.data, rtol=1e-12)
    np.testing.assert_allclose(z.std(axis=(0, 2, 3)), abs(weight.data), rtol=1e-12)


@pytest.mark.parametrize("function", [F.batch_norm, F.batch_norm_steps])
@pytest.mark.parametrize("wrap", [np.copy, Tensor])
def test_running_statistics_move_towards_the_batchs_unbiased_ones_in_place(function, wrap):
    x, _, _, running = batch_norm_inputs(4, 3, 5)
    mean, var = map(wrap, map(np.copy, running))
    function(x, mean, var, training=True, momentum=0.25)
    flat = x.data.transpose(1, 0, 2).reshape(3, -1)
    for got, before, batch in zip((mean, var), running, (flat.mean(axis=1), flat.var(axis=1, ddof=1))):
        np.testing.assert_allclose(getattr(got, "data", got), 0.75 * before + 0.25 * batch, rtol=1e-12)


def test_evaluation_leaves_the_running_statistics_alone_and_uses_them():
    x, weight, bias, running = batch_norm_inputs(1, 3)
    mean, var = map(np.copy, running)
    z = F.batch_norm(x, mean, var, weight, bias).numpy()
    np.testing.assert_array_equal([mean, var], running)
    np.testing.assert_allclose(z, (x.data - mean) / np.sqrt(var + 1e-5) * weight.data + bias.data, rtol=1e-12)


def test_batch_norm_without_weight_and_bias_only_normalises():
    x, _, _, _ = batch_norm_inputs(4, 3)
    one, zero = Tensor(np.ones(3)), Tensor(np.zeros(3))
    np.testing.assert_array_equal(F.batch_norm(x, None, None, training=True).numpy(),
                                  F.batch_norm(x, None, None, one, zero, training=True).numpy())
    gradcheck(lambda x: F.batch_norm(x, None, None, training=True), x)


# --- The loss --------------------------------------------------------------------------------------------------------

@few
@given(arrays.array_shapes(min_dims=1, max_dims=3, max_side=4), st.data())
def test_log_softmax_is_its_definition_and_has_the_right_gradients(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = normal(*shape)
    e = np.exp(x.data)
    np.testing.assert_allclose(F.log_softmax(x, dim).numpy(), np.log(e / e.sum(axis=dim, keepdims=True)), atol=1e-12)
    gradcheck(lambda x: F.log_softmax(x, dim), x)


@np.errstate(over="raise", invalid="raise", divide="raise")
def test_huge_scores_do_not_overflow():
    x = Tensor([[1e4, 0.0, -1e4]], True)
    np.testing.assert_array_equal(F.log_softmax(x).numpy(), [[0, -1e4, -2e4]])
    loss = F.cross_entropy(x, [2])
    loss.backward()
    assert loss.item() == 2e4
    np.testing.assert_array_equal(x.grad, [[1, 0, -1]])


def test_log_softmax_of_nothing_is_nothing():
    assert F.log_softmax(normal(3, 0), dim=1).shape == (3, 0)


@few
@given(st.integers(1, 4), st.integers(1, 4), arrays.array_shapes(min_dims=0, max_dims=2, max_side=3), st.data())
def test_cross_entropy_is_its_steps_and_has_the_right_gradients(N, K, places, data):
    x = normal(N, K, *places)
    target = data.draw(arrays.arrays(np.int64, (N, *places), elements=st.integers(0, K - 1)))
    assert_twins(lambda x: F.cross_entropy(x, target), lambda x: F.cross_entropy_steps(x, target), x)
    gradcheck(lambda x: F.cross_entropy(x, target), x, name="cross_entropy")
    scores, classes = np.moveaxis(x.data, 1, -1).reshape(-1, K), target.ravel()
    expected = np.mean([np.log(np.exp(s).sum()) - s[t] for s, t in zip(scores, classes)])
    assert F.cross_entropy(x, target).item() == pytest.approx(expected, abs=1e-12)


def test_equal_scores_cost_the_logarithm_of_the_number_of_classes():
    assert F.cross_entropy(np.zeros((5, 10)), np.arange(5)).item() == pytest.approx(np.log(10))


def test_one_image_without_a_batch_has_a_loss():
    x = normal(4)
    assert F.cross_entropy(x, 2).item() == F.cross_entropy(x.data[None], [2]).item()
    gradcheck(lambda x: F.cross_entropy(x, 2), x)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_labels_of_any_integer_dtype_mean_the_same(dtype):
    x, target = normal(3, 4), np.array([3, 0, 1])
    assert F.cross_entropy(x, target.astype(dtype)).item() == F.cross_entropy(x, target).item()


# --- float32 ---------------------------------------------------------------------------------------------------------

FLOAT32 = {
    "linear": (F.linear, (8, 30), (10, 30), (10,)),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), (4, 8, 9, 9), (6, 8, 3, 3), (6,)),
    "conv2d 1 x 1": (lambda x, w: F.conv2d(x, w, stride=2), (4, 8, 8, 8), (6, 8, 1, 1)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), (4, 5, 9, 9)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 2, 1), (4, 5, 9, 9)),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), (8, 5, 6, 6), (5,), (5,)),
    "batch_norm_add_relu": (lambda x, r, w, b: F.batch_norm_add_relu(x, r, None, None, w, b, training=True),
                            (8, 5, 6, 6), (8, 5, 6, 6), (5,), (5,)),
    "cross_entropy": (lambda x: F.cross_entropy(x, np.arange(16) % 10), (16, 10)),
}


@pytest.mark.parametrize(("function", "shapes"), [(f, shapes) for f, *shapes in FLOAT32.values()], ids=list(FLOAT32))
def test_float32_is_float64_to_rounding(function, shapes):
    single = [normal(*shape, seed=i, dtype=np.float32) for i, shape in enumerate(shapes)]
    double = [Tensor(x.data.astype(np.float64), True) for x in single]
    for got, expected in zip(gradients(function, *single), gradients(function, *double)):
        assert got.dtype == np.float32
        assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)


# --- Errors ----------------------------------------------------------------------------------------------------------

def images(*shape):
    return Tensor(np.zeros(shape))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: F.linear(images(2, 3), images(4, 5)), r"linear: x has shape \(2, 3\), the weight \(4, 5\)"),
    (lambda: F.linear(images(2, 3), images(4, 3), images(3)), r"linear: the bias has shape \(3,\).*\(4,\)"),
    (lambda: F.linear(images(2, 3), np.zeros((4, 3), np.float32)), "linear: x is float64 but the weight is float32"),
    (lambda: F.linear(images(2, 3), images(4, 3), np.zeros(4, np.float32)), "linear: .*the bias is float32"),
    (lambda: F.conv2d(images(1, 3, 8, 8), images(4, 16, 3, 3)), r"conv2d: x has 3 channels.*want 16"),
    (lambda: F.conv2d(images(3, 8), images(4, 3, 3, 3)), r"conv2d: .*expected \(N, C, H, W\) and \(K, C, R, S\)"),
    (lambda: F.conv2d(images(1, 3, 2, 8), images(4, 3, 3, 3)), r"conv2d: the window \(3, 3\) is larger.*\(2, 8\)"),
    (lambda: F.conv2d(images(1, 3, 8, 8), images(4, 3, 3, 3), images(3)), r"conv2d: the bias has shape \(3,\)"),
    (lambda: F.conv2d(images(1, 3, 8, 8), np.zeros((4, 3, 3, 3), np.float32)), "conv2d: x is float64.*float32"),
    (lambda: F.conv2d(images(1, 3, 8, 8), images(4, 3, 3, 3), np.zeros(4, np.float32)), "conv2d: .*bias is float32"),
    (lambda: F.conv2d(images(1, 3, 8, 8), images(4, 3, 3, 3), stride=0), "conv2d: stride is 0; .*at least 1"),
    (lambda: F.conv2d(images(1, 3, 8, 8), images(4, 3, 3, 3), stride=1.5), "conv2d: stride is 1.5; .*whole number"),
    (lambda: F.conv2d(images(1, 3, 8, 8), images(4, 3, 3, 3), padding=-1), "conv2d: padding .*is -1"),
    (lambda: F.conv2d(images(1, 3, 8, 8), images(4, 3, 3, 3), padding="full"), "conv2d: padding .*valid.*'full'"),
    (lambda: F.conv2d(images(1, 3, 8, 8), images(4, 3, 3, 3), padding="same", stride=2), "same.*stride 1"),
    (lambda: F.max_pool2d(images(1, 3, 8), 9), r"max_pool2d: the window \(9, 9\) is larger"),
    (lambda: F.max_pool2d(images(3, 8), 2), r"max_pool2d: x has shape \(3, 8\)"),
    (lambda: F.avg_pool2d(images(1, 3, 8, 8), (2, 2, 2)), r"avg_pool2d: kernel_size is \(2, 2, 2\)"),
    (lambda: F.avg_pool2d(images(1, 3, 8, 8), 2, padding=2), r"avg_pool2d: padding \(2, 2\) must be at most half"),
    (lambda: F.global_avg_pool2d(images(3, 8)), "global_avg_pool2d: x has shape"),
    (lambda: F.batch_norm(images(3), None, None, training=True), r"batch_norm: x has shape \(3,\)"),
    (lambda: F.batch_norm(images(1, 3), None, None, training=True), "batch_norm: .*fewer than two values per channel"),
    (lambda: F.batch_norm(images(0, 3, 2), None, None, training=True), "batch_norm: .*fewer than two values"),
    (lambda: F.batch_norm(images(2, 3), None, None), "batch_norm: in evaluation the running mean"),
    (lambda: F.batch_norm(images(2, 3), np.zeros(3), None, training=True), "batch_norm: give both"),
    (lambda: F.batch_norm(images(2, 3), np.zeros(2), np.ones(2)), r"batch_norm: x has 3 channels.*running mean.*\(2,"),
    (lambda: F.batch_norm(images(2, 3), None, None, images(2), training=True), r"batch_norm: .*the weight has shape"),
    (lambda: F.batch_norm(images(2, 3), None, None, np.ones(3, "f4"), training=True), "batch_norm: .*is float32"),
    (lambda: F.batch_norm_add_relu(images(2, 3), images(2, 1), None, None, None, None, True), r"residual \(2, 1\)"),
    (lambda: F.log_softmax(images(2, 3), dim=2), "dimension 2 does not exist"),
    (lambda: F.cross_entropy(images(2, 3), [0, 3]), "cross_entropy: classes run from 0 to 2, the target from 0 to 3"),
    (lambda: F.cross_entropy(images(2, 3), [0, -1]), "cross_entropy: classes run from 0 to 2, the target from -1"),
    (lambda: F.cross_entropy(images(2, 3), [0.0, 1.0]), "cross_entropy: .*expected integers, got float32"),
    (lambda: F.cross_entropy(images(2, 3), [True, False]), "cross_entropy: .*expected integers, got bool"),
    (lambda: F.cross_entropy(images(2, 3), [0, 1, 2]), r"cross_entropy: x has shape \(2, 3\), the target \(3,\)"),
    (lambda: F.cross_entropy(images(2, 3), [[0], [1]]), r"cross_entropy: .*the target \(2, 1\)"),
    (lambda: F.cross_entropy(images(0, 3), np.zeros(0, int)), "cross_entropy: .*no images")])
def test_what_does_not_fit_is_an_error_with_the_shapes_in_it(call, message):
    with pytest.raises(Error, match=message):
        call()


@pytest.mark.parametrize(("function", "argument"), [
    (F.conv2d, "groups"), (F.conv2d, "dilation"), (F.max_pool2d, "ceil_mode"), (F.avg_pool2d, "count_include_pad"),
    (F.cross_entropy, "label_smoothing"), (F.cross_entropy, "weight"), (F.relu, "inplace")])
def test_an_argument_we_do_not_have_is_named_by_python(function, argument):
    needed = [1 for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    with pytest.raises(TypeError, match=argument):
        function(*needed, **{argument: 1})


def test_every_operation_takes_its_first_tensor_by_position_under_the_name_x():
    no_operation = "update_running"                         # changes arrays in place
    for name, function in vars(F).items():
        if (inspect.isfunction(function) and function.__module__ == F.__name__ and not name.startswith("_")
                and name != no_operation):
            assert next(iter(inspect.signature(function).parameters)) in ("x", "tensors"), name
