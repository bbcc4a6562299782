# %% [markdown]
# # 01 · Tensors, strides, broadcasting and its gradient
#
# **Time** 70 minutes · **You need** lesson 00, Python, and what a slope is · **Paper** none of it yet, and all of it:
# no number in the paper comes about without the four things that you write here
#
# **New words:** shape, stride, view, broadcasting, gradient, tensor
#
# A picture on a screen has rows and columns. The memory of a computer has neither: it is one long row of numbers. How
# do you turn a picture on its side without moving a single number? How do you add one row to a thousand rows without
# copying it a thousand times? And, the question this lesson is really about: if that one row was used a thousand times,
# **how much does the result change when you change the row a little?**
#
# People who learn this elsewhere get stuck at that last question for days. You will draw it first.

# %%
import numpy as np
from numpy.lib.stride_tricks import as_strided

import minirewind as mr
from minirewind import pictures
from minirewind.learn import exercise
from minirewind.tensor import Tensor

exercise.begin("01_tensors")

# %% [markdown]
# ## 1. A picture is one row of numbers
#
# You know these digits from lesson 00. Each is 8 × 8 numbers from 0 (white) to 16 (black).

# %%
digits = mr.data.load("digits").train
pictures.images(digits.images[:10], titles=digits.labels[:10])

# %%
digit = digits.images[0, 0]
print(digit)

# %% [markdown]
# NumPy calls this an **array**. Its **shape** is `(8, 8)`: 8 rows, 8 columns. Let us look at a smaller one, to see
# where its numbers really are. Equal colours below are the same number: above as you think of it, below as memory
# holds it.

# %%
a = np.arange(12).reshape(3, 4)
pictures.memory(a, title="a")

# %% [markdown]
# One step to the right in `a` is one step in memory. One step down is four steps, over a whole row. These two
# numbers, `(4, 1)`, are the **strides** of `a`: how far to walk in memory for one step along each dimension. (NumPy
# counts them in bytes. We count in numbers.)

