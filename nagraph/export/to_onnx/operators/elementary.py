"""Elementary functions: operators of ONNX, and where there is none, or none of the dtype, functions of the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nagraph.elementary.coefficients import ERF_NEAR_F64, ERFC_F64
from nagraph.export.to_onnx.dtypes import computed_in
from nagraph.export.to_onnx.operators.elementwise import apply, as_dtype
from nagraph.export.to_onnx.operators.integers import by_scalar_rule
from nagraph.export.to_onnx.registry import translation
from nagraph.export.to_onnx.scalars import Elements
from nagraph.ir.node import Node
from nagraph.ir.op import Op
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import DTYPES, is_float
from nagraph.ops import elementwise, special

F32, F64 = DTYPES["f32"], DTYPES["f64"]
_LN2 = math.log(2)


class Functions(Elements):
    """Elements with the functions that ONNX has. What is multiplied and added is rounded twice, an error of a unit in the last place."""

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        return x * y + z

    def function(self, operator: str, *xs: Scalar) -> Scalar:
        """An operator of ONNX."""
        made = self.w.operand(apply(self.w, operator, *(x.raw for x in xs)), xs[0].raw.type)
        return Scalar(self, xs[0].dtype, made)

    def exp(self, x: Scalar) -> Scalar:
        return self.function("Exp", x)

    def log(self, x: Scalar) -> Scalar:
        return self.function("Log", x)

    def expm1(self, x: Scalar) -> Scalar:
        """Near 0 from u = exp x as (u - 1) x / log u, in which the rounding of u cancels. Source: Kahan."""
        u = self.exp(x)
        near = self.select(self.eq(u, 1), x, (u - 1) * x / self.log(u))
        return self.select(self.abs(x) < 0.5, near, u - 1)

    def log1p(self, x: Scalar) -> Scalar:
        """Near 0 from u = 1 + x as log u · x / (u - 1)."""
        u = x + 1
        near = self.select(self.eq(u, 1), x, self.log(u) * x / (u - 1))
        return self.select(self.abs(x) < 0.5, near, self.log(u))


def _one(operator: str, *ops: type[Op]) -> None:
    """Ops that are one operator of ONNX."""
    translation(*ops)(lambda w, node, *operands: apply(w, operator, *operands))


_one("Exp", special.Exp)
_one("Log", special.Log)
_one("Sqrt", special.Sqrt)
_one("Sin", special.Sin)
_one("Cos", special.Cos)
_one("Tanh", special.Tanh)
_one("Sigmoid", special.Sigmoid)


def _function(op: type[Op], operator: str = "") -> Callable[[Callable[..., Scalar]], Callable[..., Scalar]]:
    """Register a formula for an op: a function of the model wherever ONNX has no operator of the dtype. 16-bit floats in float32."""

    def registered(formula: Callable[..., Scalar]) -> Callable[..., Scalar]:
        def write(w: Any, node: Node, *operands: Any) -> Any:
            dtype = operands[0].dtype
            if operator and computed_in(operator, dtype) is not None:
                return apply(w, operator, *operands)
            inside = F64 if dtype == F64 else F32

            def body(w: Any, given: list[Any]) -> str:
                s = Functions(w)
                found = formula(s, *map(s.of, given))
                return str(found.raw)

            wide = [w.operand(str(as_dtype(w, x, inside)), x.type.with_dtype(inside)) for x in operands]
            found = w.call(node.op.name, wide, body)
            return found if inside == dtype else w.cast(found, dtype)

        translation(op)(write)
        return formula

    return registered


_function(special.Expm1)(lambda s, x: s.expm1(x))
_function(special.Log1p)(lambda s, x: s.log1p(x))
_function(special.Exp2)(lambda s, x: s.function("Exp", x * _LN2))
_function(special.Log2)(lambda s, x: s.log(x) * (1 / _LN2))
_function(special.Log10)(lambda s, x: s.log(x) * (1 / math.log(10)))
_function(special.Tan, "Tan")(lambda s, x: s.function("Sin", x) / s.function("Cos", x))
_function(special.Softplus, "Softplus")(lambda s, x: s.maximum(x, s.constant(0, x.dtype)) + s.log1p(s.exp(-s.abs(x))))
_function(special.Cosh, "Cosh")(lambda s, x: s.exp(s.abs(x) - _LN2) + s.exp(-s.abs(x) - _LN2))
for _op, _operator in ((special.Arctan, "Atan"), (special.Arcsin, "Asin"), (special.Arccos, "Acos")):
    _function(_op, _operator)(lambda s, x, of=_op: of().scalar(s, x))


@translation(special.Rsqrt)
def rsqrt(w: Any, node: Node, x: Any) -> str:
    return apply(w, "Reciprocal", w.operand(apply(w, "Sqrt", x), x.type))


@translation(elementwise.Reciprocal)
def reciprocal(w: Any, node: Node, x: Any) -> str:
    return apply(w, "Reciprocal", x) if is_float(x.dtype) else by_scalar_rule(w, node, x)


@translation(elementwise.Power)
def power(w: Any, node: Node, x: Any, y: Any) -> str:
    return apply(w, "Pow", x, y) if is_float(x.dtype) else by_scalar_rule(w, node, x, y)


@_function(special.Cbrt)
def cbrt(s: Functions, x: Scalar) -> Scalar:
    """By logarithm, then a step of Newton's method."""
    size = s.abs(x)
    y = s.exp(s.log(size) * (1 / 3))
    better = y - (y - size / (y * y)) * (1 / 3)
    return s.copysign(s.select((size > 0) & (size < math.inf), better, size), x)


