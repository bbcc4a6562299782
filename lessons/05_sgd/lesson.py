# %% [markdown]
# # 05 · SGD: momentum, Nesterov, decay, the step schedule
#
# **Time** 70 minutes · **You need** lessons 01, 02 and 04 · **Paper** its table of settings: SGD, momentum 0.9,
# a decay of 0.0002, and a learning rate that drops twice
#
# **New words:** loss, valley, learning rate, Nesterov, weight decay, schedule
#
# You stand on a hillside in thick fog and want to go down. You can feel the slope under your feet, and no more. So you
# take a step down the slope, feel again, and take another. The paper's networks take 71,000 such steps.
#
# How long should a step be? If it is too short you will not arrive today. If it is too long you step right over the
# bottom, and up the other side. And is straight down the slope really the best way? On most hillsides it is not. You
# will see that one from above, without the fog.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import functional, nn, optim, pictures
from minirewind.learn import exercise
from minirewind.tensor import Tensor

exercise.begin("05_sgd")

# %% [markdown]
# ## 1. A hillside of real data
#
# A network has too many parameters to draw. So here is the smallest thing that learns: it has two. It looks at how much
# ink there is in the upper half of a digit, and guesses the ink in the lower half: `guess = a * upper + b`.

# %%
digits = mr.data.load("digits")
ink = digits.train.images[:, 0] / 100                       # (1000, 8, 8), in hundreds
upper, lower = ink[:, :4].sum(axis=(1, 2)), ink[:, 4:].sum(axis=(1, 2))
pictures.images(digits.train.images[:10], [f"{u:.2f} and {v:.2f}" for u, v in zip(upper, lower)])


def loss(a, b):
    """How wrong the guesses are: the mean of the squared differences."""
    return ((a * upper + b - lower) ** 2).mean()


def gradient(weights, some=slice(None)):
    """How much a and b matter to the loss, measured on some of the digits."""
    difference = weights[0] * upper[some] + weights[1] - lower[some]
    return np.array([2 * (difference * upper[some]).mean(), 2 * difference.mean()])


# %% [markdown]
# What we want to make small is called the **loss**. Lessons 01 to 04 said "error". Here it is from above: every pair
# `(a, b)` is a place, and the lines are lines of equal loss, as on a map for hikers. The cross is the lowest place.

# %%
best = np.linalg.solve([[(upper**2).mean(), upper.mean()], [upper.mean(), 1]], [(upper * lower).mean(), lower.mean()])
start = np.array([1.5, -1.5])
a, b = np.meshgrid(np.linspace(-1.2, 2.2, 80), np.linspace(-2, 3.4, 80))                        # (80, 80) places
heights = ((a[..., None] * upper + b[..., None] - lower) ** 2).mean(axis=-1)                    # (80, 80)


def landscape(axis):
    axis.contour(a, b, heights, levels=np.geomspace(0.1, 20, 14), colors="#bbbbbb", linewidths=0.8)
    axis.plot(*best, "+", color="black", markersize=12)
    axis.set(xlabel="a", ylabel="b", xlim=(-1.2, 2.2), ylim=(-2, 3.4))


axis = plt.figure(figsize=(5, 4), layout="constrained").gca()
landscape(axis)
axis.plot(*start, "o", color="#d95f02")
plt.show()

# %% [markdown]
# It is a long **valley**. Across it the ground is steep, along it nearly flat. Loss landscapes of real networks are
# full of such valleys. Wherever two parameters can make up for each other, there is one. (Here: a larger `a` and a
# smaller `b` give nearly the same guesses.)
#
# We start at the orange point. A step is the gradient, times a number that says how far: the **learning rate**.

# %%
def descend(rate, steps=40):
    """The places we come to, straight down the slope."""
    weights, way = start, [start]
    for _ in range(steps):
        weights = weights - rate * gradient(weights)
        way.append(weights)
    return np.array(way)


def show(percent):
    way = descend(percent / 100)
    axis = plt.figure(figsize=(5, 4), layout="constrained").gca()
    landscape(axis)
    axis.plot(*way.T, "o-", color="#d95f02", markersize=3, linewidth=1)
    axis.set_title(f"learning rate {percent / 100:.2f}, 40 steps: loss {loss(*way[-1]):.3g}")
    plt.show()


pictures.slide(show, percent=(1, 30, 24))

