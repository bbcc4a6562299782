"""Lesson 13: what must hold of three CUDA kernels, and the wrong answers that are known."""

import numpy as np

from minirewind import kernels
from minirewind.kernels import reference
from minirewind.kernels.gpu import sources
from minirewind.learn import Exercise, place

CANARY = np.float32(-12345)         # stands behind every array: who writes there is found out


def device():
    """The emulated device."""
    return kernels.backend("emulated")


def launch(file, name, grid, block, *arguments, seed=0):
    """Run a kernel of the emulated device, once it is sure that its head is as it was."""
    text = sources.text(file)
    wanted = sources.signatures(place(f"kernels.gpu.{file}.{name}").framework())[name]
    assert sources.signatures(text).get(name) == wanted, (
        f"the head of {name} must stay as it is, for the framework launches this kernel too: copy it from the text")
    device().seed = seed
    device().launch(file, name, grid, block, *arguments)
    device().seed = 0


def guarded(values, room=600):
    """An array with room behind it that must not be touched; the part that counts, and the room."""
    values = np.asarray(values)
    whole = np.full(values.size + room, CANARY if values.dtype == np.float32 else False, values.dtype)
    whole[: values.size] = values.ravel()
    return whole, whole[: values.size], whole[values.size :]


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


# --------------------------------------------------------------------------------------------------- kernels.gpu.update

sgd = Exercise("kernels.gpu.update.sgd", seconds=30, hints=(
    "You are one thread of many. Which number is yours? And what if there are more threads than numbers?",
    "int i = blockIdx.x * blockDim.x + threadIdx.x; whoever has i >= count returns at once. Then the formula for one\n"
    "number i. rate is a pointer to one number: rate[0]. At the end mask[i] ? the new value : 0, for momentum and "
    "weight.",
    """
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (...) return;
    float g = gradients[i] + decay * weights[i];
    float velocity = factor * momentum[i] + g;
    float step = nesterov ? ... : velocity;
    momentum[i] = mask[i] ? ... : 0;
    weights[i] = mask[i] ? ... : 0;
    """))


