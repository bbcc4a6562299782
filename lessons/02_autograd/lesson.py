# %% [markdown]
# # 02 · Autograd: the diamond that breaks recursion
#
# **Time** 80 minutes · **You need** lesson 01 · **Paper** its networks are stacks of the diamond that this lesson is
# named after: the ResNets
#
# **New words:** graph, leaf, chain rule, diamond, recursion, topological order
#
# In lesson 01 you asked of one operation how much its inputs matter. A network is thousands of operations, one fed by
# the other. Somebody has to go from the result back to the beginning and ask every operation, in the right order, once.
#
# Nearly everybody who writes this for the first time writes the same seven lines. They give the right answer. And on
# the paper's deepest network they would need longer than you will live.

# %%
import inspect
import time

import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import pictures
from minirewind.learn import exercise
from minirewind.tensor import Tensor

exercise.begin("02_autograd")

# %% [markdown]
# ## 1. A computation is a graph
#
# Four small steps, on single numbers:

# %%
x = Tensor(1.5, requires_grad=True)
a = x * 2.0             # 3
b = a + 1.0             # 4
c = a * 3.0             # 9
z = b * c               # 36
pictures.graph(z, x=x, a=a, b=b, c=c, z=z)

# %% [markdown]
# Every tensor remembers the operation that made it (`z.function`), and that operation remembers what went in
# (`z.function.inputs`). So the results of a computation form a **graph**: boxes, and arrows between them. A tensor that
# was not computed, like `x`, is a **leaf**. Its `function` is `None`.
#
# Look at the shape in the middle. `a` is used twice, and both uses come together again in `z`. We call that a
# **diamond**.

# %%
print("z was made by", type(z.function).__name__)
print("from b and c:", z.function.inputs[0] is b, z.function.inputs[1] is c)
print("x is a leaf: ", x.function is None)

# %% [markdown]
# How much does `a` matter to `z`? Ask each operation, as in lesson 01. `z = b * c`, so `b` matters by `c`, which is
# 9, and `c` matters by `b`, which is 4.
#
# - By way of `b = a + 1`: raise `a` by $h$, `b` rises by $h$, and `z` by $9h$.
# - By way of `c = a * 3`: raise `a` by $h$, `c` rises by $3h$, and `z` by $4 \cdot 3h = 12h$.
#
# **Predict:** how much does `a` matter to `z` in all? And `x`, if `a = x * 2`?

# %%
prediction = None       # two numbers, like (1, 2)

exercise.reveal(prediction, (21, 42))

# %% [markdown]
# Both ways count: $9 + 12 = 21$, and for `x` twice that. This is the **chain rule**, in the only form you need here:
# **along a way, multiply; where ways meet, add.** Try it with a small step, as always:

# %%
def computed(x):
    a = x * 2.0
    return (a + 1.0) * (a * 3.0)


h = 1e-6
print("z rises by", (computed(1.5 + h) - computed(1.5)) / h, "for each 1 that x rises")

# %% [markdown]
# ## 2. The seven lines that everybody writes
#
# Begin at `z` with the gradient 1 (the result matters to itself by 1). Ask its operation for the gradients of its
# inputs, and do the same with each of them. A function that calls itself is called a **recursion**.
#
# `function.input_gradients(dz)` is the operation's `backward(dz)`, and after it your `unbroadcast`.

# %%
visits = []


def push(tensor, dz):
    visits.append(tensor)
    if tensor.function is None:
        tensor.accumulate(dz)                       # a leaf: keep it, in tensor.grad
        return
    for y, dy in zip(tensor.function.inputs, tensor.function.input_gradients(dz)):
        if y.requires_grad:
            push(y, dy)


x.grad = None                                       # nothing has arrived yet
push(z, np.float32(1))
print("gradient of x:", x.grad)
print("visits:", [name for t in visits for name, known in dict(x=x, a=a, b=b, c=c, z=z).items() if t is known])

# %% [markdown]
# The gradient is right, 42. But read the list of visits. `push` came to `a` twice, first with 9 and then with 12, and
# each time it went on to `x`. So `x` has been sent 18 and then 24, and something must add them up. That something is
# your first exercise.
#
# ### Exercise 1: `accumulate`
#
# A leaf keeps its gradient in `self.grad`, which is `None` before the first one arrives. Whoever calls `accumulate` may
# go on using the array that it hands over.

# %%
@exercise.implement("tensor.Tensor.accumulate")
def accumulate(self, gradient):
    """Add to `grad`: a tensor used several times, or in several backward passes, collects the sum."""
    raise NotImplementedError           # one to four lines


# %% [markdown]
# Now you can answer a question that is asked again and again about every framework: **why do I get another gradient
# when I run the same lines twice?** Predict what is printed second.

# %%
prediction = None       # a number

