"""Lesson 02: what must hold of the walk back through a computation, and the wrong answers that are known."""

import numpy as np

from minirewind import tensor
from minirewind.learn import Exercise
from minirewind.tensor import Tensor


def leaf(*shape, seed=0):
    """A tensor of random numbers that wants its gradient."""
    return Tensor(np.random.default_rng(seed).uniform(0.5, 2, shape), requires_grad=True)


# --------------------------------------------------------------------------------------------- tensor.Tensor.accumulate

accumulate = Exercise("tensor.Tensor.accumulate", hints=(
    "x is used in two places, and both send it a gradient. What must x.grad be in the end? And what is it before the\n"
    "first one arrives?",
    "The first gradient becomes grad (as a copy, for whoever sent it may go on using the array), every further one is\n"
    "added to what is there.",
    """
    if self.grad is None:
        self.grad = ...copy()
    else:
        self.grad = self.grad + ...
    """))


@accumulate.check
def test_the_first_gradient_is_kept():
    x = leaf(2)
    try:
        x.accumulate(np.array([1.0, 2.0]))
    except TypeError as reason:
        raise AssertionError("before the first gradient arrives, self.grad is None, and to None nothing can be "
                             "added: the first one needs a case of its own") from reason
    assert x.grad is not None, "after the first gradient, self.grad is still None: set the attribute"
    assert np.array_equal(x.grad, [1, 2]), f"the first gradient was [1, 2], grad is {x.grad}"


@accumulate.check
def test_the_second_gradient_is_added():
    x = leaf(2)
    x.accumulate(np.array([1.0, 2.0]))
    x.accumulate(np.array([10.0, 20.0]))
    assert not np.array_equal(x.grad, [10, 20]), (
        "the second gradient has replaced the first. A tensor that is used twice matters by both uses: they add up")
    assert np.array_equal(x.grad, [11, 22]), f"[1, 2] and then [10, 20] make [11, 22], grad is {x.grad}"


@accumulate.check
def test_what_was_sent_belongs_to_the_sender():
    x, sent = leaf(2), np.array([1.0, 2.0])
    x.accumulate(sent)
    sent[...] = 0                               # the sender uses its array for something else
    assert np.array_equal(x.grad, [1, 2]), (
        "the sender changed its own array afterwards, and your grad changed with it: they are one array. Keep a copy")
    another = np.array([5.0, 5.0])
    x.accumulate(another)
    assert np.array_equal(another, [5, 5]), "you changed the array that was sent to you; it belongs to the sender"


accumulate.wrong("""
def accumulate(self, gradient):
    self.grad = gradient.copy()
""", says="has replaced the first")
accumulate.wrong("""
def accumulate(self, gradient):
    self.grad = self.grad + gradient
""", says="nothing can be added")
accumulate.wrong("""
def accumulate(self, gradient):
    if self.grad is None:
        self.grad = gradient
    else:
        self.grad = self.grad + gradient
""", says="they are one array")


# --------------------------------------------------------------------------------------------- tensor.topological_order

order = Exercise("tensor.topological_order", hints=(
    "Think of recipes: a cake needs dough and icing, both need sugar. You want a list in which everything stands\n"
    "before what it was made of. When exactly may sugar be written down, if you write the list from its end?",
    "Write a tensor down only after everything it was computed from is written down, then turn the list round at\n"
    "the end. Remember whom you have seen. And use a list of your own as a stack: put a tensor on it twice: once to\n"
    "look at its inputs, and once, below them, as a note to write it down when they are done.",
    """
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            ...                                 # write it down
        elif id(tensor) not in seen:
            ...                                 # remember it
            stack.append((tensor, True))        # comes up again after its inputs
            if tensor.function is not None:
                stack.extend((x, False) for x in ... if x.requires_grad)
    return order[::-1]
    """))


def diamonds(count):
    """x, and what is at the end of `count` diamonds on top of each other."""
    x = leaf()
    top = x
    for _ in range(count):
        top = top * 0.25 + top * 0.75
    return x, top


