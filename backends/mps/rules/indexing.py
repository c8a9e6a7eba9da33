"""Reading and writing at places that are data. Indices count from the end where they are negative, and are then clipped.

MLX's scatter adds with atomics, in any order. Here updates are sorted by place, stably, and combined in that order by doubling
(Hillis and Steele 1986): so bits repeat. Which update is the last of a place is found by a maximum of integers, which no order changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nagraph.backends.mps.rules.rule import Rule
from nagraph.backends.mps.rules.sorting import argsort
from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES
from nagraph.ops import dynamic_slice, indexing

Array = Any
I32, I64, U32, U64 = (DTYPES[n] for n in ("i32", "i64", "u32", "u64"))


def _position(m: Any, index: Array, size: int) -> Array:
    """Indices as numbers from 0 to size - 1, i64."""
    last = m.number(max(size - 1, 0), I64)
    if m.dtype(index) == U64:  # beyond what i64 holds is beyond the end
        index = m.minimum(index, m.number(max(size - 1, 0), U64))
    wide = m.to(index, I64)
    wide = m.where(m.less(wide, m.number(0, I64)), m.add(wide, m.number(size, I64)), wide)
    return m.clip(wide, m.number(0, I64), last)


def _places(m: Any, indices: Sequence[Array], sizes: Sequence[int]) -> Array:
    """The row-major number of the element that the indices of several axes name, [updates]."""
    found = None
    for i, n in zip(indices, sizes):
        at = _position(m, i, n)
        found = at if found is None else m.add(m.multiply(found, m.number(n, I64)), at)
    return m.reshape(found, [-1] if indices[0].size else [0])


def _rows(m: Any, x: Array, axes: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
    """x as [places of the indexed axes, all else], and the order of its axes before that."""
    order = (*axes, *(a for a in range(x.ndim) if a not in axes))
    moved = m.ordered(x, order)
    count = math.prod(x.shape[a] for a in axes)
    return m.shaped(moved, [count, x.size // count if count else math.prod(moved.shape[len(axes):])]), order


def _gather(m: Any, op: indexing.Gather, x: Array, *indices: Array) -> Array:
    lead, shape = op.axes[0], tuple(indices[0].shape)
    rest = tuple(n for a, n in enumerate(x.shape) if a not in op.axes)
    result = (*rest[:lead], *shape, *rest[lead:])
    if not math.prod(result):
        return m.zeros(list(result), dtype=x.dtype)
    if len(op.axes) == 1:
        return m.take(x, _position(m, indices[0], x.shape[lead]), axis=lead)
    rows, _ = _rows(m, x, op.axes)
    found = m.take(rows, _places(m, indices, [x.shape[a] for a in op.axes]), axis=0)
    return m.ordered(m.shaped(found, (*shape, *rest)), indexing.to_front(len(result), op.axes, 0, len(shape)))


def _scatter(m: Any, op: indexing.Scatter, x: Array, updates: Array, *indices: Array) -> Array:
    if not updates.size:
        return x
    lead, count = op.axes[0], indices[0].ndim
    rows, order = _rows(m, x, op.axes)
    new = m.ordered(updates, (*range(lead, lead + count), *range(lead), *range(lead + count, updates.ndim)))
    new = m.shaped(new, [indices[0].size, rows.shape[1]])
    places = _places(m, indices, [x.shape[a] for a in op.axes])
    if op.mode != "set":
        by_place = argsort(m, m.to(places, U64), 0)
        places = m.take(places, by_place, axis=0)
        new = _running(m, _combination(m, op.mode, m.dtype(x)), places, m.take(new, by_place, axis=0))
    last = m.put_maximum(m.broadcast_to(m.number(-1, I32), [rows.shape[0]]), places, m.range(new.shape[0], I32))
    hit = m.reshape(m.greater_equal(last, m.number(0, I32)), [-1, 1])
    found = m.take(new, m.maximum(last, m.number(0, I32)), axis=0)
    if op.mode != "set":
        found = _combination(m, op.mode, m.dtype(x))(rows, found)
    y = m.shaped(m.where(hit, found, rows), [x.shape[a] for a in order])
    return m.ordered(y, [order.index(a) for a in range(x.ndim)])


def _combination(m: Any, mode: str, dtype: Any) -> Any:
    return {"add": m.logical_or if dtype == BOOL else m.add, "max": m.maximum, "min": m.minimum}[mode]


def _running(m: Any, combine: Any, places: Array, rows: Array) -> Array:
    """For each row, all rows of its place up to it combined; the places are sorted.

    After the step of width w, a row holds those of its place among the last 2w up to it.
    """
    n, width = places.shape[0], 1
    while width < n:
        same = m.reshape(m.equal(m.part(places, (slice(width, n),)), m.part(places, (slice(0, n - width),))), [-1, 1])
        later = m.part(rows, (slice(width, n),))
        joined = m.where(same, combine(m.part(rows, (slice(0, n - width),)), later), later)
        rows = m.concatenate([m.part(rows, (slice(0, width),)), joined], axis=0)
        width *= 2
    return rows


def _starts(m: Any, starts: Sequence[Array], shape: Sequence[int], sizes: Sequence[int]) -> Array:
    """Where a block begins, clipped so that it fits, i32[axes]."""
    found = []
    for s, n, k in zip(starts, shape, sizes):
        if m.dtype(s) == U64:
            s = m.minimum(s, m.number(n - k, U64))
        found.append(m.clip(m.to(s, I64), m.number(0, I64), m.number(n - k, I64)))
    return m.to(m.stack(found), I32)


def _dynamic_slice(m: Any, op: dynamic_slice.DynamicSlice, x: Array, *starts: Array) -> Array:
    if not starts:
        return x
    return m.slice(x, _starts(m, starts, x.shape, op.sizes), list(range(x.ndim)), list(op.sizes))


def _dynamic_update(m: Any, op: Op, x: Array, update: Array, *starts: Array) -> Array:
    if not starts:
        return update
    return m.slice_update(x, update, _starts(m, starts, x.shape, update.shape), list(range(x.ndim))) if update.size else x


RULES: dict[type[Op], Rule] = {
    indexing.Gather: Rule(_gather), indexing.Scatter: Rule(_scatter),
    dynamic_slice.DynamicSlice: Rule(_dynamic_slice), dynamic_slice.DynamicUpdateSlice: Rule(_dynamic_update),
}
