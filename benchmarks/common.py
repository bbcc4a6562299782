"""What the benchmarks of whole networks share: their images, their masks, their record."""

import datetime
import json
import sys

import numpy as np
import timing
import trained_masks

import minirewind as mr


def images(options):
    """Random images in the shape of CIFAR: the time does not depend on what they show."""
    random = np.random.default_rng(0)
    shape = (options.channels, options.size, options.size)
    split = mr.data.Split(random.integers(0, 256, (2000, *shape), np.uint8), random.integers(0, 10, 2000))
    return mr.data.Data(split, split, split, 10, pad=4, flip=True)


def mask(model, options):
    """Prune the model to the density, in place."""
    if options.density == 1:
        return None
    state = mr.train.State.copy(model)
    if options.mask == "trained":
        mask = trained_masks.load(options.network, options.density, len(state.weights))
        return state.masked(mask, step=0).restore(model)
    method = mr.prune.global_magnitude
    if options.mask == "uniform":
        lots = np.random.default_rng(0).random(int(model.vectors.prunable.sum()))
        layers = mr.prune.prunable_layers(model)

        def method(weights, mask, keep):
            return mr.prune.layerwise_magnitude(lots, mask, keep, layers=layers)
    return state.masked(mr.prune.new_mask(model, state, options.density, method), step=0).restore(model)


def record(options, measured, **more):
    """What the JSON of a benchmark says: ratio = PyTorch's best time / ours."""
    result = {
        "network": options.network, "batch": options.batch, "threads": options.threads, "density": options.density,
        "mask": options.mask if options.density < 1 else None, "device": options.device,
        "ours_ms": measured["ours"].median, **more,
        "all_ms": {name: vars(timed) for name, timed in measured.items()},
        "date": datetime.date.today().isoformat(), "machine": timing.machine(), "versions": versions(),
    }
    theirs = {name: timed.median for name, timed in measured.items() if name.startswith("torch")}
    if theirs:
        best = min(theirs, key=theirs.get)
        result |= {"torch_ms": theirs[best], "torch_best": best, "ratio": theirs[best] / measured["ours"].median}
        print(f"ratio {result['ratio']:.2f} against {best}")
    return result


def write(result, path):
    """The record as a JSON file, where one was asked for."""
    if path:
        with open(path, "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


def versions():
    found = {"python": sys.version.split()[0], "numpy": np.__version__, "minirewind": mr.__version__}
    for name in ("numba", "torch"):
        if name in sys.modules:
            found[name] = sys.modules[name].__version__
    return found
