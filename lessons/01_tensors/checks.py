"""Lesson 01: what must hold of a tensor's gradients, and the wrong answers that are known."""

import numpy as np

from minirewind import tensor
from minirewind.learn import Exercise
from minirewind.tensor import Tensor


def leaf(*shape, seed=0):
    """A tensor of random numbers that wants its gradient."""
    return Tensor(np.random.default_rng(seed).uniform(0.5, 2, shape), requires_grad=True)


# ------------------------------------------------------------------------------------------------- tensor.Mul.backward

mul = Exercise("tensor.Mul.backward", hints=(
    "z = x * y. You raise x by a little h and leave y alone. By how much does z rise, if y is 5? If y is -2?",
    "The slope for x is the other factor, y, and the slope for y is x. Each is multiplied by dz, because z matters to\n"
    "the result by dz. forward kept both factors on self.",
    """
    dx = dz * ...      # the other factor
    dy = dz * ...
    return dx, dy
    """))


def gradients_of_product(x, y, dz):
    """What backward gives back for x * y: two arrays, and what came in is as it was."""
    x_before, y_before = x.copy(), y.copy()
    function = tensor.Mul.apply(Tensor(x, requires_grad=True), Tensor(y, requires_grad=True)).function
    sent = np.broadcast_to(dz, x.shape)         # as the engine hands it over: perhaps with a stride of 0
    try:
        got = function.backward(sent)
    except ValueError as reason:
        if "read-only" not in str(reason):
            raise
        raise AssertionError("dz is not yours to change: others read the same memory, here with a stride of 0. "
                             "dz * y makes a new array, dz *= y changes the old one") from reason
    assert got is not None, "nothing came back: return two gradients, dx, dy"
    assert isinstance(got, tuple), (
        f"x and y each have a gradient of their own, and nothing adds the two up: return dx, dy. What came back is one "
        f"{type(got).__name__}")
    assert len(got) == 2, f"{len(got)} gradients came back; there are two inputs, x and y"
    assert not any(isinstance(each, Tensor) for each in got), (
        "a Tensor came back: self.inputs are Tensors, self.x and self.y the arrays in them. backward is about arrays")
    for name, each in zip("xy", got):
        assert np.shape(each) == x.shape, (
            f"the gradient for {name} has the shape {np.shape(each)}, and {name} has {x.shape}: each element has a "
            f"slope of its own, and nothing is summed here (@ sums, * does not)")
    for name, each, before in (("x", function.x, x_before), ("y", function.y, y_before)):
        assert np.array_equal(each, before), (
            f"self.{name} has changed: it is the tensor's own array, and others read it. self.{name} * dz makes a new "
            f"one, self.{name} *= dz changes the old one")
    return got


@mul.check
def test_the_slope_for_one_factor_is_the_other_factor():
    x, y = np.array([2.0, 3.0, 4.0]), np.array([5.0, -1.0, 10.0])
    dx, dy = gradients_of_product(x, y, 1.0)
    assert not np.allclose(dx, x), (
        "your gradient for x is x itself. If y is 5, raising x by 1 raises x * y by 5: the slope is the OTHER factor")
    assert np.allclose(dx, y), f"for x = {x}, y = {y} and dz = 1 the gradient for x is y, yours is {dx}"
    assert np.allclose(dy, x), f"for x = {x}, y = {y} and dz = 1 the gradient for y is x, yours is {dy}"


@mul.check
def test_the_slope_is_weighted_by_how_much_the_product_matters():
    x, y, dz = np.array([2.0, 3.0, 4.0]), np.array([5.0, -1.0, 10.0]), np.array([100.0, 0.0, -1.0])
    for name, got, other in zip("xy", gradients_of_product(x, y, dz), (y, x)):
        assert not np.allclose(got, other), (
            f"dz is missing in the gradient for {name}: it says how much each element of z matters to the final "
            f"result, and here it was {dz}. An element with dz = 0 does not matter, so its gradient is 0")
        assert np.allclose(got, dz * other), (
            f"for x = {x}, y = {y} and dz = {dz} the gradient for {name} is dz times the other factor, {dz * other}; "
            f"yours is {got}")


