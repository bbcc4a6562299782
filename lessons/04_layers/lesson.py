# %% [markdown]
# # 04 · Layers, batch norm, initialisation
#
# **Time** 80 minutes · **You need** lessons 01 to 03 · **Paper** its networks, the ResNets, and the numbers they
# begin with
#
# **New words:** activation, spread, initialisation, fan-in, batch norm, running statistics
#
# A network with thirty layers multiplies thirty times. Suppose each layer makes its numbers a tenth larger. What comes
# out at the end is 17 times too large, for 1.1 to the power of 30 is 17. Suppose each makes them half as large. Then a
# billionth comes out.
#
# So how does anything at all get through a deep network? There are two answers. One is about the numbers that a network
# is born with. The other does not trust them.

# %%
import inspect
import time

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import functional, learn, nn, pictures
from minirewind.learn import exercise
from minirewind.tensor import Tensor

exercise.begin("04_layers")

# %% [markdown]
# ## 1. What a layer is
#
# In lesson 02 a digit was multiplied by ten templates. In lesson 03 small filters were slid over it. Both are called
# **layers**: numbers that are learned, and a function that uses them. Here are four filters, made by hand, on one
# digit:

# %%
digits = mr.data.load("digits")
images, labels = mr.data.whole(digits.train, 0, 1000)       # pixels with mean 0, and their digits
edge = np.array([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]])
corner = np.array([[0, -1, -1], [1, 0, -1], [1, 1, 0]])
filters = Tensor(np.stack([edge, edge.T, corner, -corner])[:, None] / 3, dtype=np.float32)   # (4, 1, 3, 3)

digit = Tensor(images[3:4])                                                                  # (1, 1, 8, 8)
maps = functional.conv2d(digit, filters, padding=1)                                          # (1, 4, 8, 8)
pictures.images([digit.data[0, 0], *maps.data[0]], ["digit", "to the right", "downwards", "corner", "its opposite"],
                symmetric=True)

# %% [markdown]
# Red is above zero, blue below. What comes out of a layer is called its **activations**. Each filter answers a
# question: does it get darker here, to the right? Downwards? The third and the fourth filter say the same, with
# opposite signs.
#
# Now put a second layer on top of the first. Does it find more? Try it with two layers of templates:

# %%
rng = np.random.default_rng(0)
first, second = rng.standard_normal((64, 30)), rng.standard_normal((30, 10))
X = images.reshape(-1, 64)                                  # an image per row, (1000, 64)
two_layers = X @ first @ second
one_layer = X @ (first @ second)                            # one matrix, (64, 10)
print("largest difference:", abs(two_layers - one_layer).max().round(3))

# %% [markdown]
# No. Two matrix products are one matrix product, and a hundred are one. A convolution is a matrix product too (NumPy's
# way in lesson 03). To gain anything, something must stand between the layers that is not a product. The simplest thing
# that works: **where a number is below zero, put zero.** It is called **ReLU**.

# %%
pictures.images([digit.data[0, 0], *functional.relu(maps).data[0]],
                ["digit", "to the right", "downwards", "corner", "its opposite"], symmetric=True)

# %% [markdown]
# Now the third and the fourth map say different things. One says "here is such a corner", the other "here is the
# opposite one".
#
# ### Exercise 1: the gradient of ReLU
#
# `forward` kept its result, `self.z`. How much does an input matter that was set to zero? Raise it a little: is the
# result still zero? And one that was let through? (Exactly at zero both answers would do. We say: 0.)

# %%
@exercise.implement("functional.ReLU.backward")
def backward(self, dz):
    """The gradient of x, where z = max(x, 0)."""
    raise NotImplementedError           # one line


# %% [markdown]
# ## 2. A network is a tree
#
# A layer is an object that has numbers to learn, and a method `forward`. In minirewind it is a `Module`. You can make
# one of your own: **set layers as attributes, and say what to do with them.** Modules may lie in modules, and in lists.
# (`global_avg_pool2d` takes the mean of each map: of 8 maps of 8 × 8 pixels, 8 numbers are left.)