x.grad = None
computed(x).backward()
first = x.grad.item()
computed(x).backward()
exercise.reveal(prediction, x.grad.item())
print("after the first time it was", first)

# %% [markdown]
# `backward()` adds to what is there. That is useful (it adds up the uses of a tensor, or several parts of the data),
# and it is why lesson 01 wrote `template.grad = None` before each step.
#
# ## 3. Two to the power of diamonds
#
# Twice to `a` and twice to `x` is no tragedy. But put a second diamond on top of the first, and a third on top of that.
#
# **Predict:** with 10 diamonds on top of each other, how often does `push` come to `x`?

# %%
prediction = None       # a number


def diamonds(count):
    """x, and the top of `count` diamonds on top of each other."""
    x = Tensor(1.0, requires_grad=True)
    top = x
    for _ in range(count):
        top = top * 0.25 + top * 0.75
    return x, top


x, top = diamonds(10)
visits.clear()
push(top, np.float32(1))
exercise.reveal(prediction, sum(t is x for t in visits))

# %% [markdown]
# Every diamond doubles it. Draw three of them, and count the ways from `x` to the top:

# %%
x, top = diamonds(3)
pictures.graph(top, x=x)

# %%
counts = range(1, 13)
seconds = []
for count in counts:
    x, top = diamonds(count)
    tries = []
    for _ in range(3):                              # the fastest of three: something else may disturb one
        visits.clear()
        began = time.perf_counter()
        push(top, np.float32(1))
        tries.append(time.perf_counter() - began)
    seconds.append(min(tries))

figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(counts, 1000 * np.array(seconds), "o-", color="#d95f02")
axis.set(xlabel="diamonds on top of each other", ylabel="milliseconds")
plt.show()
years = seconds[-1] * 2 ** (54 - 12) / 3600 / 24 / 365
print(f"12 diamonds took {seconds[-1]:.3f} s. The paper's deepest network has 54: that would be {years:,.0f} years.")

# %% [markdown]
# ## 4. Wait until everyone has paid
#
# What went wrong? `push` handed on the gradient of `a` as soon as *something* had arrived. It had to come back when the
# rest arrived. The cure is patience: **a tensor hands on its gradient when all tensors that used it have handed on
# theirs.** Then everything that matters has arrived, and one visit is enough.
#
# So we need a list: every tensor once, each one **before everything it was computed from**. Such a list is called a
# **topological order**. For the diamond, `z, c, b, a, x` is one, and `z, b, c, a, x` is another. Both will do.
#
# `z, b, a, c, x` will not: `a` comes before `c`, although `c` was computed from `a`. With that list, `a` would hand
# on 9, and the 12 that come by way of `c` would arrive too late.
#
# ### Exercise 2: `topological_order`
#
# Four things to think of:
#
# - Every tensor stands in the list once, however many ways lead to it. To remember tensors use their `id(tensor)`: two
#   tensors with equal numbers are still two.
# - Each stands before what it was computed from. The shortest way must wait for the longest.
# - Only tensors with `requires_grad` belong to it.
# - A chain of 5,000 operations is nothing unusual, and Python allows a function to call itself about 1,000 times. So
#   recursion does not reach. Keep a list of what is still to do (`append` and `pop`).
#
# This is the hardest exercise of the lesson. `exercise.hint("tensor.topological_order")` helps, in three steps.

# %%
@exercise.implement("tensor.topological_order")
def topological_order(root):
    """Every tensor between `root` and its leaves, each before everything it was computed from."""
    raise NotImplementedError           # twelve lines or so


# %% [markdown]
# Here is the walk of `backward()`, step by step, in the order of your list. Beside each tensor stands what has arrived
# there. Watch when `a` hands on its gradient: after **both** of those above it have handed on theirs. So it does so
# once, with 21.

# %%
x = Tensor(1.5, requires_grad=True)
a = x * 2.0
b = a + 1.0
c = a * 3.0
z = b * c


def walk(step):
    return pictures.graph(z, upto=step, x=x, a=a, b=b, c=c, z=z)


pictures.slide(walk, step=(0, 5, 2))

# %% [markdown]
# **Try it wrong.** Go back to exercise 2 and write each tensor down as soon as you meet it: a stack, a set of those you
# have seen, and nobody waits. Read what the checks say. Then let it run all the same, in this session, with
# `exercise.use_anyway("tensor.topological_order")`, and move the slider again. One share of `a` comes too late, and `x`
# gets less than its 42. No error message. `exercise.reset_session()` puts everything right.
#
# And here is the engine itself, as it stands in `minirewind/tensor.py`. You know every part of it: your order, your
# `accumulate` (the last line calls it for every leaf), and `input_gradients` with your `unbroadcast` in it. In between,
# where gradients of one tensor meet, they are added up (`self.backend.add`).

# %%
print(inspect.getsource(Tensor.backward))

