"""Where the largest or the smallest element of an axis stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.axes import AxisRelation
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.types import DTYPES, DType, TensorType, is_float
from nagraph.ops.folding import Folding
from nagraph.ops.movement import reshape
from nagraph.ops.operands import as_array, is_axis_of_scalar, normalize_axis, shape_of
from nagraph.ops.reduction import highest, lowest, merged

Axes = tuple[int, ...]
I64 = DTYPES["i64"]


class ArgExtremum(Folding):
    """The index of the first largest or smallest element on one axis; the first nan if there is one."""

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        if not 0 <= self.axis < x.rank:
            raise TypeRuleError(f"{self.name}: axis {self.axis} is out of range for {x}")
        if x.shape[self.axis] == 0:
            raise TypeRuleError(f"{self.name}: {x} has no elements along axis {self.axis}")
        return TensorType(I64, x.shape[:self.axis] + x.shape[self.axis + 1:])

    def fold_extents(self, x: TensorType) -> Axes:  # type: ignore[override]
        return (x.shape[self.axis],)

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (tuple(a for a in range(x.rank) if a != self.axis),)

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        (x,) = operands
        value = k.element(x, merged(index, reduced, (self.axis,)))
        return value, k.position(reduced[0])

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        return s.constant(lowest(dtypes[0]), dtypes[0]), s.constant(np.iinfo(I64).max, I64)

    def better(self, s: Any, x: Any, y: Any) -> Any:
        """Whether y comes before x, wherever it stands."""
        return y > x

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        """nan comes before all; of equals, or of nans, the first one counts."""
        wins, ties = self.better(s, x[0], y[0]), s.eq(x[0], y[0])
        if is_float(x[0].dtype):
            new, old = s.is_nan(y[0]), s.is_nan(x[0])
            wins, ties = (wins & ~old) | (new & ~old), ties | (new & old)
        takes = wins | (ties & (y[1] < x[1]))
        return s.select(takes, y[0], x[0]), s.select(takes, y[1], x[1])

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (type(self)(self.axis + 1)(*operands),)  # type: ignore[call-arg]

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=x.size)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=tuple(range(2, 3 + self.axis))),)


@op
class ArgMax(ArgExtremum):
    """The index of the first largest element on an axis."""

    name = "argmax"
    axis: int

    def reference(self, x: Array) -> Array:
        return np.asarray(np.argmax(x, axis=self.axis))


@op
class ArgMin(ArgExtremum):
    """The index of the first smallest element on an axis."""

    name = "argmin"
    axis: int

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        return s.constant(highest(dtypes[0]), dtypes[0]), s.constant(np.iinfo(I64).max, I64)

    def better(self, s: Any, x: Any, y: Any) -> Any:
        return y < x

    def reference(self, x: Array) -> Array:
        return np.asarray(np.argmin(x, axis=self.axis))


def _arg(kind: type[ArgExtremum], x: Any, axis: int | None, keepdims: bool) -> Any:
    x = x if isinstance(x, Value) else as_array(x)
    shape = shape_of(x)
    if axis is None or is_axis_of_scalar(axis, len(shape)):
        y = kind(0)(reshape(x, -1))  # type: ignore[call-arg]
        return reshape(y, (1,) * len(shape)) if keepdims else y
    place = normalize_axis(kind.name, axis, len(shape))
    y = kind(place)(x)  # type: ignore[call-arg]
    return reshape(y, [1 if i == place else s for i, s in enumerate(shape)]) if keepdims else y


def argmax(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """Index of the first largest element on an axis (None: of all elements in order)."""
    return _arg(ArgMax, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """Index of the first smallest element on an axis (None: of all elements in order)."""
    return _arg(ArgMin, x, axis, keepdims)
