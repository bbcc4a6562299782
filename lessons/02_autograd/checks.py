"""Lesson 02: what must hold of the walk back through a computation, and the wrong answers that are known."""

import sys

import numpy as np

from minirewind import tensor
from minirewind.learn import Exercise
from minirewind.tensor import Tensor

LIMIT = sys.getrecursionlimit()             # before any answer can have raised it


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
    try:
        x.accumulate(np.array([10.0, 20.0]))
    except ValueError as reason:
        if "truth value" not in str(reason):
            raise
        raise AssertionError("is there a gradient yet? Of an array, == and `not` ask each number for itself. Whether "
                             "self.grad is None asks: self.grad is None") from reason
    assert not np.array_equal(x.grad, [1, 2]), "the second gradient is lost: grad is still what the first one made it"
    assert not np.array_equal(x.grad, [5.5, 11]), "you took the mean of both. Each use of a tensor counts whole: add"
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
    if not self.grad:
        self.grad = gradient.copy()
    else:
        self.grad = self.grad + gradient
""", says="self.grad is None asks")
accumulate.wrong("""
def accumulate(self, gradient):
    if self.grad is None:
        self.grad = gradient.copy()
""", says="the second gradient is lost")
accumulate.wrong("""
def accumulate(self, gradient):
    return gradient.copy() if self.grad is None else self.grad + gradient
""", says="set the attribute")
accumulate.wrong("""
def accumulate(self, gradient):
    if self.grad is None:
        self.grad = gradient.copy()
    else:
        gradient += self.grad
        self.grad = gradient.copy()
""", says="it belongs to the sender")
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
    assert got is not None, "nothing came back: return the list. (order.reverse() turns it round and returns None)"
    assert isinstance(got, list), f"a list is expected, for it has an order; yours is a {type(got).__name__}"
    assert len(got) > 0, "the list is empty: the tensor you begin with belongs to it too"
    assert isinstance(got[0], Tensor), f"the list holds the tensors themselves; the first in yours is {got[0]!r}"
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
    for z, how in ((x + c, "x + c"), (c + x, "c + x"), (a * c + b, "a * c + b"), (b + c * a, "b + c * a"),
                   (a * a * c, "a * a * c"), (c * (a * a), "c * (a * a)")):
        place = {id(t): i for i, t in enumerate(tensor.topological_order(z))}
        for name, t, of, made in (("a", a, x, "x"), ("b", b, a, "a"), ("c", c, b, "b")):
            assert {id(t), id(of)} <= place.keys(), (
                f"with z = {how}, {name} or {made} is missing from the list. (If you count how often each is used: in "
                f"a * a the one product has a twice among its inputs)")
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
    finally:
        raised = sys.getrecursionlimit() > LIMIT
        sys.setrecursionlimit(LIMIT)
    assert not raised, ("you have raised Python's limit of calls within calls. It is the whole program's, and the next "
                        "computation is deeper still: keep the list of what is still to do yourself")
    assert count >= 5001, f"a chain of 5,000 steps has 5,001 tensors, your list {count}"


class Counted(tuple):
    """The inputs of a Function, that count how often somebody looks at them."""

    looks = 0

    def __iter__(self):
        Counted.looks += 1
        assert Counted.looks < 1000, (
            "14 diamonds on top of each other have 43 tensors that want gradients, and you looked at the inputs of "
            "some of them more than 1,000 times in all: each diamond doubles it. It does not help to strike out "
            "at the end what came twice: who has been seen is not walked from again")
        return super().__iter__()

    def __getitem__(self, index):
        return tuple(self)[index]


@order.check
def test_diamonds_on_diamonds_cost_no_more_than_their_tensors():
    _, top = diamonds(14)
    todo = [top]
    while todo:                                         # once for each way up would take long here too
        function = todo.pop().function
        if function is not None and not isinstance(function.inputs, Counted):
            todo.extend(function.inputs)
            function.inputs = Counted(function.inputs)
    Counted.looks = 0
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


order.wrong("""
def topological_order(root):
    order, seen, stack = [], {id(root)}, [(root, False)]
    while stack:
        tensor, done = stack.pop()
        if done:
            order.append(tensor)
        else:
            stack.append((tensor, True))
            if tensor.function is not None:
                for x in tensor.function.inputs:
                    if x.requires_grad and id(x) not in seen:
                        seen.add(id(x))
                        stack.append((x, False))
    return order[::-1]
""", says="would hand on what has arrived so far")
order.wrong("""
def topological_order(root):
    walk, stack = [], [root]
    while stack:
        tensor = stack.pop()
        walk.append(tensor)
        if tensor.function is not None:
            stack.extend(x for x in tensor.function.inputs if x.requires_grad)
    last = {id(tensor): place for place, tensor in enumerate(walk)}
    return [tensor for place, tensor in enumerate(walk) if last[id(tensor)] == place]
