"""Lesson 06: what must hold of a training's parts, and the wrong answers that are known."""

import numpy as np

from minirewind import data, functional, nn, optim, tensor, train
from minirewind.data import Data, Split
from minirewind.learn import Exercise
from minirewind.tensor import Tensor

# ---------------------------------------------------------------------------------------- functional.LogSoftmax.forward

log_softmax = Exercise("functional.LogSoftmax.forward", hints=(
    "The scores are 1000, 1001 and 1002. What are the probabilities? (Compare 0, 1 and 2.)",
    "Subtract the largest score of each row first, with keepdims=True. Call that shifted. The result is shifted minus\n"
    "the logarithm of the sum of e to the shifted. No division, and no logarithm of a probability.",
    """
    shifted = x - x.max(axis=dim, keepdims=True)
    self.z = shifted - self.xp.log(self.xp.exp(...).sum(axis=dim, keepdims=True))
    self.dim = dim
    return self.z
    """))


def log_softmax_of(x, dim=1):
    """What forward gives, its warnings silenced."""
    scores = Tensor(np.array(x, dtype=float), requires_grad=True)
    try:
        with np.errstate(all="ignore"):
            z = functional.log_softmax(scores, dim=dim)
    except ValueError as reason:
        if "broadcast" not in str(reason):
            raise
        raise AssertionError(f"{reason}: the largest scores, or the sums, have lost their dimension. With "
                             f"keepdims=True it stays, as a 1, and each row finds its own") from reason
    assert z.data is not None, "nothing came back: did you forget the return?"
    assert np.array_equal(scores.data, x), (
        "you changed the scores themselves (x -= ...). They belong to the network, and others may read them: make a "
        "new array")
    return z


