"""A compiled network on a batch of images, beside PyTorch's dense network, in one run.

    python benchmarks/inference.py --network resnet20 --batch 128 --density 0.1 --against torch
    python benchmarks/inference.py --batch 1 --density 0.1 --mask global --against torch --json inference.json

Ours is `sparse.compile(model, images)` of the pruned network, images in C order (N, C, H, W), as they come. PyTorch
runs the same network with its pruned weights as zeros, in evaluation and inference_mode, in NCHW and channels_last,
eagerly and (--compile) by torch.compile; the fastest counts. The candidates take turns; turns during which the machine
was busy are thrown away. ratio = PyTorch's time / ours: above 1 we are faster.
"""

import argparse
import sys

import common
import numpy as np
import timing

import minirewind as mr
from minirewind import kernels
from minirewind.tensor import Tensor, no_grad


def main():
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
    parser.add_argument("--against", choices=("torch",))
    parser.add_argument("--compile", action="store_true", help="time torch.compile too (it compiles for a minute)")
    parser.add_argument("--seconds", type=float, default=30, help="the longest time to measure")
    parser.add_argument("--json")
    options = parser.parse_args()
    options.device = "cpu"

    kernels.set_threads(options.threads)
    shape = options.channels, options.size, options.size
    model = mr.models.build(options.network, input_shape=shape, classes=10).eval()
    mr.nn.pack(model)
    common.mask(model, options)
    images = np.random.default_rng(0).standard_normal((options.batch, *shape)).astype(np.float32)
    program = mr.sparse.compile(model, images)
    with no_grad():
        wanted = model(Tensor(images)).numpy()
    agree("ours", program(images), wanted)

    calls = {"ours": repeated(lambda: program(images), options.batch)}
    if options.against:
        calls |= torch_calls(options, model, images, wanted)
    print(f"{options.network}, batch {options.batch}, density {options.density:g}, {options.threads} threads",
          flush=True)
    measured = {name: timed / repeats(options.batch)
                for name, timed in timing.interleaved(calls, options.seconds).items()}
    for name, timed in measured.items():
        print(f"{name:28s}{timed}")
    common.write(common.record(options, measured), options.json)


def repeats(batch):
    """How many calls make a turn: a single image is over before a clock can tell."""
    return max(1, 20 // batch)


def repeated(call, batch):
    def turn():
        for _ in range(repeats(batch)):
            call()
    return turn


def agree(name, result, wanted):
    if not np.allclose(result, wanted, rtol=1e-3, atol=1e-3 * abs(wanted).max()):
        raise SystemExit(f"not the same network: {name} is up to {abs(result - wanted).max():.2g} away")


def torch_calls(options, model, images, wanted):
    """PyTorch's forward pass in each of its ways, by name; first it must compute the same scores."""
    import torch
    import torch_networks

    torch.set_num_threads(options.threads)
    formats = {"torch NCHW": torch.contiguous_format, "torch channels_last": torch.channels_last}
    calls = {}
    for name, order in formats.items():
        for compiled in (False, True) if options.compile else (False,):
            twin = torch_networks.build(options.network, model).to(memory_format=order).eval()
            run, x = torch.compile(twin) if compiled else twin, torch.from_numpy(images).to(memory_format=order)

            def call(run=run, x=x):
                with torch.inference_mode():
                    return run(x)
            try:
                scores = call().numpy()
            except Exception as reason:
                print(f"torch.compile does not work here: {str(reason).splitlines()[0][:100]}", file=sys.stderr)
                continue
            agree(name, scores, wanted)
            calls[name + (" compiled" if compiled else "")] = repeated(call, options.batch)
    return calls


if __name__ == "__main__":
    main()
