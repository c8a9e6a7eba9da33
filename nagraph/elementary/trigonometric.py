"""sin, cos, tan: polynomials on an eighth of a turn, exchanged and signed by the quarter."""

from __future__ import annotations

from nagraph.elementary.coefficients import COS_F32, COS_F64, SIN_F32, SIN_F64
from nagraph.elementary.floats import FORMATS
from nagraph.elementary.turns import quarter_turns
from nagraph.ir.scalar import F32, F64, Scalar, ScalarBuilder


def _sin_and_cos(s: ScalarBuilder, r: Scalar, tail: Scalar) -> tuple[Scalar, Scalar]:
    """Of r + tail, |r| <= π/4; the tail is below the last bit of r."""
    z = r * r
    sine, cosine = (SIN_F32, COS_F32) if r.dtype == F32 else (SIN_F64, COS_F64)
    one, half = s.constant(1, r.dtype), s.constant(-0.5, r.dtype)
    cos = s.fma(s.horner(z, cosine), z, half)
    return r + s.fma(s.horner(z, sine), z * r, tail), s.fma(cos, z, s.fma(r, -tail, one))


def _signed(s: ScalarBuilder, y: Scalar, x: Scalar, signs: Scalar) -> Scalar:
    """y with its sign turned where that of `signs` is set; nan where x is infinite or nan."""
    f = FORMATS[y.dtype]
    lowest = -(1 << f.integer.itemsize * 8 - 1)
    return s.fma(x, s.constant(0, x.dtype), s.bitcast(s.bitcast(y, f.integer) ^ (signs & lowest), y.dtype))


def _wave(s: ScalarBuilder, x: Scalar, ahead: int) -> tuple[Scalar, Scalar]:
    """sin(|x| + ahead π/2) but for the sign; an integer with that sign."""
    n, r, tail = quarter_turns(s, x, x.dtype)
    n = n + ahead
    sine, cosine = _sin_and_cos(s, r, tail)
    return s.select(s.eq(n & 1, 0), sine, cosine), n << FORMATS[x.dtype].integer.itemsize * 8 - 2


def sin(s: ScalarBuilder, x: Scalar) -> Scalar:
    """sin x. Error: at most 2 ULP, for every x."""
    y, signs = _wave(s, x, 0)
    return _signed(s, y, x, signs ^ s.bitcast(x, signs.dtype))


def cos(s: ScalarBuilder, x: Scalar) -> Scalar:
    """cos x. Error: at most 2 ULP, for every x."""
    y, signs = _wave(s, x, 1)
    return _signed(s, y, x, signs)


def tan(s: ScalarBuilder, x: Scalar) -> Scalar:
    """tan x = sin r / cos r or -cos r / sin r. Error: at most 4 ULP in float64."""
    n, r, tail = quarter_turns(s, x, F64 if s.doubles else x.dtype)
    sine, cosine = _sin_and_cos(s, r, tail)
    even = s.eq(n & 1, 0)
    y = s.cast(s.select(even, sine, -cosine) / s.select(even, cosine, sine), x.dtype)
    return _signed(s, y, x, s.bitcast(x, FORMATS[x.dtype].integer))
