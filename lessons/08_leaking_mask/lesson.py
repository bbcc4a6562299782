# %% [markdown]
# # 08 · The mask that leaks
#
# **Time** 60 minutes · **You need** lesson 05 (momentum, weight decay) and lesson 07 · **Paper** what it takes for
# granted: that a pruned weight stays 0, however long the network is trained on. This lesson is about the word *stays*
#
# **New words:** leak, revived
#
# There is a public notebook about pruning. It prunes a network to a tenth, trains on, and reports a fine accuracy.
# There is no error message and no warning. Somebody counted the weights at the end: the network had grown back to 98
# % of its weights. The mask had been forgotten for one line. What the notebook had measured was a dense network.
#
# Bugs of this kind are the most common ones in this field. They never crash, and they have a nasty property: **most of
# them make the results better.** You cannot find them by looking at the accuracy. You find them by counting. Five are
# hidden below, each as it is really written. You will tell them apart by one plot.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import pictures
from minirewind.learn import exercise
from minirewind.train import State

exercise.begin("08_leaking_mask")

# %% [markdown]
# ## 1. Count
#
# In lesson 07 we asked the *mask* how many weights are left. But a mask says what somebody wanted. Whether it is so,
# the weights say: count those that are not 0.
#
# ### Exercise 1: `density`
#
# `mask` says of every parameter whether it is there, `prunable` whether it may be pruned at all. Both are rows of
# `True` and `False`, as long as the network. The density is a share *of the prunable ones*. (If nothing is prunable,
# nothing was pruned: it is 1.)

# %%
@exercise.implement("prune.density")
def density(mask, prunable):
    """The kept share of the prunable weights; 1 where nothing is prunable."""
    raise NotImplementedError           # one or two lines


# %% [markdown]
# The same function answers both questions. `density(state.mask, prunable)` is what is wanted, and
# `density(state.weights != 0, prunable)` is what is true. A mask **leaks** if the two differ.

# %%
data = mr.data.load("digits")
model = mr.models.lenet_300_100(input_shape=(1, 8, 8))
recipe = mr.train.Recipe(steps=exercise.scale(smoke=200, laptop=450), batch_size=64)
for _ in mr.train.train(model, data, recipe, seed=0):
    pass
trained = State.copy(model)
prunable = mr.nn.pack(model).prunable
print(f"{mr.train.evaluate(model, data.test):.1f} % correct")
print("density:", mr.prune.density(trained.weights != 0, prunable))

# %% [markdown]
# ## 2. A healthy plot
#
# The experiment for this lesson: three times, keep a third of what is left, and train on for some steps. After **every
# single step** we count. We write the training ourselves this time, so that there is something to get wrong. An
# *optimiser*, in this framework, is a thing with a method `step(rate)`. Ours has a method `prune(keep)` as well, and a
# mask of its own in `self.mask`.
#
# `self.v` are the flat vectors of the network: `weights`, `gradients`, `momentum`. You know `update` from lesson 05,
# and `one_step` with its clock from lesson 06. (`wind` sets the clock to a step and its rate.)

# %%
class Careful(mr.optim.SGD):
    """SGD with a mask, as it should be."""

    def __init__(self, model):
        super().__init__(model)
        self.v = self.vectors
        self.mask = np.ones(prunable.shape, bool)

    def choose(self, keep):
        """Global magnitude pruning, as in lesson 07; what is not prunable is kept."""
        mask = self.mask.copy()
        mask[prunable] = mr.prune.global_magnitude(self.v.weights[prunable], self.mask[prunable], keep)
        return mask

    def update(self, rate):
        self.v.momentum[...] = 0.9 * self.v.momentum + self.v.gradients + 0.0002 * self.v.weights
        self.v.weights[...] -= rate * self.v.momentum

    def prune(self, keep):
        self.mask = self.choose(keep)
        self.v.weights[~self.mask] = 0
        self.v.momentum[~self.mask] = 0

    def step(self, rate):
        self.update(rate)
        self.v.weights[~self.mask] = 0
        self.v.momentum[~self.mask] = 0


# %%
steps = exercise.scale(smoke=30, laptop=60)


