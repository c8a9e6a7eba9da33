"""Elementwise arithmetic and choice. Comparison, bits, rounding and special functions have files of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nagraph.elementary import integers, powers, remainders
from nagraph.errors import TypeRuleError
from nagraph.ir.conversion import number
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, op
from nagraph.ir.operators import functions
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS, SHORT_NAMES, DType, TensorType, as_dtype, is_float
from nagraph.ops.base import ANY, NARROW_FLOATS, Elementwise, cast, convert
from nagraph.ops.comparison import equal, greater_equal, logical_and, not_equal
from nagraph.ops.movement import broadcast_to
from nagraph.ops.operands import as_array
from nagraph.ops.rules import Maybe, full, sum_to

if TYPE_CHECKING:
    from nagraph.ir.scalar import Scalar, ScalarBuilder


class Binary(Elementwise):
    """Two operands; samples of both kinds of numbers, broadcasting included."""

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)) + 0.1, rng.normal(size=(4,)) + 3.0
        yield rng.normal(size=(2, 1, 3)), rng.uniform(0.5, 2.0, size=(4, 1))
        yield np.arange(1, 7).reshape(2, 3), np.array(3)


class Unary(Elementwise):
    """One operand."""

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.uniform(0.2, 0.8, size=(3, 4)),)
        yield (np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 20.0, 1e-40]),)


@op
class Add(Binary):
    """Sum: z = x + y. Shapes broadcast; dtypes promote as in NumPy; on bools it is `or`."""

    dtypes = ANY
    reference = staticmethod(np.add)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[float, float]:
        return 1, 1

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x | y if x.dtype == BOOL else x + y


@op
class Subtract(Binary):
    """Difference: z = x - y. Shapes broadcast; dtypes promote as in NumPy; no bools, as in NumPy."""

    reference = staticmethod(np.subtract)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[float, float]:
        return 1, -1

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x - y


@op
class Multiply(Binary):
    """Product: z = x y. Shapes broadcast; dtypes promote as in NumPy; on bools it is `and`."""

    dtypes = ANY
    reference = staticmethod(np.multiply)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[Value, Value]:
        return y, x

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x & y if x.dtype == BOOL else x * y


@op
class Divide(Binary):
    """Quotient: z = x / y. Integers give float64, as in NumPy; x / 0 is inf or nan."""

    dtypes = FLOATS
    reference = staticmethod(np.divide)

    def prepare(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        ready = super().prepare(operands)
        if not is_float(ready[0].dtype):
            return tuple(convert(o, np.dtype(np.float64)) for o in ready)
        return ready

    def partials(self, z: Value, x: Value, y: Value) -> tuple[Value, Value]:
        return 1 / y, -z / y

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x / y


@op
class FloorDivide(Binary):
    """Floor of the quotient: z = ⌊x / y⌋, rounding towards -inf. Derivative zero."""

    reference = staticmethod(np.floor_divide)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[None, None]:
        return None, None

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), rng.uniform(0.5, 2.0, size=(4,))
        yield np.arange(-6, 6), np.array(4)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return remainders.floor_divide(s, x, y) if is_float(x.dtype) else integers.floor_divide(s, x, y)


@op
class Remainder(Binary):
    """Remainder with the sign of the divisor: z = x - ⌊x / y⌋ y (Python's %)."""

    reference = staticmethod(np.remainder)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[float, Value]:
        return 1, -floor_divide(x, y)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return remainders.remainder(s, x, y) if is_float(x.dtype) else integers.remainder(s, x, y)


@op
class Fmod(Binary):
    """Remainder with the sign of the dividend: z = x - trunc(x / y) y (C's fmod)."""

    reference = staticmethod(np.fmod)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[float, Value]:
        return 1, -functions.trunc(x / y)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return remainders.fmod(s, x, y) if is_float(x.dtype) else integers.fmod(s, x, y)


@op
class Power(Binary):
    """Power: z = x ** y. Integer powers of integers are integers.

    At a negative exponent that is known they are an error, as in NumPy; where the exponent is data, which can't be refused, the
    result is the integer part: 1 of 1, ±1 of -1, 0 of all others, 0 too.
    dz/dx = y x^(y-1), zero where both are 0; dz/dy = z log x, zero where x is 0 and y is not negative.
    """

    weight = 20

    def prepare(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        ready = super().prepare(operands)
        if not isinstance(ready[1], Value):
            self._check_exponents(ready[0].dtype, ready[1])
        return ready

    def _check_exponents(self, dtype: DType, y: Array) -> None:
        if dtype in INTEGERS and (y < 0).any():
            raise TypeRuleError(f"power: an integer to the power of {y.min()} is no integer: the base is {SHORT_NAMES[dtype]}; "
                                "cast it to a floating dtype, or make the exponent one")

    def reference(self, x: Array, y: Array) -> Array:
        negative = y < 0
        if x.dtype not in INTEGERS or not negative.any():
            return np.asarray(np.power(x, y))
        whole = np.power(x, np.where(negative, y & 1, y))  # of 1 and -1 only whether the exponent is odd counts
        return np.where(negative & (np.abs(x) != 1), 0, whole)

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        return np.power if results[0].dtype in (DTYPES["f32"], DTYPES["f64"]) else super().into(operands, results)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[Value, Value]:
        one, zero = _scalar(1, x), _scalar(0, x)
        # 0 · 0⁻¹ and 0 · log 0 would be nan: harmless operands in their place make them 0.
        at_zero = equal(x, zero)
        slope = y * power(x, where(logical_and(at_zero, equal(y, zero)), one, y - 1))
        return slope, z * functions.log(where(logical_and(at_zero, greater_equal(y, zero)), one, x))

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.uniform(0.5, 2.0, size=(3, 4)), rng.normal(size=(4,))
        yield rng.uniform(0.5, 2.0, size=(3, 1)), np.array([0.0, 1.0, 2.0])
        yield np.arange(1, 7), np.array(2)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return powers.power(s, x, y) if is_float(x.dtype) else integers.power(s, x, y)


def _scalar(value: float, like: Value) -> Any:
    return number(value, like.dtype)


class Extremum(Binary):
    """One of two operands; equal ones share the derivative in halves."""

    dtypes = ANY

    def partials(self, z: Value, x: Value, y: Value) -> tuple[Value, Value]:
        return _share(z, x, y), _share(z, y, x)

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), rng.normal(size=(4,))
        yield np.arange(6), np.array(3)


@op
class Maximum(Extremum):
    """The larger: z = max(x, y); nan if either is. Equal operands share the derivative in halves."""

    reference = staticmethod(np.maximum)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.maximum(x, y)


@op
class Minimum(Extremum):
    """The smaller: z = min(x, y); nan if either is. Equal operands share the derivative in halves."""

    reference = staticmethod(np.minimum)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.minimum(x, y)


def _share(z: Value, x: Value, y: Value) -> Value:
    """1 where x alone is the result, 1/2 where both are, 0 where it is not."""
    one, half, zero = (_scalar(v, z) for v in (1, 0.5, 0))
    result: Value = where(equal(x, z), where(equal(y, z), half, one), zero)
    return result


@op
class Negative(Unary):
    """Negation: y = -x. Shape and dtype kept; no bools, as in NumPy."""

    reference = staticmethod(np.negative)

    def partials(self, y: Value, x: Value) -> tuple[float]:
        return (-1,)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return -x


@op
class Abs(Unary):
    """Absolute value: y = |x|; dy/dx = sign x."""

    dtypes = ANY
    reference = staticmethod(np.abs)

    def partials(self, y: Value, x: Value) -> tuple[Value]:
        return (functions.sign(x),)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return x if x.dtype == BOOL else s.abs(x)


@op
class Square(Unary):
    """Square: y = x²."""

    dtypes = ANY - {BOOL}
    reference = staticmethod(np.square)

    def partials(self, y: Value, x: Value) -> tuple[Value]:
        return (2 * x,)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return x * x


@op
class Reciprocal(Unary):
    """Reciprocal: y = 1 / x. Of integers as in NumPy: truncated."""

    reference = staticmethod(np.reciprocal)

    def partials(self, y: Value, x: Value) -> tuple[Value]:
        return (-y * y,)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return 1 / x if is_float(x.dtype) else integers.divide(s, s.constant(1, x.dtype), x)


@op
class Select(Elementwise):
    """Choice: z = x where the condition holds, y elsewhere. All three broadcast; the condition is bool."""

    dtypes = ANY
    separate = frozenset((0,))
    widens = False

    def infer(self, condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
        if condition.dtype != BOOL:
            raise TypeRuleError(f"where: the condition must be bool, got {condition}; write x != 0")
        return super().infer(condition, x, y)

    def reference(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        def write(condition: Array, x: Array, y: Array, z: Array) -> None:
            np.copyto(z, y)
            np.copyto(z, x, where=condition)

        return write

    def in_place(self, count: int) -> Sequence[int]:
        return (2,)

    def partials(self, z: Value, condition: Value, x: Value, y: Value) -> tuple[None, Value, Value]:
        one, zero = _scalar(1, z), _scalar(0, z)
        return None, where(condition, one, zero), where(condition, zero, one)

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        (ct,) = cotangents
        if ct is None:
            return None, None, None
        condition, x, y = operands
        zero = _scalar(0, ct)
        return None, sum_to(where(condition, ct, zero), x.type), sum_to(where(condition, zero, ct), y.type)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        _, t, u = tangents
        if t is None and u is None:
            return (None,)
        zero = _scalar(0, results[0])
        moved = where(operands[0], zero if t is None else t, zero if u is None else u)
        return (broadcast_to(moved, results[0].shape),)

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)) > 0, rng.normal(size=(3, 4)), rng.normal(size=(4,))
        yield np.array(True), np.arange(3), np.array(7)

    def scalar(self, s: ScalarBuilder, condition: Scalar, x: Scalar, y: Scalar) -> Scalar:
        return s.select(condition, x, y)


@op
class Clip(Elementwise):
    """Limits: y = min(max(x, low), high). The derivative passes inside the closed interval, to a limit outside it.

    Where low >= high nothing is inside: y is high, and so is where the derivative goes.
    """

    dtypes = ANY - {BOOL}

    def reference(self, x: Array, low: Array, high: Array) -> Array:
        return np.minimum(np.maximum(x, low), high)

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if results[0].dtype in NARROW_FLOATS:
            return super().into(operands, results)
        return lambda x, low, high, y: np.minimum(np.maximum(x, low, out=y), high, out=y)

    def in_place(self, count: int) -> Sequence[int]:
        return (0,)

    def partials(self, y: Value, x: Value, low: Value, high: Value) -> tuple[Value, Value, Value]:
        one, zero = _scalar(1, y), _scalar(0, y)
        above = (x > high) | (low >= high)
        below = (x < low) & ~above
        inside = ~(above | below)
        return where(inside, one, zero), where(below, one, zero), where(above, one, zero)

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), np.array(-0.5), np.array(0.5)

    def scalar(self, s: ScalarBuilder, x: Scalar, low: Scalar, high: Scalar) -> Scalar:
        return s.minimum(s.maximum(x, low), high)


