"""CUDA C for NVIDIA's cards, from version 8.0 (Ampere) on with tensor cores, and the emulated device that runs it.

Read `update.cu` first (one thread, one number), then `convolution.cu`, `matmul.cu` (shared memory and barriers),
`normalisation.cu` (sums), `tensor_cores.cu`; `backend.py` is the host's side of all of them.
"""

from ..reference import Reference


def backend(device: str) -> Reference:
    """The card's backend ("gpu") or the emulated device's ("emulated")."""
    from .emulator import Emulated
    return Emulated()
