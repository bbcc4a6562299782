"""Where the files of the well-known data sets come from, and how they are read.

A set lies in a folder of its own name: `FOLDER/cifar10/`, `FOLDER/mnist/`, ... An archive is read in one pass in
memory, never unpacked onto the disk, and nothing is ever unpickled. A file that cannot be read is an Error naming it.
"""

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from .errors import Error, choose

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]        # images (N, C, H, W), labels (N,)


@dataclass(frozen=True)
class File:
    """One file to download."""

    name: str
    size: int | None        # bytes, where known; the hash decides
    sha256: str


@dataclass(frozen=True)
class Cifar:
    """One archive of .bin files: rows of `label_bytes` labels, the last of which counts, and 3 planes of 32 x 32."""

    mirrors: tuple[str, ...]
    files: tuple[File, ...]
    folder: str                     # inside of the archive, and beside it once unpacked
    train: dict[str, int]           # rows of each file
    test: dict[str, int]
    label_bytes: int
    classes: int

    def bytes(self, rows: int) -> int:
        return rows * (self.label_bytes + 3 * 32 * 32)


@dataclass(frozen=True)
class Idx:
    """Images and labels in IDX files; MNIST's format."""

    mirrors: tuple[str, ...]
    files: tuple[File, ...]
    train: int                      # images
    test: int
    classes: int = 10


TORONTO = (     # the host of CIFAR, a copy of it first
    "https://storage.googleapis.com/mirror.tensorflow.org/www.cs.toronto.edu/~kriz/",
    "https://cave.cs.toronto.edu/kriz/",
)

