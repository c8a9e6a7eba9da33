"""Functions that StableHLO does not have, made of those that it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nagraph.elementary.coefficients import ERFC_F64
from nagraph.elementary.floats import clamp
from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.registry import translates
from nagraph.ir.scalar import Scalar, ScalarBuilder
from nagraph.ir.types import DTYPES
from nagraph.ops import special
from nagraph.ops.base import Elementwise

#: A function of the builder, one scalar, and StableHLO's functions by name.
Function = Callable[[ScalarBuilder, Scalar, Any], Scalar]
#: Beyond it 1 does not count beside the square.
_LARGE = 1e9


def computes(op: type[Elementwise]) -> Callable[[Function], Function]:
    """Register a function of one operand for an op."""
    def registered(compute: Function) -> Function:
        def write(m: Body, node: Any, x: Ref) -> Any:
            s = m.scalars(x.shape)

            def call(name: str, *operands: Scalar) -> Scalar:
                return s.of(m.elementwise(name, *(o.raw for o in operands)))

            return compute(s, s.of(x), call).raw

        translates(op)(write)
        return compute

    return registered


@computes(special.Exp2)
def exp2(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    return f("power", s.constant(2, x.dtype), x)


@computes(special.Log2)
def log2(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    return f("log", x) / math.log(2)


@computes(special.Log10)
def log10(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    return f("log", x) / math.log(10)


@computes(special.Softplus)
def softplus(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    return s.maximum(x, s.constant(0, x.dtype)) + f("log_plus_one", f("exponential", -s.abs(x)))


def _tail(s: ScalarBuilder, size: Scalar, f: Any) -> Scalar:
    """erfc t = exp(-t²) P(q) / (1 + 2t) with q = (t - 4) / (t + 4), for t >= 0.75, the square of t in two parts.

    Source of this form: Shepherd and Laframboise 1981.
    """
    t = clamp(s, size, high=28.0)
    word, low = (DTYPES["u32"], 12) if t.dtype == DTYPES["f32"] else (DTYPES["u64"], 27)
    high = s.bitcast(s.bitcast(t, word) & -1 << low, t.dtype)  # whose square is exact
    exponential = f("exponential", -(high * high)) * f("exponential", (high - t) * (high + t))
    return exponential * s.horner((t - 4) / (t + 4), ERFC_F64) / (t * 2 + 1)


@computes(special.Erf)
def erf(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    """Near 0 by the op's own rule, of float32 everywhere."""
    near = special.Erf().scalar(s, x)
    size = s.abs(x)
    return near if x.dtype == DTYPES["f32"] else s.select(size > 0.75, s.copysign(1 - _tail(s, size, f), x), near)


@computes(special.Erfc)
def erfc(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    size = s.abs(x)
    tail = _tail(s, size, f)
    return s.select(size > 0.75, s.select(x < 0, 2 - tail, tail), 1 - erf(s, x, f))


@computes(special.Arctan)
def arctan(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    return f("atan2", x, s.constant(1, x.dtype))


@computes(special.Arcsin)
def arcsin(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    """The angle of the point (√(1 - x²), x)."""
    return f("atan2", x, s.sqrt((1 - x) * (1 + x)))


@computes(special.Arccos)
def arccos(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    """Twice the angle of the point (√(1 + x), √(1 - x)): the roots do not lose what x has near 1."""
    return 2 * f("atan2", s.sqrt(1 - x), s.sqrt(1 + x))


@computes(special.Sinh)
def sinh(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    """(e - e⁻¹) / 2 of |x|, by eˣ - 1, which is exact near 0; beyond where eˣ overflows, the square of that of x / 2."""
    size = s.abs(x)
    small = f("exponential_minus_one", size)
    half = f("exponential", size * 0.5)
    near = (small + small / (small + 1)) * 0.5
    return s.copysign(s.select(size > 20, half * 0.5 * half, near), x)


@computes(special.Cosh)
def cosh(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    half = f("exponential", s.abs(x) * 0.5)
    whole = half * half
    return s.select(s.abs(x) > 20, half * 0.5 * half, (whole + 1 / whole) * 0.5)


@computes(special.Arcsinh)
def arcsinh(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    """ln(|x| + √(x² + 1)) by ln(1 + t), which is exact near 0; where the square would overflow, ln |x| + ln 2."""
    size = s.abs(x)
    near = f("log_plus_one", size + size * size / (1 + s.sqrt(size * size + 1)))
    return s.copysign(s.select(size > _LARGE, f("log", size) + math.log(2), near), x)


@computes(special.Arccosh)
def arccosh(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    """ln(x + √(x² - 1)), by ln(1 + t) with t = x - 1 + √((x - 1)(x + 1))."""
    t = x - 1
    near = f("log_plus_one", t + s.sqrt(t * (x + 1)))
    return s.select(x > _LARGE, f("log", x) + math.log(2), near)


@computes(special.Arctanh)
def arctanh(s: ScalarBuilder, x: Scalar, f: Any) -> Scalar:
    """(ln(1 + x) - ln(1 - x)) / 2, as ln(1 + t) / 2 with t = 2x / (1 - x)."""
    size = s.abs(x)
    return s.copysign(f("log_plus_one", 2 * size / (1 - size)) * 0.5, x)
