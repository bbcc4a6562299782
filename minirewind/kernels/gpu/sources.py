"""The CUDA C files as text, and what their kernels take."""

import functools
import pathlib
import re
from collections.abc import Callable

import numpy as np

FOLDER = pathlib.Path(__file__).parent

SCALARS = {"int": np.int32, "float": np.float32, "double": np.float64, "uint64": np.uint64}


replaced: dict[str, Callable[[], str]] = {}
"""By its name, what gives the text that stands in the place of a kernel."""


def names() -> list[str]:
    """The subjects: every file of kernels, without its .cu."""
    return sorted(path.stem for path in FOLDER.glob("*.cu"))


@functools.cache
def text(name: str) -> str:
    """A file of kernels with the headers it includes in their places, as one text for any compiler.

    One text also means that a cache of compiled kernels, whose key it is, notices when a header changes.
    """
    whole = expand(f"{name}.cu", set())
    for each, other in replaced.items():
        if each in signatures(whole):
            whole = whole.replace(kernel(whole, each), f'#line 1 "your {each}"\n{other().strip()}\n')
    return whole


def kernel(source: str, name: str) -> str:
    """The lines of one kernel of a source text."""
    head = r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?'
    found = re.search(rf"{head}{name}\(.*?\n}}\n", source, re.S)
    if found is None:
        raise LookupError(f"there is no kernel {name}")
    return found[0]


def expand(file: str, seen: set[str]) -> str:
    """A file with its own headers in place of their #include lines, each once; `#line` keeps errors pointing home."""
    if file in seen:
        return ""
    seen.add(file)
    lines = [f'#line 1 "{file}"\n']
    for number, line in enumerate((FOLDER / file).read_text().splitlines(keepends=True), 1):
        include = re.match(r'#include "(.*)"', line)
        if line.startswith("#pragma once"):
            line = "\n"
        lines.append(f'{expand(include[1], seen)}#line {number + 1} "{file}"\n' if include else line)
    return "".join(lines)


def signatures(source: str) -> dict[str, list]:
    """The kernels of a source text: for each the NumPy types of its arguments, None for a pointer."""
    source = re.sub(r"//[^\n]*", "", source)
    found = re.findall(r'extern "C" __global__ void\s+(?:__launch_bounds__\(.*?\)\s*)?(\w+)\((.*?)\)\s*{', source, re.S)
    return {name: [None if "*" in argument else SCALARS[argument.split()[-2]] for argument in arguments.split(",")]
            for name, arguments in found}