@log_softmax.check
def test_the_probabilities_add_up_to_one():
    x = [[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]
    z = log_softmax_of(x).data
    assert np.shape(z) == (2, 3), f"scores of shape (2, 3) give as many logarithms, yours have the shape {np.shape(z)}"
    total = np.exp(z).sum(axis=1)
    assert not np.allclose(np.sum(z, axis=1), 1), "these are the probabilities; their logarithms are wanted"
    assert not np.allclose(np.exp(-z).sum(axis=1), 1), (
        "the sign is turned round: this is -log p, the loss. log p is x minus the logarithm of the sum")
    assert not np.allclose(total, [np.exp(4), 1]), (
        "the logarithm is of the sum of the SHIFTED scores, but you subtract it from x as it was: shift both")
    assert not np.allclose(total, 3), "the probabilities of three add up to 3: you took the mean of e^x, not the sum"
    assert not np.isclose(total[1], 9), "you ADDED the logarithm of the sum; a quotient's logarithm is a difference"
    assert np.allclose(total, 1), (
        f"e to your results should add up to 1 in each row (they are probabilities), but adds up to {total}. The sum "
        f"runs along dim, with keepdims=True, so that each row is divided by its own")
    assert np.allclose(z[0] - z[0, 0], [0, 1, 3]), "a score that is larger by 1 has a logarithm that is larger by 1"


@log_softmax.check
def test_large_scores_do_not_overflow():
    z = log_softmax_of([[1.0, 2.0, 1000.0]]).data
    assert not np.isnan(z).any(), (
        "for the scores 1, 2, 1000 you get nan: e to the 1000 is more than a computer can hold. Only differences "
        "count: subtract the largest score of each row first")
    assert np.isfinite(z).all() or not np.isfinite(z[0, 2]), (
        "for the scores 1, 2, 1000 you get minus infinity: the probability e to the -999 was rounded to 0, and then "
        "its logarithm taken. Do not form the probability at all: log(a / b) is log a - log b, and log of e^x is x")
    assert np.isfinite(z).all(), (
        "for the scores 1, 2, 1000 you get minus infinity: e to the 1000 is infinite, and so is the logarithm of the "
        "sum. Subtract the LARGEST score of each row first, so that no e^... is larger than 1")
    assert z.min() < -900, (
        f"for the scores 1, 2, 1000 expected -999, -998, 0, yours is {z.tolist()}: you cut something off, or added a "
        f"tiny number, so that the logarithm stays finite. Nothing need be lost: subtract the largest score of a row")
    assert np.isfinite(log_softmax_of([[2000.0, *[0.0] * 9]]).data).all(), (
        "for the scores 2000, 0, 0, ... (ten of them) it overflows again: the mean of a row may lie far below its "
        "largest score. Subtract the largest")
    assert np.allclose(z, [[-999, -998, 0]]), f"for the scores 1, 2, 1000 expected -999, -998, 0, yours is {z.tolist()}"


@log_softmax.check
def test_each_row_has_its_own_largest_score():
    z = log_softmax_of([[0.0, 1.0], [5000.0, 5001.0], [-5000.0, -5001.0]]).data
    assert np.isfinite(z).all(), (
        "one image's scores are around 5000, another's around -5000, and one of them came out infinite or nan. "
        "Subtract the largest score of each ROW, not of the whole batch, and not the largest magnitude: "
        "x.max(axis=dim, keepdims=True)")
    assert np.allclose(z[0], z[1]), "the scores 0, 1 and 5000, 5001 have the same probabilities: only differences count"


@log_softmax.check
def test_its_gradient_finds_what_forward_kept():
    for dim in (1, 0):
        z = log_softmax_of([[1.0, 2.0, 4.0], [0.5, 0.0, -1.0]], dim)
        assert np.allclose(np.exp(z.data).sum(axis=dim), 1), (
            f"with dim={dim} the probabilities along dimension {dim} should add up to 1: which one it is stands in dim")
        kept = getattr(z.function, "z", None)
        assert kept is not None and hasattr(z.function, "dim"), (        # noqa: PT018
            "backward needs your result: keep it as self.z, and dim as self.dim, before you give it back")
        assert np.allclose(kept, z.data), "self.z is not what you gave back, and backward will compute with it"
    tensor.gradcheck(lambda x: functional.log_softmax(x, dim=1), Tensor(np.array([[1.0, 2.0, 4.0]]),
                                                                         requires_grad=True), name="log_softmax")


log_softmax.wrong("""
def forward(self, x, dim):
    e = self.xp.exp(x)
    self.z, self.dim = self.xp.log(e / e.sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="you get nan")
log_softmax.wrong("""
def forward(self, x, dim):
    e = self.xp.exp(x - x.max(axis=dim, keepdims=True))
    self.z, self.dim = self.xp.log(e / e.sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="Do not form the probability at all")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.min(axis=dim, keepdims=True)
    self.z, self.dim = shifted - self.xp.log(self.xp.exp(shifted).sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="Subtract the LARGEST score")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - abs(x).max(axis=dim, keepdims=True)
    self.z, self.dim = shifted - self.xp.log(self.xp.exp(shifted).sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="not the largest magnitude")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.max(axis=dim, keepdims=True)
    self.z, self.dim = shifted - self.xp.log(self.xp.exp(shifted).mean(axis=dim, keepdims=True)), dim
    return self.z
""", says="you took the mean of e^x")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.max(axis=dim, keepdims=True)
    self.z, self.dim = shifted + self.xp.log(self.xp.exp(shifted).sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="you ADDED the logarithm")
log_softmax.wrong("""
def forward(self, x, dim):
    self.z, self.dim = x - self.xp.log(self.xp.exp(x).sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="so that no e^... is larger than 1")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.mean(axis=dim, keepdims=True)
    self.z, self.dim = shifted - self.xp.log(self.xp.exp(shifted).sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="the mean of a row may lie far below")
log_softmax.wrong("""
def forward(self, x, dim):
    e = self.xp.exp(x - x.max(axis=dim, keepdims=True))
    self.z, self.dim = self.xp.log(e / e.sum(axis=dim, keepdims=True) + 1e-12), dim
    return self.z
""", says="added a tiny number")
log_softmax.wrong("""
def forward(self, x, dim):
    x -= x.max(axis=dim, keepdims=True)
    self.z, self.dim = x - self.xp.log(self.xp.exp(x).sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="you changed the scores themselves")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.max(axis=1, keepdims=True)
    self.z, self.dim = shifted - self.xp.log(self.xp.exp(shifted).sum(axis=1, keepdims=True)), dim
    return self.z
""", says="which one it is stands in dim")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.max(axis=dim)
    self.z, self.dim = shifted - self.xp.log(self.xp.exp(shifted).sum(axis=dim)), dim
    return self.z
""", says="have lost their dimension")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.max()
    self.z, self.dim = shifted - self.xp.log(self.xp.exp(shifted).sum(axis=dim, keepdims=True)), dim
    return self.z
""", says="of each ROW")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.max(axis=dim, keepdims=True)
    self.z, self.dim = shifted - self.xp.log(self.xp.exp(shifted).sum()), dim
    return self.z
""", says="each row is divided by its own")
log_softmax.wrong("""
def forward(self, x, dim):
    e = self.xp.exp(x - x.max(axis=dim, keepdims=True))
    self.z, self.dim = e / e.sum(axis=dim, keepdims=True), dim
    return self.z
""", says="their logarithms are wanted")
log_softmax.wrong("""
def forward(self, x, dim):
    shifted = x - x.max(axis=dim, keepdims=True)
    return shifted - self.xp.log(self.xp.exp(shifted).sum(axis=dim, keepdims=True))
""", says="backward needs your result")


# ------------------------------------------------------------------------------------------------- data.batch_indices

batches = Exercise("data.batch_indices", hints=(
    "There are 20 images, in batches of 8. Which places of the string does step 2 take? Which of them lie in the\n"
    "second epoch, and at which positions?",
    "places = np.arange(first, first + batch_size), and np.divmod(places, count) gives epochs and positions. For\n"
    "every epoch that occurs, fill in its part: permutation(...)[the positions there].",
    """
    first = int(clock.step) * batch_size
    epochs, positions = np.divmod(np.arange(first, first + batch_size), count)
    index = np.empty(batch_size, np.int64)
    for epoch in range(epochs[0], epochs[-1] + 1):
        here = epochs == epoch
        index[here] = permutation(clock.seed, clock.stream, clock.round, epoch, count)[...]
    return index
    """))


def string(steps, count=20, size=8, first=0, **key):
    """What some steps see, one after the other."""
    parts = []
    for step in range(first, first + steps):
        clock = train.Clock(**{"seed": 0, "stream": 0, "round": 0, "batch_size": size, "step": step, **key})
        try:
            part = data.batch_indices(count, size, clock)
        except TypeError as reason:
            if "unhashable" not in str(reason):
                raise
            raise AssertionError("permutation wants one epoch, a number, and got an array of them. Ask it once for "
                                 "each epoch that occurs in the batch") from reason
        assert part is not None, "nothing came back: did you forget the return?"
        assert clock.step == step, "you moved the clock. Who calls this function counts the steps; it only asks"
        assert isinstance(part, np.ndarray), f"expected an array of image numbers, yours is a {type(part).__name__}"
        assert len(part) <= size, (
            f"a batch of {size} was asked for, and yours has {len(part)}: the end of a batch is the beginning of the "
            f"next, and not included")
        assert np.shape(part) == (size,), (
            f"with {count} images and batches of {size}, step {step} has a batch of shape {np.shape(part)}: every "
            f"batch is full. Where an epoch ends inside a batch, go on with the beginning of the next")
        assert np.asarray(part).dtype.kind in "iu", (
            f"numbers of images are whole numbers, yours are {np.asarray(part).dtype}: np.zeros and np.empty make "
            f"numbers with a point, unless they are told np.zeros(batch_size, int)")
        parts.append(part)
    return np.concatenate(parts)


@batches.check
def test_every_image_comes_once_in_each_epoch():
    assert not np.array_equal(string(3), np.concatenate([data.permutation(0, 0, 0, e, 20)[8 * i : 8 * i + 8]
                                                         for e in range(2) for i in range(2)])[:24]), (
        "the end of an epoch that does not fill a batch was left out: those images have no turn in this epoch. Go on "
        "with the beginning of the next")
    seen = string(5)                                                    # 40 places: two epochs of 20
    assert not np.array_equal(seen[:12], data.permutation(0, 0, 0, 0, 20)[8:]), (
        "step 0 sees what belongs to step 1, and the first images of the string have no turn: step s begins at place "
        "s * batch_size")
    for epoch in range(2):
        counts = np.bincount(seen[20 * epoch : 20 * epoch + 20], minlength=20)
        assert counts.max() < 2, (
            f"in epoch {epoch} image {counts.argmax()} comes {counts.max()} times, and image {counts.argmin()} does "
            f"not come at all. In an epoch each has its turn once: take the permutation's places one after the other")
        assert counts.min() == 1, f"in epoch {epoch} image {counts.argmin()} does not come at all"


@batches.check
def test_the_next_epoch_is_shuffled_anew():
    seen = string(5)
    assert not np.array_equal(seen[:20], np.arange(20)), "the images come in their own order: nothing was shuffled"
    assert not np.array_equal(seen[:20], seen[20:40]), (
        "the second epoch has the same order as the first. Then the same images would come together for ever: give "
        "permutation the number of the epoch")


@batches.check
def test_it_is_a_function_of_the_step():
    late = string(1, first=123)
    string(3)
    assert np.array_equal(string(1, first=123), late), (
        "step 123 saw other images when it was asked for again. Whoever goes back to a step must see what was seen "
        "there: nothing may be drawn, everything is computed from clock")
    expected = np.concatenate([data.permutation(0, 0, 0, e, 20) for e in range(52)])[123 * 8 : 124 * 8]
    assert np.array_equal(late, expected), (
        "step 123 of 8 takes places 984 to 991 of the string of epochs: epoch 49, positions 4 to 11. The order of each "
        "epoch is what permutation(clock.seed, clock.stream, clock.round, epoch, count) says, and no other")


@batches.check
def test_other_seeds_and_rounds_see_other_orders():
    for key in ("seed", "stream", "round"):
        assert not np.array_equal(string(3, **{key: 1}), string(3)), (
            f"{key} 1 has the same order as {key} 0: permutation wants to know clock.{key} too")
    expected = data.permutation(5, 6, 7, 0, 20)[:8]
    assert np.array_equal(string(1, seed=5, stream=6, round=7), expected), (
        "seed, stream and round are all used, but not in this order: permutation(seed, stream, round, epoch, count)")


@batches.check
def test_a_batch_may_be_larger_than_the_data():
    seen = string(1, count=3, size=10)
    assert sorted(seen[:3]) == sorted(seen[3:6]) == sorted(seen[6:9]) == [0, 1, 2], (
        f"with 3 images and a batch of 10, three epochs lie in one batch: expected each image three times at least, "
        f"yours is {seen.tolist()}")


batches.wrong("""
def batch_indices(count, batch_size, clock):
    first = clock.step * batch_size % count
    return permutation(clock.seed, clock.stream, clock.round, 0, count)[first : first + batch_size]
""", says="every batch is full")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    places = np.arange(clock.step * batch_size, (clock.step + 1) * batch_size)
    return permutation(clock.seed, clock.stream, clock.round, 0, count)[places % count]
""", says="the same order as the first")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    index = np.zeros(batch_size)
    for i in range(batch_size):
        epoch, position = divmod(clock.step * batch_size + i, count)
        index[i] = permutation(clock.seed, clock.stream, clock.round, epoch, count)[position]
    return index
