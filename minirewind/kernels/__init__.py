"""The array programs under the framework: the same kernels, by the same names, for every device.

A backend object carries the array module and the kernels of one device. Everything above this folder asks for a
kernel through that object (`backend.conv2d(...)`), so a learner's kernel can be put in its place.
"""

import functools

from .. import errors
from . import loops
from .process import set_threads
from .reference import Reference

__all__ = ["Backend", "backend", "loops", "set_threads"]

Backend = Reference
"""What every backend offers is what the NumPy reference offers; the others replace its kernels by faster ones."""

DEVICES = ("cpu", "gpu", "emulated", "reference")


@functools.cache
def backend(device: str) -> Backend:
    """The backend of `device`, made on first use.

    "cpu": Numba kernels for float32 (NumPy for float64, or where Numba is not installed).
    "reference": plain NumPy, the specification of all the others.
    "gpu": CUDA kernels by CuPy on an NVIDIA card; "emulated": the same kernels, run by the CPU, slowly.
    """
    errors.choose("device", device, DEVICES)
    if device == "cpu":
        from . import cpu
        return cpu.backend()
    if device in ("gpu", "emulated"):
        from . import gpu
        return gpu.backend(device)
    return Reference()
