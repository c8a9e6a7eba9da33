"""Reading and writing at positions that are data, and searching."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.ir.types import INTEGERS
from nagraph.onnx.operators.shapes import possible
from nagraph.onnx.registry import Known, checked_axis, operator
from nagraph.ops.movement import iota
from nagraph.transforms.flow import scan


@operator("Gather", formats="kept")
def gather(x: Any, indices: Any, *, axis: int = 0) -> Any:
    return F.take(x, _integers("indices", indices), checked_axis(axis, len(x.shape)))


@operator("GatherElements")
def gather_elements(x: Any, indices: Any, *, axis: int = 0) -> Any:
    index = _grid(x, indices, axis)
    return F.array(x)[index]


def _grid(x: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """For each axis of x the positions that go with `indices` of one axis: elsewhere an element's own."""
    place = checked_axis(axis, len(x.shape))
    if len(indices.shape) != len(x.shape) or any(i > n for a, (i, n) in enumerate(zip(indices.shape, x.shape)) if a != place):
        raise OnnxError(f"indices of shape {list(indices.shape)} do not lie within x of shape {list(x.shape)} beside axis {axis}")
    wide = _integers("indices", indices)
    return tuple(wide if a == place else iota("int64", indices.shape, a) for a in range(len(x.shape)))


@operator("GatherND")
def gather_nd(x: Any, indices: Any, *, batch_dims: int = 0) -> Any:
    return F.array(x)[_points(x, indices, batch_dims)]


def _points(x: Any, indices: Any, batch: int = 0) -> tuple[Any, ...]:
    """The positions of the first axes of x, which stand on the last axis of `indices`; before them the batch's own."""
    if not 0 <= batch < min(len(x.shape), len(indices.shape)) or tuple(x.shape[:batch]) != tuple(indices.shape[:batch]):
        raise OnnxError(f"indices of shape {list(indices.shape)} do not fit x of shape {list(x.shape)} with batch_dims {batch}")
    count, wide = indices.shape[-1], _integers("indices", indices)
    if not 1 <= count <= len(x.shape) - batch:
        raise OnnxError(f"indices name {count} axes of a value that has {len(x.shape) - batch} left")
    lead = tuple(iota("int64", indices.shape[:-1], a) for a in range(batch))
    return lead + tuple(F.array(wide)[..., i] for i in range(count))


_MODES = {"none": F.set_at, "add": F.add_at, "max": F.max_at, "min": F.min_at}


@operator("Scatter", since=9)
@operator("ScatterElements")
def scatter_elements(x: Any, indices: Any, updates: Any, *, axis: int = 0, reduction: str = "none") -> Any:
    if tuple(indices.shape) != tuple(updates.shape):
        raise OnnxError(f"indices have shape {list(indices.shape)}, updates {list(updates.shape)}; they must be alike")
    return _scattered(x, _grid(x, indices, axis), updates, reduction)


@operator("ScatterND")
def scatter_nd(x: Any, indices: Any, updates: Any, *, reduction: str = "none") -> Any:
    points = _points(x, indices)
    if tuple(updates.shape) != tuple(indices.shape[:-1]) + tuple(x.shape[len(points):]):
        raise OnnxError(f"updates have shape {list(updates.shape)}, but at these indices x holds "
                        f"{[*indices.shape[:-1], *x.shape[len(points):]]}")
    return _scattered(x, points, updates, reduction)


def _scattered(x: Any, index: tuple[Any, ...], updates: Any, reduction: str) -> Any:
    if reduction in _MODES:
        return _MODES[reduction](x, index, updates)
    if reduction != "mul":
        raise OnnxError(f"reduction is {', '.join(_MODES)} or mul, not {reduction!r}")
    lead = index[0].shape
    steps = (tuple(F.reshape(i, (-1,)) for i in index), F.reshape(updates, (-1, *updates.shape[len(lead):])))

    def multiplied(y: Any, step: Any) -> Any:  # one update after another, since a position may come twice
        at, factor = step
        return F.set_at(y, at, F.array(y)[at] * factor), None

    return scan(multiplied, x, steps)[0]