# %%
class Pair(nn.Module):
    """Two layers of filters, each with a ReLU behind it."""

    def __init__(self, C, K):
        self.first = nn.Conv2d(C, K, 3, padding=1)
        self.second = nn.Conv2d(K, K, 3, padding=1)

    def forward(self, x):                                   # (N, C, H, W)
        x = functional.relu(self.first(x))                  # (N, K, H, W)
        return functional.relu(self.second(x))              # (N, K, H, W)


class Reader(nn.Module):
    """Two pairs, and a score for each of the ten digits."""

    def __init__(self):
        self.pairs = [Pair(1, 8), Pair(8, 8)]
        self.fc = nn.Linear(8, 10)

    def forward(self, x):                                   # (N, 1, 8, 8)
        for pair in self.pairs:
            x = pair(x)                                     # (N, 8, 8, 8)
        x = functional.global_avg_pool2d(x)                 # (N, 8), the mean of each map
        return self.fc(x)                                   # (N, 10)


reader = Reader()
print("scores of one digit:", reader(digit).data.round(2))

# %% [markdown]
# All learned numbers together are the network's **parameters**. Who trains a network, prunes it or saves it must find
# every one of them, however deep they lie, and none twice. (A layer that is found twice is trained twice as fast. A
# layer that is forgotten keeps the random numbers it was born with. Neither stops with an error message.)
#
# So somebody has to walk through the tree. Every module has a name: the way that leads to it, with dots. The whole
# network has the name `""`.

# %%
for name, module in reader.named_modules():
    print(f"{name!r:18}", type(module).__name__)

# %% [markdown]
# ### Exercise 2: the walk
#
# `self._own(Module)` gives you the modules among the attributes of `self`, as pairs `(name, child)`, those in lists
# included (`"pairs.0"`). You give out pairs `(name, module)`: first yourself, under the name `prefix`, then everything
# inside each child. Each child walks through itself, by the same method.
#
# Python's word for "give out one, and go on" is `yield`. `yield from child.named_modules(...)` gives out everything
# that the child gives out. `seen` is a set of the `id(module)` of those that had their turn; `None` means that the
# walk begins here.

# %%
@exercise.implement("nn.Module.named_modules")
def named_modules(self, prefix="", seen=None):
    """This module and all inside it, by dotted name, each once; a child may hold on to its parent."""
    raise NotImplementedError           # six lines or so


# %% [markdown]
# Everything that asks a network for its parameters now walks your way. This is the smallest network of the paper's
# kind, a **ResNet**: after every two layers of filters, what went into them is added to what comes out. (This way round
# them is called a shortcut.) Here is where its nearly 20,000 parameters lie:

# %%
model = mr.models.resnet(8, 8, input_shape=digits.input_shape, classes=10)
sizes = {name: sum(p.size for _, p in module._own(nn.Parameter)) for name, module in model.named_modules()}
sizes = {name: size for name, size in sizes.items() if size}

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.barh(list(sizes), list(sizes.values()), color="#1b6ca8")
axis.invert_yaxis()
axis.tick_params(axis="y", labelsize=7)
axis.set(xlabel="parameters", title=f"{sum(sizes.values()):,} parameters in {len(sizes)} modules")
plt.show()

# %% [markdown]
# Look at `conv2` in `layer3`. Nearly half of the network is one layer. Remember that when you come to prune.
#
# ## 3. What arrives after thirty layers?
#
# How far numbers typically lie from their mean is their *standard deviation*. We call it their **spread**. The pixels
# of our digits have the spread 1. Send them through thirty layers of 16 filters, with a ReLU behind each, and measure
# the spread behind each layer.
#
# The filters are drawn at random. How large should their numbers be? Each output is a sum of `9 * 16 = 144` products.
# This number is called the layer's **fan-in**. **Predict:** add up 144 random numbers, each with the spread 1. What
# spread has their sum? 144, as much as all of them together?

# %%
prediction = None       # a number

sums = np.random.default_rng(0).standard_normal((20_000, 144)).sum(axis=1)              # twenty thousand such sums
exercise.reveal(prediction, round(float(sums.std())))