# %% [markdown]
# **Move the slider.** With 0.05 we go straight down into the valley, and then nothing seems to happen any more. With
# 0.24 we fall from one side to the other. At 0.29 each fall ends higher than it began.
#
# The steepness *across* the valley forbids a larger rate. The flatness *along* it would need one. The rate cannot do
# both.
#
# **Predict:** with the rate 0.25, which is nearly the largest possible, how many steps until the loss is within 1 % of
# the lowest?

# %%
def steps_needed(way):
    """After how many steps the loss stays within 1 % of the lowest."""
    far = [i for i, weights in enumerate(way) if not loss(*weights) < 1.01 * loss(*best)]
    return far[-1] + 1 if far[-1] + 1 < len(way) else None


prediction = None       # a number

exercise.reveal(prediction, steps_needed(descend(0.25, 1000)))

# %% [markdown]
# ## 2. A ball instead of a hiker
#
# Let a heavy ball roll down instead. It has a *momentum*: it goes on moving as it moved, and the slope only changes
# that a little. Across the valley, the pushes from left and right cancel out. Along it they all point the same way, and
# add up.
#
# In the paper, and in minirewind, the momentum is a running sum of gradients in which the older ones count less:
#
# $$v \leftarrow 0.9 \cdot v + \text{gradient} \qquad \text{weight} \leftarrow \text{weight} - \text{rate} \cdot v$$
#
# ### Exercise 1: momentum
#
# Give back the new momentum, from the old one, the gradients, and the factor (0.9 above). The rate is *not* in it: the
# step that uses `v` multiplies by the rate. Leave both arrays as they are, and make a new one.

# %%
@exercise.implement("optim.momentum_step")
def momentum_step(momentum, gradients, factor):
    """Momentum: a running sum of gradients in which the older count less."""
    raise NotImplementedError           # one line


# %% [markdown]
# **Predict:** on a slope that is the same everywhere, every gradient is 1. The factor is 0.9. Where does the momentum
# end after very many steps?

# %%
prediction = None       # a number

v = np.zeros(1)
for _ in range(1000):
    v = optim.momentum_step(v, np.ones(1), 0.9)
exercise.reveal(prediction, round(float(v[0]), 3))

# %% [markdown]
# It is $1 + 0.9 + 0.81 + \ldots = 1 / (1 - 0.9)$. Along the valley, the ball is ten times as fast. With the factor 0.99
# it would be a hundred times as fast, and where the valley ends it would roll a long way up.

# %%
def roll(rate, factor, steps=300):
    """The places that the ball comes to."""
    weights, v, way = start, np.zeros(2), [start]
    for _ in range(steps):
        v = optim.momentum_step(v, gradient(weights), factor)
        weights = weights - rate * v
        way.append(weights)
    return np.array(way)


def show_ball(factor):
    way = roll(0.1, factor / 100)
    axis = plt.figure(figsize=(5, 4), layout="constrained").gca()
    landscape(axis)
    axis.plot(*way[:60].T, "o-", color="#1b6ca8", markersize=3, linewidth=1)
    needed = steps_needed(way)
    axis.set_title(f"rate 0.1, factor {factor / 100:.2f}: "
                   + (f"{needed} steps needed" if needed else "not there after 300 steps"))
    plt.show()


pictures.slide(show_ball, factor=(0, 99, 90))

# %% [markdown]
# Without momentum (factor 0), 553 steps would be needed at this rate: ask `steps_needed(descend(0.1, 1000))`. With 0.9
# it is some 70. Nothing else has changed.
#
# ## 3. Nesterov: look where you will be
#
# The ball rolls past the bottom before it turns round: it feels the slope only where it is. In 1983 Yurii Nesterov
# found that a very small change helps. The ball is about to move along its momentum anyway. So let it step as if it
# were there already: by the gradient, **and** once more `factor` times the *new* momentum.
#
# $$\text{direction} = \text{gradient} + 0.9 \cdot v$$
#
# ### Exercise 2: Nesterov's direction
#
# `momentum` is the new momentum: exercise 1 has already been at work.

# %%
@exercise.implement("optim.nesterov_step")
def nesterov_step(momentum, gradients, factor):
    """Nesterov's direction: the gradient, and a look ahead along the momentum."""
    raise NotImplementedError           # one line


# %%
def roll_looking_ahead(rate, factor, steps=300):
    weights, v, way = start, np.zeros(2), [start]
    for _ in range(steps):
        g = gradient(weights)
        v = optim.momentum_step(v, g, factor)
        weights = weights - rate * optim.nesterov_step(v, g, factor)
        way.append(weights)
    return np.array(way)