def watched(kind):
    """Prune and train three times, and count at once: (step, density, size of what should be 0) again and again."""
    trained.restore(model)
    model.train()
    optimiser = kind(model)
    clock = optimiser.backend.clock(mr.train.Clock(seed=0, stream=0, round=1, batch_size=64))
    counts = []

    def count(step):
        weights = optimiser.v.weights
        counts.append((step, mr.prune.density(weights != 0, prunable), float(abs(weights[~optimiser.mask]).sum())))

    for i in range(3 * steps):
        if i % steps == 0:
            count(i)
            optimiser.prune(mr.prune.keep_count(prunable.sum(), (1 / 3) ** (1 + i // steps)))
            count(i)
        mr.data.wind(clock, data, step=i, rate=0.1)
        mr.train.one_step(model, optimiser, data, clock)
        count(i + 1)
    return np.array(counts), mr.train.evaluate(model, data.test)


def picture_of_counts(runs):
    """Above: density over steps, the healthy one in grey. Below: how large the weights are that should be 0."""
    _, axes = plt.subplots(2, len(runs), figsize=(2.7 * len(runs) + 0.6, 4.2), sharex=True, squeeze=False,
                           layout="constrained")
    for (name, (counts, _)), (above, below) in zip(runs.items(), axes.T):
        above.plot(*careful[0].T[:2], color="#bbbbbb", linewidth=5)
        above.plot(*counts.T[:2], color=pictures.WARM)
        above.set(title=name, ylim=(0.025, 1.3), yscale="log")
        above.set_yticks([1 / 27, 1 / 9, 1 / 3, 1], ["1/27", "1/9", "1/3", "1"])
        above.minorticks_off()
        below.plot(counts[:, 0], counts[:, 2], color=pictures.COOL)
        below.set(xlabel="step", ylim=(0, 1.1 * counts[:, 2].max() + 1))
    axes[0, 0].set_ylabel("weights that are not 0")
    axes[1, 0].set_ylabel("size of what should be 0")
    plt.show()


careful = watched(Careful)
picture_of_counts({"healthy": careful})

# %% [markdown]
# Above: the density, counted from the weights. It falls three times, to a third, a ninth, a 27th, and in between
# it is *flat*. Below: the sizes of all weights that the mask has pruned, added up. It is 0 at every step.
#
# ## 3. Five careless people
#
# Each of them has changed a line or two. Each version looks all right, runs without an error, and is wrong. Read them
# slowly.

# %%
class Anna(Careful):
    """ "I prune, and then I start a new optimiser and train as always." """

    def prune(self, keep):
        self.mask = self.choose(keep)
        self.v.weights[~self.mask] = 0
        self.v.momentum[...] = 0

    def step(self, rate):
        self.update(rate)


class Ben(Careful):
    """ "A pruned weight gets no gradient, so it cannot move." """

    def prune(self, keep):
        self.mask = self.choose(keep)
        self.v.weights[~self.mask] = 0

    def step(self, rate):
        self.v.gradients[~self.mask] = 0
        self.update(rate)


class Cleo(Careful):
    """ "I set the pruned ones to 0, right after pruning, and again after each step." """

    def prune(self, keep):
        self.mask = self.choose(keep)
        self.clear()

    def step(self, rate):
        self.update(rate)
        self.clear()

    def clear(self):
        weights = self.v.weights[prunable]
        weights[~self.mask[prunable]] = 0


class Dan(Careful):
    """ "Two thirds go: so the threshold is the magnitude that two thirds of all are below." """

    def choose(self, keep):
        magnitudes = abs(self.v.weights)
        return ~prunable | (magnitudes >= np.quantile(magnitudes[prunable], 2 / 3))


class Eva(Careful):
    """ "I need no mask. I remember the threshold: what is below it is pruned." """

    def prune(self, keep):
        kept = self.choose(keep) & prunable
        self.threshold = abs(self.v.weights[kept]).min()
        self.clear()

    def step(self, rate):
        self.update(rate)
        self.clear()

    def clear(self):
        self.mask = ~prunable | (abs(self.v.weights) >= self.threshold)
        self.v.weights[~self.mask] = 0
        self.v.momentum[~self.mask] = 0


# %% [markdown]
# Here are their five plots, in another order. The grey line is the healthy one.

# %%
people = [Anna, Ben, Cleo, Dan, Eva]
whose = [people[i] for i in np.random.default_rng(6).permutation(5)]
runs = [watched(person) for person in whose]
picture_of_counts({f"plot {place}": run for place, run in enumerate(runs, 1)})

# %% [markdown]
# **Predict, or rather detect: whose is whose?** Five letters, the person of plot 1 first, then of plot 2, and so on.
# Take your time: this is the lesson. Some questions that help:
#
# - In which plot did the density never fall, not even for a moment?
# - In which did it fall, and jump up again at the very next step? Of those: do the revived weights go on growing
#   (below), or do they move for a moment and then stay where they are?
# - In which plot is everything all right at first, and later nothing more happens?
# - In which plot does it go *down* between the prunings, slowly?

# %%
prediction = None       # for example "ABCDE"

exercise.reveal(prediction, "".join(person.__name__[0] for person in whose))

# %% [markdown]
# ## 4. What happened
#
# - **Anna** pruned the weights once, and never again. At the first step every gradient moves its weight, and the pruned
#   ones are weights like all others. The mask was **not applied again after the update**. They go on growing, since
#   they learn. This is the notebook with its 98 %.
# - **Ben** masked the gradient. But an update is more than the gradient. The **momentum** from before the pruning
#   pushes the pruned weights on. It fades within some twenty steps, so they move a little, and then they stay where
#   they are: not trained, not 0. (Weight decay is innocent here: it pulls towards 0. But it is the third thing in an
#   update that is no gradient.)
# - **Cleo** set a **copy** to 0. In NumPy, `weights[prunable]` with a mask between the brackets makes a new array,
#   while a slice like `weights[3:7]` is a view (lesson 01). Nothing was ever pruned. Her accuracy is splendid.
# - **Dan** counted **the dead among the living**. After his first pruning two thirds of all magnitudes are 0. So the
#   next time two thirds are below his threshold already: the same ones. Nothing more goes. His masks hold what they
#   promise. They only promise less and less than he reports.
# - **Eva** has no memory. A living weight that gets small on its way from minus to plus falls below the threshold and
#   is dead from then on, a few at every step. The density **sinks**, and what she reports at the end is not what she
#   asked for.
#
# And now look at what each of them would have published:

# %%
print(f"{'':8}{'asked for':>12}{'true density':>15}{'accuracy':>11}")
for kind, (counts, accuracy) in zip([Careful, *whose], [careful, *runs]):
    print(f"{kind.__name__:8}{1 / 27:12.3f}{counts[-1, 1]:15.3f}{accuracy:10.1f} %")

# %% [markdown]
# The careful one stands at the bottom, or near it. Cleo and Dan, who have pruned next to nothing, have the best
# numbers of all. Whoever believes accuracies, and picks the best method by them, picks a bug.
#
# Anna's network did not come back as a whole. Not every weight is revived: who is it that stays dead, though nobody
# holds it? Here is the share of each layer that is not 0:

# %%
watched(Anna)
for layer in mr.nn.pack(model).layers:
    if layer.name.endswith("weight"):
        print(layer.name, (mr.nn.pack(model).weights[layer.start : layer.stop] != 0).mean().round(4))

# %% [markdown]
# A unit of the middle whose inputs were pruned may give 0 for every image. Then nothing depends on the weights around
# it, their gradients are 0, and nothing moves them. That is why such a bug leaves 98 % and not 100 %: a number
# that looks as if it had a reason.
#
# ## 5. Write it right
#
# The rule has two halves. **After every update, what is pruned is exactly 0: the weight, and its momentum.** And all
# states carry their mask with them, and it is applied whenever a state changes its mask.
#
# ### Exercise 2: `masked_step`
#
# This is the last line of the framework's SGD: the one that really moves the weights. It gets the new `momentum` and
# the `direction` to go in (with Nesterov's momentum, lesson 05, these are two different things). It changes `weights`
# and `old_momentum` *in place*, for they are the network's own vectors: `array[...] = `, `array -= `, `array[~mask] =
# `.

# %%
@exercise.implement("optim.masked_step")
def masked_step(weights, old_momentum, mask, momentum, direction, rate):
    """Move the weights against the direction, in place; what is pruned becomes exactly 0, weight and momentum."""
    raise NotImplementedError           # four lines


# %% [markdown]
# (Others leave the weights alone, and multiply them by the mask each time the network computes. Nothing leaks into the
# result then, whatever the optimiser does. But under the mask the weights live on, pushed by momentum and decay. Who
# counts the stored weights, saves them, or puts on another mask meets them again.)
#
# Why the momentum, if the weight is set to 0 anyway? Try to think of a harm before you read on. One is this: lesson 09
# will hand the momentum of one run to the next. A pruned weight whose momentum is alive is a person waiting behind a
# door. And you would not see it, for the plot that we have looked at all the time shows weights only:

# %%
class Fay(Careful):
    """ "The weights are 0 after every step. That is all that counts." """

    def step(self, rate):
        self.update(rate)
        self.v.weights[~self.mask] = 0


picture_of_counts({"Fay": watched(Fay)})
print("weights that are not 0: ", mr.prune.density(mr.nn.pack(model).weights != 0, prunable))
print("momentum that is not 0:", mr.prune.density(mr.nn.pack(model).momentum != 0, prunable))

# %% [markdown]
# ### Exercise 3: `State.masked`
#
# A `State` is a run at one step: `step`, `weights`, `momentum`, `mask`, `statistics`. It is never changed, because
# others need it, too: in the next lesson three techniques begin with the same state. So `masked` makes a **new** one:
# under another mask, applied to weights and momentum, and at another step number. Think of Cleo, and of her opposite:
# whoever writes into an array that is no copy changes it for everybody.
#
# `self.weights.copy()` makes a copy. `State(step, weights, momentum, mask, statistics)` makes a state.

# %%
@exercise.implement("train.State.masked")
def masked(self, mask, step):
    """This state under another mask, applied to weights and momentum, and at another step."""
    raise NotImplementedError           # four or five lines


# %% [markdown]
# ## 6. The framework under your own eye
#
# Last, we count in a run of the framework itself. It does everything from here on with your two functions. Prune to a
# tenth, train on, and look at every step, at weights and at momentum:

# %%
mask = mr.prune.new_mask(model, trained, density=0.1)
start = trained.masked(mask, 0)
counted = []
for _ in mr.train.train(model, data, recipe, seed=0, round=1, start=start, stop=steps, report_every=1):
    now = State.copy(model)
    counted.append([mr.prune.density(vector != 0, prunable) for vector in (now.weights, now.momentum)])

_, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot([weights for weights, _ in counted], color="#bbbbbb", linewidth=6, label="weights")
axis.plot([momentum for _, momentum in counted], color=pictures.WARM, label="momentum")
axis.set(xlabel="step", ylabel="not 0", ylim=(0, 0.2))
axis.legend()
plt.show()
print("asked for", mr.prune.density(mask, prunable), "  counted", counted[-1])

# %% [markdown]
# Flat. (The momentum may even be a little below: where a unit is silent, momentum that begins at 0 stays there. Above
# it would be a leak.)
#
# **Try it wrong.** In exercise 2, leave out both lines with the mask, and read what the checks say. Then
# `exercise.use_anyway("optim.masked_step")`, and run the last cell again. What do you expect?
#
# Nothing happens: the line stays flat. The framework has more than one net. It also sets the gradient of every pruned
# weight to 0, and whatever lies under a mask when it is put on. So there is nothing left that could move a pruned
# weight, *today*. But whoever adds a new kind of momentum tomorrow has only your net below them. And note who told
# you that yours has a hole: not a run of the whole network, only the check of the one function.
# `exercise.reset_session()` puts everything right.

# %% [markdown]
# ## What you built
#
# - `density`: one function that counts what is wanted, and what is true.
# - `masked_step` and `State.masked`: what is pruned stays pruned, in every step and in every change of state.
#
# And a habit: before you believe an accuracy, count.

# %%
exercise.status("08")

# %% [markdown]
# ## A further question
#
# Suppose somebody hands you only the final network of their pruning experiment, and an accuracy. Which of the six
# bugs of this lesson could you still find? Which not? What would you ask for?