# %% [markdown]
# Some are above zero and some below, and most of it cancels. Sums of many random numbers grow with the *square root* of
# how many there are. So the spread of the filters should be $\sqrt{1/\text{fan-in}}$, times some number $k$ that may be
# 1.
#
# **Predict:** with $k = 1$, roughly how large is the spread behind the last layer? And how large would it be without
# the ReLUs?

# %%
depth = exercise.scale(smoke=20, laptop=30)
some = Tensor(images[:50])


def spreads(k, between=functional.relu, width=16):
    """The spread behind each of `depth` layers, whose filters have the spread k * sqrt(1 / fan-in)."""
    x, found = some, []
    for layer in range(depth):
        fan_in = 9 * x.shape[1]
        generator = np.random.default_rng(layer)
        filters = k * np.sqrt(1 / fan_in) * generator.standard_normal((width, x.shape[1], 3, 3))
        x = between(functional.conv2d(x, Tensor(filters, dtype=np.float32), padding=1))
        found.append(float(x.data.std()))
    return found


prediction = None       # two numbers, like (1.0, 1.0): with ReLU, and without

with_relu, without = spreads(1), spreads(1, between=lambda x: x)
exercise.reveal(prediction, (round(with_relu[-1], 6), round(without[-1], 2)))

# %%
def draw(percent):
    axis = plt.figure(figsize=(6.5, 3.2), layout="constrained").gca()
    axis.semilogy(range(1, depth + 1), spreads(percent / 100), "o-", color="#d95f02", label="with ReLU")
    axis.semilogy(range(1, depth + 1), spreads(percent / 100, between=lambda x: x), "o-", color="#aaaaaa",
                  label="without")
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xlabel="layer", ylabel="spread", ylim=(1e-10, 1e10), title=f"k = {percent / 100:.2f}")
    axis.legend()
    plt.show()


pictures.slide(draw, percent=(50, 250, 100))

# %% [markdown]
# One tick on the axis is a factor of a thousand. Without ReLUs, $k = 1$ is nearly right. (It loses a little at
# the rim of the image, where the filters stand on zeros.) The ReLU throws half of the numbers away, at every layer, and
# with them half of the squares that are behind the spread of the next. To make up for that one may take
# $k = \sqrt 2 = 1.41$, for squares grow with $k^2$. (Elsewhere this choice has the name of him who proposed it, *He* or
# *Kaiming* initialisation; the one with $k = 1$ is nearly what is called *Xavier* or *Glorot*.) Move the slider there.
#
# The paper's networks take $k = 1$ all the same. You will see why they can afford it.
#
# ### Exercise 3: the numbers a network is born with
#
# The first numbers of a network are called its **initialisation**. The paper draws them from the normal distribution,
# but **cut at two**: a number beyond 2 or -2 is drawn again, until it is inside. (A single very large weight would
# shout down all others.) The cut makes the spread smaller. What is left of it is this share:

# %%
drawn = rng.standard_normal(1_000_000)
print("spread of what is inside the cut:", drawn[abs(drawn) <= 2].std().round(4))

figure, axis = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
axis.hist(drawn, 120, color="#dddddd", label="normal")
axis.hist(drawn[abs(drawn) <= 2], 60, color="#1b6ca8", label="inside the cut")
axis.set(yticks=[], xlabel="number drawn")
axis.legend()
plt.show()

# %% [markdown]
# Exactly, it is 0.87962566103423978. So that the spread is $\sqrt{1/\text{fan-in}}$ *after* the cut, it must be larger
# before. (The square of the spread is called the *variance*. So the variance is to be $1/\text{fan-in}$.)
#
# `truncated_normal(fan_in)` gives back a **function**, and that function does the drawing: `initial(generator, shape)`.
# A layer keeps it, so that it can be born again, with other numbers, whenever somebody wants. Draw with
# `generator.standard_normal(shape)`; the cut, and the drawing again, come before the scaling.

