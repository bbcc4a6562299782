# %% [markdown]
# # 06 · Train a small network on real images
#
# **Time** 80 minutes · **You need** lessons 02, 04 and 05 · **Paper** how its networks are trained before anything
# is removed
#
# **New words:** softmax, epoch, augmentation, validation, test set, state
#
# Somebody has been at our data. Of the 1,000 digits we learn from, ten have a wrong label now: a 3 is called a 7, a 9
# is called a 1. You cannot see which. You would have to look at all thousand.
#
# In this lesson you train your first real network on this data, mistakes included. At the end you ask the network who
# was changed. (That is the answer to the further question of lesson 00.)

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import functional, pictures, tensor
from minirewind.data import Data, Split
from minirewind.learn import exercise
from minirewind.tensor import Tensor

exercise.begin("06_training")

# %%
digits = mr.data.load("digits")
rng = np.random.default_rng(3)
changed = rng.choice(1000, 10, replace=False)               # do not print these
labels = digits.train.labels.copy()
labels[changed] = (labels[changed] + rng.integers(1, 10, 10)) % 10
data = Data(Split(digits.train.images, labels), digits.validation, digits.test, classes=10, pad=1)
pictures.images(data.train.images[:20], labels[:20])

# %% [markdown]
# A training is a loop. Its body is short, and you will write it: take a batch, compute, walk back, take a step.
# Around it there are three things that many programs get wrong: how the loss is computed, which images a step sees, and
# how one finds out whether it has worked. We take them one by one.
#
# ## 1. The loss that does not overflow
#
# A network gives ten scores, and the scores can be anything. Lesson 02 made probabilities of them: $e^{score}$, divided
# by the sum of all ten. That is called **softmax**. The loss is $-\log p$ of the right digit.

# %%
def softmax_as_in_lesson_02(scores):
    e = np.exp(scores)
    return e / e.sum()


print(softmax_as_in_lesson_02(np.array([1.0, 2.0, 4.0])).round(3))

# %% [markdown]
# **Predict:** and for the scores 1, 2 and 1000?

# %%
prediction = None       # three numbers, like (0, 0, 1)

with np.errstate(all="ignore"):
    exercise.reveal(prediction, tuple(softmax_as_in_lesson_02(np.array([1.0, 2.0, 1000.0])).tolist()))

# %% [markdown]
# $e^{1000}$ has more digits than a computer can hold. It becomes infinity, and infinity divided by infinity is *not a
# number*, `nan`. From there it spreads into every weight, at the next step, and the training is over.
#
# Two thoughts put that right.
#
# - **Only differences count.** Add 5 to all scores, and the probabilities stay the same, for $e^5$ cancels. So subtract
#   the largest score from all. Then the largest is 0, and no $e^{\ldots}$ is larger than 1.
# - **Do not take the logarithm of a quotient.** The loss wants $\log p$, and
#   $\log(e^x / \sum e^{x}) = x - \log \sum e^x$. So a probability that is too small for the computer, $e^{-998}$, never
#   needs to be written down.
#
# ### Exercise 1: the logarithm of the softmax
#
# `x` is an array of scores, `dim` says along which dimension they belong together: a tuple such as `(1,)`, as NumPy's
# `axis=dim` takes it. Keep your result as `self.z`, and `dim` as `self.dim`, because the `backward` of the framework
# needs both, and give the result back.

# %%
@exercise.implement("functional.LogSoftmax.forward")
def forward(self, x, dim):
    """x - log(sum of e^x) along the dimension, without overflow; kept as self.z and self.dim for backward."""
    raise NotImplementedError           # four or five lines


# %%
score = np.linspace(-10, 10, 100)
pairs = np.stack([score, np.zeros(100)], axis=1)                            # a score, and a rival with the score 0
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(score, -functional.log_softmax(Tensor(pairs), dim=1).data[:, 0], color="#1b6ca8")
axis.axhline(0, color="black", linewidth=0.8)
axis.set(xlabel="score of the right one, its rival has 0", ylabel="loss")
plt.show()

