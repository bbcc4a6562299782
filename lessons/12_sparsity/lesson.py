# %% [markdown]
# # 12 · When does sparsity pay? Milliseconds and bytes
#
# **Time** 80 minutes · **You need** lessons 03, 07 and 10 · **Paper** it counts the weights that are left; this
# lesson counts what they cost
#
# **New words:** sparsity, crossing point, unstructured, structured pruning
#
# You can prune a network to a tenth of its weights, and it reads as well as before. So it is ten times smaller now, and
# ten times faster. Isn't it?
#
# Look at the arrays. They have the same shapes as ever, nine of ten numbers in them are 0, and the processor multiplies
# by 0 as carefully as by anything else. **A pruned network is a promise. Somebody has to cash it.** In this lesson you
# write the file and the loop that do, and you measure when it is worth it.

# %%
import functools
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numba
import numpy as np

import minirewind as mr
from minirewind import pictures
from minirewind.learn import exercise

exercise.begin("12_sparsity")

# %% [markdown]
# ## 1. A zero takes as long as any other number
#
# A convolution from the middle of a network: 128 images, 32 channels of 8 × 8, and 32 filters. We prune the filters by
# lot. *Sparsity* is the share that is gone, one minus the density.
#
# **Predict:** how many times faster is the framework's convolution when 99 of 100 weights are 0?

# %%
prediction = None       # a number


def milliseconds(function, *arguments, times=None):
    """The fastest of some calls, after one that does not count."""
    function(*arguments)
    best = np.inf
    for _ in range(times or exercise.scale(smoke=10, laptop=100)):
        began = time.perf_counter()
        function(*arguments)
        best = min(best, 1000 * (time.perf_counter() - began))
    return best


cpu = mr.kernels.backend("cpu")
mr.kernels.set_threads(1)                                           # one core: less is in the way of what we measure
lot = np.random.default_rng(0)
x = lot.standard_normal((8, 8, 32, 128), np.float32).transpose(3, 2, 0, 1)              # batch innermost
filters = lot.standard_normal((32, 32, 3, 3), np.float32)
place = (1, 1), (1, 1)                                              # stride and padding
densities = [1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01]
masks = {density: lot.random(filters.shape) < density for density in densities}

with exercise.only_framework():                                     # its best, not your loops of lesson 03
    dense = {density: milliseconds(cpu.conv2d, x, filters * mask, None, *place) for density, mask in masks.items()}
exercise.reveal(prediction, round(dense[1.0] / dense[0.01], 1))
pictures.bars({f"density {density}": took for density, took in dense.items()}, "milliseconds")

# %% [markdown]
# As good as nothing. Nobody told the loops that there is anything to leave out. (Where the bars differ, the computer
# had something else to do meanwhile.)
#
# ## 2. Bytes
#
# Begin with the simpler promise, the file. A weight takes 4 bytes, 32 bits. We write down the kept ones only. But
# somebody who reads the file must know *where* they belong.
#
# One could write the place beside each, as a whole number: 4 bytes more for each weight that is kept. Or one writes
# **one bit for every weight**, kept or not: the mask itself, eight weights in a byte.
#
# **Predict:** a tenth is kept. How many times smaller is the file with the places? And the one with the bits?

# %%
prediction = None       # two numbers, like (10, 10)

exercise.reveal(prediction, (round(32 / (0.1 * 64), 1), round(32 / (0.1 * 32 + 1), 1)))

# %% [markdown]
# Count in bits, for each weight of the whole network. All of them: 32. With the places: 64, but only for a tenth, that
# is 6.4. With the mask: 32 for a tenth, and 1 for each, that is 4.2. Here are 64 weights. Move the slider.

# %%
chance = lot.permutation(64).reshape(8, 8)


