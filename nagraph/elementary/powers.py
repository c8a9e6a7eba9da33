"""power, and the roots sqrt, rsqrt, cbrt."""

from __future__ import annotations

import math

from nagraph.elementary.coefficients import ARTANH_FROM_FIFTH_F64, EXP_F32, EXP_F64
from nagraph.elementary.exponential import exp2
from nagraph.elementary.floats import FORMATS, add_exponent, clamp, in_double
from nagraph.elementary.logarithm import log2, split
from nagraph.ir.scalar import F32, F64, Scalar, ScalarBuilder
from nagraph.ir.types import DType


def sqrt(s: ScalarBuilder, x: Scalar) -> Scalar:
    """√x, correctly rounded."""
    return s.sqrt(x)


def rsqrt(s: ScalarBuilder, x: Scalar) -> Scalar:
    """1 / √x. Error: at most 2 ULP."""
    return 1 / s.sqrt(x)


@in_double
def cbrt(s: ScalarBuilder, x: Scalar) -> Scalar:
    """∛x: a third of the exponent, then steps of Halley's and one of Newton's. Error: at most 2 ULP in float64."""
    f = FORMATS[x.dtype]
    size = s.abs(x)
    # Neither subnormal nor near the overflow.
    tiny = size < (2.0**-1000 if x.dtype == F64 else 2.0**-100)
    size = size * s.select(tiny, s.constant(2.0**51, x.dtype), s.constant(2.0**-3, x.dtype))
    # As an integer a float is nearly its logarithm; 0.0450 makes the largest error least. Of float64 the upper half is enough.
    half = 32 if x.dtype == F64 else 0
    bits = s.bitcast(size, f.integer)
    third = s.cast(bits >> half if half else bits, x.dtype) * (1 / 3) + (2 / 3) * (f.bias - 0.0450) * 2.0**(f.fraction - half)
    y = s.cast(third, f.integer)
    y = s.bitcast(y << half if half else y, x.dtype)
    for _ in range(2):
        cube = y * y * y
        y = y * ((cube + (size + size)) / ((cube + cube) + size))
    # y² y - x with nothing lost, for the last step.
    square = y * y
    rest = s.fma(square, y, -size) + s.fma(y, y, -square) * y
    y = y - rest / (square * 3)
    y = s.copysign(y * s.select(tiny, s.constant(2.0**-17, x.dtype), s.constant(2.0, x.dtype)), x)
    return s.select(s.eq(x, 0) | ~(s.abs(x) < math.inf), x, y)