""", says="unless they are told")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    epoch, batch = divmod(clock.step, count // batch_size)
    order = permutation(clock.seed, clock.stream, clock.round, epoch, count)
    return order[batch * batch_size : (batch + 1) * batch_size]
""", says="was left out")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    return np.random.default_rng(clock.step).integers(0, count, batch_size)
""", says="take the permutation's places one after the other")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    epochs, positions = np.divmod(np.arange(clock.step * batch_size, (clock.step + 1) * batch_size), count)
    return permutation(clock.seed, clock.stream, clock.round, epochs, count)[positions]
""", says="got an array of them")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    places = np.arange(clock.step * batch_size, (clock.step + 1) * batch_size)
    epoch = clock.step * batch_size // count
    return permutation(clock.seed, clock.stream, clock.round, epoch, count)[places % count]
""", says="does not come at all")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    places = np.arange(clock.step * batch_size, (clock.step + 1) * batch_size)
    clock.step += 1
    return np.array([permutation(clock.seed, clock.stream, clock.round, p // count, count)[p % count] for p in places])
""", says="you moved the clock")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    places = np.arange(clock.step * batch_size, (clock.step + 1) * batch_size)
    return np.array([permutation(clock.seed, clock.round, clock.stream, p // count, count)[p % count] for p in places])
""", says="not in this order")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    places = range(clock.step * batch_size, (clock.step + 1) * batch_size)
    return [permutation(clock.seed, clock.stream, clock.round, p // count, count)[p % count] for p in places]
""", says="expected an array of image numbers")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    places = range(clock.step * batch_size, (clock.step + 1) * batch_size + 1)
    return np.array([permutation(clock.seed, clock.stream, clock.round, p // count, count)[p % count] for p in places])
""", says="and not included")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    places = range((clock.step + 1) * batch_size, (clock.step + 2) * batch_size)
    return np.array([permutation(clock.seed, clock.stream, clock.round, p // count, count)[p % count] for p in places])
""", says="step 0 sees what belongs to step 1")
batches.wrong("""
def batch_indices(count, batch_size, clock):
    places = np.arange(clock.step * batch_size, (clock.step + 1) * batch_size)
    return np.array([permutation(clock.seed, 0, 0, p // count, count)[p % count] for p in places])
""", says="permutation wants to know clock.stream")


# ------------------------------------------------------------------------------------------------------ train.one_step

step = Exercise("train.one_step", hints=(
    "loss.backward() adds to the gradients that are there. Where do those of the step before go? And can a step be\n"
    "taken before the gradients are known?",
    "Six lines: the batch; zero_grad; the loss of the model's scores; backward; the optimiser's step with clock.rate;\n"
    "and clock.loss. zero_grad anywhere before backward.",
    """
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), ...)
    loss.backward()
    optimiser.step(...)
    clock.loss = loss.data
    """))


def toy():
    """Two kinds of tiny images, a linear network, and what one_step wants."""
    rng = np.random.default_rng(0)
    split = Split(rng.standard_normal((12, 1, 2, 2)).astype(np.float32), np.arange(12) % 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).initialise(0)
    clock = train.Clock(seed=0, stream=0, round=0, batch_size=4, step=0, rate=0.5)
    return Data(split, split, split, classes=2), model, optim.SGD(model, momentum=0.0), clock


def stepped(model, optimiser, data_, clock):
    """One step; images that are no tensor yet are a message."""
    try:
        train.one_step(model, optimiser, data_, clock)
    except (TypeError, AttributeError) as reason:
        if "NoneType" in str(reason):
            raise AssertionError(
                "you set a gradient to None. The gradients of this network lie in one row, as its weights do (lesson "
                "05), and backward() adds into it: optimiser.zero_grad() fills the row with 0") from reason
        if "order must be" not in str(reason) and "ndarray" not in str(reason):
            raise
        raise AssertionError("a network takes a tensor, and images is an array: model(Tensor(images)). Its scores are "
                             "a tensor, and so is the loss") from reason


def by_hand(data_, weights, momentum, step, rate):
    """Weights after one step from `weights`, and the gradient, worked out with small means."""
    clock = train.Clock(seed=0, stream=0, round=0, batch_size=4, step=step)
    x, y = data.batch(data_, 4, clock)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    row = nn.pack(model)
    row.weights[...] = weights
    functional.cross_entropy(model(Tensor(x)), y).backward()
    return weights - rate * (momentum + row.gradients), row.gradients.copy()


@step.check
def test_the_weights_move_against_the_gradient_of_this_batch():
    data_, model, optimiser, clock = toy()
    row = nn.pack(model)
    before = row.weights.copy()
    expected, gradient = by_hand(data_, before, 0, 0, 0.5)
    stepped(model, optimiser, data_, clock)
    assert not np.array_equal(row.weights, before) or not np.any(row.gradients), (
        "the gradients are there, but the weights have not moved: optimiser.step(clock.rate) comes after "
        "loss.backward()")
    assert not np.array_equal(row.weights, before), (
        "the weights have not moved. Is optimiser.step there, and does it come after loss.backward()? If the gradients "
        "are set to zero between the two, a step of zero is taken")
    assert not np.allclose(row.weights, before - 0.1 * gradient), "you took a rate of your own; it stands in clock.rate"
    far = (before - row.weights) @ gradient / (gradient @ gradient)
    assert np.isclose(far, 0.5, rtol=1e-3) or not np.allclose(row.weights, before - far * gradient, atol=1e-6), (
        f"the direction is right, but you went {far:.3g} times the gradient. It is one step, of clock.rate, here 0.5, "
        f"along the gradient of the mean loss")
    assert np.allclose(row.weights, expected, atol=1e-6), (
        "the weights have moved elsewhere: expected one step of clock.rate against the gradient of this step's batch")


@step.check
def test_the_gradients_of_the_step_before_are_forgotten():
    data_, model, optimiser, clock = toy()
    row = nn.pack(model)
    row.gradients[...] = 100                                            # left over from somebody else
    expected, _ = by_hand(data_, row.weights.copy(), 0, 0, 0.5)
    stepped(model, optimiser, data_, clock)
    assert abs(row.weights).max() < 10 or np.any(row.gradients), (
        "you set the gradients to zero at the end of the step. That helps the next step, and not this one: somebody "
        "else may have left gradients behind. optimiser.zero_grad() before loss.backward()")
    assert abs(row.weights).max() < 10, (
        "the gradients of the step before are still there, and backward() has added this step's to them: the step goes "
        "where all the past points. optimiser.zero_grad() before loss.backward()")
    for clock.step in (1, 2):
        expected, _ = by_hand(data_, row.weights.copy(), 0, clock.step, 0.5)
        stepped(model, optimiser, data_, clock)
        assert np.allclose(row.weights, expected, atol=1e-6), f"step {clock.step} went elsewhere than its batch says"


@step.check
def test_the_step_sees_its_own_batch():
    results = []
    for number in (0, 1):
        data_, model, optimiser, clock = toy()
        clock.step = number
        expected, _ = by_hand(data_, nn.pack(model).weights.copy(), 0, number, 0.5)
        stepped(model, optimiser, data_, clock)
        results.append(nn.pack(model).weights.copy())
        assert np.allclose(results[-1], expected, atol=1e-6), (
            f"step {number} did not learn from its own batch: datasets.batch(data, clock.batch_size, clock, ...)")
    assert not np.allclose(*results), "steps 0 and 1 saw the same images"


@step.check
def test_the_optimiser_takes_the_step():
    data_, model, _, clock = toy()
    optimiser, row = optim.SGD(model, momentum=0.5, weight_decay=0.1), nn.pack(model)
    row.momentum[...] = 1
    weights = row.weights.copy()
    _, gradient = by_hand(data_, weights, 0, 0, 0.5)
    stepped(model, optimiser, data_, clock)
    assert not np.allclose(row.weights, weights - 0.5 * gradient, atol=1e-6), (
        "you moved the weights yourself, against the gradient. The optimiser knows about momentum and decay too: "
        "optimiser.step(clock.rate)")
    assert np.allclose(row.weights, weights - 0.5 * (0.5 + gradient + 0.1 * weights), atol=1e-6), (
        "with a momentum the weights have moved elsewhere than one step of the optimiser leads")
    assert model.training, (
        "the model is in evaluation mode now, and batch norm would learn nothing any more. A step is training; to "
        "evaluate is another exercise")


@step.check
def test_the_loss_is_left_on_the_clock():
    data_, model, optimiser, clock = toy()
    clock.batch_size = 6
    x, y = data.batch(data_, 6, clock)
    loss = functional.cross_entropy(model(Tensor(x)), y).item()
    stepped(model, optimiser, data_, clock)
    assert clock.step == 0, "you moved the clock. Who calls this function counts the steps; it asks which one it is"
    assert not isinstance(clock.loss, Tensor), (
        "clock.loss is a tensor, and holds on to the whole graph of the computation: leave its number there, loss.data")
    got = float(clock.loss)
    assert not np.isnan(got), (
        "clock.loss was not set (or added to what was there, which is nan at first): nobody can see how the training "
        "goes. clock.loss = loss.data")
    assert np.isclose(got, loss, rtol=1e-4), f"the loss of this batch, before the step, is {loss:.4f}; yours: {got:.4f}"


step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data
""", says="the gradients of the step before are still there")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data
    clock.step += 1
""", says="you moved the clock")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(images), labels)
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data
""", says="images is an array")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data
    optimiser.zero_grad()
""", says="zero at the end of the step")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    optimiser.step(clock.rate)
    loss.backward()
    clock.loss = loss.data
""", says="comes after loss.backward()")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.zero_grad()
    optimiser.step(clock.rate)
    clock.loss = loss.data
""", says="the weights have not moved")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(0.1)
    clock.loss = loss.data