@mul.check
def test_it_agrees_with_small_steps():
    tensor.gradcheck(tensor.Mul.apply, leaf(2, 3), leaf(2, 3, seed=1), name="Mul")


mul.wrong("""
def backward(self, dz):
    return dz * self.x, dz * self.y
""", says="OTHER factor")
mul.wrong("""
def backward(self, dz):
    return self.y, self.x
""", says="dz is missing")
mul.wrong("""
def backward(self, dz):
    return dz * self.y
""", says="each have a gradient of their own")
mul.wrong("""
def backward(self, dz):
    return dz * self.y + dz * self.x
""", says="nothing adds the two up")
mul.wrong("""
def backward(self, dz):
    dx = dz * self.y
    dz *= self.x
    return dx, dz
""", says="dz is not yours to change")
mul.wrong("""
def backward(self, dz):
    self.x *= dz
    self.y *= dz
    return self.y, self.x
""", says="the tensor's own array")
mul.wrong("""
def backward(self, dz):
    return dz @ self.y, dz @ self.x
""", says="@ sums, * does not")
mul.wrong("""
def backward(self, dz):
    x, y = self.inputs
    return dz * y, dz * x
""", says="backward is about arrays")
mul.wrong("""
def backward(self, dz):
    return dz * self.y, self.x
""", says="dz is missing in the gradient for y")


# ------------------------------------------------------------------------------------------------- tensor.Sum.backward

total = Exercise("tensor.Sum.backward", hints=(
    "z = a + b + c. You raise b by h. By how much does z rise? Is that different for a, or for large numbers?",
    "Every element that was summed gets the dz of its sum, unchanged: the gradient of a sum is broadcasting. First\n"
    "give dz its lost dimension back, as a 1; then broadcast it to the shape of x.",
    """
    kept = tuple(1 if i in self.dim else size for i, size in enumerate(self.shape))
    return self.xp.broadcast_to(dz.reshape(...), ...)
    """))


def gradient_of_sum(x, dim, keepdim, dz):
    """What backward gives back for x.sum(dim, keepdim): one number for each that was summed."""
    function = Tensor(x, requires_grad=True).sum(dim, keepdim).function
    try:
        got = function.backward(dz)
    except (ValueError, IndexError) as reason:          # NumPy's AxisError is both
        kept = ". With keepdim=True the sum has kept the summed dimensions as 1s; reshape does not mind" * keepdim
        raise AssertionError(
            f"x.sum({dim}, keepdim={keepdim}) of an x {x.shape}: self.dim is {function.dim}, dz has the shape "
            f"{dz.shape}, and your lines cannot bring it to {x.shape}{kept}.\n{type(reason).__name__}: {reason}"
        ) from reason
    got = got[0] if isinstance(got, tuple) and got else got
    assert got is not None, "nothing came back: did you forget the return?"
    assert np.shape(got) == x.shape, (
        f"x has the shape {x.shape} and your gradient {np.shape(got)}: every number that was in the sum has a gradient "
        f"of its own")
    return np.asarray(got)


@total.check
def test_every_summed_element_gets_the_gradient_of_its_sum():
    x = np.arange(6.0).reshape(2, 3)
    got = gradient_of_sum(x, None, False, np.array(5.0))
    assert not np.allclose(got, 5 / 6), (
        "you divided by the number of elements. That is the gradient of the mean: in a sum, one element that rises by "
        "h raises the whole sum by h")
    assert not np.allclose(got, 5 * x), (
        "you multiplied by x. How much an element counts in a sum does not depend on how large it is")
    assert not np.allclose(got, 1), (
        "dz is missing: an element that rises by h raises the sum by h, and that matters to the result dz = 5 times")
    assert not np.allclose(got, 30), "you multiplied by the number of elements: each raises the sum by its own h only"
    assert np.allclose(got, 5), f"every element of the sum gets dz = 5, yours get {got.tolist()}"


