# %% [markdown]
# # 07 · Masks, and which weights to keep
#
# **Time** 70 minutes · **You need** lesson 06 (a trained network) · **Paper** how it prunes: by global magnitude,
# the only way in its main figures
#
# **New words:** pruning, prunable, magnitude, threshold, compression, layer-wise
#
# A trained network is a long row of numbers: the one of this lesson has fifty thousand, many have millions. If you
# could throw away half of them and nobody would notice: which half?
#
# The answer that nearly everybody uses fits in one line, and you will write it. But between that line and a network
# that is *exactly* as small as you say lie four small questions: how many is a tenth, what is large, what if two are
# equal, and who is compared with whom. Every pruning tool we have read gets one of them a little wrong.

# %%
import functools

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import pictures
from minirewind.learn import exercise
from minirewind.train import State

exercise.begin("07_pruning")

# %% [markdown]
# ## 1. Fifty thousand numbers
#
# The digits again, and a network with three dense layers: from 64 pixels to 300 numbers, to 100, to ten scores. (What
# computes one of these numbers is called a *unit*.) It is LeNet-300-100, and it is the network that this kind of
# research began with.

# %%
data = mr.data.load("digits")
model = mr.models.lenet_300_100(input_shape=(1, 8, 8))
recipe = mr.train.Recipe(steps=exercise.scale(smoke=200, laptop=450), batch_size=64)

for record in mr.train.train(model, data, recipe, seed=0, report_every=100):
    print(f"step {record.step:3}   loss {record.loss:.3f}")

trained = State.copy(model)         # everything there is to know about the network now; we will come back to it often
print(f"of digits it has never seen it reads {mr.train.evaluate(model, data.test):.1f} % correctly")

# %% [markdown]
# All its parameters lie one after the other in one long row, `trained.weights`. Which part of the row belongs to which
# layer, the framework knows:

# %%
vectors = mr.nn.pack(model)
for layer in vectors.layers:
    print(f"{layer.name:12} shape {layer.shape!s:11} places {layer.start:6,} to {layer.stop:6,}")

# %% [markdown]
# Most of it are weights of layers, and some few are the offsets called `bias`. Those few are worth their place. What we
# may throw away are the weights only. We call them **prunable**, and **pruning** is throwing some of them away.
# `vectors.prunable` says for each place of the row whether it is one.

# %%
prunable = vectors.prunable
weights = trained.weights[prunable]
print(f"{len(trained.weights):,} parameters, {prunable.sum():,} of them prunable")

figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.hist(weights, bins=np.linspace(-0.3, 0.3, 121), color=pictures.COOL)
axis.set(xlabel="weight", ylabel="how many")
plt.show()

# %% [markdown]
# **Predict:** you set the smallest half of them to zero, those in the middle of this hill, and train nothing
# afterwards. By how many percentage points does the accuracy fall? Guess a number, and keep it in mind. You will see
# it in section 5.

# %%
my_guess = None         # percentage points

# %% [markdown]
# ## 2. What a mask is
#
# Why "set to zero", and not "remove"? Because a matrix with holes is no matrix any more. So we leave every weight at
# its place and keep a second row of the same length beside it, the **mask**: `True` where the weight is kept, `False`
# where it is pruned. A pruned weight is exactly 0, and it must stay so (lesson 08 is about what happens if it does
# not).

# %%
w = np.array([0.5, -0.03, 0.2, -0.9, 0.01, -0.2])
m = np.array([True, False, True, True, False, True])
pictures.masking(w, m)
print("density", m.sum() / m.size, "  compression", m.size / m.sum())

# %% [markdown]
# You know *density* from lesson 00: the share that is kept. Its inverse is the **compression**: a density of 0.1 is a
# compression of 10 times. Both count prunable weights only.
#
# ### Exercise 1: how many is a tenth?
#
# There are 50,200 weights, and you want a density of 0.1: keep 5,020. But 0.8 of 0.8 of 50,200 is 32,128, and one round
# later it is 25,702.4. Which whole number is that?
#
# A person who reads "density 0.512" in your table will count your weights one day. So the rule has to be simple: the
# **nearest** whole number, halves go up, and **never none at all**, because a network without any weight is no network.
#
# Begin with the line `check_density(density)`: it refuses what is no share, for example 20 from somebody who thought
# of percent.

