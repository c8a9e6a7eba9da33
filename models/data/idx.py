"""MNIST's IDX files: two zero bytes, the element type, the number of axes, their sizes (big-endian uint32), the elements.

Fashion-MNIST and KMNIST come under the same names. Files may be gzipped. Source: LeCun, Cortes and Burges 1998.
"""

from __future__ import annotations

import gzip
import math
import pathlib
import zlib
from typing import IO, Any, cast

import numpy as np

from nagraph.errors import DataError
from nagraph.files import open_regular

Array = np.ndarray[Any, Any]

CLASSES = 10
_BYTES = 8  # the code of the element type uint8
_CHUNK = 1 << 20


def _names(part: str, kind: str, axes: int) -> tuple[str, ...]:
    """The names that a file goes by: unpackers disagree about the dot."""
    return tuple(f"{part}-{kind}{dot}idx{axes}-ubyte{end}" for end in ("", ".gz") for dot in "-.")


def _find(folder: pathlib.Path, part: str, kind: str, axes: int) -> pathlib.Path | None:
    return next((folder / name for name in _names(part, kind, axes) if (folder / name).is_file()), None)


def recognises(folder: pathlib.Path) -> bool:
    """Whether any of the four files is there."""
    return any(_find(folder, part, kind, axes) for part in ("train", "t10k") for kind, axes in (("images", 3), ("labels", 1)))


def read(folder: pathlib.Path) -> tuple[tuple[Array, Array], tuple[Array, Array], tuple[str, ...]]:
    """Training and held-out (t10k) part, each pixels uint8 [n, 1, height, width] and labels uint8 [n]; names of the classes.

    DataError names the file that is missing, damaged, or disagrees with another.
    """
    train, held_out = _part(folder, "train"), _part(folder, "t10k")
    if train[0].shape[1:] != held_out[0].shape[1:]:
        (_, _, a, b), (_, _, c, d) = train[0].shape, held_out[0].shape
        raise DataError(f"{folder} holds images of different sizes: {a} x {b} for training, {c} x {d} held out")
    return train, held_out, tuple(map(str, range(CLASSES)))


def _part(folder: pathlib.Path, part: str) -> tuple[Array, Array]:
    paths = []
    for kind, axes in (("images", 3), ("labels", 1)):
        path = _find(folder, part, kind, axes)
        if path is None:
            raise DataError(f"{folder} lacks {_names(part, kind, axes)[0]} (or the same with .gz)")
        paths.append(path)
    pixels, labels = read_file(paths[0], 3), read_file(paths[1], 1)
    if len(pixels) != len(labels):
        raise DataError(f"{paths[0]} holds {len(pixels):,} images, but {paths[1].name} {len(labels):,} labels")
    if not pixels.size:
        raise DataError(f"{paths[0]} holds no pixels: its sizes are {' x '.join(map(str, pixels.shape))}")
    if labels.max() >= CLASSES:
        at = int(np.argmax(labels >= CLASSES))
        raise DataError(f"{paths[1]} has the label {labels[at]} at position {at}; labels go from 0 to {CLASSES - 1}")
    return pixels[:, None], labels


def read_file(path: pathlib.Path, axes: int) -> Array:
    """The array in an IDX file of bytes, uint8 with that many axes. DataError for anything else."""
    try:
        with open_regular(path) as raw, cast(IO[bytes], gzip.open(raw) if path.suffix == ".gz" else raw) as file:
            return _array(path, file, axes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file: {error}") from None


def _array(path: pathlib.Path, file: IO[bytes], axes: int) -> Array:
    length = 4 + 4 * axes
    header = file.read(length)
    expected = bytes((0, 0, _BYTES, axes))
    if len(header) >= 4 and header[:4] != expected:
        raise DataError(f"{path} is no IDX file of bytes with {axes} {'axis' if axes == 1 else 'axes'}: "
                        f"its magic number is 0x{header[:4].hex()} instead of 0x{expected.hex()}")
    if len(header) < length:
        raise DataError(f"{path} is truncated: it holds {len(header):,} bytes, its header alone takes {length:,}")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
    wanted = math.prod(shape)
    # Chunk by chunk, for a damaged header may promise more bytes than there is memory.
    content = bytearray()
    while len(content) <= wanted and (chunk := file.read(_CHUNK)):
        content += chunk
    if len(content) < wanted:
        raise DataError(f"{path} is truncated: it holds {length + len(content):,} bytes, "
                        f"{' x '.join(map(str, shape))} elements take {length + wanted:,}")
    if len(content) > wanted:
        raise DataError(f"{path} holds more than the {length + wanted:,} bytes that {' x '.join(map(str, shape))} elements take")
    return np.frombuffer(content, np.uint8).reshape(shape)
