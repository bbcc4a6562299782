"""The array programs under the framework: the same kernels, by the same names, for every device.

A backend object carries the array module and the kernels of one device. Everything above this folder asks for a
kernel through that object (`backend.conv2d(...)`), so a learner's kernel can be put in its place.
"""

import functools

from .. import errors
from .process import set_threads
from .reference import Reference

__all__ = ["Backend", "backend", "set_threads"]

Backend = Reference
"""What every backend offers is what the NumPy reference offers; the others replace its kernels by faster ones."""


@functools.cache
def backend(device: str) -> Backend:
    """The backend of `device`, made on first use.

    "cpu": Numba kernels for float32 (NumPy for float64, or where Numba is not installed).
    "reference": plain NumPy, the specification of all the others.
    """
    errors.choose("device", device, ("cpu", "reference"))
    if device == "cpu":
        from . import cpu
        return cpu.backend()
    return Reference()
