"""Text as tokens: what a tokenizer is, and the two that need no library, characters and bytes.

`subwords` has byte pairs and word pieces; `tokenization` trains and reads a tokenizer of any of these kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from nagraph.errors import DataError

Ids = np.ndarray[Any, Any]
#: Characters that are looked at together, so that what a long text takes is the text and its tokens.
BLOCK = 1 << 18


class Tokenizer(Protocol):
    """A tokenizer turns text into ids below `size` and back. ids: int32 [tokens]. The JSON of `to_json` is all that `from_json` needs."""

    kind: ClassVar[str]

    @property
    def size(self) -> int: ...
    def encode(self, text: str) -> Ids: ...
    def decode(self, ids: Any) -> str: ...
    def to_json(self) -> dict[str, Any]: ...
    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self: ...


def checked(ids: Any, size: int) -> Ids:
    """Ids as a flat array of integers. DataError unless each is a token, from 0 to size - 1."""
    found = np.asarray(ids).ravel()
    if not found.size:
        return found.astype(np.int64)
    if found.dtype.kind not in "iu":
        raise DataError(f"tokens are whole numbers, got {found.dtype}")
    odd = found[(found < 0) | (found >= size)]
    if odd.size:
        raise DataError(f"{odd[0]} is no token of a tokenizer with {size:,} of them")
    return found


@dataclass(frozen=True)
class Characters:
    """Characters as tokens: each is its index in `symbols`."""

    symbols: str
    kind: ClassVar[str] = "characters"

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Those that occur in the texts, sorted."""
        return cls("".join(sorted(set().union(*texts))))

    @property
    def size(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> Ids:
        """DataError names characters that are no symbols of this one."""
        known, codes = _codes(self.symbols), _codes(text)
        order = np.argsort(known)
        found = order[np.minimum(np.searchsorted(known, codes, sorter=order), len(known) - 1)]
        if (known[found] != codes).any():
            shown = " ".join(map(repr, sorted(set(text) - set(self.symbols))[:8]))
            raise DataError(f"the model does not know the characters {shown}; it was trained on a text without them")
        return found.astype(np.int32)

    def decode(self, ids: Any) -> str:
        return "".join(self.symbols[i] for i in checked(ids, self.size))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "symbols": self.symbols}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        symbols = found.get("symbols")
        if not isinstance(symbols, str) or not symbols or len(set(symbols)) < len(symbols):
            raise DataError("a tokenizer of characters names its symbols, each once; this one does not")
        return cls(symbols)


@dataclass(frozen=True)
class Bytes:
    """Bytes of UTF-8 as tokens: any text, 256 of them, nothing to train."""

    kind: ClassVar[str] = "bytes"
    size: ClassVar[int] = 256

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)

    def decode(self, ids: Any) -> str:
        """What is no UTF-8, as a character cut in half, becomes U+FFFD."""
        return checked(ids, self.size).astype(np.uint8).tobytes().decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        return cls()


def _codes(text: str) -> Ids:
    """The code points of the characters."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def encode_long(tokenizer: Tokenizer, text: str) -> Ids:
    """The ids in the smallest of uint8, uint16 and int32; of characters and bytes with little else in memory."""
    if isinstance(tokenizer, Bytes):
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    dtype = np.min_scalar_type(tokenizer.size - 1) if tokenizer.size <= 1 << 16 else np.dtype(np.int32)
    if not isinstance(tokenizer, Characters):
        return tokenizer.encode(text).astype(dtype)
    ids = np.empty(len(text), dtype)
    for first in range(0, len(text), BLOCK):
        ids[first:first + BLOCK] = tokenizer.encode(text[first:first + BLOCK])
    return ids
