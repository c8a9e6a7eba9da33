"""Elementwise arithmetic, comparison, bits, rounding. What MLX lacks, or has otherwise for some numbers, follows the op's scalar rule."""

from __future__ import annotations

from typing import Any

from nagraph.backends.mps.conversion import cast
from nagraph.backends.mps.rules.rule import Rule, named
from nagraph.backends.mps.scalars import MlxScalars
from nagraph.ir.op import Op
from nagraph.ir.types import is_float
from nagraph.ops import bits, comparison, elementwise, rounding
from nagraph.ops.base import Cast

Array = Any


def _by_scalars(m: Any, op: Any, *xs: Array) -> Array:
    s = MlxScalars(m)
    return op.scalar(s, *map(s.of, xs)).raw


by_scalars = Rule(_by_scalars)


def _sign(m: Any, op: Op, x: Array) -> Array:
    y = m.sign(x)  # 0 of nan
    return m.where(m.isnan(x), x, y) if is_float(m.dtype(x)) else y


def _of_floats(function: str) -> Rule:
    """MLX's function for floats; integers, of which a division by 0 has a result here, by the scalar rule."""
    return Rule(lambda m, op, *xs: getattr(m, function)(*xs) if is_float(m.dtype(xs[0])) else _by_scalars(m, op, *xs))


RULES: dict[type[Op], Rule] = {
    elementwise.Add: named("add"), elementwise.Subtract: named("subtract"), elementwise.Multiply: named("multiply"),
    elementwise.Divide: named("divide"), elementwise.Maximum: named("maximum"), elementwise.Minimum: named("minimum"),
    elementwise.Negative: named("negative"), elementwise.Abs: named("abs"), elementwise.Square: named("square"),
    elementwise.Select: named("where"), elementwise.Clip: named("clip"),
    elementwise.Reciprocal: _of_floats("reciprocal"), elementwise.Power: _of_floats("power"),
    elementwise.FloorDivide: by_scalars, elementwise.Remainder: by_scalars, elementwise.Fmod: by_scalars,
    comparison.Equal: named("equal"), comparison.NotEqual: named("not_equal"), comparison.Less: named("less"),
    comparison.LessEqual: named("less_equal"), comparison.Greater: named("greater"), comparison.GreaterEqual: named("greater_equal"),
    comparison.LogicalAnd: named("logical_and"), comparison.LogicalOr: named("logical_or"), comparison.LogicalNot: named("logical_not"),
    comparison.LogicalXor: named("not_equal"),
    comparison.IsNan: named("isnan"), comparison.IsFinite: named("isfinite"), comparison.IsInf: named("isinf"),
    bits.BitwiseAnd: named("bitwise_and"), bits.BitwiseOr: named("bitwise_or"), bits.BitwiseXor: named("bitwise_xor"),
    bits.Invert: named("bitwise_invert"), bits.LeftShift: by_scalars, bits.RightShift: by_scalars,
    rounding.Floor: named("floor"), rounding.Ceil: named("ceil"), rounding.Trunc: named("trunc"), rounding.Rint: named("round"),
    rounding.Sign: Rule(_sign), rounding.NextAfter: by_scalars, rounding.CopySign: by_scalars,
    Cast: Rule(lambda m, op, x: cast(m, x, op.dtype)),
}
