"""Scalar rules on a machine whose instructions are ONNX's operators, element by element: for ops that have no operator of their own.

What follows from constants alone is computed here, so a rule that asks whether its divisor is 0 leaves nothing of the question
behind where the divisor is 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.elementwise import apply, as_dtype, widened
from nagraph.export.to_onnx.operators.movement import broadcasted
from nagraph.export.to_onnx.registry import Untranslatable
from nagraph.export.to_onnx.scope import Operand
from nagraph.ir.conversion import converted
from nagraph.ir.scalar import Scalar, ScalarBuilder
from nagraph.ir.types import BOOL, DTYPES, SHORT_NAMES, UNSIGNED, DType, TensorType, is_float
from nagraph.ops.operands import broadcast_shapes

_ORDERS: dict[str, tuple[str, bool, Any]] = {
    "lt": ("Less", False, np.less), "le": ("LessOrEqual", False, np.less_equal), "gt": ("Greater", False, np.greater),
    "ge": ("GreaterOrEqual", False, np.greater_equal), "eq": ("Equal", False, np.equal), "ne": ("Equal", True, np.not_equal),
}
_BITS: dict[str, tuple[str, str, Any]] = {
    "and": ("And", "BitwiseAnd", np.bitwise_and), "or": ("Or", "BitwiseOr", np.bitwise_or), "xor": ("Xor", "BitwiseXor", np.bitwise_xor),
}
_ROUNDS: dict[str, tuple[str, Any]] = {"floor": ("Floor", np.floor), "ceil": ("Ceil", np.ceil), "rint": ("Round", np.rint)}


class Elements(ScalarBuilder):
    """What writes scalar computations into a scope. The raw form of a scalar is an operand, or an array of rank 0 where it is known."""

    fmods = True

    def __init__(self, w: Any):
        self.w = w
        #: Quotients by their operands: rules of integers ask for one, and for the rest that it leaves.
        self._quotients: dict[tuple[int, int], tuple[Scalar, Scalar, Scalar]] = {}

    def of(self, x: Any) -> Scalar:
        """All elements of an operand."""
        known = self.w.known(x)
        return Scalar(self, x.dtype, x if known is None or known.ndim else known)

    def result(self, x: Scalar, type: TensorType) -> str:
        """The name of what a rule gave, which has this type."""
        if isinstance(x.raw, np.ndarray):
            return broadcasted(self.w, self.w.constant(x.raw), (), type.shape) if type.shape else str(self.w.constant(x.raw))
        return str(x.raw) if x.raw.shape == type.shape else broadcasted(self.w, x.raw, x.raw.shape, type.shape)

    def _made(self, dtype: DType, known: Callable[..., Any], write: Callable[..., str], *xs: Scalar) -> Scalar:
        """A scalar of other scalars: by NumPy if all of them are known, else what is written."""
        raws = [x.raw for x in xs]
        if all(isinstance(raw, np.ndarray) for raw in raws):
            with np.errstate(all="ignore"):
                return Scalar(self, dtype, np.asarray(known(*raws), dtype))
        shapes = [TensorType(dtype, raw.shape) for raw in raws]
        return Scalar(self, dtype, Operand(write(*raws), TensorType(dtype, broadcast_shapes("elements", *shapes))))

    def _applied(self, operator: str, known: Any, *xs: Scalar, wraps: bool = False, **attributes: Any) -> Scalar:
        return self._made(xs[0].dtype, known, lambda *raws: apply(self.w, operator, *raws, wraps=wraps, **attributes), *xs)

    def constant(self, value: Any, dtype: DType) -> Scalar:
        array = np.asarray(value)
        if not is_float(dtype) and dtype != BOOL and array.dtype.kind in "iuO":
            return Scalar(self, dtype, np.array(int(value) & (1 << 8 * dtype.itemsize) - 1, f"u{dtype.itemsize}").view(dtype))
        return Scalar(self, dtype, converted(array, dtype))

    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return self._applied("Add", np.add, x, y, wraps=True)

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        return self._applied("Sub", np.subtract, x, y, wraps=True)

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        return self._applied("Mul", np.multiply, x, y, wraps=True)

    def div(self, x: Scalar, y: Scalar) -> Scalar:
        key = id(x), id(y)
        if key not in self._quotients:
            self._quotients[key] = x, y, self._applied("Div", np.divide if is_float(x.dtype) else _quotient, x, y)
        return self._quotients[key][2]

    def rem(self, x: Scalar, y: Scalar) -> Scalar:
        return x - self.div(x, y) * y

    def neg(self, x: Scalar) -> Scalar:
        if x.dtype in UNSIGNED:
            return self.constant(0, x.dtype) - x
        return self._applied("Neg", np.negative, x, wraps=True)

    def abs(self, x: Scalar) -> Scalar:
        return x if x.dtype in UNSIGNED else self._applied("Abs", np.abs, x)

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        raise Untranslatable("ONNX has no multiplication and addition that are rounded once")

    def fmod(self, x: Scalar, y: Scalar) -> Scalar:
        return self._applied("Mod", np.fmod, x, y, fmod=1)

    def sqrt(self, x: Scalar) -> Scalar:
        return self._applied("Sqrt", np.sqrt, x)

    def round(self, how: str, x: Scalar) -> Scalar:
        if how == "trunc":
            return self.copysign(self.round("floor", self.abs(x)), x)
        operator, known = _ROUNDS[how]
        return self._applied(operator, known, x)

    def copysign(self, x: Scalar, y: Scalar) -> Scalar:
        """The sign of a zero shows in its reciprocal. It is multiplied with: Where of ONNX Runtime gives zeros without a sign."""
        negative = (y < 0) | (self.eq(y, 0) & (1 / y < 0))
        return self.abs(x) * self.select(negative, self.constant(-1, x.dtype), self.constant(1, x.dtype))

    def compare(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        operator, negated, known = _ORDERS[how]
        if x is y and how == "ne" and not isinstance(x.raw, np.ndarray):
            return self._made(BOOL, known, lambda raw: self.w.emit("IsNaN", raw), x)
        inside = widened(self.w, operator, x.dtype)

        def write(*raws: Any) -> str:
            found = self.w.emit(operator, *(as_dtype(self.w, r, inside) for r in raws))
            return str(self.w.emit("Not", found) if negated else found)

        return self._made(BOOL, known, write, x, y)

    def select(self, condition: Scalar, x: Scalar, y: Scalar) -> Scalar:
        if isinstance(condition.raw, np.ndarray):
            return x if condition.raw else y
        dtype = x.dtype
        if dtype == BOOL:
            return (condition & x) | (~condition & y)
        inside = widened(self.w, "Where", dtype, wraps=True)

        def write(c: Any, *raws: Any) -> str:
            found = self.w.emit("Where", c, *(as_dtype(self.w, r, inside) for r in raws))
            return str(found if inside == dtype else self.w.cast(found, dtype))

        return self._made(dtype, np.where, write, condition, x, y)

    def bits(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        logical, bitwise, known = _BITS[how]
        if x.dtype == BOOL:
            for one, other in ((x, y), (y, x)):
                if isinstance(one.raw, np.ndarray) and not isinstance(other.raw, np.ndarray):
                    return self._with_known(how, bool(one.raw), other)
        return self._made(x.dtype, known, lambda *raws: self.w.emit(logical if x.dtype == BOOL else bitwise, *raws), x, y)

    def _with_known(self, how: str, known: bool, x: Scalar) -> Scalar:
        """Logic on a truth value that is known and one that is not."""
        if how == "xor":
            return self._made(BOOL, np.invert, lambda raw: self.w.emit("Not", raw), x) if known else x
        return x if known == (how == "and") else self.constant(known, BOOL)

    def shift(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        """ONNX shifts unsigned integers. Of negative ones the complement is shifted to the right."""
        if x.dtype in UNSIGNED:
            known = np.left_shift if how == "left" else np.right_shift
            return self._made(x.dtype, known, lambda *raws: self.w.emit("BitShift", *raws, direction=how.upper()), x, y)
        unsigned = DTYPES[f"u{8 * x.dtype.itemsize}"]
        if how == "left":
            return self.cast(self.shift(how, self.cast(x, unsigned), self.cast(y, unsigned)), x.dtype)
        sign = self.select(x < 0, self.constant(-1, x.dtype), self.constant(0, x.dtype))
        return self.cast(self.shift(how, self.cast(x ^ sign, unsigned), self.cast(y, unsigned)), x.dtype) ^ sign

    def cast(self, x: Scalar, dtype: DType) -> Scalar:
        if x.dtype == dtype:
            return x
        return self._made(dtype, lambda raw: converted(raw, dtype), lambda raw: self.w.cast(raw, dtype), x)

    def bitcast(self, x: Scalar, dtype: DType) -> Scalar:
        raise Untranslatable(f"ONNX can't take the bits of {SHORT_NAMES[x.dtype]} for those of {SHORT_NAMES[dtype]}")


def _quotient(x: Any, y: Any) -> Any:
    """The quotient of integers, rounded to zero."""
    return np.array(abs(int(x)) // abs(int(y)) * (1 if (int(x) < 0) == (int(y) < 0) else -1)).astype(x.dtype)
