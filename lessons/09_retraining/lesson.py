# %% [markdown]
# # 09 · Fine-tune, rewind the weights, rewind the learning rate
#
# **Time** 80 minutes · **You need** lesson 05 (the step schedule), 07 and 08 · **Paper** its three ways of
# retraining: they are its heart, and this course's
#
# **New words:** retraining, fine-tuning, rewinding, weight rewinding, learning-rate rewinding, one-shot
#
# You have pruned a network to a twentieth of its weights, and it hardly reads any more. It may be trained again, for
# a while, with the mask on. Three people stand around the table.
#
# - The first says: *go on where you stopped.* Carefully, with the last, small learning rate.
# - The second says: *go back.* Put the weights that are left to what they were early in training, and train again from
#   there, as the first time.
# - The third says: *keep the weights, but go back with the learning rate.*
#
# All three may take equally many steps. Who is right? In 2020, a paper asked exactly this, and nearly everybody had
# been doing the first.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import pictures
from minirewind.learn import exercise
from minirewind.train import State

exercise.begin("09_retraining")

# %% [markdown]
# ## 1. One dense run, and two states of it
#
# All three need the same things, so we prepare them once. The network of lesson 07 is trained for $T$ steps, with the
# step schedule of lesson 05: at half of the way the rate falls to a tenth, at three quarters to a hundredth.
#
# We will retrain for $t$ steps. So on the way, at step $T - t$, we put the state of the run aside. We call it `early`.
# The one at the end is `trained`.

# %%
T = exercise.scale(smoke=200, laptop=450)
t = T * 9 // 10
data = mr.data.load("digits")
model = mr.models.lenet_300_100(input_shape=(1, 8, 8))
recipe = mr.train.Recipe(steps=T, batch_size=64)
schedule = recipe.rates()                   # a function: schedule(step) is the rate of that step

for _ in mr.train.train(model, data, recipe, seed=0, stop=T - t):
    pass
early = State.copy(model)
for _ in mr.train.train(model, data, recipe, seed=0):           # it goes on where the model is, at step T - t
    pass
trained = State.copy(model)
dense = mr.train.evaluate(model, data.test)
print(f"early:   step {early.step:3}\ntrained: step {trained.step:3}, reads {dense:.1f} % correctly")

# %% [markdown]
# Now prune it to a twentieth, at once. That is called **one-shot** pruning. (Little by little is lesson 10.) There is
# **one** mask for all three, chosen from the weights at the end of training.

# %%
mask = mr.prune.new_mask(model, trained, density=0.05)
trained.masked(mask, trained.step).restore(model)
cut = mr.train.evaluate(model, data.test)
print(f"{mr.prune.compression(mask, mr.nn.pack(model).prunable):.0f} times fewer weights: {cut:.1f} % correct")

# %% [markdown]
# **Retraining** is what comes now. It has to answer three questions, and *only* these three:
#
# 1. **start**: in which state does the pruned network begin?
# 2. **rate**: which learning rate does each step have?
# 3. **stop**: up to which step is it trained?
#
# So in this framework a way of retraining is a function with three results:
#
# ```python
# def some_technique(trained, early, mask, schedule):
#     start = ...
#     rate = ...
#     stop = ...
#     return start, rate, stop
# ```
#
# A state carries five things: its step, the weights, their momentum (lesson 05), the mask, and the statistics of the
# batch norms (lesson 04; this network has none, others do). `state.masked(mask, step)`, which you wrote in lesson 08,
# gives the same state with another mask, and *at another step number*.
#
# Why another number? Because all three shall run **the same steps**, $T - t$ to $T$. The step decides which images come
# in which batch. If all three count alike, they see the same images in the same order, and whatever is different in the
# end has come from the weights and the rates, and from nothing else.
#
# ## 2. Go on where you stopped
#
# This is **fine-tuning**: the weights from the end of training, and the rate at which training ended, for all $t$
# steps.
#
# Where do you find that rate? You know that it is 0.001 here. But your function should not: with another schedule it
# is another number. Ask the schedule. `schedule(step)` is the rate of the update that leads *from* `step` to `step +
# 1`, so the last update was made at step... **Predict:** which one, if training ends at step `trained.step`?