# %% [markdown]
# Elsewhere this walk is called *backpropagation*, or automatic differentiation in *reverse mode*, and the slopes it
# finds are the *partial derivatives* of the result. You know another way to find a slope: raise one number by a small
# $h$, compute again, and look.
#
# **Predict:** the first real network of this course has 19,890 parameters. How many computations does the way with $h$
# need for all slopes? And how many walks back do they need?

# %%
prediction = None       # two numbers, like (100, 100)

exercise.reveal(prediction, (19_891, 1))

# %% [markdown]
# One computation as it is, and one for each parameter. Or one walk, which costs two or three times as much as the
# computation itself. That is why one walks from the result, of which there is one, to the inputs, of which there are
# many. (With one input and many results it would be the other way round.)
#
# The last line of the loop, `release()`, lets go of what the operation kept for its `backward`. Memory is given back
# while the walk is still going on. The price: the same graph cannot be walked twice.

# %%
x.grad = None
result = computed(x)
result.backward()
print("gradient of x:", x.grad)
try:
    result.backward()
except mr.Error as reason:
    print("the second time:", reason)

# %% [markdown]
# The 54 diamonds that would have taken so many years:

# %%
x, top = diamonds(54)
began = time.perf_counter()
top.backward()
print(f"gradient {x.grad}, in {1000 * (time.perf_counter() - began):.1f} milliseconds")

# %% [markdown]
# ## 5. Three more operations, and a machine that reads
#
# In lesson 01 you drew *one* template, of a three. Now: ten templates, one for each digit, all learned at once, so that
# they tell digits apart. How well does a template fit an image? Multiply them pixel by pixel and add up: that is its
# *score*. The image is read as the digit with the highest score.
#
# All scores of all images are one matrix product. `X` holds an image per row, `(N, 64)`. `W` holds a template per
# column, `(64, 10)`. Then `X @ W` has the shape `(N, 10)`, and
#
# $$z_{ij} = \sum_k x_{ik}\, w_{kj}$$
#
# is the score of image $i$ for digit $j$.
#
# ### Exercise 3: the matrix product
#
# `forward` kept `self.x` and `self.y`. Let the shapes lead you, and then check with the sum above: by how much does
# $x_{ik}$ matter to $z_{ij}$? There may be dimensions in front of the last two (a stack of matrices), so exchange the
# last two with `swapaxes(-1, -2)`.

# %%
@exercise.implement("tensor.MatMul.backward")
def backward(self, dz):
    """The gradients of x and of y, where z = x @ y."""
    raise NotImplementedError           # one to three lines


# %% [markdown]
# Scores can be anything. To say how wrong the reading is we turn the ten scores of an image into ten *probabilities*:
# positive numbers that add up to 1, larger for larger scores. The usual way is $e^{score}$, divided by the sum of all
# ten.
#
# ### Exercise 4: the exponential
#
# `forward` kept its result, `self.z`.

# %%
@exercise.implement("tensor.Exp.backward")
def backward(self, dz):
    """The gradient of x, where z = e ** x."""
    raise NotImplementedError           # one line


# %% [markdown]
# From each row of probabilities we need one: that of the right digit. NumPy takes them all at once: `p[rows, labels]`,
# with `rows` = 0, 1, 2, ... and `labels` the right digits.
#
# ### Exercise 5: taking elements out
#
# `forward` kept `self.shape`, the shape of `x`, and `self.index`, what stood between the brackets. What matters, and
# how much? Think of an index in which the same place comes twice: `x[[2, 0, 2]]`. (`self.xp` is `np` again.)

# %%
@exercise.implement("tensor.GetItem.backward")
def backward(self, dz):
    """The gradient of x, where z = x[self.index]; what was taken several times matters several times."""
    raise NotImplementedError           # three lines


# %% [markdown]
# **Is it right?** The checks ask that with a small step, as you did in lesson 01. You can ask it yourself, of any
# computation. How small should the step be? Here is the error of the slope of a curve, for steps from 0.1 down to
# $10^{-15}$: once from $x$ to $x + h$, and once from $x - h$ to $x + h$. **Predict:** is the smallest step the best?

# %%
prediction = None       # "yes" or "no"

small = 10.0 ** -np.arange(1, 16)
curve, slope = lambda x: np.exp(np.sin(3 * x)), 3 * np.cos(4.5) * np.exp(np.sin(4.5))           # the slope at x = 1.5
ahead = [abs((curve(1.5 + h) - curve(1.5)) / h - slope) for h in small]
around = [abs((curve(1.5 + h) - curve(1.5 - h)) / (2 * h) - slope) for h in small]
exercise.reveal(prediction, "yes" if np.argmin(around) == len(small) - 1 else "no")
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
axis.loglog(small, ahead, "o-", color="#aaaaaa", label="from x to x + h")
axis.loglog(small, around, "o-", color="#1b6ca8", label="from x - h to x + h")
axis.set(xlabel="h", ylabel="error of the slope")
axis.legend()
plt.show()

