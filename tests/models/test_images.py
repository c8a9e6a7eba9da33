"""Images: digits, the three layouts, what is held out, and input that is none of these, each with its sentence."""

from __future__ import annotations

import gzip
import hashlib
import pathlib
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.idx import read_file
from nagraph.models.data.images import digits, load

Array = np.ndarray[Any, Any]


# -- digits ------------------------------------------------------------------------------------------------


def test_digits_are_the_default() -> None:
    pytest.importorskip("sklearn")
    found = load(None)
    assert found.source == "scikit-learn's handwritten digits"
    assert found.train.pixels.shape == (1347, 1, 8, 8) and found.held_out.pixels.shape == (450, 1, 8, 8)
    for part in (found.train, found.held_out):
        assert part.pixels.dtype == np.float32 and part.pixels.min() == 0 and part.pixels.max() == 1
        assert part.labels.dtype == np.int32 and len(part) == len(part.labels) and part.names == tuple("0123456789")
    shares = np.bincount(found.held_out.labels) / (np.bincount(found.train.labels) + np.bincount(found.held_out.labels))
    assert np.abs(shares - 0.25).max() < 0.01


def test_the_seed_decides_which_digits_are_held_out() -> None:
    pytest.importorskip("sklearn")
    one, again, other = digits(3), digits(3), digits(4)
    assert np.array_equal(one.held_out.pixels, again.held_out.pixels) and one.sha256 == again.sha256
    assert one.sha256 != other.sha256 and not np.array_equal(one.held_out.pixels, other.held_out.pixels)
    assert digits(2**32 + 3).sha256 == one.sha256, "seeds may be longer than scikit-learn's"
    everything = [sorted(p.tobytes() for part in (s.train, s.held_out) for p in part.pixels) for s in (one, other)]
    assert everything[0] == everything[1], "no digit is lost"


def test_some_of_the_images() -> None:
    pytest.importorskip("sklearn")
    train = digits().train
    some = train[np.array([5, 2])]
    assert len(some) == 2 and np.array_equal(some.pixels[1], train.pixels[2]) and some.labels[0] == train.labels[5]
    assert len(train[:100]) == 100


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"^the default data, .*, needs scikit-learn, which is not installed: pip install 'nag.*'$"):
        load(None)


# -- IDX files ---------------------------------------------------------------------------------------------