def file_of(kept):
    """The mask of 64 weights, of which some are kept, and what the file takes."""
    axis = plt.figure(figsize=(4.6, 2.6), layout="constrained").gca()
    axis.imshow(chance < kept, cmap="Blues", vmin=0, vmax=1.4)
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{kept} of 64 kept. All weights: 256 bytes\nwith places: {8 * kept} bytes\n"
                   f"with bits: 8 + {4 * kept} = {8 + 4 * kept} bytes", fontsize=10)
    plt.show()


pictures.slide(file_of, kept=(0, 64, 6))

# %%
kept = np.linspace(0, 1, 101)
axis = plt.figure(figsize=(6, 3.2), layout="constrained").gca()
axis.plot(kept, 64 * kept / 32, color="#d95f02", label="kept weights and their places")
axis.plot(kept, (32 * kept + 1) / 32, color="#1b6ca8", label="kept weights and a bit for each")
axis.axhline(1, color="#222222", linewidth=1, label="all weights")
axis.set(xlabel="density", ylabel="size of the file, dense = 1", xlim=(0, 1), ylim=(0, 2))
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# Where two lines cross is a *crossing point*: on one side the one way is better, on the other side the other. With the
# places the file is smaller only below a density of one half. With the bits it is smaller up to 31/32. And look into
# the lower left corner: below 1/32 the places win, for most of the bits only say that there is nothing.
#
# ### Exercise 1: packing
#
# `mask` and `weights` are flat vectors of equal length. Return two arrays: first the bits, eight in a byte, then the
# kept weights in their order. `np.packbits(mask)` makes the bytes, and fills up the last one with zeros.

# %%
@exercise.implement("sparse.packed")
def packed(mask, weights):
    """One bit for every weight, eight in a byte; and the weights that are kept."""
    raise NotImplementedError           # one line


# %% [markdown]
# ### Exercise 2: unpacking
#
# And back: first the mask as an array of bool, then all weights, with 0 where nothing is kept, and of the type that the
# values have. `np.unpackbits(bits, count=size)` gives 0s and 1s, as many as you ask for.

# %%
@exercise.implement("sparse.unpacked")
def unpacked(bits, values, size):
    """The mask and all `size` weights again, from what `packed` made of them; 0 where nothing is kept."""
    raise NotImplementedError           # four lines


# %% [markdown]
# Now a real network: a small ResNet (lesson 04) that learns to read the digits. It is pruned over the whole network, as
# in lesson 07, and `mr.sparse.save` writes it to a file, with your `packed`. What it returns is the size of the file in
# bytes.
#
# **Predict:** twenty times fewer weights. How many times smaller is the file?

# %%
prediction = None       # a number

digits = mr.data.load("digits")


def network():
    """A new one, before training."""
    return mr.models.build("resnet8-8", input_shape=digits.input_shape, classes=10, bn_momentum=0.1)


model = network()
model.initialise(0)
steps = exercise.scale(smoke=120, laptop=450)
for _ in mr.train.train(model, digits, mr.train.Recipe(steps, 64), seed=0):
    pass
trained = mr.train.State.copy(model)


def pruned(density, method=None):
    """The trained network with a mask, not yet retrained."""
    model = network()
    mask = mr.prune.new_mask(model, trained, density, method)
    trained.masked(mask, trained.step).restore(model)
    return model.eval()


folder = Path(tempfile.mkdtemp())
sizes = {f"density {density}": mr.sparse.save(folder / "network.npz", pruned(density)) / 1000
         for density in (1.0, 0.5, 0.2, 0.1, 0.05)}
exercise.reveal(prediction, round(sizes["density 1.0"] / sizes["density 0.05"], 1))
pictures.bars(sizes, "kilobytes")

# %% [markdown]
# **Why is the last one not twenty times smaller than the first?** Take it apart.

# %%
smallest = mr.nn.pack(pruned(0.05))
bits, values = mr.sparse.packed(smallest.mask, smallest.weights)
free = int((~smallest.prunable).sum())                              # what is never pruned
pictures.bars({"kept weights": 4 * (len(values) - free), "one bit for each weight": len(bits),
               "batch norm and bias": 4 * free, "running mean and variance": smallest.statistics.nbytes}, "bytes")

