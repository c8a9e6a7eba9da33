"""Text as symbols: the user's own files, or the documentation that ships with Python."""

from __future__ import annotations

import hashlib
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data.files import read
from nagraph.models.data.tokens import BLOCK, Characters, encode_long

#: A text is split into this many parts; the last is held out.
PARTS = 10


@dataclass(frozen=True, eq=False)
class Text:
    """A text is ids of its symbols (sorted characters), the last tenth held out.

    ids: [characters], of the smallest dtype. source: where it came from, in words. sha256: of the UTF-8 text.
    """

    ids: np.ndarray[Any, Any]
    symbols: str
    source: str
    sha256: str

    @property
    def train(self) -> np.ndarray[Any, Any]:
        return self.ids[:len(self.ids) - len(self.ids) // PARTS]

    @property
    def held_out(self) -> np.ndarray[Any, Any]:
        return self.ids[len(self.ids) - len(self.ids) // PARTS:]

    def encode(self, text: str) -> np.ndarray[Any, Any]:
        """The ids of a text. DataError names characters that are no symbols of this one."""
        return encode(text, self.symbols)

    def decode(self, ids: Any) -> str:
        return Characters(self.symbols).decode(ids)


def encode(text: str, symbols: str) -> np.ndarray[Any, Any]:
    """The index of each character in `symbols`."""
    return Characters(symbols).encode(text)


def as_text(content: str, source: str) -> Text:
    """A text with its symbols."""
    known = Characters.of([content])
    digest = hashlib.sha256()
    for first in range(0, len(content), BLOCK):
        digest.update(content[first:first + BLOCK].encode())
    return Text(encode_long(known, content), known.symbols, source, digest.hexdigest())


def python_documentation() -> Text:
    """The topics of Python's own documentation, English text that ships with every Python."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError("this Python ships without pydoc_data, the default text; name a text with --data FILE") from None
    return as_text("\n".join(topics[name] for name in sorted(topics)), "Python's own documentation")


def load(path: str | pathlib.Path | None, context: int) -> Text:
    """The text of a file, of all text files in a folder, or (None) Python's documentation, with room for `context`."""
    text = python_documentation() if path is None else as_text("\n".join(d.text for d in read(path)), str(path))
    needed = (context + 1) * PARTS
    if len(text.ids) < needed:
        raise DataError(f"{text.source} holds {len(text.ids):,} characters; training needs at least {needed:,} "
                        f"(one context of {context} in each of {PARTS} parts)")
    return text


def batch(ids: np.ndarray[Any, Any], context: int, size: int, seed: int, step: int) -> np.ndarray[Any, Any]:
    """`size` windows of context + 1 ids, int32 [size, context + 1]; a function of seed and step alone."""
    starts = np.random.default_rng((seed, step)).integers(0, len(ids) - context, size)
    return ids[starts[:, None] + np.arange(context + 1)].astype(np.int32)
