# %% [markdown]
# # 03 · One convolution, four times
#
# **Time** 90 minutes · **You need** lessons 01 and 02 · **Paper** nearly all the arithmetic in its image networks
# is the one sum that you write here
#
# **New words:** convolution, filter, feature map, padding, batch, Numba, cache line, batch innermost
#
# The machine of lesson 02 compared whole digits with whole templates. Moved by one pixel, most of them were lost on it.
# An eye works otherwise: it looks for small things, an edge, a corner, an end of a line, and it looks for them
# *everywhere*. This lesson builds such an eye. It is a single sum of products.
#
# You will compute that same sum four times. The four results are equal. The times are not: the slowest way takes
# **tens of thousands** of times as long as the fastest, on the same machine. All four do the same multiplications. So
# what was the time spent on?

# %%
import time

import numba
import numpy as np

import minirewind as mr
from minirewind import learn, pictures
from minirewind.learn import exercise
from minirewind.tensor import Tensor

exercise.begin("03_convolution")

# %% [markdown]
# ## 1. A window that slides
#
# Nine numbers, 3 × 3, are laid on nine pixels. Each pixel is multiplied by the number that lies on it, and the nine
# products are added up: that is one pixel of the result. Then the nine numbers move on. They are a **filter**. What
# comes out is a **feature map**, and the whole operation is called **convolution**.
#
# This filter has 1s on its left and -1s on its right. **Predict:** where will its feature map be red (large), where
# blue (negative)? Then move the window.

# %%
digits = mr.data.load("digits").train
digit = digits.images[12, 0] / 16
edge = np.array([[1.0, 0, -1], [1, 0, -1], [1, 0, -1]])


def look(row, column):
    return pictures.window(digit, edge, row, column)


pictures.slide(look, row=(0, 5, 2), column=(0, 5, 1))

# %% [markdown]
# Red where ink is on the left and none on the right: the filter answers to *right edges* of strokes. On even ground,
# all white or all black, the products cancel, and the answer is zero.
#
# Two things to see in the picture:
#
# - The digit has 8 × 8 pixels, the feature map 6 × 6. A window of 3 has only 6 places on a line of 8.
# - To keep all 8, one lays a rim of zeros round the image. That is **padding**. With a padding of 1 the window may
#   stand half outside.
#
# And the window may take larger steps. The step is called its *stride*. (The word of lesson 01, for the same idea: how
# far to the next one.)
#
# **Predict:** a line of 8 pixels, a window of 3, a padding of 1, and a stride of 2. How many places are there?

# %%
prediction = None       # a number

exercise.reveal(prediction, mr.kernels.reference.convolution.output_size(8, 3, 2, 1))

# %% [markdown]
# With the padding the line has 10 pixels. The window can begin at 0, 2, 4, 6: four places. (At 8 it would stick out.)
# In general: `(size + 2 * padding - window) // stride + 1`.
#
# ## 2. The whole sum
#
# Images come in batches: a **batch** is some images that are worked on together. Each image can have several
# *channels*: red, green and blue, or the feature maps that other filters made of it before. A filter then has a sheet
# of numbers for each channel, and adds up over all of them. And there are many filters, each makes a map of its own.
# That gives seven letters, the same in all of this course:
#
# | | counts | up to |
# |---|---|---|
# | `n` | images | `N` |
# | `k` | filters, and so channels that come **out** | `K` |
# | `c` | channels that go **in** | `C` |
# | `p`, `q` | rows and columns of the **output** | `P`, `Q` |
# | `r`, `s` | rows and columns of the **filter** | `R`, `S` |
#
# The images are `x` with the shape `(N, C, H, W)`, the filters are `weight` with the shape `(K, C, R, S)`, and
#
# $$y_{n,k,p,q} = \sum_{c,r,s} x_{n,\,c,\,h,\,w} \; \cdot \; weight_{k,c,r,s}$$
#
# where $h$ = `p * stride + r - padding` and $w$ = `q * stride + s - padding` say which pixel lies under the entry
# $(r, s)$ of the filter when the window is at $(p, q)$. In the padding there is nothing: what lies outside the image
# adds nothing.
#
# ### Exercise 1: the seven loops
#
# `stride` and `padding` are pairs: `stride[0]` is for rows, `stride[1]` for columns. Seven loops, one inside the other,
# and one line in the middle. It is long, but there is only one thought in it. The rim of zeros need not exist: find out
# whether `h` and `w` are inside the image, and add nothing if they are not. (`np.zeros(shape, x.dtype)` makes a `y` of
# the same kind of numbers as `x`.)
#
# Your function is checked as Python first, so that you can read what goes wrong. Then it is compiled (you will see
# what that is good for), and runs from then on whenever the framework convolves numbers of 64 bits.

