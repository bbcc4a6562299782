"""The masks of a network that was really trained, for `--mask trained` of the other benchmarks.

    python benchmarks/trained_masks.py --network resnet20 --dataset cifar10 --data-dir DIR --steps 300

Trains the network for some hundred steps by the paper's recipe, prunes it once by global magnitude to densities of 0.1,
0.05 and 0.02, and writes the packed masks to `masks/NETWORK.npz`. Unlike uniform masks such masks keep more of the
early layers, whose maps are the largest.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import minirewind as mr

FOLDER = Path(__file__).parent / "masks"
DENSITIES = (0.1, 0.05, 0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=0.1)
    options = parser.parse_args()
    data = mr.data.load(options.dataset, options.data_dir)
    model = mr.models.build(options.network, input_shape=data.input_shape, classes=data.classes)
    recipe = mr.train.Recipe(steps=options.steps, rate=options.rate)
    for record in mr.train.train(model, data, recipe, seed=0):
        print(f"step {record.step}: loss {record.loss:.3f}", flush=True)
    state = mr.train.State.copy(model)
    masks = {str(density): np.packbits(mr.prune.new_mask(model, state, density, mr.prune.global_magnitude))
             for density in DENSITIES}
    FOLDER.mkdir(exist_ok=True)
    np.savez(FOLDER / f"{options.network}.npz", **masks,
             made_by=json.dumps({**vars(options), "data_dir": None, "loss": record.loss}))


def load(network, density, size):
    """The mask (size,) of that density; it was made for images (3, 32, 32) of 10 classes."""
    path = FOLDER / f"{network}.npz"
    if not path.exists():
        raise SystemExit(f"no trained masks of {network}; make them with benchmarks/trained_masks.py")
    with np.load(path) as file:
        if str(density) not in file:
            raise SystemExit(f"trained masks of {network} exist for densities {DENSITIES}, not {density:g}")
        mask = np.unpackbits(file[str(density)]).astype(bool)
    if not size <= len(mask) < size + 8:
        raise SystemExit(f"the trained mask is for another network: {len(mask)} weights, this one has {size}")
    return mask[:size]


if __name__ == "__main__":
    main()