""", says="it stands in clock.rate")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(clock.rate)
""", says="clock.loss was not set")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss
""", says="holds on to the whole graph")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    for parameter in model.parameters():
        parameter.data -= clock.rate * parameter.grad
    clock.loss = loss.data
""", says="you moved the weights yourself")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    model.eval()
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data
""", says="is in evaluation mode now")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    for parameter in model.parameters():
        parameter.grad = None
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data
""", says="you set a gradient to None")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = datasets.batch(data, clock.batch_size, clock, optimiser.backend)
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), labels) * clock.batch_size
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data
""", says="the gradient of the mean loss")
step.wrong("""
def one_step(model, optimiser, data, clock):
    images, labels = data.train.images[: clock.batch_size], data.train.labels[: clock.batch_size]
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(Tensor(images)), labels)
    loss.backward()
    optimiser.step(clock.rate)
    clock.loss = loss.data
""", says="the weights have moved elsewhere")


# ------------------------------------------------------------------------------------------------ train.evaluate_steps

accuracy = Exercise("train.evaluate_steps", hints=(
    "250 images in batches of 100. How many batches are that, and how large is the last? If you take the mean of the\n"
    "three accuracies, how much does an image of the last batch count?",
    "Count the hits over all batches, and divide once, at the end. scores.argmax(axis=1) is what the network reads.\n"
    "All of it inside with model.evaluating(), tensor.no_grad().",
    """
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            scores = model(Tensor(images)).data
            correct += int((scores.argmax(axis=1) == ...).sum())
    return 100 * ... / ...
    """))


class Says(nn.Module):
    """A network that reads an image as its first pixel says, and remembers how many it was shown at once."""

    def __init__(self):
        self.scale, self.most = nn.Parameter(np.ones((), np.float32)), 0

    def forward(self, x):
        self.most = max(self.most, len(x.data))
        digit = x.data[:, 0, 0, 0].astype(int)
        return Tensor(np.eye(3, dtype=np.float32)[digit]) * self.scale


def said(read, right):
    """A split whose images will be read so, with these labels."""
    return Split(np.array(read, np.float32).reshape(-1, 1, 1, 1), np.array(right))


def measured(model, split, batch_size=500):
    try:
        got = train.evaluate_steps(model, split, batch_size)
    except (AttributeError, TypeError) as reason:
        if "argmax" in str(reason):
            raise AssertionError("the scores are a tensor. Its array, which has an argmax, is scores.data") from reason
        if "memoryview" not in str(reason):
            raise
        raise AssertionError("a network takes a tensor, and images is an array: model(Tensor(images))") from reason
    except ValueError as reason:
        if "broadcast" not in str(reason):
            raise
        raise AssertionError("there are not as many answers as labels. Each image is a ROW of the scores: the largest "
                             "of each row is scores.argmax(axis=1)") from reason
    assert got is not None, "nothing came back: did you forget the return?"
    return float(got)


@accuracy.check
def test_it_is_the_share_of_hits_in_percent():
    got = measured(Says(), said([2, 0, 1, 1, 1, 2, 0, 0], [2, 0, 1, 1, 1, 2, 2, 2]))
    assert got != 37.5, (
        "the labels were compared with the scores themselves. The digit that is read is the PLACE of the largest "
        "score: argmax(axis=1), not max")
    assert got != 25, "25 percent are read WRONGLY. The share of hits is asked for: =="
    assert got != 50, (
        "one answer was compared with all labels: without an axis, argmax gives the place of the one largest number "
        "of the whole batch. Each image is a row: argmax(axis=1)")
    assert got != 0.75, "0.75 is a share; percent are wanted, 75"
    assert got != 6, "you give back how many were right, 6; of 8 that is 75 percent"
    assert got != 0, (
        "8 images in batches of 500, and you looked at none: a split may be smaller than a batch, and the last batch "
        "mostly is. range(0, len(split), batch_size) begins one for it, too")
    assert got == 75, f"of 8 images 6 are read correctly: expected 75 (percent), yours is {got:g}"


@accuracy.check
def test_a_small_last_batch_counts_as_it_should():
    model, split = Says(), said([0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0])
    got = measured(model, split, 4)
    assert model.most <= 4, (
        f"batches of 4 were asked for, and the network was shown {model.most} images at once. Of a real test set all "
        f"activations together do not fit into memory: batch by batch, batch_size at a time")
    assert got != 250, "the hits of all batches were divided by the size of the last one: divide by len(split)"
    assert got != 75, (
        "of the first batch 4 of 4 are right, of the last 1 of 2, and you say 75: the mean of the two batches. An "
        "image of a small batch must not count more than others: count the hits, and divide once at the end")
    assert got not in (100, 100 * 4 / 6), "the last batch was left out: it has fewer images, but they count"
    assert not np.isclose(got, 100 * 5 / 8), "you divided by the images that would fill all batches; there are only 6"
    assert not np.isclose(got, 100 * 1 / 6), (
        "only the hits of the last batch count in yours: add them up, correct += ..., from 0 before the loop on")
    assert np.isclose(got, 100 * 5 / 6), (
        f"5 of 6 images are read correctly, {100 * 5 / 6:.4f} percent, not rounded; yours is {got:.4f}")


@accuracy.check
def test_it_evaluates_and_leaves_everything_as_it_was():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2)).initialise(0).train()
    images = np.random.default_rng(0).standard_normal((20, 1, 2, 2)).astype(np.float32) + 3
    split = Split(images, np.arange(20) % 2)
    with model.evaluating(), tensor.no_grad():
        expected = 100 * (model(Tensor(images)).data.argmax(axis=1) == split.labels).mean()
    got = measured(model, split, 5)
    assert np.array_equal(model[0].running_mean.data, [0]), (
        "the running statistics of batch norm have moved: the model was measured in training mode. So it learned from "
        "the images it was tested with, and its reading of each depended on the others. with model.evaluating():")
    assert np.isclose(got, expected), f"in evaluation mode the accuracy is {expected:g} percent, yours is {got:g}"
    assert model.training and model[0].training, (              # noqa: PT018
        "the model was in training mode before, and is in evaluation mode now: whoever goes on training will do so "
        "with frozen statistics. with model.evaluating(): puts it back by itself, model.eval() does not")


@accuracy.check
def test_the_network_sees_the_images_as_it_learned_them():
    raw = Split(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1), np.array([0, 1]))
    split = Data(raw, raw, raw, classes=2).test
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).initialise(0)
    model[1].weight.data[...], model[1].bias.data[...] = [[-1], [1]], [0, 0.5]
    got = measured(model, split, 2)
    assert got != 50, (
        "the network was shown pixels from 0 to 255. It learned from pixels whose mean is 0 and whose spread is 1; "
        "datasets.whole makes them so")
    assert got == 100, f"two images of two are read correctly, yours is {got:g} percent"


@accuracy.check
def test_a_model_that_was_evaluating_goes_on_evaluating():
    model = Says().eval()
    measured(model, said([0, 1], [0, 1]))
    assert not model.training, (
        "the model was in evaluation mode before, and you left it in training mode: model.train() at the end does not "
        "know what was before. with model.evaluating(): remembers it")


@accuracy.check
def test_it_writes_no_graph_down():
    class Looks(Says):
        def forward(self, x):
            scores = super().forward(x)
            assert scores.function is None, (
                "the engine wrote down a graph that nobody will walk, and keeps all the activations for it. Evaluate "
                "inside tensor.no_grad()")
            return scores

    assert measured(Looks(), said([0, 1], [0, 1])) == 100, "two of two images are read correctly, 100 percent"


accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="was measured in training mode")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    model.eval()
    with tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
    model.train()
    return 100 * correct / len(split)
""", says="does not know what was before")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = split.images[start : start + batch_size], split.labels[start : start + batch_size]
            correct += int((model(Tensor(images, dtype=np.float32)).data.argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="pixels from 0 to 255")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.max(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="PLACE of the largest score")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=0) == labels).sum())
    return 100 * correct / len(split)