# %%
@exercise.implement("prune.keep_count")
def keep_count(prunable, density):
    """How many of `prunable` weights a density keeps: the nearest whole number, at least one."""
    raise NotImplementedError           # two lines


# %%
for rounds in range(5):
    print(f"after {rounds} rounds: density {0.8**rounds:.4f}, {mr.prune.keep_count(50_200, 0.8**rounds):,} weights")

# %% [markdown]
# ## 3. A score for every weight
#
# To choose, every weight gets a **score**, and the highest scores stay. People have invented a great many scores. The
# plainest is how far a weight is from zero, its **magnitude**: $|w|$. What is nearly zero already will hardly be
# missed.
#
# Something else belongs to the score. We will prune more than once. Then some weights are gone already, and the row
# holds a 0 at their places. But a weight that is still there may be 0 too, just by chance. The mask knows the
# difference, the weight does not.
#
# **Predict:** the row is `[0.0, 0.3, 0.0]`, and the mask `[False, True, True]`. Two shall stay. Which two places?

# %%
prediction = None       # two numbers, like (0, 1)

exercise.reveal(prediction, (1, 2))

# %% [markdown]
# What is pruned stays pruned. So a pruned weight must come *below* every other, even below one that is 0: its score is
# -1, which no magnitude can be.
#
# ### Exercise 2: `magnitude`
#
# `np.where(mask, a, b)` takes `a` where the mask is `True`, else `b`.

# %%
@exercise.implement("prune.magnitude")
def magnitude(weights, mask):
    """The score of every weight: its absolute value, below all others where it is pruned already."""
    raise NotImplementedError           # one line


# %% [markdown]
# ## 4. The largest, and not one more
#
# Now the choice itself. The usual way: find a **threshold** $\tau$, the smallest score that may stay, and keep
# everything that is at least $\tau$. Here are eight scores, and we want to keep four.

# %%
scores = np.array([3.0, 1.0, 2.0, 2.0, 5.0, 2.0, 1.0, 2.0])
tau = np.sort(scores)[-4]
print("threshold", tau)
print("at least the threshold:", (scores >= tau).sum(), "weights")
print("above the threshold:   ", (scores > tau).sum(), "weights")

# %% [markdown]
# Neither is four. Four scores are *equal* to the threshold, and with a threshold you take all of them or none. That
# looks made up, but it is not: weights that were stored with few digits are equal all the time, and in a new network
# all weights of a layer may be equal.
#
# ### Exercise 3: `largest`
#
# A mask with exactly `keep` times `True`, for the largest scores. Of equal ones, those that come first in the row stay.
# (It does not matter which. It matters that it is always the same ones: on your computer, on mine, and tomorrow.)
#
# `np.argsort(a, kind="stable")` gives the *places* of `a`, the smallest number's first. `kind="stable"` promises that
# of equal numbers the first stays first.

# %%
@exercise.implement("prune.largest")
def largest(scores, keep):
    """A mask of the `keep` largest scores; of equal ones the lower index."""
    raise NotImplementedError           # three lines


# %%
kept = mr.prune.largest(scores, 4)
figure, axis = plt.subplots(figsize=(5, 2.4), layout="constrained")
axis.bar(range(8), scores, color=np.where(kept, pictures.COOL, pictures.PALE))
axis.axhline(tau, color=pictures.WARM)
axis.set(xlabel="place in the row", ylabel="score", title=f"{kept.sum()} are kept (blue)")
plt.show()

# %% [markdown]
# ## 5. Global magnitude pruning
#
# Everything is there. A *method* of pruning, in this framework, is a function of three things: the prunable weights of
# the whole network in one row, the mask so far, and how many to keep. It returns the new mask.
#
# ### Exercise 4: `global_magnitude`
#
# Put your two functions together. This is the paper's way of pruning, the whole of it. You may call `largest` and
# `magnitude` by their names.

# %%
@exercise.implement("prune.global_magnitude")
def global_magnitude(weights, mask, keep):
    """Keep the largest weights of the whole network, whatever layer they are in: the paper's pruning."""
    raise NotImplementedError           # one line


# %% [markdown]
# Now let us use it. `mr.prune.new_mask(model, state, density, method)` takes the prunable part out of the row, asks
# your `keep_count` how many, calls the method, and puts the result back into a mask for the whole row. Then
# `state.masked(mask, step)` is the state with the pruned weights set to 0, and `restore` puts it into the model.