@order.check
def test_a_chain_is_walked_from_its_end():
    x = leaf()
    y = x * 2.0
    z = y.exp()
    got = tensor.topological_order(z)
    assert got is not None, "nothing came back: return the list"
    assert len(got) > 0, "the list is empty: the tensor you begin with belongs to it too"
    assert got[0] is not x, "the list is the wrong way round: backward() begins at the result, so that stands first"
    assert got[0] is z, "the first in the list must be the tensor you begin with"
    missing = [name for name, t in (("x", x), ("y", y)) if not any(t is each for each in got)]
    assert not missing, f"for y = x * 2, z = exp(y) the list lacks {' and '.join(missing)}"


@order.check
def test_every_tensor_stands_there_once():
    x = leaf()
    a = x * 2.0
    z = (a + 1.0) * (a * 3.0)
    got = tensor.topological_order(z)
    times = sum(t is a for t in got)
    assert times < 2, (
        f"in a diamond, the tensor at its lower end is {times} times in the list: once for each way that leads to it. "
        "It would hand on its gradient each time it comes up. Remember which tensors you have seen")
    assert times == 1, "in a diamond, the tensor at its lower end is missing from the list"
    count = sum(t.requires_grad for t in got)
    assert count == 5, f"the diamond has five tensors that want gradients, your list has {count} of them"


@order.check
def test_each_stands_before_everything_it_was_computed_from():
    x = leaf()
    a = x * 2.0
    b = a * 3.0
    c = b.exp()
    for z, how in ((x + c, "x + c"), (c + x, "c + x"), (a * c + b, "a * c + b"), (b + c * a, "b + c * a")):
        place = {id(t): i for i, t in enumerate(tensor.topological_order(z))}
        for name, t, of, made in (("a", a, x, "x"), ("b", b, a, "a"), ("c", c, b, "b")):
            assert {id(t), id(of)} <= place.keys(), f"with z = {how}, {name} or {made} is missing from the list"
            assert place[id(t)] < place[id(of)], (
                f"a = 2x, b = 3a, c = exp(b), z = {how}: in your list {made} stands before {name}, though {name} was "
                f"computed from {made}. When its turn came, {made} would hand on what has arrived so far, without the "
                f"share that comes by way of {name}. A short way and a long one lead here; it must wait for the long")


@order.check
def test_what_wants_no_gradient_is_left_out():
    x, fixed = leaf(2), Tensor([1.0, 2.0])
    got = tensor.topological_order(x * (fixed * 2.0))
    assert not any(t is fixed or not t.requires_grad for t in got), (
        "a tensor with requires_grad=False is in the list: it wants no gradient, and has none to hand on")


@order.check
def test_the_depth_of_a_computation_has_no_limit():
    top = leaf()
    for _ in range(5000):
        top = top + 1.0
    try:
        count = len(tensor.topological_order(top))
    except RecursionError:
        raise AssertionError(
            "a computation of 5,000 steps is too deep for you: a function that calls itself once per step meets "
            "Python's limit of 1,000 calls within calls. Keep the list of what is still to do yourself") from None
    assert count >= 5001, f"a chain of 5,000 steps has 5,001 tensors, your list {count}"


@order.check
def test_diamonds_on_diamonds_cost_no_more_than_their_tensors():
    _, top = diamonds(14)
    count = sum(t.requires_grad for t in tensor.topological_order(top))
    assert count == 14 * 3 + 1, (
        f"14 diamonds on top of each other have 43 tensors that want gradients; your list has {count}")


