"""One training step (forward, backward, update) through the public API, beside PyTorch's, in one run.

    python benchmarks/train_step.py --network resnet20 --batch 128 --threads 2 --against torch
    python benchmarks/train_step.py --density 0.05 --mask uniform --against torch --json step.json
    python benchmarks/train_step.py --device gpu --replicas 8 --against torch

Both train the same network from the same weights on the same batch, which lies in memory in the order each likes best.
PyTorch runs eagerly and compiled (where torch.compile works), in NCHW and channels_last; the fastest counts. The
candidates take turns; turns during which the machine was busy are thrown away. ratio = PyTorch's time / ours: above 1
we are faster. Making the batch (crop, flip, normalise) is a row of its own. On a GPU the step is captured, PyTorch is
also timed as one graph of the whole step, and benchmarks/gpu.py tells how.
"""

import argparse
import sys

import common
import numpy as np
import timing

import minirewind as mr
from minirewind import kernels
from minirewind.tensor import Tensor


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--density", type=float, default=1.0)
    parser.add_argument("--mask", choices=("uniform", "global", "trained"), default="uniform",
                        help="the same density in every layer, at random; global magnitude of the initial weights; "
                             "or of trained ones (trained_masks.py)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--against", choices=("torch",))
    parser.add_argument("--compile", action="store_true", help="time torch.compile too (it compiles for a minute)")
    parser.add_argument("--seconds", type=float, default=60, help="the longest time to measure")
    parser.add_argument("--turns", type=int, default=15, help="how often each is timed, at most (GPU)")
    parser.add_argument("--precision", choices=("tf32", "fp32"), default="tf32", help="of both sides (GPU)")
    parser.add_argument("--ways", nargs="+", default=["eager", "graph", "reduce-overhead", "max-autotune"],
                        help="which of PyTorch's, in NCHW and channels_last (GPU)")
    parser.add_argument("--replicas", type=int, default=1, help="networks side by side in one graph (GPU)")
    parser.add_argument("--launches", type=int, help="only so many steps, not captured, not timed: to profile (GPU)")
    parser.add_argument("--json")
    return parser.parse_args(arguments)


def main():
    options = parse()
    kernels.set_threads(options.threads)
    data = common.images(options)
    if options.device in ("gpu", "emulated"):
        import gpu
        if options.launches:
            return gpu.launch_by_launch(options, data)
        print(f"{options.network}, batch {options.batch}, {options.precision}, device {options.device}")
        more, steps = gpu.measure(options, data)
        for name, measured in steps.items():
            print(f"{name:36s}{measured}")
        for name, value in more.items():
            if "ratio" in name or "floor" in name:
                print(f"{name:36s}{value:9.3f}")
        return common.write(common.record(options, steps, **more), options.json)
    model = mr.models.build(options.network, input_shape=data.input_shape, classes=10).to(options.device)
    common.mask(model, options)
    clock = mr.train.Clock(seed=0, stream=0, round=0, batch_size=options.batch)
    x, y = mr.data.batch(data, options.batch, clock, kernels.backend(options.device))

    calls = {"ours": our_step(model, x, y)}
    if options.against:
        calls |= torch_steps(options, model, x, y)
    print(f"{options.network}, batch {options.batch}, density {options.density:g}, {options.threads} threads")
    steps = timing.interleaved(calls, options.seconds)
    backend = kernels.backend(options.device)
    batch = timing.interleaved({"batch": lambda: mr.data.batch(data, options.batch, clock, backend)}, 5)
    for name, measured in (steps | batch).items():
        print(f"{name:28s}{measured}")

    common.write(common.record(options, steps, batch_ms=batch["batch"].median), options.json)


def our_step(model, x, y):
    """One step as train.one_step makes it, the batch apart."""
    model.train()
    optimiser = mr.optim.SGD(model, weight_decay=2e-4)
    x, y = Tensor(x, device=optimiser.device), Tensor(y, device=optimiser.device)

    def step():
        optimiser.zero_grad()
        mr.functional.cross_entropy(model(x), y).backward()
        optimiser.step(1e-6)
    return step


def torch_steps(options, model, x, y):
    """PyTorch's step in each of its ways, by name; first it must compute the same loss."""
    import torch
    import torch_networks

    torch.set_num_threads(options.threads)
    images, labels = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y)
    loss = mr.functional.cross_entropy(model(Tensor(x)), Tensor(y)).item()
    formats = {"torch NCHW": torch.contiguous_format, "torch channels_last": torch.channels_last}
    calls = {}
    for name, order in formats.items():
        for compiled in (False, True) if options.compile else (False,):
            twin = torch_networks.build(options.network, model).to(memory_format=order).train()
            run = torch.compile(twin) if compiled else twin
            call = torch_step(torch, twin, run, images.to(memory_format=order), labels)
            try:
                theirs = call()
            except Exception as reason:
                print(f"torch.compile does not work here: {str(reason).splitlines()[0][:100]}", file=sys.stderr)
                continue
            if not np.isclose(theirs, loss, rtol=1e-3):
                raise SystemExit(f"not the same network: our loss is {loss}, {name}'s {theirs}")
            calls[name + (" compiled" if compiled else "")] = call
    return calls


def torch_step(torch, twin, run, images, labels):
    optimiser = torch.optim.SGD(twin.parameters(), 1e-6, 0.9, weight_decay=2e-4, fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimiser.step()
        return loss.item()
    return step


if __name__ == "__main__":
    main()
