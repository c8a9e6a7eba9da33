"""Running sums, products and maxima along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, Cost, Op, op
from nagraph.ir.operators import functions
from nagraph.ir.types import DType, TensorType, is_float
from nagraph.ops.arg_extremum import argmax
from nagraph.ops.base import NARROW_FLOATS, cast
from nagraph.ops.comparison import equal, greater_equal, logical_and
from nagraph.ops.elementwise import where
from nagraph.ops.folding import Folding
from nagraph.ops.movement import broadcast_to, expand_dims, flip, iota, moveaxis, reshape
from nagraph.ops.operands import as_array, normalize_axis, shape_of
from nagraph.ops.reduction import Max, Min, Prod, Reduction, Sum, _wide, prod, sum
from nagraph.ops.rules import Maybe


class Cumulative(Folding):
    """y[i] combines x[0] .. x[i] along an axis, or x[i] .. x[-1] with `reverse`. Shape kept."""

    widens = True
    running = True
    ufunc: ClassVar[Any]
    #: The reduction whose steps these are.
    whole: ClassVar[type[Reduction]]
    axis: int
    reverse: bool

    def result_dtype(self, dtype: DType) -> DType:
        return dtype

    def infer(self, x: TensorType) -> TensorType:
        if not 0 <= self.axis < x.rank:
            raise TypeRuleError(f"{self.name}: axis {self.axis} is out of range for {x}")
        return x.with_dtype(self.result_dtype(x.dtype))

    def reference(self, x: Array) -> Array:
        x = x.astype(self.result_dtype(x.dtype), copy=False)
        if not self.reverse:
            return np.asarray(self.ufunc.accumulate(x, axis=self.axis))
        return np.flip(self.ufunc.accumulate(np.flip(x, self.axis), axis=self.axis), self.axis)

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if self.reverse or operands != results or operands[0].dtype in NARROW_FLOATS:
            return super().into(operands, results)
        axis, accumulate = self.axis, self.ufunc.accumulate
        return lambda x, y: accumulate(x, axis, None, y)

    def most_rows(self, x: TensorType) -> int:  # type: ignore[override]
        return max(1, math.prod(x.shape[:self.axis]))

    def fold_extents(self, x: TensorType) -> tuple[int, ...]:  # type: ignore[override]
        return (x.shape[self.axis],)

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        (x,) = operands
        value = k.element(x, tuple(index))
        return (k.cast(value, self.result_dtype(x.dtype)),)

    @property
    def fold_op(self) -> Op:
        return self.whole((self.axis,))  # type: ignore[call-arg]

    def again(self, x: Any, reverse: bool) -> Any:
        return type(self)(self.axis, reverse)(x)  # type: ignore[call-arg]

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (type(self)(self.axis + 1, self.reverse)(*operands),)  # type: ignore[call-arg]

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=x.size)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=tuple(range(2, 3 + self.axis))),)


@op
class Cumsum(Cumulative):
    """Running sum. Linear: its adjoint is the running sum from the other end."""

    ufunc = np.add
    whole = Sum
    axis: int
    reverse: bool = False

    @property
    def fold_op(self) -> Op:
        return self

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        """-0.0, to which any number is added unchanged: the first sum is the first element, which may be -0.0."""
        return (s.constant(-0.0 if is_float(dtypes[0]) else 0, dtypes[0]),)

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        return (x[0] + y[0],)

    def result_dtype(self, dtype: DType) -> DType:
        return _wide(dtype)

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        return (None if ct is None else self.again(ct, not self.reverse),)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (None if tangents[0] is None else self(tangents[0]),)


def _pairwise(x: Value, axis: int) -> tuple[Value, Value]:
    """x with axis moved last, as [..., 1, n] spread to [..., i, j]; and the bool mask j <= i."""
    last = moveaxis(x, axis, -1)
    n = last.shape[-1]
    wide = broadcast_to(expand_dims(last, last.ndim - 1), (*last.shape[:-1], n, n))
    mask = greater_equal(iota("int64", (n, n), 0), iota("int64", (n, n), 1))
    return wide, mask


@op
class Cumprod(Cumulative):
    """Running product. dy[i]/dx[j] is the product of the others up to i, exact where some are zero: O(n²)."""

    ufunc = np.multiply
    whole = Prod
    axis: int
    reverse: bool = False

    def result_dtype(self, dtype: DType) -> DType:
        return _wide(dtype)

    def _jacobian(self, x: Value) -> Value:
        """[..., i, j]: the product of x[0] .. x[i] without x[j], zero for j > i (axis last)."""
        x = flip(x, self.axis) if self.reverse else x
        wide, mask = _pairwise(x, self.axis)
        one, zero = np.ones((), x.dtype), np.zeros((), x.dtype)
        n = wide.shape[-1]
        used = where(mask, wide, one)
        cube = broadcast_to(expand_dims(used, used.ndim - 1), (*used.shape[:-1], n, n))
        diagonal = equal(iota("int64", (n, n), 0), iota("int64", (n, n), 1))
        without = prod(where(diagonal, one, cube), axis=-1)
        result: Value = where(mask, without, zero)
        return result

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        if ct is None:
            return (None,)
        ct = flip(ct, self.axis) if self.reverse else ct
        last = moveaxis(ct, self.axis, -1)
        found = moveaxis(sum(expand_dims(last, last.ndim) * self._jacobian(operands[0]), axis=-2), -1, self.axis)
        return (flip(found, self.axis) if self.reverse else found,)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (t,) = tangents
        if t is None:
            return (None,)
        t = flip(t, self.axis) if self.reverse else t
        last = moveaxis(t, self.axis, -1)
        found = moveaxis(sum(expand_dims(last, last.ndim - 1) * self._jacobian(operands[0]), axis=-1), -1, self.axis)
        return (flip(found, self.axis) if self.reverse else found,)


class CumulativeExtremum(Cumulative):
    """The derivative goes to the first element that reached the running extremum."""

    def _first(self, y: Value, x: Value) -> Value:
        """[..., i, j] bool: x[j] is the first element equal to y[i] among those up to i (axis last)."""
        if self.reverse:
            x, y = flip(x, self.axis), flip(y, self.axis)
        wide, mask = _pairwise(x, self.axis)
        last = moveaxis(y, self.axis, -1)
        n = last.shape[-1]
        hit = logical_and(equal(wide, expand_dims(last, last.ndim)), mask)
        first = argmax(hit, axis=-1)
        result: Value = equal(expand_dims(first, first.ndim), iota("int64", (n, n), 1))
        return result

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,), (x,) = cotangents, operands
        if ct is None:
            return (None,)
        weights = cast(self._first(results[0], x), x.dtype)
        ct = flip(ct, self.axis) if self.reverse else ct
        last = moveaxis(ct, self.axis, -1)
        found = moveaxis(sum(expand_dims(last, last.ndim) * weights, axis=-2), -1, self.axis)
        return (flip(found, self.axis) if self.reverse else found,)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (t,), (x,) = tangents, operands
        if t is None:
            return (None,)
        weights = cast(self._first(results[0], x), x.dtype)
        t = flip(t, self.axis) if self.reverse else t
        last = moveaxis(t, self.axis, -1)
        found = moveaxis(sum(expand_dims(last, last.ndim - 1) * weights, axis=-1), -1, self.axis)
        return (flip(found, self.axis) if self.reverse else found,)


@op
class Cummax(CumulativeExtremum):
    """Running maximum; nan from the first nan on."""

    ufunc = np.maximum
    whole = Max
    axis: int
    reverse: bool = False


@op
class Cummin(CumulativeExtremum):
    """Running minimum; nan from the first nan on."""

    ufunc = np.minimum
    whole = Min
    axis: int
    reverse: bool = False


def _cumulative(kind: Any, x: Any, axis: int | None, reverse: bool, dtype: Any) -> Any:
    x = x if isinstance(x, Value) else as_array(x)
    if dtype is not None:
        x = cast(x, dtype)
    if axis is None or not shape_of(x):  # rank 0 counts as one element on axis 0
        x, axis = reshape(x, -1), 0 if axis is None else axis
    place = normalize_axis(kind.name, axis, len(shape_of(x)))
    y = kind(place, reverse)(x)
    return y if dtype is None else cast(y, dtype)


def cumsum(x: Any, axis: int | None = None, dtype: Any = None, reverse: bool = False) -> Any:
    """Running sum along an axis (None: of all elements in order)."""
    return _cumulative(Cumsum, x, axis, reverse, dtype)


def cumprod(x: Any, axis: int | None = None, dtype: Any = None, reverse: bool = False) -> Any:
    """Running product along an axis (None: of all elements in order)."""
    return _cumulative(Cumprod, x, axis, reverse, dtype)


def cummax(x: Any, axis: int | None = None, reverse: bool = False) -> Any:
    """Running maximum along an axis (None: of all elements in order)."""
    return _cumulative(Cummax, x, axis, reverse, None)


def cummin(x: Any, axis: int | None = None, reverse: bool = False) -> Any:
    """Running minimum along an axis (None: of all elements in order)."""
    return _cumulative(Cummin, x, axis, reverse, None)


functions.register(cumprod=cumprod)
