"""Reductions over axes. The functions take NumPy's `axis`, `keepdims` and `dtype`; the ops hold the axes, sorted."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.axes import AxisRelation
from nagraph.ir.conversion import number
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, Box, Cost, Op, op, shared
from nagraph.ir.operators import functions
from nagraph.ir.sizes import Size, larger
from nagraph.ir.types import BOOL, DTYPES, INTEGERS, SIGNED, DType, TensorType, as_dtype, is_float
from nagraph.ops.base import F32, NARROW_FLOATS, cast
from nagraph.ops.comparison import equal, not_equal
from nagraph.ops.elementwise import maximum
from nagraph.ops.folding import Folding
from nagraph.ops.identities import stop_gradient
from nagraph.ops.joining import concatenate
from nagraph.ops.movement import broadcast_to, flip, reshape, transpose
from nagraph.ops.operands import as_array, is_axis_of_scalar, normalize_axes, shape_of
from nagraph.ops.rules import Maybe, ones_of
from nagraph.ops.slicing import slice_axis
from nagraph.ops.special import root

Axes = tuple[int, ...]
I64, U64, F64 = DTYPES["i64"], DTYPES["u64"], DTYPES["f64"]


class Reduction(Folding):
    """Removes `axes`. Shape: the remaining axes, in order."""

    widens = True
    shares_loops = True
    #: Whether a reduction over no elements has no answer.
    needs_elements: ClassVar[bool] = False
    #: What combines two elements.
    ufunc: ClassVar[np.ufunc]
    axes: Axes

    def result_dtype(self, dtype: DType) -> DType:
        return dtype

    def infer(self, x: TensorType) -> TensorType:
        if self.axes != normalize_axes(self.name, self.axes, x.rank):
            raise TypeRuleError(f"{self.name}: axes {list(self.axes)} must be sorted and not negative")
        if self.needs_elements and 0 in (x.shape[a] for a in self.axes):
            raise TypeRuleError(f"{self.name}: {x} has no elements along axes {list(self.axes)}, so there is no result")
        return TensorType(self.result_dtype(x.dtype), tuple(s for i, s in enumerate(x.shape) if i not in self.axes))

    def reference(self, x: Array) -> Array:
        return np.asarray(self.ufunc.reduce(x, axis=self.axes, dtype=self.result_dtype(x.dtype)))

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if builtins.any(t.dtype in NARROW_FLOATS for t in (*operands, *results)):
            return super().into(operands, results)
        axes, dtype, reduce = self.axes, results[0].dtype, self.ufunc.reduce
        return lambda x, y: reduce(x, axes, dtype, y)

    def fold_extents(self, x: TensorType) -> Axes:  # type: ignore[override]
        return tuple(x.shape[a] for a in self.axes)

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (tuple(a for a in range(x.rank) if a not in self.axes),)

    def in_order(self, order: Axes) -> Op:
        return self.with_attributes(axes=tuple(sorted(map(order.index, self.axes))))

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        (x,) = operands
        value = k.element(x, merged(index, reduced, self.axes))
        return (k.cast(value, self.result_dtype(x.dtype)),)

    def spread(self, y: Value, x: Value) -> Value:
        """A result broadcast back to the shape of the operand."""
        kept = tuple(1 if i in self.axes else s for i, s in enumerate(x.shape))
        result: Value = broadcast_to(reshape(y, kept), x.shape)
        return result

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (type(self)(tuple(a + 1 for a in self.axes))(*operands),)  # type: ignore[call-arg]

    def narrow(self, box: Box, x: TensorType) -> tuple[Op, Sequence[Box]]:
        return self, [merged(box, [(0, x.shape[a]) for a in self.axes], self.axes)]

    def cost(self, x: TensorType) -> Cost:
        return Cost(flops=x.size)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=tuple(range(2, 2 + builtins.max(self.axes, default=0) + 1))),)


def merged(index: Sequence[Any], reduced: Sequence[Any], axes: Axes) -> tuple[Any, ...]:
    """The operand's index: that of the result with the reduced ones at `axes`."""
    kept, gone = iter(index), iter(reduced)
    return tuple(next(gone) if a in axes else next(kept) for a in range(len(index) + len(reduced)))


def lowest(dtype: DType) -> Any:
    """What no element is less than."""
    return -np.inf if is_float(dtype) else False if dtype == BOOL else np.iinfo(dtype).min


def highest(dtype: DType) -> Any:
    """What no element is larger than."""
    return np.inf if is_float(dtype) else True if dtype == BOOL else np.iinfo(dtype).max