# %%
def pruned(model, state, density, method=None):
    """The mask, and the test accuracy right after pruning; nothing is trained. The model is put back."""
    mask = mr.prune.new_mask(model, state, density, method)
    state.masked(mask, state.step).restore(model)
    accuracy = mr.train.evaluate(model, data.test)
    state.restore(model)
    return mask, accuracy


def picture_of_pruning(percent):
    mask, accuracy = pruned(model, trained, percent / 100)
    kept = mask[prunable]
    _, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    bins = np.linspace(-0.3, 0.3, 121)
    axis.hist(weights, bins=bins, color=pictures.PALE)
    axis.hist(weights[kept], bins=bins, color=pictures.COOL)
    tau = abs(weights[kept]).min()
    for side in (-tau, tau):
        axis.axvline(side, color=pictures.WARM)
    axis.set(xlabel="weight", ylabel="how many",
             title=f"{kept.sum():,} kept, the smallest of them {tau:.3f}: {accuracy:.1f} % read correctly")
    plt.show()


pictures.slide(picture_of_pruning, percent=(1, 100, 50))

# %% [markdown]
# Blue is kept, grey is gone. Move the slider. The two orange lines are the threshold, and you never set it: it follows
# from how many you keep.

# %%
dense = mr.train.evaluate(model, data.test)
half = pruned(model, trained, 0.5)[1]
exercise.reveal(my_guess, round(dense - half, 1))
print(f"whole: {dense:.1f} %, half: {half:.1f} %")

# %% [markdown]
# Half of the network, and hardly anything happens. That is the fact this whole field rests on.
#
# **Where** did it prune? Every pixel of the image has 300 connections, one to each unit of the first layer. So we can
# count how many of them each pixel has kept, and draw that as an image. **Predict** before you run the cell: where in
# the image will the most connections be left?

# %%
mask, _ = pruned(model, trained, 0.1)
first = mask[vectors.layers[0].start : vectors.layers[0].stop].reshape(300, 8, 8)
ink = data.train.images[:, 0].mean(axis=0)
left = first.sum(axis=0)
least, most = left.min(), left.max()
pictures.images([ink / ink.max(), (left - least) / (most - least)],
                ["mean of all digits", f"connections left,\n{least} (white) to {most} (black)"], size=2.4, columns=2)
print(left)

# %% [markdown]
# Most are left where the ink varies. But look at the left edge. There is hardly ever any ink there (at each of its
# pixels in no more than five of the thousand images). So such a pixel is the same in nearly every image, and says
# nothing about which digit it is. And yet dozens of the 300 connections are kept at each of these pixels! They began as
# random numbers, and some of these are large. (And in training, when a digit was shifted to the left, some ink did come
# there.) Are they needed? Take them away, too, and look.

# %%
without = mask.copy()
without[vectors.layers[0].start : vectors.layers[0].stop].reshape(300, 8, 8)[:, :, 0] = False
for chosen in (mask, without):
    trained.masked(chosen, trained.step).restore(model)
    print(f"{chosen[prunable].sum():,} weights: {mr.train.evaluate(model, data.test):.1f} % read correctly")
trained.restore(model)

# %% [markdown]
# **Large is not the same as needed.** Magnitude is a guess about a weight: a cheap one, and a surprisingly good one.
#
# Every unit of the first layer has a template, as the digits had in lesson 02. Here are the ten units with the most
# connections left, before pruning and after it.

# %%
units = first.reshape(300, -1).sum(axis=1).argsort()[::-1][:10]
templates = trained.weights[vectors.layers[0].start : vectors.layers[0].stop].reshape(300, 8, 8)
pictures.images([*templates[units], *np.where(first, templates, 0)[units]], [*(["dense"] * 10), *(["a tenth"] * 10)],
                symmetric=True)

# %% [markdown]
# Of each template only the strongest strokes remain.
#
# ## 6. Who is compared with whom?
#
# `global_magnitude` lets all weights of the network compete with each other. What share does each layer keep?

