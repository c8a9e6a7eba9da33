"""Reading and writing at places that are data. Indices count from the end where they are negative, and are then clipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.operators.reductions import combination
from nagraph.export.to_stablehlo.registry import translates
from nagraph.export.to_stablehlo.shapes import I64
from nagraph.export.to_stablehlo.text import array_text, list_text
from nagraph.ir.size_bounds import at_least
from nagraph.ir.sizes import dims, larger
from nagraph.ir.types import DTYPES, TensorType
from nagraph.ops import dynamic_slice, indexing, reduction

U64 = DTYPES["u64"]
Axes = tuple[int, ...]


def _numbers(m: Body, n: Any, like: Ref) -> Ref:
    """A size as a tensor of the shape of another."""
    return m.broadcast(m.size(n), like.shape)


def wide_index(m: Body, index: Ref, last: Any) -> Ref:
    """An index as i64: what that can't hold is beyond `last`."""
    if index.dtype == U64:
        index = m.elementwise("minimum", index, m.broadcast(m.cast(m.size(last), U64), index.shape))
    return m.cast(index, I64)


def position(m: Body, index: Ref, n: Any) -> Ref:
    """Indices of an axis with n elements as numbers from 0 to n - 1, i64."""
    last = larger(n - 1, 0)
    wide = wide_index(m, index, last)
    wide = m.select(m.compare("LT", wide, _numbers(m, 0, wide)), m.elementwise("add", wide, _numbers(m, n, wide)), wide)
    return _clipped(m, wide, last)


def _clipped(m: Body, x: Ref, last: Any) -> Ref:
    return m.elementwise("minimum", m.elementwise("maximum", x, _numbers(m, 0, x)), _numbers(m, last, x))


def _joined(m: Body, places: Sequence[Ref]) -> Ref:
    """The indices of several axes side by side, on a new last axis."""
    return m.concatenate([m.reshape(p, (*p.shape, 1)) for p in places], places[0].ndim)


def gathered(m: Body, x: Ref, places: Sequence[Ref], axes: Axes) -> Ref:
    """The elements of x at these places, i64 and within bounds: their axes take that of axes[0]."""
    shape = indexing.gathered_shape("gather", axes, x.type, [p.type for p in places])
    t = x.type.with_shape(shape)
    if 0 in shape:
        return m.full(0, t)
    count, rank = places[0].ndim, len(shape)
    inside = [a for a in range(rank) if not axes[0] <= a < axes[0] + count]
    sizes = [1 if a in axes else n for a, n in enumerate(x.shape)]
    numbers = (f"#stablehlo.gather<offset_dims = {list_text(inside)}, collapsed_slice_dims = {list_text(axes)}, "
               f"start_index_map = {list_text(axes)}, index_vector_dim = {count}>")
    start = _joined(m, places)
    if dims(tuple(sizes)):
        return m.do("dynamic_gather", (x, start, m.sizes(sizes)), t, dimension_numbers=numbers, indices_are_sorted="false")
    return m.do("gather", (x, start), t, dimension_numbers=numbers, slice_sizes=array_text(sizes), indices_are_sorted="false")


def scattered(m: Body, x: Ref, updates: Ref, places: Sequence[Ref], axes: Axes, combine: Callable[[Ref, Ref], Ref],
              unique: bool = False) -> Ref:
    """x with updates, shaped as `gathered` reads, combined in at these places; those out of bounds are left out."""
    if 0 in updates.shape:
        return x
    count = places[0].ndim
    inside = [a for a in range(updates.ndim) if not axes[0] <= a < axes[0] + count]
    numbers = (f"#stablehlo.scatter<update_window_dims = {list_text(inside)}, inserted_window_dims = {list_text(axes)}, "
               f"scatter_dims_to_operand_dims = {list_text(axes)}, index_vector_dim = {count}>")
    element = TensorType(x.dtype, ())
    return m.do("scatter", (x, _joined(m, places), updates), x.type, [m.region([element] * 2, lambda a, b: [combine(a, b)])],
                scatter_dimension_numbers=numbers, indices_are_sorted="false", unique_indices="true" if unique else "false")


@translates(indexing.Gather)
def gather(m: Body, node: Any, x: Ref, *indices: Ref) -> Ref:
    axes = node.op.axes
    return gathered(m, x, [position(m, i, x.shape[a]) for i, a in zip(indices, axes)], axes)


@translates(indexing.Scatter)
def scatter(m: Body, node: Any, x: Ref, updates: Ref, *indices: Ref) -> Ref:
    op = node.op
    places = [position(m, i, x.shape[a]) for i, a in zip(indices, op.axes)]
    if op.mode == "set":
        if not at_least(1 - indices[0].type.size, 0):
            places = _last_of_each(m, places, [x.shape[a] for a in op.axes])
        return scattered(m, x, updates, places, op.axes, lambda old, new: new, unique=True)
    fold = {"add": reduction.Sum, "max": reduction.Max, "min": reduction.Min}[op.mode]((0,))
    return scattered(m, x, updates, places, op.axes, lambda old, new: combination(m, fold, [old], [new])[0])


def _last_of_each(m: Body, places: Sequence[Ref], sizes: Sequence[Any]) -> list[Ref]:
    """The places with all but the last update of each put out of bounds: in which order updates come StableHLO leaves open."""
    axes = tuple(range(len(places)))
    numbers = m.reshape(m.iota(I64, (places[0].type.size,), 0), places[0].shape)
    table = m.full(-1, TensorType(I64, tuple(sizes)))
    table = scattered(m, table, numbers, places, axes, lambda old, new: m.elementwise("maximum", old, new))
    last = m.compare("EQ", gathered(m, table, places, axes), numbers)
    return [m.select(last, places[0], _numbers(m, sizes[0], places[0])), *places[1:]]


def _starts(m: Body, starts: Sequence[Ref], shape: Axes, sizes: Axes) -> list[Ref]:
    """Where a block begins, i64, clipped so that it fits: StableHLO clips as well, but XLA makes one slice of two by adding starts."""
    return [_clipped(m, wide_index(m, s, n - k), n - k) for s, n, k in zip(starts, shape, sizes)]


@translates(dynamic_slice.DynamicSlice)
def dynamic(m: Body, node: Any, x: Ref, *starts: Ref) -> Ref:
    return m.block_at(x, _starts(m, starts, x.shape, node.op.sizes), node.op.sizes)


@translates(dynamic_slice.DynamicUpdateSlice)
def dynamic_update(m: Body, node: Any, x: Ref, update: Ref, *starts: Ref) -> Ref:
    return m.with_block(x, update, _starts(m, starts, x.shape, update.shape))
