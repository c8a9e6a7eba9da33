"""Pictures in files, decoded by Pillow and brought to one size."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data.extras import missing

Array = np.ndarray[Any, Any]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


def is_picture(path: pathlib.Path) -> bool:
    """Whether the name is that of a picture; hidden files are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def read(path: pathlib.Path, size: int | None = None) -> Array:
    """A picture, uint8 [1 or 3 channels, height, width]; with a size, its middle square scaled to size x size.

    Turned as its EXIF data say. Grey stays one channel; all else becomes red, green, blue.
    DataError if the file is no picture, or a damaged one.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise missing("Pillow", f"reading the image {path}") from None
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):  # Pillow would clip sixteen bits to eight, not scale them
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
            if size is not None and image.size != (size, size):
                image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except UnidentifiedImageError:
        raise DataError(f"{path} is {'empty' if not path.stat().st_size else 'no image in a format that Pillow knows'}") from None
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except Exception as error:  # decoders of damaged files raise OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"{path} can't be read as an image: {' '.join(str(error).split()) or type(error).__name__}") from None
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_all(paths: Iterable[pathlib.Path], size: int | None = None) -> Array:
    """Pictures, uint8 [n, channels, height, width]: one channel if all are grey, else three.

    DataError if they differ in size and no size is given.
    """
    found: list[Array] = []
    first = None
    for path in paths:
        pixels = read(path, size)
        first = first or path
        if found and pixels.shape[1:] != found[0].shape[1:]:
            (_, a, b), (_, c, d) = found[0].shape, pixels.shape
            raise DataError(f"{first} is {b} x {a} pixels, {path} {d} x {c}; give a size to bring all images to")
        found.append(pixels)
    channels = max(p.shape[0] for p in found)
    return np.stack([np.broadcast_to(p, (channels, *p.shape[1:])) for p in found])
