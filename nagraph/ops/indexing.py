"""Reading and writing at positions that are data: gather and scatter.

An index i of an axis with n elements counts from the end where it is negative, and is then clipped to
0 ... n - 1: a graph has no way to raise. Reading and writing clip alike, so they stay each other's adjoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.axes import AxisRelation, anywhere
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.size_bounds import at_least
from nagraph.ir.sizes import dims, same, same_shape
from nagraph.ir.types import DTYPES, INTEGERS, TensorType, type_of
from nagraph.ops.base import NARROW_FLOATS, Linear, Primitive, cast
from nagraph.ops.comparison import equal
from nagraph.ops.elementwise import divide, where
from nagraph.ops.movement import broadcast_to, reshape, transpose
from nagraph.ops.movement import iota as numbers
from nagraph.ops.operands import Operand, as_array, is_axis_of_scalar, normalize_axis
from nagraph.ops.rules import Maybe, add_tangents, full, with_batch_axis, zeros_like

Axes = tuple[int, ...]
I64 = DTYPES["i64"]
ZERO = np.zeros((), np.int64)


def position(index: Array, size: int) -> Array:
    """Indices as numbers from 0 to size - 1: negative ones count from the end, the rest is clipped."""
    wide = index.astype(np.uint64 if index.dtype == np.uint64 else np.int64)
    wide = np.minimum(wide, max(size - 1, 0)).astype(np.int64)
    return np.clip(np.where(wide < 0, wide + size, wide), 0, max(size - 1, 0))


def iota(shape: Axes, axis: int) -> Any:
    """The index along `axis`, i64, as a tensor of this shape."""
    return numbers(I64, shape, axis)


def gathered_shape(name: str, axes: Axes, x: TensorType, indices: Sequence[TensorType]) -> Axes:
    """The shape of x with axis axes[0] replaced by the indices' axes, and the other `axes` gone."""
    if not axes or list(axes) != sorted(set(axes)) or not 0 <= axes[0] <= axes[-1] < x.rank:
        raise TypeRuleError(f"{name}: axes {axes} must be increasing and within x {x}")
    if len(indices) != len(axes):
        raise TypeRuleError(f"{name}: {len(axes)} axes {axes} take as many index operands, got {len(indices)}")
    rest = tuple(x.shape[a] for a in range(x.rank) if a not in axes)
    for axis, i in zip(axes, indices):
        if i.dtype not in INTEGERS:
            raise TypeRuleError(f"{name}: index of axis {axis} is {i}; indices have an integer dtype")
        if not same_shape(i.shape, indices[0].shape, name):
            raise TypeRuleError(f"{name}: indices differ in shape: {indices[0]} and {i}; broadcast them first")
        if x.shape[axis] == 0 and i.size != 0 and 0 not in rest:
            raise TypeRuleError(f"{name}: axis {axis} of x {x} is empty, so it has no element for indices {i}")
    return rest[: axes[0]] + indices[0].shape + rest[axes[0]:]


def to_front(rank: int, axes: Axes, start: int, count: int) -> Axes:
    """The order of axes that brings `count` of them from `start` to place `axes[0]`, counted among the others."""
    block = tuple(range(start, start + count))
    others = tuple(a for a in range(rank) if a not in block)
    return others[: axes[0]] + block + others[axes[0]:]


def _transpose(x: Any, order: Axes) -> Any:
    return x if order == tuple(range(len(order))) else transpose(x, order)


def _batched_indices(size: int, indices: Sequence[Value], batched: Sequence[bool]) -> list[Value]:
    """The number of the example, and the indices, all of shape [size, ...]."""
    made = [with_batch_axis(i, b, size) for i, b in zip(indices, batched)]
    return [iota(made[0].shape, 0), *made]