# %%
def strides(array):
    """How many places in memory one step along each dimension is."""
    return tuple(step // array.itemsize for step in array.strides)


print("shape", a.shape, "strides", strides(a))

# %% [markdown]
# An array is three things: a place in memory, a shape, and strides. So you can change the picture by changing the
# strides only. `a.T` is `a` with rows and columns exchanged. Not one number is moved.
#
# **Predict before you run:** what are the strides of `a.T`? Write your answer in place of `None`.

# %%
prediction = None       # two numbers in parentheses, like (4, 1)

exercise.reveal(prediction, strides(a.T))
pictures.memory(a.T, base=a, title="a.T")

# %% [markdown]
# **Predict:** at which place of the memory lies `a.T[1, 2]`, if the first place is 0? (Walk: so many steps along each
# dimension, times its stride.)

# %%
prediction = None       # a number from 0 to 11

down, right = strides(a.T)
exercise.reveal(prediction, 1 * down + 2 * right)

# %% [markdown]
# The memory is the same, number for number. Only the way of walking through it has changed. An array that reads the
# memory of another is called a **view**. Every second column is a view too:

# %%
pictures.memory(a[:, ::2], base=a, title="a[:, ::2]")

# %% [markdown]
# Now lie about the strides. Three digits lie behind one another in memory, 3 × 64 numbers. We read 8 rows of 8 numbers,
# and you choose how far apart the rows begin.
#
# **Predict:** 8 shows the digit. What will 9 look like? And 16? And 0?

# %%
row_of_memory = digits.images[:3].reshape(-1)


def read_with(row_stride):
    size = row_of_memory.itemsize
    picture = as_strided(row_of_memory, shape=(8, 8), strides=(row_stride * size, size))
    return pictures.images([picture], [f"strides ({row_stride}, 1)"], size=2.2)


pictures.slide(read_with, row_stride=(0, 16, 8))

# %% [markdown]
# With 9 each row begins one number further along than the row before: the digit leans to the left, and on the right the
# beginnings of the next rows come in. With 16 every second row is left out, and the next digit comes into sight. With 0
# the first row is read again and again: **eight rows to look at, one in memory.**
# Hold on to that one. It is the trick of the next section.

# %% [markdown]
# ## 2. Broadcasting: the stride 0
#
# Add a row of four numbers to an array of three rows:

# %%
row = np.array([10, 20, 30, 40])
print(a + row)

# %% [markdown]
# The shapes differ, `(3, 4)` and `(4,)`, and yet it works: the row is added to every row. Is it copied three times? No.
# It is read with the stride 0.

# %%
stretched = np.broadcast_to(row, (3, 4))
pictures.memory(stretched, base=row, title="row, broadcast to (3, 4)")

# %% [markdown]
# This is **broadcasting**. Its rule has two lines:
#
# 1. Write the shapes below each other so that they end together. Where one is too short, put 1s **in front**.
# 2. Sizes must be equal, or one of them is 1. A 1 is **stretched** to the other's size, by the stride 0.
#
# ```
# a        3  4          column   3  1         x   2  3
# row         4          row         4         y      2
# a + row  3  4          sum      3  4             error: 3 is not 2
# ```
#
# Framed numbers below are in memory. Pale ones are the same numbers, read again.

# %%
column = np.array([[0], [100], [200]])
pictures.broadcast(column, row, names=("column", "row", "sum"))

# %% [markdown]
# **Predict:** the shape of an array of shape `(5, 1, 4)` plus one of shape `(3, 1)`.

# %%
prediction = None       # a shape, like (5, 4)

exercise.reveal(prediction, (np.zeros((5, 1, 4)) + np.zeros((3, 1))).shape)

# %% [markdown]
# ## 3. How much does one number matter?
#
# Take a digit, multiply each of its rows by a number of its own (a *gain*), and add everything up. The result is one
# number: how much ink there is.

# %%
gain = np.ones((8, 1))


def ink(gain):
    return (digit * gain).sum()


print("ink:", ink(gain))

# %% [markdown]
# How much does `gain[3]` matter to the ink? The honest way to find out: raise it a little, by $h$, and look.

# %%
h = 0.001
raised = gain.copy()
raised[3] += h
print("the ink rises by", round((ink(raised) - ink(gain)) / h, 6), "for each 1 that gain[3] rises")
print("row 3 of the digit:", digit[3])

# %% [markdown]
# That ratio is a slope: the rise of the result over the rise of one input. **Predict:** how can you read it off the row
# of the digit printed above, without any $h$? Then run the next cell.

# %%
prediction = None       # a number

exercise.reveal(prediction, int(digit[3].sum()))

# %% [markdown]
# `gain[3]` was broadcast to all eight pixels of row 3. Raise it, and **all eight** products rise, each by its own
# pixel. The result rises by all of them together.
#
# The slopes for all inputs, in an array of the same shape as the input, are called the **gradient**. To learn from
# data is to follow gradients, so a framework must be able to find them all, for any computation, without trying out
# each $h$.
#
# For that, minirewind wraps an array in a **tensor**: an array that knows how it was computed. You say which tensors
# want their gradient, compute, and call `backward()` on the result. How the engine finds its way is lesson 02. Here
# is what you see from outside:

# %%
gains = Tensor(np.ones((8, 1)), requires_grad=True)
result = (Tensor(digit.astype(float)) * gains).sum()
result.backward()
print("shape of the gradient:", gains.grad.shape)
print("gradient of gain[3]:  ", gains.grad[3])

# %% [markdown]
# ## 4. Every operation answers one question
#
# The engine knows nothing about multiplication. It asks the operation. Each operation is a small class with two
# methods:
#
# - `forward` gets arrays and returns an array. It may keep on `self` what it will need later.
# - `backward` gets `dz`: for each element of the output $z$, **how much that element matters to the final result**. It
#   returns the same for each of its inputs.
#
# This is addition, the whole of it. If $z = x + y$ and $x$ rises by $h$, then $z$ rises by $h$. So $x$ matters
# exactly as much as $z$ does:
#
# ```python
# class Add(Function):
#     """z = x + y"""
#
#     def forward(self, x, y):
#         return x + y
#
#     def backward(self, dz):
#         return dz, dz
# ```
#
# Now you. (And remember from lesson 00: as long as your code does not pass, the framework's own runs, so nothing in
# this lesson can break.)
#
# ### Exercise 1: multiplication
#
# `forward` of `Mul` keeps its inputs: `self.x` and `self.y`. Return two gradients, for `x` and for `y`. For now both
# have the shape of `dz`.

# %%
@exercise.implement("tensor.Mul.backward")
def backward(self, dz):
    """The gradients of x and of y, where z = x * y."""
    raise NotImplementedError           # one to three lines


# %% [markdown]
# ### Exercise 2: the sum
#
# `x.sum(dim)` adds up over some dimensions. `forward` keeps two things: `self.shape`, the shape of `x`, and
# `self.dim`, the dimensions that were summed, always as a tuple such as `(1,)` or `(0, 1)`. `dz` comes in the shape
# of the *output*. You return a gradient in the shape of the *input*. (After `x.sum(dim, keepdim=True)` the output has
# kept the summed dimensions, as 1s. Your lines should take both.)
#
# Use `self.xp` where you would write `np` (on a graphics card it is another library with the same functions).
# `self.xp.broadcast_to(array, shape)` is the stride 0 from above: no copy.

# %%
@exercise.implement("tensor.Sum.backward")
def backward(self, dz):
    """The gradient of x, where z = x.sum(self.dim)."""
    raise NotImplementedError           # two or three lines


# %% [markdown]
# Look at what you have just written: **the gradient of a sum is a broadcast.** One `dz`, read by everyone who was in
# the sum.

# %%
x = Tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
x.sum(1).backward(np.array([1.0, 10.0, 100.0]))
print(x.grad)

# %% [markdown]
# ### Exercise 3: exchanging dimensions
#
# `x.permute(2, 0, 1)` puts the old dimension 2 first, then 0, then 1. As with `a.T`, only shape and strides change. It
# can make the colour channel of a picture the first dimension or the last.
#
# `forward` keeps `self.dims`, here `(2, 0, 1)`. `dz` has its dimensions in the new order. Bring them home.
# `dz.transpose(dims)` is NumPy's `permute`.
#
# **Predict first:** a shape `(2, 3, 4)` becomes `(4, 2, 3)`. If you apply `(2, 0, 1)` to that *again*, what do you get?

# %%
prediction = None       # a shape

exercise.reveal(prediction, np.zeros((4, 2, 3)).transpose(2, 0, 1).shape)


# %%
@exercise.implement("tensor.Permute.backward")
def backward(self, dz):
    """The gradient of x, where z is x with its dimensions in the order self.dims."""
    raise NotImplementedError           # two lines


# %% [markdown]
# ## 5. Broadcasting, backward
#
# Here is the question from the beginning. A row is added to every row of `x`. Forward, each number of the row is *read*
# in three places:

# %%
pictures.broadcast(np.zeros((3, 4)), row, names=("x", "row", "z"))

# %% [markdown]
# Backward, each of those three places has its own `dz`: it matters to the result by its own amount. Suppose they are
# these:

# %%
dz = np.array([[1.0, 0, 0, 2], [0, 5, 0, 3], [0, 0, 7, 4]])
print(dz)

# %% [markdown]
# **Predict:** how much does `row[3]`, which was read in all three places of the last column, matter to the result?

# %%
prediction = None       # a number

exercise.reveal(prediction, 9.0)

# %% [markdown]
# $2 + 3 + 4$. Raise `row[3]` by $h$: three elements of $z$ rise by $h$, and the result rises by $2h + 3h + 4h$. **The
# gradient of a broadcast is a sum.** That is the mirror image of exercise 2.
#
# `Add.backward` returned `dz` for the row, with the shape `(3, 4)`. But the row has the shape `(4,)`. Operations may do
# so: the engine calls one function that undoes the broadcasting for all of them. You write it.
#
# ### Exercise 4: `unbroadcast`
#
# `gradient` has the shape of the broadcast result, `shape` is that of the input. Return the input's gradient. Both
# lines of the rule above have their mirror image:
#
# | forward | backward |
# |---|---|
# | 1s were put **in front**: `(4,)` to `(3, 4)` | sum these dimensions away: `(3, 4)` to `(4,)` |
# | a 1 was **stretched**: `(3, 1)` to `(3, 4)` | sum, and keep the dimension as a 1: `(3, 4)` to `(3, 1)` |
#
# `gradient.sum(axis=..., keepdims=True)` sums over one dimension, or over a tuple of them, and keeps them as 1s. With
# `axis=()` it sums over none.

# %%
@exercise.implement("tensor.unbroadcast")
def unbroadcast(gradient, shape):
    """Undo broadcasting: the gradient of an element that was repeated is the sum over its repetitions."""
    raise NotImplementedError           # four or five lines


# %%
pictures.sums(dz, *(mr.tensor.unbroadcast(dz, shape) for shape in [(4,), (3, 1), ()]))

# %% [markdown]
# Your function drew this picture: every gradient in it is `mr.tensor.unbroadcast(dz, shape)`, with the shape written
# beside it. Nothing gets lost on the way: the number is the sum of all of `dz`, whichever way you go.

# %% [markdown]
# ## 6. Your four functions learn something
#
# Take all the threes in the data. We look for the one picture that is as near as possible to all of them, the
# *template* of a three. It starts white. How wrong it is: the squared differences between each three and the
# template, summed over all pixels of all threes. The gradient of the template says in which direction that error
# grows, so we take small steps the other way.
#
# Look at the shapes. The template `(8, 8)` is broadcast against all threes, so its gradient goes through `unbroadcast`.
# The square is a `Mul`, and the error is a `Sum`. (`template.data` is the array in the tensor, and `error.item()` the
# one number in it.)

# %%
threes = Tensor(digits.images[digits.labels == 3, 0] / 16)          # (N, 8, 8)
template = Tensor(np.zeros((8, 8)), requires_grad=True)
frames, errors = [], []

for _ in range(41):
    difference = threes - template                                  # (N, 8, 8), the template broadcast
    error = (difference * difference).sum()
    template.grad = None                                            # forget that of the step before
    error.backward()
    frames.append(template.data.copy())
    errors.append(error.item())
    template.data -= 0.05 / len(threes) * template.grad             # a small step against the gradient

print(f"{len(threes)} threes; the error fell from {errors[0]:.0f} to {errors[-1]:.0f}")
pictures.images([frames[i] for i in (0, 2, 5, 10, 20, 40)], [f"step {i}" for i in (0, 2, 5, 10, 20, 40)])

# %% [markdown]
# A three, out of nothing, and nobody told the program what a three looks like. If you know some statistics you may ask
# whether this is simply the mean of all threes. It is, and that is a good test:

# %%
print("largest difference to the mean:", abs(frames[-1] - threes.data.mean(axis=0)).max().round(3))

# %% [markdown]
# **Try it wrong.** Go back to exercise 4, write `mean` in place of every `sum`, and read what the checks say. If you
# want to see what such a bug does to the template, let your unfinished code run in this session, with
# `exercise.use_anyway("tensor.unbroadcast")`, and run section 6 again. No error message: just a template that hardly
# moves. That is why gradients have checks. `exercise.reset_session()` puts everything right.

# %% [markdown]
# ## What you built
#
# - `Mul.backward`, `Sum.backward`, `Permute.backward`: three answers to "how much do my inputs matter?"
# - `unbroadcast`: the one place where broadcasting is undone, for every operation of the framework.
#
# From now on, every gradient in this course goes through your code.

# %%
exercise.status("01")

# %% [markdown]
# ## A further question
#
# A stride of 0 costs no memory: a template broadcast to a thousand images is still 64 numbers. But its `dz` arrived
# as a whole array with a thousand images in it, only to be summed up at once. Could one find the template's gradient
# without ever storing that array? Which operations would have to know of each other? (Real frameworks spend much
# effort on this, under the name *fusion*. You will meet it in lesson 04.)