ways = {"straight down": (descend(0.1, 300), "#aaaaaa"), "momentum": (roll(0.1, 0.9), "#1b6ca8"),
        "Nesterov": (roll_looking_ahead(0.1, 0.9), "#d95f02")}
figure, axis = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for name, (way, colour) in ways.items():
    axis.semilogy([loss(*weights) - loss(*best) + 1e-9 for weights in way[:150]], color=colour, label=name)
axis.axhline(0.01 * loss(*best), color="black", linewidth=0.8, linestyle=":")
axis.set(xlabel="step", ylabel="loss above the lowest", ylim=(1e-7, 10))
axis.legend()
plt.show()
print({name: steps_needed(way) for name, (way, _) in ways.items()}, "steps to the dotted line")

# %% [markdown]
# The blue line trembles: that ball still swings from side to side across the valley. Nesterov's ball does not, and so
# it is there in about half of the steps. (At each dip a ball runs through the lowest place, and up again.)
#
# (The paper's text says Nesterov, the authors' code for these networks says plain momentum. minirewind does what the
# code does, and `nesterov` is a setting.)
#
# (And *Adam*, which many programs use? It keeps a second running mean, of the squared gradients, and divides each step
# by its root. So every parameter gets a rate of its own, and a valley is less of a problem. The paper's networks are
# trained with SGD, as most of their kind, and its question is about a rate that somebody sets by a schedule. So this
# course stays with that.)
#
# ## 4. A network is one long row
#
# `a` and `b` were two numbers in one array, and that was handy: a step was one line. A network has its parameters in
# many arrays, of all shapes. Remember lesson 01: memory is one long row anyway, and an array is a way to look at it. So
# minirewind lays all parameters of a network in **one row, and gives each layer a view of its part**. A step is one
# line again. And to keep all of a network, or to bring an old one back, is to copy one row.
#
# ### Exercise 3: views
#
# Given a row and a list of shapes, give back a list of arrays. The first has the first shape and looks at the beginning
# of the row, the second looks at what comes next, and so on. They must be **views**: who changes one changes the row.
# `math.prod(shape)` is how many numbers a shape has.

# %%
@exercise.implement("nn.views")
def views(vector, shapes):
    """Arrays of these shapes that lie in `vector`, one after the other; they share its memory."""
    raise NotImplementedError           # six lines


# %%
model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
row = nn.pack(model).weights
print("before:", row[:3].round(2), "and the layer:", model[0].weight.data[0].round(2))
row[:3] = 7
print("after: ", row[:3], "and the layer:", model[0].weight.data[0])

figure, axis = plt.subplots(figsize=(8, 1.3), layout="constrained")
for layer, colour in zip(nn.pack(model).layers, ("#1b6ca8", "#8fbfe0", "#d95f02", "#f4b183")):
    axis.barh(0, layer.stop - layer.start, left=layer.start, color=colour, edgecolor="white")
    axis.text((layer.start + layer.stop) / 2, 0, f"{layer.name}\n{layer.shape}", ha="center", va="center", fontsize=8)
axis.set(yticks=[], xlabel="place in the row", xlim=(0, len(row)))
plt.show()

# %% [markdown]
# Beside the weights lie three more rows of the same length: the gradients, the momentum, and one that says which
# weights have been removed. (None, until lesson 07.)
#
# ## 5. Weight decay: what is not needed shall go
#
# Some parameters hear nothing from the data. At the left edge of our digits there is hardly ever any ink, and in its
# two corners there is none at all. Whatever number a template has there, it is multiplied by zero. So the loss does not
# care, the gradient is 0, and the random number that it was born with stays for ever.
#
# **Weight decay** pulls every weight towards zero, a little at each step. It adds half the sum of all squared weights
# to the loss, times a small number `weight_decay`:
#
# $$\text{loss} + \tfrac{1}{2} \cdot \text{weight decay} \cdot \sum w^2$$
#
# ### Exercise 4: the gradient with decay
#
# `gradients` are those of the loss alone. What are those of the sum above? Nothing need be computed with the loss
# itself: ask how much $\frac{1}{2} w^2$ rises when $w$ rises a little.

# %%
@exercise.implement("optim.decayed")
def decayed(gradients, weights, weight_decay):
    """The gradient of the loss plus weight_decay / 2 * the sum of the squared weights."""
    raise NotImplementedError           # one line