# %% [markdown]
# Sure and right costs nothing. Unsure costs $\log 2$. Sure and wrong costs as much as it was sure, without limit. Keep
# that in mind for the end.
#
# And its gradient? The scores 1, 2 and 4 become the probabilities 0.042, 0.114 and 0.844. Say the first is the right
# one. **Predict:** how much does each score matter to the loss? (Raise the third one a little: the loss rises, and by
# less than you raised it.)

# %%
prediction = None       # three numbers, like (0.1, 0.2, 0.3)

scores = Tensor(np.array([[1.0, 2.0, 4.0]]), requires_grad=True)
functional.cross_entropy(scores, np.array([0])).backward()
exercise.reveal(prediction, tuple(scores.grad[0].round(3).tolist()))

# %% [markdown]
# The probabilities again, less 1 at the right one: $p$ **minus the truth.** Whatever stands below in the network hears
# exactly how wrong it was, for each digit, and the three numbers add up to zero: what one score gains the others lose.
# Whoever is sure and right hears next to nothing, and learns next to nothing from that image.
#
# ## 2. Which images does a step see?
#
# A batch of 64 out of 1,000. The next step takes the next 64, and so on, until all have had their turn: this is one
# **epoch**. Then they are shuffled anew. Why anew? If the same images came together again and again, the network would
# learn their company.
#
# Most programs keep a random generator, and its state moves on with every batch. Then nobody can say what step 900 sees
# without going through all 899 before it. In this course we shall go back to step 900 again and again. So here **the
# order is a function**: `mr.data.permutation(seed, stream, round, epoch, count)` says in which order the images come in
# that epoch, whoever asks and whenever. (`stream` and `round` are 0 for now.)

# %%
print(mr.data.permutation(0, 0, 0, 0, 8), "epoch 0")
print(mr.data.permutation(0, 0, 0, 1, 8), "epoch 1")
print(mr.data.permutation(0, 0, 0, 0, 8), "epoch 0, asked again")

# %% [markdown]
# And 1,000 is not a multiple of 64. A batch of 40 at the end of every epoch would have a noisier gradient and less
# reliable statistics. So we do as the paper's authors: **string the epochs together**, and cut the string into batches.
# Some batches then lie half in one epoch, half in the next.
#
# Here are 20 images and batches of 8. Each row is a batch, each colour an epoch.