# %%
def layer_bars(model, state, density, methods):
    """The share that each layer keeps, for several methods of pruning."""
    _, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    for i, (name, method) in enumerate(methods.items()):
        mask, _ = pruned(model, state, density, method)
        shares = {layer.name.removesuffix(".weight"): mask[layer.start : layer.stop].mean()
                  for layer, parameter in zip(mr.nn.pack(model).layers, model.parameters()) if parameter.prunable}
        places = np.arange(len(shares))
        axis.bar(places + 0.27 * (i - len(methods) / 2 + 0.5), shares.values(), 0.25, label=name,
                 color=(pictures.COOL, pictures.WARM, "grey")[i])
        axis.set_xticks(places, shares, fontsize=8, **({"rotation": 30, "ha": "right"} if len(shares) > 4 else {}))
    axis.axhline(density, color=pictures.INK, linewidth=0.8)
    axis.set(ylabel="share kept", ylim=(0, 1))
    axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    plt.show()


layer_bars(model, trained, 0.1, {"global": mr.prune.global_magnitude})

# %% [markdown]
# Not at all the same. The layer in the middle, with more than half of all weights, keeps hardly any. The last one, the
# smallest, keeps far more than a tenth. Is the middle so useless? See how large the weights of each layer were on the
# day they were born, and how large they are now:

# %%
born = mr.nn.pack(mr.models.lenet_300_100(input_shape=(1, 8, 8)).initialise(seed=0)).weights
for layer in mr.prune.prunable_layers(model):
    first_day, now = (row[prunable][layer.start : layer.stop].std() for row in (born, trained.weights))
    print(f"{layer.name:10}  fan-in {layer.shape[1]:3}   spread when born {first_day:.3f}, now {now:.3f}")

# %% [markdown]
# The middle layer was **born** with small numbers, because its fan-in is the largest (lesson 04). When all is learned
# they are the smallest still. The last one was born the smallest of all (the paper gives it 0.01), and has grown most.
# So magnitude does compare what the layers have learned. But it compares, too, what they were born with.
#
# Many people find that unfair and give every layer the same share. That is **layer-wise** pruning. It sounds careful:
# no layer is ever emptied. Write it, and then let us see which is better.
#
# ### Exercise 5: `layerwise_magnitude`
#
# `layers` says where each layer lies in the row: `layer.start` and `layer.stop`. How many each may keep is a question
# of rounding again (a tenth of each layer, and together exactly `keep`), and `shares(keep, layers, mask)` answers it: a
# list of whole numbers, one for each layer.

# %%
@exercise.implement("prune.layerwise_magnitude")
def layerwise_magnitude(weights, mask, keep, *, layers):
    """Keep the largest weights of each layer, the same share everywhere. `layers`: prunable_layers(model)."""
    raise NotImplementedError           # five lines


# %% [markdown]
# Three methods, then. The third is the honest question that every score has to answer: is it better than chance?
# `random_mask` keeps weights by lot.

# %%
def methods(model):
    """Three methods of pruning; what they need besides (weights, mask, keep) is bound here."""
    return {
        "global": mr.prune.global_magnitude,
        "layer-wise": functools.partial(mr.prune.layerwise_magnitude, layers=mr.prune.prunable_layers(model)),
        "by lot": functools.partial(mr.prune.random_mask, key=0),
    }


layer_bars(model, trained, 0.1, methods(model))

# %% [markdown]
# **Predict:** down to which density can you prune globally, without any training afterwards, and still read nine of ten
# digits correctly? And by lot?

# %%
prediction = None       # two densities, like (0.5, 0.6)

densities = [1.0, *(0.8**i for i in range(1, 18))]
curves = {name: [pruned(model, trained, density, method)[1] for density in densities]
          for name, method in methods(model).items()}


def breaks(curve):
    """The smallest density from which on down to it at least 90 % are right."""
    good = [density for density, accuracy in zip(densities, curve) if accuracy >= 90]
    return round(min(good), 2) if good else None


exercise.reveal(prediction, (breaks(curves["global"]), breaks(curves["by lot"])))

# %%
def picture_of_curves(curves, title):
    _, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for (name, curve), colour in zip(curves.items(), (pictures.COOL, pictures.WARM, "grey")):
        axis.plot(1 / np.array(densities), curve, "o-", markersize=3, color=colour, label=name)
    axis.set(xscale="log", xlabel="compression (times fewer weights)", ylabel="read correctly, %", ylim=(0, 100),
             title=title)
    axis.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    axis.minorticks_off()
    axis.legend()
    plt.show()


picture_of_curves(curves, "LeNet-300-100, pruned at once, nothing trained afterwards")

