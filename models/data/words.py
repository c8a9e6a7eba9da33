"""Captions as numbers of their words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nagraph.errors import DataError

Array = np.ndarray[Any, Any]

PADDING, START, END, UNKNOWN = range(4)
_SPECIAL = ("<padding>", "<start>", "<end>", "<unknown>")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; what is between them is left out."""
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True)
class WordVocabulary:
    """A vocabulary is words and their ids: 0 padding, 1 start, 2 end, 3 unknown, then the words in order."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str], most: int | None = None) -> WordVocabulary:
        """The words of the texts, the commonest first, at most `most` of them. DataError if there is none."""
        counts = Counter(word for text in texts for word in words_of(text))
        if not counts:
            raise DataError("the captions hold no words")
        return cls(tuple(sorted(counts, key=lambda word: (-counts[word], word))[:most]))

    @property
    def size(self) -> int:
        """How many ids there are."""
        return len(_SPECIAL) + len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, len(_SPECIAL))}

    def encode(self, text: str, length: int, known: bool = False) -> Array:
        """Start, words, end, padding, int32 [length]; of too long a text the first words.

        A word that is not in the vocabulary is the unknown one, or (known=True) a DataError that names it.
        """
        if length < 2:
            raise DataError(f"a caption takes a start and an end, the length {length} has no room for them")
        words = words_of(text)[:length - 2]
        for word in words:
            if known and word not in self._ids:
                raise DataError(f"the vocabulary of {len(self.words):,} words does not have {word!r}")
        ids = [START, *(self._ids.get(word, UNKNOWN) for word in words), END]
        return np.array(ids + [PADDING] * (length - len(ids)), np.int32)

    def encode_all(self, texts: Iterable[str], length: int) -> Array:
        """The ids of several texts, int32 [texts, length]."""
        return np.stack([self.encode(text, length) for text in texts])

    def decode(self, ids: Any) -> str:
        """The words of ids, without start, end and padding."""
        every = (*_SPECIAL, *self.words)
        return " ".join(every[i] for i in np.asarray(ids).ravel() if i not in (PADDING, START, END))
