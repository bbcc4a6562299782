"""Facts about the engine, and about the gradient of every operation on any tensor."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from minirewind import functional as F
from minirewind import tensor
from minirewind.errors import Error
from minirewind.tensor import Function, Tensor, gradcheck, no_grad, recording

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
FULL_SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=3)
few = settings(max_examples=25, deadline=None)


def normal(*shape, seed=0, requires_grad=True):
    """Random float64 numbers."""
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad)


def positive(*shape, seed=0):
    """Random float64 numbers between 0.5 and 2."""
    return Tensor(np.random.default_rng(seed).uniform(0.5, 2, shape), True)


# --- The walk --------------------------------------------------------------------------------------------------------

def test_a_chain_of_10_000_additions_can_be_walked():
    x = Tensor(1.0, True)
    z = x
    for _ in range(10_000):
        z = z + 1
    z.backward()
    assert z.item() == 10_001
    assert x.grad == 1


def test_a_chain_of_50_000_additions_can_be_dropped_without_a_walk():
    x = Tensor(1.0, True)
    z = x
    for _ in range(50_000):
        z = z + 1
    first = weakref.ref(z)
    del z
    gc.collect()
    assert first() is None
    assert x.grad is None


def test_a_diamond_of_depth_20_adds_up_both_ways():
    x = Tensor(1.0, True, dtype=np.float64)
    z = x
    for _ in range(20):
        z = z + z                               # 2**20 paths: a walk along each of them would not end soon
    z.backward()
    assert x.grad == 2**20


def test_a_tensor_hands_on_its_gradient_only_when_all_its_users_have_given_theirs():
    x = normal(3)
    middle = x * 2
    far = (middle.exp() * 3).sum()              # one user is near, the other far from the result
    (far + middle.sum()).backward()
    np.testing.assert_allclose(x.grad, 2 + 6 * np.exp(2 * x.data))


def test_the_order_of_the_walk_puts_every_tensor_before_what_it_was_computed_from():
    x, y = normal(2), normal(2, seed=1)
    order = tensor.topological_order(((x * y + x) * (x * y)).sum())
    place = {id(t): i for i, t in enumerate(order)}
    assert len(place) == len(order) == 7
    for t in order:
        assert t.function is None or all(place[id(x)] > place[id(t)] for x in t.function.inputs)


def test_gradients_accumulate_over_uses_and_over_backward_passes():
    x = Tensor([1.0, 2.0], True)
    (x + x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [3, 5])
    (x * 10).sum().backward()
    np.testing.assert_array_equal(x.grad, [13, 15])


def test_a_second_backward_says_that_the_graph_is_released():
    x = normal(3)
    z = (x * x).sum()
    z.backward()
    once = x.grad.copy()
    with pytest.raises(Error, match=r"released.*forward"):
        z.backward()
    np.testing.assert_array_equal(x.grad, once)


def test_a_released_part_of_another_graph_is_an_error_before_anything_is_added():
    x, y = normal(3), normal(3)
    shared = x * x
    shared.sum().backward()
    once = x.grad.copy()
    with pytest.raises(Error, match="released"):
        (shared * y).sum().backward()
    np.testing.assert_array_equal(x.grad, once)
    assert y.grad is None


def test_two_leaves_never_share_one_gradient_array():
    x, y = normal(3), normal(3)
    z = x + y
    seed = np.ones(3)
    z.backward(seed)
    x.grad += 1
    np.testing.assert_array_equal(y.grad, [1, 1, 1])
    np.testing.assert_array_equal(seed, [1, 1, 1])


def test_the_gradient_of_a_sum_can_be_written_to():
    x = normal(2, 3)
    x.sum().backward()
    x.grad *= 2
    np.testing.assert_array_equal(x.grad, np.full((2, 3), 2))


def test_memory_is_released_by_backward():
    x = normal(3)
    middle = x * 2
    square = middle * middle
    array = weakref.ref(middle.data)
    del middle
    gc.collect()
    assert array() is not None                  # backward will need it
    square.sum().backward()
    assert array() is None                      # at once, without the garbage collector, though `square` still lives


def test_memory_is_released_while_backward_is_still_walking():
    alive = []

    class Watch(Function):
        def forward(self, x):
            return x.copy()

        def backward(self, dz):
            alive.append(late() is not None)
            return dz

    x = normal(3)
    z = Watch.apply(x)
    for _ in range(5):
        z = z * z
    late = weakref.ref(z.data)
    z = (z * z * z).sum()
    z.backward()
    assert alive == [False]


# --- What is remembered ----------------------------------------------------------------------------------------------

def test_nothing_is_remembered_under_no_grad_and_after_it_again():
    x = normal(2)
    with no_grad():
        inside = x * 2
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert not inside.requires_grad
    assert inside.function is None
    assert (x * 2).requires_grad


def test_detach_gives_the_same_values_without_their_past():
    x = normal(2)
    (x * x.detach()).sum().backward()
    np.testing.assert_array_equal(x.grad, x.data)       # x as a constant, not 2 x


def test_a_frozen_input_gets_no_gradient():
    x, y = normal(2), normal(2, requires_grad=False)
    (x * y).sum().backward()
    assert y.grad is None
    np.testing.assert_array_equal(x.grad, y.data)


@pytest.mark.parametrize("remember", [True, False])
def test_recording_lists_every_operation_also_under_no_grad(remember):
    x = Tensor([1.0, 2.0], True)
    with recording() as calls:
        if remember:
            (x * 2).sum()
        else:
            with no_grad():
                (x * 2).sum()
    x + 1
    assert [call.function.__name__ for call in calls] == ["Mul", "Sum"]
    assert calls[0].inputs[0] is x
    assert calls[1].settings == {"dim": (0,), "keepdim": False}
    assert calls[1].output.item() == 6


# --- What a tensor holds ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("data", "dtype"), [
    (1.5, np.float32), ([1.0, 2.0], np.float32), ([[1, 2.5]], np.float32), ([], np.float32),
    ([np.float64(1)], np.float32),
    (3, np.int64), ([1, 2], np.int64), (True, np.bool_), ([True, False], np.bool_),
    (np.ones(2), np.float64), (np.float64(1), np.float64), (np.ones(2, np.float32), np.float32),
    (np.ones(2, np.uint8), np.uint8), (np.ones(2, np.float16), np.float16)])
def test_python_floats_become_float32_integers_int64_and_arrays_keep_their_dtype(data, dtype):
    assert Tensor(data).dtype == dtype


def test_a_tensor_of_pytorch_keeps_its_dtype():
    torch = pytest.importorskip("torch", reason="reads PyTorch's tensors: pip install torch")
    for dtype in ("float32", "float64", "int64"):
        assert Tensor(torch.ones(2, dtype=getattr(torch, dtype))).dtype == dtype


def test_a_dtype_that_is_asked_for_is_given():
    assert Tensor([1, 2], dtype=np.float64).dtype == np.float64
    assert Tensor(np.ones(2), dtype=np.float32).dtype == np.float32
    assert Tensor(Tensor([1.0]), dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("array_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scalar", [2, 2.5, True, np.float64(2.5)])
def test_a_plain_number_does_not_promote(array_dtype, scalar):
    x = Tensor(np.ones(2, array_dtype))
    for z in (x + scalar, scalar - x, x * scalar, scalar / x, x ** scalar, scalar ** x):
        assert z.dtype == array_dtype


@pytest.mark.parametrize(("x", "y", "dtype"), [
    (Tensor([1, 2]), Tensor([1.0, 2.0]), np.float32), (Tensor([1.0, 2.0]), Tensor([1, 2]), np.float32),
    (Tensor([1, 2]), Tensor(np.ones(2)), np.float64), (Tensor([1.0]), Tensor(np.ones(2)), np.float64),
    (Tensor([1, 2]), Tensor([3, 4]), np.int64), (Tensor([1, 2]), 3, np.int64), (Tensor([1, 2]), 0.5, np.float32),
    (Tensor([True, False]), 3, np.int64), (Tensor([True, False]), 0.5, np.float32),
    (Tensor(np.ones(2, np.uint8)), 3, np.uint8), (np.ones(2), Tensor([1.0]), np.float64)])
def test_beside_floats_integers_take_their_dtype(x, y, dtype):
    assert (x * y).dtype == dtype


def test_integers_divide_and_have_roots_as_float32():
    x = Tensor([4, 9])
    for z in (x / 2, 1 / x, x.sqrt(), x.exp(), x.log(), x.mean(), F.sigmoid(x), F.softplus(x), F.log_softmax(x)):
        assert z.dtype == np.float32
    np.testing.assert_array_equal((x / 2).numpy(), [2, 4.5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_results_and_gradients_keep_the_dtype(dtype, shape):
    for function in (F.neg, F.exp, F.log, F.sqrt, F.sum, F.mean, F.amax, F.relu, F.sigmoid, F.tanh, F.softplus,
                     lambda x: F.log_softmax(x, dim=0), lambda x: x ** 2, lambda x: 2 / x, lambda x: x ** x,
                     lambda x: F.dropout(x, key=1), lambda x: F.pad(x, ()), F.flatten):
        x = Tensor(np.full(shape, 1.5, dtype), True)
        z = function(x)
        z.backward(1)
        assert z.dtype == x.grad.dtype == dtype
        assert x.grad.shape == shape


@pytest.mark.parametrize("view", [lambda a: a, lambda a: a.T, lambda a: a[::-1], lambda a: a[1, 2]])
def test_numpy_is_always_a_copy_in_c_order(view):
    x = Tensor(view(np.arange(6.0).reshape(2, 3)))
    copy = x.numpy()
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, x.data)
    copy += 1
    assert not np.shares_memory(copy, x.data)
    assert (copy != x.data).all()


def test_a_gradient_needs_a_floating_point_tensor():
    with pytest.raises(Error, match=r"floating-point.*int64"):
        Tensor([1, 2], requires_grad=True)


@pytest.mark.parametrize("data", [[[1], [1, 2]], "word", ["a", "b"], None, [None], 1j, np.array(["a"]), object()])
def test_a_tensor_holds_real_numbers_in_a_rectangle(data):
    with pytest.raises(Error, match="real numbers in a rectangular array"):
        Tensor(data)


def test_a_tensor_can_be_iterated_over_and_a_single_number_cannot():
    assert [row.numpy().tolist() for row in Tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
    assert len(Tensor([[1, 2, 3]])) == 1
    with pytest.raises(TypeError, match="no length"):
        list(Tensor(1.0))


def test_item_wants_one_element():
    assert Tensor([[2.5]]).item() == 2.5
    with pytest.raises(Error, match=r"\(2,\).*2 elements"):
        Tensor([1, 2]).item()


def test_numpy_arrays_on_the_left_leave_the_work_to_the_tensor():
    x = Tensor(np.ones(3), True)
    for z in (np.ones(3) + x, np.ones(3) - x, np.float64(2) * x, np.ones(3) / x, np.ones(3) @ x, np.ones(3) ** x):
        assert isinstance(z, Tensor)
        assert z.requires_grad


def test_to_and_deepcopy_give_leaves_of_their_own():
    import copy
    x = normal(2)
    x.sum().backward()
    twin = copy.deepcopy(x)
    twin.data += 1
    twin.grad += 1
    assert (x.data != twin.data).all()
    np.testing.assert_array_equal(x.grad, [1, 1])
    with pytest.raises(Error, match="detach"):
        copy.deepcopy(x * 2)
    assert x.to("reference").device == "reference"


# --- What the engine refuses -----------------------------------------------------------------------------------------

def test_backward_of_many_elements_needs_a_gradient_of_their_shape():
    x = normal(2, 3)
    for grad in (None, np.ones(3), np.ones((3, 2)), np.ones((1, 1))):
        with pytest.raises(Error, match=r"backward.*\(2, 3\)"):
            (x * 2).backward(grad)
    z = x * 2
    z.backward(Tensor(np.ones((2, 3))))
    np.testing.assert_array_equal(x.grad, np.full((2, 3), 2))


def test_backward_needs_something_that_requires_a_gradient():
    with pytest.raises(Error, match="requires_grad"):
        (Tensor(1.0) * 2).backward()


class Wrong(Function):
    answer: tuple = ()

    def forward(self, x, y):
        return x + y

    def backward(self, dz):
        return self.answer


@pytest.mark.parametrize(("answer", "message"), [
    ((np.ones((1, 3)),), "Wrong.backward returned 1 gradients for 2 inputs"),
    ((np.ones((1, 3)), None), "Wrong.backward returned None"),
    ((np.ones((1, 3)), np.ones(())), r"gradient of shape \(\) for an input \(1, 3\)"),
    ((np.ones((1, 3)), np.ones((1, 4))), r"gradient of shape \(1, 4\) for an input \(1, 3\)")])
def test_a_wrong_backward_is_told_what_it_returned(answer, message, monkeypatch):
    monkeypatch.setattr(Wrong, "answer", answer)
    with pytest.raises(Error, match=message):
        Wrong.apply(normal(1, 3), normal(1, 3)).sum().backward()


def test_a_function_without_a_forward_or_backward_names_itself():
    class Unwritten(Function):
        pass

    class HalfWritten(Function):
        def forward(self, x):
            return x

    with pytest.raises(NotImplementedError, match="Unwritten has no forward"):
        Unwritten.apply(normal(1))
    with pytest.raises(NotImplementedError, match="HalfWritten has no backward"):
        HalfWritten.apply(normal(1)).backward()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Tensor(np.ones((2, 3))) + Tensor(np.ones((2, 4))), r"add: shapes \(2, 3\) and \(2, 4\) do not broadcast"),
    (lambda: Tensor(np.ones((2, 3))) @ Tensor(np.ones((2, 3))), r"matmul: .*\(2, 3\).*last dimension"),
    (lambda: Tensor(np.ones((2, 2, 2))) @ Tensor(np.ones((3, 2, 2))), r"matmul: shapes \(2,\) and \(3,\)"),
    (lambda: Tensor(1.0) @ Tensor([1.0]), "matmul: .*at least one dimension"),
    (lambda: Tensor(np.ones((2, 3))).sum(2), "dimension 2 does not exist.*-2 to 1"),
    (lambda: Tensor(1.0).sum(1), "dimension 1 does not exist.*-1 to 0"),
    (lambda: Tensor(np.ones((2, 3))).mean((0, -2)), "twice"),
    (lambda: Tensor(np.ones((2, 0))).amax(1), r"amax: shape \(2, 0\)"),
    (lambda: Tensor(np.ones((2, 3))).reshape(4, 2), r"reshape: 6 elements of shape \(2, 3\).*\(4, 2\)"),
    (lambda: Tensor(np.ones((2, 3))).reshape(-1, -1), "reshape"),
    (lambda: Tensor(np.ones((2, 3))).reshape(4, -1), "reshape"),
    (lambda: Tensor(np.ones((2, 0))).reshape(0, -1), "reshape"),
    (lambda: Tensor(np.ones((2, 3))).permute(0, 0), r"permute: \(0, 0\)"),
    (lambda: Tensor(np.ones((2, 3))).transpose(0, 2), "dimension 2 does not exist"),
    (lambda: Tensor(np.ones((2, 3))).flatten(1, 0), "flatten: start_dim 1 comes after end_dim 0"),
    (lambda: F.concatenate([]), "concatenate: expected at least one"),
    (lambda: F.concatenate([Tensor([[1.0]]), Tensor([[1.0, 2.0]])]), r"concatenate: shapes \(1, 1\) and \(1, 2\)"),
    (lambda: F.concatenate([Tensor(1.0), Tensor(2.0)]), "concatenate: a tensor without dimensions"),
    (lambda: F.pad(Tensor([1.0]), (1,)), "pad: .*pairs"),
    (lambda: F.pad(Tensor([1.0]), (1, 1, 1, 1)), "pad: .*at most 1"),
    (lambda: F.pad(Tensor([1.0, 2.0]), (-3, 5)), "pad: .*cuts more off"),
    (lambda: F.pad(Tensor([1.0]), (1, 1), "reflect"), "pad: .*constant.*reflect"),
    (lambda: Function.apply(Tensor([1.0]), Tensor([1.0], device="reference")), "'cpu' and on 'reference'"),
    (lambda: Tensor([1.0], device="toaster"), "unknown device 'toaster'")])
def test_what_does_not_fit_is_an_error_with_the_shapes_in_it(call, message):
    with pytest.raises(Error, match=message):
        call()


def test_arguments_we_do_not_have_are_named_by_python():
    with pytest.raises(TypeError, match="alpha"):
        F.add(1.0, 2.0, alpha=2)
    with pytest.raises(TypeError, match="dtype"):
        F.sum(Tensor([1.0]), dtype=np.float64)


def test_an_index_out_of_range_is_an_index_error():
    with pytest.raises(IndexError):
        Tensor([1.0])[1]


# --- gradcheck -------------------------------------------------------------------------------------------------------

class WrongSquare(Function):
    """z = x * x, and half of its gradient"""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, dz):
        return dz * self.x


def wrong_square(x):
    return WrongSquare.apply(x)


def test_gradcheck_names_operation_input_got_and_expected():
    x = Tensor(np.array([3.25]), True)
    with pytest.raises(Error) as failure:
        gradcheck(wrong_square, x)
    message = str(failure.value)
    assert "wrong_square" in message
    assert "gradient of input 0, shape (1,)" in message
    assert "3.25" in message
    got, expected = (float(message.split(word)[1].split()[0]) for word in ("got ", "expected "))
    assert expected == pytest.approx(2 * got, rel=1e-5)


@pytest.mark.parametrize("place", [0, 5, 11])
@pytest.mark.parametrize("error", [1e-2, np.nan, np.inf])
def test_gradcheck_finds_one_wrong_element_among_many(place, error):
    class Planted(Function):
        def forward(self, x):
            return 2 * x

        def backward(self, dz):
            dx = 2 * dz
            dx.flat[place] += error
            return dx

    with pytest.raises(Error, match=r"gradcheck: planted.*input 1"), np.errstate(invalid="ignore"):
        gradcheck(lambda x, y: x + Planted.apply(y), normal(3, 4), normal(3, 4), name="planted")


def test_gradcheck_finds_a_gradient_that_is_missing():
    with pytest.raises(Error, match="got 0 "):
        gradcheck(lambda x, y: x * y.detach(), normal(3), normal(3))


def test_gradcheck_wants_float64():
    with pytest.raises(Error, match=r"float64.*float32"):
        gradcheck(F.exp, Tensor([1.0], True))


def test_gradcheck_leaves_its_inputs_alone():
    x = normal(3)
    before = x.numpy()
    assert gradcheck(F.exp, x) is True
    np.testing.assert_array_equal(x.data, before)
    assert x.grad is None


# --- Gradients against central differences ---------------------------------------------------------------------------

@few
@given(arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.integers(0, 9))
def test_arithmetic_broadcasts_and_has_the_right_gradients(shapes, seed):
    x, y = (positive(*shape, seed=seed + i) for i, shape in enumerate(shapes.input_shapes))
    for function in (F.add, F.sub, F.mul, F.div, F.pow):
        assert function(x, y).shape == shapes.result_shape
        gradcheck(function, x, y)


@few
@given(SHAPES, st.integers(0, 9))
def test_functions_of_one_number_have_the_right_gradients(shape, seed):
    for function in (F.exp, F.log, F.sqrt, F.neg, lambda x: x ** 3, lambda x: 2 ** x, lambda x: 3 / x - 1):
        gradcheck(function, positive(*shape, seed=seed))


@st.composite
def shapes_and_dims(draw):
    shape = draw(FULL_SHAPES)
    dims = draw(st.lists(st.integers(0, max(len(shape) - 1, 0)), unique=True, max_size=len(shape)))
    dims = [d - len(shape) if shape and draw(st.booleans()) else d for d in dims]
    return shape, draw(st.sampled_from([None, tuple(dims), *dims])), draw(st.booleans())


@few
@given(shapes_and_dims(), st.integers(0, 9))
def test_reductions_equal_numpys_and_have_the_right_gradients(drawn, seed):
    shape, dim, keepdim = drawn
    x = normal(*shape, seed=seed)
    axis = None if dim == () else dim                           # as in PyTorch, no dimension named is all of them
    for function, name in ((F.sum, "sum"), (F.mean, "mean"), (F.amax, "max")):
        expected = getattr(np, name)(x.data, axis=axis, keepdims=keepdim)
        np.testing.assert_allclose(function(x, dim, keepdim).numpy(), expected, rtol=1e-12, atol=1e-12)
        gradcheck(lambda x: function(x, dim, keepdim), x, name=name)        # noqa: B023


def test_equal_largest_values_share_the_gradient():
    x = Tensor([[1.0, 3, 3, 0], [2, 2, 2, 2]], True)
    x.amax(1).sum().backward()
    np.testing.assert_array_equal(x.grad, [[0, 0.5, 0.5, 0], [0.25] * 4])


@np.errstate(all="ignore")
def test_a_nan_passes_amax_and_its_gradient_is_nan():
    x = Tensor([1.0, np.nan, 2.0], True)
    z = x.amax()
    z.backward()
    assert np.isnan(z.item())
    assert np.isnan(x.grad).all()


@st.composite
def matrices(draw):
    """Two shapes that matmul takes, vectors and broadcast batches included."""
    rows, inner, columns = (draw(st.integers(1, 3)) for _ in range(3))
    left, right = draw(arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=2)).input_shapes
    x = (inner,) if draw(st.booleans()) else (*left, rows, inner)
    y = (inner,) if draw(st.booleans()) else (*right, inner, columns)
    return x, y


@few
@given(matrices(), st.integers(0, 9))
def test_matmul_equals_numpys_and_has_the_right_gradients(shapes, seed):
    x, y = (normal(*shape, seed=seed + i) for i, shape in enumerate(shapes))
    np.testing.assert_allclose((x @ y).numpy(), x.data @ y.data, rtol=1e-12, atol=1e-12)
    gradcheck(F.matmul, x, y)


def test_matrices_without_elements_multiply_to_zeros():
    x, y = normal(2, 0), normal(0, 3)
    z = x @ y
    z.sum().backward()
    np.testing.assert_array_equal(z.numpy(), np.zeros((2, 3)))
    assert (x.grad.shape, y.grad.shape) == ((2, 0), (0, 3))


@few
@given(FULL_SHAPES, st.randoms(use_true_random=False))
def test_changes_of_shape_equal_numpys_and_have_the_right_gradients(shape, random):
    x = normal(*shape)
    dims = random.sample(range(len(shape)), len(shape))
    start, end = sorted(random.choices(range(len(shape)), k=2)) if shape else (0, 0)
    np.testing.assert_array_equal(x.permute(*dims).numpy(), x.data.transpose(dims))
    np.testing.assert_array_equal(x.transpose(start, -1).numpy(), x.data.swapaxes(start, -1) if shape else x.data)
    np.testing.assert_array_equal(x.flatten(start, end).numpy().ravel(), x.data.ravel())
    np.testing.assert_array_equal(x.reshape(x.shape[::-1]).numpy(), x.data.reshape(x.shape[::-1]))
    np.testing.assert_array_equal(x.reshape(*x.shape, 1).numpy(), x.data[..., None])
    assert x.flatten(start, end).ndim == max(1, len(shape) - (end - start))
    gradcheck(lambda x: x.permute(dims).reshape((-1,)) * np.arange(x.size), x)
    gradcheck(lambda x: x.flatten(start, end), x)
    gradcheck(lambda x: x.transpose(start, -1) if x.ndim else x * 1, x)


@few
@given(st.data())
def test_basic_indexing_equals_numpys_and_has_the_right_gradients(data):
    x = normal(*data.draw(FULL_SHAPES))
    index = data.draw(arrays.basic_indices(x.shape, allow_newaxis=True))
    np.testing.assert_array_equal(x[index].numpy(), x.data[index])
    gradcheck(lambda x: x[index], x)


@pytest.mark.parametrize("index", [
    slice(None, None, -1), (slice(None), slice(2, 0, -2)), None, Ellipsis, (None, 1, Ellipsis, None), True,
    [0, 1, 1], ([0, 1, 1], [2, 2, 2]), (slice(None), [2, 0]), ([0, 1], slice(None), [1, 1]),
    (slice(None), None, [1, 1]),
    np.int64(1), (np.int64(1), slice(1, None)), np.array([[0, 1], [1, 1]]), Tensor([1, 0, 1]), Tensor(1),
    (Ellipsis, Tensor([0, 0])), (Tensor([1, 1, 0]), Tensor([0, 0, 1])), [True, False],
    Tensor(np.arange(24).reshape(2, 3, 4) % 3 == 0), (slice(None), np.array([True, False, True]))],
    ids=lambda index: repr(index).replace("\n", ""))
def test_any_index_means_what_it_means_to_numpy_and_has_the_right_gradient(index):
    x = normal(2, 3, 4)
    np.testing.assert_array_equal(x[index].numpy(), x.data[tensor._plain_index(index, x.backend)])
    gradcheck(lambda x: x[index], x, name=f"x[{index}]")


def test_elements_taken_twice_get_both_gradients():
    x = normal(3)
    (x[[0, 2, 2]] * [1.0, 10, 100]).sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 0, 110])


@few
@given(arrays.array_shapes(max_dims=3, max_side=3), st.data())
def test_concatenate_equals_numpys_and_has_the_right_gradients(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for i, size in enumerate(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))):
        part = list(shape)
        part[dim] = size
        parts.append(normal(*part, seed=i))
    assume(any(x.size for x in parts))
    np.testing.assert_array_equal(F.concatenate(parts, dim).numpy(), np.concatenate([x.data for x in parts], dim))
    gradcheck(lambda *parts: F.concatenate(parts, dim), *parts)


def test_concatenate_starts_with_nothing_and_keeps_float32_beside_integers():
    z = F.cat([Tensor([]), Tensor([[1, 2]]), Tensor([[0.5, 1.5]])])
    assert z.dtype == np.float32
    np.testing.assert_array_equal(z.numpy(), [[1, 2], [0.5, 1.5]])
    assert F.cat([Tensor([]), Tensor([])]).shape == (0,)


@few
@given(arrays.array_shapes(max_dims=3, min_side=2, max_side=4), st.data())
def test_pad_puts_around_or_cuts_off_and_has_the_right_gradients(shape, data):
    widths = data.draw(st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2)), max_size=len(shape)))
    x = normal(*shape)
    flat = [w for pair in widths for w in pair]                  # the last dimension first
    numpys = [(0, 0)] * (len(shape) - len(widths)) + widths[::-1]
    expected = np.pad(x.data, [(max(a, 0), max(b, 0)) for a, b in numpys], constant_values=7)
    expected = expected[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(expected.shape, numpys))]
    np.testing.assert_array_equal(F.pad(x, flat, value=7).numpy(), expected)
    assert (F.pad(x, flat, value=None).numpy() == F.pad(x, flat, "constant", 0).numpy()).all()
    gradcheck(lambda x: F.pad(x, flat, value=7), x)


# --- Corners ---------------------------------------------------------------------------------------------------------

def test_the_gradient_of_a_power_is_finite_at_zero_where_the_function_is():
    for exponent, expected in ((0, 0), (1, 1), (2, 0), (3, 0)):
        x = Tensor([0.0], True)
        (x ** exponent).sum().backward()
        assert x.grad == expected
    y = Tensor([0.0, 1.0, 2.0], True)
    (0 ** y).sum().backward()
    np.testing.assert_array_equal(y.grad, [0, 0, 0])


def test_a_negative_base_has_a_gradient_for_whole_exponents():
    x = Tensor([-2.0, -3.0], True)
    (x ** 3 + x ** -1).sum().backward()
    np.testing.assert_allclose(x.grad, [12 - 1 / 4, 27 - 1 / 9], rtol=1e-6)


@np.errstate(all="ignore")
def test_a_negative_base_and_a_broken_exponent_give_nan():
    x = Tensor([-2.0], True)
    z = x ** 0.5
    z.backward()
    assert np.isnan(z.item())
    assert np.isnan(x.grad).all()


@few
@given(SHAPES)
def test_tensors_without_elements_pass_through(shape):
    x = normal(*shape)
    z = ((x + 1) * x.exp() - 2 / (x * x + 1)).sum()
    z.backward()
    assert x.grad.shape == shape
    assert z.shape == ()