# %%
prediction = None       # a number

exercise.reveal(prediction, trained.step - 1)
print("the last rate:", schedule(trained.step - 1))

# %% [markdown]
# That is not 0.001 to the last digit. It is 0.1 times 0.1 times 0.1, and a computer rounds. Whoever writes 0.001 in
# their code does another experiment, by a hair. In section 6 you will be glad that we did not.
#
# ### Exercise 1: `fine_tuning`
#
# `rate` must be a function of the step, like a schedule. `optim.constant(r)` makes one that is $r$ at every step.

# %%
@exercise.implement("retrain.fine_tuning")
def fine_tuning(trained, early, mask, schedule):
    """Train on at the rate at which training ended."""
    raise NotImplementedError           # four lines: start, rate, stop, return


# %% [markdown]
# ## 3. Go back
#
# **Weight rewinding** takes everything back to step $T - t$: weights, momentum, statistics, and the rate. It is as if
# the dense run had been pruned then, in the middle, but with a mask that only the end of the run could know.
#
# One thing does *not* come from the early state. Which?
#
# ### Exercise 2: `weight_rewinding`

# %%
@exercise.implement("retrain.weight_rewinding")
def weight_rewinding(trained, early, mask, schedule):
    """Go back to the weights of step T - t, and train again from there as the first time."""
    raise NotImplementedError           # four lines


# %% [markdown]
# ## 4. Keep the weights, go back with the rate
#
# **Learning-rate rewinding** was new in the paper, and it is a mixture of the two. It keeps what the network has
# learned, but lets it move again: first in great steps, then in ever smaller ones.
#
# ### Exercise 3: `lr_rewinding`

# %%
@exercise.implement("retrain.lr_rewinding")
def lr_rewinding(trained, early, mask, schedule):
    """Keep the weights, and go back with the learning rate only."""
    raise NotImplementedError           # four lines


# %% [markdown]
# Put your three functions side by side. Learning-rate rewinding differs from each of the other two in **one line**, and
# they differ from each other in both:
#
# | | start | rate | stop |
# |---|---|---|---|
# | fine-tuning | `trained` | the last one | $T$ |
# | weight rewinding | `early` | the schedule | $T$ |
# | learning-rate rewinding | `trained` | the schedule | $T$ |
#
# The next picture is drawn by your functions. Grey are the rates of the dense run, a staircase going down. Each
# function puts three cursors on it: where do the weights come from, which rates follow, where does it stop? Move $t$.

# %%
TECHNIQUES = ("fine_tuning", "weight_rewinding", "lr_rewinding")


def marked(step):
    """A state whose only weight says from which step it is."""
    return State(step, np.full(1, step), np.zeros(1), np.ones(1, bool), np.zeros(0))