def idx(array: Array) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def mnist(folder: pathlib.Path, train: int = 12, test: int = 5, end: str = "", dot: str = "-") -> tuple[Array, Array]:
    """Write a small MNIST; its pixels and labels, training ones first."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (train + test, 6, 7)), rng.integers(0, 10, train + test)
    for part, rows in (("train", slice(train)), ("t10k", slice(train, None))):
        for kind, array in ((f"images{dot}idx3", pixels[rows]), (f"labels{dot}idx1", labels[rows])):
            raw = idx(array)
            (folder / f"{part}-{kind}-ubyte{end}").write_bytes(gzip.compress(raw) if end else raw)
    return pixels, labels


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("dot", "-.")
def test_idx_files_round_trip(end: str, dot: str, tmp_path: pathlib.Path) -> None:
    pixels, labels = mnist(tmp_path, end=end, dot=dot)
    found = load(str(tmp_path))
    assert np.array_equal(found.train.pixels, pixels[:12, None].astype(np.float32) / 255) and found.train.pixels.dtype == np.float32
    assert np.array_equal(found.held_out.pixels, pixels[12:, None].astype(np.float32) / 255)
    assert np.array_equal(np.concatenate([found.train.labels, found.held_out.labels]), labels) and found.train.labels.dtype == np.int32
    assert found.source == str(tmp_path) and found.train.names == tuple("0123456789")
    raw = b"".join(pixels[rows].astype(np.uint8).tobytes() + labels[rows].astype("<i4").tobytes() for rows in (slice(12), slice(12, None)))
    assert found.sha256 == hashlib.sha256(raw).hexdigest()


def changed(folder: pathlib.Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BAD_IDX: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "truncated": (lambda f: changed(f, IMAGES, lambda b: b[:-100]),
                  f"{IMAGES} is truncated: it holds 420 bytes, 12 x 6 x 7 elements take 520"),
    "header truncated": (lambda f: changed(f, IMAGES, lambda b: b[:9]),
                         f"{IMAGES} is truncated: it holds 9 bytes, its header alone takes 16"),
    "empty": (lambda f: changed(f, LABELS, lambda b: b""), f"{LABELS} is truncated: it holds 0 bytes, its header alone takes 8"),
    "too long": (lambda f: changed(f, LABELS, lambda b: b + b"x"), f"{LABELS} holds more than the 20 bytes that 12 elements take"),
    "huge sizes": (lambda f: changed(f, IMAGES, lambda b: b[:4] + b"\xff" * 12 + b[16:]),
                   "is truncated: it holds 520 bytes, 4294967295 x 4294967295 x 4294967295 elements take"),
    "magic number": (lambda f: changed(f, IMAGES, lambda b: b"\x89PNG" + b[4:]),
                     f"{IMAGES} is no IDX file of bytes with 3 axes: its magic number is 0x89504e47 instead of 0x00000803"),
    "labels for images": (lambda f: (f / LABELS).write_bytes((f / IMAGES).read_bytes()),
                          f"{LABELS} is no IDX file of bytes with 1 axis: its magic number is 0x00000803 instead of 0x00000801"),
    "counts differ": (lambda f: (f / LABELS).write_bytes(idx(np.zeros(11))), f"{IMAGES} holds 12 images, but {LABELS} 11 labels"),
    "label out of range": (lambda f: (f / LABELS).write_bytes(idx(np.arange(12) % 11)),
                           f"{LABELS} has the label 10 at position 10; labels go from 0 to 9"),
    "no pixels": (lambda f: [(f / IMAGES).write_bytes(idx(np.zeros((0, 6, 7)))), (f / LABELS).write_bytes(idx(np.zeros(0)))],
                  f"{IMAGES} holds no pixels: its sizes are 0 x 6 x 7"),
    "sizes differ": (lambda f: (f / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((5, 7, 6)))),
                     "holds images of different sizes: 6 x 7 for training, 7 x 6 held out"),
    "file missing": (lambda f: (f / "t10k-labels-idx1-ubyte").unlink(), r"lacks t10k-labels-idx1-ubyte \(or the same with .gz\)"),
}


@pytest.mark.parametrize("name", BAD_IDX)
def test_bad_idx_files(name: str, tmp_path: pathlib.Path) -> None:
    mnist(tmp_path)
    spoil, message = BAD_IDX[name]
    spoil(tmp_path)
    refused(tmp_path, message)


@pytest.mark.parametrize("chunk", [1, 3, 4, 12, 100])
def test_idx_files_are_read_in_chunks(chunk: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nagraph.models.data.idx._CHUNK", chunk)
    (tmp_path / "a").write_bytes(idx(np.arange(12)))
    assert read_file(tmp_path / "a", 1).tolist() == list(range(12))
    changed(tmp_path, "a", lambda b: b + b"x")
    with pytest.raises(DataError, match="holds more than the 20 bytes"):
        read_file(tmp_path / "a", 1)


def refused(path: pathlib.Path, message: str, **options: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")


@pytest.mark.parametrize("change, message", [
    (lambda b: b[:-20], "is a damaged gzip file: Compressed file ended"),
    (lambda b: b"not gzip" + b, "is a damaged gzip file: Not a gzipped file"),
    (lambda b: b[:30] + b"\xff" * 40 + b[70:], "is a damaged gzip file: "),
    (lambda b: b[:-8] + b"\0" * 8, "is a damaged gzip file: CRC check failed"),
], ids=["truncated", "plain", "garbled", "checksum"])
def test_damaged_gzip_files(change: Callable[[bytes], bytes], message: str, tmp_path: pathlib.Path) -> None:
    mnist(tmp_path, end=".gz")
    changed(tmp_path, f"{IMAGES}.gz", change)
    refused(tmp_path, f"{IMAGES}.gz {message}")


# -- CIFAR-10 ----------------------------------------------------------------------------------------------


def cifar(folder: pathlib.Path, batches: int = 2, size: int = 4) -> Array:
    """Write small batches, the last one the test; all records, uint8 [n, 3073]."""
    records = np.random.default_rng(0).integers(0, 256, (batches + 1, size, 3073), np.uint8)
    records[..., 0] %= 10
    for i, batch in enumerate(records):
        (folder / (f"data_batch_{i + 1}.bin" if i < batches else "test_batch.bin")).write_bytes(batch.tobytes())
    return records.reshape(-1, 3073)


def test_cifar_round_trip(tmp_path: pathlib.Path) -> None:
    records = cifar(tmp_path)
    found = load(tmp_path, size=32)
    assert found.train.pixels.shape == (8, 3, 32, 32) and found.held_out.pixels.shape == (4, 3, 32, 32)
    pixels = np.concatenate([found.train.pixels, found.held_out.pixels])
    assert np.array_equal(np.rint(pixels * 255).reshape(12, -1), records[:, 1:])
    assert np.array_equal(np.concatenate([found.train.labels, found.held_out.labels]), records[:, 0])
    assert found.train.names[0] == "airplane" and found.train.names[9] == "truck"


def test_the_pickled_version_of_cifar(tmp_path: pathlib.Path) -> None:
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (tmp_path / name).write_bytes(b"\x80\x02}q\x01.")
    refused(tmp_path, "holds CIFAR-10's Python version, whose files are pickles, .* use the binary version, cifar-10-binary.tar.gz")


@pytest.mark.parametrize("spoil, message", [
    (lambda f: changed(f, "data_batch_2.bin", lambda b: b[:-73]),
     "data_batch_2.bin is truncated: it holds 12,219 bytes, which is 3 images of 3,073 and 3,000 bytes of another"),
    (lambda f: changed(f, "data_batch_1.bin", lambda b: b[:3073] + b"\x0b" + b[3074:]),
     "data_batch_1.bin has the label 11 at image 1; labels go from 0 to 9"),
    (lambda f: changed(f, "test_batch.bin", lambda b: b""), "test_batch.bin is empty"),
    (lambda f: (f / "test_batch.bin").unlink(), "lacks test_batch.bin"),
    (lambda f: [p.unlink() for p in f.glob("data*")], "lacks data_batch_1.bin"),
], ids=["truncated", "label", "empty", "no test", "no training"])
def test_bad_cifar(spoil: Callable[[pathlib.Path], Any], message: str, tmp_path: pathlib.Path) -> None:
    cifar(tmp_path)
    spoil(tmp_path)
    refused(tmp_path, message)


# -- where there is nothing of the kind ----------------------------------------------------------------------


def test_what_is_no_folder_of_images(tmp_path: pathlib.Path) -> None:
    refused(tmp_path / "none", "none does not exist")
    (tmp_path / "notes.txt").write_text("words")
    refused(tmp_path / "notes.txt", r"notes.txt is no folder; understood are MNIST's IDX files .* CIFAR-10's binary batches .* each class")
    refused(tmp_path, "holds no images in a layout that is understood: MNIST's IDX files")
    (tmp_path / "loose.png").write_bytes(b"a picture beside no class folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "holds no images in a layout that is understood: MNIST's IDX files")


def test_a_size_that_the_data_do_not_have(tmp_path: pathlib.Path) -> None:
    mnist(tmp_path)
    refused(tmp_path, "the images are 7 x 6, not 28 x 28; a size can be chosen for images in class folders alone", size=28)
    refused(tmp_path, "images are at least 1 pixel wide, the size 0 is not", size=0)
