"""Photographs with several captions each, in the layout of Flickr8k: a folder of images and a file of captions.

captions.txt is CSV with the header image,caption; Flickr8k.token.txt has lines image.jpg#0, tab, caption. The captions lie in
the folder itself or in one inside it, and so do the images. Source: Hodosh, Young and Hockenmaier 2013.
"""

from __future__ import annotations

import csv
import hashlib
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.files import read_text
from nagraph.models.data.pictures import is_picture, read_all

Array = np.ndarray[Any, Any]
Generator = np.random.Generator

NAMES = ("captions.txt", "Flickr8k.token.txt")
LAYOUT = ("a folder with images (inside a folder Images, say) and captions.txt, which is CSV with the header image,caption, "
          "or Flickr8k.token.txt")
#: One image in this many is held out.
PARTS = 10


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs are images, float32 [n, channels, size, size] in [0, 1], each with at least one caption."""

    pixels: Array
    captions: tuple[tuple[str, ...], ...]
    source: str
    sha256: str

    def draw(self, rng: Generator, n: int) -> tuple[Array, list[str], Array]:
        """n pairs: images float32 [n, channels, size, size], a caption of each at random, ids int64 [n] of the images."""
        return self._pairs(rng, rng.integers(0, len(self.captions), n))

    def gallery(self, rng: Generator, n: int = 256) -> tuple[Array, list[str], Array]:
        """n pairs of distinct images. DataError if there are fewer."""
        if n > len(self.captions):
            raise DataError(f"{self.source} holds {len(self.captions):,} images out of training, so there is no gallery of {n:,}")
        return self._pairs(rng, rng.permutation(len(self.captions))[:n])

    def _pairs(self, rng: Generator, rows: Array) -> tuple[Array, list[str], Array]:
        texts = [self.captions[i][int(share * len(self.captions[i]))] for i, share in zip(rows, rng.random(len(rows)), strict=True)]
        return self.pixels[rows], texts, np.asarray(rows, np.int64)


def load(path: str | pathlib.Path, size: int, seed: int = 0) -> tuple[Photographs, Photographs]:
    """Photographs to learn from and a tenth held out by the seed, all cut to their middle square and scaled to size x size.

    An image and its captions are on one side. DataError says in one sentence what is wrong with the input.
    """
    folder = pathlib.Path(path)
    try:
        if not folder.is_dir():
            raise DataError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}; needed is {LAYOUT}")
        places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
        file = next((place / name for place in places for name in NAMES if (place / name).is_file()), None)
        if file is None:
            raise DataError(f"{folder} holds no captions; needed is {LAYOUT}")
        said = _captions(file)
        files = {p.name: p for place in places for p in sorted(place.iterdir()) if is_picture(p)}
    except OSError as error:
        raise DataError(f"{error.filename or folder} can't be read: {error.strerror or error}") from None
    names = sorted(name for name in said if name in files)
    absent = [name for name in said if name not in files]
    if len(absent) * 100 > len(said):  # Flickr8k's own list names an image that it does not hold, one of 8,092
        raise DataError(f"{file} names {len(absent):,} images of {len(said):,} that {folder} does not hold, the first is {absent[0]}")
    if len(names) < 2:
        raise DataError(f"{file} describes {len(names)} image; one to learn from and one to hold out are needed")
    pixels = read_all((files[name] for name in names), size).astype(np.float32)
    pixels /= 255
    captions = [tuple(said[name]) for name in names]
    digest = hashlib.sha256(repr((seed, captions)).encode())
    digest.update(pixels.tobytes())
    order = np.random.default_rng(seed).permutation(len(names))
    kept = max(1, len(names) // PARTS)

    def part(rows: Array) -> Photographs:
        return Photographs(pixels[rows], tuple(captions[i] for i in rows), str(folder), digest.hexdigest())

    return part(np.sort(order[kept:])), part(np.sort(order[:kept]))


def _captions(file: pathlib.Path) -> dict[str, list[str]]:
    """The captions of each image that a file names."""
    lines = read_text(file, DataError, most=None).removeprefix("\ufeff").split("\n")
    found: dict[str, list[str]] = {}
    table = file.name == NAMES[0]
    if table and lines[0].replace(" ", "").lower() != "image,caption":
        raise DataError(f"{file}: line 1 is not the header image,caption")
    for number, line in enumerate(lines[table:], 1 + table):
        if not line.strip():
            continue
        # A caption with commas may stand there without quotes: whatever follows the first comma is caption.
        try:
            name, *rest = next(csv.reader([line])) if table else line.split("\t", 1)
        except csv.Error as error:
            raise DataError(f"{file}: line {number} is no CSV: {error}") from None
        name, text = name.strip() if table else name.partition("#")[0].strip(), ",".join(rest).strip()
        if not name or not text:
            raise DataError(f"{file}: line {number} is no image and its caption with a {'comma' if table else 'tab'} between")
        found.setdefault(name, []).append(text)
    if not found:
        raise DataError(f"{file} holds no captions")
    return found
