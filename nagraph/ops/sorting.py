"""Sorting along an axis: stable, nan last, as in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.types import DTYPES, TensorType, bfloat16, is_float
from nagraph.ops.base import Primitive
from nagraph.ops.comparison import isnan
from nagraph.ops.elementwise import where
from nagraph.ops.indexing import take_along_axis
from nagraph.ops.movement import reshape
from nagraph.ops.operands import as_array, is_axis_of_scalar, normalize_axis, shape_of
from nagraph.ops.rules import Maybe
from nagraph.ops.slicing import slice_axis

I64 = DTYPES["i64"]


def _order(x: Array, axis: int) -> Array:
    """The indices that sort an array. Of bfloat16 in float32: NumPy puts nan last in dtypes of its own alone."""
    return np.argsort(x.astype(np.float32) if x.dtype == bfloat16 else x, axis=axis, kind="stable")


@op
class Argsort(Primitive):
    """The indices that sort an axis in ascending order; equal elements keep their order, nan comes last."""

    host = False
    axis: int

    def infer(self, x: TensorType) -> TensorType:
        if not 0 <= self.axis < x.rank:
            raise TypeRuleError(f"argsort: axis {self.axis} is out of range for {x}")
        return TensorType(I64, x.shape)

    def reference(self, x: Array) -> Array:
        return _order(x, self.axis)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (Argsort(self.axis + 1)(*operands),)

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=x.size * float(np.log2(max(2, x.shape[self.axis]))))

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=tuple(range(2, 3 + self.axis))),)


@op
class Sort(Primitive):
    """An axis in ascending order, nan last. Its derivative is the same permutation of the tangents."""

    host = False
    axis: int

    def infer(self, x: TensorType) -> TensorType:
        if not 0 <= self.axis < x.rank:
            raise TypeRuleError(f"sort: axis {self.axis} is out of range for {x}")
        return x

    def reference(self, x: Array) -> Array:
        if x.dtype == bfloat16:
            return np.take_along_axis(x, _order(x, self.axis), self.axis)
        return np.sort(x, axis=self.axis, kind="stable")

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        if ct is None:
            return (None,)
        order = argsort(operands[0], self.axis)
        return (take_along_axis(ct, argsort(order, self.axis), self.axis),)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (t,) = tangents
        return (None if t is None else take_along_axis(t, argsort(operands[0], self.axis), self.axis),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (Sort(self.axis + 1)(*operands),)

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=x.size * float(np.log2(max(2, x.shape[self.axis]))))

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=tuple(range(2, 3 + self.axis))),)


def _axis(name: str, x: Any, axis: int | None) -> tuple[Any, int]:
    x = x if isinstance(x, Value) else as_array(x)
    if axis is None:
        return reshape(x, -1), 0
    return x, normalize_axis(name, axis, len(shape_of(x)))


def sort(x: Any, axis: int | None = -1) -> Any:
    """x in ascending order on an axis (None: all elements)."""
    x, place = _axis("sort", x, axis)
    return Sort(place)(x)


def argsort(x: Any, axis: int | None = -1) -> Any:
    """The indices that sort x on an axis, stable."""
    x, place = _axis("argsort", x, None if is_axis_of_scalar(axis, len(shape_of(x))) else axis)
    return Argsort(place)(x)


def top_k(x: Any, k: int) -> tuple[Any, Any]:
    """The k largest elements on the last axis, largest first, and their indices; ties by lowest index, nan smallest."""
    x, last = _axis("top_k", x, -1)
    k = integer("top_k: k", k)
    n = shape_of(x)[last]
    if not 0 <= k <= n:
        raise TypeRuleError(f"top_k: k is between 0 and {n}, the size of the last axis; got {k}")
    if is_float(x.dtype):
        keys = where(isnan(x), np.asarray(np.inf, x.dtype), -x)
    else:
        # The bitwise complement reverses the order of integers and bools without overflow.
        keys = ~x
    indices = slice_axis(argsort(keys, last), last, 0, k)
    return take_along_axis(x, indices, last), indices