def picture_of_cursors(percent):
    back = T - max(1, T * percent // 100)
    plans = {}
    for name in TECHNIQUES:
        start, rate, stop = getattr(mr.retrain, name)(marked(T), marked(back), np.ones(1, bool), schedule)
        plans[name] = (int(start.weights[0]), start.step, stop, rate)
    return pictures.cursors(schedule, T, plans)


pictures.slide(picture_of_cursors, percent=(1, 100, 90))

# %% [markdown]
# ## 5. The experiment
#
# Same network, same mask, same images in the same order, same number of steps. **Predict the order**: who comes first,
# second, third? And by how much?

# %%
prediction = None       # for example ["fine_tuning", "weight_rewinding", "lr_rewinding"], the best first


# %%
def retrained(name, early=early, mask=mask):
    """Retrain in one way; the final state, and the accuracy on the way there."""
    start, rate, stop = getattr(mr.retrain, name)(trained, early, mask, schedule)
    start.restore(model)
    way = [(start.step, mr.train.evaluate(model, data.test))]
    records = mr.train.train(model, data, recipe, seed=0, round=1, start=start, stop=stop, rate=rate,
                             report_every=T // 25)
    way += [(record.step, mr.train.evaluate(model, data.test)) for record in records]
    return State.copy(model), way


results = {name: retrained(name) for name in TECHNIQUES}
final = {name: way[-1][1] for name, (_, way) in results.items()}
exercise.reveal(prediction, sorted(final, key=final.get, reverse=True))

# %%
COLOURS = {name: look.colour for name, look in mr.report.LOOKS.items()}      # as on the framework's own pages


def picture_of_results(results):
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(3, 2), layout="constrained")
    for name, (_, way) in results.items():
        left.plot(*zip(*way), color=COLOURS[name], label=mr.report.label(name))
    left.set(xlabel="step", ylabel="read correctly, %", xlim=(0, T), ylim=(0, 100))
    left.legend(fontsize=8)
    bars = {"right after pruning": cut} | {mr.report.label(name): way[-1][1] for name, (_, way) in results.items()}
    drawn = right.barh(list(bars), bars.values(), color=[pictures.PALE, *(COLOURS[name] for name in results)])
    right.bar_label(drawn, fmt="%.1f", label_type="center")
    right.axvline(dense, color=pictures.INK, linewidth=1)
    right.set(xlim=(0, 100), xlabel="read correctly, % (line: the dense network)")
    right.invert_yaxis()
    plt.show()


picture_of_results(results)

# %% [markdown]
# Both ways of rewinding are far ahead, and fine-tuning is not finished when its time is over: with such small steps it
# cannot get where it wants to go.
#
# (Careful with the word. In many courses and tools *fine-tuning* means some epochs at a rate of their own, say 0.01,
# that falls again at the end. In the paper's terms that is already half a rewinding of the rate. Before you compare two
# numbers that are called fine-tuning, ask at which rates.)
#
# Look at the left picture at the very beginning. Weight rewinding and learning-rate rewinding begin with different
# weights, and in the first steps the large rate moves both of them far, each on a way of its own. And then? At the end
# there is hardly anything between them.
#
# One network and one run is no proof, only a reason to look closer. (How many runs make a proof is lesson 11.) But
# this is what the paper found, too. For ResNet-20 on CIFAR-10, in one shot to 9.3 times fewer weights, the change of
# accuracy against the dense network was, in percentage points, the median of three runs, with the best $t$ for each:
#
# | fine-tuning | weight rewinding | learning-rate rewinding |
# |---|---|---|
# | -3.3 | -2.6 | -2.4 |
#
# The effect there is smaller, since a longer training leaves fine-tuning more time. But the order is the same.
#
# ### Exercise 4: is it the weights, or the rates?
#
# Weight rewinding goes back with two things at once. If it wins, which of the two was it? A good experiment changes
# one thing at a time. Learning-rate rewinding changes the rates only. What is missing is its opposite, so the paper
# has that as well, as a **control**: the early weights, at the last, small rate.
#
# **Predict first:** will this control be better than fine-tuning, or worse?

# %%
@exercise.implement("retrain.weight_rewinding_low_lr")
def weight_rewinding_low_lr(trained, early, mask, schedule):
    """The weights of step T - t at the last rate: is it the weights or the rates that help?"""
    raise NotImplementedError           # four lines


# %%
results["weight_rewinding_low_lr"] = retrained("weight_rewinding_low_lr")
picture_of_results(results)

# %% [markdown]
# Now all four corners of the square are there:
#
# | | the last rate | the schedule |
# |---|---|---|
# | **final weights** | fine-tuning | learning-rate rewinding |
# | **early weights** | the control | weight rewinding |
#
# From left to right much is gained, in both rows. From top to bottom nothing is. **It is the rates.** The early weights
# by themselves do not help at all. That is the paper's finding: what makes weight rewinding good is that it rewinds the
# learning rate, too.
#
# ## 6. How far back?
#
# So far $t$ was nine tenths of $T$. What if you go back only a little? The schedule falls for the last time at three
# quarters of $T$.
#
# **Predict:** if $t$ is a tenth of $T$, two of the three techniques are the same. Not similar: the same. Which two? Use
# the slider in section 4, if you like.

# %%
prediction = None       # two names, like ("fine_tuning", "weight_rewinding")


# %%
def state_at(step):
    """The dense run at an earlier step, trained again up to there: it has the same bits."""
    model.initialise(0)
    for _ in mr.train.train(model, data, recipe, seed=0, stop=step):
        pass
    return State.copy(model)


late = state_at(T - T // 10)
ends = {name: retrained(name, late)[0].weights for name in TECHNIQUES}
same = [(a, b) for a in TECHNIQUES for b in TECHNIQUES if a < b and np.array_equal(ends[a], ends[b])]
exercise.reveal(prediction, same[0] if same else "none")

# %% [markdown]
# All 50,610 numbers are equal, to the last bit. Of course: in the last quarter the schedule *is* the last rate. The
# weights are the same, the rates are the same, so the technique is the same, under two names.
#
# It is only a fact about two functions. But whoever has typed 0.001 instead of asking the schedule does not find it,
# and whoever feeds the images in another order does not, either. It is a good test of an experiment: **there is a
# place where you know that the difference must be exactly zero. Go there and look.**
#
# And now all the way:

# %%
shares = exercise.scale(smoke=(0.1, 0.4, 0.9), laptop=(0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.75, 0.9, 1.0))
sweep = {name: [] for name in TECHNIQUES}
for share in shares:
    back = state_at(T - round(share * T))
    for name in TECHNIQUES:
        sweep[name].append(retrained(name, back)[1][-1][1])

# %%
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
axis.axvspan(0, 0.25, color="#eeeeee")
axis.text(0.125, 4, "here green lies\nwithin orange", ha="center", fontsize=8)
for name, width in zip(TECHNIQUES, (7, 4, 1.5)):            # where they are one, all three can be seen
    axis.plot(shares, sweep[name], "o-", color=COLOURS[name], linewidth=width, markersize=width + 3,
              label=mr.report.label(name))
axis.axhline(dense, color=pictures.INK, linewidth=1)
axis.set(xlabel="t / T, how far back", ylabel="read correctly, %", xlim=(0, 1.02), ylim=(0, 100))
axis.legend(fontsize=8, loc="lower right")
plt.show()

# %% [markdown]
# Longer is better for all of them, up to a point, and beyond a quarter of $T$ the two that rewind the rate leave the
# third behind. At the far right, $t = T$, weight rewinding goes back to the very first, random weights. That is the
# original *lottery ticket*. On this small network it nearly works. On deeper ones, like those in the paper, it does
# not: there the first few steps must be left alone, while learning-rate rewinding has no such limit.
#
# **Try it wrong.** In exercise 2 begin from `early` itself, `start = early`. It is already a state at the right step,
# isn't it? Read what the check says. Then `exercise.use_anyway("retrain.weight_rewinding")`, and run sections 1 and 5
# again. The accuracy will be wonderful: better than both others. Why should you be suspicious, and which number of
# lesson 08 would have told you? `exercise.reset_session()` puts everything right.

# %% [markdown]
# ## What you built
#
# - `fine_tuning`, `weight_rewinding`, `lr_rewinding`: the three techniques of the paper, each four lines.
# - `weight_rewinding_low_lr`: the control that tells why two of them work.
#
# Whenever this framework retrains a network from now on, it asks your functions how.

# %%
exercise.status("09")

# %% [markdown]
# ## A further question
#
# You found that it is the rates. But *what* about the rates? That they are large for a while? That they fall at the
# end? That they fall in the same stairs as before? Fine-tuning ten times longer, or at 0.01 all the time: would that
# do as well? You can find out here: a technique is four lines, and nobody says that there are only four of them. (The
# answers of others have names in `minirewind/retrain.py`. Look after you have tried.)
