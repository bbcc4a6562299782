"""The emulated device: the CUDA C of the folder above, compiled as C++ and run on the CPU with NumPy arrays.

It is far slower than a card, and stricter: see cuda.h. It shows in every test run, on machines without
a card, that the kernels are right, and how blocks, warps and barriers work.
"""

import ctypes
import functools
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from .... import errors
from ... import process
from .. import sources
from ..host import Gpu

FLAGS = ("-std=c++17", "-O2", "-g1", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-w", "-U_FORTIFY_SOURCE", "-DEMULATED")


class Dim3(ctypes.Structure):
    """dim3: the size of a grid or of a block."""

    _fields_ = [("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint)]

    def __init__(self, sizes):
        super().__init__(*sizes, *[1] * (3 - len(sizes)))


class Module:
    """A compiled source text, with the call shape of CuPy's RawModule.

    `seed` shuffles the order in which the threads of a block run; with 0 they run in the order of their numbers.
    """

    def __init__(self, source: str, seed: int = 0, flags: tuple[str, ...] = ()):
        self.seed, self.source = seed, source
        self.types = sources.signatures(source)
        self.library = ctypes.PyDLL(str(build(source, flags)))      # PyDLL: one launch at a time

    def get_function(self, name: str):
        """The kernel of this name, called as kernel(grid, block, arguments)."""
        function, types = getattr(self.library, f"launch_{name}"), self.types[name]
        function.restype = ctypes.c_char_p

        def kernel(grid, block, arguments):
            if len(arguments) != len(types):
                raise TypeError(f"{name} takes {len(types)} arguments, got {len(arguments)}")
            kept = [ctypes.c_void_p(pointer(a)) if kind is None else np.array(a, kind) for a, kind in
                    zip(arguments, types)]
            places = [ctypes.addressof(a) if isinstance(a, ctypes.c_void_p) else a.ctypes.data for a in kept]
            failure = function(Dim3(grid), Dim3(block), self.seed, (ctypes.c_void_p * len(places))(*places))
            if failure:
                raise RuntimeError(f"{name}: {failure.decode()}")
        return kernel


def pointer(array) -> int | None:
    """The address a kernel gets for an array; none for the integer 0, the null pointer."""
    if not isinstance(array, np.ndarray):
        return None
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        raise TypeError("a kernel gets whole arrays only, not parts of one")
    return array.ctypes.data


def build(source: str, flags: tuple[str, ...] = ()) -> pathlib.Path:
    """The shared library of a source text, compiled at most once: it is kept in the user's cache by its hash."""
    launchers = "".join(
        f'extern "C" const char* launch_{name}(dim3 grid, dim3 block, unsigned seed, void** arguments) '
        f"{{ return emulator::launch(grid, block, seed, {name}, arguments); }}\n"
        for name in sources.signatures(source))
    code = f"{source}\n{launchers}"
    key = hashlib.sha256(repr((code, FLAGS, flags)).encode()).hexdigest()[:16]
    folder = process.writable_cache("emulated")
    library = folder / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as workshop:
            (pathlib.Path(workshop) / "kernels.cpp").write_text(code)
            done = subprocess.run([compiler(), *FLAGS, *flags, "kernels.cpp", "-o", "kernels.so"], cwd=workshop,
                                  capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"g++ does not take these kernels:\n{done.stderr}")
            (pathlib.Path(workshop) / "kernels.so").replace(library)      # at once, whoever else is building it
    return library


def compiler() -> str:
    """Where g++ is."""
    if not sys.platform.startswith("linux"):
        raise errors.Error("the emulated device needs Linux and g++; use device cpu")
    found = shutil.which("g++")
    if found is None:
        raise errors.Error("the emulated device compiles its kernels with g++, which was not found; "
                           "install it (on Debian or Ubuntu: apt install g++), or use device cpu")
    return found


class Emulated(Gpu):
    """The GPU's backend over NumPy arrays and kernels compiled for the CPU."""

    name = "emulated"
    xp = np
    seed = 0        # of the order in which threads run

    def __init__(self) -> None:
        compiler()
        super().__init__()

    @functools.cache            # noqa: B019  (there is one backend for the whole process)
    def compile(self, name: str) -> Module:
        return Module(sources.text(name))

    def launch(self, file: str, name: str, grid, block, *arguments) -> None:
        self.compile(file).seed = self.seed
        super().launch(file, name, grid, block, *arguments)

    def address(self, array) -> int:
        return array.ctypes.data

    def resident(self, array):
        return np.ascontiguousarray(array)
