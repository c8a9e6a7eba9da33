"""Slices, and paddings, which are their adjoints: a part of a tensor read, and put back among zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.axes import AxisRelation, every_axis
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, Box, Op, op
from nagraph.ir.operators import functions
from nagraph.ir.sizes import larger, smaller
from nagraph.ir.types import INTEGERS, TensorType, type_of
from nagraph.ops.base import Linear
from nagraph.ops.operands import shape_of
from nagraph.ops.rules import Maybe

Shape = tuple[int, ...]


@op
class Slice(Linear):
    """Every step-th index from start up to stop, on each axis: y[i] = x[start + i step]. Steps are positive."""

    view = True
    start: Shape
    stop: Shape
    step: Shape

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.start) == len(self.stop) == len(self.step) == x.rank:
            raise TypeRuleError(f"slice: {x} needs start, stop and step for {x.rank} axes, got {len(self.start)}")
        shape = []
        for i, (a, b, s, n) in enumerate(zip(self.start, self.stop, self.step, x.shape)):
            if not (0 <= a <= b <= n and s > 0):
                raise TypeRuleError(f"slice: axis {i} of {x}: needs 0 <= start {a} <= stop {b} <= {n} and step {s} > 0")
            shape.append(-(-(b - a) // s))
        return x.with_shape(tuple(shape))

    def reference(self, x: Array) -> Array:
        result: Array = x[tuple(map(slice, self.start, self.stop, self.step))]
        return result

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        """Axes that are taken whole stay what they are."""
        taken = enumerate(zip(self.start, self.stop, self.step, x.shape))
        return (every_axis(x.rank, [i for i, (a, b, s, n) in taken if (a, b, s) != (0, n, 1)]),)

    def in_order(self, order: Shape) -> Slice:
        start, stop, step = (tuple(along[a] for a in order) for along in (self.start, self.stop, self.step))
        return Slice(start, stop, step)

    def with_sizes(self, result: TensorType, x: TensorType) -> Slice:
        """Only axes that are whole may have another size."""
        changed = [-(-(b - a) // s) != n for a, b, s, n in zip(self.start, self.stop, self.step, result.shape)]
        return Slice(self.start, tuple(n if c else b for b, n, c in zip(self.stop, result.shape, changed)), self.step)

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        found: int = k.element(operands[0], tuple(k.sum([(i, s)], a) for i, a, s in zip(index, self.start, self.step)))
        return found

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        high, inner = [], []
        for a, n, s, m in zip(self.start, operands[0].shape, self.step, ct.shape):
            spread = larger((m - 1) * s + 1, 0)
            high.append(n - a - spread)
            inner.append(s - 1)
        return (Pad(self.start, tuple(high), tuple(inner))(ct),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (Slice((0, *self.start), (size, *self.stop), (1, *self.step))(operands[0]),)

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Slice:
        """The slice that takes all."""
        return cls((0,) * len(shape), tuple(shape), (1,) * len(shape))

    def narrow(self, box: Box, x: TensorType) -> tuple[Op, Sequence[Box]] | None:
        if any(a == b for a, b in box):
            return None
        found = tuple((low + a * s, low + (b - 1) * s + 1) for (a, b), low, s in zip(box, self.start, self.step))
        return Slice((0,) * len(box), tuple(b - a for a, b in found), self.step), [found]

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=self.stop),)


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
        if any([n < 0 for n in (*self.low, *self.high, *self.inner)]):
            raise TypeRuleError(f"pad: amounts are at least 0, got low {self.low}, high {self.high}, inner {self.inner}")
        if x.dtype in INTEGERS and not np.iinfo(x.dtype).min <= self.value <= np.iinfo(x.dtype).max:
            raise TypeRuleError(f"pad: {x} can't hold the value {self.value}")
        return x.with_shape(tuple(a + b + n + larger(n - 1, 0) * s for a, b, s, n in zip(self.low, self.high, self.inner, x.shape)))

    def reference(self, x: Array) -> Array:
        y = np.empty(self.infer(type_of(x)).shape, x.dtype)
        self._write(x, y)
        return y

    def _write(self, x: Array, y: Array) -> None:
        y[...] = self.value
        y[tuple(slice(a, y.shape[i] - b, s + 1) for i, (a, b, s) in enumerate(zip(self.low, self.high, self.inner)))] = x

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        return self._write

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (every_axis(x.rank, [i for i, n in enumerate(zip(self.low, self.high, self.inner)) if any(n)]),)

    def in_order(self, order: Shape) -> Pad:
        low, high, inner = (tuple(along[a] for a in order) for along in (self.low, self.high, self.inner))
        return Pad(low, high, inner, self.value)

    def parts(self, x: TensorType) -> Sequence[Box] | None:
        return None if any(self.inner) else [tuple((a, a + n) for a, n in zip(self.low, x.shape))]

    @property
    def filling(self) -> float:
        return self.value

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

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        stop = tuple(larger(n - b, a) for a, b, n in zip(self.low, self.high, ct.shape))
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
    joined: Value = Pad(a.low, tuple(map(smaller, a.high, b.high)), inner)(functions.concatenate([x, y], axis=axis))
    return joined


def slice_axis(x: Any, axis: int, start: int, stop: int) -> Any:
    """x[start:stop] on one axis."""
    shape = shape_of(x)
    low, high = [0] * len(shape), list(shape)
    low[axis], high[axis] = start, stop
    return Slice(tuple(low), tuple(high), (1,) * len(shape))(x)
