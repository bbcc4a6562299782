# %% [markdown]
# # 10 · Little by little, and the paper's algorithm
#
# **Time** 60 minutes · **You need** lessons 07 to 09 · **Paper** iterative pruning, what the search costs, and its
# Algorithm 1
#
# **New words:** iterative, search cost
#
# In lesson 09 you took away nineteen of twenty weights with one cut. The cut was planned by looking at a network that
# still had all of them. Is that wise? Which weights are needed depends on which others are there.
#
# The other way: take away a little, train, *look again*, take away a little more. The networks get better. And the bill
# gets longer. How much better, and how much longer? At the end of this lesson stands the algorithm that the paper
# recommends, and you will have written its heart.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import pictures
from minirewind.learn import exercise
from minirewind.train import State

exercise.begin("10_iterative")

# %% [markdown]
# ## 1. The dense run
#
# The same as in lesson 09: a state `early`, and one at the end, `trained`.

# %%
T = exercise.scale(smoke=120, laptop=450)
data = mr.data.load("digits")
model = mr.models.lenet_300_100(input_shape=(1, 8, 8))
recipe = mr.train.Recipe(steps=T, batch_size=64)
schedule = recipe.rates()

for _ in mr.train.train(model, data, recipe, seed=0, stop=T // 10):
    pass
early = State.copy(model)
for _ in mr.train.train(model, data, recipe, seed=0):           # it goes on where the model is
    pass
trained = State.copy(model)
prunable = mr.nn.pack(model).prunable
dense = mr.train.evaluate(model, data.test)
print(f"dense: {dense:.1f} % read correctly")

# %% [markdown]
# ## 2. One round
#
# A round is: prune, then retrain. You have all of its parts. `mr.prune.new_mask` chooses with your
# `global_magnitude`, a technique of lesson 09 says how to retrain, and `train` does it. What is left to write is how
# they fit together.
#
# ### Exercise 1: `round_settings`
#
# What `train` needs to know for one round. Given are the state `trained` that the last training ended in, the state
# `early`, a technique, and the density after this round. Three questions to think about:
#
# - **Whose weights are ranked?** Those at the end of the latest training.
# - **A density of what?** Always of the dense network. `new_mask` counts so.
# - **Which schedule does the technique get?** That of the recipe: `recipe.rates()`.
#
# `method` says how the weights are chosen, if not by global magnitude. You only hand it on: `new_mask(model, trained,
# density, method)`.
#
# Return a dictionary with four things: `{"start": ..., "stop": ..., "rate": ..., "compare_to": ...}`. In `compare_to`
# goes the state that the technique wants to start in (the framework counts how many weights change their sign from
# there on). The same state goes in `start`, except when `resume` is given: that is a state from the middle of this
# very round, if the computer was switched off, and then training starts there. In Python: `resume or start`.

# %%
@exercise.implement("retrain.round_settings")
def round_settings(model, recipe, trained, early, technique, density, method=None, resume=None):
    """What one_round does before it trains: prune, ask the technique; the start, stop, rate and compare_to of a Run."""
    raise NotImplementedError           # three lines


# %% [markdown]
# `mr.retrain.one_round` is your function, and then `train`. One-shot pruning is one round, straight to the end:

# %%
def one_shot(technique, density):
    """Accuracy after one cut."""
    list(mr.retrain.one_round(model, data, recipe, trained, early, technique, density, seed=0))
    return mr.train.evaluate(model, data.test)


for density in (0.2, 0.05):
    print(f"one-shot to {density}: {one_shot(mr.retrain.lr_rewinding, density):.1f} % read correctly")

# %% [markdown]
# ## 3. Many rounds
#
# **Iterative** pruning is a chain of rounds. Round 1 prunes the dense network to 0.8, and retrains. Round 2 takes *what
# round 1 has left*, prunes it to 0.64, and retrains. And so on: $0.8^i$ after round $i$.
#
# Why a fifth each time, and not some fixed number of weights? **Predict:** the dense network has 50,200 weights. If a
# fifth of *those*, 10,040, went in each round, after how many rounds would nothing be left? And what share of the
# weights that are still there would the fourth of these rounds take away?

# %%
prediction = None       # a number and a share, like (10, 0.2)

exercise.reveal(prediction, (5, 0.5))

# %% [markdown]
# The first rounds would be gentle and the last one a slaughter. A fifth of what is *left* hurts about equally in every
# round.
#
# ### Exercise 2: `iterative`
#
# `densities` are the densities after each round, for example 0.8, 0.64, 0.512. `one_round(...)` is a generator: it
# trains while somebody asks for its records. With `yield from` you hand its records on, one by one, until the round
# is over. What then is `trained` for the next one? (`State.copy(model)` is the state that the model is in.)
#
# Two small things matter. Rounds are counted from 1 (`round=`), and each has its own stream of batches. And `early`
# is a state of the *dense* run, in every round.

# %%
@exercise.implement("retrain.iterative")
def iterative(model, data, recipe, trained, early, technique, densities, *, seed):
    """Iterative pruning: a chain of rounds, each on what the one before ended in; the records of all of them."""
    raise NotImplementedError           # three lines


# %% [markdown]
# Now let it run: the same rounds by fine-tuning and by learning-rate rewinding, and some of the same densities in one
# cut each.
#
# **Predict:** where will the difference between one cut and many rounds be large: at 2 times fewer weights, or at 20
# times?

# %%
rounds = exercise.scale(smoke=12, laptop=18)
TECHNIQUES = ("fine_tuning", "lr_rewinding")


def chain(technique, densities):
    """Prune round by round; after each: density, accuracy and mask."""
    records = mr.retrain.iterative(model, data, recipe, trained, early, technique, densities, seed=0)
    return [(record.density, mr.train.evaluate(model, data.test), State.copy(model).mask)
            for record in records if record.step == T]              # the last record of a round


many = {name: chain(getattr(mr.retrain, name), [0.8**i for i in range(1, rounds + 1)]) for name in TECHNIQUES}
cuts = range(3, rounds + 1, 3)
once = {name: [(0.8**i, one_shot(getattr(mr.retrain, name), 0.8**i)) for i in cuts] for name in TECHNIQUES}

# %%
_, axis = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
for name in TECHNIQUES:
    colour = mr.report.LOOKS[name].colour
    axis.plot([1 / density for density, *_ in many[name]], [accuracy for _, accuracy, _ in many[name]], "o-",
              markersize=4, color=colour, label=f"{mr.report.label(name)}, round by round")
    axis.plot(*zip(*[(1 / density, accuracy) for density, accuracy in once[name]]), "s:", markersize=4, color=colour,
              label=f"{mr.report.label(name)}, one cut")
axis.axhline(dense, color=pictures.INK, linewidth=1)
axis.set(xscale="log", xlabel="compression (line: the dense network)", ylabel="read correctly, %", ylim=(0, 100))
axis.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
axis.minorticks_off()
axis.legend(fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# Round by round is better, and the smaller the network, the more. Does the chain even end above the dense network?
# Then do not celebrate yet. The dense network has trained $T$ steps, and this one many times as long. The further
# question at the end comes back to that.
#
# What is different? In lesson 07 you saw how magnitude is fooled: at the left edge of the image, where there is
# hardly ever ink, large random numbers were kept that nobody needs. **Predict:** will the chain of rounds keep as
# many of them, at the same density? (In the picture every square is a pixel. The darker it is, the more of the 300
# units of the first layer still look at it.)

# %%
first = mr.nn.pack(model).layers[0]
GREEN = mr.report.LOOKS["lr_rewinding"].colour          # in all pictures that of learning-rate rewinding


def picture_of_round(round):
    """The connections of the first layer that are left after a round, and after one cut to the same density."""
    density, _, mask = many["lr_rewinding"][round - 1]
    cut = mr.prune.new_mask(model, trained, density)
    _, axes = plt.subplots(1, 3, figsize=(9, 2.9), width_ratios=(1, 1, 1.6), layout="constrained")
    both = [one[first.start : first.stop].reshape(300, 8, 8) for one in (cut, mask)]
    most = max(left.sum(axis=0).max() for left in both)
    for axis, name, left, colour in zip(axes, ("one cut", f"round {round}"), both, ("grey", GREEN)):
        axis.imshow(left.sum(axis=0), cmap="gray_r", vmin=0, vmax=most)
        edge, middle = left[:, :, 0].sum(axis=0).mean(), left[:, :, 2:6].sum(axis=0).mean()
        axis.set(title=name, xticks=[], yticks=[], xlabel=f"left edge {edge:.0f}, middle {middle:.0f} of 300")
        axes[2].plot(-np.sort(-left.sum(axis=(1, 2))), color=colour, label=name)
    axes[2].set(title=f"density {density:.3f}", xlabel="units of the first layer, sorted", ylabel="connections left")
    axes[2].legend(fontsize=8)
    plt.show()


pictures.slide(picture_of_round, round=(1, rounds, 12))

# %% [markdown]
# One cut has looked once, and a weight that happened to be large then stays for ever. The chain looks again and
# again. In every retraining the weights that do something grow, to make up for those that are gone. The others stay
# behind, and at the next look they are among the smallest. So the edges of the image empty themselves, and with them
# whole units: the network *chooses an architecture*, though the pruning has no idea of pixels or units.
#
# ## 4. What it costs
#
# Nothing is free. Each round trains for $t$ steps again. The steps that you have to spend until the small network is
# there are its **search cost**: $T$ for the dense run, and $t$ for each round.
#
# So is a fifth the right portion? Let us go to one density, $0.8^{12}$, about 0.07, in four ways: one cut, three great
# steps, six middle ones, twelve small ones. **Predict:** which of them is worth its price?

# %%
goal = 12
ways = []
for portion in (12, 4, 2, 1):               # so many fifths are taken in one round
    densities = [0.8**i for i in range(portion, goal + 1, portion)]
    end = many["lr_rewinding"][goal - 1] if portion == 1 else chain(mr.retrain.lr_rewinding, densities)[-1]
    ways.append((len(densities), T + len(densities) * (T - early.step), end[1]))

_, axis = plt.subplots(figsize=(6.5, 3), layout="constrained")
axis.plot([cost / T for _, cost, _ in ways], [accuracy for *_, accuracy in ways], "o-", color=GREEN)
for count, cost, accuracy in ways:
    axis.annotate(f"{count} round{'s' * (count > 1)}", (cost / T, accuracy), (7, -11), textcoords="offset points",
                  fontsize=8)
axis.axhline(dense, color=pictures.INK, linewidth=1)
axis.set(xlabel="search cost, in dense trainings", ylabel="read correctly, %", xlim=(0, 14))
axis.margins(y=0.3)
plt.show()
for count, cost, accuracy in ways:
    print(f"{count:2} round{'s' if count > 1 else ' '}: {cost:5,} steps, {accuracy:.1f} %")

# %% [markdown]
# The first few rounds bring most of it, and then every further one brings less. 20 % is a choice, not a law of nature:
# small enough that no round ever does much harm. It has become a habit of the field, and the paper keeps it so that its
# numbers can be compared. (And one seed is one seed. Do not conclude too much from a point that lies a little above
# another: lesson 11.)
#
# ## 5. The paper's algorithm
#
# At its end, the paper makes one recommendation to those who do not want to choose anything at all:
#
# 1. Train the network.
# 2. Prune 20 % of the weights that are left, globally, by magnitude.
# 3. Rewind the learning rate **to the very beginning**, and retrain for the whole time $T$.
# 4. Repeat from 2, until the network is as small as you want it, or **as small as you can bear**.
#
# There is no $t$ to choose, because learning-rate rewinding may go back all the way (lesson 09). What remains is the
# last half sentence. Somebody says: "I can bear one point of accuracy." When exactly do you stop?
#
# ### Exercise 3: `rounds_inside`
#
# Go through the records of `iterative`, and hand each of them on (`yield record`). Where a round ends, at
# `record.step == recipe.steps`, do a little more:
#
# - measure the accuracy on the *validation* images (you are choosing something here, and what you choose with must not
#   be what you report), and put it into the record: `dataclasses.replace(record, validation_accuracy=accuracy)`;
# - if it lies more than `max_drop` points below `dense_accuracy`, stop. `None` means: never;
# - else remember this state. At the end the model must be in the last state that was *inside*: `inside.restore(model)`.
#
# It begins with the dense network, which is the state that the model is in, and goes back to step 0 of the schedule:
#
# ```python
# inside = State.copy(model)
# early = inside.masked(inside.mask, step=0)
# for record in iterative(model, data, recipe, inside, early, lr_rewinding, densities, seed=seed):
#     ...
# ```
#
# **Predict** before you write: a network loses 0.8 points in every round, and `max_drop` is 1. Who compares each round
# with the round before: when do they stop?

# %%
@exercise.implement("retrain.rounds_inside")
def rounds_inside(model, data, recipe, dense_accuracy, densities, max_drop, *, seed):
    """Prune and rewind the learning rate to step 0, round by round, until one costs more than `max_drop` points of
    validation accuracy; the model is left in the last state before that. The last record of a round holds its accuracy.
    """
    raise NotImplementedError           # some ten lines


# %% [markdown]
# They never stop, of course. Each single step is small enough to be borne. That is how one boils a frog.
#
# And here is the whole algorithm as the framework has it. The four steps are all there, and much of what it calls
# was written by you.

# %%
print(inspect.getsource(mr.retrain.pruning_to_target))

# %% [markdown]
# Give it no density, but only a limit of what you can bear: one and a half points. **Predict:** how many times smaller
# will the network be when it stops?

# %%
prediction = None       # a number

recipe = mr.train.Recipe(steps=exercise.scale(smoke=100, laptop=450), batch_size=64)
model.initialise(0)
state, history = mr.retrain.prune_to_target(model, data, recipe, max_drop=1.5)
left = mr.prune.compression(state.mask, prunable)
exercise.reveal(prediction, round(left, 1))
test = mr.train.evaluate(model, data.test)
print(f"{int(state.mask[prunable].sum()):,} weights read {test:.1f} % of the test images correctly")

# %%
ends = [(1 / record.density, record.validation_accuracy) for record in history if record.step == recipe.steps]
returned = min(ends, key=lambda end: abs(end[0] - left))
_, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.axhspan(ends[0][1] - 1.5, 100, color="#eeeeee")
axis.plot(*zip(*ends), "o-", markersize=4, color=GREEN)
axis.plot(*returned, "o", markersize=12, mfc="none", color=pictures.INK)
axis.set(xscale="log", xlabel="compression (ring: what it returns)", ylabel="validation images, % correct",
         ylim=(min(accuracy for _, accuracy in ends) - 3, 100))
axis.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
axis.minorticks_off()
plt.show()

# %% [markdown]
# Grey is what was allowed: not more than one and a half points below the dense network. (On so few validation images
# one image is a third of a point. You see the line tremble.)
#
# **Try it wrong.** Write exercise 2 so that every round prunes the *dense* network again: leave out the last line. Read
# what the check says. Then let it run anyway, and draw the picture of section 3 again. You know the new curve. From
# where? `exercise.reset_session()` puts everything right.

# %% [markdown]
# ## What you built
#
# - `round_settings`: prune, and ask a technique how to go on.
# - `iterative`: a chain of rounds, each on what the one before has left.
# - `rounds_inside`: the heart of the paper's algorithm, with an end that one can rely on.
#
# `minirewind prune --max-drop 1` in a terminal runs the framework's own copy of it, on any data.

# %%
exercise.status("10")

# %% [markdown]
# ## A further question
#
# Twelve rounds have trained twelve times as long as one cut. Is it fair to compare them? Give the one cut twelve times
# the steps: how would you spend them, and does the gap close? (Which comparison is fair is the question of the next
# lesson, and an honest answer begins with: fair for whom?)
