"""Padding: a tensor with others put around it, and between its elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, Op, op
from nagraph.ir.types import INTEGERS, TensorType, type_of
from nagraph.ops.base import Linear, Maybe, shape_of
from nagraph.ops.indexing import take
from nagraph.ops.joining import Concatenate, concatenate
from nagraph.ops.movement import Shape, Slice, broadcast_to, flip, slice_axis


@op
class Pad(Linear):
    """x with zeros (or `value`) below and above on each axis, and `inner` of them between neighbours."""

    low: Shape
    high: Shape
    inner: Shape
    value: float = 0.0

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.low) == len(self.high) == len(self.inner) == x.rank:
            raise TypeRuleError(f"pad: {x} needs low, high and inner for {x.rank} axes, got {len(self.low)}")
        if min((*self.low, *self.high, *self.inner), default=0) < 0:
            raise TypeRuleError(f"pad: amounts are at least 0, got low {self.low}, high {self.high}, inner {self.inner}")
        if x.dtype in INTEGERS and not np.iinfo(x.dtype).min <= self.value <= np.iinfo(x.dtype).max:
            raise TypeRuleError(f"pad: {x} can't hold the value {self.value}")
        return x.with_shape(tuple(a + b + n + max(n - 1, 0) * s for a, b, s, n in zip(self.low, self.high, self.inner, x.shape)))

    def reference(self, x: Array) -> Array:
        y = np.empty(self.infer(type_of(x)).shape, x.dtype)
        self._write(x, y)
        return y

    def _write(self, x: Array, y: Array) -> None:
        y[...] = self.value
        y[tuple(slice(a, y.shape[i] - b, s + 1) for i, (a, b, s) in enumerate(zip(self.low, self.high, self.inner)))] = x

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        return self._write

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        (x,) = operands
        places, mask = [], None
        for i, n, low, inner in zip(index, x.shape, self.low, self.inner):
            at = k.sum([(i, 1)], -low)
            if not k.always(at, n, inner + 1):
                mask = k.within(at, (n - 1) * (inner + 1) + 1 if n else 0, inner + 1, mask)
            places.append(k.quotient(at, inner + 1) if n > 1 else k.sum(()))  # inside, the only index of one element is 0
        if mask is None:
            return int(k.element(x, tuple(places)))
        with k.masked(mask):
            inside = k.element(x, tuple(places))
        return int(k.select(mask, inside, k.number(self.value, x.dtype)))

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (None if tangents[0] is None else Pad(self.low, self.high, self.inner)(tangents[0]),)

    def plus(self, operands: tuple[Value, ...], other: Op, others: tuple[Value, ...]) -> Value | None:
        """Two paddings of parts that lie side by side are one padding of both: the cotangents of slices meet so."""
        return side_by_side(self, operands[0], other, others[0]) if isinstance(other, Pad) else None

    def transpose(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        stop = tuple(max(n - b, a) for a, b, n in zip(self.low, self.high, ct.shape))
        return (Slice(self.low, stop, tuple(s + 1 for s in self.inner))(ct),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (Pad((0, *self.low), (0, *self.high), (0, *self.inner), self.value)(operands[0]),)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3,) * len(self.low)),)


def side_by_side(a: Pad, x: Value, b: Pad, y: Value) -> Value | None:
    """pad x + pad y as the padding of x and y joined, where one begins on an axis at which the other ends; None elsewhere.

    Both pad with zeros to one shape. So -0.0 stays, which beside a zero of the other would become 0.0.
    """
    if (a.value, b.value) != (0, 0) or any((*a.inner, *b.inner)) or a.infer(x.type) != b.infer(y.type):
        return None
    differ = [i for i in range(x.ndim) if a.low[i] != b.low[i] or x.shape[i] != y.shape[i]]
    if len(differ) != 1:
        return None
    axis = differ[0]
    if b.low[axis] + y.shape[axis] == a.low[axis]:
        a, x, b, y = b, y, a, x
    elif a.low[axis] + x.shape[axis] != b.low[axis]:
        return None
    inner = (0,) * x.ndim
    joined: Value = Pad(a.low, tuple(map(min, a.high, b.high)), inner)(Concatenate(axis)(x, y))
    return joined


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Any:
    """x with elements put around it: mode "constant", "edge" (the last one), or "reflect" (mirrored, edge not repeated).

    pad_width: a number, (low, high), or a pair for each axis.
    """
    rank = len(shape_of(x))
    widths = [(int(a), int(b)) for a, b in np.broadcast_to(np.asarray(pad_width), (rank, 2))]
    if mode == "constant":
        low, high = zip(*widths) if widths else ((), ())
        return Pad(tuple(low), tuple(high), (0,) * rank, float(constant_values))(x)
    if mode not in ("edge", "reflect"):
        raise TypeRuleError(f"pad: mode is constant, edge or reflect, got {mode!r}")
    for axis, (a, b) in enumerate(widths):
        n = shape_of(x)[axis]
        if not a and not b:
            continue
        if n == 0:
            raise TypeRuleError(f"pad: {mode} takes elements from axis {axis}, which has none")
        if mode == "reflect" and max(a, b) > n - 1:  # mirrored more than once
            x = take(x, np.pad(np.arange(n), (a, b), "reflect"), axis)
            continue
        if mode == "reflect":
            before, after = flip(slice_axis(x, axis, 1, a + 1), axis), flip(slice_axis(x, axis, n - 1 - b, n - 1), axis)
        else:
            shape = list(shape_of(x))
            before = broadcast_to(slice_axis(x, axis, 0, 1), [*shape[:axis], a, *shape[axis + 1:]])
            after = broadcast_to(slice_axis(x, axis, n - 1, n), [*shape[:axis], b, *shape[axis + 1:]])
        x = concatenate([before, x, after], axis=axis)
    return x
