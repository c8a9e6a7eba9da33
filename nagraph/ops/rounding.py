"""Rounding and sign: piecewise constant, so the derivative is zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer
from nagraph.ir.op import op
from nagraph.ir.operators import functions
from nagraph.ir.types import DTYPES, FLOATS, INTEGERS, is_float
from nagraph.ops.base import ANY, F32, NARROW_FLOATS, NUMERIC, Elementwise, cast
from nagraph.ops.elementwise import where
from nagraph.ops.operands import F64, as_array

if TYPE_CHECKING:
    from nagraph.ir.scalar import Scalar, ScalarBuilder


class Step(Elementwise):
    """Piecewise constant: dy/dx = 0."""

    dtypes = ANY

    def partials(self, y: Value, *xs: Value) -> tuple[None, ...]:
        return (None,) * len(xs)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3, 4)) * 3,)
        yield (np.array([0.5, 1.5, -0.5, -0.0, np.inf, np.nan]),)
        yield (np.arange(-3, 3),)


@op
class Floor(Step):
    """y = ⌊x⌋. Integers stay."""

    reference = staticmethod(np.floor)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return s.round("floor", x) if is_float(x.dtype) else x


@op
class Ceil(Step):
    """y = ⌈x⌉. Integers stay."""

    reference = staticmethod(np.ceil)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return s.round("ceil", x) if is_float(x.dtype) else x


@op
class Trunc(Step):
    """x without its fraction: rounding towards zero. Integers stay."""

    reference = staticmethod(np.trunc)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return s.round("trunc", x) if is_float(x.dtype) else x


@op
class Rint(Step):
    """The nearest integer, halves to even."""

    dtypes = FLOATS
    promotes = "float"
    reference = staticmethod(np.rint)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return s.round("rint", x)


@op
class Sign(Step):
    """-1, 0 or 1; nan of nan."""

    dtypes = NUMERIC
    reference = staticmethod(np.sign)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        minus, zero, plus = (s.constant(v, x.dtype) for v in (-1, 0, 1))
        sign = s.select(x > 0, plus, s.select(x < 0, minus, zero))
        return s.select(s.is_nan(x), x, sign) if is_float(x.dtype) else sign


@op
class NextAfter(Elementwise):
    """The next representable number after x in the direction of y. Derivatives are those of x, which is one step away: 1 and 0.

    Where x = y it is y, and x in f16, as in NumPy: of two zeros the sign tells which.
    """

    name = "nextafter"
    dtypes = FLOATS
    promotes = "float"
    widens = False

    reference = staticmethod(np.nextafter)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[float, None]:
        return 1, None

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), np.array(np.inf)
        yield rng.normal(size=(3, 4)), rng.normal(size=(4,))

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        """By the bits, which 16-bit floats keep; they are compared in float32."""
        bits = DTYPES[f"u{8 * x.dtype.itemsize}"]
        number, wide = s.bitcast(x, bits), [s.cast(v, F32) if x.dtype in NARROW_FLOATS else v for v in (x, y)]
        # Away from zero the bits count up, towards zero down; from a zero one goes to the least number with the sign of y.
        away = ~((wide[0] < wide[1]) ^ (wide[0] > 0.0))
        moved = s.bitcast(s.select(away, number + 1, number - 1), x.dtype)
        sign = 1 << 8 * x.dtype.itemsize - 1
        least = s.bitcast((s.bitcast(y, bits) & sign) | 1, x.dtype)
        moved = s.select(s.eq(wide[0], 0.0), least, moved)
        moved = s.select(s.eq(*wide), x if x.dtype == DTYPES["f16"] else y, moved)
        return s.select(s.is_nan(wide[0]), x, s.select(s.is_nan(wide[1]), y, moved))


@op
class CopySign(Elementwise):
    """The magnitude of x with the sign of y."""

    name = "copysign"
    dtypes = FLOATS
    promotes = "float"
    reference = staticmethod(np.copysign)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[Value, None]:
        one = np.ones((), z.dtype)
        same = self(one, x) * self(one, y)
        return where(same > 0, one, -one), None

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), rng.normal(size=(4,))

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return s.copysign(x, y)


floor, ceil, trunc, rint, sign = Floor(), Ceil(), Trunc(), Rint(), Sign()
nextafter, copysign = NextAfter(), CopySign()
fix = trunc


def round(x: Any, decimals: int = 0) -> Any:  # noqa: A001 - NumPy's name
    """x rounded to `decimals` decimals, halves to even; to tens, hundreds, ... where these are negative.

    Integers stay integers: without decimals to round they are kept, else rounded in float64, as NumPy does. f16 and bf16 are rounded in
    float32, which holds x · 10^decimals where they do not.
    """
    x = x if isinstance(x, Value) else as_array(x)
    digits = integer("round: decimals", decimals)
    if abs(digits) > 308:
        raise TypeRuleError(f"round: decimals is from -308 to 308, got {digits:.0e}")
    if x.dtype in INTEGERS:
        return x if digits >= 0 else cast(round(cast(x, F64), digits), x.dtype)
    if digits == 0:
        return rint(x)
    if x.dtype in NARROW_FLOATS:
        return cast(round(cast(x, F32), digits), x.dtype)
    factor = np.asarray(10.0**abs(digits)).astype(x.dtype)
    return rint(x * factor) / factor if digits > 0 else rint(x / factor) * factor


functions.register(trunc=trunc, sign=sign)
