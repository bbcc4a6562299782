"""How a kernel is compiled, and when it is worth more than one thread."""

import contextlib
import functools
import os
import signal
import types
import warnings

import numba

from .. import process

OPTIONS = {
    "cache": True,
    "error_model": "numpy",
    # Sums may be reordered and a * b + c fused. Not `True`: that also lets the compiler forget about NaN and infinity,
    # and gave other bits on other numbers of threads.
    "fastmath": {"contract", "reassoc", "nsz"},
}

FOLDER = str(process.cache_folder())


def compiled(function, **options):
    """`function` by Numba, kept in our own folder: beside its source it would outlive a change in its helpers."""
    users, numba.config.CACHE_DIR = numba.config.CACHE_DIR, FOLDER
    try:
        dispatcher = numba.njit(**OPTIONS, **options)(function)
    finally:
        numba.config.CACHE_DIR = users
    always_from_the_cache(dispatcher)
    return dispatcher


def always_from_the_cache(dispatcher):
    """Where a kernel is not in the cache yet, let a child process put it there, and load it then.

    A parallel kernel is optimised once more on its way into the cache, and its sums come out in another order there
    than on the day it was compiled: the first run would not have the bits of all later ones. Where a process cannot
    fork, it does not.
    """
    load = dispatcher._cache.load_overload

    def load_overload(signature, target):
        found = load(signature, target)
        if found is None:
            process.tell_of_the_first_compilation()
            if in_a_child(functools.partial(dispatcher.compile, signature)):
                found = load(signature, target)
        return found

    dispatcher._cache.load_overload = load_overload


forked = not hasattr(os, "fork")        # whether this is such a child, or there can be none, or one had to be stopped

PATIENCE = 120      # seconds for one kernel: the child lacks the other threads, and could wait for a lock of theirs


def in_a_child(work):
    """Run `work` in a copy of this process, to its end, or stop it; False where this is one already, or none can be."""
    global forked
    if forked:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)      # other threads: the child uses none of them
            child = os.fork()
    except OSError:                                                  # no room for another process
        return False
    if child:
        with contextlib.suppress(ChildProcessError):                 # it ended, and who ignores SIGCHLD is not told how
            _, status = os.waitpid(child, 0)
            forked = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM       # once was enough
        return True
    forked = True
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        work()
    finally:
        os._exit(0)


helper = functools.partial(compiled, inline="always")
"""A function that disappears into the kernels that call it."""

function = compiled
"""A function that kernels call: part of one iteration of their `prange`."""

LAUNCH = 30_000
"""Below this many nanoseconds of work, waking the other threads costs more than they save."""


class Kernel:
    """A function compiled twice, each when first needed: for one thread, and with its `prange` shared by all threads.

    `kernel(work, ...)` picks by `work`, roughly the nanoseconds one core needs for it, as the caller computes them from
    the shape. The number of threads has no say, so the same shape always takes the same code and gives the same bits.
    """

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.serial = compiled(function)
        self.parallel = compiled(renamed(function, function.__name__ + "_parallel"), parallel=True)

    def __call__(self, work, *arguments):
        return (self.parallel if work > LAUNCH else self.serial)(*arguments)


def renamed(function, name):
    """The same function by another name: Numba's cache tells two compilations of one source apart only by name."""
    copy = types.FunctionType(function.__code__, function.__globals__, name)
    copy.__qualname__, copy.__module__ = name, function.__module__
    return copy