@total.check
def test_sums_of_rows_and_of_columns_are_told_apart():
    x = np.zeros((3, 3))                            # square: a row of gradients would fit as a column too
    dz = np.array([1.0, 2.0, 3.0])
    rows = gradient_of_sum(x, 1, False, dz)
    assert not np.array_equal(rows, [dz, dz, dz]), (
        "x.sum(1) adds up each row, so all of row 0 gets dz[0]; yours gives it to column 0. The dimension that was "
        "summed away must come back as a 1, at its own place, before broadcasting: (3,) to (3, 1)")
    assert not np.allclose(rows, 6), "all three sums got 1 + 2 + 3: each row has a sum and a dz of its own"
    assert np.array_equal(rows, np.array([dz, dz, dz]).T), (
        f"x.sum(1) with dz = {dz}: all of row i gets dz[i]; yours is {rows.tolist()}")
    columns = gradient_of_sum(x, 0, False, dz)
    assert not np.array_equal(columns, np.array([dz, dz, dz]).T), (
        "x.sum(0) adds up each column, so all of column 0 gets dz[0]; yours gives it to row 0. Where the 1 comes back "
        "is said by self.dim: here (3,) to (1, 3)")
    assert np.array_equal(columns, [dz, dz, dz]), (
        f"x.sum(0) with dz = {dz}: all of column j gets dz[j]; yours is {columns.tolist()}")


@total.check
def test_it_works_for_any_dimensions_kept_or_not():
    x = leaf(2, 3, 4)
    for dim in (0, 1, 2, (0, 2), (1, 2), None):
        for keepdim in (False, True):
            gradient_of_sum(x.data, dim, keepdim, x.data.sum(axis=dim, keepdims=keepdim))
            tensor.gradcheck(lambda x, dim=dim, keepdim=keepdim: x.sum(dim, keepdim), x,
                             name=f"x.sum({dim}, keepdim={keepdim})")


total.wrong("""
def backward(self, dz):
    return self.xp.broadcast_to(dz, self.shape)
""", says="must come back as a 1")
total.wrong("""
def backward(self, dz):
    kept = tuple(1 if i in self.dim else size for i, size in enumerate(self.shape))
    count = np.prod([self.shape[i] for i in self.dim])
    return self.xp.broadcast_to(dz.reshape(kept) / count, self.shape)
""", says="the gradient of the mean")
total.wrong("""
def backward(self, dz):
    return np.ones(self.shape)
""", says="dz is missing")
total.wrong("""
def backward(self, dz):
    return dz
""", says="every number that was in the sum")
total.wrong("""
def backward(self, dz):
    for _ in self.dim:
        dz = dz[..., None]
    return self.xp.broadcast_to(dz, self.shape)
""", says="yours gives it to row 0")
total.wrong("""
def backward(self, dz):
    return self.xp.broadcast_to(self.xp.expand_dims(dz, self.dim), self.shape)
""", says="has kept the summed dimensions as 1s")
total.wrong("""
def backward(self, dz):
    return self.xp.broadcast_to(self.xp.expand_dims(dz, self.dim[0]), self.shape)
""", says="your lines cannot bring it to")
total.wrong("""
def backward(self, dz):
    return self.xp.broadcast_to(dz.sum(), self.shape)
""", says="each row has a sum and a dz of its own")
total.wrong("""
def backward(self, dz):
    kept = tuple(1 if i in self.dim else size for i, size in enumerate(self.shape))
    count = np.prod([self.shape[i] for i in self.dim])
    return self.xp.broadcast_to(dz.reshape(kept), self.shape) * count
""", says="you multiplied by the number of elements")


# --------------------------------------------------------------------------------------------- tensor.Permute.backward

permute = Exercise("tensor.Permute.backward", hints=(
    "dims = (2, 0, 1) put old dimension 2 in front. Where does the new dimension 0 have to go to be home again?",
    "Undoing is not doing it again: that works only where two dimensions change places, because exchanging two things\n"
    "twice changes nothing. For each old dimension i, look up at which place of dims it stands.",
    """
    back = tuple(self.dims.index(...) for i in range(...))
    return dz.transpose(back)
    """))


def permuted_back(dz, dims):
    """What backward gives back for permute(*dims)."""
    function = tensor.Permute()
    function.forward(dz.transpose(np.argsort(dims)), dims=dims)
    got = function.backward(dz)
    got = got[0] if isinstance(got, tuple) and got else got
    assert got is not None, "nothing came back: did you forget the return?"
    return got


