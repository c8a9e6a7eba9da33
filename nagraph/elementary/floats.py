"""What the functions know of a float's format, and the steps that several of them share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from nagraph.ir.scalar import F32, F64, I32, I64, Scalar, ScalarBuilder
from nagraph.ir.types import DType


class Format(NamedTuple):
    """The integer of the same width, the bits of the fraction, and the exponent of 1."""

    integer: DType
    fraction: int
    bias: int

    @property
    def one(self) -> int:
        """1.0 as an integer."""
        return self.bias << self.fraction

    @property
    def magic(self) -> float:
        """1.5 · 2^fraction: added to a small number it rounds it to an integer, which then stands in the lowest bits."""
        return 1.5 * 2.0**self.fraction


FORMATS = {F32: Format(I32, 23, 127), F64: Format(I64, 52, 1023)}


def clamp(s: ScalarBuilder, x: Scalar, low: float | None = None, high: float | None = None) -> Scalar:
    """x between the bounds; nan stays nan."""
    if low is not None:
        x = s.select(x < low, s.constant(low, x.dtype), x)
    if high is not None:
        x = s.select(x > high, s.constant(high, x.dtype), x)
    return x


def add_exponent(s: ScalarBuilder, x: Scalar, exponent: Scalar) -> Scalar:
    """x 2ⁿ, n given as an integer shifted to where a float has its exponent; x and the result must be normal."""
    f = FORMATS[x.dtype]
    return s.bitcast(s.bitcast(x, f.integer) + exponent, x.dtype)


def in_double(function: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """A function of float64 that takes float32 as well: computed wide and rounded once; in float32 where there is no float64."""

    @functools.wraps(function)
    def wide(s: ScalarBuilder, *operands: Scalar) -> Scalar:
        if operands[0].dtype == F64 or not s.doubles:
            return function(s, *operands)
        return s.cast(function(s, *(s.cast(x, F64) for x in operands)), F32)

    return wide