# %% [markdown]
# Only the first bar has become twenty times smaller. The bits are there however few weights are left. And not
# everything in a network can be pruned: batch norm has two weights for each channel, and two statistics. (The rest of
# the file says which network it is. And `save` squeezes all of it, as a zip file does, which makes it a little less.)
#
# Is it the same network that comes back? `mr.sparse.load` reads it, with your `unpacked`.

# %%
before = pruned(0.1)
mr.sparse.save(folder / "network.npz", before)
after = mr.sparse.load(folder / "network.npz")
print("equal weights:", np.array_equal(mr.nn.pack(before).weights, mr.nn.pack(after).weights))
print("equal masks:  ", np.array_equal(mr.nn.pack(before).mask, mr.nn.pack(after).mask))

# %% [markdown]
# ## 3. Milliseconds
#
# Your five loops of lesson 03 go through all filters, channels and taps. Now we want a loop over the **kept weights
# only**. For that somebody must make a list of them, once for each mask. The framework's `sparse_entries` does, in two
# orders: `by_output` for the convolution, `by_input` for the gradient of its images. The first one:

# %%
example = np.zeros((2, 2, 1, 3), bool)                              # 2 filters, 2 channels, 1 x 3 taps
example[0, 1, 0, 2] = example[1, 0, 0, 0] = example[1, 1, 0, 1] = True
start, channel, tap, position = cpu.sparse_entries(example).by_output
print("start   ", start)
print("channel ", channel)
print("tap     ", tap)
print("position", position)

# %% [markdown]
# Three weights are kept, so `channel`, `tap` and `position` have three entries. The first one belongs to filter 0: it
# reads channel 1 through tap 2, and its value lies at position 5 of the flat weights. `start` says which entries
# belong to which filter: those of filter `k` are `start[k]` up to `start[k + 1]`. So filter 0 has entry 0, and filter
# 1 has the entries 1 and 2.
#
# ### Exercise 3: the loop over the kept weights
#
# Everything else is as in lesson 03:
#
# - `x` is the images, `(pixels, C, N)`, and `y` is `(places, K, N)`. **Add** to what is there.
# - `source` is the table, `(places, taps)`: which pixel tap `t` sees at place `q`, or -1 in the padding.
# - `weight` is flat here, all of the filters one after the other, the pruned ones too.
# - `start`, `channel`, `tap` and `position` are the list. A *row* of it is a filter. (In the gradient of the images it
#   is a channel. The loop is the same, so the docstring says "row".)
#
# For each place and each filter: go through its entries, and add what they see, for all images.

# %%
@exercise.implement("kernels.loops.add_kept")
def add_kept(x, weight, start, channel, tap, position, source, y):
    """y[q, k, :] += weight * x[pixel, channel, :] for the kept weights of row k: entries start[k] to start[k + 1]."""
    raise NotImplementedError           # four loops, an if, two lines inside


# %% [markdown]
# **Predict:** at which density does a loop over the kept weights become faster than the dense convolution? At 0.9? At
# 0.5? At 0.1? Both are the framework's best. Both hold their sums in registers, and the dense one gets along with a
# quarter of the multiplications (lesson 12b).

# %%
prediction = None       # a number between 0 and 1

source = mr.kernels.cpu.convolution.taps(8, 8, (3, 3), *place)
pixels = x.transpose(2, 3, 1, 0).reshape(64, 32, 128)
mine = mr.kernels.loops.add_kept
mine = mine if hasattr(mine, "py_func") else numba.njit(fastmath={"contract"})(mine)        # yours is compiled already
loop, kernel = {}, {}
for density, mask in masks.items():
    entries = cpu.sparse_entries(mask)
    y = np.zeros((64, 32, 128), np.float32)
    loop[density] = milliseconds(mine, pixels, filters.ravel(), *entries.by_output, source, y, times=3)
    with exercise.only_framework():
        kernel[density] = milliseconds(cpu.sparse_conv2d, x, filters, None, entries, *place)