# %%
@exercise.implement("kernels.loops.conv2d")
def conv2d(x, weight, stride, padding):
    """Each output sums up what is under the window, times the filter.    -> (N, K, P, Q)"""
    raise NotImplementedError           # five lines of sizes, seven loops, three lines inside


# %% [markdown]
# Four filters that somebody thought up, and what they see. Each row of the picture is one digit.

# %%
by_hand = np.array([[[1, 0, -1], [2, 0, -2], [1, 0, -1]], [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
                    [[2, 1, 0], [1, 0, -1], [0, -1, -2]], [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]])
by_hand = by_hand / by_hand.clip(0).sum(axis=(1, 2), keepdims=True)                             # (4, 3, 3)
names = ["right edge", "lower edge", "corner", "dot"]
some = digits.images[[0, 12, 23, 9]] / 16                                                       # (4, 1, 8, 8)
maps = mr.kernels.loops.conv2d(some, by_hand[:, None], (1, 1), (1, 1))                          # (4, 4, 8, 8)
pictures.images(by_hand, names, symmetric=True)
pictures.images([picture for image, seen in zip(some, maps) for picture in (*image, *seen)],
                ["digit", *names] + [""] * 15, columns=5, symmetric=True)

# %% [markdown]
# The maps are images again, with four channels. On them one can lay the next filters, which see corners of edges, ends
# of lines, rings: things made of the things that the first ones saw. A network for images is a stack of such sums, and
# nobody thinks up the filters any more. They are **learned**. For that we need gradients.

# %% [markdown]
# ## 3. Every product, three times
#
# Think of one single product in the middle of your loops:
#
# ```python
# y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]
# ```
#
# You know from lesson 01 what to ask. Suppose `y[n, k, p, q]` matters to the result by `dy[n, k, p, q]`. By how much
# does this pixel matter, through this product? By the other factor, times `dy`. And this entry of the filter?
#
# **Predict,** for both: what stands on the right?
#
# ```python
# dx[n, c, h, w]        += ?
# dweight[k, c, r, s]   += ?
# ```
#
# Write your two lines down, on paper. Then the real question: a pixel takes part in many products. So how does one
# *collect* its share from all of them? You have the answer already: go through all the products again, in the same
# seven loops, and let each one add its share.
#
# ### Exercise 2: the gradient of the images
#
# Copy your loops. What comes in is `dy` `(N, K, P, Q)`, what goes out has the shape `x_shape`.

# %%
@exercise.implement("kernels.loops.conv2d_input_gradient")
def conv2d_input_gradient(dy, weight, x_shape, stride, padding):
    """Each pixel collects from all outputs that saw it, times the filter entry through which they did.    -> x_shape"""
    raise NotImplementedError           # four lines of sizes, your seven loops, three lines inside


# %% [markdown]
# ### Exercise 3: the gradient of the filters
#
# The same once more. **Before you write:** an entry of a filter takes part in how many products, for 100 images of
# 8 × 8 with a padding of 1?

# %%
@exercise.implement("kernels.loops.conv2d_weight_gradient")
def conv2d_weight_gradient(dy, x, weight_shape, stride, padding):
    """Each filter entry collects from all outputs, times the pixel that it met there.    -> weight_shape"""
    raise NotImplementedError           # four lines of sizes, your seven loops, three lines inside


# %% [markdown]
# The entry in the middle: in 6,400, for it lies on a pixel at every place of the window, 64 of them in each of 100
# images. One in a corner: in 4,900, for at 15 of the 64 places it lies on the padding. That is what makes a filter
# strong: it has few numbers, and each of them learns from nearly every place of every image.
#
# `mr.functional.conv2d` is the operation made of your three functions: its `forward` calls the first, its `backward`
# the two others, one for the gradient of the images and one for that of the filters.
#
# **Does it learn?** Somebody has run a secret filter over 100 digits, and we have the digits and the maps. Begin with
# nine zeros, and follow the gradient, as you did for the template of a three.

# %%
x = Tensor(digits.images[:100] / 16)                                    # (100, 1, 8, 8)
secret = Tensor(by_hand[2].reshape(1, 1, 3, 3))
target = mr.functional.conv2d(x, secret, padding=1)
found = Tensor(np.zeros((1, 1, 3, 3)), requires_grad=True)
steps = exercise.scale(smoke=50, laptop=400)
frames = []

for _ in range(steps + 1):
    difference = mr.functional.conv2d(x, found, padding=1) - target
    error = (difference * difference).mean()
    frames.append(found.data.copy())
    found.grad = None
    error.backward()                                                    # dweight: exercise 3
    found.data -= 0.4 * found.grad

shown = [0, 1, 5, 20, steps]
pictures.images([*(frames[i] for i in shown), secret.data], [*(f"step {i}" for i in shown), "secret"], symmetric=True)

# %% [markdown]
# Nine numbers, found from their work alone. And the gradient of the images? It answers the opposite question: the
# filter is known, but what was the *image*? Here the filter blurs: each pixel becomes the mean of the nine around it.
# We have only the blurred digits, and look for images that would look so if they were blurred.

# %%
blur = Tensor(np.full((1, 1, 3, 3), 1 / 9))
sharp = digits.images[[0, 12, 23, 9, 31]] / 16
blurred = mr.functional.conv2d(Tensor(sharp), blur, padding=1)
guess = Tensor(blurred.data.copy(), requires_grad=True)

for _ in range(steps):
    difference = mr.functional.conv2d(guess, blur, padding=1) - blurred
    error = (difference * difference).sum()
    guess.grad = None
    error.backward()                                                    # dx: exercise 2
    guess.data -= 0.9 * guess.grad

pictures.images([*blurred.data, *guess.data.clip(0), *sharp], ["blurred"] * 5 + ["found"] * 5 + ["true"] * 5, columns=5)

# %% [markdown]
# Not quite the true ones. Add the stripes 1, -1, 0, 1, -1, 0, 1, -1 to each row of an image: any three neighbours add
# up to 0, so the blurred image is the same as without them. What leaves no trace makes no error, has the gradient 0,
# and does not come back, however many steps you take. But your convolution and both of its gradients work. Now to the
# other question: how long does it take?
#
# ## 4. The first way and the second
#
# A convolution from the middle of a small network: 128 images with 16 channels of 8 × 8 in, 16 filters, 16 channels
# out. To have something real in the 16 channels we let 16 filters, drawn by lot, look at 128 digits.

# %%
lot = np.random.default_rng(0)
first = lot.standard_normal((16, 1, 3, 3), np.float32)
batch = digits.images[:128].astype(np.float32) / 16
images = mr.functional.conv2d(batch, first, padding=1).numpy()          # (128, 16, 8, 8)
filters = lot.standard_normal((16, 16, 3, 3), np.float32)
place = (1, 1), (1, 1)                                                  # stride and padding
products = 128 * 16 * 16 * 8 * 8 * 9                                    # N K C P Q R S
print(f"{products:,} products")

# %% [markdown]
# A processor core does about three billion simple things in a second. **Predict:** how many seconds will Python take
# for these 19 million products? (It will do a few of the images, and we multiply.)

# %%
prediction = None       # a number of seconds


def milliseconds(function, *arguments, times=5):
    """The fastest of some calls, after one that does not count."""
    function(*arguments)
    best = np.inf
    for _ in range(times):
        began = time.perf_counter()
        function(*arguments)
        best = min(best, 1000 * (time.perf_counter() - began))
    return best


def as_python(function):
    """The function before it was compiled."""
    return getattr(function, "py_func", function)


seven_loops = as_python(mr.kernels.loops.conv2d)
few = exercise.scale(smoke=1, laptop=2)
began = time.perf_counter()
expected = seven_loops(images[:few], filters, *place)
times = {"seven loops, Python": 1000 * 128 / few * (time.perf_counter() - began)}
exercise.reveal(prediction, round(times["seven loops, Python"] / 1000, 1))

# %% [markdown]
# Thousands of instructions of the processor for each product. Python looks up what `x` is, what `[` means for it,
# makes a tuple of four numbers, makes a number out of what it finds there, looks up what `*` means for such a number,
# and so on, every time anew.
#
# **Numba** does all that looking up once. It takes a Python function, waits until it is called, looks at the types of
# what it was given, and translates the function into instructions of the processor: it *compiles* it. The same loops,
# not one character changed:

# %%
compiled = numba.njit(seven_loops)
times["seven loops, Numba"] = milliseconds(compiled, images, filters, *place)
print("largest difference:", abs(compiled(images, filters, *place)[:few] - expected).max())
pictures.bars(times, "milliseconds")

# %% [markdown]
# (The picture is on a scale of powers of ten.) That is the second way. Are we at the end? Three billion instructions
# per second, 19 million products: that should take 6 milliseconds, if a product were one instruction. See where you
# are.
#
# ## 5. The third way: another order
#
# It does not matter in which order a sum is added up. So the seven loops can be put inside each other in any order
# at all, and there are 5,040 of them. The function below writes the program for any order. (It expects the rim of
# zeros to be there, so that the line in the middle is only the product.)

# %%
def in_order(letters):
    """The seven loops in this order, compiled."""
    lines = ["def convolve(x, weight, y):",
             "    N, C, H, W = x.shape",
             "    K, C, R, S = weight.shape",
             "    P, Q = y.shape[2:]"]
    for depth, letter in enumerate(letters, 1):
        lines.append("    " * depth + f"for {letter} in range({letter.upper()}):")
    lines.append("    " * 8 + "y[n, k, p, q] += x[n, c, p + r, q + s] * weight[k, c, r, s]")
    made = {}
    exec("\n".join(lines), made)
    return numba.njit(fastmath={"contract"})(made["convolve"])         # a product and a sum may be one instruction


padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
result = np.zeros((128, 16, 8, 8), np.float32)

# %% [markdown]
# **Predict:** which of these three is the fastest, and which the slowest? The last letter is the innermost loop.

# %%
prediction = None       # the fastest first, like ["nkpqcrs", "ncrskpq", "rspqkcn"]

orders = {"nkpqcrs": "filter inside", "ncrskpq": "row inside", "rspqkcn": "images inside"}
mine = "nkpcqrs"        # try an order of your own here
trial = {}
for letters in [*orders, mine]:
    name = f"{letters}  {orders.get(letters, 'mine')}"
    trial[name] = milliseconds(in_order(letters), padded, filters, result, times=2)
exercise.reveal(prediction, sorted(orders, key=lambda letters: trial[f"{letters}  {orders[letters]}"]))
pictures.bars(trial, "milliseconds")
times["another order"] = min(trial.values())

# %% [markdown]
# The same products, the same compiler, one line in the middle, and factors between them that no clever trick would
# give you. There are two reasons.
#
# **The processor does not multiply numbers, it multiplies rows of numbers.** One instruction takes 4, 8 or 16
# neighbours at once. With the row inside (`q` last), neighbouring products read neighbours and write neighbours: that
# fits. With the filter inside, all products of the innermost loop are added to *one* number, each must wait for the
# one before it, and nothing can be done side by side.
#
# **Memory does not hand out numbers, it hands out cache lines.** A **cache line** is 16 neighbouring numbers (64 bytes,
# on most processors). Whoever asks for one gets all 16, and they stay near the processor for a while. Here is a small
# batch, four images of two channels, 2 × 4 pixels, as memory holds it. Each line of the drawing is a cache line. Framed
# is what the innermost loop over the images touches.

# %%
pictures.cache_lines({"n": 4, "c": 2, "h": 2, "w": 4}, "nchw", loop="n")

# %% [markdown]
# For each number that it wants, a whole cache line has to come. The next pixel wants the same four lines again, but
# with a real batch there are 128 of them for each of 16 channels, and by then they are gone.
#
# So the loop over images looks like the worst of all. But look at it from the other side. **There are always many
# images.** Whatever is done to one is done to all. A row of an 8 × 8 map has 8 pixels, deeper in a network 4, and its
# ends are special because of the padding. Images have no ends that are special, and a batch has as many as you like.
# It would be the best innermost loop of all. If only the images lay side by side.
#
# ## 6. The fourth way: another memory
#
# Who says that they don't? You know since lesson 01 that an array is memory, shape and strides. The shape stays
# `(N, C, H, W)`, and in memory we put the images innermost:

# %%
pictures.cache_lines({"n": 4, "c": 2, "h": 2, "w": 4}, "hwcn", loop="n")

# %%
innermost = np.ascontiguousarray(images.transpose(2, 3, 1, 0))          # (8, 8, 16, 128), really moved
view = innermost.transpose(3, 2, 0, 1)                                  # the shape (128, 16, 8, 8) again, only strides
print("the same array:", np.array_equal(view, images))
print("strides before:", [step // 4 for step in images.strides], " now:", [step // 4 for step in view.strides])

# %% [markdown]
# This is called **batch innermost**, and it is how minirewind keeps all images on a CPU. A convolution becomes very
# simple with it. Number the pixels of the image row by row, 0 to 63. Call the nine entries of a filter its *taps*. Then
# all of the geometry, rows, columns, stride and padding, can be told beforehand in one table: *which pixel does tap `t`
# see when the window is at place `q`?* It is -1 where the tap looks into the padding.

# %%
source = mr.kernels.cpu.convolution.taps(8, 8, (3, 3), *place)          # (64, 9)
for q in (0, 1, 9, 63):
    print(f"window at place {q:2}: its nine taps see the pixels {source[q]}")

# %% [markdown]
# ### Exercise 4: batch innermost
#
# - `x` is the images, `(pixels, C, N)`: `x[p, c]` is a run of `N` numbers, one pixel of all images.
# - `weight` is the filters, `(K, C, taps)`.
# - `source` is the table, `(places, taps)`.
# - `y` is `(places, K, N)`. **Add** to what is there. (It may hold something already. You will see in lesson 04 what.)
#
# Which loop must be innermost is clear. The order of the others is up to you: try some. It is a race from now on.

# %%
@exercise.implement("kernels.loops.add_taps")
def add_taps(x, weight, source, y):
    """y[q, k, :] += weight[k, c, t] * x[source[q, t], c, :] for every tap t that sees a pixel; ":" are the images."""
    raise NotImplementedError           # five loops, an if, one line inside


# %%
pixels, taps = innermost.reshape(64, 16, 128), filters.reshape(16, 16, 9)
fast = numba.njit(fastmath={"contract"})(as_python(mr.kernels.loops.add_taps))
y = np.zeros((64, 16, 128), np.float32)
fast(pixels, taps, source, y)
y = y.reshape(8, 8, 16, 128).transpose(3, 2, 0, 1)                      # back to (N, K, P, Q)
print("largest difference:", abs(y[:few] - expected).max())

times["batch innermost"] = milliseconds(fast, pixels, taps, source, np.zeros((64, 16, 128), np.float32), times=50)
pictures.bars(times, "milliseconds")

# %% [markdown]
# Compare it with the order "images inside" of section 5. **The loops are the same, the multiplications are the same.
# Only where the numbers lie in memory has changed.**
#
# Once yours passes, the framework uses it: forward, and backward too. For the gradient of the images is the same sum
# with the table turned round (*which places saw pixel `p` through tap `t`?*), and with `k` and `c` exchanged. So every
# convolution of every network in this course now runs through your five loops.
#
# How good are they? The framework's own kernel holds parts of the sum in the registers of the processor, and for 3 ×
# 3 filters it even gets along with fewer multiplications. (It would use all cores, too. Here it gets one, as you
# did.) And NumPy? It copies every window into one large matrix and asks a library for a matrix product. (The copy is
# known as *im2col*.)

# %%
threads = numba.get_num_threads()
mr.kernels.set_threads(1)
duel = exercise.race("kernels.cpu.conv2d", view, filters, None, *place, times=exercise.scale(smoke=10, laptop=200))
numpy_way = learn.place("kernels.reference.convolution.conv2d").framework       # and not your loops in its place
everything = times | {"NumPy": milliseconds(numpy_way, images, filters, None, *place),
                      "the framework's own": duel["framework"]}
mr.kernels.set_threads(threads)
pictures.bars(everything, "milliseconds")
print(f"Python to the fastest: a factor of {max(everything.values()) / min(everything.values()):,.0f}")

# %% [markdown]
# If your kernel costs you too much time in later lessons, `exercise.reset("kernels.loops.add_taps")` gives the work
# back to the framework's. (Keep a copy. It is good.)
#
# ## What you built
#
# - `conv2d`: the sum at the heart of all networks for images, in seven loops.
# - `conv2d_input_gradient`, `conv2d_weight_gradient`: the same loops, the same products; only another one collects.
# - `add_taps`: the same sum once more, with the memory laid out for it.
#
# And you have seen that the time of a program is decided less by *what* it computes than by the order in which it
# meets its numbers.

# %%
exercise.status("03")

# %% [markdown]
# ## A further question
#
# Look at your fourth way again. For each product it reads `y` from memory, adds to it, and writes it back. A core has
# 16 or 32 registers, places where numbers need not be fetched from anywhere. Suppose you keep four filters times some
# images in registers while you go through all taps and channels: how many loads and stores would be left for each
# product? That is what the framework's kernel does, and lesson 12b shows how. And if most of the filters' numbers were
# zero, what could you leave out of the five loops? That is lesson 12.
