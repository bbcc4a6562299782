# %% [markdown]
# # 00 · How this works
#
# **Time** 20 minutes · **You need** Python, and a little NumPy · **Paper** one number of it: 20 %
#
# **New words:** label, checks, framework
#
# This course ends with an experiment of your own: you train a network, throw most of it away, and find out how to
# make the small rest as good as the whole. The tool for it is **minirewind**, a *framework*: a program that others
# build programs with. It is complete, and it is small enough to be read in an afternoon.
#
# But you will not only read it. **In every lesson you write a few of its functions yourself, and from the moment they
# are right, the framework runs yours instead of its own.** At the end, what trains your network is code that you
# wrote.
#
# Is that possible, to exchange a part of a program while it runs? Let us do it.

# %%
import inspect

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import learn, pictures
from minirewind.learn import exercise

exercise.begin("00_how_this_works")

# %% [markdown]
# This page is a notebook: text, and cells with code in them. Click on a cell and press Shift + Enter to run it. Run
# them from the top to the bottom. If you lose your way, choose *Restart Kernel* and begin at the top again: what you
# have solved is kept.
#
# ## 1. Real data
#
# These are digits that people wrote by hand, 8 × 8 pixels each. Above each stands its *label*: which digit it is
# meant to be.

# %%
digits = mr.data.load("digits")
print(digits.train)
pictures.images(digits.train.images[:10], titles=digits.train.labels[:10])

# %% [markdown]
# `digits.train` is a `Split`: a thing with `images` (numbered from 0) and `labels` (in the same order). The framework
# has a function that picks some of them out, `mr.data.take(split, index)`:

# %%
some = mr.data.take(digits.train, np.array([0, 20, 40]))
pictures.images(some.images, titles=some.labels)

# %% [markdown]
# ## 2. Your first function
#
# The cell below is an **exercise**. It has a name in quotes, `data.take`: that is the function of the framework that
# yours will replace. Below it stands a *stub*, a function that does nothing yet.
#
# **Run it as it is.** Then replace the line with `raise` by your own code, and run it again.
#
# A hint, because this is the first: if `index` is an array of numbers, `split.images[index]` are the images at those
# places. A new split is made by `Split(images, labels)`.

# %%
@exercise.implement("data.take")
def take(split, index):
    """A part of a split."""
    raise NotImplementedError           # one line


# %% [markdown]
# There are three things that this cell can say.
#
# - **to do**: nothing is written yet, and the framework's own function runs. So you can go on and come back later. No
#   exercise ever blocks your way.
# - **not yet**, and why. Your function was tried out by a few *checks*, and one of them found something. What it says
#   is about the idea, not the line. The framework's own function goes on running, so a mistake of yours never spoils
#   anything that comes after it.
# - **all checks pass**: from now on the framework runs your code. Not in this notebook only, but in all lessons to
#   come.
#
# **Try a wrong one on purpose.** Return `Split(split.images[index], split.labels[: len(index)])`. Before you run it:
# what is wrong with it? Then read what the cell says. This is how such a mistake would look (here it is done by
# hand):

# %%
index = np.array([30, 31, 32, 33, 34])
pictures.images(digits.train.images[index], titles=digits.train.labels[: len(index)])

# %% [markdown]
# No error message, no crash. Just wrong labels (one of the five is right, by luck), and a network that learns nonsense
# from them. In this field nearly all mistakes are of that kind, and that is why everything here has checks.
#
# ## 3. Throwing away a fifth, again and again
#
# The second exercise comes from the paper. Its way of making a network small: remove 20 % of its connections, train
# again, remove 20 % **of those that are left**, train again, and so on. The share that is left is called *density*.

# %%
def picture_of_rounds(rounds):
    left = round(100 * 0.8**rounds)
    axis = plt.figure(figsize=(3.2, 3.4), layout="constrained").gca()
    axis.imshow((np.arange(100) < left).reshape(10, 10), cmap="Blues", vmin=0, vmax=1.4)
    axis.set_title(f"after {rounds} rounds: {0.8**rounds:.3f}")
    axis.set_xticks(np.arange(-0.5, 10), [])
    axis.set_yticks(np.arange(-0.5, 10), [])
    axis.grid(color="white", linewidth=2)
    axis.tick_params(length=0)
    plt.show()


