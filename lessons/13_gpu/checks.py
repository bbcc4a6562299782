"""Lesson 13: what must hold of three CUDA kernels, and the wrong answers that are known."""

import ctypes
import math
import re

import numpy as np

from minirewind import kernels
from minirewind.kernels import reference
from minirewind.kernels.gpu import emulator, sources
from minirewind.learn import Exercise, place

CANARY = np.float32(-12345)         # stands behind every array: who writes there is found out


def device():
    """The emulated device."""
    return kernels.backend("emulated")


def text_of(file, name):
    """The file with the answer in it, once it is sure that there is an answer and that its head is as it was."""
    kernel = place(f"kernels.gpu.{file}.{name}")
    try:
        answer = kernel.function()
    except NameError as reason:
        raise AssertionError("this function computes nothing itself: it gives back a text, the kernel in CUDA, and g++ "
                             'reads that. return """ ... """') from reason
    assert answer is not None, 'nothing came back: the kernel is a text, and it is given back. return """ ... """'
    assert isinstance(answer, str), (
        f'a kernel in CUDA is a text, yours is of the type {type(answer).__name__}. return """ ... """')
    text = sources.text(file)
    assert sources.signatures(text).get(name) == sources.signatures(kernel.framework())[name], (
        f"the head of {name} must stay as it is, for the framework launches this kernel too: copy it from the text")
    return text


def launch(file, name, grid, block, *arguments, seed=0):
    """Run a kernel of the emulated device; what g++ or the emulator have against it is a message."""
    text = text_of(file, name)
    assert text not in refused, refused[text]
    device().seed = seed
    try:
        device().launch(file, name, grid, block, *arguments)
    except RuntimeError as reason:
        message = told(str(reason), file, name)
        if "g++" in message:
            refused[text] = message
        raise AssertionError(message) from None
    finally:
        device().seed = 0


refused: dict[str, str] = {}        # what g++ did not take, and why: it need not read it again


# What g++ often says, and what is usually behind it.
ADVICE = (
    (r"expected .*before", "Is there a ; at the end of every line, also of the one before?"),
    (r"atomic", "The emulator has no atomic operations; here the threads wait for each other instead."),
    (r"not declared", "Is it spelled right? A variable is made with its type in front, and lives inside its { } only."),
    (r"invalid operands|cannot convert|invalid conversion", "A float* is an array; one number of it is a[i], or a[0]."),
    (r"redeclar|conflicting", "A variable is made once; later its type is not written again."))


def told(reason, file, name):
    """The first thing that g++ says of the answer, with the line and some advice; where threads wait for ever."""
    if "barrier" in reason:
        return (f"{reason.partition(': ')[2]}. Does __syncthreads() stand inside an if, or has somebody returned "
                "before? All threads of the block must come to it, those too that have nothing to do. On a card the "
                "program may stand still here")
    found = re.search(rf"your {name}:(\d+):\d+: error: (.*)", reason)
    if found is None:
        return reason
    lines = place(f"kernels.gpu.{file}.{name}").function().strip().splitlines()
    number, error = int(found[1]), found[2]
    if number > len(lines):
        return f"g++ does not understand your kernel, and notices only behind its end. Is every {{ closed?\n{error}"
    advice = next((words for pattern, words in ADVICE if re.search(pattern, error)), "")
    line = lines[number - 1].strip()
    return f"g++ does not understand your kernel.\nin its line {number}:  {line}\n{error}\n{advice}".rstrip()


# A pointer that counts how often the threads use it, by their number in the block, and how far they reach.
FAR = """
extern "C" { int uses[1024], reach[1]; }
template <class T> struct Far {
  T* memory;
  T& operator[](long i) const {
    uses[threadIdx.y * blockDim.x + threadIdx.x]++;
    reach[0] = max(reach[0], (int)i);
    return memory[i];
  }
  T& operator*() const { return (*this)[0]; }
};
"""


