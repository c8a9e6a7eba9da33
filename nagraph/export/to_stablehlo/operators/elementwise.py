"""Elementwise ops: by their scalar rules, whose steps are StableHLO's operations; its own functions where it has them."""

from __future__ import annotations

from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.registry import translates
from nagraph.ir.scalar import Scalar, ScalarBuilder
from nagraph.ir.types import SIGNED, is_float
from nagraph.ops import elementwise, rounding, special
from nagraph.ops.base import Cast, Elementwise

#: StableHLO's functions of the same meaning.
_NAMED = {
    special.Exp: "exponential", special.Expm1: "exponential_minus_one", special.Log: "log", special.Log1p: "log_plus_one",
    special.Sqrt: "sqrt", special.Rsqrt: "rsqrt", special.Cbrt: "cbrt", special.Sin: "sine", special.Cos: "cosine", special.Tan: "tan",
    special.Tanh: "tanh", special.Sigmoid: "logistic", special.Arctan2: "atan2",
}


def operands_of(m: Body, node: Any, xs: tuple[Ref, ...]) -> list[Ref]:
    """The operands repeated to the result's shape."""
    return [m.broadcast(x, node.results[0].shape) for x in xs]


@translates(Elementwise)
def by_scalars(m: Body, node: Any, *xs: Ref) -> Any:
    s = m.scalars(node.results[0].shape)
    return node.op.scalar(s, *map(s.of, xs)).raw


@translates(*_NAMED)
def named(m: Body, node: Any, *xs: Ref) -> Ref:
    return m.elementwise(_NAMED[type(node.op)], *operands_of(m, node, xs))


@translates(Cast)
def cast(m: Body, node: Any, x: Ref) -> Ref:
    return m.cast(x, node.op.dtype)


@translates(rounding.Sign)
def sign(m: Body, node: Any, x: Ref) -> Any:
    return m.elementwise("sign", x) if x.dtype in SIGNED or is_float(x.dtype) else by_scalars(m, node, x)


@translates(elementwise.Power)
def power(m: Body, node: Any, *xs: Ref) -> Ref:
    """Of integers to a negative power the integer part, as StableHLO has it, but for that of 0, of which it says nothing: 0."""
    x, y = operands_of(m, node, xs)
    found = m.elementwise("power", x, y)
    if x.dtype not in SIGNED:
        return found
    zero = m.full(0, x.type)
    undefined = m.elementwise("and", m.compare("EQ", x, zero), m.compare("LT", y, zero))
    return m.select(undefined, zero, found)


# -- remainders of floats ------------------------------------------------------------------------------------------------


def _rest(m: Body, node: Any, xs: tuple[Ref, ...]) -> tuple[ScalarBuilder, Scalar, Scalar, Scalar, Scalar]:
    """(builder, x, y, the rest with the sign of x, whether the quotient rounded down is one less than that rounded to zero)."""
    x, y = operands_of(m, node, xs)
    s = m.scalars(x.shape)
    rest = s.of(m.elementwise("remainder", x, y))
    return s, s.of(x), s.of(y), rest, s.ne(rest, 0) & ((rest < 0) ^ (s.of(y) < 0))


@translates(elementwise.Fmod)
def fmod(m: Body, node: Any, *xs: Ref) -> Any:
    return _rest(m, node, xs)[3].raw if is_float(xs[0].dtype) else by_scalars(m, node, *xs)


@translates(elementwise.Remainder)
def remainder(m: Body, node: Any, *xs: Ref) -> Any:
    if not is_float(xs[0].dtype):
        return by_scalars(m, node, *xs)
    s, _, y, rest, less = _rest(m, node, xs)
    return s.select(s.eq(rest, 0), s.copysign(rest, y), s.select(less, rest + y, rest)).raw


@translates(elementwise.FloorDivide)
def floor_divide(m: Body, node: Any, *xs: Ref) -> Any:
    """From x less its rest, which y divides, as NumPy computes it."""
    if not is_float(xs[0].dtype):
        return by_scalars(m, node, *xs)
    s, x, y, rest, less = _rest(m, node, xs)
    quotient = (x - rest) / y
    quotient = s.select(less, quotient - 1, quotient)
    floor = s.round("floor", quotient)
    floor = s.select(quotient - floor > 0.5, floor + 1, floor)
    whole = s.select(s.eq(quotient, 0), s.copysign(quotient, x / y), floor)
    return s.select(s.eq(y, 0), x / y, whole).raw
