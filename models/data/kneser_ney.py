"""Interpolated Kneser-Ney: the best smoothed n-gram, the baseline that a language model has to beat.

    p_n(c | h) = max(count(h c) - D, 0) / count(h) + D types(h) / count(h) p_{n-1}(c | h')

with h' the context without its first symbol. Below the highest order, counts are numbers of
distinct symbols seen before (continuation counts). D = n1 / (n1 + 2 n2), from the numbers of
n-grams counted once and twice (1/2 if there are none). Order 0 is uniform. Source: Kneser and Ney 1995; Chen and Goodman 1999.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Ids = np.ndarray[Any, Any]


def windows(ids: Ids, n: int, symbols: int) -> Ids:
    """Each run of n symbols as one number in base `symbols`, uint64."""
    if symbols**n > 2**64:
        raise ValueError(f"runs of {n} of {symbols} symbols do not fit 64 bits; use a lower order")
    keys = np.zeros(max(len(ids) - n + 1, 0), np.uint64)
    for i in range(n):
        keys = keys * np.uint64(symbols) + ids[i:len(keys) + i].astype(np.uint64)
    return keys


class _Counts:
    """Numbers of occurrences under sorted keys."""

    def __init__(self, keys: Ids, weights: Ids | None = None):
        self.keys, index = np.unique(keys, return_inverse=True)
        self.values = np.bincount(index, weights, minlength=len(self.keys)).astype(np.float64)

    def of(self, keys: Ids) -> Ids:
        """The counts of these keys, 0 where there is none."""
        if not len(self.keys):
            return np.zeros(len(keys))
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.values[at], 0.0)


class KneserNey:
    """A model of the given order: each symbol given the order - 1 before it."""

    def __init__(self, ids: Ids, order: int, symbols: int):
        if order < 1:
            raise ValueError(f"the order is at least 1, got {order}")
        self.order, self.symbols = order, symbols
        base = np.uint64(symbols)
        self._levels: list[tuple[_Counts, _Counts, _Counts, float]] = []
        for n in range(1, order + 1):
            if n == order:
                grams = _Counts(windows(ids, n, symbols))
            else:  # continuation counts: in how many distinct symbols' company each n-gram ends
                longer = np.unique(windows(ids, n + 1, symbols))
                grams = _Counts(longer % base ** np.uint64(n))
            contexts = grams.keys // base
            once, twice = (float(np.sum(grams.values == k)) for k in (1, 2))
            discount = once / (once + 2 * twice) if once and twice else 0.5
            self._levels.append((grams, _Counts(contexts, grams.values), _Counts(contexts), discount))

    def probabilities(self, ids: Ids) -> Ids:
        """p of each symbol given those before it in `ids`, float64; the first ones use the context there is."""
        p = np.full(len(ids), 1.0 / self.symbols)
        for n, (grams, totals, kinds, discount) in enumerate(self._levels, 1):
            if len(ids) < n:
                break
            keys = windows(ids, n, self.symbols)
            contexts = keys // np.uint64(self.symbols)
            total = totals.of(contexts)
            known = total > 0
            safe = np.where(known, total, 1.0)
            lower = p[n - 1:]
            mixed = (np.maximum(grams.of(keys) - discount, 0) + discount * kinds.of(contexts) * lower) / safe
            p[n - 1:] = np.where(known, mixed, lower)
        return p


def perplexity(train: Ids, held_out: Ids, order: int, symbols: int) -> float:
    """exp of the mean negative log probability of the held-out symbols; order 0 is the uniform model."""
    if order == 0:
        return float(symbols)
    return float(np.exp(-np.log(KneserNey(train, order, symbols).probabilities(held_out)).mean()))