def used(file, name, far, grid, block, *arguments):
    """How often each thread number uses the arguments `far`, and their largest index.

    None and 0 if the answer uses them in ways that Far has not.
    """
    text = text_of(file, name)
    head = re.search(rf'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?{name}\(.*?\)\s*{{', text, re.S)
    counted = head[0]
    for each in far:
        counted = re.sub(rf"(float\s*\*\s*(?:__restrict__\s*)?){each}\b", rf"\1far_{each}", counted)
        counted += f" Far<std::remove_pointer_t<decltype(far_{each})>> {each}{{far_{each}}};"
    try:
        module = emulator.Module(text[: head.start()] + FAR + counted + text[head.end() :], flags=("-O0",))
    except RuntimeError:
        return None, 0
    uses, reach = (np.ctypeslib.as_array((ctypes.c_int * size).in_dll(module.library, each))
                   for each, size in (("uses", 1024), ("reach", 1)))
    uses[:], reach[:] = 0, 0                # a library that is loaded already remembers its last run
    module.get_function(name)(grid, block, arguments)
    return uses[: math.prod(block)].copy(), reach[0]


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
    rate = np.array([0.1] + [np.nan] * 600, np.float32)
    room = [guarded(array)[0] for array in (gradients, momentum, mask)]
    launch("update", "sgd", (-(-count // 256),), (256,), whole, *room, rate, factor, nesterov, decay, count)
    return (weights, room[1][:count]), expected, (behind, room[1][count:])


@sgd.check
def test_every_weight_has_its_thread():
    (weights, _), (expected, _), (behind, momentum_behind) = stepped(factor=0.0)
    before = random(300)
    assert not np.array_equal(weights, before), "no weight has changed: weights[i] = ..., each thread its own"
    assert not np.isnan(weights[1:]).all(), (
        "all weights but the first are NaN: there is one rate for all of them, rate[0], and behind it lies nothing")
    assert np.isfinite(weights).all(), "some weights are NaN"
    assert weights.any(), (
        "all weights are 0, and the mask keeps every one of them: true means kept. mask[i] ? the new value : 0")
    assert not np.array_equal(weights[256:], before[256:]), (
        "only the first 256 weights have moved. There are two blocks, and threadIdx.x counts from 0 in each: the "
        "number of a thread in the whole grid is blockIdx.x * blockDim.x + threadIdx.x")
    still = int((weights == before).sum())
    assert not still, (
        f"{still} of the 300 weights have not moved, so no thread has taken them. All threads of the blocks before "
        "come first: blockIdx.x * blockDim.x + threadIdx.x")
    assert (behind != CANARY).sum() != 1, (
        "there are 300 weights, with the numbers 0 to 299, and the thread with the number 300 has written too, behind "
        "the end of the array. It has no weight either: if (i >= count) return;")
    assert (behind == CANARY).all(), (
        "there are 300 weights and 512 threads, and those from 300 on have written behind the end of the array. On a "
        "card that destroys somebody else's numbers, without a word: if (i >= count) return;")
    assert (momentum_behind == CANARY).all(), (
        "threads beyond the end wrote behind the momentum: if (i >= count) return;")
    assert not (abs(weights - before) > 1.5 * abs(expected - before) + 1e-6).all(), (
        "every weight has moved more than once: each thread takes ONE number, its own, and needs no loop for that")
    assert not np.allclose(weights, 2 * before - expected, atol=1e-6), (
        "the weights move along the gradient, uphill; a step goes against it: minus")
    assert np.allclose(weights, expected, atol=1e-6), (
        "with a factor of 0, no decay and no mask a step is weight - rate * gradient; yours differs. The rate lies in "
        "memory: rate[0]. (And what is no whole number is a float, no int)")


@sgd.check
def test_the_work_is_shared():
    arrays = (random(300), random(300), random(300), np.ones(300, bool), np.full(1, 0.1, np.float32))
    counts, _ = used("update", "sgd", ["gradients"], (3,), (100,), *arrays, 0.9, 0, 0.0, 300)
    assert counts is None or counts.max() < 100, (
        f"one thread has fetched {counts.max()} gradients while others looked on. There are as many threads as "
        f"weights: each computes one, without a loop")


@sgd.check
def test_the_momentum_is_carried_on():
    (weights, momentum), (expected, velocity), _ = stepped()
    assert np.allclose(momentum, velocity, atol=1e-6), (
        "momentum[i] must become factor * momentum[i] + g: that is where the next step goes on from")
    (nesterovs, _) = stepped(nesterov=1)[1]
    assert not np.allclose(weights, nesterovs, atol=1e-6), (
        "nesterov is 0 here, and you took Nesterov's step all the same: nesterov ? ... : velocity")
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
    assert not np.array_equal(weights[~mask], random(300)[~mask]), (
        "where mask[i] is false the weight was left as it was. It must become 0: a mask that has just been made finds "
        "weights that are still there")
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
sgd.wrong("def sgd():\n    kernel = ''", says="nothing came back: the kernel is a text")
sgd.wrong(HEAD.replace("BEGIN", f"{MINE} if (i > count) return;").replace("END", KEPT),
          says="with the numbers 0 to 299")
sgd.wrong(HEAD.replace("BEGIN", f"int i = blockIdx.x + threadIdx.x; {STOP}").replace("END", KEPT),
          says="no thread has taken them")
sgd.wrong(HEAD.replace("BEGIN", "for (int i = 0; i < count; i++) {").replace("END", KEPT + "}"),
          says="moved more than once")
sgd.wrong(HEAD.replace("BEGIN", "if (blockIdx.x + threadIdx.x == 0) for (int i = 0; i < count; i++) {").replace(
    "END", KEPT + "}"), says="while others looked on")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", KEPT.replace("rate[0]", "rate[i]")),
          says="there is one rate for all")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", KEPT.replace("rate[0]", "rate")), says="is an array")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", KEPT).replace("weights[i];", "weights[i]", 1),
          says="Is there a ; at the end")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", KEPT).replace("float velocity =", "velocity ="),
          says="with its type in front")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP + "{").replace("END", KEPT), says="Is every { closed?")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", KEPT.replace("- rate", "+ rate")), says="uphill")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", KEPT.replace("mask[i] ?", "!mask[i] ?")),
          says="true means kept")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP).replace("END", KEPT).replace("nesterov ? g + factor * velocity : velocity",
                                                                         "g + factor * velocity"),
          says="Nesterov's step all the same")