# %% [markdown]
# Now look at the reading machine of lesson 02 again: ten templates, but born with random numbers this time. We train it
# without decay and with a strong one. The optimiser is the framework's, and this is its step, in which you find your
# three functions (`masked_step` does the subtraction; you will write it in lesson 07):

# %%
print(inspect.getsource(optim.SGD.step_steps))

# %%
X, labels = digits.train.images.reshape(-1, 64).astype(np.float32) / 16, digits.train.labels        # (1000, 64)
unseen, unseen_labels = digits.validation.images.reshape(-1, 64).astype(np.float32) / 16, digits.validation.labels


def read(machine, images, right):
    """What share it reads correctly, in percent."""
    return 100 * (machine(Tensor(images)).data.argmax(axis=1) == right).mean()


def learned(schedule, steps, batch=8, weight_decay=0.0, spread=0.01):
    """A machine of ten templates, and its accuracy on unseen digits after every tenth step."""
    machine = nn.Linear(64, 10, initial=nn.normal(spread)).initialise(seed=0)
    optimiser = optim.SGD(machine, momentum=0.9, weight_decay=weight_decay)
    rng, correct = np.random.default_rng(0), []
    for step in range(steps):
        some = rng.integers(0, len(X), batch)
        optimiser.zero_grad()
        functional.cross_entropy(machine(Tensor(X[some])), labels[some]).backward()
        optimiser.step(schedule(step))
        if step % 10 == 9:
            correct.append(read(machine, unseen, unseen_labels))
    return machine, correct


# %% [markdown]
# **Predict:** what will the left edge of the templates look like, without and with decay?

# %%
steps = exercise.scale(smoke=200, laptop=1000)
for decay in (0.0, 0.01):
    machine, _ = learned(optim.constant(0.1), steps, batch=64, weight_decay=decay, spread=0.8)
    print(f"weight decay {decay}: {read(machine, unseen, unseen_labels):.1f} % read correctly")
    pictures.images(machine.weight.data.reshape(10, 8, 8), range(10), symmetric=True)

# %% [markdown]
# Above, noise from the day of birth, still there. Below, the left edge has faded, and what is left is there for a
# reason. (A weight without any gradient is multiplied by $1 - \text{rate} \cdot \text{decay}$ at each step, or nearly.
# The momentum makes that ten times as much. A decay as strong as ours may cost it a digit in a hundred; the paper's is
# fifty times smaller.)
#
# For this course, that is more than beauty: **we are going to remove the weights with small numbers.** Decay makes sure
# that a weight which is large is large because it is needed.
#
# ## 6. The S in SGD
#
# One thing we have skipped. `gradient` above looked at all 1,000 digits for one step. With 50,000 photographs that
# would be slow, and wasteful: a few of them say nearly the same. So each step takes a small batch, picked at random,
# and the gradient is a rough guess. That is what the S stands for: *stochastic*, by chance.
#
# Back to the valley, with batches of 4 digits. This is where we are during 400 steps:

# %%
def wander(rates, batch=4):
    rng, weights, way = np.random.default_rng(1), best, []
    for rate in rates:
        weights = weights - rate * gradient(weights, rng.integers(0, 1000, batch))
        way.append(weights)
    return np.array(way)


figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained", sharex=True, sharey=True)
for axis, rate in zip(axes, (0.2, 0.05, 0.01)):
    landscape(axis)
    axis.plot(*wander([rate] * 400).T, "-", color="#d95f02", linewidth=0.6)
    axis.set(title=f"rate {rate}", xlim=(-0.9, 0.1), ylim=(1.4, 3))
plt.show()

# %% [markdown]
# We began **at** the lowest place, and do not stay there. Each batch pulls its own way, and the larger the rate, the
# wider we wander. A small rate stays close. But it would need for ever to come here.
#
# So use both: large at first, to get there, and then small, to settle. A rule that says which rate belongs to which
# step is called a **schedule**. The paper's has two drops: at half of the training, and at three quarters, the rate
# becomes a tenth.
#
# ### Exercise 5: the step schedule
#
# `step_decay(steps, base, drops, factor)` gives back a function, `rate(step)`. Four things to think of:
#
# - A drop at the fraction `f` happens **at the first step that is at least `f * steps`**. With 5 steps and a drop at
#   0.5 that is step 3. (`0.07 * 100` is a little more than 7 on a computer. `math.ceil(f * steps - 1e-9)` knows that.)
# - After `k` drops the rate is `base * factor**k`, computed exactly so. To multiply again and again gives other last
#   digits, and in lesson 09 two rates will be compared that must be *equal*.
# - A step beyond the end (`steps`, or later) has the rate of the last step, `steps - 1`.
# - `rate` is a **function of the step**, and remembers nothing. Somebody may ask for step 900 first, and then for step
#   100. In this course somebody will.

