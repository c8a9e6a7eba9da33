"""CIFAR-10's binary batches: records of 1 byte of label and 3 x 32 x 32 bytes of pixels. Source: Krizhevsky 2009."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.files import read_bytes

Array = np.ndarray[Any, Any]

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32


def _batches(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.glob("data_batch_*.bin"))


def recognises(folder: pathlib.Path) -> bool:
    """Whether batches of CIFAR-10 are there, be they pickles."""
    return bool(_batches(folder)) or any((folder / name).is_file() for name in ("test_batch.bin", "data_batch_1", "test_batch"))


def read(folder: pathlib.Path) -> tuple[tuple[Array, Array], tuple[Array, Array], tuple[str, ...]]:
    """Training and held-out (test) part, each pixels uint8 [n, 3, 32, 32] and labels uint8 [n]; names of the classes.

    DataError for batches that are missing, truncated or pickles, and for labels that no class has.
    """
    batches, test = _batches(folder), folder / "test_batch.bin"
    if not batches and not test.is_file():
        raise DataError(f"{folder} holds CIFAR-10's Python version, whose files are pickles, and to read a pickle is to run it; "
                        "use the binary version, cifar-10-binary.tar.gz")
    if not batches or not test.is_file():
        raise DataError(f"{folder} lacks {'test_batch.bin' if batches else 'data_batch_1.bin'}")
    parts = [_read_file(path) for path in batches]
    return (np.concatenate([p for p, _ in parts]), np.concatenate([n for _, n in parts])), _read_file(test), NAMES


def _read_file(path: pathlib.Path) -> tuple[Array, Array]:
    raw = read_bytes(path)
    if not raw:
        raise DataError(f"{path} is empty")
    if len(raw) % RECORD:
        raise DataError(f"{path} is truncated: it holds {len(raw):,} bytes, which is {len(raw) // RECORD:,} images of {RECORD:,} "
                        f"and {len(raw) % RECORD:,} bytes of another")
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() >= len(NAMES):
        at = int(np.argmax(labels >= len(NAMES)))
        raise DataError(f"{path} has the label {labels[at]} at image {at}; labels go from 0 to {len(NAMES) - 1}")
    return records[:, 1:].reshape(-1, *SHAPE), labels
