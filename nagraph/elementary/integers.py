"""Division and powers of integers, with a result wherever the machine has none: it is NumPy's."""

from __future__ import annotations

from nagraph.ir.scalar import Scalar, ScalarBuilder
from nagraph.ir.types import SIGNED


def _divided(s: ScalarBuilder, x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    """(quotient rounded towards zero, rest with the sign of x); by 0 both are 0, and the least number by -1 is itself."""
    zero, one = s.constant(0, x.dtype), s.constant(1, x.dtype)
    by_zero = s.eq(y, 0)
    divisor = s.select(by_zero, one, y)
    if x.dtype in SIGNED:
        negated = s.eq(y, -1)
        divisor = s.select(negated, one, divisor)
        quotient = s.select(negated, -x, s.div(x, divisor))
    else:
        quotient = s.div(x, divisor)
    return s.select(by_zero, zero, quotient), s.select(by_zero, zero, s.rem(x, divisor))


def _divided_down(s: ScalarBuilder, x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    """(quotient rounded down, rest with the sign of y)."""
    q, r = _divided(s, x, y)
    if x.dtype not in SIGNED:
        return q, r
    less = s.ne(r, 0) & ((r ^ y) < 0)
    return s.select(less, q - 1, q), s.select(less, r + y, r)


def divide(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """trunc(x / y)."""
    return _divided(s, x, y)[0]


def fmod(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """x - trunc(x / y) y."""
    return _divided(s, x, y)[1]


def floor_divide(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """⌊x / y⌋."""
    return _divided_down(s, x, y)[0]


def remainder(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """x - ⌊x / y⌋ y."""
    return _divided_down(s, x, y)[1]


def power(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """x to the power y, modulo the width, by squares; of negative y trunc(x ** y), and 0 of 0."""
    signed = x.dtype in SIGNED
    result, square = s.constant(1, x.dtype), x
    for bit in range(8 * x.dtype.itemsize - signed):
        result = s.select(s.ne(y & (1 << bit), 0), result * square, result)
        square = square * square
    # Of 1 and -1 the lower bits of a negative exponent give the right power.
    return s.select((y < 0) & s.ne(s.abs(x), 1), s.constant(0, x.dtype), result) if signed else result