SOURCES: dict[str, Cifar | Idx] = {
    "cifar10": Cifar(
        TORONTO,
        (File("cifar-10-binary.tar.gz", 170052171,
              "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),),
        folder="cifar-10-batches-bin",
        train={f"data_batch_{i}.bin": 10000 for i in range(1, 6)},
        test={"test_batch.bin": 10000},
        label_bytes=1,
        classes=10,
    ),
    "cifar100": Cifar(
        TORONTO,
        (File("cifar-100-binary.tar.gz", 168513733,
              "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),),
        folder="cifar-100-binary",
        train={"train.bin": 50000},
        test={"test.bin": 10000},
        label_bytes=2,              # coarse, fine
        classes=100,
    ),
    "mnist": Idx(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (
            File("train-images-idx3-ubyte.gz", 9912422,
                 "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            File("train-labels-idx1-ubyte.gz", 28881,
                 "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            File("t10k-images-idx3-ubyte.gz", 1648877,
                 "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            File("t10k-labels-idx1-ubyte.gz", 4542,
                 "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        train=60000,
        test=10000,
    ),
    "fashion_mnist": Idx(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",      # has no https; the hash is checked
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        (
            File("train-images-idx3-ubyte.gz", 26421880,
                 "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            File("train-labels-idx1-ubyte.gz", None,
                 "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            File("t10k-images-idx3-ubyte.gz", None,
                 "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            File("t10k-labels-idx1-ubyte.gz", None,
                 "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        train=60000,
        test=10000,
    ),
}


# --- Getting the files -----------------------------------------------------------------------------------------------

def home(folder: str | Path | None = None) -> Path:
    """The folder of all data sets: the one given, or that of MINIREWIND_DATA, or the download cache."""
    if folder or os.environ.get("MINIREWIND_DATA"):
        return Path(folder or os.environ["MINIREWIND_DATA"]).expanduser()
    return Path(import_pooch().os_cache("minirewind"))


def import_pooch() -> ModuleType:
    """Pooch, which finds the cache folder, downloads and verifies."""
    try:
        import pooch
    except ImportError:
        raise Error("downloads need the package pooch, which is not installed;\n"
                    "try `pip install pooch`, or name a folder that has the files with --data-dir") from None
    return pooch


def fetch(name: str, folder: str | Path | None = None, progress: bool = True) -> Path:
    """Download a data set, mirrors in turn, and return the folder it lies in; what is there already is only verified.

    A file gets its name only when its SHA-256 is right: a download that breaks off or differs leaves nothing.
    """
    source = SOURCES[choose("data set to fetch", name, SOURCES)]
    place = home(folder) / name
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise Error(f"cannot make the folder {place}: {problem.strerror};\n"
                    "name another one with --data-dir or MINIREWIND_DATA") from None
    for file in source.files:
        fetch_file(file, source.mirrors, place, progress)
    return place


def fetch_file(file: File, mirrors: tuple[str, ...], place: Path, progress: bool) -> None:
    """Download one file into `place`, from the first mirror that has it whole."""
    pooch = import_pooch()
    problem: Exception | None = None
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + file.name, f"sha256:{file.sha256}", file.name, place, progressbar=progress)
            return
        except (OSError, ValueError) as trouble:        # no connection, a page that is not there; another hash
            problem = trouble
    size = f" of {file.size:,} bytes" if file.size else ""
    reason = " ".join(str(problem).split())[:300]
    raise Error(f"{file.name}: none of {len(mirrors)} mirrors gave the file{size} with SHA-256 {file.sha256[:12]}...;\n"
                f"the last one: {reason};\n"
                f"try again later, or put the file into {place} yourself")


# --- Reading them ----------------------------------------------------------------------------------------------------

def read(name: str, folder: str | Path | None = None) -> tuple[Arrays, Arrays]:
    """The original training and test sets of one of SOURCES: uint8 images (N, C, H, W) and labels (N,)."""
    source = SOURCES[choose("data set to read", name, SOURCES)]
    base = home(folder)
    if isinstance(source, Cifar):
        return read_cifar(name, source, base)
    # MNIST and Fashion-MNIST give their files the same names: only the folder's name tells them apart.
    itself = base.name == name and not (base / name).is_dir()
    return read_mnist(name, source, base if itself else base / name)


def missing(name: str, wanted: str, place: Path) -> NoReturn:
    """No file where it was looked for: what to do."""
    raise Error(f"{name}: there is no {wanted} in {place};\n"
                f"try `minirewind fetch {name}`, or name the folder that has it with --data-dir or MINIREWIND_DATA")


def damaged(path: Path, found: str, expected: str) -> NoReturn:
    """A file that is there and cannot be used: what to do."""
    raise Error(f"{path}: {found}, expected {expected};\n"
                "the file is damaged or not what its name says: try to get it again")


def read_cifar(name: str, source: Cifar, base: Path) -> tuple[Arrays, Arrays]:
    """From the unpacked folder if there is one, else from the archive; in `base/name`, in `base`, or `base` itself."""
    archive = source.files[0].name
    folders = (base / name / source.folder, base / source.folder, base)
    folder = next((path for path in folders if path.name == source.folder and path.is_dir()), None)
    packed = next((path for path in (base / name / archive, base / archive) if path.is_file()), None)
    if folder:
        path, contents = folder, read_folder(name, folder, source)
    elif packed:
        path, contents = packed, read_archive(packed, source)
    else:
        missing(name, f"{archive} and no {source.folder}", base)
    return cifar_arrays(path, contents, source.train, source), cifar_arrays(path, contents, source.test, source)


def read_folder(name: str, folder: Path, source: Cifar) -> dict[str, bytes]:
    """The contents of the .bin files by name."""
    contents = {}
    for member in source.train | source.test:
        try:
            contents[member] = (folder / member).read_bytes()
        except FileNotFoundError:
            missing(name, member, folder)
        except OSError as problem:
            damaged(folder / member, f"it cannot be read ({problem.strerror})", "a file")
    return contents


def read_archive(path: Path, source: Cifar) -> dict[str, bytes]:
    """The same, in one pass over the archive; all but the members asked for is passed over."""
    import tarfile
    rows = source.train | source.test
    wanted = {f"{source.folder}/{member}": member for member in rows}
    contents = {}
    try:
        with gzip.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for entry in tar:
                    member = wanted.get(entry.name)
                    if member and entry.isfile() and entry.size == source.bytes(rows[member]):
                        contents[member] = tar.extractfile(entry).read()        # type: ignore[union-attr]
            while stream.read(2**20):       # on to the end, where gzip keeps its checksum
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as problem:
        damaged(path, f"it cannot be read ({problem})", "a whole .tar.gz archive")
    for entry_name, member in wanted.items():
        if member not in contents:
            damaged(path, f"it has no {entry_name} of {source.bytes(rows[member]):,} bytes", "one")
    return contents


def cifar_arrays(path: Path, contents: dict[str, bytes], members: dict[str, int], source: Cifar) -> Arrays:
    """Images and labels of some members, one after another."""
    tables = []
    for member, rows in members.items():
        content = contents[member]
        if len(content) != source.bytes(rows):
            damaged(path / member, f"{len(content):,} bytes", f"{source.bytes(rows):,}")
        tables.append(np.frombuffer(content, np.uint8).reshape(rows, -1))
    table = np.concatenate(tables)                                          # (N, labels + 3072)
    labels = table[:, source.label_bytes - 1].copy()
    check_labels(path, labels, source.classes)
    return table[:, source.label_bytes:].reshape(-1, 3, 32, 32), labels


def read_mnist(name: str, source: Idx, place: Path) -> tuple[Arrays, Arrays]:
    """Four IDX files, each compressed or not."""
    parts = []
    for part, count in (("train", source.train), ("t10k", source.test)):
        _, images = read_idx(name, place, f"{part}-images-idx3-ubyte", (count, 28, 28))
        path, labels = read_idx(name, place, f"{part}-labels-idx1-ubyte", (count,))
        check_labels(path, labels, source.classes)
        parts.append((images[:, None], labels))                             # (N, 1, 28, 28), (N,)
    return parts[0], parts[1]


def read_idx(name: str, place: Path, stem: str, shape: tuple[int, ...]) -> tuple[Path, NDArray[np.uint8]]:
    """The bytes of `stem` or `stem.gz`, in the shape that is expected, and the file they are from."""
    path = next((path for path in (place / stem, place / f"{stem}.gz") if path.is_file()), None)
    if path is None:
        missing(name, f"{stem}.gz", place)
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()        # 8: unsigned bytes
    size = len(header) + math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as problem:
        damaged(path, f"it cannot be read ({problem})", "a whole .gz file")
    if content[:len(header)] != header:
        damaged(path, f"it starts with {content[:len(header)].hex(' ')}", f"{header.hex(' ')}, the IDX header")
    if len(content) != size:
        damaged(path, f"more than {size:,} bytes" if len(content) > size else f"{len(content):,} bytes", f"{size:,}")
    return path, np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)


def check_labels(path: Path, labels: NDArray[np.uint8], classes: int) -> None:
    """Labels above the number of classes mean a damaged file."""
    if labels.max() >= classes:
        damaged(path, f"a label is {labels.max()}", f"0 to {classes - 1}")
