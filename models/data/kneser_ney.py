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
    """Counts are numbers of occurrences (or sums of weights) under sorted keys. Takes the keys sorted, each as often as it occurs."""

    def __init__(self, keys: Ids, weights: Ids | None = None):
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[:len(keys)])
        self.keys = keys[first]
        found = np.diff(np.append(first, len(keys))) if weights is None else np.add.reduceat(weights, first)
        self.values = found.astype(np.float64)

    def of(self, keys: Ids) -> Ids:
        """The counts of these keys, 0 where there is none."""
        if not len(self.keys):
            return np.zeros(len(keys))
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, self.values[at], 0.0)


def _with(keys: Ids, first: Ids) -> Ids:
    """The sorted keys and the text's first run, which nothing precedes, so that no longer run ends in it."""
    at = np.searchsorted(keys, first)
    return keys if np.isin(first, keys[at[at < len(keys)]]).all() else np.insert(keys, at, first)


class KneserNey:
    """A Kneser-Ney model of some order gives each symbol its probability after the order - 1 before it."""

    def __init__(self, ids: Ids, order: int, symbols: int):
        if order < 1:
            raise ValueError(f"the order is at least 1, got {order}")
        self.order, self.symbols = order, symbols
        base = np.uint64(symbols)
        self._levels: list[tuple[_Counts, _Counts, _Counts, float]] = []
        grams = _Counts(np.sort(windows(ids, order, symbols)))
        for n in range(order, 0, -1):
            contexts = grams.keys // base  # sorted, as the keys are
            once, twice = (float(np.sum(grams.values == k)) for k in (1, 2))
            discount = once / (once + 2 * twice) if once and twice else 0.5
            self._levels.insert(0, (grams, _Counts(contexts, grams.values), _Counts(contexts), discount))
            if n > 1:  # continuation counts: in how many distinct symbols' company each shorter run ends
                types = _with(grams.keys, windows(ids[:n], n, symbols))
                grams = _Counts(np.sort(types % base ** np.uint64(n - 1)))

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


def bits(train: Ids, held_out: Ids, order: int, symbols: int) -> float:
    """The mean number of bits that a held-out symbol takes; of bytes, order 8 is the last whose runs fit 64 bits."""
    return float(np.log2(perplexity(train, held_out, order, symbols)))
