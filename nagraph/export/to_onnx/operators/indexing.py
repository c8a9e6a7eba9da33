"""Reading and writing at positions that are data. Ours count from the end if negative, and are clipped; ONNX's must be valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.elementwise import as_dtype
from nagraph.export.to_onnx.operators.movement import transposed
from nagraph.export.to_onnx.registry import translation
from nagraph.export.to_onnx.scalars import Elements
from nagraph.export.to_onnx.scope import Operand
from nagraph.ir.node import Node
from nagraph.ir.size_bounds import at_least
from nagraph.ir.sizes import Size
from nagraph.ir.types import BOOL, DTYPES, TensorType
from nagraph.ops import dynamic_slice, indexing
from nagraph.ops.base import NARROW_FLOATS

I32, I64, U64, F32 = (DTYPES[n] for n in ("i32", "i64", "u64", "f32"))
FAR = np.array([np.iinfo(np.int64).max])


def number(w: Any, size: Any) -> Any:
    """A size as int64 of rank 0: an array if it is known, else the name of a value."""
    return w.emit("Squeeze", w.size(size), np.array([0])) if isinstance(size, Size) else np.array(size, np.int64)


def clipped(w: Any, index: Any, low: Any, high: Any) -> Any:
    """Indices as int64 from low to high, sizes with low <= high; an array where they are known."""
    info = np.iinfo(index.dtype)
    known = w.known(index)
    if known is not None and not isinstance(low, Size) and not isinstance(high, Size):
        return np.asarray(np.clip(np.minimum(known, known.dtype.type(min(info.max, FAR[0]))).astype(np.int64), low, high))
    if index.dtype == U64:  # as int64 the largest would be negative
        index = Operand(w.emit("Min", index, np.array(info.max >> 1, U64)), index.type)
    wide = as_dtype(w, index, I64)
    if not isinstance(low, Size) and not isinstance(high, Size) and low <= info.min and info.max <= high:
        return wide
    return w.emit("Clip", wide, number(w, low), number(w, high))


def places(w: Any, index: Any, size: Any) -> Any:
    """Indices of an axis as ONNX takes them, from -size to size - 1."""
    return clipped(w, index, -size, size - 1)


def _stacked(w: Any, x: Any, axes: tuple[int, ...], indices: Sequence[Any]) -> Any:
    """The places on several axes side by side on a last axis, as GatherND and ScatterND take them."""
    rank = np.array([indices[0].rank])
    found = [places(w, i, x.shape[a]) for i, a in zip(indices, axes)]
    if all(isinstance(f, np.ndarray) for f in found):
        return np.stack(found, -1)
    apart = [f[..., None] if isinstance(f, np.ndarray) else w.emit("Unsqueeze", f, rank) for f in found]
    return apart[0] if len(apart) == 1 else w.emit("Concat", *apart, axis=-1)


@translation(indexing.Gather)
def gather(w: Any, node: Node, x: Any, *indices: Any) -> str:
    axes: tuple[int, ...] = node.op.axes  # type: ignore[attr-defined]
    if len(axes) == 1:
        return str(w.emit("Gather", x, places(w, indices[0], x.shape[axes[0]]), axis=axes[0]))
    rest = tuple(a for a in range(x.rank) if a not in axes)
    found = w.emit("GatherND", transposed(w, x, axes + rest), _stacked(w, x, axes, indices))
    return transposed(w, found, indexing.to_front(indices[0].rank + len(rest), axes, 0, indices[0].rank))


@translation(indexing.Scatter)
def scatter(w: Any, node: Node, x: Any, updates: Any, *indices: Any) -> str:
    op: Any = node.op
    axes, mode = op.axes, op.mode
    order = axes + tuple(a for a in range(x.rank) if a not in axes)
    lead, count = axes[0], indices[0].rank
    front = (*range(lead, lead + count), *range(lead), *range(lead + count, updates.rank))
    inside = x.dtype if mode == "set" else F32 if x.dtype in NARROW_FLOATS else I32 if x.dtype == BOOL else x.dtype
    old, new = transposed(w, as_dtype(w, x, inside), order), transposed(w, as_dtype(w, updates, inside), front)
    at = _stacked(w, x, axes, indices)
    if mode == "set" and not _all_differ(node, w, indices):
        found = _last_of_each(w, x, updates, axes, indices, old, new, at)
    else:
        found = w.emit("ScatterND", old, at, new, reduction=None if mode == "set" else mode)
    found = transposed(w, found, tuple(int(a) for a in np.argsort(order)))
    return str(found if inside == x.dtype else w.cast(found, x.dtype))


def _all_differ(node: Node, w: Any, indices: Sequence[Any]) -> bool:
    """Whether no place is written twice: there is one, or they are known."""
    if at_least(1 - indices[0].type.size, 0):
        return True
    known = [w.known(i) for i in indices]
    if any(k is None for k in known):
        return False
    axes = node.op.axes  # type: ignore[attr-defined]
    shape = node.operands[0].shape
    if any(isinstance(shape[a], Size) for a in axes):
        return False
    flat = np.stack([indexing.position(k, shape[a]).reshape(-1) for k, a in zip(known, axes)])
    return bool(np.unique(flat, axis=1).shape[1] == flat.shape[1])


def _last_of_each(w: Any, x: Any, updates: Any, axes: tuple[int, ...], indices: Sequence[Any], old: str, new: str, at: Any) -> str:
    """x with the last update of each place, which ONNX leaves open: the largest number of an update is found, and read."""
    table, writes = tuple(x.shape[a] for a in axes), indices[0].shape
    count = indices[0].type.size
    numbers = w.emit("Reshape", w.emit("Range", np.array(0), number(w, count), np.array(1)), w.shape(writes))
    none = w.emit("Expand", np.array(-1), w.shape(table))
    last = w.emit("ScatterND", none, at, numbers, reduction="max")
    rest = tuple(x.shape[a] for a in range(x.rank) if a not in axes)
    rows = w.emit("Reshape", new, w.emit("Concat", np.array([-1]), w.shape(rest), axis=0) if rest else np.array([-1])) \
        if len(writes) != 1 else new
    read = Operand(w.emit("Gather", rows, w.emit("Max", last, np.array(0)), axis=0), TensorType(x.dtype, table + rest))
    written = w.emit("GreaterOrEqual", last, np.array(0))
    if rest:
        written = w.emit("Unsqueeze", written, np.arange(len(table), len(table) + len(rest)))
    s = Elements(w)
    condition = Operand(written, TensorType(BOOL, table + (1,) * len(rest)))
    return s.select(s.of(condition), s.of(read), s.of(Operand(old, read.type))).raw


# -- blocks -------------------------------------------------------------------------------------------------


@translation(dynamic_slice.DynamicSlice)
def block(w: Any, node: Node, x: Any, *starts: Any) -> Any:
    sizes = node.op.sizes  # type: ignore[attr-defined]
    axes = [a for a in range(x.rank) if sizes[a] != x.shape[a]]
    if not axes:
        return x
    first = _joined(w, [_start(w, starts[a], x.shape[a] - sizes[a]) for a in axes])
    size = w.shape([sizes[a] for a in axes])
    end = first + size if isinstance(first, np.ndarray) and isinstance(size, np.ndarray) else w.emit("Add", first, size)
    return w.emit("Slice", x, first, end, np.array(axes))


@translation(dynamic_slice.DynamicUpdateSlice)
def updated_block(w: Any, node: Node, x: Any, update: Any, *starts: Any) -> Any:
    """What is before, the update and what is after, joined; along one axis after the other."""
    axes = [a for a in range(x.rank) if update.shape[a] != x.shape[a]]
    return _updated(w, x, x.shape, update, update.shape, {a: _start(w, starts[a], x.shape[a] - update.shape[a]) for a in axes})


def _updated(w: Any, x: str, shape: tuple[Any, ...], update: str, sizes: tuple[Any, ...], starts: dict[int, Any]) -> str:
    if not starts:
        return update
    axis, first = next(iter(starts.items()))
    size = w.shape([sizes[axis]])
    end = first + size if isinstance(first, np.ndarray) and isinstance(size, np.ndarray) else w.emit("Add", first, size)
    at = np.array([axis])
    others = {a: s for a, s in starts.items() if a != axis}
    middle = update
    if others:
        middle = _updated(w, w.emit("Slice", x, first, end, at), (*shape[:axis], sizes[axis], *shape[axis + 1:]), update, sizes, others)
    return str(w.emit("Concat", w.emit("Slice", x, np.array([0]), first, at), middle, w.emit("Slice", x, end, FAR, at), axis=axis))


def _start(w: Any, start: Any, most: Any) -> Any:
    """A start as int64[1], clipped so that the block fits."""
    found = clipped(w, start, 0, most)
    return found.reshape(1) if isinstance(found, np.ndarray) else w.emit("Unsqueeze", found, np.array([0]))


def _joined(w: Any, parts: list[Any]) -> Any:
    if all(isinstance(p, np.ndarray) for p in parts):
        return np.concatenate(parts)
    return parts[0] if len(parts) == 1 else w.emit("Concat", *parts, axis=0)