order.wrong("""
def topological_order(root):
    order = [root]
    if root.function is not None:
        for x in root.function.inputs:
            if x.requires_grad:
                order += topological_order(x)
    return order
""", says="Remember which tensors you have seen")
order.wrong("""
def topological_order(root):
    order, seen, stack = [], set(), [root]
    while stack:
        tensor = stack.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            order.append(tensor)
            if tensor.function is not None:
                stack.extend(x for x in tensor.function.inputs if x.requires_grad)
    return order
""", says="it must wait for the long")
order.wrong("""
def topological_order(root):
    order, seen = [], set()

    def visit(tensor):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            if tensor.function is not None:
                for x in tensor.function.inputs:
                    if x.requires_grad:
                        visit(x)
            order.append(tensor)

    visit(root)
    return order[::-1]
""", says="Python's limit of 1,000 calls")
order.wrong("""
def topological_order(root):
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        tensor, done = stack.pop()
        if done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            if tensor.function is not None:
                stack.extend((x, False) for x in tensor.function.inputs if x.requires_grad)
    return order
""", says="the wrong way round")
order.wrong("""
def topological_order(root):
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        tensor, done = stack.pop()
        if done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            if tensor.function is not None:
                stack.extend((x, False) for x in tensor.function.inputs)
    return order[::-1]
""", says="requires_grad=False")


# ----------------------------------------------------------------------------------------------- tensor.MatMul.backward

matmul = Exercise("tensor.MatMul.backward", hints=(
    "z = x @ y, with x (2, 3) and y (3, 4). dz has the shape of z, (2, 4). dx must have the shape of x. Which product\n"
    "of dz and y has the shape (2, 3)?",
    "z[i, j] is the sum over k of x[i, k] y[k, j]. So x[i, k] matters to every z[i, j] of its row, by y[k, j]: sum\n"
    "dz[i, j] y[k, j] over j. That is dz times y with its last two dimensions exchanged.",
    """
    dx = dz @ self.y.swapaxes(-1, -2)
    dy = ...
    return dx, dy
    """))


def gradients_of_product(x, y, dz):
    """What backward() leaves on x and y after x @ y; shapes that do not fit are a message."""
    try:
        tensor.MatMul.apply(x, y).backward(dz)
    except ValueError as reason:
        raise AssertionError(
            f"your products do not fit: x is {x.shape}, y {y.shape}, dz {dz.shape}. The gradient of x must be "
            f"{x.shape} again, that of y {y.shape}. Which of them must be transposed, and which stands left?"
        ) from reason
    return x.grad, y.grad


@matmul.check
def test_the_gradients_have_the_shapes_of_the_factors():
    gradients_of_product(leaf(2, 3), leaf(3, 4), np.ones((2, 4)))


@matmul.check
def test_square_matrices_hide_nothing():
    x, y, dz = leaf(3, 3), leaf(3, 3, seed=1), leaf(3, 3, seed=2).data
    dx, dy = gradients_of_product(x, y, dz)
    assert not np.allclose(dx, dz @ y.data), "y must be transposed: x[i, k] meets row k of y, and dz[i, j] its column j"
    assert np.allclose(dx, dz @ y.data.T), "the gradient of x is dz @ y, with y transposed; yours has other numbers"
    assert np.allclose(dy, x.data.T @ dz), "the gradient of y is x @ dz, with x transposed; yours has other numbers"


@matmul.check
def test_a_stack_of_matrices_is_transposed_matrix_by_matrix():
    x, y, dz = leaf(5, 2, 3), leaf(5, 3, 4), np.ones((5, 2, 4))
    try:
        tensor.MatMul.apply(x, y).backward(dz)
    except ValueError as reason:
        raise AssertionError(
            "x is (5, 2, 3), five matrices: .T turns ALL dimensions round, to (3, 2, 5). Exchange the last two only: "
            "swapaxes(-1, -2)") from reason
    tensor.gradcheck(tensor.MatMul.apply, leaf(2, 2, 3), leaf(3, 2), name="MatMul of a stack")


matmul.wrong("""
def backward(self, dz):
    return dz @ self.y, self.x @ dz
""", says="your products do not fit")
matmul.wrong("""
def backward(self, dz):
    return dz @ self.y.T, self.x.T @ dz
""", says="turns ALL dimensions round")
matmul.wrong("""
def backward(self, dz):
    if dz.shape[-1] == dz.shape[-2]:
        return dz @ self.y, self.x @ dz
    return dz @ self.y.swapaxes(-1, -2), self.x.swapaxes(-1, -2) @ dz
""", says="y must be transposed")


# -------------------------------------------------------------------------------------------------- tensor.Exp.backward

