"""Facts about downloading and reading the data sets' files: small ones in the real formats, a server on loopback."""

import gzip
import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minirewind import fetch
from minirewind.errors import Error

MEMBERS = {"data_batch_1.bin": 3, "data_batch_2.bin": 2, "test_batch.bin": 2}
FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"


def cifar_member(name, label_bytes=1):
    """Rows of labels and random pixels; the last label counts and is the row's number, the coarse one is 9."""
    rows = np.random.default_rng(len(name)).integers(0, 256, (MEMBERS[name], label_bytes + 3072)).astype(np.uint8)
    rows[:, :label_bytes] = 9
    rows[:, label_bytes - 1] = np.arange(len(rows))
    return rows


def tar(members):
    """The bytes of a .tar.gz archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def cifar_archive(**more):
    return tar({f"{FOLDER}/{name}": cifar_member(name).tobytes() for name in MEMBERS} | more)


def cifar_source(content, *mirrors, label_bytes=1):
    file = fetch.File(ARCHIVE, len(content), hashlib.sha256(content).hexdigest())
    train, test = dict(list(MEMBERS.items())[:2]), {"test_batch.bin": 2}
    return fetch.Cifar(mirrors, (file,), FOLDER, train, test, label_bytes, classes=10)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def mnist_files():
    random = np.random.default_rng(0)
    files = {}
    for part, count in (("train", 5), ("t10k", 3)):
        files[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        files[f"{part}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8)
    return files


def write(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def everything_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on loopback: (its folder, its address)."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def small_cifar(monkeypatch):
    monkeypatch.setitem(fetch.SOURCES, "cifar10", cifar_source(cifar_archive()))


@pytest.fixture
def small_mnist(monkeypatch):
    files = tuple(fetch.File(f"{name}.gz", None, "") for name in mnist_files())
    monkeypatch.setitem(fetch.SOURCES, "mnist", fetch.Idx((), files, train=5, test=3))


def assert_is_small_cifar(parts):
    (images, labels), (test_images, test_labels) = parts
    rows = np.concatenate([cifar_member(name) for name in list(MEMBERS)[:2]])
    assert images.dtype == labels.dtype == np.uint8
    assert images.shape == (5, 3, 32, 32)
    assert np.array_equal(images.reshape(5, -1), rows[:, 1:])
    assert labels.tolist() == [0, 1, 2, 0, 1]
    assert np.array_equal(test_images.reshape(2, -1), cifar_member("test_batch.bin")[:, 1:])
    assert test_labels.tolist() == [0, 1]


# --- Downloading -----------------------------------------------------------------------------------------------------

def test_what_is_fetched_can_be_read(server, tmp_path, monkeypatch):
    served, address = server
    (served / ARCHIVE).write_bytes(cifar_archive())
    monkeypatch.setitem(fetch.SOURCES, "cifar10", cifar_source(cifar_archive(), address))
    assert fetch.fetch("cifar10", tmp_path / "data", progress=True) == tmp_path / "data" / "cifar10"
    assert_is_small_cifar(fetch.read("cifar10", tmp_path / "data"))


def test_the_files_of_mnist_are_fetched_into_a_folder_of_their_own(server, tmp_path, monkeypatch):
    served, address = server
    files = []
    for name, array in mnist_files().items():
        content = gzip.compress(idx(array))
        (served / f"{name}.gz").write_bytes(content)
        files.append(fetch.File(f"{name}.gz", None, hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(fetch.SOURCES, "mnist", fetch.Idx((address,), tuple(files), train=5, test=3))
    for folder in (tmp_path / "data", tmp_path / "mnist"):              # even if the folder is called mnist already
        assert fetch.fetch("mnist", folder, progress=False) == folder / "mnist"
        assert fetch.read("mnist", folder)[0][0].shape == (5, 1, 28, 28)


@pytest.mark.parametrize("broken", ["absent", "truncated", "another file"])
def test_if_the_first_mirror_fails_the_second_is_used(broken, server, tmp_path, monkeypatch):
    served, address = server
    content = cifar_archive()
    write(served / "bad", "unused", b"")
    if broken == "truncated":
        write(served / "bad", ARCHIVE, content[:-100])
    elif broken == "another file":
        write(served / "bad", ARCHIVE, b"<html>moved</html>")
    write(served / "good", ARCHIVE, content)
    monkeypatch.setitem(fetch.SOURCES, "cifar10", cifar_source(content, f"{address}bad/", f"{address}good/"))
    place = fetch.fetch("cifar10", tmp_path / "data", progress=False)
    assert everything_in(place) == {(place / ARCHIVE).relative_to(place): content}


def test_a_mirror_that_does_not_answer_is_an_error_that_says_what_to_try(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(fetch.SOURCES, "cifar10", cifar_source(cifar_archive(), "http://127.0.0.1:9/"))
    with pytest.raises(Error, match="none of 1 mirrors gave the file") as caught:
        fetch.fetch("cifar10", tmp_path, progress=False)
    assert len(str(caught.value).splitlines()) == 3
    assert "put the file into" in str(caught.value)


def test_a_download_with_another_hash_leaves_no_file(server, tmp_path, monkeypatch):
    served, address = server
    (served / ARCHIVE).write_bytes(cifar_archive()[:-1] + b"?")
    monkeypatch.setitem(fetch.SOURCES, "cifar10", cifar_source(cifar_archive(), address))
    with pytest.raises(Error, match=f"{ARCHIVE}: none of 1 mirrors"):
        fetch.fetch("cifar10", tmp_path / "data", progress=False)
    assert everything_in(tmp_path / "data") == {}


def test_a_file_that_is_there_is_verified_and_not_downloaded_again(tmp_path, monkeypatch):
    monkeypatch.setitem(fetch.SOURCES, "cifar10", cifar_source(cifar_archive(), "http://127.0.0.1:9/"))
    write(tmp_path / "cifar10", ARCHIVE, cifar_archive())
    fetch.fetch("cifar10", tmp_path, progress=False)
    write(tmp_path / "cifar10", ARCHIVE, b"damaged")
    with pytest.raises(Error, match="none of 1 mirrors"):
        fetch.fetch("cifar10", tmp_path, progress=False)
    assert (tmp_path / "cifar10" / ARCHIVE).read_bytes() == b"damaged"  # a failure changes nothing


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    write(tmp_path, "file", b"")
    with pytest.raises(Error, match="cannot make the folder"):
        fetch.fetch("cifar10", tmp_path / "file")


def test_the_digits_need_no_fetching():
    with pytest.raises(Error, match="unknown data set to fetch 'digits'"):
        fetch.fetch("digits")


def test_every_file_of_the_registry_has_a_sha256_and_a_second_mirror():
    for source in fetch.SOURCES.values():
        assert len(source.mirrors) >= 2
        assert all(mirror.endswith("/") for mirror in source.mirrors)
        assert all(len(bytes.fromhex(file.sha256)) == 32 for file in source.files)


# --- Where files are looked for --------------------------------------------------------------------------------------

def test_the_folder_given_comes_before_the_environment_before_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIREWIND_DATA", str(tmp_path / "environment"))
    assert fetch.home(tmp_path / "given") == tmp_path / "given"
    assert fetch.home() == tmp_path / "environment"
    monkeypatch.delenv("MINIREWIND_DATA")
    assert "minirewind" in str(fetch.home())


@pytest.mark.parametrize("folder", ["", "cifar10", FOLDER])
def test_unpacked_files_are_found_in_the_folder_or_its_subfolder(folder, small_cifar, tmp_path):
    place = tmp_path / FOLDER if folder == FOLDER else tmp_path / folder / FOLDER
    for name in MEMBERS:
        write(place, name, cifar_member(name).tobytes())
    assert_is_small_cifar(fetch.read("cifar10", place if folder == FOLDER else tmp_path))


@pytest.mark.parametrize("folder", ["", "cifar10"])
def test_an_archive_is_found_in_the_folder_or_its_subfolder(folder, small_cifar, tmp_path):
    write(tmp_path / folder, ARCHIVE, cifar_archive())
    assert_is_small_cifar(fetch.read("cifar10", tmp_path))


def test_files_of_mnist_in_a_folder_of_another_name_are_not_taken_for_fashion_mnist(small_mnist, tmp_path, monkeypatch):
    for name, array in mnist_files().items():
        write(tmp_path / "mnist", name, idx(array))
    fetch.read("mnist", tmp_path)
    fetch.read("mnist", tmp_path / "mnist")
    with pytest.raises(Error, match="minirewind fetch fashion_mnist"):
        fetch.read("fashion_mnist", tmp_path / "mnist")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_a_set_that_is_not_there_is_an_error_that_says_how_to_get_it(name, tmp_path):
    with pytest.raises(Error, match=f"minirewind fetch {name}.*--data-dir") as caught:
        fetch.read(name, tmp_path)
    assert str(tmp_path) in str(caught.value)


# --- CIFAR -----------------------------------------------------------------------------------------------------------

def test_reading_an_archive_writes_nothing_to_the_disk(small_cifar, tmp_path):
    write(tmp_path, ARCHIVE, cifar_archive())
    before = everything_in(tmp_path)
    fetch.read("cifar10", tmp_path)
    assert everything_in(tmp_path) == before


def test_members_with_malicious_names_are_ignored(small_cifar, tmp_path):
    evil = {"../evil.bin": b"x", "/tmp/evil.bin": b"x", f"{FOLDER}/../data_batch_1.bin": b"x", "data_batch_1.bin": b"x"}
    write(tmp_path / "data", ARCHIVE, cifar_archive(**evil))
    assert_is_small_cifar(fetch.read("cifar10", tmp_path / "data"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_second_label_of_cifar100_is_the_one_that_counts(tmp_path, monkeypatch):
    monkeypatch.setitem(fetch.SOURCES, "cifar100", cifar_source(b"", label_bytes=2))
    for name in MEMBERS:
        write(tmp_path / FOLDER, name, cifar_member(name, 2).tobytes())
    (images, labels), _ = fetch.read("cifar100", tmp_path)
    assert labels.tolist() == [0, 1, 2, 0, 1]
    assert np.array_equal(images[0].ravel(), cifar_member("data_batch_1.bin", 2)[0, 2:])


@pytest.mark.parametrize("kept", [0, 10, 100, -5000, -8, -1])
def test_a_truncated_archive_is_an_error(kept, small_cifar, tmp_path):
    write(tmp_path, ARCHIVE, cifar_archive()[:kept])
    with pytest.raises(Error, match=f"{ARCHIVE}: it"):
        fetch.read("cifar10", tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=st.data())
def test_a_flipped_bit_in_an_archive_is_an_error_or_harmless(small_cifar, tmp_path, choice):
    content = bytearray(cifar_archive())
    content[choice.draw(st.integers(0, len(content) - 1) | st.integers(0, 40))] ^= 1 << choice.draw(st.integers(0, 7))
    write(tmp_path, ARCHIVE, content)
    try:
        parts = fetch.read("cifar10", tmp_path)
    except Error:
        return
    assert_is_small_cifar(parts)


@pytest.mark.parametrize("change", ["absent", "short", "long", "directory"])
def test_an_archive_without_a_whole_member_is_an_error_that_names_it(change, small_cifar, tmp_path):
    members = {f"{FOLDER}/{name}": cifar_member(name).tobytes() for name in MEMBERS}
    content = members.pop(f"{FOLDER}/data_batch_2.bin")
    if change == "short":
        members[f"{FOLDER}/data_batch_2.bin"] = content[:-1]
    elif change == "long":
        members[f"{FOLDER}/data_batch_2.bin"] = content + b"x"
    elif change == "directory":
        members[f"{FOLDER}/data_batch_2.bin/"] = b""
    write(tmp_path, ARCHIVE, tar(members))
    with pytest.raises(Error, match=f"it has no {FOLDER}/data_batch_2.bin of 6,146 bytes"):
        fetch.read("cifar10", tmp_path)


def test_unpacked_files_of_the_wrong_size_or_missing_are_errors_that_name_them(small_cifar, tmp_path):
    for name in MEMBERS:
        write(tmp_path / FOLDER, name, cifar_member(name).tobytes())
    write(tmp_path / FOLDER, "test_batch.bin", b"short")
    with pytest.raises(Error, match=r"test_batch.bin: 5 bytes, expected 6,146"):
        fetch.read("cifar10", tmp_path)
    (tmp_path / FOLDER / "test_batch.bin").unlink()
    with pytest.raises(Error, match=r"there is no test_batch.bin in"):
        fetch.read("cifar10", tmp_path)
    (tmp_path / FOLDER / "test_batch.bin").mkdir()
    with pytest.raises(Error, match=r"test_batch.bin: it cannot be read"):
        fetch.read("cifar10", tmp_path)


def test_a_label_out_of_range_is_an_error(small_cifar, tmp_path):
    for name in MEMBERS:
        rows = cifar_member(name)
        rows[:, 0] = 10
        write(tmp_path / FOLDER, name, rows.tobytes())
    with pytest.raises(Error, match="a label is 10, expected 0 to 9"):
        fetch.read("cifar10", tmp_path)


# --- IDX -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_read_compressed_or_not(packed, small_mnist, tmp_path):
    files = mnist_files()
    for name, array in files.items():
        write(tmp_path / "mnist", name + ".gz" * packed, gzip.compress(idx(array)) if packed else idx(array))
    (images, labels), (test_images, test_labels) = fetch.read("mnist", tmp_path)
    assert np.array_equal(images[:, 0], files["train-images-idx3-ubyte"])
    assert np.array_equal(test_images[:, 0], files["t10k-images-idx3-ubyte"])
    assert (labels.tolist(), test_labels.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2])


LABELS = idx(np.arange(5, dtype=np.uint8))


@pytest.mark.parametrize(("content", "message"), [
    (b"", "it starts with , expected 00 00 08 01"),
    (LABELS[:6], "it starts with 00 00 08 01 00 00, expected 00 00 08 01 00 00 00 05"),
    (b"\x00\x00\x0d" + LABELS[3:], "it starts with 00 00 0d 01"),                   # floats
    (idx(np.zeros((5, 1), np.uint8)), "it starts with 00 00 08 02"),
    (idx(np.zeros(4, np.uint8)), "it starts with 00 00 08 01 00 00 00 04, expected .* 05"),
    (LABELS[:-1], "12 bytes, expected 13"),
    (LABELS + b"x", "more than 13 bytes, expected 13"),
    (LABELS[:-1] + b"\x0a", "a label is 10, expected 0 to 9"),
])
@pytest.mark.parametrize("packed", [True, False])
def test_an_idx_file_that_is_not_what_was_expected_is_an_error_that_says_why(
    content, message, packed, small_mnist, tmp_path
):
    for name, array in mnist_files().items():
        write(tmp_path / "mnist", name, idx(array))
    name = "train-labels-idx1-ubyte"
    (tmp_path / "mnist" / name).unlink()
    write(tmp_path / "mnist", name + ".gz" * packed, gzip.compress(content) if packed else content)
    with pytest.raises(Error, match=f"{name}.*: {message}"):
        fetch.read("mnist", tmp_path)


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:30], lambda c: c[:-8] + b"????" + c[-4:],
                                    lambda c: b"no gzip"])
def test_a_damaged_gz_file_is_an_error(damage, small_mnist, tmp_path):
    for name, array in mnist_files().items():
        write(tmp_path / "mnist", f"{name}.gz", gzip.compress(idx(array)))
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Error, match=r"t10k-images-idx3-ubyte.gz: it cannot be read"):
        fetch.read("mnist", tmp_path)