def _wide(dtype: DType) -> DType:
    """What NumPy sums and multiplies integers in."""
    if dtype == BOOL or dtype in SIGNED:
        return I64
    return U64 if dtype in INTEGERS else dtype


@op
class Sum(Reduction):
    """Sum: y = Σ x over the axes. Integers sum in 64 bits, 16-bit floats in float32. Linear."""

    ufunc = np.add
    axes: Axes

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        return (s.constant(0, dtypes[0]),)

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        return (x[0] | y[0] if x[0].dtype == BOOL else x[0] + y[0],)

    def result_dtype(self, dtype: DType) -> DType:
        return _wide(dtype)

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        return (None if ct is None else self.spread(ct, operands[0]),)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (None if tangents[0] is None else self(tangents[0]),)


@op
class RowSum(Sum):
    """A sum over rows, part by part: y[p, c] = Σ_r x[p, r, c], which the kernel that computes the rows r may make as it goes.

    The pass `split` marks sums so. The axes p come first, then the axes r, `axes`, then those of a row. Else it is `Sum`.
    """

    axes: Axes

    @property
    def fold_op(self) -> Sum:
        return Sum(self.axes)


@op
class Prod(Reduction):
    """Product: y = Π x over the axes. dy/dx is the product of the other elements, exact where some are zero."""

    ufunc = np.multiply
    axes: Axes

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        return (s.constant(1, dtypes[0]),)

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        return (x[0] * y[0],)

    def result_dtype(self, dtype: DType) -> DType:
        return _wide(dtype)

    def _others(self, x: Value) -> Value:
        """For each element, the product of the others along the reduced axes: exclusive products from both sides."""
        rest = tuple(i for i in range(x.ndim) if i not in self.axes)
        order = (*rest, *self.axes)
        moved = transpose(x, order)
        lead = tuple(x.shape[i] for i in rest)
        n = 0 if 0 in x.shape else math.prod(x.shape[a] for a in self.axes)
        flat = reshape(moved, (*lead, n))
        axis = len(lead)
        ones = ones_of(x.type.with_shape((*lead, 1)))

        def exclusive(v: Any) -> Any:
            return concatenate([ones, slice_axis(functions.cumprod(v, axis=axis), axis, 0, n - 1)], axis=axis)

        others = exclusive(flat) * flip(exclusive(flip(flat, axis)), axis) if n != 0 else flat
        back = tuple(int(i) for i in np.argsort(order))
        result: Value = transpose(reshape(others, moved.shape), back)
        return result

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        return (None if ct is None else self.spread(ct, operands[0]) * self._others(operands[0]),)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (t,) = tangents
        return (None if t is None else sum(t * self._others(operands[0]), axis=self.axes),)


class Extremum(Reduction):
    """Largest or smallest; elements that tie share the derivative equally."""

    needs_elements = True

    def _share(self, y: Value, x: Value) -> Value:
        hit = cast(equal(x, self.spread(y, x)), x.dtype)
        result: Value = hit / self.spread(sum(hit, axis=self.axes), x)
        return result

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,), (x,) = cotangents, operands
        return (None if ct is None else self.spread(ct, x) * self._share(results[0], x),)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (t,), (x,) = tangents, operands
        return (None if t is None else sum(t * self._share(results[0], x), axis=self.axes),)


@op
class Max(Extremum):
    """Largest element over the axes; nan if there is one."""

    ufunc = np.maximum
    axes: Axes

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        return (s.constant(lowest(dtypes[0]), dtypes[0]),)

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        return (s.maximum(x[0], y[0]),)


@op
class Min(Extremum):
    """Smallest element over the axes; nan if there is one."""

    ufunc = np.minimum
    axes: Axes

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        return (s.constant(highest(dtypes[0]), dtypes[0]),)

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        return (s.minimum(x[0], y[0]),)


class Quantifier(Reduction):
    """A bool over bools; numbers count as true where they are not 0."""

    widens = False

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype != BOOL:
            raise TypeRuleError(f"{self.name}: takes bools, got {x}")
        return super().infer(x)

    def samples(self, rng: np.random.Generator) -> Any:
        for (x,) in super().samples(rng):
            yield (x > 0,)


@op
class All(Quantifier):
    """Whether all elements over the axes are true; true of none."""

    ufunc = np.logical_and
    axes: Axes

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        return (s.constant(True, BOOL),)

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        return (x[0] & y[0],)


@op
class Any_(Quantifier):
    """Whether any element over the axes is true; false of none."""

    name = "any"
    ufunc = np.logical_or
    axes: Axes

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        return (s.constant(False, BOOL),)

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        return (x[0] | y[0],)


# -- functions --------------------------------------------------------------------------------------

Axis = int | Sequence[int] | None