exponential = Exercise("tensor.Exp.backward", hints=(
    "e to the x is the one function that is its own slope. What did forward keep?",
    "The slope of e^x at x is e^x, and that number is already there, as self.z. Weigh it with dz.",
    "    return dz * ...",
))


@exponential.check
def test_the_slope_of_exp_is_exp():
    x, dz = leaf(4), np.array([1.0, 10.0, 0.0, -1.0])
    tensor.Exp.apply(x).backward(dz)
    z = np.exp(x.data)
    assert not np.allclose(x.grad, dz * np.exp(z)), (
        "you took the exponential twice: self.z is e^x already, and that is the slope")
    assert not np.allclose(x.grad, z), "dz is missing: it says how much each element of z matters to the result"
    assert np.allclose(x.grad, dz * z), f"for x = {x.data} and dz = {dz} the gradient is dz * e^x, yours is {x.grad}"


@exponential.check
def test_exp_agrees_with_small_steps():
    tensor.gradcheck(tensor.Exp.apply, leaf(2, 3), name="Exp")


exponential.wrong("""
def backward(self, dz):
    return dz * self.xp.exp(self.z)
""", says="twice")
exponential.wrong("""
def backward(self, dz):
    return self.z
""", says="dz is missing")


# ---------------------------------------------------------------------------------------------- tensor.GetItem.backward

getitem = Exercise("tensor.GetItem.backward", hints=(
    "x has ten elements and you took three of them. How much do the other seven matter? And if you took one of them\n"
    "twice?",
    "Start from zeros in the shape of x and add dz at the places that were taken. NumPy's dx[index] += dz adds only\n"
    "once where an index comes twice; np.add.at(dx, index, dz) adds every time.",
    """
    dx = self.xp.zeros(self.shape, dz.dtype)
    self.xp.add.at(dx, ..., ...)
    return dx
    """))


@getitem.check
def test_what_was_not_taken_does_not_matter():
    x = leaf(2, 3)
    function = tensor.GetItem()
    function.xp = np
    function.forward(x.data, index=(slice(None), 1))
    dx = function.backward(np.array([1.0, 2.0]))
    assert np.shape(dx) == (2, 3), (
        f"x has the shape (2, 3), your gradient {np.shape(dx)}: elements that were not taken have a gradient too, "
        f"it is 0")
    assert np.array_equal(dx, [[0, 1, 0], [0, 2, 0]]), (
        f"column 1 was taken and dz = [1, 2]: expected [[0, 1, 0], [0, 2, 0]], yours is {np.asarray(dx).tolist()}")


@getitem.check
def test_what_was_taken_twice_matters_twice():
    x = leaf(4)
    x[np.array([2, 0, 2])].backward(np.array([1.0, 10.0, 100.0]))
    assert not np.array_equal(x.grad, [10, 0, 100, 0]), (
        "element 2 was taken twice, with dz 1 and 100, and only the last one counts in yours. dx[index] = dz "
        "overwrites, and dx[index] += dz adds only once where an index comes twice: np.add.at(dx, index, dz) adds "
        "every time")
    assert np.array_equal(x.grad, [10, 0, 101, 0]), f"expected [10, 0, 1 + 100, 0], yours is {x.grad}"


@getitem.check
def test_one_number_out_of_each_row_can_be_taken():
    x = leaf(3, 4)
    rows, columns = np.arange(3), np.array([1, 3, 1])
    x[rows, columns].backward(np.array([1.0, 2.0, 3.0]))
    expected = np.zeros((3, 4))
    expected[rows, columns] = [1, 2, 3]
    assert np.array_equal(x.grad, expected), f"x[[0, 1, 2], [1, 3, 1]]: expected\n{expected}\nyours is\n{x.grad}"


getitem.wrong("""
def backward(self, dz):
    return dz
""", says="not taken have a gradient too")
getitem.wrong("""
def backward(self, dz):
    dx = self.xp.zeros(self.shape, dz.dtype)
    dx[self.index] += dz
    return dx
""", says="adds only once")
