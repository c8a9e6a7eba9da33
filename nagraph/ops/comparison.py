"""Comparison, logic, and questions about numbers: results are bools, so nothing here has a derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nagraph.ir.graph import Value
from nagraph.ir.op import Array, op
from nagraph.ir.operators import functions
from nagraph.ir.promotion import WEAK
from nagraph.ir.types import BOOL, INTEGERS, DType, is_float
from nagraph.ops.base import ANY, Elementwise, cast, convert
from nagraph.ops.operands import as_array, dtype_item

if TYPE_CHECKING:
    from nagraph.ir.scalar import Scalar, ScalarBuilder


class Comparison(Elementwise):
    """A bool for each pair, compared in the promoted dtype (int64 with uint64 in float64).

    Python's integers are compared as the numbers that they are, also where the dtype of the other operand can't hold them.
    """

    dtypes = ANY

    def result_dtype(self, dtype: DType) -> DType:
        return BOOL

    def __call__(self, *operands: Any) -> Any:
        return super().__call__(*(_within(*operands) if len(operands) == 2 else operands))

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), rng.normal(size=(4,))
        yield np.array([0.0, -0.0, np.nan, np.inf]), np.array([0.0, 0.0, np.nan, -np.inf])
        yield np.arange(6).reshape(2, 3), np.array(3)


def _within(x: Any, y: Any) -> tuple[Any, Any]:
    """Two operands that compare as x and y: where one is a Python int beyond the other's integer dtype, two that fit.

    Such a number is on one side of all others, so that -1 or 1 stand for it, and 0 for each of those.
    """
    for i, (number, other) in enumerate(((x, y), (y, x))):
        dtype = dtype_item(other)
        if type(number) is int and isinstance(dtype, np.dtype) and dtype in INTEGERS:
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            if not low <= number <= high:
                zeros = functions.multiply(cast(other, "int8"), np.int8(0))
                side = np.int8(1 if number > high else -1)
                return (side, zeros) if i == 0 else (zeros, side)
    return x, y


@op
class Equal(Comparison):
    """x = y; nan equals nothing."""

    reference = staticmethod(np.equal)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.compare("eq", x, y)


@op
class NotEqual(Comparison):
    """x ≠ y; nan differs from everything."""

    reference = staticmethod(np.not_equal)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.compare("ne", x, y)


@op
class Less(Comparison):
    """x < y."""

    reference = staticmethod(np.less)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.compare("lt", x, y)


@op
class LessEqual(Comparison):
    """x ≤ y."""

    reference = staticmethod(np.less_equal)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.compare("le", x, y)


@op
class Greater(Comparison):
    """x > y."""

    reference = staticmethod(np.greater)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.compare("gt", x, y)


@op
class GreaterEqual(Comparison):
    """x ≥ y."""

    reference = staticmethod(np.greater_equal)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.compare("ge", x, y)


class Logical(Comparison):
    """Logic on truth values: numbers count as true where they are not 0."""

    dtypes = frozenset((BOOL,))

    def __call__(self, *operands: Any) -> Any:
        return super(Comparison, self).__call__(*operands)

    def prepare(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """The truth of each operand by itself, whatever the dtype of the other."""
        self._check_count(operands)
        return tuple(map(_truth, operands))


def _truth(operand: Any) -> Any:
    operand = operand if isinstance(operand, Value) else as_array(bool(operand) if type(operand) in WEAK else operand)
    return operand if operand.dtype == BOOL else not_equal(operand, convert(0, operand.dtype))


@op
class LogicalAnd(Logical):
    """x and y."""

    reference = staticmethod(np.logical_and)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x & y


@op
class LogicalOr(Logical):
    """x or y."""

    reference = staticmethod(np.logical_or)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x | y


@op
class LogicalXor(Logical):
    """Exactly one of x and y."""

    reference = staticmethod(np.logical_xor)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x ^ y


@op
class LogicalNot(Logical):
    """not x."""

    reference = staticmethod(np.logical_not)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3, 4)) > 0,)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return ~x


class Question(Comparison):
    """A bool for each number."""

    def samples(self, rng: np.random.Generator) -> Any:
        yield (np.array([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf]),)
        yield (np.arange(3),)


@op
class IsNan(Question):
    """Whether x is nan."""

    def reference(self, x: Array) -> Array:
        return np.not_equal(x, x)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return s.is_nan(x)


@op
class IsFinite(Question):
    """Whether x is neither nan nor infinite."""

    reference = staticmethod(np.isfinite)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return s.abs(x) < float("inf") if is_float(x.dtype) else s.constant(True, BOOL)


@op
class IsInf(Question):
    """Whether x is inf or -inf."""

    reference = staticmethod(np.isinf)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return s.eq(s.abs(x), float("inf")) if is_float(x.dtype) else s.constant(False, BOOL)


equal, not_equal, less, less_equal = Equal(), NotEqual(), Less(), LessEqual()
greater, greater_equal = Greater(), GreaterEqual()
logical_and, logical_or, logical_xor, logical_not = LogicalAnd(), LogicalOr(), LogicalXor(), LogicalNot()
isnan, isfinite, isinf = IsNan(), IsFinite(), IsInf()

functions.register(less=less, less_equal=less_equal, greater=greater, greater_equal=greater_equal)
