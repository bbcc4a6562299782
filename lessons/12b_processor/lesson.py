# %% [markdown]
# # 12b · What a processor executes: lanes, FMAs, Winograd
#
# **Time** 50 minutes, and you may leave it out · **You need** lessons 03 and 12 · **Paper** none of it
#
# **New words:** lane, FMA, assembler, Winograd
#
# In lesson 03 your batch-innermost loops were far faster than the first ones, and the framework's kernel was faster
# still. With the same multiplications? Not even that. In this lesson you look at what the processor was really asked to
# do. There are three things to find: it multiplies in rows, it hates to fetch, and there is a way to convolve with a
# quarter of the multiplications.

# %%
import time

import matplotlib.pyplot as plt
import numba
import numpy as np

import minirewind as mr
from minirewind import learn, pictures
from minirewind.learn import exercise

exercise.begin("12b_processor")

# %% [markdown]
# ## 1. Lanes
#
# A processor does not add numbers, it adds short vectors of them. One **instruction**, one step of its program, takes
# 4, 8 or 16 numbers and adds them to 4, 8 or 16 others. Each place in such a vector is a **lane**. And there is one
# instruction that multiplies *and* adds, `a * b + c`, in all lanes: a *fused multiply-add*, **FMA** for short.
#
# This computer has so many lanes, for numbers of 32 bits:

# %%
cpu = mr.kernels.backend("cpu")
lanes = mr.kernels.cpu.simd.LANES
print(lanes, "lanes,", mr.kernels.cpu.simd.REGISTERS, "registers (places for one such vector, inside the processor)")

# %% [markdown]
# Take a sum of products, $\sum_i x_i w_i$. The plain loop adds everything to *one* number, and each addition waits for
# the one before it. With lanes it goes like this: `lanes` sums side by side. Each of them adds up every fourth (eighth,
# sixteenth) product. At the end they are folded in half, and again, until one is left.

# %%
def draw(foldings):
    return pictures.halving(range(1, 2**foldings + 1))


pictures.slide(draw, foldings=(0, 4, 3))

# %% [markdown]
# **Predict:** 1,000 products, 8 lanes. How many additions come one after the other, in the plain loop and with lanes?
# (Count the steps, not the numbers. Each folding is a step, too.)

# %%
prediction = None       # two numbers, like (1000, 1000)