""", says="each diamond doubles it")
order.wrong("""
def topological_order(root):
    import sys
    sys.setrecursionlimit(20000)
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
""", says="you have raised Python's limit")
order.wrong("""
def topological_order(root):
    uses, found = {id(root): 0}, [root]
    for tensor in found:
        inputs = [x for x in (tensor.function.inputs if tensor.function is not None else ()) if x.requires_grad]
        for x in inputs:
            if id(x) not in uses:
                uses[id(x)] = 0
                found.append(x)
            uses[id(x)] += 1
    order, ready = [], [root]
    while ready:
        tensor = ready.pop()
        order.append(tensor)
        inputs = [x for x in (tensor.function.inputs if tensor.function is not None else ()) if x.requires_grad]
        for x in {id(x): x for x in inputs}.values():
            uses[id(x)] -= 1
            if uses[id(x)] == 0:
                ready.append(x)
    return order
""", says="has a twice among its inputs")
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
    return order.reverse()
""", says="turns it round and returns None")


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
    """What backward gives back for x @ y; shapes that do not fit are a message."""
    try:
        got = tensor.MatMul.apply(x, y).function.backward(dz)
    except ValueError as reason:
        more = " (* and + go element by element; a product of matrices is @.)" * ("operands could not" in str(reason))
        raise AssertionError(
            f"your products do not fit: x is {x.shape}, y {y.shape}, dz {dz.shape}. The gradient of x must be "
            f"{x.shape} again, that of y {y.shape}. Which of them must be transposed, and which stands left?{more}"
        ) from reason
    assert got is not None, "nothing came back: return two gradients, dx, dy"
    assert isinstance(got, tuple), "x and y each have a gradient: return dx, dy, and only one array came back"
    assert len(got) == 2, f"x and y each have a gradient: return dx, dy, and {len(got)} came back"
    assert not any(isinstance(each, Tensor) for each in got), (
        "a Tensor came back: self.inputs are Tensors, self.x and self.y the arrays in them. backward is about arrays")
    dx, dy = got
    exchanged = (np.shape(dx), np.shape(dy)) == (y.shape, x.shape) and x.shape != y.shape
    assert not exchanged, "the two are exchanged: first the gradient of x, then that of y"
    for name, each, factor in (("x", dx, x), ("y", dy, y)):
        assert np.shape(each) == factor.shape, (
            f"{name} has the shape {factor.shape}, and its gradient {np.shape(each)}. It is a product of dz {dz.shape} "
            f"and the other factor; which of them must be transposed, and which stands left?")
    return dx, dy


@matmul.check
def test_the_gradients_have_the_shapes_of_the_factors():
    gradients_of_product(leaf(2, 3), leaf(3, 4), np.ones((2, 4)))


@matmul.check
def test_square_matrices_hide_nothing():
    x, y, dz = leaf(3, 3), leaf(3, 3, seed=1), leaf(3, 3, seed=2).data
    dx, dy = gradients_of_product(x, y, dz)
    forgotten = np.allclose(dx, y.data.T) or np.allclose(dy, x.data.T)
    assert not forgotten, "dz is missing: it says how much each element of z matters to the result"
    assert not np.allclose(dx, dz @ y.data), "y must be transposed: x[i, k] meets row k of y, and dz[i, j] its column j"
    assert np.allclose(dx, dz @ y.data.T), "the gradient of x is dz @ y, with y transposed; yours has other numbers"
    assert not np.allclose(dy, x.data @ dz), "x must be transposed: y[k, j] meets column k of x, and dz[i, j] its row i"
    assert not np.allclose(dy, dz @ x.data.T), "for y, dz stands on the right: the rows of x.T @ dz are those of y"
    assert np.allclose(dy, x.data.T @ dz), "the gradient of y is x @ dz, with x transposed; yours has other numbers"


@matmul.check
def test_a_stack_of_matrices_is_transposed_matrix_by_matrix():
    x, y, dz = leaf(5, 2, 3), leaf(5, 3, 4), np.ones((5, 2, 4))
    try:
        tensor.MatMul.apply(x, y).backward(dz)
    except ValueError as reason:
        raise AssertionError(
            "x is (5, 2, 3), five matrices: .T turns ALL dimensions round, to (3, 2, 5). Exchange the last two only: "
            "swapaxes(-1, -2). (And np.dot mixes the matrices, @ takes them one by one)") from reason
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
    return dz * self.y, dz * self.x
""", says="a product of matrices is @")
matmul.wrong("""
def backward(self, dz):
    return dz @ self.y.swapaxes(-1, -2)
