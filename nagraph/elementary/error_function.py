"""erf and erfc."""

from __future__ import annotations

from nagraph.elementary.coefficients import ERF_F32, ERF_FAR_F32, ERF_NEAR_F64, ERFC_F64
from nagraph.elementary.exponential import finite_exp
from nagraph.elementary.floats import clamp, in_double
from nagraph.ir.scalar import F32, Scalar, ScalarBuilder


def erf(s: ScalarBuilder, x: Scalar) -> Scalar:
    """2/√π ∫₀ˣ exp(-t²) dt. Error: at most 2 ULP."""
    return _erf_single(s, x) if x.dtype == F32 else _erf_double(s, x)


def _erf_single(s: ScalarBuilder, x: Scalar) -> Scalar:
    """An odd polynomial up to 1.125, from there 1 - a polynomial; from 3.9 on it is 1."""
    near = s.fma(s.horner(x * x, ERF_F32), x, x)
    size = s.abs(x)
    far = 1 - s.horner(clamp(s, size, high=3.9) - 2.525, ERF_FAR_F32)
    return s.select(size > 1.125, s.copysign(far, x), near)


def _near(s: ScalarBuilder, x: Scalar) -> Scalar:
    """erf x for |x| <= 0.75."""
    return s.fma(s.horner(x * x, ERF_NEAR_F64), x, x)


def _tail(s: ScalarBuilder, t: Scalar) -> Scalar:
    """erfc t = exp(-t²) P(q) / (1 + 2t) with q = (t - 4) / (t + 4), for t >= 0.75.

    Source of this form: Shepherd and Laframboise 1981.
    """
    t = clamp(s, t, high=28.0)
    square = t * t
    rest = s.fma(t, t, -square)  # t² = square + rest
    p = s.horner((t - 4) / (t + 4), ERFC_F64) / s.fma(t, s.constant(2, t.dtype), s.constant(1, t.dtype))
    return finite_exp(s, -square, -rest) * p


def _erf_double(s: ScalarBuilder, x: Scalar) -> Scalar:
    size = s.abs(x)
    return s.select(size > 0.75, s.copysign(1 - _tail(s, size), x), _near(s, x))


@in_double
def erfc(s: ScalarBuilder, x: Scalar) -> Scalar:
    """1 - erf x, exact in the tail. Error: at most 4 ULP in float64."""
    size = s.abs(x)
    tail = _tail(s, size)
    return s.select(size > 0.75, s.select(x < 0, 2 - tail, tail), 1 - _near(s, x))