def power(s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
    """x to the power y, with IEEE 754's edges. Error: at most 1 ULP in float32, 2 in float64."""
    size = s.abs(x)
    if x.dtype == F32 and s.doubles:
        result = s.cast(exp2(s, s.cast(y, F64) * log2(s, s.cast(size, F64))), F32)
    else:
        result = _in_pairs(s, size, y)
    return _with_edges(s, x, y, result)


def _with_edges(s: ScalarBuilder, x: Scalar, y: Scalar, result: Scalar) -> Scalar:
    """The power of x, given that of |x|. Where 0 · inf stands in its exponent it is nan, and the edges are put right."""
    size = s.abs(x)
    whole = s.eq(s.round("trunc", y), y)
    half = y * 0.5
    odd = whole & s.ne(s.round("trunc", half), half)
    one, nan = s.constant(1, x.dtype), s.constant(math.nan, x.dtype)
    f = FORMATS[x.dtype]
    negative = s.bitcast(x, f.integer) < 0
    result = s.select(negative & odd, -result, result)
    result = s.select((x < 0) & ~whole & (size < math.inf), nan, result)
    result = s.select(s.is_nan(x) | s.is_nan(y), x + y, result)
    # x⁰ = 1 and 1ʸ = 1 even of nan; (-1)^±inf = 1.
    return s.select(s.eq(y, 0) | s.eq(x, 1) | (s.eq(size, 1) & s.eq(s.abs(y), math.inf)), one, result)


# -- without a wider dtype: the logarithm needs more bits than a float has, for y multiplies its error ----------

#: A number and its rest below the last bit.
Pair = tuple[Scalar, Scalar]
_THIRD = (1 / 3, 1.850371707708594e-17)
_INVERSE_LN2 = (1 / math.log(2), 2.0355273740931033e-17)
_LN2_REST = 2.3190468138462996e-17


def _sum(a: Scalar, b: Scalar) -> Pair:
    """a + b for |a| >= |b| or a = 0."""
    total = a + b
    return total, (a - total) + b


def _product(s: ScalarBuilder, a: Pair, b: Pair) -> Pair:
    high = a[0] * b[0]
    return _sum(high, s.fma(a[0], b[0], -high) + s.fma(a[0], b[1], a[1] * b[0]))


def _constant(s: ScalarBuilder, pair: tuple[float, float], dtype: DType) -> Pair:
    """A number, given as two of float64, as two of the dtype."""
    high = float(dtype.type(pair[0]))
    return s.constant(high, dtype), s.constant(pair[0] - high + pair[1], dtype)


def _log2(s: ScalarBuilder, x: Scalar) -> Pair:
    """log₂ x of positive finite x to about 2^-63 of it, in float32 to about 2^-34.

    ln(1 + f) = 2 artanh t = 2 t (1 + z/3 + z² P(z)) with t = f / (2 + f), z = t².
    """
    e, f = split(s, x)
    below = f + 2
    near = f / below
    t = _sum(near, (s.fma(-near, below, f) - near * (f - (below - 2))) / below)
    z = _product(s, t, t)
    series = _product(s, z, _constant(s, _THIRD, x.dtype))
    series = _sum(series[0], s.fma(s.horner(z[0], ARTANH_FROM_FIFTH_F64), z[0] * z[0], series[1]))
    one = _sum(s.constant(1, x.dtype), series[0])
    ln = _product(s, t, (one[0], one[1] + series[1]))
    log = _product(s, (ln[0] + ln[0], ln[1] + ln[1]), _constant(s, _INVERSE_LN2, x.dtype))
    whole = _sum(e, log[0])
    return whole[0], whole[1] + log[1]


def _in_pairs(s: ScalarBuilder, size: Scalar, y: Scalar) -> Scalar:
    f, dtype = FORMATS[y.dtype], y.dtype
    log = _log2(s, size)
    high = y * log[0]
    rest = s.fma(y, log[0], -high) + y * log[1]
    # Beyond this the result is 0 or infinite; there the rest, which may be inf - inf, is of no account.
    far = 1100 if dtype == F64 else 160
    rest = s.select(s.abs(high) < far, rest, s.constant(0, dtype))
    high = clamp(s, high, -far, far)
    shifted = high + f.magic
    r = (high - (shifted - f.magic)) + rest
    ln2, ln2_rest = _constant(s, (math.log(2), _LN2_REST), dtype)
    r = r * ln2 + r * ln2_rest
    one = s.constant(1, dtype)
    p = s.fma(s.fma(s.horner(r, EXP_F64 if dtype == F64 else EXP_F32), r, one), r, one)
    n = s.bitcast(shifted, f.integer) - (f.bias + f.fraction << f.fraction | 1 << f.fraction - 1)  # the bits of the magic number
    # Two factors: no overflow on the way to a finite result, and one rounding on that to a subnormal one.
    half = n >> 1
    result = add_exponent(s, one, (n - half) << f.fraction) * add_exponent(s, p, half << f.fraction)
    infinite = s.select(y > 0, s.constant(math.inf, dtype), s.constant(0, dtype))
    nothing = s.select(y > 0, s.constant(0, dtype), s.constant(math.inf, dtype))
    edge = s.select(s.eq(size, 0), nothing, infinite)
    return s.select(s.eq(size, 0) | s.eq(size, math.inf), edge, result)
