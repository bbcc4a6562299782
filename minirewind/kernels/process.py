"""Settings of the whole process, made once, when a CPU backend is first asked for; never at import."""

import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile

from .. import errors

KEPT_CACHES = 8

_count: int | None = None       # the number of threads asked for, None: all there are


@functools.cache
def prepare() -> None:
    """BLAS on one thread: the same bits whatever the machine, and no quarrel with the kernels' own threads."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(1, user_api="blas")
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Ask glibc to reuse freed arrays instead of handing them back to the kernel.

    A training step makes and frees some hundred arrays of megabytes. Handed back, each comes again as fresh pages, one
    fault per 4 KiB: 60 arrays of 2 MB cost 75 ms, reused ones 6 ms. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)          # the largest value that glibc takes
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@functools.cache
def prepare_numba() -> None:
    """OpenMP where there is a choice (a launch costs 1.4 us, Numba's own workqueue 39), and the asked-for threads."""
    import numba

    if not any(name in os.environ for name in ("NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY")):
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    if _count is not None:
        set_numba_threads(_count)


@functools.cache
def tell_of_the_first_compilation() -> None:
    """One line on stderr when a kernel is not in the cache: the first run waits for it."""
    print("minirewind: compiling kernels for this CPU, once; up to 30 s in all ...", file=sys.stderr, flush=True)


def threads() -> int:
    """How many threads the kernels run on."""
    if prepare_numba.cache_info().currsize:
        import numba
        return numba.get_num_threads()
    return _count or os.cpu_count() or 1


def set_threads(count: int) -> None:
    """Run the kernels on `count` threads, from now on, in the calling Python thread. The results keep their bits."""
    global _count
    if count < 1:
        raise errors.Error(f"set_threads: {count} threads were asked for, at least 1 is needed")
    if prepare_numba.cache_info().currsize:
        set_numba_threads(count)
    _count = count


def set_numba_threads(count: int) -> None:
    """Tell Numba how many threads its kernels may use."""
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if count > most:
        raise errors.Error(f"set_threads: {count} threads were asked for, but this process can start only {most}; "
                           f"NUMBA_NUM_THREADS={count} in the environment allows more")
    numba.set_num_threads(count)


def cache_folder() -> pathlib.Path:
    """Where compiled kernels are kept: a folder of the user's, named after all that a kernel is made of.

    Numba looks only at the file in which a kernel stands. A helper changed in another file, a new Numba or another CPU
    would leave a stale kernel behind; in a folder named by the hash of all of them it cannot.
    """
    import llvmlite
    import numba
    from numba.core.registry import cpu_target

    digest = hashlib.sha256()
    for source in sorted(pathlib.Path(__file__).parent.joinpath("cpu").glob("*.py")):
        digest.update(source.read_bytes())
    digest.update(repr((numba.__version__, llvmlite.__version__, sys.version_info[:2],
                        cpu_target.target_context.codegen().magic_tuple())).encode())
    return writable_cache(f"kernels-{digest.hexdigest()[:16]}")


@functools.cache
def writable_cache(name: str) -> pathlib.Path:
    """A folder of this name in the user's cache; where that cannot be written to, one for this process only."""
    folder = user_cache() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            os.utime(folder)
            forget_old_caches(folder)
            return folder
    except OSError:
        return pathlib.Path(tempfile.mkdtemp(prefix=f"minirewind-{name}-"))


def forget_old_caches(folder: pathlib.Path) -> None:
    """Delete the caches of older sources beside this one, but for the few that were used last."""
    beside = folder.parent.glob(folder.name.rsplit("-", 1)[0] + "-*")
    with contextlib.suppress(OSError):                  # another process may be doing the same
        for old in sorted(beside, key=lambda other: other.stat().st_mtime)[:-KEPT_CACHES]:
            shutil.rmtree(old, ignore_errors=True)


def user_cache() -> pathlib.Path:
    """The folder this system keeps caches in; NUMBA_CACHE_DIR, where set, has the last word."""
    if folder := os.environ.get("NUMBA_CACHE_DIR"):
        return pathlib.Path(folder) / "minirewind"
    if sys.platform == "win32":
        return pathlib.Path(os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData" / "Local") / "minirewind"
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library" / "Caches" / "minirewind"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "minirewind"