sgd.wrong(HEAD.replace("BEGIN", MINE + STOP + "if (!mask[i]) return;").replace("END", KEPT), says="left as it was")


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
        "place of sums before its owner wrote it: a barrier is missing. __syncthreads(); with its brackets, before "
        "each step of the halving")
    assert got != 256, "256 ones gave 256: that is their sum. Divide by rows"
    assert got != 0, (
        "the mean of 256 ones is 0. Two whole numbers divided are a whole number in C, rounded down, so 1 / rows is 0: "
        "a float must be one of the two, like sums[0] / rows")
    assert got != 1 / 256, (
        "of 256 ones only one has arrived: is sums an array for all threads, __shared__, and has each its own place in "
        "it, sums[threadIdx.x]? (Or did you divide by rows twice?)")
    assert got != 0.5, (
        "the mean of 256 ones is 0.5: one of the eight steps is missing. The first has half = 128, the last half = 1")
    assert 0 < got <= 1, (
        f"the mean of 256 ones is 1, yours is {got:g}: some numbers were added twice, or come from behind the end of "
        "an array. Each thread takes every 256th row, row < rows; half is 128, 64, ... 1, and only the threads below "
        "half add")
    assert got == 1, (
        f"the mean of 256 ones is 1, yours is {got:g}. Somebody took a sum that another thread was not done with: one "
        "barrier before EVERY step of the halving, not before the first only")


