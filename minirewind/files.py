"""Files that are whole or not there: atomic writing, states, and the lock of a folder."""

import contextlib
import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import Error
from .train import State

# What NumPy raises of an npz of which a byte was changed.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, RuntimeError, MemoryError,
              struct.error, zlib.error, zipfile.BadZipFile)


def write_atomically(path: Path, content: bytes) -> None:
    """The file is the old one or the new one, whole, whatever happens."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as reason:
        reason.filename = str(path)             # not the temporary name, which nobody has heard of
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as reason:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(reason, OSError) and reason.filename is None:         # a full disk names no file
            reason.filename = str(path)
        raise


def write(path, content: bytes) -> int:
    """Write a file that a user asked for, whole or not at all; its size in bytes."""
    try:
        write_atomically(Path(path), content)
    except OSError as reason:
        raise Error(f"cannot write {path}: {reason.strerror}") from reason
    return len(content)


def state_bytes(state: State, **more) -> bytes:
    """A state as an npz file: the same bytes for the same state, nothing executable in it."""
    buffer = io.BytesIO()
    np.savez(buffer, step=state.step, weights=state.weights, momentum=state.momentum, mask=state.mask,
             statistics=state.statistics, **more)
    return buffer.getvalue()


def read_state(path: Path) -> tuple[State, dict[str, np.ndarray]]:
    """A state and what was stored beside it; a damaged file is an Error that names it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        vectors = [arrays.pop(name) for name in ("weights", "momentum", "mask", "statistics")]
        return State(int(arrays.pop("step")), *vectors), arrays
    except UNREADABLE as reason:
        raise damaged(path, reason) from reason


def damaged(path: Path, reason: Exception) -> Error:
    """What to say of a file in a run's folder that cannot be read."""
    return Error(f"{path} cannot be read ({reason}); delete the folder it is in, and the same command makes it anew")


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone; the lock goes with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115  (closed by the `with` below, once it is known to be open)
    except OSError as reason:
        raise Error(f"cannot write to {folder}: {reason.strerror}; choose another folder with --out") from reason
    with file:
        try:
            if os.name == "posix":
                import fcntl
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            raise Error(f"another process is working in {folder}; wait for it, or choose another folder") from None
        yield