""", says="only one array came back")
matmul.wrong("""
def backward(self, dz):
    return self.x.swapaxes(-1, -2) @ dz, dz @ self.y.swapaxes(-1, -2)
""", says="the two are exchanged")
matmul.wrong("""
def backward(self, dz):
    return self.y.swapaxes(-1, -2), self.x.swapaxes(-1, -2)
""", says="It is a product of dz")
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
    x, dz = Tensor([0.0, 1.0, 2.0], True, np.float64), np.array([1.0, 10.0, -1.0])
    function = tensor.Exp.apply(x).function
    z = np.exp(x.data)
    dz.flags.writeable = False                          # as in the engine, where it may be a broadcast
    try:
        dx = function.backward(dz)
    except ValueError as reason:
        if "read-only" not in str(reason):
            raise
        raise AssertionError("dz is not yours to change, others read it: dz * ... makes a new array") from reason
    assert dx is not None, "nothing came back: did you forget the return?"
    dx = np.asarray(dx)
    assert np.allclose(function.z, z), "you changed self.z, which is z's own array, and others read it: make a new one"
    assert not np.allclose(dx, dz), "that is dz itself, as if z were x. Raise x by h: z rises by e^x times h"
    twice = np.allclose(dx, dz * np.exp(z)) or np.allclose(dx, np.exp(z))
    assert not twice, "you took the exponential twice: self.z is e^x already, and that is the slope"
    assert not np.allclose(dx, z), "dz is missing: it says how much each element of z matters to the result"
    assert np.allclose(dx, dz * z), (
        f"for x = {x.data} and dz = {dz} the gradient is dz * e^x, {(dz * z).round(2)}; yours is {dx.round(2)}")


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
exponential.wrong("""
def backward(self, dz):
    return dz
""", says="that is dz itself")
exponential.wrong("""
def backward(self, dz):
    self.z *= dz
    return self.z
""", says="you changed self.z")
exponential.wrong("""
def backward(self, dz):
    dz *= self.z
    return dz
""", says="dz is not yours to change")


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
    try:
        dx = function.backward(np.array([1.5, 2.5]))
    except IndexError as reason:
        raise AssertionError("self.index is about x, which has the shape (2, 3): begin with zeros of that shape, "
                             "self.shape, and not of the shape of dz, (2,)") from reason
    assert dx is not None, "nothing came back: return dx. (np.add.at changes dx, and itself returns nothing)"
    assert np.shape(dx) == (2, 3), (
        f"x has the shape (2, 3), your gradient {np.shape(dx)}: elements that were not taken have a gradient too, "
        f"it is 0")
    assert not np.array_equal(dx, [[0, 1, 0], [0, 1, 0]]), (
        "dz is missing: what was taken matters by its dz, here 1.5 and 2.5, and not by 1")
    assert not np.array_equal(dx, [[0, 1, 0], [0, 2, 0]]), (
        "1.5 has become 1, and 2.5 has become 2: your zeros are whole numbers. zeros(self.shape, dz.dtype)")
    assert np.array_equal(dx, [[0, 1.5, 0], [0, 2.5, 0]]), (
        f"column 1 was taken and dz = [1.5, 2.5]: expected [[0, 1.5, 0], [0, 2.5, 0]], yours is "
        f"{np.asarray(dx).tolist()}")


@getitem.check
def test_what_was_taken_twice_matters_twice():
    x = leaf(4)
    x[np.array([2, 0, 2])].backward(np.array([1.0, 10.0, 100.0]))
    assert not np.array_equal(x.grad, [10, 0, 100, 0]), (
        "element 2 was taken twice, with dz 1 and 100, and only the last one counts in yours. dx[index] = dz "
        "overwrites, and dx[index] += dz adds only once where an index comes twice: np.add.at(dx, index, dz) adds "
        "every time")
    assert not np.array_equal(x.grad, [10, 0, 50.5, 0]), "you took the mean of 1 and 100. Each time counts whole: add"
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
getitem.wrong("""
def backward(self, dz):
    dx = self.xp.zeros_like(dz)
    self.xp.add.at(dx, self.index, dz)
    return dx
""", says="self.index is about x")
getitem.wrong("""
def backward(self, dz):
    dx = self.xp.zeros(self.shape, dz.dtype)
    return self.xp.add.at(dx, self.index, dz)
""", says="itself returns nothing")
getitem.wrong("""
def backward(self, dz):
    dx = self.xp.zeros(self.shape, dz.dtype)
    self.xp.add.at(dx, self.index, 1)
    return dx
""", says="matters by its dz")
getitem.wrong("""
def backward(self, dz):
    dx = self.xp.zeros(self.shape, int)
    dx[self.index] = dz
    return dx
""", says="your zeros are whole numbers")
