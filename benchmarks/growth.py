"""How the time of a training step grows with depth, width, batch, threads and sparsity, ours beside PyTorch's.

    python benchmarks/growth.py --out benchmarks/results/growth
    python benchmarks/growth.py --out benchmarks/results/growth --draw      # the plot again, from growth.json

Around one point (ResNet-20 of width 16, batch 128, two threads, dense) one thing is changed at a time. Every point is
train_step.py's measurement: ours and PyTorch's in both of its orders, in turns, in one run. growth.json is written
after every point; a run that was interrupted goes on where it was. PyTorch's network is dense at every density.
Width 4 is left out: PyTorch 2.13 never came back from its gradients there (oneDNN's AVX2 kernel for 1x1 filters).
"""

import argparse
import json
from pathlib import Path

import common
import timing
import train_step

import minirewind as mr
from minirewind import files, kernels

BASE = {"depth": 20, "width": 16, "batch": 128, "threads": 2, "density": 1.0}
AXES = {"depth": (8, 20, 32, 44, 56), "width": (8, 16, 32), "batch": (16, 32, 64, 128, 256), "threads": (1, 2),
        "density": (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="benchmarks/results/growth")
    parser.add_argument("--seconds", type=float, default=15, help="the longest time to measure a point")
    parser.add_argument("--turns", type=int, default=7, help="how often each is timed")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    options = parser.parse_args()
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "growth.json"
    points = json.loads(path.read_text()) if path.exists() else []
    for wanted in [] if options.draw else points_of(AXES):
        if not any(settings(point) == wanted for point in points):
            points.append(wanted | measured(wanted, options.seconds, options.turns))
            files.write_atomically(path, (json.dumps(points, indent=1) + "\n").encode())
    draw(points, folder / "growth.png")


def points_of(axes):
    """The base, then every other value of each axis with the rest as in the base."""
    found = [BASE]
    for axis, values in axes.items():
        found += [BASE | {axis: value} for value in values if value != BASE[axis]]
    return found


def settings(point):
    return {axis: point[axis] for axis in BASE}


def measured(point, seconds, turns):
    """What train_step.py measures at this point: medians in ms, and how many undisturbed turns they rest on."""
    options = train_step.parse(["--network", f"resnet{point['depth']}-{point['width']}"])
    options.batch, options.threads, options.density = point["batch"], point["threads"], point["density"]
    kernels.set_threads(options.threads)
    model = mr.models.build(options.network, input_shape=(3, 32, 32), classes=10)
    common.mask(model, options)
    clock = mr.train.Clock(seed=0, stream=0, round=0, batch_size=options.batch)
    x, y = mr.data.batch(common.images(options), options.batch, clock, kernels.backend("cpu"))
    calls = {"ours": train_step.our_step(model, x, y)} | train_step.torch_steps(options, model, x, y)
    steps = timing.interleaved(calls, seconds, turns)
    print(point)
    record = common.record(options, steps)
    kept = ("ours_ms", "torch_ms", "torch_best", "ratio", "date", "machine", "versions")
    return {name: record[name] for name in kept} | {"turns": {name: step.turns for name, step in steps.items()}}


def draw(points, path):
    """A panel per axis, milliseconds over its values, both logarithmic: a straight line of slope 1 is proportional."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter, NullLocator

    axes = {axis: [p for p in points if settings(p) == BASE | {axis: p[axis]}] for axis in BASE}
    drawing, panels = plt.subplots(1, len(axes), figsize=(13, 3.2), sharey=True, constrained_layout=True)
    for (axis, members), panel in zip(axes.items(), panels, strict=True):
        members = sorted(members, key=lambda p: p[axis])
        values = [p[axis] for p in members]
        for name, colour, mark in (("torch", "#767676", "s"), ("ours", "#0072b2", "o")):
            panel.plot(values, [p[f"{name}_ms"] for p in members], mark + "-", color=colour, markersize=4,
                       label={"torch": "PyTorch's best, dense", "ours": "minirewind"}[name])
        for p in members:
            panel.annotate(f"{p['ratio']:.1f}x", (p[axis], p["ours_ms"]), (0, -12), textcoords="offset points",
                           ha="center", fontsize=7, color="#0072b2")
        panel.set(xscale="log", yscale="log", xlabel=axis, xticks=values, xticklabels=[f"{v:g}" for v in values])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.margins(x=0.13)                   # room for the labels at both ends
        panel.grid(alpha=0.3)
        if axis == "density":
            panel.invert_xaxis()
    low, high = min(p["ours_ms"] for p in points), max(p["torch_ms"] for p in points)
    panels[0].set_ylim(low / 1.6, high * 1.3)
    ticks = [t for t in (10, 20, 50, 100, 200, 500, 1000, 2000) if low / 1.6 < t < high * 1.3]
    panels[0].set_yticks(ticks, [f"{t}" for t in ticks])
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("a training step, ms")
    panels[0].legend(frameon=False, fontsize=8)
    drawing.suptitle("ResNet-20 of width 16, batch 128, two threads, dense, and one thing changed at a time; "
                     "how many times faster", fontsize=9)
    drawing.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
