# %% [markdown]
# # 13 · The GPU: ten thousand threads, and who waits for whom
#
# **Time** 80 minutes · **You need** lessons 03, 05 and 07; no graphics card · **Paper** none of it: this is about the
# machines that such networks are trained on
#
# **New words:** CUDA, thread, warp, barrier, shared memory, data race, coalesced, emulator
#
# A processor has a few cores, and each does one thing after the other, very fast. A graphics card has thousands of
# small ones, and none of them is fast. You do not tell it *do this, then that*. You write down what happens to **one**
# number, and then ten thousand *threads* do it at the same time.
#
# That is easy as long as no thread needs anything from another. But a sum needs all of its numbers. Who may read what
# somebody else writes, and when? Get that wrong, and the program is right on Monday and wrong on Tuesday, with no error
# message. In this lesson you make that mistake on purpose, and you see it.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minirewind as mr
from minirewind import learn, pictures
from minirewind.kernels.gpu import emulator, host, sources
from minirewind.learn import exercise

exercise.begin("13_gpu")

# %% [markdown]
# Programs for NVIDIA's cards are written in **CUDA**, which is C with a few more words. You need only a little of C:
#
# | C | Python |
# |---|---|
# | `float x = 0;` | `x = 0.0` (a variable is made with its type; `int` is a whole number, `bool` is true or false) |
# | `x += 1;` and `i++;` | `x += 1` and `i += 1` (a line ends with `;`) |
# | `condition ? a : b` | `a if condition else b` |
# | `a && b` | `a and b` |
# | `if (i >= count) return;` | `if i >= count: return` |
# | `for (int k = 0; k < 8; k++) { ... }` | `for k in range(8): ...` (braces hold together what Python moves in) |
# | `float* a`, then `a[i]` | an array `a`, and one number of it; with `const` in front it is only read |
# | `extern "C" __global__ void f(...) { ... }` | `def f(...): ...`, for the card; it only writes into arrays |
#
# One trap: two whole numbers divided are a whole number, rounded down. `1 / 2` is 0.
#
# You need no card. minirewind has an **emulator**: it takes the same CUDA text, lets g++ translate it for your
# processor, and plays all the threads itself, one after another. It is far slower than a card. But it is *stricter*,
# and that is what we want.

# %%
try:
    device = mr.kernels.backend("emulated")
    print("the emulator is ready")
except mr.Error as reason:
    device = None
    print(f"{reason}\nRead on all the same: what needs the emulator is left out here. Google Colab has g++.")

# %% [markdown]
# ## 1. One thread, one number
#
# A program for the card is called a kernel, too. This one inverts an image:

# %%
invert = """
extern "C" __global__ void invert(const float* x, float* y, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  y[i] = 16 - x[i];
}
"""

# %% [markdown]
# There is no loop. Each thread computes one number `i`, and the first line is how it finds out which.
#
# Threads come in blocks of equal size. In its block a thread has the number `threadIdx.x`, the block has the number
# `blockIdx.x`, and `blockDim.x` is how many threads a block has. Here are 37 numbers, and blocks of 16 threads:

# %%
def draw(block_size):
    return pictures.threads(37, block_size)


pictures.slide(draw, block_size=(8, 20, 16))

# %% [markdown]
# All blocks have the same size, so at the end there are threads for which there is no number. They must do nothing:
# that is the second line.
#
# **Predict:** blocks of 16. Which number computes the thread with `threadIdx.x = 5` in the block with
# `blockIdx.x = 2`? And how many threads return at once?

# %%
prediction = None       # two numbers, like (12, 3)

exercise.reveal(prediction, (2 * 16 + 5, 3 * 16 - 37))

# %% [markdown]
# To start it one says how many blocks, how many threads in each, and hands over the arguments:

# %%
def translated(text, name, seed=0):
    """The kernel of this name, as a function (blocks, threads in each, arguments); `seed` shuffles its threads."""
    return emulator.Module(sources.expand("device.h", set()) + text, seed).get_function(name)


digit = mr.data.load("digits").train.images[0, 0].astype(np.float32)
inverted = np.zeros_like(digit)
if device:
    translated(invert, "invert")((4,), (16,), (digit, inverted, 64))
    pictures.images([digit, inverted], ["x", "y"])

# %% [markdown]
# ### Exercise 1: a step of SGD
#
# You wrote this step in lesson 05, and in lesson 07 you found out what the mask must do. There it was a line of NumPy
# for all weights. Now it is a few lines for one.
#
# An exercise in CUDA is a Python function that returns a text. Begin with this:
#
# ```python
#     return """
# extern "C" __global__ void sgd(float* weights, const float* gradients, float* momentum, const bool* mask,
#                                const float* rate, float factor, int nesterov, float decay, int count) {
#   ...
# }
# """
# ```
#
# - $g$ = gradient + `decay` · weight, and the velocity is `factor` · momentum + $g$.
# - The step is the velocity; with `nesterov` it is $g$ + `factor` · velocity.
# - The momentum becomes the velocity, and the weight moves by `rate` · step against it. The rate lies in memory:
#   `rate[0]`.
# - Where `mask[i]` is false, both become exactly 0.