def crossing(sparse):
    """The density at which the sparse way takes as long as the dense one, between the measured ones."""
    ratio = np.log([sparse[density] / dense[density] for density in densities])             # falls from left to right
    return float(np.exp(np.interp(0, ratio[::-1], np.log(densities)[::-1])))


exercise.reveal(prediction, round(crossing(kernel), 2))

# %%
axis = plt.figure(figsize=(6.5, 3.6), layout="constrained").gca()
axis.loglog(densities, list(dense.values()), "s-", color="#222222", label="dense, the framework's kernel")
axis.loglog(densities, list(loop.values()), "o-", color="#d95f02", label="kept weights, the plain loop")
axis.loglog(densities, list(kernel.values()), "o-", color="#1b6ca8", label="kept weights, the framework's kernel")
axis.axvline(crossing(kernel), color="#1b6ca8", linestyle=":")
axis.set(xlabel="density", ylabel="milliseconds")
axis.invert_xaxis()
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# The sparse lines fall with the density, the dense one does not. On this computer the framework's two kernels cross at
# the dotted line. Why so far to the right?
#
# - A kept weight costs more than a weight in a full array. Its entry has to be read, and the pixel it needs has to be
#   fetched from anywhere, while the dense kernel knows what comes next.
# - The dense way is *good*. It has been made faster for decades, with tricks that need full arrays.
#
# **Sparsity must first make up for what it costs.** This is why pruned networks often bring nothing: the better the
# dense kernel of a machine, the more must be gone before leaving out pays at all.
#
# **And the orange line, the plain loop?** There `weight[position[entry]]` and `channel[entry]` are the same for all
# images. You know that. The compiler does not. For all it knows, `y` lies in the same memory as `weight` and `channel`,
# and each sum that is stored may have changed them. So if you write them in the innermost loop they are fetched again
# for every image, and the images are taken one by one, not in rows. Give them two names before that loop begins. (Have
# you done so? Then put them back inside, run the two cells again, and look at the orange line.)
#
# The framework decides anew for each convolution, by a rule that was measured like this:

# %%
for density in densities:
    pays = cpu.sparse_pays(x.shape, filters.shape, int(masks[density].sum()), *place)
    print(f"density {density:<5} the framework takes the {'kept weights' if pays else 'dense kernel'}")

# %% [markdown]
# ## 4. Not all weights cost the same
#
# How much work is in a network? One counts its multiplications. A weight of a filter is used once for every place of
# the window, so it costs $P \cdot Q$ of them. Early in a network the maps are large, later they are small (and there
# are more channels). To count them, `mr.sparse.trace` sends an image through the network and takes down the list of
# its operations.
#
# **Predict:** which tenth of the weights is cheaper to keep: a tenth of *each layer*, or the tenth that is largest over
# the *whole network*?

# %%
prediction = None       # "each layer" or "whole network"


def work(model):
    """The multiplications of each convolution for one image, counting kept weights only."""
    graph = mr.sparse.trace(model, digits.train.images[:1])
    return [np.count_nonzero(operation.inputs[1]) * np.prod(graph.shapes[operation.output][1:])
            for operation in graph.operations if operation.function is mr.functional.Conv2d]


layers = mr.prune.prunable_layers(model)
by_layer = functools.partial(mr.prune.layerwise_magnitude, layers=layers)
choices = {"all weights": pruned(1.0), "a tenth of each layer": pruned(0.1, by_layer),
           "a tenth, whole network": pruned(0.1)}