# %%
@exercise.implement("optim.step_decay")
def step_decay(steps, base=0.1, drops=(0.5, 0.75), factor=0.1):
    """`base`, times `factor` from each drop on; a drop at fraction f is the first step >= f * steps."""
    raise NotImplementedError           # five lines or so


# %%
def staircase(first, second):
    axis = plt.figure(figsize=(6.5, 2.8), layout="constrained").gca()
    schedules = {"steps": optim.step_decay(200, 0.1, (first / 100, second / 100)), "cosine": optim.cosine(200, 0.1),
                 "steps, after a warm-up": optim.warm_up(optim.step_decay(200, 0.1, (first / 100, second / 100)), 20)}
    for (name, schedule), colour in zip(schedules.items(), ("#1b6ca8", "#aaaaaa", "#d95f02")):
        axis.plot([schedule(step) for step in range(200)], color=colour, label=name, drawstyle="steps-post",
                  linestyle="--" if "warm" in name else "-")
    axis.set(xlabel="step", ylabel="learning rate", yscale="log")
    axis.legend()
    plt.show()


pictures.slide(staircase, first=(0, 100, 50), second=(0, 100, 75))

# %% [markdown]
# The grey curve is another way to do it, with no steps at all. The dashed one goes up before it goes down: very deep
# networks do not stand the full rate at once. The heart of each is one line in `minirewind/optim.py`. Look them up.
#
# ## 7. What a drop does
#
# The reading machine, with batches of 8. **Predict:** which of the three will be best at the end: the large rate, the
# small rate, or the one that drops? And which will be worst after a tenth of the time?

# %%
prediction = None       # two words, like ("large", "drops")

steps = exercise.scale(smoke=300, laptop=600)
schedules = {"large": optim.constant(0.3), "small": optim.constant(0.003), "drops": optim.step_decay(steps, 0.3)}
curves = {name: learned(schedule, steps)[1] for name, schedule in schedules.items()}
worst = min(curves, key=lambda name: curves[name][steps // 100 - 1])
exercise.reveal(prediction, (max(curves, key=lambda name: np.mean(curves[name][-5:])), worst))

# %%
figure, axes = plt.subplots(2, 1, figsize=(6.5, 4.6), layout="constrained", sharex=True, height_ratios=(1, 2.2))
for (name, curve), colour in zip(curves.items(), ("#d95f02", "#aaaaaa", "#1b6ca8")):
    axes[0].semilogy([schedules[name](step) for step in range(steps)], color=colour)
    axes[1].plot(range(10, steps + 1, 10), curve, color=colour, label=f"{name}: {curve[-1]:.1f} % at the end")
axes[0].set(ylabel="rate")
axes[1].set(xlabel="step", ylabel="read correctly, %", ylim=(70, 100))
axes[1].legend(loc="lower right")
plt.show()

# %% [markdown]
# The large rate is as good as the one that drops, as long as both are the same; then it goes on jumping about. At the
# drop, the other one settles, within a few steps. The small one is still on its way.
#
# **Remember this picture.** A drop turns a network that wanders into one that has settled. A network that was trained
# has two such drops behind it. When you remove half of it and train what is left a little more, which rate should you
# take? The last one, which is very small? Or go up to the large one again, and down once more? That is the question of
# the paper, and of lesson 09.

# %% [markdown]
# ## What you built
#
# - `momentum_step` and `nesterov_step`: the ball, and the ball that looks ahead.
# - `decayed`: what is not needed shall go.
# - `views`: a network as one row, and each layer a view of it.
# - `step_decay`: the paper's schedule.
#
# From now on, every step of every network in this course is made of these.

# %%
exercise.status("05")

# %% [markdown]
# ## A further question
#
# The momentum is a sum of gradients from places where the network has been before. Suppose you bring back the weights
# of a thousand steps ago, to train from there in another way. What about the momentum: bring back the old one, start
# from zero, or keep the present one? Which of them would be wrong, and how would you notice?