# %% [markdown]
# A large step misses the curve. A small one subtracts two numbers that are nearly equal, and what is left are the
# digits that the computer has rounded. Between them there is a best step, and on both sides of $x$ it gives more right
# digits than ahead only. And for an array? Not one number after another: one step in a random direction asks all of
# them at once. That is what `gradcheck` does. Try it on an operation of yours:

# %%
x, y = (Tensor(np.random.default_rng(0).standard_normal(shape), requires_grad=True) for shape in ((5, 6), (6, 3)))
print("right:", mr.tensor.gradcheck(lambda x, y: (x @ y).exp(), x, y))

# %% [markdown]
# Now everything is together. `X @ W + offset`: the ten offsets are broadcast over the images, so their gradient goes
# through your `unbroadcast`. The error is the mean of $-\log p$: zero if the right digit has probability 1, large if it
# has almost none. (The division, the logarithm and the mean are the framework's. Each is a small class like yours.)
#
# **Predict:** what share of the images will the machine read correctly before it has learned anything? And after 100
# steps?

# %%
steps = exercise.scale(smoke=20, laptop=100)
data = mr.data.load("digits")
X, labels = Tensor(data.train.images.reshape(-1, 64) / 16), data.train.labels                       # (N, 64), (N,)
unseen, unseen_labels = Tensor(data.validation.images.reshape(-1, 64) / 16), data.validation.labels
W = Tensor(np.zeros((64, 10)), requires_grad=True)
offset = Tensor(np.zeros(10), requires_grad=True)
rows = np.arange(len(labels))
correct = []

for _ in range(steps + 1):
    reading = (unseen.data @ W.data + offset.data).argmax(axis=1)
    correct.append(100 * (reading == unseen_labels).mean())
    e = (X @ W + offset).exp()                          # (N, 10)
    p = e / e.sum(1, keepdim=True)                      # (N, 10), each row adds up to 1
    error = -p[rows, labels].log().mean()
    W.grad = offset.grad = None
    error.backward()
    W.data -= 1.0 * W.grad
    offset.data -= 1.0 * offset.grad

print(f"of digits it has never seen it reads {correct[0]:.0f} % at first, {correct[-1]:.0f} % after {steps} steps")

# %% [markdown]
# Before the first step all scores are 0. The highest of ten equal ones is the first, so it reads everything as a 0, and
# is right where it is one.

# %%
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(correct, color="#1b6ca8")
axis.set(xlabel="step", ylabel="read correctly, %", ylim=(0, 100))
plt.show()

# %% [markdown]
# What has it learned? These are its ten templates, the columns of `W`.

# %%
pictures.images(W.data.T.reshape(10, 8, 8), range(10), symmetric=True)

# %% [markdown]
# Red: ink here speaks for this digit. Blue: ink here speaks against it. Look at the 0: it does not want anything in its
# middle. Nobody told it.
#
# And these are the ones it reads wrongly, with what it thinks they are. Would you have known?

# %%
wrong = np.flatnonzero(reading != unseen_labels)[:10]
pictures.images(data.validation.images[wrong], [f"{reading[i]}, not {unseen_labels[i]}" for i in wrong])

# %% [markdown]
# One more test. Move every digit one pixel to the right. To your eye nothing has happened. **Predict:** how many of
# them does the machine read now, in percent?

# %%
prediction = None       # a number

moved = np.zeros_like(data.validation.images)
moved[..., 1:] = data.validation.images[..., :-1]
reading_moved = (moved.reshape(-1, 64) / 16 @ W.data + offset.data).argmax(axis=1)
exercise.reveal(prediction, round(100 * (reading_moved == unseen_labels).mean()))
pictures.images([*data.validation.images[:5], *moved[:5]],
                [*unseen_labels[:5], *(f"read as {digit}" for digit in reading_moved[:5])], columns=5)

# %% [markdown]
# Each number of a template knows one pixel, and no other. Lesson 03 builds an eye that looks for things wherever they
# are.
#
# ## What you built
#
# - `accumulate` and `topological_order`: with them, the engine walks any computation back, each tensor once, however
#   many ways lead to it and however long they are.
# - `MatMul.backward`, `Exp.backward`, `GetItem.backward`: enough for a machine that reads digits.
#
# From now on, every network in this course learns through your order.

# %%
exercise.status("02")

# %% [markdown]
# ## A further question
#
# Until the walk has passed, every operation keeps what it needs for its `backward`: `Mul` its two inputs, `Exp` its
# result. For a large network that is most of the memory. Suppose you have only half of it. Which results could you
# throw away on the way up, and compute again on the way back? What would it cost in time? (Search for *checkpointing*
# when you have an answer of your own.)