# %%
def string(batch_size):
    clock = mr.train.Clock(seed=0, stream=0, round=0, batch_size=batch_size)
    rows = []
    for step in range(60 // batch_size):
        clock.step = step
        rows.append(mr.data.batch_indices(20, batch_size, clock))
    epochs = np.arange(len(rows) * batch_size).reshape(-1, batch_size) // 20
    axis = plt.figure(figsize=(0.5 * batch_size + 1, 0.42 * len(rows) + 0.6), layout="constrained").gca()
    axis.imshow(epochs, cmap="Pastel1", vmin=0, vmax=8, aspect="auto")
    for (row, column), image in np.ndenumerate(np.array(rows)):
        axis.text(column, row, image, ha="center", va="center", fontsize=9)
    axis.set(xticks=[], yticks=range(len(rows)), ylabel="step")
    plt.show()


pictures.slide(string, batch_size=(4, 20, 8))

# %% [markdown]
# ### Exercise 2: the batch of a step
#
# Step `clock.step` takes places `step * batch_size` to `(step + 1) * batch_size` of the string, the end not included.
# Place `p` lies in epoch `p // count`, at position `p % count` of that epoch. (`np.divmod` gives both.) So a batch may
# need the permutations of two epochs, or of more, if it is larger than the data.
#
# Give back an array of `batch_size` image numbers. `clock` also has `seed`, `stream` and `round`, which `permutation`
# wants to know. Your function sees the names of `data.py`, so you may call `permutation(...)` as it stands.

# %%
@exercise.implement("data.batch_indices")
def batch_indices(count, batch_size, clock):
    """(B,) which of `count` training images the step uses.

    The epochs are strung together and cut into batches, so that every batch is full: some straddle two epochs.
    """
    raise NotImplementedError           # four to eight lines


# %% [markdown]
# One more thing happens to an image on its way. It is shifted by a pixel, or not, in each direction: with a border of
# one pixel around it, a window of 8 × 8 is cut out at random. A shifted 3 is a 3. So from each image we have nine. This
# is called **augmentation**. (Photographs are mirrored too. Digits are not. Why?)
#
# The shift, too, is a function of the seed and the step. Here is one image, as twenty epochs of a training see it (on
# grey paper, so that you see its edge):

# %%
clock = mr.train.Clock(seed=0, stream=0, round=0, batch_size=1000)
seen = []
for clock.step in range(20):                                                # with 1,000 in a batch, a step is an epoch
    order = mr.data.batch_indices(1000, 1000, clock)
    x, _ = mr.data.batch(data, 1000, clock)
    seen.append(x[np.flatnonzero(order == 3)[0], 0] - x.min() + 0.4)
pictures.images(seen, [f"epoch {epoch}" for epoch in range(20)])

# %% [markdown]
# ## 3. The body of the loop
#
# ### Exercise 3: one step
#
# These are the parts, under the names by which `train.py` knows them. Put them together, in the right order:
#
# - `datasets.batch(data, clock.batch_size, clock, optimiser.backend)` gives `images, labels`.
# - `model(Tensor(images))` gives the scores, `functional.cross_entropy(scores, labels)` the loss, a tensor.
# - `loss.backward()` *adds* to the gradients (lesson 02). `optimiser.zero_grad()` forgets those of the step before.
# - `optimiser.step(clock.rate)` takes the step.
# - `clock.loss = loss.data` leaves the loss where others can read it.

# %%
@exercise.implement("train.one_step")
def one_step(model, optimiser, data, clock):
    """Batch, forward, backward, update."""
    raise NotImplementedError           # six lines


# %% [markdown]
# ## 4. Has it worked?
#
# Of a student you do not ask the exercises that were solved in class. So the images are in three parts:
#
# - the **training** images, which the network learns from,
# - the **validation** images, by which *we* choose: how long to train, which rate, how much to remove,
# - the **test set**, which nobody touches until the end.
#
# Why is one of the last two not enough? If you try a hundred settings and keep the best on the validation images, it is
# best partly by luck, *on those images*. Of the true quality only images know something that had no part in choosing.
#
# ### Exercise 4: the accuracy
#
# Count the images whose largest score is the one of their label, batch by batch, and give back the share in
# **percent**.
#
# - `datasets.whole(split, start, stop)` gives `images, labels` of a part, not shifted. It stops at the end by itself,
#   so the last batch may be smaller.
# - Inside `with model.evaluating(), tensor.no_grad():` batch norm uses what it remembers, and the engine writes
#   nothing down. Afterwards everything is as it was.

# %%
@exercise.implement("train.evaluate_steps")
def evaluate_steps(model, split, batch_size=500):
    """The share of images whose largest score is their label's, in percent, batch by batch."""
    raise NotImplementedError           # seven lines or so


# %% [markdown]
# ## 5. Keeping a moment
#
# A training takes hours, in the paper. Whoever wants to go back to step 500, in order to go on from there in another
# way, must have kept everything that decides what happens next.
#
# **Predict:** which of these six can be left out here? The `weights`, the `momentum`, the running `statistics` of batch
# norm, the number of the `step`, the `order` of the images, the random `shifts` of the augmentation.

# %%
prediction = None       # a set of words, like {"step", "momentum"}

exercise.reveal(prediction, {"order", "shifts"})

# %% [markdown]
# Those two are functions of the seed and the step. The other four are a **state**: what the past has left behind, and
# nothing else knows. A fifth belongs to it, from lesson 07 on. These are its parts:

# %%
print("State" + str(tuple(inspect.signature(mr.train.State).parameters)))

# %% [markdown]
# (The fourth says which weights have been removed. Until lesson 07 all are there.)
#
# ### Exercise 5: a copy of the state
#
# `v = nn.pack(model)` gives the rows of lesson 05, under the same five names: `v.step`, `v.weights` and so on. Give
# back a `State` of these five. `v.backend.to_host(row)` is a row as a NumPy array, wherever the model is; on a CPU it
# is the row itself. What happens to the model later must not happen to the state.
#
# (`copy` belongs to the class, not to an object: it is called as `State.copy(model)`, and there is no `self`.)

# %%
@exercise.implement("train.State.copy")
def copy(model):
    """The model's state now; what happens to the model later does not touch it."""
    raise NotImplementedError           # two to four lines


# %% [markdown]
# ## 6. Train
#
# The network is the smallest ResNet: eight layers, 19,890 parameters. `mr.train.train` is the loop around your step. It
# is a *generator*: it trains as long as somebody asks for the next record, and we ask in a `for`.

# %%
steps = exercise.scale(smoke=60, laptop=450)
model = mr.models.resnet(8, 8, input_shape=data.input_shape, classes=10).initialise(seed=0)
recipe = mr.train.Recipe(steps, batch_size=64)
middle, records = None, []

for record in mr.train.train(model, data, recipe, seed=0, report_every=steps // 18):
    records.append((record.step, record.loss, record.rate, mr.train.evaluate(model, data.validation)))
    if record.step == steps // 2:
        middle = mr.train.State.copy(model)                                 # just before the first drop

step, loss, rate, accuracy = np.array(records).T
figure, axes = plt.subplots(3, 1, figsize=(6.5, 5), layout="constrained", sharex=True)
axes[0].semilogy(step, rate, color="black", drawstyle="steps-pre")
axes[1].plot(step, loss, "o-", color="#d95f02", markersize=3)
axes[2].plot(step, accuracy, "o-", color="#1b6ca8", markersize=3)
for axis, name in zip(axes, ("learning rate", "loss of a batch", "validation, %")):
    axis.set(ylabel=name)
    axis.axvline(steps // 2, color="grey", linewidth=0.8, linestyle=":")
axes[2].set(xlabel="step", ylim=(50, 100))
plt.show()
print(f"training {mr.train.evaluate(model, data.train):.1f} %, validation {accuracy[-1]:.1f} %, "
      f"test {mr.train.evaluate(model, data.test):.1f} %")

# %% [markdown]
# The training images are the exercises that were solved in class, so they are read best, or nearly. When that number
# still rises and the one for validation does not, the network has begun to learn by heart. (It is called
# *overfitting*.)
#
# The machine of lesson 02 read some 95 %. These are all the test digits that the network reads wrongly (or the first
# twenty). Would you have known?

# %%
def scores_of(split):
    with model.evaluating(), tensor.no_grad():
        images, _ = mr.data.whole(split, 0, len(split))
        return model(Tensor(images))


read = scores_of(data.test).data.argmax(axis=1)
wrong = np.flatnonzero(read != data.test.labels)[:20]
pictures.images(data.test.images[wrong], [f"{read[i]}, not {data.test.labels[i]}" for i in wrong])

# %% [markdown]
# ### The same bits
#
# We kept the state in the middle, before the first drop. Go back to it and train the second half again. **Predict:** of
# the 19,890 parameters, how many will end up different from the first time?

# %%
prediction = None       # a number

end = mr.train.State.copy(model)
again = list(mr.train.train(model, data, recipe, seed=0, start=middle))
print(f"from step {middle.step} to step {again[-1].step} once more")
exercise.reveal(prediction, int((mr.train.State.copy(model).weights != end.weights).sum()))

# %% [markdown]
# None. Not one bit. This is the ground on which the rest of the course stands: when in lesson 09 two trainings end
# differently, it is because of what we changed, and nothing else.
#
# ### What if you forget `eval`?
#
# The most common mistake in other people's programs: to measure the accuracy while batch norm is still in training
# mode. No error message. Mostly not even a bad result. Let us do it on purpose: once with the images in any order, once
# sorted, all zeros first, then all ones.

# %%
before = mr.train.State.copy(model)
images, right = mr.data.whole(data.validation, 0, len(data.validation))
results = {}
for name, order in (("as they come", np.arange(len(right))), ("sorted by digit", np.argsort(right, kind="stable"))):
    model.train()
    batches = [order[i : i + 30] for i in range(0, len(order), 30)]
    hits = sum((model(Tensor(images[batch])).data.argmax(axis=1) == right[batch]).sum() for batch in batches)
    results[f"training mode,\n{name}"] = 100 * hits / len(right)
    before.restore(model)
results["as it should be"] = mr.train.evaluate(model, data.validation)

figure, axis = plt.subplots(figsize=(6, 2.2), layout="constrained")
bars = axis.barh(list(results), list(results.values()), color=("#d95f02", "#d95f02", "#1b6ca8"))
axis.bar_label(bars, fmt="%.1f %%", padding=3)
axis.set(xlim=(0, 115), xlabel="read correctly, %")
axis.invert_yaxis()
plt.show()

# %% [markdown]
# Same network, same images, another order. A batch full of threes has a mean that is a three. Batch norm subtracts it,
# and what is left of each image is only how it differs from the others. (There was a second harm that you do not see:
# the running statistics were moved by the images we wanted to test with. So we put the state back.)
#
# ## 7. Who was changed?
#
# Now ask the network. It has learned from ten wrong labels, as from all others. But 990 labels told it the truth, and
# so an image whose label is wrong has a large loss: *sure and wrong*. Sort the training images by their loss.
#
# **Predict:** how many of the ten are among the ten with the largest loss?

# %%
prediction = None       # a number

log_p = functional.log_softmax(scores_of(data.train), dim=1).data                           # (1000, 10)
losses = -log_p[np.arange(1000), data.train.labels]
suspects = np.argsort(-losses)[:10]
exercise.reveal(prediction, len(set(suspects) & set(changed)))
pictures.images(data.train.images[suspects],
                [f"called {labels[i]},\n" + (f"is {digits.train.labels[i]}" if i in changed else "rightly")
                 for i in suspects])

# %%
figure, axis = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
axis.hist([np.delete(losses, changed), losses[changed]], 40, stacked=True, color=["#aaaaaa", "#d95f02"],
          label=["left alone", "changed"])
axis.set(yscale="log", xlabel="loss of one training image", ylabel="images")
axis.legend()
plt.show()

# %% [markdown]
# This is how real data sets are cleaned: train, sort by loss, and look at the first hundred by eye.

# %% [markdown]
# ## What you built
#
# - `LogSoftmax.forward`: a loss that does not overflow.
# - `batch_indices`: which images a step sees, as a function that can be asked for any step.
# - `one_step`: the body of the loop.
# - `evaluate_steps`: how good it is, measured without touching it.
# - `State.copy`: a moment that can be brought back.
#
# With lessons 04 and 05 that is a whole training. All networks of the lessons to come are trained by it.

# %%
exercise.status("06")

# %% [markdown]
# ## A further question
#
# The network gave the changed images a large loss because it had not *believed* their labels. Train it ten times as
# long, and it will learn them by heart, as single exceptions. Where in its 19,890 weights will it keep them? And when
# we remove nine tenths of the weights in the coming lessons, what do you think it will forget first?