@operator("OneHot")
def one_hot(indices: Any, depth: Known, values: Any, *, axis: int = -1) -> Any:
    """values are what stands elsewhere, and at the index; negative indices count from the end, others out of range are nowhere."""
    if depth.size != 1 or tuple(values.shape) != (2,):
        raise OnnxError(f"depth is {list(depth.shape)} and values {list(values.shape)}, but must be one number, and two")
    n = int(depth.reshape(-1)[0])
    possible(values.dtype, (*indices.shape, n))
    index = F.astype(indices, "i64")
    hot = F.astype(F.one_hot(F.where(F.less(index, 0), index + n, index), n), np.bool_)
    found = F.where(hot, F.array(values)[1], F.array(values)[0])
    return F.moveaxis(found, -1, checked_axis(axis, len(indices.shape) + 1))


@operator("TopK")
def top_k(x: Any, k: Known, *, axis: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002
    place = checked_axis(axis, len(x.shape))
    count = int(k.reshape(-1)[0]) if k.size == 1 else -1
    if not 0 <= count <= x.shape[place]:
        raise OnnxError(f"k is {count}, of an axis with {x.shape[place]} elements")
    moved = F.moveaxis(x, place, -1)
    if largest:
        values, index = F.top_k(moved, count)
    else:
        index = F.array(F.argsort(moved, -1))[..., :count]
        values = F.take_along_axis(moved, index, -1)
    return F.moveaxis(values, -1, place), F.moveaxis(F.astype(index, "i64"), -1, place)


@operator("ArgMax")
def argmax(x: Any, *, axis: int = 0, keepdims: bool = True, select_last_index: bool = False) -> Any:
    return _extreme(F.argmax, x, axis, keepdims, select_last_index)


@operator("ArgMin")
def argmin(x: Any, *, axis: int = 0, keepdims: bool = True, select_last_index: bool = False) -> Any:
    return _extreme(F.argmin, x, axis, keepdims, select_last_index)


def _extreme(find: Any, x: Any, axis: int, keepdims: bool, last: bool) -> Any:
    place = checked_axis(axis, len(x.shape))
    found = F.astype(find(F.flip(x, place) if last else x, place, keepdims=keepdims), "i64")
    return x.shape[place] - 1 - found if last else found


@operator("NonZero")
def non_zero(x: Known) -> Any:
    return np.array(np.nonzero(x) if x.ndim else np.nonzero(x.reshape(1))[:0], np.int64).reshape(x.ndim, -1)


@operator("Compress")
def compress(x: Any, condition: Known, *, axis: int | None = None) -> Any:
    chosen = np.flatnonzero(condition)
    y = F.reshape(x, (-1,)) if axis is None else x
    place = 0 if axis is None else checked_axis(axis, len(x.shape))
    if chosen.size and chosen[-1] >= y.shape[place]:
        raise OnnxError(f"condition has {condition.size} elements, the axis {y.shape[place]}")
    return F.take(y, chosen, place)


@operator("Unique")
def unique(x: Known, *, axis: int | None = None, sorted: bool = True, call: Any) -> Any:  # noqa: A002
    if axis is None:
        x = x.reshape(-1)
    place = 0 if axis is None else checked_axis(axis, x.ndim)
    values, first, inverse, counts = np.unique(x, True, True, True, axis=place)
    inverse = inverse.reshape(-1)
    if not sorted:
        order = np.argsort(first)
        back = np.argsort(order)
        values, first, inverse, counts = values.take(order, place), first[order], back[inverse], counts[order]
    return (values, *(a.astype(np.int64) for a in (first, inverse, counts)))[:call.outputs]


def _integers(name: str, indices: Any) -> Any:
    if indices.dtype not in INTEGERS:
        raise OnnxError(f"{name} are {indices.dtype}, but must be whole numbers")
    return indices