# %%
@exercise.implement("kernels.gpu.update.sgd")
def sgd():
    """One step of SGD on flat vectors, for one weight, as CUDA."""
    raise NotImplementedError           # a head and seven lines of CUDA


# %% [markdown]
# ## 2. Threads that need each other
#
# Now a sum. 256 threads, and each has a number. One thread could add them all up, in 255 steps, while 255 threads look
# on. Better: the first half of the threads take in the numbers of the second half. Then half of those, and so on.

# %%
def tree(steps):
    return pictures.halving([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3], steps)


pictures.slide(tree, steps=(0, 4, 4))

# %% [markdown]
# **Predict:** how many steps for 256 numbers?

# %%
prediction = None       # a number

exercise.reveal(prediction, int(np.log2(256)))

# %% [markdown]
# For this, threads must see each other's numbers. A variable like `float sum` belongs to one thread. What is declared
# as `__shared__ float sums[256];` is **shared memory**: one array for the whole block, small, and near to the cores.
#
# And there is the trouble. Thread 0 wants to add `sums[128]`. Has thread 128 written it yet?
#
# Nobody knows. A card runs 32 threads at a time, in step with each other: these 32 are a **warp**. Which warp comes
# next, and how far it gets, is decided by the card, anew each time. Let us look. Every thread of this kernel writes
# down at what time it was here, twice. The clock is one number in memory, and whoever looks at it moves it on by one:

# %%
diary = """
extern "C" __global__ void diary(int* clock, int* first, int* second) {
  int i = threadIdx.x;
  first[i] = clock[0]++;
  BARRIER
  second[i] = clock[0]++;
}
"""


def times(barrier, seed):
    """When each of 128 threads was at the two places, in one order of the threads."""
    clock, first, second = np.zeros(1, np.int32), np.zeros(128, np.int32), np.zeros(128, np.int32)
    translated(diary.replace("BARRIER", barrier), "diary", seed)((1,), (128,), (clock, first, second))
    return first, second


def both(seed):
    _, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
    for axis, barrier in zip(axes, ("", "__syncthreads();")):
        first, second = times(barrier, seed)
        axis.scatter(first, range(128), s=30, color="#1b6ca8", label="first")
        axis.scatter(second, range(128), s=6, color="#d95f02", label="second")
        axis.set(xlabel="time", title=barrier or "no barrier")
        axis.hlines([32, 64, 96], 0, 256, color="#dddddd", linewidth=0.8)
    axes[0].set_ylabel("thread")
    axes[0].legend(loc="upper left", fontsize=8)
    plt.show()


if device:
    both(seed=1)

# %% [markdown]
# On the left each warp of 32 threads runs through to the end before the next one begins, and within it each thread
# before the next: every orange dot sits on its blue one. (This emulator does it on purpose: whoever forgot somebody is
# punished at once. On a card it would be any mixture, and the threads of a warp walk in step, as long as they do.) On
# the right there is one line between the two places:
#
# ```c
# __syncthreads();
# ```
#
# That is a **barrier**. Whoever comes to it waits until *all* threads of the block have come. Not one orange dot lies
# left of a blue one. All means all: a thread that has gone home, or takes another way through an `if`, never comes.
#
# ### Exercise 2: the mean
#
# This is the end of the loss: one number for each image of the batch, and their mean is wanted. One block with 256
# threads. There may be more rows than threads, or fewer.
#
# ```c
# extern "C" __global__ void mean_of_rows(const float* losses, float* mean, int rows) {
#   __shared__ float sums[256];
# ```
#
# 1. Each thread adds up its rows, `threadIdx.x`, then 256 further, and so on, and writes what it has to `sums`.
# 2. The halving, with `half` = 128, 64, ... 1. Where does the barrier belong?
# 3. Thread 0 writes `mean[0]`.
#
# Write it **without any barrier first**, and read what the checks have to say.

# %%
@exercise.implement("kernels.gpu.loss.mean_of_rows")
def mean_of_rows():
    """mean[0] = the mean of the losses, by one block, as CUDA."""
    raise NotImplementedError           # a head and nine lines of CUDA


# %% [markdown]
# ## 3. Right on Monday
#
# How did the checks find it? Two things make the emulator strict. Before a block begins, its shared memory is filled
# with NaN ("not a number"): who reads what nobody has written gets NaN, and so does everything made of it. And the
# order of the threads can be shuffled, by a seed. **A right program gives the same result in every order.**
#
# Here is a kernel with a subtle mistake. Each thread takes its neighbour's number and squares it, and then once more
# takes what its neighbour has. There *are* barriers. But one is missing.

