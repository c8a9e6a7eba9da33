"""Caches hold the keys and values of what was read, so that attention to a text that grows computes those of new tokens alone."""

from __future__ import annotations

from typing import Any

import numpy as np

import nagraph as ng
from nagraph.nn import functional as F
from nagraph.nn.module import Module

Array = Any


class LayerCache(Module):
    """A layer's cache is its keys and values, each [batch, groups, context, d]; what no position has written yet is never looked at."""

    keys: Array
    values: Array


class Cache(Module):
    """A cache is the caches of all layers, the lowest first."""

    layers: tuple[LayerCache, ...]

    @classmethod
    def empty(cls, layers: int, shape: tuple[int, int, int, int], dtype: Any) -> Cache:
        """One of `shape`, [batch, groups, context, d], for each layer, with arrays of its own."""
        return cls(tuple(LayerCache(ng.numpy.zeros(shape, dtype), ng.numpy.zeros(shape, dtype)) for _ in range(layers)))


def attend(q: Array, k: Array, v: Array, cache: LayerCache | None = None, start: Array = 0) -> tuple[Array, LayerCache | None]:
    """Causal attention, and the cache with k and v written to the positions from `start` on.

    q [batch, heads, n, d], k and v [batch, groups, n, d] are those of positions start ... start + n - 1, with which all
    positions up to themselves are looked at. Without a cache these n positions are all there is.
    """
    if cache is None:
        return F.attention(q, k, v, causal=True), None
    at = (0, 0, start, 0)
    keys, values = ng.numpy.dynamic_update_slice(cache.keys, k, at), ng.numpy.dynamic_update_slice(cache.values, v, at)
    # Query heads that share a key's head are rows of one matrix, or each of them would need a copy of all keys.
    batch, heads, n, d = q.shape
    shared = heads // k.shape[1]
    position = start + ng.numpy.tile(ng.numpy.arange(n), shared)
    seen = np.arange(keys.shape[2]) <= position[:, None]  # [shared · n, context]
    y = F.attention(ng.numpy.reshape(q, (batch, k.shape[1], shared * n, d)), keys, values, seen)
    return ng.numpy.reshape(y, q.shape), LayerCache(keys, values)


def rows(table: Array, start: Array, n: int) -> Array:
    """Rows start ... start + n - 1 of a table with a row for each position; `start` may be traced, and n a size that is known later."""
    if isinstance(start, int) and (isinstance(n, int) or not isinstance(table, np.ndarray)):
        return table[start:start + n]
    return ng.numpy.dynamic_slice(table, (start, 0), (n, table.shape[1]))
