"""Bits, and division that rounds down: where ONNX's operators are undefined or mean something else, as NumPy has them."""

from __future__ import annotations

from typing import Any

from nagraph.export.to_onnx.operators.elementwise import apply
from nagraph.export.to_onnx.registry import translation
from nagraph.export.to_onnx.scalars import Elements
from nagraph.ir.node import Node
from nagraph.ir.types import SIGNED, is_float
from nagraph.ops import bits, elementwise, random, rounding


@translation(bits.BitwiseAnd, bits.BitwiseOr, bits.BitwiseXor, bits.Invert, bits.LeftShift, bits.RightShift,
             rounding.Trunc, rounding.CopySign, elementwise.FloorDivide, elementwise.Fmod, random.Threefry)
def by_scalar_rule(w: Any, node: Node, *operands: Any) -> str:
    """The op's scalar rule, on whole tensors."""
    s = Elements(w)
    return s.result(node.op.scalar(s, *map(s.of, operands)), node.result.type)


@translation(elementwise.Remainder)
def remainder(w: Any, node: Node, x: Any, y: Any) -> str:
    """Mod of integers has the sign of the divisor too; it is undefined for 0, and for -1 where the quotient is too large."""
    if is_float(x.dtype):
        return by_scalar_rule(w, node, x, y)
    s = Elements(w)
    divisor = s.of(y)
    undefined = s.eq(divisor, 0)
    if x.dtype in SIGNED:
        undefined |= s.eq(divisor, -1)
    return apply(w, "Mod", x, s.select(undefined, s.constant(1, x.dtype), divisor).raw)