add, subtract, multiply, divide = Add(), Subtract(), Multiply(), Divide()
floor_divide, remainder, fmod, power = FloorDivide(), Remainder(), Fmod(), Power()
maximum, minimum, negative, square, reciprocal = Maximum(), Minimum(), Negative(), Square(), Reciprocal()
abs = Abs()  # noqa: A001 - NumPy's name
_select, _clip = Select(), Clip()
mod, true_divide, absolute, pow = remainder, divide, abs, power  # noqa: A001 - NumPy's names


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, y elsewhere. A number as condition holds where it is not 0."""
    if condition.dtype != BOOL if hasattr(condition, "dtype") else not isinstance(condition, bool):
        condition = not_equal(condition, 0)
    return _select(condition, x, y)


def raised(x: Any, exponent: Any) -> Any:
    """x ** exponent: as for NumPy's operator, Python's 2, 0.5 and -1 stand for square, square root and reciprocal.

    NumPy squares bools as int8, though their other powers by Python's integers are int64.
    """
    if is_float(x.dtype) and type(exponent) in (int, float) and exponent in (2, 0.5, -1):
        return (square if exponent == 2 else functions.sqrt if exponent == 0.5 else reciprocal)(x)
    if type(exponent) is int and exponent == 2:
        return square(x if x.dtype != BOOL else cast(x, DTYPES["i8"]))
    return power(x, exponent)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:  # noqa: A002 - NumPy's names
    """min(max(x, min), max); a limit of None is no limit."""
    if min is None or max is None:
        return x if min is max else minimum(x, max) if min is None else maximum(x, min)
    return _clip(x, min, max)


def full_like(x: Any, value: Any, dtype: Any = None) -> Any:
    """A tensor of the shape of x filled with one number."""
    x = x if isinstance(x, Value) else as_array(x)
    if not isinstance(x, Value):
        return np.full_like(x, number(value, x.dtype if dtype is None else as_dtype(dtype)), dtype=dtype)
    return full(x.type if dtype is None else x.type.with_dtype(dtype), value)


functions.register(add=add, subtract=subtract, multiply=multiply, divide=divide, floor_divide=floor_divide,
                   remainder=remainder, power=power, raised=raised, negative=negative, abs=abs)