""", says="Each image is a ROW")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    with model.evaluating(), tensor.no_grad():
        images, labels = datasets.whole(split, 0, len(split))
        return 100 * (model(Tensor(images)).data.argmax(axis=1) == labels).mean()
""", says="batch_size at a time")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for number in range(len(split) // batch_size):
            images, labels = datasets.whole(split, number * batch_size, (number + 1) * batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="a split may be smaller than a batch")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct = int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="add them up")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) != labels).sum())
    return 100 * correct / len(split)
""", says="are read WRONGLY")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax() == labels).sum())
    return 100 * correct / len(split)
""", says="without an axis")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(images).data.argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="a network takes a tensor")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="Its array, which has an argmax")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
    return round(100 * correct / len(split), 1)
""", says="not rounded")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    shares = []
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            shares.append((model(Tensor(images)).data.argmax(axis=1) == labels).mean())
    return 100 * np.mean(shares)
""", says="the mean of the two batches")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    model.eval()
    with tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="is in evaluation mode now")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = count = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
            count += min(batch_size, 8)
    return 100 * correct / count
""", says="the images that would fill all batches")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating(), tensor.no_grad():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
    return correct / len(split)
""", says="percent are wanted")
accuracy.wrong("""
def evaluate_steps(model, split, batch_size=500):
    correct = 0
    with model.evaluating():
        for start in range(0, len(split), batch_size):
            images, labels = datasets.whole(split, start, start + batch_size)
            correct += int((model(Tensor(images)).data.argmax(axis=1) == labels).sum())
    return 100 * correct / len(split)
""", says="a graph that nobody will walk")