@op
class Gather(Linear):
    """Elements of x at the indices i, j, ... of the axes `axes`: y[a, s, c] = x[a, i[s], c].

    Shape: that of x with axis axes[0] replaced by the indices' shape and the other `axes` gone.
    Dtype: that of x; indices are integers of equal shape. Raises TypeRuleError for other indices.
    """

    axes: Axes = (0,)

    def infer(self, *operands: TensorType) -> TensorType:
        x, *indices = operands
        return x.with_shape(gathered_shape(self.name, self.axes, x, indices))

    def reference(self, *operands: Array) -> Array:
        x, *indices = operands
        found = [position(i, x.shape[a]) for i, a in zip(indices, self.axes)]
        rest = tuple(a for a in range(x.ndim) if a not in self.axes)
        if not all(x.shape[a] for a in rest):  # no element is asked for, be there places or not
            return np.empty(gathered_shape(self.name, self.axes, type_of(x), [type_of(i) for i in indices]), x.dtype)
        if len(found) == 1:
            return np.take(x, found[0], axis=self.axes[0])
        y = x.transpose(self.axes + rest)[tuple(found)]
        return y.transpose(to_front(y.ndim, self.axes, 0, found[0].ndim))

    def _is_take(self, operands: Sequence[TensorType]) -> bool:
        """Whether `np.take` with places computed in scratch does it."""
        return len(self.axes) == 1 and operands[0].shape[self.axes[0]] > 0 and operands[1].dtype != DTYPES["u64"]

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if not self._is_take(operands):
            return super().into(operands, results)
        axis, n = self.axes[0], operands[0].shape[self.axes[0]]

        def write(x: Array, index: Array, y: Array, places: Array) -> None:
            np.copyto(places, index, casting="unsafe")
            np.clip(places, -n, n - 1, places)
            np.remainder(places, n, places)
            np.take(x, places, axis, y, mode="clip")  # the mode that writes straight into y

        return write

    def scratch(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (operands[1].with_dtype(I64),) if self._is_take(operands) else ()

    def axis_relations(self, *operands: TensorType) -> tuple[AxisRelation, ...]:
        return (anywhere(self.infer(*operands).rank),) * len(operands)

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        x, *indices = operands
        lead, count = self.axes[0], indices[0].ndim
        at = index[lead:lead + count]
        rest = iter((*index[:lead], *index[lead + count:]))
        where = {a: k.clamped(k.element(i, at), x.shape[a], wraps=True) for a, i in zip(self.axes, indices)}
        return int(k.element(x, tuple(where[a] if a in where else next(rest) for a in range(x.ndim))))

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        x, *indices = operands
        return (Scatter(self.axes, "add")(zeros_like(x), ct, *indices),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        x, *indices = operands
        moved = tuple(a + 1 for a in self.axes)
        if not any(batched[1:]):
            return (Gather(moved)(x, *indices),)
        example = _batched_indices(size, indices, batched[1:])
        if batched[0]:
            y = Gather((0, *moved))(x, *example)
            return (_transpose(y, (0, *(1 + a for a in to_front(y.ndim - 1, self.axes, 0, example[0].ndim - 1)))),)
        y = Gather(self.axes)(x, *example[1:])
        return (_transpose(y, (self.axes[0], *(a for a in range(y.ndim) if a != self.axes[0]))),)

    def samples(self, rng: np.random.Generator) -> Any:
        shape = tuple(range(3, 4 + self.axes[-1] + 1))
        yield rng.normal(size=shape), *(rng.integers(-shape[a], shape[a], size=(2, 3)) for a in self.axes)
        yield np.arange(math.prod(shape)).reshape(shape), *(np.array(99) for _ in self.axes)


_REDUCE: dict[str, np.ufunc] = {"add": np.add, "max": np.maximum, "min": np.minimum}


@op
class Scatter(Primitive):
    """x with updates u at the indices i, j, ... of `axes`: y[a, i[s], c] = u[a, s, c] combined with x there.

    `mode` is "set" (where an index comes twice, the last one in row-major order counts), "add", "max" or "min".
    Shape and dtype: those of x; u has the shape that `gather` reads at these indices.
    The order of additions is that of the updates, row-major, so results never vary.
    """

    widens = True
    host = False
    axes: Axes = (0,)
    mode: str = "add"

    def infer(self, *operands: TensorType) -> TensorType:
        x, updates, *indices = operands
        if self.mode not in ("set", *_REDUCE):
            raise TypeRuleError(f"scatter: mode {self.mode!r} is none of set, add, max, min")
        expected = x.with_shape(gathered_shape(self.name, self.axes, x, indices))
        if updates.dtype != expected.dtype or not same_shape(updates.shape, expected.shape, self.name):
            raise TypeRuleError(f"scatter: updates are {updates}, but at these indices x {x} holds {expected}")
        return x

    def reference(self, *operands: Array) -> Array:
        x, updates, *indices = operands
        order = self.axes + tuple(a for a in range(x.ndim) if a not in self.axes)
        y = x.transpose(order).copy()
        lead, count = self.axes[0], indices[0].ndim
        new = np.ascontiguousarray(updates.transpose((*range(lead, lead + count), *range(lead), *range(lead + count, updates.ndim))))
        self._update(y, new, indices, np.empty_like(new), np.empty_like(new))
        return y.transpose(np.argsort(order))

    def _update(self, y: Array, updates: Array, indices: Sequence[Array], ordered: Array, reduced: Array) -> None:
        """Combine the updates into y, both with the indexed axes in front; `ordered` and `reduced` are scratch like them."""
        sizes = y.shape[:len(self.axes)]
        places = np.zeros(indices[0].shape, np.int64)
        for i, n in zip(indices, sizes):
            places = places * n + position(i, n)
        width = math.prod(y.shape[len(self.axes):])
        if not width:
            return
        rows = y.reshape(math.prod(sizes), width)
        new, ordered, reduced = (a.reshape(places.size, width) for a in (updates, ordered, reduced))
        _combine(rows, new, ordered, reduced, places.reshape(-1), self.mode)

    def _leads(self, *operands: TensorType) -> bool:
        """Whether the indexed axes stand in front already, and no dtype needs widening."""
        return self.axes == tuple(range(len(self.axes))) and operands[0].dtype not in NARROW_FLOATS

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if not self._leads(*operands):
            return super().into(operands, results)

        def write(x: Array, updates: Array, *rest: Array) -> None:
            *indices, y, ordered, reduced = rest
            if y is not x:
                np.copyto(y, x)
            self._update(y, np.ascontiguousarray(updates), indices, ordered, reduced)

        return write

    def scratch(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (operands[1], operands[1]) if self._leads(*operands) else ()

    def in_place(self, count: int) -> Sequence[int]:
        return (0,)

    def updates(self, result: int) -> int:
        return 0

    def vjp(
        self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]
    ) -> tuple[Maybe, ...]:
        x, updates, *indices = operands
        (ct,) = cotangents
        none = (None,) * len(indices)
        if ct is None:
            return (None, None, *none)
        gather = Gather(self.axes)
        if self.mode == "add":
            return (ct, gather(ct, *indices), *none)
        if self.mode == "set":
            read = gather(ct, *indices)
            return (self(ct, zeros_like(updates), *indices), self._where_last(x, read, indices), *none)
        old, new = self._shares(results[0], operands)
        return (ct * old, gather(ct, *indices) * new, *none)

    def jvp(
        self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]
    ) -> tuple[Maybe, ...]:
        x, updates, *indices = operands
        tx, tu = tangents[:2]
        if tx is None and tu is None:
            return (None,)
        if self.mode in ("add", "set"):
            return (self(zeros_like(x) if tx is None else tx, zeros_like(updates) if tu is None else tu, *indices),)
        old, new = self._shares(results[0], operands)
        kept = None if tx is None else tx * old
        put = None if tu is None else Scatter(self.axes, "add")(zeros_like(x), tu * new, *indices)
        return (add_tangents(kept, put),)

    def _where_last(self, x: Value, read: Value, indices: Sequence[Value]) -> Value:
        """`read` where an update is the last of its place, else 0."""
        if at_least(1 - indices[0].size, 0):
            return read
        shape, lead = indices[0].shape, self.axes[0]
        number = reshape(iota((indices[0].size,), 0), shape)
        axes = tuple(range(len(self.axes)))
        table = full(TensorType(I64, tuple(x.shape[a] for a in self.axes)), 0)
        last = equal(Gather(axes)(Scatter(axes, "set")(table, number, *indices), *indices), number)
        last = reshape(last, (1,) * lead + shape + (1,) * (read.ndim - lead - len(shape)))
        result: Value = where(last, read, zeros_like(read))
        return result

    def _shares(self, y: Value, operands: tuple[Value, ...]) -> tuple[Value, Value]:
        """Which part of the cotangent x gets, and which each update: equal parts for all that reach the extreme."""
        x, updates, *indices = operands
        gather = Gather(self.axes)
        old = cast(equal(x, y), x.dtype)
        new = cast(equal(updates, gather(y, *indices)), x.dtype)
        count = Scatter(self.axes, "add")(old, new, *indices)
        return divide(old, count), divide(new, gather(count, *indices))

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        x, updates = (with_batch_axis(v, b, size) for v, b in zip(operands[:2], batched))
        indices = operands[2:]
        moved = tuple(a + 1 for a in self.axes)
        if not any(batched[2:]):
            return (Scatter(moved, self.mode)(x, updates, *indices),)
        example = _batched_indices(size, indices, batched[2:])
        lead, count = moved[0], example[0].ndim - 1
        others = (*range(1, lead), *range(lead + count, updates.ndim))
        updates = _transpose(updates, (0, *range(lead, lead + count), *others))
        return (Scatter((0, *moved), self.mode)(x, updates, *example),)

    def cost(self, *operands: TensorType) -> Cost:
        return Cost(flops=0 if self.mode == "set" else operands[1].size)

    def samples(self, rng: np.random.Generator) -> Any:
        for x, *indices in Gather(self.axes).samples(rng):
            shape = Gather(self.axes)(x, *indices).shape
            # All different, so that a maximum has one winner and finite differences see a smooth function.
            count = math.prod(shape)
            yield x, (rng.permutation(count).reshape(shape) - count // 2).astype(x.dtype), *indices


def _combine(rows: Array, updates: Array, ordered: Array, reduced: Array, places: Array, mode: str) -> None:
    """Write updates[k] into rows[places[k]]: sort by place, reduce each run, then touch every row once."""
    if not updates.size:
        return
    order = np.argsort(places, kind="stable")
    places = places[order]
    starts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
    where = places[starts]
    found, total = ordered[:where.size], reduced[:where.size]
    # Of np.take's modes, "clip" alone writes straight into the array given; all places are in range.
    if mode == "set":
        np.take(updates, order[np.append(starts[1:], places.size) - 1], 0, total, mode="clip")
    else:
        np.take(updates, order, 0, ordered, mode="clip")
        _REDUCE[mode].reduceat(ordered, starts, 0, None, total)
        np.take(rows, where, 0, found, mode="clip")
        _REDUCE[mode](found, total, out=total)
    rows[where] = total


# -- functions --------------------------------------------------------------------------------------


def take(x: Operand, indices: Operand, axis: int | None = None) -> Any:
    """x at integer `indices` of `axis` (of all elements in order where None); their shape takes the axis' place.

    Indices out of range count from the end where they are negative, and are clipped. Raises TypeRuleError for other dtypes.
    """
    x = x if isinstance(x, Value) else as_array(x)
    if axis is None or is_axis_of_scalar(axis, len(x.shape)):
        x, axis = reshape(x, (-1,)), 0
    return Gather((normalize_axis("take", axis, len(x.shape)),))(x, indices)


def take_along_axis(x: Operand, indices: Operand, axis: int | None = -1) -> Any:
    """y[i, j] = x[i, indices[i, j]] for the last axis of two, likewise for others; other axes broadcast. None: of all elements in order.

    Indices out of range count from the end where they are negative, and are clipped.
    """
    x, indices = (o if isinstance(o, Value) else as_array(o) for o in (x, indices))
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normalize_axis("take_along_axis", axis, len(x.shape))
    if len(indices.shape) != len(x.shape):
        raise TypeRuleError(f"take_along_axis: ranks differ: x has shape {x.shape}, indices {indices.shape}")
    beside = [a for a in range(len(x.shape)) if a != axis]
    if any(1 not in (x.shape[a], indices.shape[a]) and not same(x.shape[a], indices.shape[a], "take_along_axis") for a in beside):
        raise TypeRuleError(f"take_along_axis: shapes {x.shape} and {indices.shape} do not broadcast beside axis {axis}")
    shape = tuple(m if a == axis or n == 1 else n for a, (n, m) in enumerate(zip(x.shape, indices.shape)))
    places = [
        _broadcast(indices, shape) if a == axis else _broadcast(ZERO, shape) if x.shape[a] in (0, 1) else iota(shape, a)
        for a in range(len(shape))
    ]
    return Gather(tuple(range(len(shape))))(x, *places)


def _broadcast(x: Any, shape: Axes) -> Any:
    return np.broadcast_to(x, shape) if isinstance(x, np.ndarray) and not dims(shape) else broadcast_to(x, shape)