def stepped(count=300, factor=0.9, nesterov=0, decay=0.0, mask=None):
    """One step of the kernel and of the reference: (weights, momentum) of each, and what stands behind the weights."""
    gradients, mask = random(count, seed=1), np.ones(count, bool) if mask is None else mask
    (whole, weights, behind), momentum = guarded(random(count)), random(count, seed=2)
    expected = weights.copy(), momentum.copy()
    reference.update.sgd(expected[0], gradients, expected[1], mask, 0.1, factor, bool(nesterov), decay)
    rate = np.array([0.1], np.float32)
    room = [guarded(array)[0] for array in (gradients, momentum, mask)]
    launch("update", "sgd", (-(-count // 256),), (256,), whole, *room, rate, factor, nesterov, decay, count)
    return (weights, room[1][:count]), expected, (behind, room[1][count:])


@sgd.check
def test_every_weight_has_its_thread():
    (weights, _), (expected, _), (behind, momentum_behind) = stepped(factor=0.0)
    before = random(300)
    assert not np.array_equal(weights, before), "no weight has changed: weights[i] = ..., each thread its own"
    assert not np.array_equal(weights[256:], before[256:]), (
        "only the first 256 weights have moved. There are two blocks, and threadIdx.x counts from 0 in each: the "
        "number "
        "of a thread in the whole grid is blockIdx.x * blockDim.x + threadIdx.x")
    assert np.isfinite(weights).all(), "some weights are NaN"
    assert (behind == CANARY).all(), (
        "there are 300 weights and 512 threads, and those from 300 on have written behind the end of the array. On a "
        "card that destroys somebody else's numbers, without a word: if (i >= count) return;")
    assert (momentum_behind == CANARY).all(), (
        "threads beyond the end wrote behind the momentum: if (i >= count) return;")
    assert np.allclose(weights, expected, atol=1e-6), (
        "with a factor of 0, no decay and no mask a step is weight - rate * gradient; yours differs. The rate lies in "
        "memory: rate[0]")


@sgd.check
def test_the_momentum_is_carried_on():
    (weights, momentum), (expected, velocity), _ = stepped()
    assert np.allclose(momentum, velocity, atol=1e-6), (
        "momentum[i] must become factor * momentum[i] + g: that is where the next step goes on from")
    assert np.allclose(weights, expected, atol=1e-6), "the weight moves by rate * velocity, the new one; yours differs"


@sgd.check
def test_decay_and_nesterov():
    (weights, _), (expected, _), _ = stepped(decay=0.01)
    assert np.allclose(weights, expected, atol=1e-6), "decay * weight is added to the gradient, before anything else"
    (weights, _), (expected, _), _ = stepped(nesterov=1, decay=0.01)
    assert np.allclose(weights, expected, atol=1e-6), (
        "with nesterov the step is g + factor * velocity, with the new velocity; yours differs")


@sgd.check
def test_what_the_mask_does_not_keep_is_exactly_zero():
    mask = np.arange(300) % 3 > 0
    (weights, momentum), (expected, velocity), _ = stepped(mask=mask, decay=0.01)
    assert not weights[~mask].any(), (
        "pruned weights have come back: where mask[i] is false the weight becomes 0, whatever its gradient")
    assert not momentum[~mask].any(), (
        "the momentum of pruned weights lives on. It would push them away from 0 in the next step: it becomes 0 too")
    assert np.allclose(weights, expected, atol=1e-6), "with a mask, the weights that are kept move wrongly"
    assert np.allclose(momentum, velocity, atol=1e-6), "with a mask, the momentum that is kept is wrong"


HEAD = """
def sgd():
    return '''
extern "C" __global__ void sgd(float* weights, const float* gradients, float* momentum, const bool* mask,
                               const float* rate, float factor, int nesterov, float decay, int count) {
  BEGIN
  float g = gradients[i] + decay * weights[i];
  float velocity = factor * momentum[i] + g;
  float step = nesterov ? g + factor * velocity : velocity;
  END
}
'''
"""
MINE, STOP = "int i = blockIdx.x * blockDim.x + threadIdx.x;", "if (i >= count) return;"
KEPT = "momentum[i] = mask[i] ? velocity : 0; weights[i] = mask[i] ? weights[i] - rate[0] * step : 0;"
sgd.wrong(HEAD.replace("BEGIN", MINE).replace("END", KEPT), says="behind the end of the array")
sgd.wrong(HEAD.replace("BEGIN", f"int i = threadIdx.x; {STOP}").replace("END", KEPT), says="only the first 256 weights")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", "momentum[i] = velocity; weights[i] -= rate[0] * step;"),
          says="pruned weights have come back")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", KEPT.replace("mask[i] ? velocity : 0", "velocity")),
          says="the momentum of pruned weights lives on")


# ----------------------------------------------------------------------------------------------------- kernels.gpu.loss

mean = Exercise("kernels.gpu.loss.mean_of_rows", seconds=30, hints=(
    "Your neighbour has half of what you need, in shared memory. How do you know that it is there already?",
    "First each thread adds up its rows: row = threadIdx.x, + 256, + 512 ... into a variable of its own, and writes "
    "it to\n"
    "sums[threadIdx.x]. Then half = 128, 64, ... 1: barrier; the threads below half add sums[threadIdx.x + half] to "
    "their\n"
    "own. The barrier stands before the if, where all threads pass.",
    """
    __shared__ float sums[256];
    float sum = 0;
    for (int row = threadIdx.x; row < rows; row += ...) sum += losses[row];
    sums[threadIdx.x] = sum;
    for (int half = 128; half > 0; half /= 2) {
      ...                                       // the barrier
      if ((int)threadIdx.x < half) sums[threadIdx.x] += ...;
    }
    if (threadIdx.x == 0) mean[0] = ...;
    """))


def mean_of(losses, seed=0):
    """What the kernel says is the mean."""
    whole, _, _ = guarded(losses)
    result, value, behind = guarded(np.full(1, CANARY))
    launch("loss", "mean_of_rows", (1,), (256,), whole, result, len(losses), seed=seed)
    assert value[0] != CANARY, "mean[0] was not written: thread 0 writes it at the end"
    assert (behind == CANARY).all(), "only mean[0] may be written; there is nothing behind it"
    return float(value[0])


@mean.check
def test_no_thread_reads_what_is_not_there_yet():
    got = mean_of(np.ones(256, np.float32))
    assert not np.isnan(got), (
        "the mean is NaN. The emulator fills shared memory with NaN before a block begins, so somebody has read a "
        "place of "
        "sums before its owner wrote it: a barrier is missing. __syncthreads(); before each step of the halving")
    assert got != 256, "256 ones gave 256: that is their sum. Divide by rows"
    assert got == 1, (
        f"the mean of 256 ones is 1, yours is {got}. Is it too small, then somebody took a sum that another thread "
        f"was not "
        "done with: one barrier before EVERY step of the halving, not before the first only")


@mean.check
def test_there_may_be_more_rows_than_threads_or_fewer():
    losses = random(1000)
    got = mean_of(losses)
    assert not np.isclose(got, losses[:256].sum() / 1000, atol=1e-5), (
        "of 1,000 rows only the first 256 were added up: there are 256 threads, so each takes every 256th row: "
        "row = threadIdx.x, then row += 256")
    assert np.isclose(got, losses.mean(), atol=1e-5), (
        f"the mean of these 1,000 numbers is {losses.mean():.5f}, not {got:.5f}")
    got = mean_of(losses[:3])
    assert not np.isnan(got), "of 3 rows the mean is NaN: threads without a row must still write their 0 into sums"
    assert np.isclose(got, losses[:3].mean(), atol=1e-5), (
        f"the mean of 3 rows is {losses[:3].mean():.5f}, yours {got:.5f}: do threads without a row read behind the "
        f"end?")


@mean.check
def test_the_order_of_the_threads_does_not_matter():
    losses = random(700)
    results = {mean_of(losses, seed) for seed in range(10)}
    assert len(results) == 1, (
        f"ten orders of the threads gave {len(results)} results, from {min(results):.5f} to {max(results):.5f}. "
        f"Somebody "
        "reads a number while another thread still works on it: who waits for whom, in each step?")


MEAN = """
def mean_of_rows():
    return '''
extern "C" __global__ void mean_of_rows(const float* losses, float* mean, int rows) {
  __shared__ float sums[256];
  float sum = 0;
  for (int row = threadIdx.x; row < rows; row += 256) sum += losses[row];
  sums[threadIdx.x] = sum;
  BEFORE
  for (int half = 128; half > 0; half /= 2) {
    INSIDE
    if ((int)threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) mean[0] = sums[0] / rows;
}
'''
"""
SYNC = "__syncthreads();"
mean.wrong(MEAN.replace("BEFORE", "").replace("INSIDE", ""), says="a barrier is missing")
mean.wrong(MEAN.replace("BEFORE", SYNC).replace("INSIDE", ""), says="before EVERY step")
mean.wrong(MEAN.replace("BEFORE", "").replace("INSIDE", SYNC).replace("/ rows", ""), says="that is their sum")
mean.wrong(MEAN.replace("BEFORE", "").replace("INSIDE", SYNC).replace(
    "for (int row = threadIdx.x; row < rows; row += 256) sum += losses[row];",
    "if (threadIdx.x < rows) sum = losses[threadIdx.x];"), says="only the first 256 were added up")


# --------------------------------------------------------------------------------------------------- kernels.gpu.matmul

product = Exercise("kernels.gpu.matmul.matmul", seconds=30, hints=(
    "256 threads, two tiles of 16 x 16: which one number of each tile should thread (i, j) bring? And when may it "
    "begin\n"
    "to read what the others brought? And when may it bring the next?",
    "For k = 0, 16, 32 ...: x_tile[i][j] gets row m, column k + j of x, y_tile[i][j] row k + i, column n of y, 0 "
    "where\n"
    "that lies outside. Barrier. Add the 16 products of row i of x_tile and column j of y_tile. Barrier.",
    """
    for (int k = 0; k < K; k += TILE) {
      x_tile[i][j] = m < M && k + j < K ? x[m * x_row + (k + j) * x_column] : 0;
      y_tile[i][j] = ...;
      ...                                       // a barrier: nobody reads before the tiles are full
      for (int t = 0; t < TILE; t++) sum += ...;
      ...                                       // a barrier: nobody fills them again before all have read
    }
    if (m < M && n < N) z[m * N + n] = sum;
    """))


def multiplied(M, N, K, seed=0, transposed=False):
    """What the kernel makes of two matrices, and their product."""
    x, y = random(M, K), random(K, N, seed=1)
    whole = np.full(M * N + 600, CANARY)
    padding = np.full(600, np.nan, np.float32)          # who reads behind x or y gets NaN
    strides = ((1, M) if transposed else (K, 1)), (N, 1)
    memory = np.concatenate([(x.T if transposed else x).ravel(), padding]), np.concatenate([y.ravel(), padding])
    launch("matmul", "matmul", (-(-N // 16), -(-M // 16)), (16, 16), *memory, whole, M, N, K, *strides[0], *strides[1],
           seed=seed)
    assert (whole[M * N :] == CANARY).all(), (
        f"z is {M} x {N}, and threads outside of it have written too: if (m < M && n < N) in front of z[...] = sum")
    return whole[: M * N].reshape(M, N), x @ y


@product.check
def test_the_tiles_are_full_before_anybody_reads_them():
    got, expected = multiplied(16, 16, 16)
    assert not (got == CANARY).any(), "some numbers of z were never written: z[m * N + n] = sum; at the end"
    assert not np.isnan(got).any(), (
        "there is NaN in the product. Shared memory is full of NaN before a block begins: some threads multiplied "
        "numbers "
        "of a tile that others had not brought yet. A barrier between bringing and reading: __syncthreads();")
    assert np.allclose(got, expected, atol=1e-4), (
        "the product of two 16 x 16 matrices is wrong: thread (i, j) adds x_tile[i][t] * y_tile[t][j] over t")


@product.check
def test_nobody_fills_a_tile_that_others_still_read():
    for seed in range(4):
        got, expected = multiplied(16, 16, 64, seed)
        assert np.allclose(got, expected, atol=1e-4), (
            "with four tiles one after the other the product is wrong, with one it was right. Some threads are "
            "quick: they "
            "bring the next tile while others still read this one. A second barrier, at the end of the loop")


@product.check
def test_matrices_of_any_size_and_any_strides():
    got, expected = multiplied(20, 18, 37)
    assert not np.isnan(got).any(), (
        "20 x 37 times 37 x 18 has NaN in it: at the edges the tiles stick out of the matrices, and what lies there is "
        "not theirs. Put 0 into the tile where m >= M, n >= N, or the k is beyond K")
    assert np.allclose(got, expected, atol=1e-4), (
        "20 x 37 times 37 x 18 is wrong: at the edges the tiles stick out; a row that ends must not go on in the next")
    got, expected = multiplied(17, 16, 20, transposed=True)
    assert np.allclose(got, expected, atol=1e-4), (
        "with a transposed x the product is wrong: row m, column k of x lies at m * x_row + k * x_column")


PRODUCT = """
def matmul():
    return '''
extern "C" __global__ void matmul(const float* x, const float* y, float* z, int M, int N, int K, int x_row,
                                  int x_column, int y_row, int y_column) {
  __shared__ float x_tile[16][17], y_tile[16][17];
  int i = threadIdx.y, j = threadIdx.x, m = blockIdx.y * 16 + i, n = blockIdx.x * 16 + j;
  float sum = 0;
  for (int k = 0; k < K; k += 16) {
    x_tile[i][j] = INSIDE_X x[m * x_row + (k + j) * x_column] : 0;
    y_tile[i][j] = INSIDE_Y y[(k + i) * y_row + n * y_column] : 0;
    FIRST
    for (int t = 0; t < 16; t++) sum += x_tile[i][t] * y_tile[t][j];
    SECOND
  }
  WRITE z[m * N + n] = sum;
}
'''
"""


def variant(**parts):
    source = PRODUCT
    right = {"INSIDE_X": "m < M && k + j < K ?", "INSIDE_Y": "n < N && k + i < K ?", "FIRST": SYNC, "SECOND": SYNC,
             "WRITE": "if (m < M && n < N)"}
    for name, text in (right | parts).items():
        source = source.replace(name, text)
    return source


product.wrong(variant(FIRST=""), says="A barrier between bringing and reading")
product.wrong(variant(SECOND=""), says="A second barrier, at the end of the loop")
product.wrong(variant(INSIDE_X="m < M ?", INSIDE_Y="n < N ?"), says="the tiles stick out")
product.wrong(variant(WRITE=""), says="threads outside of it have written too")