@mean.check
def test_there_may_be_more_rows_than_threads_or_fewer():
    losses = random(1000)
    got = mean_of(losses)
    assert not np.isclose(got, losses[:256].sum() / 1000, atol=1e-5), (
        "of 1,000 rows only the first 256 were added up: there are 256 threads, so each takes every 256th row: "
        "row = threadIdx.x, then row += 256")
    assert not np.isclose(got, losses.sum() / 256, atol=1e-5), "you divided by 256, the threads; there are 1,000 rows"
    assert not np.isclose(got, losses[:768].sum() / 1000, atol=1e-5), (
        "of 1,000 rows only 768 were added up: rows / 256 is 3 in C, rounded down. Each thread takes every 256th row")
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
        "Somebody reads a number while another thread works on it. Is there a barrier in each step, and do "
        "only the threads below half add?")


@mean.check
def test_the_sum_is_made_by_halves():
    losses = np.ones(512, np.float32)
    losses[0] = 2.0**25
    lost = 2.0**25 + 511 - mean_of(losses) * 512
    assert lost < 100, (
        f"{lost:.0f} of 511 ones are lost. One thread has added up everything, or all 256 sums, while 255 looked on; "
        "and a small number that is added to a large one is rounded away. In halves, small ones meet small ones first")


@mean.check
def test_one_thread_writes_the_result():
    counts, _ = used("loss", "mean_of_rows", ["mean"], (1,), (256,), random(300), random(600), 300)
    writers = 1 if counts is None else (counts > 0).sum()
    assert writers == 1, (
        f"{writers} threads have written to mean, and nothing says that the sum was there when they did. One is "
        "enough, the one that has made the last step: if (threadIdx.x == 0)")


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
RIGHT = MEAN.replace("BEFORE", "").replace("INSIDE", SYNC)
mean.wrong(MEAN.replace("BEFORE", "").replace("INSIDE", "if ((int)threadIdx.x >= half) continue; __syncthreads();"),
           says="Does __syncthreads() stand inside an if")
mean.wrong(RIGHT.replace("sums[0] / rows", "1 / rows * sums[0]"), says="so 1 / rows is 0")
mean.wrong(RIGHT.replace("__shared__ ", ""), says="only one has arrived")
mean.wrong(RIGHT.replace("half > 0", "half > 1"), says="one of the eight steps is missing")
mean.wrong(RIGHT.replace("half /= 2", "half--"), says="some numbers were added twice")
mean.wrong(RIGHT.replace("/ rows", "/ 256"), says="you divided by 256, the threads")
mean.wrong(RIGHT.replace("for (int row = threadIdx.x; row < rows; row += 256)",
                         "int n = rows / 256; for (int row = threadIdx.x * n; row < threadIdx.x * n + n; row++)"),
           says="rows / 256 is 3 in C")
mean.wrong(RIGHT.replace("sums[threadIdx.x] = sum;", "if (threadIdx.x < rows) sums[threadIdx.x] = sum;"),
           says="must still write their 0")
mean.wrong(RIGHT[: RIGHT.index("  float sum")] + """
  if (threadIdx.x > 0) return;
  float sum = 0;
  for (int row = 0; row < rows; row++) sum += losses[row];
  mean[0] = sum / rows;
}
'''
""", says="while 255 looked on")
mean.wrong(RIGHT.replace("if (threadIdx.x == 0) mean", "mean"), says="threads have written to mean")
mean.wrong(RIGHT.replace("if ((int)threadIdx.x < half) ", ""), says="only the threads below half add")


# --------------------------------------------------------------------------------------------------- kernels.gpu.matmul

product = Exercise("kernels.gpu.matmul.matmul", seconds=30, hints=(
    "256 threads, two tiles of 16 x 16: which one number of each tile should thread (i, j) bring? And when may it "
    "begin\n"
    "to read what the others brought? And when may it bring the next?",
    "For k = 0, 16, 32 ...: x_tile[i][j] gets row m, column k + j of x, y_tile[i][j] row k + i, column n of y, 0 "
    "where\n"
    "that lies outside. Barrier. Add the 16 products of row i of x_tile and column j of y_tile. Barrier.",
    """
    for (int k = 0; k < K; k += 16) {
      x_tile[i][j] = m < M && k + j < K ? x[m * x_row + (k + j) * x_column] : 0;
      y_tile[i][j] = ...;
      ...                                       // a barrier: nobody reads before the tiles are full
      for (int t = 0; t < 16; t++) sum += ...;
      ...                                       // a barrier: nobody fills them again before all have read
    }
    if (m < M && n < N) z[m * N + n] = sum;
    """))