@permute.check
def test_the_gradient_has_the_shape_of_the_input():
    dx = permuted_back(np.zeros((4, 2, 3)), (2, 0, 1))          # x was (2, 3, 4)
    assert dx.shape != (4, 2, 3), "the gradient still has the shape of the output: its dimensions must go back"
    again = (3, 4, 2)
    assert dx.shape != again, (
        "the same permutation was applied once more. That undoes an exchange of two dimensions, but not (2, 0, 1): "
        "after it, dimension 0 of the output must go to place 2. The inverse permutation is wanted")
    assert dx.shape != (3, 2, 4), (
        "you turned the order of all dimensions round, or exchanged the first and the last: that takes back an .T, but "
        "not (2, 0, 1). The inverse permutation says where each old dimension stands now")
    assert dx.shape == (2, 3, 4), f"the input had the shape (2, 3, 4), your gradient has {dx.shape}"


@permute.check
def test_every_element_comes_home():
    for dims in ((2, 0, 1), (1, 2, 0), (0, 2, 1), (2, 1, 0), (0, 1, 2)):
        x = np.arange(24.0).reshape(2, 3, 4)
        back = permuted_back(x.transpose(dims), dims)
        assert back.shape == x.shape, (
            f"it works for dims = (2, 0, 1), but for {dims} a gradient of shape {x.shape} came back as {back.shape}. "
            f"For each old dimension, look up anew at which place of self.dims it stands")
        assert np.array_equal(back, x), (
            f"for dims = {dims} the shape is right, but the numbers are at other places: reshape only cuts the same "
            f"row of numbers differently. Exchange dimensions with transpose")


permute.wrong("""
def backward(self, dz):
    return dz.transpose(self.dims)
""", says="inverse permutation")
permute.wrong("""
def backward(self, dz):
    return dz
""", says="must go back")
permute.wrong("""
def backward(self, dz):
    return dz.T
""", says="turned the order of all dimensions round")
permute.wrong("""
def backward(self, dz):
    return dz.transpose(1, 2, 0)
""", says="it works for dims = (2, 0, 1), but")
permute.wrong("""
def backward(self, dz):
    dz.transpose(tuple(self.dims.index(i) for i in range(len(self.dims))))
""", says="did you forget the return?")
permute.wrong("""
def backward(self, dz):
    shape = [0] * len(self.dims)
    for place, dim in enumerate(self.dims):
        shape[dim] = dz.shape[place]
    return dz.reshape(shape)
""", says="reshape only cuts")


# -------------------------------------------------------------------------------------------------- tensor.unbroadcast

unbroadcast = Exercise("tensor.unbroadcast", hints=(
    "One number b was added to six places. You raise b by h. At how many places does something rise? And if each\n"
    "place matters to the result by its own number, by how much does the result rise?",
    "What was repeated forward is summed backward. Two cases: dimensions that were put in front disappear\n"
    "(sum them away); dimensions of size 1 that were stretched become 1 again (sum, and keep them).",
    """
    extra = gradient.ndim - len(shape)
    gradient = gradient.sum(axis=tuple(range(extra)))                  # dimensions put in front
    for i, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(axis=..., keepdims=...)            # stretched ones
    return gradient
    """))


@unbroadcast.check
def test_what_was_not_repeated_passes_untouched():
    gradient = np.arange(6.0).reshape(2, 3)
    got = tensor.unbroadcast(gradient, (2, 3))
    assert got is not None, "nothing came back: did you forget the return?"
    assert np.array_equal(gradient.ravel(), range(6)), "you changed the gradient that came in: others still need it"
    assert np.array_equal(got, gradient), (
        f"from (2, 3) to (2, 3) nothing was broadcast, so the gradient comes back as it is, {gradient.tolist()}; yours "
        f"is {np.asarray(got).tolist()}")