@_function(special.Sinh, "Sinh")
def sinh(s: Functions, x: Scalar) -> Scalar:
    """(e + e / (e + 1)) / 2 with e = exp |x| - 1; of large x exp(|x| - ln 2)."""
    size = s.abs(x)
    e = s.expm1(size)
    return s.copysign(s.select(size < 20, (e + e / (e + 1)) * 0.5, s.exp(size - _LN2)), x)


@_function(special.Arcsinh, "Asinh")
def arcsinh(s: Functions, x: Scalar) -> Scalar:
    size = s.abs(x)
    small = s.log1p(size + size * size / (s.sqrt(size * size + 1) + 1))
    return s.copysign(s.select(size < 1e8, small, s.log(size) + _LN2), x)


@_function(special.Arccosh, "Acosh")
def arccosh(s: Functions, x: Scalar) -> Scalar:
    t = x - 1
    return s.select(x < 1e8, s.log1p(t + s.sqrt(t * (t + 2))), s.log(x) + _LN2)


@_function(special.Arctanh, "Atanh")
def arctanh(s: Functions, x: Scalar) -> Scalar:
    size = s.abs(x)
    return s.copysign(s.log1p(2 * size / (1 - size)) * 0.5, x)


@_function(special.Arctan2)
def arctan2(s: Functions, y: Scalar, x: Scalar) -> Scalar:
    """The angle of the point (x, y), from the one below 45 degrees."""
    across, up = s.abs(x), s.abs(y)
    steep = up > across
    short, long = s.select(steep, across, up), s.select(steep, up, across)
    # 0 / 0 is 0 here, and inf / inf is 1.
    ratio = s.select(s.eq(short, long), s.select(s.eq(long, 0), long, s.constant(1, x.dtype)), short / long)
    angle = special.Arctan().scalar(s, ratio)
    angle = s.select(steep, math.pi / 2 - angle, angle)
    left = s.copysign(s.constant(1, x.dtype), x) < 0  # -0 is left
    angle = s.copysign(s.select(left, math.pi - angle, angle), y)
    return s.select(s.is_nan(x) | s.is_nan(y), x + y, angle)


def _near(s: Functions, x: Scalar) -> Scalar:
    """erf x for |x| <= 0.75."""
    return s.fma(s.horner(x * x, ERF_NEAR_F64), x, x)


def _tail(s: Functions, size: Scalar) -> Scalar:
    """erfc for 0.75 <= size, as `nagraph.elementary.error_function` has it."""
    t = s.select(size > 28, s.constant(28, size.dtype), size)
    return s.exp(-(t * t)) * (s.horner((t - 4) / (t + 4), ERFC_F64) / (2 * t + 1))


@_function(special.Erf, "Erf")
def erf(s: Functions, x: Scalar) -> Scalar:
    size = s.abs(x)
    return s.select(size > 0.75, s.copysign(1 - _tail(s, size), x), _near(s, x))


@_function(special.Erfc)
def erfc(s: Functions, x: Scalar) -> Scalar:
    size = s.abs(x)
    tail = _tail(s, size)
    return s.select(size > 0.75, s.select(x < 0, 2 - tail, tail), 1 - _near(s, x))