def multiplied(M, N, K, seed=0, transposed=""):
    """What the kernel makes of two matrices, and their product."""
    x, y = random(M, K), random(K, N, seed=1)
    whole = np.full(M * N + 600, CANARY)
    padding = np.full(600, np.nan, np.float32)          # who reads behind x or y gets NaN
    strides = (1, M) if transposed == "x" else (K, 1), (1, K) if transposed == "y" else (N, 1)
    memory = [np.concatenate([(matrix.T if name == transposed else matrix).ravel(), padding])
              for name, matrix in (("x", x), ("y", y))]
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
    assert not np.allclose(got - CANARY, expected, atol=0.01), (
        "you have added to what stood in z, and nobody has set it to 0. Add up in a variable, and write z once: = sum")
    x, y = random(16, 16), random(16, 16, seed=1)
    for other, why in ((x.T @ y, "x_tile holds x with rows and columns swapped"),
                       (x @ y.T, "y_tile holds y with rows and columns swapped"),
                       (x.T @ y.T, "both tiles are read, or filled, with rows and columns swapped"),
                       (expected.T, "row and column of the result are swapped: z[m * N + n]")):
        assert not np.allclose(got, other, atol=1e-4), (
            f"{why}. Row m, column k of x is at x[m * x_row + k * x_column], and so for y; the sum is over "
            "x_tile[i][t] * y_tile[t][j]")
    assert np.allclose(got, expected, atol=1e-4), (
        "the product of two 16 x 16 matrices is wrong. Thread (i, j) brings row m, column k + j of x and row k + i, "
        "column n of y; then it adds x_tile[i][t] * y_tile[t][j] over t")


@product.check
def test_nobody_fills_a_tile_that_others_still_read():
    x, y = random(16, 64), random(64, 16, seed=1)
    for seed in range(4):
        got, expected = multiplied(16, 16, 64, seed)
        for part, which in ((slice(16), "first"), (slice(48, 64), "last")):
            assert not np.allclose(got, x[:, part] @ y[part], atol=1e-4), (
                f"of four tiles only the {which} is in the result: go along K in steps of 16, and let the sum grow "
                "from tile to tile; it is 0 once, before the loop")
        assert np.allclose(got, expected, atol=1e-4), (
            "with four tiles one after the other the product is wrong, with one it was right. Some threads are "
            "quick: they "
            "bring the next tile while others still read this one. A second barrier, at the end of the loop")


@product.check
def test_a_block_knows_its_place_in_the_result():
    got, expected = multiplied(32, 48, 16)
    assert np.allclose(got, expected, atol=1e-4), (
        "with one block the product was right, with 2 x 3 blocks it is wrong. z has rows of N numbers, and the "
        "result's row and column are m and n, not i and j: z[m * N + n]")


@product.check
def test_matrices_of_any_size_and_any_strides():
    got, expected = multiplied(16, 16, 37)
    assert not np.allclose(got, random(16, 37)[:, :32] @ random(37, 16, seed=1)[:32], atol=1e-4), (
        "of 37 products only 32 were added: K / 16 is 2 in C, rounded down, and K need not be a multiple of 16")
    got, expected = multiplied(20, 18, 37)
    assert not np.isnan(got).any(), (
        "20 x 37 times 37 x 18 has NaN in it: at the edges the tiles stick out of the matrices, and what lies there is "
        "not theirs. Put 0 into the tile where m >= M, n >= N, or the k is beyond K")
    assert np.allclose(got, expected, atol=1e-4), (
        "20 x 37 times 37 x 18 is wrong: at the edges the tiles stick out; a row that ends must not go on in the next")
    got, expected = multiplied(17, 16, 20, transposed="x")
    assert np.allclose(got, expected, atol=1e-4), (
        "with a transposed x the product is wrong: row m, column k of x lies at m * x_row + k * x_column")
    got, expected = multiplied(17, 18, 20, transposed="y")
    assert np.allclose(got, expected, atol=1e-4), (
        "with a transposed y the product is wrong: row k, column n of y lies at k * y_row + n * y_column")