# %%
subtle = """
extern "C" __global__ void pass_on(const float* x, float* y) {
  __shared__ float seats[128];
  int i = threadIdx.x;
  seats[i] = x[i];
  __syncthreads();
  float neighbour = seats[(i + 1) % 128];
  BARRIER
  seats[i] = neighbour * neighbour;
  __syncthreads();
  y[i] = seats[(i + 1) % 128];
}
"""


def wrong(barrier, seed):
    """Which of the 128 results are wrong."""
    x, y = np.arange(128, dtype=np.float32), np.zeros(128, np.float32)
    translated(subtle.replace("BARRIER", barrier), "pass_on", seed)((1,), (128,), (x, y))
    return y != np.roll(x, -2) ** 2


# %% [markdown]
# **Predict:** in how many of 30 orders will at least one of the 128 results be wrong?

# %%
prediction = None       # a number from 0 to 30

if device:
    without = np.array([wrong("", seed) for seed in range(1, 31)])
    with_it = np.array([wrong("__syncthreads();", seed) for seed in range(1, 31)])
    exercise.reveal(prediction, int(without.any(axis=1).sum()))
    _, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
    for axis, found, title in zip(axes, (without, with_it), ("one barrier missing", "all barriers")):
        axis.imshow(found, aspect="auto", cmap="Oranges", vmin=0, vmax=1.4, extent=(0, 128, 30.5, 0.5))
        axis.set(title=f"{title}: {found.sum(axis=1).mean():.0f} of 128 wrong", xlabel="thread")
    axes[0].set_ylabel("order of the threads (seed)")
    plt.show()

# %% [markdown]
# A line is one run, and orange is wrong: about half of the numbers, and other ones each time. A thread has put its new
# number on its seat while its neighbour had not read the old one yet. This is a **data race**: two threads, one place,
# at least one of them writes, and nothing says who is first. On a card most orders are harmless, and it can go well for
# weeks. In a network it would be a little noise in a gradient, and you
# would look for it in your learning rate.
#
# ## 4. Memory that is near
#
# Shared memory is good for one thing more. In a matrix product every number of `x` is needed for a whole row of the
# result. If each thread fetches for itself what it needs, each number of `x` comes from the far memory again and again.
# Instead a block of 16 × 16 threads can fetch a tile of 16 × 16 numbers *together*, each thread one, and then all read
# from the shared copy. Here is one block, the one that makes the dark tile of `z`. It needs a strip of `x` and a strip
# of `y`, and goes along them tile by tile. Move it.

# %%
def tiles(step):
    x, y, z = np.zeros((3, 64, 64))
    here = slice(16 * step, 16 * step + 16)
    x[16:32], y[:, 32:48] = 1, 1
    x[16:32, here] = y[here, 32:48] = z[16:32, 32:48] = 2
    _, axes = plt.subplots(1, 3, figsize=(8, 2.9), layout="constrained")
    for axis, picture, name in zip(axes, (x, y, z), ("x", "y", "z = x @ y")):
        axis.imshow(picture, cmap="Oranges", vmax=3, extent=(0, 64, 64, 0))
        axis.set(title=name, xticks=range(0, 65, 16), yticks=range(0, 65, 16))
        axis.grid(color="#cccccc")
    plt.show()


pictures.slide(tiles, step=(0, 3, 1))

# %% [markdown]
# **Predict:** `x` is 256 × 256, and so is `y`. How often is each number of `x` fetched from the far memory if every
# thread works alone? And in tiles of 16 × 16?

# %%
prediction = None       # two numbers, like (100, 10)

