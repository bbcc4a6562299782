"""The CPU kernels beside PyTorch's, operation by operation, forward and backward, in one run.

    python benchmarks/kernels.py [--threads 2] [--shapes resnet|digits] [--only conv] [--json FILE]

PyTorch is timed in both memory formats, NCHW and channels_last, and the faster one counts. The candidates take turns,
so that whatever else the machine does meets all of them, and turns in which another program took a core away do not
count; each number is the median of the turns. "ratio" is PyTorch's time over ours: above 1 we are faster.
"""

import argparse
import contextlib
import glob
import json
import platform
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F

from minirewind import kernels
from minirewind.kernels import process


def operations(shapes):
    """(name, batch, channels, filters, size, kernel, stride) of each convolution; the others follow from its maps."""
    if shapes == "digits":
        return 64, [(1, 8, 8, 3, 1), (8, 8, 8, 3, 1), (16, 16, 4, 3, 1), (32, 32, 2, 3, 1),
                    (8, 16, 8, 3, 2), (8, 16, 8, 1, 2)]
    return 128, [(3, 16, 32, 3, 1), (16, 16, 32, 3, 1), (32, 32, 16, 3, 1), (64, 64, 8, 3, 1),
                 (16, 32, 32, 3, 2), (32, 64, 16, 3, 2), (16, 32, 32, 1, 2), (32, 64, 16, 1, 2)]


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def ours(x):
    """x in our memory order."""
    return np.ascontiguousarray(x.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1) if x.ndim == 4 else x


def theirs(*arrays):
    """The arrays as PyTorch's, once in each memory format."""
    for order in (torch.contiguous_format, torch.channels_last):
        yield [t.contiguous(memory_format=order) if t.ndim == 4 else t for t in map(torch.tensor, arrays)]