# %%
@exercise.implement("nn.truncated_normal")
def truncated_normal(fan_in):
    """Normal, cut at two standard deviations, with variance 1 / fan_in after the cut (the paper's initialisation)."""
    raise NotImplementedError           # seven lines or so


# %%
def drawn_by(fan_in):
    values = nn.truncated_normal(fan_in)(np.random.default_rng(0), (20_000,))
    axis = plt.figure(figsize=(6.5, 2.2), layout="constrained").gca()
    axis.hist(values, 80, color="#1b6ca8")
    axis.set(xlim=(-1.2, 1.2), yticks=[], title=f"fan-in {fan_in}: spread {values.std():.3f}")
    plt.show()


pictures.slide(drawn_by, fan_in=(4, 300, 144))

# %% [markdown]
# ## 4. Measure, and put it right
#
# A good initialisation is right on the first day. After that the network learns, its numbers change, and nobody keeps
# the spread at 1. The second answer is bolder: **measure the spread of the activations, at every step, and put it
# right.** For each channel, subtract the mean, divide by the spread:
#
# $$z = \frac{x - \text{mean}}{\sqrt{\text{variance} + \varepsilon}} \cdot \text{weight} + \text{bias}$$
#
# The mean and the variance are taken over all images of the batch and all their pixels. So it is called **batch norm**.
# ($\varepsilon$ is 0.00001, for channels in which all numbers are equal. `weight` and `bias` are two parameters for
# each channel, 1 and 0 at first: if another spread is better, the network may learn it.)
#
# Here are four channels before it, and behind. So that you see what it does, we give them filters of unequal size and
# offsets, as training might in time. **Predict:** what of the four hills on the left will batch norm leave as it is,
# and what not? Their width, their place, their shape?

# %%
conv = nn.Conv2d(1, 4, 3, padding=1)
conv.weight.data *= np.float32([0.4, 1, 2, 1]).reshape(4, 1, 1, 1)
conv.bias.data[...] = -4, 0, 0, 3
before = conv(some)
after = functional.batch_norm(before, None, None, training=True)

figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True, layout="constrained")
for axis, x, title in zip(axes, (before, after), ("before", "behind batch norm")):
    for channel in range(4):
        values = x.data[:, channel].ravel()
        axis.hist(values, 100, range=(-7, 7), histtype="step", linewidth=1.5,
                  label=f"mean {values.mean():.1f}, spread {values.std():.1f}".replace("-0.0", "0.0"))
    axis.set(title=title, yticks=[], xlabel="activation")
    axis.legend(fontsize=8, title="channels", title_fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.25), ncols=2)
plt.show()

# %% [markdown]
# Every hill keeps its shape. Only where it stands and how wide it is, that is put right, for each of them alone.

# %% [markdown]
# ### Exercise 4: the moments of every channel
#
# `x` is a *tensor* of shape (N, C, H, W), or (N, C). Give back the mean and the variance of every channel, with the
# shape (1, C, 1, 1), or (1, C), so that they can be broadcast against `x`. The variance is the mean of the squared
# distances from the mean.
#
# **Compute with the tensor itself**, not with `x.data`. The engine of lesson 02 writes down what you do, and finds the
# gradient of batch norm from it. You need only `x.mean(dims, keepdim=True)`, where `dims` are the dimensions to average
# over, and arithmetic.

# %%
@exercise.implement("functional.channel_moments")
def channel_moments(x):
    """Each channel's mean and variance over all its values, tensors of shape (1, C, 1, 1) for x (N, C, H, W)."""
    raise NotImplementedError           # four lines


# %% [markdown]
# **Predict:** add up everything that comes out of batch norm, and ask for the gradient of that sum. How much does one
# pixel of the first image matter to the sum?

# %%
prediction = None       # a number

x = Tensor(images[:50], requires_grad=True)
functional.batch_norm(x, None, None, training=True).sum().backward()
exercise.reveal(prediction, abs(round(float(x.grad[0, 0, 4, 4]), 3)))