@product.check
def test_nobody_reads_behind_the_end():
    x, y, z = random(20, 37), random(37, 18, seed=1), random(20, 18)
    room = [guarded(matrix)[0] for matrix in (x, y, z)]
    for name, edge, matrix in (("x", "m >= M", x), ("y", "n >= N", y)):
        _, reach = used("matmul", "matmul", [name], (2, 2), (16, 16), *room, 20, 18, 37, 37, 1, 18, 1)
        assert reach < matrix.size, (
            f"{name} has {matrix.size} numbers, and somebody has read {name}[{reach}]. It is in no result, but on a "
            f"card that memory may be nobody's, and then the program is stopped. 0 where {edge}, too")


@product.check
def test_a_number_is_fetched_once_for_a_whole_block():
    x, y, z = random(64, 32), random(32, 64, seed=1), np.zeros(64 * 64, np.float32)
    counts, _ = used("matmul", "matmul", ["x", "y"], (4, 4), (16, 16), x, y, z, 64, 64, 32, 32, 1, 64, 1)
    each = 0 if counts is None else counts.sum() / (x.size + y.size)
    assert each <= 8, (
        f"the product is right, but for a 64 x 64 result each number was fetched {each:.0f} times from the far memory; "
        "in tiles it is 4. Every thread brings ONE number of each tile, and what it multiplies comes from the tiles")


PRODUCT = """
def matmul():
    return '''
extern "C" __global__ void matmul(const float* x, const float* y, float* z, int M, int N, int K, int x_row,
                                  int x_column, int y_row, int y_column) {
  __shared__ float x_tile[16][16], y_tile[16][16];
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
product.wrong(variant(INSIDE_X="k + j < K ?"), says="0 where m >= M, too")
product.wrong(variant(INSIDE_Y="k + i < K ?"), says="0 where n >= N, too")
product.wrong(variant(WRITE=""), says="threads outside of it have written too")
RIGHT = variant()
X, Y = "x[m * x_row + (k + j) * x_column]", "y[(k + i) * y_row + n * y_column]"
product.wrong(RIGHT.replace("  float sum", "  if (m >= M || n >= N) return;\n  float sum"),
              says="has somebody returned before?")
product.wrong(RIGHT.replace(X, "x[(k + j) * x_row + m * x_column]"), says="x_tile holds x with rows and columns")
product.wrong(RIGHT.replace("y_tile[t][j]", "y_tile[j][t]"), says="y_tile holds y with rows and columns")
product.wrong(RIGHT.replace("    for (int t", "    sum = 0;\n    for (int t"), says="only the last is in the result")
product.wrong(RIGHT.replace("= sum;", "+= sum;"), says="nobody has set it to 0")
product.wrong(RIGHT.replace("m * N + n", "n * M + m"), says="row and column of the result are swapped")
product.wrong(RIGHT.replace("m * N + n", "i * N + j"), says="with 2 x 3 blocks it is wrong")
product.wrong(RIGHT.replace("k < K; k += 16", "k < K / 16 * 16; k += 16"), says="K / 16 is 2 in C")
product.wrong(RIGHT.replace(X, "x[m * K + k + j]"), says="with a transposed x")
product.wrong(RIGHT.replace(Y, "y[(k + i) * N + n]"), says="with a transposed y")
product.wrong(RIGHT.replace("sum += x_tile[i][t] * y_tile[t][j];", "if (m < M && n < N && k + t < K) "
                            "sum += x[m * x_row + (k + t) * x_column] * y[(k + t) * y_row + n * y_column];"),
              says="from the far memory")