total = {name: sum(work(each)) for name, each in choices.items()}
names = {"a tenth of each layer": "each layer", "a tenth, whole network": "whole network"}
exercise.reveal(prediction, names[min(names, key=total.get)])
pictures.bars({name: 100 * count / total["all weights"] for name, count in total.items()}, "multiplications, %")

# %%
price, left = np.array(work(choices["all weights"])), np.array(work(choices["a tenth, whole network"]))
graph = mr.sparse.trace(model, digits.train.images[:1])
weights = np.array([operation.inputs[1].size for operation in graph.operations
                    if operation.function is mr.functional.Conv2d])
_, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].bar(range(len(left)), 100 * left / price, color="#1b6ca8")
axes[0].axhline(10, color="#d95f02")
axes[0].set(xlabel="convolution", ylabel="kept, %", title="the tenth that is largest over the whole network")
axes[1].bar(range(len(price)), price / weights, color="#222222")
axes[1].set(xlabel="convolution", ylabel="multiplications", title="what one weight costs")
plt.show()

# %% [markdown]
# The mask over the whole network keeps most in the first convolutions, and in small ones. (Numbers 1, 4 and 7 have
# filters of 1 × 1, on the short way past two others.) And in the first ones each weight costs most. **The same density,
# and more work.** That mask is the better one for the accuracy, you have seen it in lesson 07. Now you see its price.
#
# And the milliseconds? `sparse.compile` makes a fast program of a network: batch norm is folded into the filters, and
# weights that are gone are left out. **Predict:** the network with a tenth of its weights, how many times faster is it
# with 128 images? And with one?

# %%
many, one = digits.test.images[:128], digits.test.images[:1]
rows = {}
with exercise.only_framework():
    for name, each in choices.items():
        program = mr.sparse.compile(each, one)
        rows[name] = (100 * total[name] / total["all weights"], milliseconds(program, many), milliseconds(program, one))
print(f"{'':24}{'multiplications':>16}{'128 images':>14}{'1 image':>12}")
for name, (percent, batch, single) in rows.items():
    print(f"{name:24}{percent:14.0f} %{batch:11.2f} ms{single:9.3f} ms")

# %% [markdown]
# Compare the columns. A tenth of the weights, some more of the multiplications, and of the time yet another share.
# **Weights are not multiplications, and multiplications are not time.** Whoever reports one of them has not measured
# the others.
#
# (These networks were pruned and not trained again, so nothing is said here about how well they read. That was lessons
# 09 to 11.)
#
# ## 5. Whole filters
#
# What we have pruned so far is *unstructured*: any weight may go, and what is left lies about anywhere. Suppose you may
# only remove **whole filters**. That is called **structured pruning**. Then nothing has holes. The array of the filters
# becomes smaller, and so does that of the maps, for who is not there makes no map. So the next layer has fewer channels
# to read.
#
# **Predict:** half of the filters go, in every layer. What share of the weights of a layer in the middle is left? And
# how many times faster is the dense kernel, which knows nothing of all this?

# %%
prediction = None       # a share, and how many times, like (0.5, 2.0)

half_x = np.ascontiguousarray(x.transpose(2, 3, 1, 0)[:, :, :16]).transpose(3, 2, 0, 1)     # 16 of the 32 channels
half_filters = np.ascontiguousarray(filters[:16, :16])                                      # and 16 of the 32 filters
with exercise.only_framework():
    half = milliseconds(cpu.conv2d, half_x, half_filters, None, *place)
exercise.reveal(prediction, (half_filters.size / filters.size, round(dense[1.0] / half, 1)))
pictures.bars({"all weights": dense[1.0], "a quarter, lying about": kernel[0.25], "a quarter, whole filters": half},
              "milliseconds")

# %% [markdown]
# A quarter: half of the filters, and of each of them half of the channels. For a quarter of the multiplications the
# dense kernel takes about a third of the time, without any list. The same number of weights, lying about, may even take
# longer than all of them.
#
# So why does not everybody remove filters? **Predict:** our trained network, pruned to a half. How many of the test
# digits does it read right after pruning, if single weights go, and if whole filters go? And after it was trained
# again?