exercise.reveal(prediction, (1000, 1000 // 8 + 3))

# %% [markdown]
# All lanes take in a product at once: 125 steps. Then 8 lanes become 4, 2, 1: three more.
#
# ### Exercise 1: a sum in lanes
#
# Write what the processor does, in NumPy: an array of `lanes` sums, of the same type as `x`, which takes in `lanes`
# products at a time. If the length is no multiple of `lanes`, some products are left over at the end; they count, too.
# Then fold, the second half of the lanes onto the first, until one is left. (`lanes` is a power of two: 1, 2, 4, 8 ...)

# %%
@exercise.implement("kernels.loops.dot_in_lanes")
def dot_in_lanes(x, w, lanes):
    """The sum of x * w as a processor with vectors adds it up: `lanes` sums side by side, folded in half at the end."""
    raise NotImplementedError           # eight lines or so


# %%
lot = np.random.default_rng(0)
x, w = lot.standard_normal((2, 10_000), np.float32)
exact = float(x.astype(float) @ w.astype(float))
for count in (1, 4, 8, 16):
    value = mr.kernels.loops.dot_in_lanes(x, w, count)
    print(f"{count:2} lanes: {value:.6f}, off by {abs(value - exact):.6f}")

# %% [markdown]
# **The results differ a little.** Numbers of 32 bits are rounded after each addition, and another order rounds
# otherwise. (And the more lanes, the better, here at least: each sum is shorter.) So a compiler is not allowed to do
# this by itself: it must give what you have written, to the last bit. One has to permit it. In Numba that is
# `fastmath={"reassoc"}`: sums may be put together in another way. With `"contract"`, which you know from lesson 03, a
# product and a sum may be one instruction: the FMA.
#
# **Predict:** the plain loop, compiled without this permission and with it. How many times faster is it with it?

# %%
prediction = None       # a number


def dot(x, w):
    """The plain loop."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * w[i]
    return total


def microseconds(function, *arguments, times=200):
    """The fastest of some calls, after one that does not count."""
    function(*arguments)
    best = np.inf
    for _ in range(times):
        began = time.perf_counter()
        function(*arguments)
        best = min(best, 1e6 * (time.perf_counter() - began))
    return best


strict = numba.njit(fastmath=False)(dot)
free = numba.njit(fastmath={"reassoc", "contract"})(dot)
took = {"as it is written": microseconds(strict, x, w), "sums may be reordered": microseconds(free, x, w)}
exercise.reveal(prediction, round(took["as it is written"] / took["sums may be reordered"], 1))
pictures.bars(took, "microseconds")

# %% [markdown]
# You need not believe it, you can look. `inspect_asm` shows the program that the processor gets, in **assembler**:
# one line for each instruction. We count those that multiply or add numbers of 32 bits. On a PC, names that end in
# `ss` work on *one* number, those that end in `ps` on all lanes, and `vfmadd` is the FMA.

# %%
def arithmetic(function):
    """How often each arithmetic instruction on float32 stands in a compiled function."""
    counts = {}
    for line in next(iter(function.inspect_asm().values())).splitlines():
        name = line.split()[0] if line.split() else ""
        on_pc = name.startswith(("vmul", "vadd", "vfmadd", "mul", "add")) and name.endswith(("ss", "ps"))
        if on_pc or name in ("fmul", "fadd", "fmadd", "fmla"):      # the latter on ARM
            counts[name] = counts.get(name, 0) + 1
    return counts


print("as it is written:     ", arithmetic(strict))
print("sums may be reordered:", arithmetic(free))

# %% [markdown]
# There is one product in your loop. Why more of them in the program? The compiler has *unrolled* the loop: it wrote the
# inside out several times, so that it need not ask after each product whether that was the last one. What works on
# single numbers in the second program is for what is left over at the end, and for the last folding.

# %% [markdown]
# ## 2. Fetching is dear
#
# In your `add_taps` of lesson 03, each product took its `y` from memory, added to it and wrote it back. Two fetches and
# one store for one FMA. A core can start two FMAs in the time of one or two fetches, so it waits most of the time.
#
# The cure: keep a *tile* of the result in the registers, say 4 filters times 2 vectors of images, and let all taps and
# channels stream past it. Each step fetches 4 weights and 2 vectors of pixels, and does 4 · 2 FMAs with them. The sums
# stay where they are.
#
# **Predict:** with 16 registers, which tile does the most FMAs for each fetch? It needs `rows * columns` registers for
# the sums, one for each column, and one for a weight. It fetches `rows + columns` times and does `rows * columns` FMAs.

# %%
prediction = None       # two numbers, rows and columns, like (2, 2)


def fmas_for_each_fetch(registers):
    """For tiles of 1 to 8 rows and 1 to 6 columns; NaN where the registers do not suffice."""
    rows, columns = np.meshgrid(np.arange(1, 9), np.arange(1, 7), indexing="ij")
    return np.where(rows * columns + columns + 1 <= registers, rows * columns / (rows + columns), np.nan)


def picture_of_tiles(registers):
    ratio = fmas_for_each_fetch(registers)
    axis = plt.figure(figsize=(4.6, 4), layout="constrained").gca()
    shown = axis.imshow(ratio, cmap="viridis", origin="lower", extent=(0.5, 6.5, 0.5, 8.5), aspect="auto")
    plt.colorbar(shown, label="FMAs for each fetch")
    axis.set(xlabel="columns: vectors of images", ylabel="rows: filters",
             title=f"{registers} registers (white: too few)")
    plt.show()


best = np.unravel_index(np.nanargmax(fmas_for_each_fetch(16)), (8, 6))
exercise.reveal(prediction, (int(best[0]) + 1, int(best[1]) + 1))
pictures.slide(picture_of_tiles, registers=(8, 32, 16))
print("the framework's tile here:", mr.kernels.cpu.simd.ROWS, "x", mr.kernels.cpu.simd.COLUMNS)

# %% [markdown]
# (It is not always the best one in this picture. The columns should also fill whole cache lines, and the filters come
# in multiples of 4.) This is the heart of the framework's kernel, in
# `minirewind/kernels/cpu/convolution.py`, a little shortened. `constant_rows` begins the tile with the bias,
# `outer_product` is one step of it, and `store_rows` writes it to `y` when all is done:
#
# ```python
# tile = constant_rows(ROWS, COLUMNS, filters, block * filters.shape[1] * ROWS)
# for t in range(source.shape[1]):
#     p = source[q, t]
#     if p >= 0:
#         for c in range(C):
#             tile = outer_product(tile, filters, w + c * ROWS, x, (p * C + c) * N + n)
# store_rows(y, ...)
# ```
#
# The same five loops as yours. Only the inner ones work on a piece of the result that never leaves the processor.
#
# **Predict:** the same multiplications on the same memory, one core. How many times faster are they with tiles in
# registers?

# %%
prediction = None       # a number

mr.kernels.set_threads(1)
images = lot.standard_normal((16, 16, 32, 128), np.float32).transpose(3, 2, 0, 1)              # (128, 32, 16, 16)
weight = lot.standard_normal((32, 32, 3, 3), np.float32)
kernels = mr.kernels.cpu.convolution
planes = mr.kernels.cpu.layout.planes(images)                       # (256, 32, 128): pixels, channels, images
table = kernels.taps(16, 16, (3, 3), (1, 1), (1, 1))                # (256, 9): which pixel does a tap see?
packed = kernels.pack(weight, None, False)                          # four filters side by side, as a tile wants them
plain = mr.kernels.loops.add_taps                                   # yours, if you have written it
plain = plain if hasattr(plain, "py_func") else numba.njit(fastmath={"contract"})(plain)
result = np.zeros((256, 32, 128), np.float32)

ways = {"five loops (lesson 03)": lambda: plain(planes, weight.reshape(32, 32, 9), table, result),
        "tiles in registers": lambda: kernels.convolve(planes, packed, table, 32)}
times = exercise.scale(smoke=2, laptop=20)
took = {name: microseconds(way, times=times) / 1000 for name, way in ways.items()}
exercise.reveal(prediction, round(took["five loops (lesson 03)"] / took["tiles in registers"], 1))
pictures.bars(took, "milliseconds")

# %% [markdown]
# ## 3. Fewer multiplications
#
# And now a miracle. A filter of 3 taps, on a line of 4 pixels, makes 2 results:
#
# $$y_0 = d_0 g_0 + d_1 g_1 + d_2 g_2 \qquad y_1 = d_1 g_0 + d_2 g_1 + d_3 g_2$$
#
# Six multiplications. **Predict:** can it be done with fewer?

# %%
prediction = None       # the least number of multiplications that you think possible

exercise.reveal(prediction, 4)

# %%
d, g = lot.standard_normal(4), lot.standard_normal(3)
m = [(d[0] - d[2]) * g[0],
     (d[1] + d[2]) * (g[0] + g[1] + g[2]) / 2,
     (d[2] - d[1]) * (g[0] - g[1] + g[2]) / 2,
     (d[1] - d[3]) * g[2]]
print("with four products:", m[0] + m[1] + m[2], m[1] - m[2] - m[3])
print("directly:          ", d[:3] @ g, d[1:] @ g)

# %% [markdown]
# What depends on `g` alone is computed once for a filter, and used for thousands of windows. What remains for each
# window is a few additions, four multiplications, a few additions. Write the second result out on paper and see how
# everything else cancels.
#
# Shmuel Winograd found the least number for each case: as many as there are results and taps, less one. Here that is
# 2 + 3 - 1 = 4. The framework uses 4 results of 3 taps, so 6 products, on 6 pixels. And it does so in both directions:
# a window of 6 × 6 pixels gives 4 × 4 results. Directly these are $16 \cdot 9 = 144$ multiplications, by **Winograd**
# they are $6 \cdot 6 = 36$. With three small matrices it is one line:
#
# $$Y = A' \, [\, (G g G') * (B' d B) \,] \, A$$
#
# (The prime turns a matrix round, `.T` in NumPy.) $B'$ spreads the pixels $d$, $G$ spreads the filter $g$, both become
# 6 × 6: from the left their columns, from the right their rows. They are multiplied **entry by entry**, and $A'$
# gathers 4 × 4 results.

# %%
def own_scale(arrays):
    """Each array divided by its largest number, so that all can be seen."""
    return [array / abs(array).max() for array in arrays]


loops = mr.kernels.loops
pictures.images(own_scale([loops.SPREAD, loops.FILTER, loops.GATHER]), ["B'", "G", "A'"], symmetric=True, size=1.8)
print(loops.SPREAD)

# %% [markdown]
# Look at the numbers in $B'$: 0, 1, 2, 4, 5. A multiplication with these is a doubling or two and an addition. So only
# the product in the middle counts.
#
# ### Exercise 2: a tile
#
# The matrices are there for you, by these names: `SPREAD` is $B'$ itself (6 × 6), so $B$ is `SPREAD.T`. `FILTER` is $G$
# (6 × 3), `GATHER` is $A'$ (4 × 6). `pixels` may be a whole stack of windows, `(..., 6, 6)`, and `weight` a stack of
# filters: `@` works on the last two dimensions by itself. (`.T` does not: it turns round all of them.)

# %%
@exercise.implement("kernels.loops.winograd_tile")
def winograd_tile(pixels, weight):
    """The 4 x 4 outputs of a filter (3, 3) on pixels (6, 6), with 36 products:    A' [(G g G') * (B' d B)] A

    Both may be stacks of such, (..., 6, 6) and (..., 3, 3).
    """
    raise NotImplementedError           # one to three lines


# %%
digit = mr.data.load("digits").train.images[12, 0] / 16
edge = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]) / 4
window = digit[1:7, 1:7]
tile = mr.kernels.loops.winograd_tile(window, edge)
direct = mr.functional.conv2d(window[None, None], edge[None, None]).numpy()[0, 0]
spread, filters = loops.SPREAD @ window @ loops.SPREAD.T, loops.FILTER @ edge @ loops.FILTER.T
pictures.images(own_scale([window, spread, filters, spread * filters, tile, direct]),
                ["d", "B'dB", "GgG'", "product", "Y", "directly"], symmetric=True, size=1.5)
print("largest difference:", abs(tile - direct).max())

# %% [markdown]
# In the middle it looks like nothing at all. And then the edge is there.
#
# With many channels it gets better still: the sum over the channels can be taken *in the middle*, before gathering. So
# for each of the 36 entries there is a matrix product of filters and channels, and gathering is done once. That is
# `kernels/cpu/winograd.py`. And does it pay? The same convolution as in section 2, by the framework's Winograd kernel:

# %%
arguments = planes, packed, False, (16, 16), (1, 1), 32
with exercise.only_framework():
    took["Winograd"] = microseconds(lambda: mr.kernels.cpu.winograd.convolve(*arguments), times=times) / 1000
    results = {"tiles in registers:       ": kernels.convolve(planes, packed, table, 32),
               "Winograd, the framework's:": mr.kernels.cpu.winograd.convolve(*arguments)}
    exact = mr.functional.conv2d(images[:4].astype(float), weight.astype(float), padding=1).numpy()     # 64 bits
results["Winograd, what runs now:  "] = mr.kernels.cpu.winograd.convolve(*arguments)    # yours, once exercise 2 passes
pictures.bars(took, "milliseconds")
exact = exact.transpose(2, 3, 1, 0).reshape(256, 32, 4)                 # as the others lie in memory
for name, y in results.items():
    print(name, f"off by {np.linalg.norm(y[:, :, :4] - exact) / np.linalg.norm(exact):.1e}")

# %% [markdown]
# Winograd's way is off by several times as much as the direct one: spreading makes numbers larger, gathering subtracts
# them again, and what was rounded in between stays. (Yours is nearer, once it runs: the three matrices have 64 bits, so
# NumPy does everything in between with 64.) A few millionths do no harm to a network. Larger windows would need fewer
# products still, but the numbers in their matrices grow, and the error with them. So one stops soon.
#
# And what runs in your networks from now on?

# %%
if "kernels.loops.add_taps" in learn.mine:
    print("Your add_taps of lesson 03: every convolution goes through it, and none is left for Winograd.")
elif "kernels.loops.winograd_tile" in learn.mine:
    print("Your tile, wherever the framework would take Winograd's way; in NumPy, and so slowly.")
else:
    print("The framework's own kernels.")

# %% [markdown]
# ## What you built
#
# - `dot_in_lanes`: how a processor with vectors adds up, and why the last digits depend on it.
# - `winograd_tile`: a 3 × 3 filter on 16 places with 36 products in place of 144. Where the framework would take its
#   own Winograd kernel, it takes your tile now.
#
# Your `add_taps` of lesson 03 comes first: while it is there, nobody asks for a tile. To see the tile at work in a
# network, give the other back with `exercise.reset("kernels.loops.add_taps")`. And before the next lesson
# `exercise.reset("kernels.loops.winograd_tile")` makes everything fast again. (Keep copies. They are good.)

# %%
exercise.status("12b")

# %% [markdown]
# ## A further question
#
# In lesson 12 you left out the weights that are pruned. Why can't one do the same in Winograd's product? Spread a
# filter that has a single weight left, with $G g G'$, and count the zeros. So pruning and Winograd are rivals: each
# loses what the other gains. Could one prune the *spread* filters instead? (People have. What must then be true of
# the gradient?)
