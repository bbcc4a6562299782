"""What a user sees when something they gave cannot be used."""

import difflib
from collections.abc import Iterable


class Error(ValueError):
    """A user's mistake, told in one to three lines: what was given, what was expected, what to try.

    The command line prints it and exits with 2. Any other exception is our own bug and keeps its traceback.
    """


def choose(kind: str, name: str, known: Iterable[str]) -> str:
    """`name` if it is one of `known`, else an Error that names the nearest."""
    known = sorted(known)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known) if len(known) <= 16 else f"{', '.join(known[:8])} and {len(known) - 8} more"
    raise Error(f"unknown {kind} {name!r}: {hint}known are {listed}")