# %% [markdown]
# Raise one pixel, and the mean rises too, and is subtracted from *all*. The sum is always zero, whatever you do. This
# is what `x.data` would have lost: the pixel matters to the others by way of the mean and the variance. People who
# write batch norm's gradient by hand forget one of these ways again and again. You did not write it at all: you wrote
# the forward computation out of operations that know their gradients. This is the rest of it. (What the `running_`
# arrays are for comes in section 5.)

# %%
print(inspect.getsource(functional.batch_norm_steps))

# %% [markdown]
# And this is what it does to our thirty layers. Move the slider as far as you like.

# %%
def draw_normalised(percent):
    def normalised(x):
        return functional.relu(functional.batch_norm(x, None, None, training=True))

    axis = plt.figure(figsize=(6.5, 2.8), layout="constrained").gca()
    axis.semilogy(range(1, depth + 1), spreads(percent / 100), "o-", color="#d95f02", label="ReLU")
    axis.semilogy(range(1, depth + 1), spreads(percent / 100, normalised), "o-", color="#1b6ca8",
                  label="batch norm, ReLU")
    axis.set(xlabel="layer", ylabel="spread", ylim=(1e-10, 1e10), title=f"k = {percent / 100:.2f}")
    axis.legend()
    plt.show()


pictures.slide(draw_normalised, percent=(50, 250, 60))

# %% [markdown]
# A straight line, for every $k$. That is why the paper can afford $k = 1$.
#
# ## 5. The company an image keeps
#
# Batch norm has a price. What it does to an image depends on which other images are in the batch. Here is one image,
# in sixty different batches, and what a layer with batch norm says about one of its pixels:

# %%
layer = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
said = []
for _ in range(60):
    company = rng.integers(0, 1000, 15)
    together = Tensor(np.concatenate([images[3:4], images[company]]))               # (16, 1, 8, 8)
    said.append(float(layer(together).data[0, 0, 4, 4]))

layer.eval()
alone = float(layer(digit).data[0, 0, 4, 4])
figure, axis = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
axis.plot(said, "o", color="#d95f02", label="in sixty batches, while training")
axis.axhline(alone, color="#1b6ca8", label="evaluated")
axis.set(xlabel="batch", ylabel="activation")
figure.legend(loc="outside upper center", ncols=2)
plt.show()

# %% [markdown]
# While a network learns, this does little harm. But when it is *used*, the answer to one image must not depend on its
# neighbours, and there may be one image only. So batch norm has two modes:
#
# - `model.train()`: it takes the mean and the variance of the batch. Besides, it remembers them.
# - `model.eval()`: it takes what it remembers, its **running statistics**.
#
# ### Exercise 5: remember
#
# At each step move the running mean a little way towards the mean of the batch: by the share `momentum` of the
# distance, 0.1 or less. The same with the variance. Both are arrays, and both must be **changed in place**: the layer
# looks at this very memory.
#
# One more thing, about the variance. Measured on a few numbers it comes out too small, because the mean was measured on
# the same numbers, and lies in their middle. On `count` numbers it is too small by the factor `(count - 1) / count`.
# The batch itself is normalised with the variance as it is. What is *remembered* for other images is put right first.

# %%
@exercise.implement("functional.update_running")
def update_running(running_mean, running_var, mean, variance, count, momentum):
    """Move the running statistics by `momentum` towards a batch's, in place; `count` values of each channel were in it.

    The variance that is kept is the unbiased one.
    """
    raise NotImplementedError           # two lines


# %% [markdown]
# The paper moves by 0.003 at each step, over 71,000 steps. Our lessons have a few hundred steps, and move by 0.1. Why
# not always the same? Look at both:

# %%
figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
for momentum, colour in ((0.003, "#d95f02"), (0.1, "#1b6ca8")):
    mean, variance, seen = np.zeros(1), np.ones(1), []
    for _ in range(150):
        batch = before.data[rng.integers(0, 50, 4), 1]                      # 4 images, channel 1
        functional.update_running(mean, variance, batch.mean(), batch.var(), batch.size, momentum)
        seen.append(float(variance[0]))
    axis.plot(seen, color=colour, label=f"momentum {momentum}")