def _operand(x: Any) -> Any:
    return x if isinstance(x, Value) else as_array(x)


def _reduce(kind: type[Reduction], x: Any, axis: Axis, keepdims: bool) -> Any:
    shape = shape_of(x)
    axes = () if is_axis_of_scalar(axis, len(shape)) else normalize_axes(kind.name, axis, len(shape))
    y = shared(kind, axes)(x)  # type: ignore[arg-type]
    if not keepdims:
        return y
    return reshape(y, [1 if i in axes else s for i, s in enumerate(shape)])


def sum(x: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:  # noqa: A001
    """Sum over axes (None: all)."""
    x = _operand(x)
    if dtype is not None:
        x = cast(x, dtype)
    y = _reduce(Sum, x, axis, keepdims)
    return y if dtype is None else cast(y, dtype)


def prod(x: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    """Product over axes (None: all)."""
    x = _operand(x)
    if dtype is not None:
        x = cast(x, dtype)
    y = _reduce(Prod, x, axis, keepdims)
    return y if dtype is None else cast(y, dtype)


def max(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:  # noqa: A001
    """Largest element over axes (None: all)."""
    return _reduce(Max, _operand(x), axis, keepdims)


def min(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:  # noqa: A001
    """Smallest element over axes (None: all)."""
    return _reduce(Min, _operand(x), axis, keepdims)


amax, amin = max, min


def _truth(x: Any) -> Any:
    x = _operand(x)
    return x if x.dtype == BOOL else not_equal(x, np.zeros((), x.dtype))


def all(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:  # noqa: A001
    """Whether all elements over axes (None: all) are true."""
    return _reduce(All, _truth(x), axis, keepdims)


def any(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:  # noqa: A001
    """Whether any element over axes (None: all) is true."""
    return _reduce(Any_, _truth(x), axis, keepdims)


def _count(shape: Sequence[int], axis: Axis) -> int:
    axes = normalize_axes("mean", axis, len(shape))
    n = 1
    for a in axes:
        n *= shape[a]
    return n


def mean(x: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    """Mean over axes (None: all). Integers give float64; 16-bit floats sum in float32."""
    wide, target = _widths(x, dtype)
    return cast(sum(wide, axis, keepdims=keepdims) / _divisor(_count(wide.shape, axis)), target)


def _divisor(n: int, ddof: float = 0) -> Any:
    """max(n - ddof, 0) as a number to divide by, which a size that is known later is as it is."""
    if not isinstance(n, Size):
        return float(np.maximum(n - number(ddof, F64), 0))
    left = n - (int(ddof) if ddof == int(ddof) else ddof)
    return larger(left, 0) if isinstance(left, Size) else maximum(left, 0)


def var(x: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    """Variance over axes: mean of (x - mean)², with max(n - ddof, 0) in place of n. 16-bit floats sum in float32."""
    wide, target = _widths(x, dtype)
    return cast(_mean_square(centred(wide, axis), axis, ddof, keepdims), target)


def centred(x: Any, axis: Axis = None) -> Any:
    """x - mean over axes, zero where all elements are equal."""
    x = shifted(x, axis)[0]
    return x - mean(x, axis, keepdims=True)


def shifted(x: Any, axis: Axis = None) -> tuple[Any, Any]:
    """(x - x₀, x₀) for the first element x₀ along the axes, of which no derivative is taken; x and 0 where there is none.

    Sums of such differences are rounded in proportion to the deviations of x, wherever it lies; those of x itself in
    proportion to its size, and they may overflow.
    """
    if _count(x.shape, axis) == 0:
        return x, np.zeros((), x.dtype)
    first = x
    for a in normalize_axes("mean", axis, len(x.shape)):
        first = slice_axis(first, a, 0, 1)
    first = stop_gradient(first)
    return x - first, first


def _widths(x: Any, dtype: Any) -> tuple[Any, DType]:
    """x in the dtype in which it is summed, and the dtype of the result."""
    x = _operand(x)
    target = as_dtype(dtype) if dtype is not None else x.dtype if is_float(x.dtype) else F64
    return cast(x, F32 if target.itemsize == 2 else target), target


def _mean_square(x: Any, axis: Axis, ddof: float, keepdims: bool) -> Any:
    return sum(x * x, axis, keepdims=keepdims) / _divisor(_count(x.shape, axis), ddof)


def std(x: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    """Standard deviation over axes, computed in float64, in whose range the squares lie. Its derivative where all are equal is 0."""
    wide, target = _widths(x, dtype)
    return cast(root(_mean_square(centred(cast(wide, F64), axis), axis, ddof, keepdims)), target)


functions.register(sum=sum)