# %% [markdown]
# By magnitude a curve is flat, and then falls off a cliff. By lot there is nothing flat at all, the cliff is right at
# the beginning. So what the score does is to move the cliff. And below some density every curve ends at 10 %: that is
# guessing.
#
# Is the difference between global and layer-wise worth a lesson? Look at the network of the paper, a small one of its
# kind, with convolutions. Its layers are very unequal: the first has a few dozen weights, the last convolution
# thousands.

# %%
convolutional = mr.models.resnet(8, exercise.scale(smoke=4, laptop=8), input_shape=(1, 8, 8))
recipe = mr.train.Recipe(steps=exercise.scale(smoke=120, laptop=450), batch_size=64)
for _ in mr.train.train(convolutional, data, recipe, seed=0):
    pass
trained_convolutional = State.copy(convolutional)
layer_bars(convolutional, trained_convolutional, 0.3, methods(convolutional))
curves = {name: [pruned(convolutional, trained_convolutional, density, method)[1] for density in densities]
          for name, method in methods(convolutional).items()}
picture_of_curves(curves, "a ResNet of 8 layers, nothing trained afterwards")

# %% [markdown]
# Where does it hurt? Ask the layers one by one: prune **one** of them, leave all others whole, and look.
#
# **Predict:** the layers are called `conv1` (the first), `layer1.0.conv1` to `layer3.0.conv2`, `downsample` (on the
# shortcuts) and `fc` (the last). Which one is the most sensitive, and which hardly notices?

# %%
prediction = None       # two names of layers, like ("fc", "layer2.0.conv1")

few, sensitivity = (0.5, 0.3, 0.2, 0.1, 0.05), {}
for layer in mr.prune.prunable_layers(convolutional):
    place = next(part for part in mr.nn.pack(convolutional).layers if part.name == layer.name)
    part, accuracies = slice(place.start, place.stop), []
    for share in few:
        mask = trained_convolutional.mask.copy()
        mask[part] = mr.prune.largest(abs(trained_convolutional.weights[part]),
                                      mr.prune.keep_count(place.stop - place.start, share))
        trained_convolutional.masked(mask, trained_convolutional.step).restore(convolutional)
        accuracies.append(mr.train.evaluate(convolutional, data.validation))
    sensitivity[layer.name.removesuffix(".weight")] = accuracies
trained_convolutional.restore(convolutional)
ordered = sorted(sensitivity, key=lambda name: np.mean(sensitivity[name]))
exercise.reveal(prediction, (ordered[0], ordered[-1]))

figure, axis = plt.subplots(figsize=(8.5, 3.4), layout="constrained")
for (name, accuracies), colour in zip(sensitivity.items(), plt.cm.viridis(np.linspace(0, 0.95, len(sensitivity)))):
    axis.plot(few, accuracies, "o-", markersize=3, linewidth=1, color=colour, label=name)
axis.set(xscale="log", xlabel="share kept of this layer alone", ylabel="read correctly, %", ylim=(0, 100))
axis.set_xticks(few, [f"{share:g}" for share in few])
axis.minorticks_off()
axis.invert_xaxis()
figure.legend(loc="outside right", fontsize=7)
plt.show()

# %% [markdown]
# (Validation images: whoever chooses a share for each layer by such a picture has chosen by these images.) Many people
# prune by hand in this way, with a share of its own for each layer. Now look at the curves above once more.
#
# Here the difference is worth a lesson. Global pruning finds by itself that the early, small layers and the shortcuts
# are needed, and takes most from the largest layer, which can spare it. The same share everywhere cuts where it hurts.
#
# **Try it wrong.** In exercise 2, leave the sign in (return `np.where(mask, weights, -1)`), and read what the check
# says. Then `exercise.use_anyway("prune.magnitude")` and run section 5 again: all the strong *negative* weights are
# gone, the half of the hill on the left. No error message. `exercise.reset_session()` puts everything right.

# %% [markdown]
# ## What you built
#
# - `keep_count`, `magnitude`, `largest`: how many, what is large, and exactly so many.
# - `global_magnitude`: the pruning of the paper, in one line.
# - `layerwise_magnitude`: its best known rival.
#
# From now on, every network in this course is pruned by you.

# %%
exercise.status("07")

# %% [markdown]
# ## A further question
#
# At the bottom of the cliff the network guesses. Has it *forgotten* the digits, or are they still there, and only a few
# numbers out of place? How would you find out? (You may train. That is what lesson 09 is about: how to train it back.)
# And a harder one: is a weight that is small really one that does not matter? Think of a unit whose inputs are all very
# large.