exercise.reveal(prediction, (256, 256 // 16))

# %% [markdown]
# Each row of `x` is needed for 256 columns of the result. Alone, each of these 256 threads fetches it. In tiles, one
# block fetches it for 16 columns at once, and there are 16 such blocks. (The checks of the next exercise count it.)
#
# And *who* fetches which number? The far memory hands out cache lines, as in lesson 03; here they have 128 bytes, 32
# numbers. But here it is not one thread after another that asks: all 32 of a warp ask at the same time, with one
# instruction.
#
# **Predict:** the 32 threads of a warp read 32 neighbours of one *row* of `x`. How many cache lines must come? And if
# they read 32 neighbours of one *column*?

# %%
prediction = None       # two numbers, like (8, 8)

thread = np.arange(32)
row_of_x, column_of_x = thread, 256 * thread                            # places in memory, in numbers
exercise.reveal(prediction, tuple(len(np.unique(4 * place // 128)) for place in (row_of_x, column_of_x)))

# %% [markdown]
# As many numbers, but 32 requests in place of one. And of each line a card brings at least a quarter, 32 bytes, for the
# 4 that are wanted: eight times as much memory is moved. Accesses of which one line serves a whole warp are called
# **coalesced**. The threads of a warp follow each other by `threadIdx.x`. So the rule is short: *where `threadIdx.x`
# goes up by one, the place in memory should go up by one.* Nothing tells you if you break it, neither a check nor the
# emulator, which has no such memory. The result is the same. Only the card is slow.
#
# ### Exercise 3: the matrix product in tiles
#
# ```c
# extern "C" __global__ void matmul(const float* x, const float* y, float* z, int M, int N, int K,
#                                   int x_row, int x_column, int y_row, int y_column) {
#   __shared__ float x_tile[16][16], y_tile[16][16];
#   int i = threadIdx.y, j = threadIdx.x, m = blockIdx.y * 16 + i, n = blockIdx.x * 16 + j;
#   float sum = 0;
# ```
#
# Blocks and threads have two numbers here: `.x` counts along a row, `.y` counts the rows. The thread makes the result
# in row `m`, column `n`. Go along `K` in steps of 16. In each step: bring one number of each tile, wait, add up 16
# products, wait. `x[m][k]` lies at `x[m * x_row + k * x_column]`: the strides of lesson 01, so that a transposed matrix
# is no copy. Where a tile sticks out of its matrix, put 0. And the threads for which there is no result in `z`: may
# they go home at once, as in exercise 1?

# %%
@exercise.implement("kernels.gpu.matmul.matmul")
def matmul():
    """z = x @ y, of M x K and K x N, tile by tile, as CUDA."""
    raise NotImplementedError           # the head above, and eight lines of CUDA


# %% [markdown]
# ## 5. A network on your kernels
#
# The smallest network of the paper, on the digits, for a few steps: first on the CPU, then on this device. The same
# seed, so the same images in the same order. (If there is a card in this computer, and CuPy, the same text runs on it.)

# %%
def losses(where, steps):
    """The loss of each of the first steps of a training."""
    model = mr.models.lenet_300_100(input_shape=(1, 8, 8), classes=10)
    model.initialise(0)
    recipe = mr.train.Recipe(steps, 16)
    digits = mr.data.load("digits")
    return [record.loss for record in mr.train.train(model.to(where), digits, recipe, seed=0, report_every=1)]


def card():
    """"gpu", if there is one."""
    try:
        return mr.kernels.backend("gpu").name
    except mr.Error:
        return None


if device:
    where, steps, launched = card() or "emulated", exercise.scale(smoke=2, laptop=12), []
    launch = host.Gpu.launch

    def counting(self, file, name, *rest):
        launched.append(name)
        launch(self, file, name, *rest)

    host.Gpu.launch = counting                  # for this cell only: what it starts is written down
    try:
        here, there = losses("cpu", steps), losses(where, steps)
    finally:
        host.Gpu.launch = launch
    axis = plt.figure(figsize=(6, 2.8), layout="constrained").gca()
    axis.plot(here, "o", color="#1b6ca8", label="cpu")
    axis.plot(there, "x", color="#d95f02", label=where)
    axis.set(xlabel="step", ylabel="loss", xticks=range(steps))
    axis.legend()
    plt.show()
    print("largest difference:", max(abs(a - b) for a, b in zip(here, there)))
    print("kernels launched:", {name: launched.count(name) for name in ("matmul", "mean_of_rows", "sgd")})
    print("yours are:", [name for name in learn.mine if name.startswith("kernels.gpu")] or "none yet")

# %% [markdown]
# The same losses, up to rounding. Every product of matrices, every mean loss and every step of SGD went through a few
# lines of CUDA. (On a card a step is recorded once and then replayed, so there the count is smaller.) Here is what lies
# in the folder `kernels/gpu`. Most of it you can read now; begin with `update.cu`, and end with `tensor_cores.cu`.

# %%
for file in sources.names():
    print(f"{file + '.cu':18}", ", ".join(sources.signatures(sources.text(file))))

# %% [markdown]
# ## What you built
#
# - `sgd`: one thread, one number; and those who have none go home.
# - `mean_of_rows`: a sum by halves, in shared memory, with a barrier before every step.
# - `matmul`: tiles that a block brings together; one barrier before reading, one before bringing the next.
#
# And you have seen a data race, and know two ways to find one: put NaN where nobody has written, and shuffle.

# %%
exercise.status("13")

# %% [markdown]
# ## A further question
#
# The last five steps of the halving are made by 32 threads, one single warp, and a warp runs in step. Do those steps
# need a barrier? Could a thread hand its number directly to its neighbour, without memory? Look for `__shfl_xor_sync`
# in `kernels/gpu/warp.h`: `sum_of_warp` is two lines. And where does the framework's own `mean_of_rows`, which
# `exercise.solution` shows you, still need a barrier?
