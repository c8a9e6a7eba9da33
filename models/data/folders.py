"""A folder for each class with images in it, with or without folders train and test above."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data.pictures import SUFFIXES, is_picture, read_all

Array = np.ndarray[Any, Any]

HELD_OUT = ("test", "val", "valid", "validation")


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders inside that people made; the others are file systems' and archives'."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _parts(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path | None] | None:
    """The folders of training and held-out data; the folder itself and None if it holds the classes."""
    train = folder / "train"
    if not train.is_dir() or any(map(is_picture, train.iterdir())):  # `train` may be a class, as in CIFAR-100
        return (folder, None) if _folders(folder) else None
    return train, next((folder / name for name in HELD_OUT if (folder / name).is_dir()), None)


def recognises(folder: pathlib.Path) -> bool:
    """Whether there is a class folder with an image."""
    parts = _parts(folder)
    return parts is not None and any(any(map(is_picture, kind.iterdir())) for kind in _folders(parts[0]))


def read(folder: pathlib.Path, size: int | None) -> tuple[tuple[Array, Array], tuple[Array, Array] | None, tuple[str, ...]]:
    """Training part and held-out part (None: there is none), each pixels uint8 [n, channels, height, width] and labels int32 [n].

    Names of the classes: those of the folders, sorted. DataError for empty classes, and for images that can't be read or differ
    in size.
    """
    parts = _parts(folder)
    assert parts is not None, "only folders that are recognised are read"
    train, held_out = parts
    names = tuple(p.name for p in _folders(train))
    if len(names) < 2:
        raise DataError(f"{train} holds the one class folder {names[0]}; there is nothing to tell apart")
    files = [_files(train / name) for name in names]
    kept: list[tuple[pathlib.Path, list[pathlib.Path]]] = []
    if held_out is None:
        for name, found in zip(names, files, strict=True):
            if len(found) < 2:
                raise DataError(f"the class folder {train / name} holds one image; one to learn from and one to hold out are needed")
    else:
        unknown = [p.name for p in _folders(held_out) if p.name not in names]
        if unknown:
            raise DataError(f"{held_out} has the class {unknown[0]}, which {train} does not have")
        kept = [(p, _files(p)) for p in _folders(held_out)]
        if not kept:
            raise DataError(f"{held_out} holds no class folders, as {train} does")
    # In one go, so that all images are of one size and have the same channels.
    pixels = read_all([path for group in [*files, *(found for _, found in kept)] for path in group], size)
    labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(group) for group in files])
    whole = len(labels)
    if held_out is None:
        return (pixels, labels), None, names
    rest = [names.index(p.name) for p, found in kept for _ in found]
    return (pixels[:whole], labels), (pixels[whole:], np.array(rest, np.int32)), names


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    found = sorted(filter(is_picture, folder.iterdir()))
    if not found:
        raise DataError(f"the class folder {folder} holds no images ({', '.join(SUFFIXES)})")
    return found