# %%
prediction = None       # four numbers in percent, like (90, 90, 95, 95)

by_filter = functools.partial(mr.prune.l1_filters, layers=layers)           # the smallest filters, of all convolutions
recipe = mr.train.Recipe(steps, 64)
cut = exercise.scale(smoke=(0.5, 0.1), laptop=(0.5, 0.25, 0.1, 0.05))
before, again = {}, {}
for name, method in (("single weights", None), ("whole filters", by_filter)):
    before[name], again[name] = [], []
    for density in cut:
        each = pruned(density, method)
        before[name].append(mr.train.evaluate(each, digits.test))
        start = trained.masked(mr.nn.pack(each).mask, 0)                    # learning-rate rewinding, all the way
        for _ in mr.train.train(each, digits, recipe, seed=0, round=1, start=start):
            pass
        again[name].append(mr.train.evaluate(each, digits.test))
exercise.reveal(prediction, tuple(round(found[name][0]) for found in (before, again) for name in before))

# %%
axis = plt.figure(figsize=(6.5, 3.4), layout="constrained").gca()
for name, colour in (("single weights", "#1b6ca8"), ("whole filters", "#d95f02")):
    axis.plot(1 / np.array(cut), before[name], "s:", color=colour, label=f"{name}, right after pruning")
    axis.plot(1 / np.array(cut), again[name], "o-", color=colour, label=f"{name}, trained again")
axis.axhline(mr.train.evaluate(pruned(1.0), digits.test), color="#222222", linewidth=1)
axis.set(xscale="log", xlabel="compression (line: the dense network)", ylabel="read correctly, %", ylim=(0, 101))
axis.set_xticks(1 / np.array(cut), [f"{1 / density:.0f}" for density in cut])
axis.minorticks_off()
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# A filter is a blunt knife. It takes the large weights with the small ones, and of a layer whose filters are all small
# it may take every one. Right after pruning the network guesses. Trained again it comes back, on these easy digits
# nearly as far as the other; a gap opens where little is left. (One seed. Lesson 11.)
#
# On photographs the knife costs more. The paper has removed whole filters from ResNet-56 on CIFAR-10. At only 1.7 times
# fewer weights, where single weights would cost nothing, the change of accuracy was, in points, the median of three
# runs:
#
# | fine-tuning | weight rewinding | learning-rate rewinding | new random weights |
# |---|---|---|---|
# | -2.1 | -1.3 | -1.2 | -1.3 |
#
# The order is the old one. But look at the last column: here the weights that were kept are worth next to nothing. What
# pruning whole filters finds is an *architecture*, a number of filters for each layer.
#
# So there are three answers to *how do I get speed?* Single weights, with a kernel that knows the list, where very few
# are left. Whole filters, with any kernel, for some accuracy. Or something in between.
#
# ## What you built
#
# - `packed`, `unpacked`: the file of a pruned network, one bit for each weight and four bytes for each kept one.
# - `add_kept`: a convolution that does only what is left to do. Where the framework takes the kept weights, it takes
#   your loop now, in training too. (`exercise.reset("kernels.loops.add_kept")` gives the work back.)
#
# And you measured three different answers to *how much smaller is it?* Weights, bytes, milliseconds. And what it costs
# to have all three at once.

# %%
exercise.status("12_")

# %% [markdown]
# ## A further question
#
# What lies in between? Say that of any four neighbours two must stay: how many bits does a list of that need for each
# weight, and why would a machine like it? (Look for *2:4 sparsity*, which some graphics cards can do.) And a question
# from another side: a kept weight takes 32 bits. Does it need them? How many different values do the weights of our
# pruned network really take, if you round them a little, and what would the file be then? (Look for *quantisation*. It
# and pruning are the two halves of making networks small.)