# --------------------------------------------------------------------------------------------------- train.State.copy

state = Exercise("train.State.copy", hints=(
    "You keep the row of weights under a new name. The next step changes the row in place. What do you find under\n"
    "your name?",
    "np.array(row) makes a copy, np.asarray and a plain = do not. Copy all four rows: weights, momentum, mask,\n"
    "statistics. The step is a number, and needs no copy.",
    """
    v = nn.pack(model)
    return State(v.step, *(np.array(v.backend.to_host(row)) for row in (v.weights, ...)))
    """))


def trained():
    """A small model in the middle of its life: every part of its state is something."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm2d(2)).initialise(0)
    row = nn.pack(model)
    row.step = 7
    row.momentum[...] = np.arange(len(row.momentum)) + 1
    row.statistics[...] = [1, 2, 3, 4]
    mask = np.ones(len(row.mask), bool)
    mask[1] = False
    row.set_mask(mask)
    return model, row


def copied(model):
    kept = train.State.copy(model)
    assert kept is not None, "nothing came back: did you forget the return?"
    assert isinstance(kept, train.State), f"expected a State, yours is a {type(kept).__name__}"
    for name in ("weights", "momentum", "mask", "statistics"):
        assert isinstance(getattr(kept, name), np.ndarray), (
            f"{name} is a {type(getattr(kept, name)).__name__} in your state; a row is kept as an array, np.array(row)")
    return kept


@state.check
def test_what_happens_to_the_model_does_not_happen_to_the_state():
    model, row = trained()
    kept = copied(model)
    before = row.weights.copy()
    row.weights[...] = 99
    assert not (kept.weights == 99).all(), (
        "the model took a step, and the state you kept has moved with it: both look at the same memory. You have kept "
        "a name, not a moment. np.array(...) makes a copy")
    assert np.array_equal(kept.weights, before), "the weights that were kept are not those that the model had"
    row.momentum[...] = row.statistics[...] = 99
    row.mask[...] = False
    for name in ("momentum", "statistics", "mask"):
        got = getattr(kept, name)
        assert not (got == 99).all() and not (name == "mask" and not got.any()), (        # noqa: PT018
            f"the weights were copied, but {name} still looks at the model's own memory: copy every row")


@state.check
def test_nothing_is_left_behind():
    model, row = trained()
    kept = copied(model)
    assert kept.step == 7, f"the model has 7 steps behind it, your state says {kept.step}: the schedule needs to know"
    for name in ("weights", "momentum", "mask", "statistics"):
        got, own = getattr(kept, name), getattr(row, name)
        assert np.shape(got) == own.shape, f"{name} has the shape {own.shape}, in your state it is {np.shape(got)}"
        assert np.array_equal(got, own), (
            f"{name} is not what it was. A state is everything that decides what happens next; with another {name} the "
            f"same run would go elsewhere")
        assert got.dtype == own.dtype, f"{name} is {own.dtype}, in your state {got.dtype}: not the same bits any more"


@state.check
def test_the_way_there_and_back_changes_nothing():
    model, row = trained()
    kept, weights, momentum = copied(model), row.weights.copy(), row.momentum.copy()
    row.weights *= 2
    row.momentum *= 0
    row.step = 20
    kept.restore(model)
    assert np.array_equal(row.weights, weights), "after restore() the weights are others than those that were kept"
    assert np.array_equal(row.momentum, momentum), "after restore() the momentum is another than the one that was kept"
    row.weights *= 3
    kept.restore(model)
    assert np.array_equal(row.weights, weights), (
        "a second restore() gave other weights: the state was changed by the first")


state.wrong("""
def copy(model):
    v = nn.pack(model)
    return State(v.step, v.weights, v.momentum, v.mask, v.statistics)
""", says="You have kept a name, not a moment")
state.wrong("""
def copy(model):
    v = nn.pack(model)
    return State(v.step, *(np.asarray(v.backend.to_host(row)) for row in (v.weights, v.momentum, v.mask, v.statistics)))
""", says="both look at the same memory")
state.wrong("""
def copy(model):
    v = nn.pack(model)
    return State(v.step, np.array(v.weights), v.momentum, v.mask, v.statistics)
""", says="still looks at the model's own memory")
state.wrong("""
def copy(model):
    v = nn.pack(model)
    return State(v.step, np.array(v.weights), np.zeros_like(v.weights), np.array(v.mask), np.array(v.statistics))
""", says="momentum is not what it was")
state.wrong("""
def copy(model):
    v = nn.pack(model)
    return State(0, *(np.array(v.backend.to_host(row)) for row in (v.weights, v.momentum, v.mask, v.statistics)))
""", says="the schedule needs to know")
