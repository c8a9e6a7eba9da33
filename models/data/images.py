"""Images with labels: scikit-learn's handwritten digits, or the user's own in one of three layouts."""

from __future__ import annotations

import hashlib
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data import cifar, folders, idx
from nagraph.models.data.extras import missing

Array = np.ndarray[Any, Any]

#: One image in this many is held out, where the data do not say which.
PARTS = 4
LAYOUTS = ("MNIST's IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-...), CIFAR-10's binary batches "
           "(data_batch_1.bin ... test_batch.bin), or a folder of images for each class (with folders train and test above, or without)")


@dataclass(frozen=True, eq=False)
class Images:
    """Images are pixels with the classes of the pictures.

    pixels: float32 [n, channels, height, width] in [0, 1]. labels: int32 [n], indices into names.
    """

    pixels: Array
    labels: Array
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Images:
        """The images at an array of indices, or a slice."""
        return Images(self.pixels[index], self.labels[index], self.names)


@dataclass(frozen=True, eq=False)
class Split:
    """A split is images to learn from, and images held out. source: where they came from, in words. sha256: of pixels and labels."""

    train: Images
    held_out: Images
    source: str
    sha256: str


def digits(seed: int = 0) -> Split:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 and grey, a quarter held out with equal shares of each digit, by the seed.

    DataError if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise missing("scikit-learn", "the default data, handwritten digits,") from None
    found = load_digits()
    pixels, labels = found.images[:, None].astype(np.uint8), found.target
    # Split as scikit-learn does it, so that accuracies compare with those that others publish; its seeds have 32 bits.
    rows, out = train_test_split(np.arange(len(labels)), test_size=1 / PARTS, random_state=seed % 2**32, stratify=labels)
    return _split((pixels[rows], labels[rows]), (pixels[out], labels[out]), tuple(map(str, range(10))),
                  "scikit-learn's handwritten digits", 16)


def load(path: str | pathlib.Path | None, size: int | None = None, seed: int = 0) -> Split:
    """The images of a folder in one of the layouts understood, or (None) handwritten digits.

    size: side of the square that pictures in class folders are brought to; the other layouts have sizes of their own.
    seed: decides what is held out, where the data do not say. DataError says in one sentence what is wrong with the input.
    """
    if size is not None and size < 1:
        raise DataError(f"images are at least 1 pixel wide, the size {size} is not")
    if path is None:
        return _of_size(digits(seed), size)
    folder = pathlib.Path(path)
    try:
        if not folder.is_dir():
            raise DataError(f"{folder} does not exist" if not folder.exists() else f"{folder} is no folder; understood are {LAYOUTS}")
        for reader in (idx, cifar):
            if reader.recognises(folder):
                given, kept, classes = reader.read(folder)
                return _of_size(_split(given, kept, classes, str(folder)), size)
        if folders.recognises(folder):
            train, held_out, names = folders.read(folder, size)
            if held_out is None:
                out = held_out_rows(train[1], seed)
                train, held_out = (train[0][~out], train[1][~out]), (train[0][out], train[1][out])
            return _split(train, held_out, names, str(folder))
    except OSError as error:
        raise DataError(f"{error.filename or folder} can't be read: {error.strerror or error}") from None
    raise DataError(f"{folder} holds no images in a layout that is understood: {LAYOUTS}")


def held_out_rows(labels: Array, seed: int) -> Array:
    """Which rows to hold out, bool [n]: of each class a quarter, at least one, decided by the seed."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        (rows,) = np.nonzero(labels == label)
        chosen[rng.permutation(rows)[:max(1, round(len(rows) / PARTS))]] = True
    return chosen


def _of_size(split: Split, size: int | None) -> Split:
    height, width = split.train.pixels.shape[2:]
    if size is not None and (height, width) != (size, size):
        raise DataError(f"{split.source}: the images are {width} x {height}, not {size} x {size}; "
                        "a size can be chosen for images in class folders alone")
    return split


def _split(train: tuple[Array, Array], held_out: tuple[Array, Array], names: tuple[str, ...], source: str, white: int = 255) -> Split:
    """The split of pixels uint8 [n, channels, height, width], of which `white` is the largest, and labels [n]."""
    digest = hashlib.sha256()
    for pixels, labels in (train, held_out):
        digest.update(pixels.tobytes())
        digest.update(labels.astype("<i4").tobytes())

    def images(pixels: Array, labels: Array) -> Images:
        scaled = pixels.astype(np.float32)
        scaled /= white
        return Images(scaled, labels.astype(np.int32), names)

    return Split(images(*train), images(*held_out), source, digest.hexdigest())
