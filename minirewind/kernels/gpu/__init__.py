"""CUDA C for NVIDIA's cards, from version 7.0 on (with tensor cores from 8.0), and the emulated device that runs it.

Read `arithmetic.cu` and `update.cu` first (one thread, one number), then `convolution.cu`, `matmul.cu` (shared memory
and barriers), `warp.h`, `block.h` and `loss.cu` (shuffles), `normalisation.cu` (sums), `tensor_cores.cu`; `host.py` is
the host's side of all of them, `card.py` and `emulator` are what differs between the two devices.
"""

from ..reference import Reference


def backend(device: str) -> Reference:
    """The card's backend ("gpu") or the emulated device's ("emulated")."""
    if device == "gpu":
        from .card import Card
        return Card()
    from .emulator import Emulated
    return Emulated()