axis.axhline(before.data[:, 1].var(), color="black", linewidth=0.8, label="all images")
axis.set(xlabel="step", ylabel="running variance")
axis.legend()
plt.show()

# %% [markdown]
# The large one is there soon, and trembles for ever. The small one is calm, and after 150 steps it has come little
# further than a third of the way.
#
# ## 6. Does it learn?
#
# Now everything together: twelve layers, and digits to read. The loop is the one of lesson 02: compute, walk back, take
# a step. `cross_entropy` is the error from there, the mean of $-\log p$ of the right digit, in one function.
#
# **Predict:** before it has learned anything a network gives each of ten digits about the same probability. How large
# is the error then?

# %%
prediction = None       # a number

exercise.reveal(prediction, round(float(np.log(10)), 2))

# %%
class Stack(nn.Module):
    """Twelve layers of 8 filters, with or without batch norm, and a score for each digit."""

    def __init__(self, normalise):
        self.convs = [nn.Conv2d(1 if i == 0 else 8, 8, 3, padding=1, bias=False) for i in range(12)]
        self.norms = [nn.BatchNorm2d(8) for _ in self.convs] if normalise else []
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        for i, conv in enumerate(self.convs):
            x = conv(x)                                                 # (N, 8, 8, 8)
            x = functional.relu(self.norms[i](x) if self.norms else x)
        return self.fc(functional.global_avg_pool2d(x))                 # (N, 10)


def errors(model, steps, rate=0.1):
    """The error at every step, as long as it is a number, and the largest gradient of the first filters at step 0."""
    found, bottom = [], 0.0
    for step in range(steps):
        batch = slice(64 * step % 960, 64 * step % 960 + 64)
        error = functional.cross_entropy(model(Tensor(images[batch])), labels[batch])
        error.backward()
        bottom = bottom or float(abs(model.convs[0].weight.grad).max())
        for parameter in model.parameters():
            parameter.data -= rate * parameter.grad
            parameter.grad = None
        found.append(error.item())
        if not np.isfinite(found[-1]):
            break
    return found, bottom


steps = exercise.scale(smoke=60, laptop=200)
curves, bottoms = {}, {}
with np.errstate(all="ignore"):             # one of them will overflow
    for name, k, normalise in (("k = 1", 1, False), ("k = 1.41", 2**0.5, False), ("k = 3", 3, False),
                               ("k = 1, batch norm", 1, True)):
        model = Stack(normalise).initialise(seed=0)
        for conv in model.convs:
            conv.weight.data *= k
        curves[name], bottoms[name] = errors(model, steps)

figure, axis = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for (name, curve), colour in zip(curves.items(), ("#bbbbbb", "#d95f02", "#c0392b", "#1b6ca8")):
    axis.plot(curve, color=colour, label=name, marker="x" if len(curve) < 5 else None,
              linewidth=5 if name == "k = 1" else 1.5)             # the first two may lie on each other
axis.axhline(np.log(10), color="black", linewidth=0.8, linestyle=":")
axis.set(xlabel="step", ylabel="error", ylim=(0.5, 4))
axis.legend()
plt.show()
for name, curve in curves.items():
    print(f"{name:18} error {curve[0]:.3g} at first, {curve[-1]:.3g} after {len(curve)} steps; "
          f"gradient of the first filters {bottoms[name]:.1g}")

# %% [markdown]
# The dotted line is the error of pure guessing. The network with $k = 1$ and no batch norm sits on it: hardly anything
# gets through to the top, and hardly any gradient back to the bottom. (The last number of each line is the largest
# gradient of the very first filters, at the first step. Compare the first network with the last.) With $k = 1.41$ it
# leaves the line late, if at all. With $k = 3$ too much gets through: its error begins far above the figure, and after
# a few steps there are no numbers left. The one with batch norm learns.
#
# Note what you did *not* see: an error message. A network whose beginning is wrong looks just like a network that has
# nothing to learn.
#
# And still deeper? Batch norm puts the numbers right on their way up. On the way back nobody does. The paper's networks
# have the shortcut for that. Here are thirty layers with batch norm, each of which replaces what went into it, or
# *adds* to it.
#
# **Predict:** what will the sizes of the gradients look like, from the first layer to the last? (Think of
# `Add.backward`.)