pictures.slide(picture_of_rounds, rounds=(0, 3, 1))

# %% [markdown]
# **Predict:** how many rounds until no more than one tenth is left? Write a number in place of `None`, then run the
# cell. Do not calculate. Guess. (The slider stops at three rounds. The next one goes on.)

# %%
prediction = None       # a number

exercise.reveal(prediction, mr.prune.rounds_to(0.1))
pictures.slide(picture_of_rounds, rounds=(0, 15, 11))

# %% [markdown]
# Four or five is a natural guess: five times 20 % is everything. But each round takes a fifth of what is *left*, and so
# less and less. Move the slider back, round by round, and watch how little the last ones take.
#
# **Write it:** how many rounds until the share that is left is `density`, or less? A loop that counts will do, or a
# logarithm, if you like those. (`np` and `math` are there for you in every exercise.)

# %%
@exercise.implement("prune.rounds_to")
def rounds_to(density):
    """How many rounds of pruning 20 % of what remains lead to this density or below."""
    raise NotImplementedError           # one to five lines


# %% [markdown]
# What if a loop never ends? Try it: leave out the line that changes what is left. Your checks run in a process of their
# own, and after some seconds you are told that your loop has no end, and in which line it was.
#
# ## 4. If you are stuck
#
# ```python
# exercise.hint("prune.rounds_to")                        # a question; again: an idea; again: almost the code
# exercise.solution("prune.rounds_to", give_up=True)      # the framework's own source
# exercise.reset("prune.rounds_to")                       # forget what I wrote
# exercise.status()                                       # how far am I?
# ```
#
# Once your own function passes, you may look at the framework's without giving up. It is worth a look: there may be a
# shorter way. In a terminal the same is `minirewind learn`, `minirewind learn hint prune.rounds_to`, and so on.

# %%
exercise.status("00")

# %% [markdown]
# What you write is kept in the folder `work/`, one small file for each function. It is yours: no update touches it.
#
# ## 5. Is it really mine that runs?
#
# You should not believe that. You should check it. `mr.retrain.densities_to` is a function of the framework. It says
# which densities the paper's algorithm goes through, and it asks `rounds_to` how many there are:

# %%
print(inspect.getsource(mr.retrain.densities_to))
print([round(density, 3) for density in mr.retrain.densities_to(0.1)])

# %% [markdown]
# Now we set another function in the place of `rounds_to`, one that counts how often it is called, and ask again.
# `swapped` is what the checks use, and it puts everything back at the end:

# %%
calls = []


def counting(density):
    calls.append(density)
    return 3


with learn.swapped("prune.rounds_to", counting):
    print([round(density, 3) for density in mr.retrain.densities_to(0.1)])
print("it was called with", calls)

# %% [markdown]
# Three rounds in place of eleven: the framework did what our function said. How? A function in Python is an
# *attribute* of its module, like a name tag. `densities_to` does not hold the function itself. It reads the tag,
# `prune.rounds_to`, each time it runs. Who hangs the tag on another function has exchanged it for all callers at
# once. This is all there is to it:

# %%
print(inspect.getsource(learn.put))
print(inspect.getsource(learn.Place.put))

# %% [markdown]
# And this is where your function comes from. Its source is compiled so that it sees the names of the framework's own
# file, not those of this notebook. So what you write must stand on its own: helpers go inside it.

# %%
print(inspect.getsource(learn.build))

# %% [markdown]
# ## What you built
#
# - `data.take`: every image that is picked out in this course, with its label, is picked out by you.
# - `prune.rounds_to`: it will decide how many rounds your own experiment has, in the last lesson.
#
# ## A further question
#
# The wrong labels in section 2 were easy to see, because you *looked*. Suppose only every hundredth label were wrong.
# Would you see it in a picture? How could a program find out, without knowing the right labels? Keep the question.
# You will see in lesson 06 what a network has to say about it.
