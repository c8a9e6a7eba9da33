"""Guessing a hidden token from the two beside it, by counting: the baseline that a masked language model has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

Ids = np.ndarray[Any, Any]


def _most_frequent(keys: Ids, size: int) -> tuple[Ids, Ids]:
    """Of keys context * size + token: the contexts, sorted, and the token most often seen in each (of equals the smallest)."""
    keys = np.sort(keys)
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[:len(keys)])
    counts = np.diff(np.append(first, len(keys)))
    contexts, tokens = keys[first] // np.uint64(size), keys[first] % np.uint64(size)
    order = np.lexsort((tokens, -counts, contexts))
    contexts, tokens = contexts[order], tokens[order]
    best = np.flatnonzero(np.append(True, contexts[1:] != contexts[:-1])[:len(contexts)])
    return contexts[best], tokens[best].astype(np.int32)


def _look_up(table: tuple[Ids, Ids], contexts: Ids, otherwise: Ids) -> Ids:
    keys, tokens = table
    if not len(keys):
        return otherwise
    at = np.minimum(np.searchsorted(keys, contexts), len(keys) - 1)
    return np.where(keys[at] == contexts, tokens[at], otherwise)


class Neighbours:
    """Neighbours guess the most frequent token between the two beside it.

    Where these were never seen together it is that after the left one, before the right one, or of all.

    ids: int32 [tokens], the text. size: how many different tokens there are. ValueError if three of them do not fit 64 bits.
    """

    def __init__(self, ids: Ids, size: int):
        if size**3 > 2**64:
            raise ValueError(f"three of {size:,} tokens do not fit 64 bits; use a smaller vocabulary")
        tokens, self._base = np.asarray(ids).astype(np.uint64), np.uint64(size)
        left, middle, right = tokens[:-2], tokens[1:-1], tokens[2:]
        self._both = _most_frequent(self._pair(self._pair(left, right), middle), size)
        self._left = _most_frequent(self._pair(tokens[:-1], tokens[1:]), size)
        self._right = _most_frequent(self._pair(tokens[1:], tokens[:-1]), size)
        self._any = int(np.bincount(ids, minlength=size).argmax())

    def _pair(self, a: Ids, b: Ids) -> Ids:
        return a * self._base + b

    def guess(self, ids: Ids) -> Ids:
        """The guess at each position from those beside it, int32 of the shape of ids [..., time]; row ends have one neighbour."""
        left, right = ids[..., :-1].astype(np.uint64), ids[..., 1:].astype(np.uint64)
        found = np.full(ids.shape, self._any, np.int32)
        found[..., :-1] = _look_up(self._right, right, found[..., :-1])
        found[..., 1:] = _look_up(self._left, left, found[..., 1:])
        found[..., 1:-1] = _look_up(self._both, self._pair(left[..., :-1], right[..., 1:]), found[..., 1:-1])
        return found

    def accuracy(self, ids: Ids, labels: Ids, weights: Ids) -> float:
        """The share of positions with weight 1 guessed right, from the ids that a model sees, masks and all."""
        chosen = weights > 0
        return float((self.guess(ids)[chosen] == labels[chosen]).mean())