def backward(y, dy, inputs):
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def convolutions(cpu, batch, channels, filters, size, kernel, stride):
    """(name, our call, PyTorch's calls, floating point operations) of a convolution and of its two gradients."""
    where, padding = (stride, stride), (kernel // 2, kernel // 2)
    x, weight = normal(batch, channels, size, size), normal(filters, channels, kernel, kernel)
    dy = normal(batch, filters, size // stride, size // stride)
    work = 2 * dy.size * channels * kernel**2
    name = f"conv {kernel}x{kernel}/{stride} {channels}->{filters} {size}x{size}"
    t = list(theirs(x, weight, dy))
    x_, dy_ = ours(x), ours(dy)

    def gradients(mask):
        return [lambda x=x, w=w, d=d: torch.ops.aten.convolution_backward(
            d, x, w, None, where, padding, (1, 1), False, (0, 0), 1, mask) for x, w, d in t]

    yield (name, lambda: cpu.conv2d(x_, weight, None, where, padding),
           [lambda x=x, w=w: F.conv2d(x, w, None, where, padding) for x, w, _ in t], work)
    if channels > 3:
        yield (name + " dx", lambda: cpu.conv2d_input_gradient(dy_, weight, x.shape, where, padding),
               gradients([True, False, False]), work)
    yield (name + " dw", lambda: cpu.conv2d_weight_gradient(dy_, x_, weight.shape, where, padding),
           gradients([False, True, False]), work)


def elementwise(cpu, batch, channels, size):
    """(name, our call, PyTorch's calls, bytes that must be moved) of what stands between the convolutions."""
    x, residual, dy = (normal(batch, channels, size, size) for _ in range(3))
    mean, deviation, weight, bias = np.zeros((4, channels), np.float32) + 1
    name = f"{channels} x {size}x{size}"
    x_, r_, dy_ = ours(x), ours(residual), ours(dy)
    statistics_ = cpu.moments(x_, 1e-5, None, None, 0.1)
    y_ = cpu.normalise(x_, r_, *statistics_, weight, bias, True)

    def forward():
        m, s = cpu.moments(x_, 1e-5, mean, deviation, 0.1)
        return cpu.normalise(x_, r_, m, s, weight, bias, True)

    calls, gradients, relus = [], [], []
    for x_t, r_t, dy_t, w_t, b_t, m_t, v_t in theirs(x, residual, dy, weight, bias, mean.copy(), deviation.copy()):
        def call(x=x_t, r=r_t, w=w_t, b=b_t, m=m_t, v=v_t):
            return F.relu(F.batch_norm(x, m, v, w, b, True, 0.1) + r)
        calls.append(call)
        inputs = [a.clone().requires_grad_() for a in (x_t, r_t, w_t, b_t)]
        gradients.append(backward(call(*inputs), dy_t, inputs))
        relus.append(lambda x=x_t: F.relu(x))
    yield f"batch norm + add + relu {name}", forward, calls, x.nbytes * 4
    yield (f"batch norm + add + relu {name} d", lambda: cpu.normalise_gradient(
        dy_, y_, x_, *statistics_, weight, True, True), gradients, x.nbytes * 7)
    yield f"relu {name}", lambda: cpu.relu(x_), relus, x.nbytes * 2


def rest(cpu, batch, channels, size):
    """Pooling, loss, update."""
    x = normal(batch, channels, size, size)
    x_, whole = ours(x), (size, size)
    yield (f"mean of the map {channels} x {size}x{size}", lambda: cpu.avg_pool2d(x_, whole, whole, (0, 0)),
           [lambda x=x_t: F.adaptive_avg_pool2d(x, 1) for x_t, in theirs(x)], x.nbytes)
    yield (f"max pool 2x2 {channels} x {size}x{size}", lambda: cpu.max_pool2d(x_, (2, 2), (2, 2), (0, 0)),
           [lambda x=x_t: F.max_pool2d(x, 2, return_indices=True) for x_t, in theirs(x)], x.nbytes * 1.5)
    logits, target = normal(batch, 10), np.arange(batch) % 10
    t = torch.from_numpy(logits).requires_grad_()
    def loss():
        _, probabilities = cpu.cross_entropy(logits, target)
        return cpu.cross_entropy_gradient(1.0, probabilities, target)
    yield ("cross-entropy, both ways", loss,
           [lambda: torch.autograd.grad(F.cross_entropy(t, torch.from_numpy(target)), t)], logits.nbytes * 4)
    vectors = [normal(270_000) for _ in range(3)]
    mask = np.ones(270_000, bool)
    parameter = torch.zeros(270_000, requires_grad=True)
    parameter.grad = torch.zeros(270_000)
    optimiser = torch.optim.SGD([parameter], 0.1, 0.9, weight_decay=1e-4, nesterov=True, fused=True)
    yield ("sgd, 270,000 weights (theirs: fused, no mask)", lambda: cpu.sgd(*vectors, mask, 1e-9, 0.9, True, 1e-4),
           [optimiser.step], vectors[0].nbytes * 5)


def cases(cpu, shapes):
    batch, layers = operations(shapes)
    for layer in layers:
        yield from convolutions(cpu, batch, *layer)
    for channels, size in sorted({(filters, size // stride) for _, filters, size, _, stride in layers}):
        yield from elementwise(cpu, batch, channels, size)
    yield from rest(cpu, batch, layers[-1][1], layers[-1][2])


def waited():
    """Seconds that this process's threads have waited for a core, where the system tells (Linux)."""
    total = 0
    for file in glob.glob("/proc/self/task/*/schedstat"):
        with contextlib.suppress(OSError), open(file) as status:
            total += int(status.read().split()[1])
    return total * 1e-9


def interleaved(calls, turns, clock, at_least=0.004, patience=10):
    """The median time of each call and whether it is undisturbed; they take turns, each of some milliseconds.

    A turn in which another program held one of our cores for more than 2 % of the time does not count, unless within
    `patience` seconds there is no better one: "disturbed". One thread is measured by its own clock, which then stands.
    """
    counts, clean, spoilt = [], [[] for _ in calls], [[] for _ in calls]
    for call in calls:
        call()
        start = clock()
        call()
        counts.append(max(1, int(at_least / (clock() - start))))
    begin = time.perf_counter()
    while min(map(len, clean)) < turns and time.perf_counter() - begin < patience:
        for number, (call, count) in enumerate(zip(calls, counts)):
            call()                                                    # its threads awake, its data where it left them
            waiting, start = waited(), clock()
            for _ in range(count):
                call()
            taken = clock() - start
            free = clock is time.thread_time or waited() - waiting < 0.02 * taken
            (clean if free else spoilt)[number].append(taken / count)
    return [statistics.median(good or bad) for good, bad in zip(clean, spoilt)], all(clean)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shapes", choices=["resnet", "digits"], default="resnet")
    parser.add_argument("--only", default="", help="operations whose name contains this")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", help="write the numbers to this file too")
    options = parser.parse_args()

    cpu = kernels.backend("cpu")
    process.set_threads(options.threads)
    torch.set_num_threads(options.threads)
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    print(f"{'':44}    ours  PyTorch   ratio        speed      {options.threads} threads, milliseconds")
    rows = []
    for name, call, rivals, work in cases(cpu, options.shapes):
        if options.only not in name:
            continue
        (mine, *others), undisturbed = interleaved([call, *rivals], options.turns, clock)
        unit = "GFLOP/s" if name.startswith("conv") else "GB/s"
        best, speed = min(others), work / mine / 1e9
        print(f"{name:44}{mine * 1e3:8.3f} {best * 1e3:8.3f} {best / mine:7.2f} {speed:8.1f} {unit}",
              "" if undisturbed else "  disturbed", flush=True)
        rows.append({"operation": name, "seconds": mine, "torch_seconds": best, "torch_all": others, unit: speed,
                     "undisturbed": undisturbed})
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"threads": options.threads, "shapes": options.shapes, "machine": platform.processor(),
                       "torch": torch.__version__, "numpy": np.__version__, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
