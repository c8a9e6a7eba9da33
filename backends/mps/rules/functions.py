"""Elementary functions: MLX's own, whose errors docs/mps.md has; what it lacks is made of others."""

from __future__ import annotations

from typing import Any

from nagraph.backends.mps.rules.elementwise import by_scalars
from nagraph.backends.mps.rules.rule import Rule, named
from nagraph.backends.mps.scalars import MlxScalars
from nagraph.elementary.coefficients import ERFC_F64
from nagraph.elementary.floats import clamp
from nagraph.ir.op import Op
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import DTYPES
from nagraph.ops import special

Array = Any
F32, U32 = DTYPES["f32"], DTYPES["u32"]


def _softplus(m: Any, op: Op, x: Array) -> Array:
    return m.logaddexp(x, m.number(0, F32))


def _erfc(m: Any, op: Op, x: Array) -> Array:
    """1 - erf x near 0; from 0.75 on exp(-t²) P(q) / (1 + 2t) with q = (t - 4) / (t + 4), the square of t in two parts.

    Source of this form: Shepherd and Laframboise 1981.
    """
    s = MlxScalars(m)
    v = s.of(x)
    size = s.abs(v)
    t = clamp(s, size, high=28.0)
    high = s.bitcast(s.bitcast(t, U32) & 0xFFFF_F000, F32)  # whose square is exact
    exponential = _exp(s, -(high * high)) * _exp(s, (high - t) * (high + t))
    tail = exponential * s.horner((t - 4) / (t + 4), ERFC_F64) / (t * 2 + 1)
    near = 1 - s.of(m.erf(x))
    return s.select(size > 0.75, s.select(v < 0, 2 - tail, tail), near).raw


def _exp(s: MlxScalars, x: Scalar) -> Scalar:
    return s.of(s.m.exp(x.raw))


RULES: dict[type[Op], Rule] = {
    special.Exp: named("exp"), special.Expm1: named("expm1"), special.Exp2: by_scalars,
    special.Log: named("log"), special.Log1p: named("log1p"), special.Log2: named("log2"), special.Log10: named("log10"),
    special.Sqrt: named("sqrt"), special.Rsqrt: named("rsqrt"), special.Cbrt: by_scalars,
    special.Sin: named("sin"), special.Cos: named("cos"), special.Tan: named("tan"),
    special.Arcsin: named("arcsin"), special.Arccos: named("arccos"), special.Arctan: named("arctan"), special.Arctan2: named("arctan2"),
    special.Sinh: named("sinh"), special.Cosh: named("cosh"), special.Tanh: named("tanh"),
    special.Arcsinh: named("arcsinh"), special.Arccosh: named("arccosh"), special.Arctanh: named("arctanh"),
    special.Erf: named("erf"), special.Erfc: Rule(_erfc), special.Sigmoid: named("sigmoid"), special.Softplus: Rule(_softplus),
}