@unbroadcast.check
def test_a_row_added_to_every_row_collects_the_sum():
    gradient = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    try:
        got = np.asarray(tensor.unbroadcast(gradient, (3,)))
    except ValueError as reason:
        if "axis" in str(reason):
            raise
        raise AssertionError("b has the shape (3,), its gradient came as (2, 3): six numbers do not become three by "
                             "reshape or by broadcasting. The two in each column are summed") from reason
    assert got.shape != (1, 3), (
        "b has the shape (3,), and yours (1, 3): the dimension that was put in front goes away again. Here without "
        "keepdims")
    assert got.shape != (2,), "b is a row, (3,), put below each other twice: sum over the FIRST dimension, not the last"
    assert got.shape == (3,), f"b has the shape (3,), so its gradient has it too; yours has {got.shape}"
    assert not np.allclose(got, gradient.mean(0)), (
        "you took the mean. b[0] stands in two places, and raising it raises both: their gradients add up")
    assert not np.allclose(got, gradient[0]), (
        "you kept the first row and dropped the others. b[0] was used in every row: each use has a say")
    assert np.allclose(got, [11, 22, 33]), f"the rows of {gradient.tolist()} add up to [11, 22, 33], yours are {got}"


@unbroadcast.check
def test_a_stretched_dimension_becomes_one_again_and_stays():
    gradient = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    got = np.asarray(tensor.unbroadcast(gradient, (2, 1)))
    assert got.shape != (2,), (
        "the stretched dimension is gone: a column (2, 1) was stretched to (2, 3), so the gradient has the shape "
        "(2, 1), not (2,). keepdims=True keeps a 1 in its place")
    assert got.shape == (2, 1), (
        f"a column (2, 1) was stretched to (2, 3); its gradient has the shape (2, 1), yours {got.shape}. "
        f"Dimensions of size 1 are stretched too, not only put in front")
    assert not np.allclose(got, [[2], [20]]), "you took the mean over the stretched dimension; each place has a say"
    assert np.allclose(got, [[6], [60]]), f"the rows of {gradient.tolist()} sum to [[6], [60]], yours: {got.tolist()}"


@unbroadcast.check
def test_both_at_once():
    gradient = np.arange(24.0).reshape(2, 3, 4)
    for shape in ((), (1,), (4,), (1, 4), (3, 1), (1, 1), (3, 4), (1, 3, 1), (2, 1, 4), (2, 3, 1)):
        got = np.asarray(tensor.unbroadcast(gradient, shape))
        assert got.shape == shape, (
            f"from {shape} to (2, 3, 4) and back: expected shape {shape}, yours is {got.shape}. First sum away what "
            f"was put in front, 3 - {len(shape)} = {3 - len(shape)}. Only then do the dimensions of the two stand "
            f"below each other, and ALL that were stretched become 1")
        assert np.isclose(got.sum(), gradient.sum()), (
            f"from {shape} to (2, 3, 4): nothing may get lost, all entries of the gradient together are "
            f"{gradient.sum():g}, of yours {got.sum():g}")


@unbroadcast.check
def test_the_whole_engine_agrees_with_small_steps():
    for shapes in (((2, 3), (3,)), ((2, 1), (1, 3)), ((4, 1, 3), (2, 1)), ((), (2, 2))):
        tensor.gradcheck(lambda x, y: x * y, leaf(*shapes[0]), leaf(*shapes[1], seed=1),
                         name=f"shapes {shapes[0]} * {shapes[1]}")


unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    return gradient.mean(axis=tuple(range(gradient.ndim - len(shape))))
""", says="their gradients add up")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient[0]
    return gradient
""", says="each use has a say")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    return gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
""", says="stretched too, not only put in front")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    return gradient.sum(axis=tuple(i for i, size in enumerate(shape) if size == 1))
""", says="keepdims=True")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    return gradient.reshape(shape)
""", says="six numbers do not become three")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    return gradient.sum(axis=0)
""", says="comes back as it is")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=-1)
    return gradient
""", says="sum over the FIRST dimension")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))), keepdims=True)
    for i, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(axis=i, keepdims=True)
    return gradient
""", says="goes away again")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    for i, size in enumerate(shape):
        if size == 1:
            gradient = gradient.mean(axis=i, keepdims=True)
    return gradient
""", says="the mean over the stretched dimension")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    for i, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(axis=i, keepdims=True)
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=0)
    return gradient
""", says="First sum away what was put in front")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    for i, size in enumerate(shape):
        if size == 1:
            return gradient.sum(axis=i, keepdims=True)
    return gradient
""", says="ALL that were stretched become 1")
unbroadcast.wrong("""
def unbroadcast(gradient, shape):
    while gradient.ndim > len(shape):
        gradient.sum(axis=0)
    return gradient
""", says="loop without an end")