# %%
class Deep(nn.Module):
    """Thirty layers of 8 filters with batch norm, with or without shortcuts."""

    def __init__(self, shortcut):
        self.first, self.fc, self.shortcut = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.Linear(8, 10), shortcut
        self.convs = [nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(30)]
        self.norms = [nn.BatchNorm2d(8) for _ in self.convs]

    def forward(self, x):
        x = self.first(x)
        for conv, norm in zip(self.convs, self.norms):
            made = functional.relu(norm(conv(x)))                   # (N, 8, 8, 8)
            x = x + made if self.shortcut else made
        return self.fc(functional.global_avg_pool2d(x))             # (N, 10)


figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
for shortcut, colour in ((False, "#d95f02"), (True, "#1b6ca8")):
    deep, name = Deep(shortcut).initialise(seed=0), "with shortcuts" if shortcut else "without"
    functional.cross_entropy(deep(Tensor(images[:64])), labels[:64]).backward()
    axes[0].semilogy(range(1, 31), [np.sqrt((conv.weight.grad**2).mean()) for conv in deep.convs], "o-",
                     markersize=3, color=colour, label=name)
    for parameter in deep.parameters():
        parameter.grad = None
    axes[1].plot(errors(deep, exercise.scale(smoke=100, laptop=120))[0], color=colour, label=name)
axes[0].set(xlabel="layer", ylabel="size of its gradient")
axes[1].set(xlabel="step", ylabel="error", ylim=(0, 4))
axes[1].legend()
plt.show()

# %% [markdown]
# Without shortcuts the gradient grows with every layer that it passes on its way down, so no rate fits the
# first layer and the last. A sum hands on its gradient as it is, to both of its inputs. So with shortcuts there is a
# way from the error to the very first layer on which nothing is multiplied. (At its first steps the network with
# shortcuts is above the figure, for each layer adds to the numbers. That is soon put right.)
#
# ## 7. A promise from lesson 01: fusion
#
# Your batch norm is nine operations, one after another, and each of them walks over all the numbers: subtract,
# square, average, and so on. A computer can read and write only so many numbers a second, and here it does little else.
# So minirewind has batch norm, the shortcut of a ResNet and the ReLU in **one** operation, which walks over them twice:
# once to measure, and once for all the rest. That is fusion. (While one of its parts is yours, the framework runs your
# nine. This compares both:)

# %%
x = rng.standard_normal((32, 32, 16, 64)).transpose(3, 2, 0, 1)             # (64, 16, 32, 32), the images innermost
x = Tensor(x, dtype=np.float32, requires_grad=True)
one, zero = Tensor(np.ones(16, np.float32)), Tensor(np.zeros(16, np.float32))
both = {"fused": learn.place("functional.batch_norm_add_relu").framework,
        "step by step": functional.batch_norm_add_relu_steps}
best = dict.fromkeys(both, np.inf)

for _ in range(8):                                                          # in turns: what disturbs, disturbs both
    for name, function in both.items():
        began = time.perf_counter()
        function(x, x, None, None, one, zero, training=True).sum().backward()
        best[name] = min(best[name], 1000 * (time.perf_counter() - began))

for name, milliseconds in best.items():
    print(f"{name:13} {milliseconds:6.1f} ms, forward and backward")

# %% [markdown]
# ## What you built
#
# - `ReLU.backward`: what was set to zero does not matter.
# - `Module.named_modules`: every parameter of every network is found on your walk.
# - `truncated_normal`: the numbers that the paper's networks are born with.
# - `channel_moments` and `update_running`: batch norm, while it trains and while it remembers.

# %%
exercise.status("04")

# %% [markdown]
# ## A further question
#
# Batch norm divides by the spread. So multiply all filters of a layer by 2, and nothing changes behind it. Then what
# *is* the size of a filter's numbers, if it makes no difference? Does a filter with small numbers matter less than one
# with large numbers? Keep the question: from lesson 07 on we will throw away the small ones.
