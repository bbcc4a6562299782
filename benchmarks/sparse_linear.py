"""Linear layers with masked weights: the sparse kernels beside the matrix products, forward and both gradients.

    python benchmarks/sparse_linear.py [--threads 2] [--turns 9]

"ratio" is the time of the three matrix products over that of the three sparse kernels: above 1 the sparse ones are
faster, and `pays` tells whether a layer takes them. The matrix products are BLAS's, on one thread as in training.
"""

import argparse
import functools

import numpy as np
import timing

from minirewind import kernels

LAYERS = [(64, 10), (100, 10), (300, 100), (784, 300), (512, 512)]      # inputs, outputs
BATCHES, DENSITIES = (1, 7, 128, 512), (0.3, 0.2, 0.1, 0.05, 0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    cpu = kernels.backend("cpu")
    kernels.set_threads(options.threads)
    print(f"{options.threads} threads, milliseconds; ratio (pays) at densities", *DENSITIES)
    for inputs, outputs in LAYERS:
        for batch in BATCHES:
            calls, pays = candidates(cpu, inputs, outputs, batch)
            times = timing.interleaved(calls, seconds=4, turns=options.turns)
            ratios = (f"{times['dense'].low / times[d].low:6.2f} {'*' if pays[d] else ' '}" for d in DENSITIES)
            repeats = max(1, 20_000_000 // (inputs * outputs * batch))
            print(f"{inputs:4} -> {outputs:4}  batch {batch:4}  dense {times['dense'].low / repeats:7.3f} ", *ratios,
                  flush=True)


def candidates(cpu, inputs, outputs, batch):
    """The calls by name, each repeated until it takes about as long as a large layer's, and whether sparse pays."""
    random = np.random.default_rng(0)
    x, dy, weight = (random.standard_normal(shape, np.float32)
                     for shape in ((batch, inputs), (batch, outputs), (outputs, inputs)))
    bias = weight[:, 0].copy()
    repeats = max(1, 20_000_000 // (inputs * outputs * batch))

    def dense():
        for _ in range(repeats):
            cpu.matmul(x, weight.T) + bias, cpu.matmul(dy, weight), cpu.matmul(dy.T, x)

    def sparse(entries):
        for _ in range(repeats):
            cpu.sparse_linear(x, weight, bias, entries)
            cpu.sparse_linear_input_gradient(dy, weight, entries)
            cpu.sparse_linear_weight_gradient(dy, x, entries)

    calls, pays = {"dense": dense}, {}
    for density in DENSITIES:
        mask = random.random(weight.shape) < density
        calls[density] = functools.partial(sparse, cpu.sparse_entries(mask))
        pays[density] = cpu.sparse_linear_pays(x.shape, weight.shape, mask.sum())
    return calls, pays


if __name__ == "__main__":
    main()
