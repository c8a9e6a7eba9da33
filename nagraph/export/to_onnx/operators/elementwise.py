"""Arithmetic, comparison, choice, rounding and elementary functions, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.export.to_onnx.dtypes import computed_in, wrapped_in
from nagraph.export.to_onnx.registry import Untranslatable, translation
from nagraph.ir.node import Node
from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES, SHORT_NAMES, UNSIGNED, DType, is_float
from nagraph.ops import comparison, elementwise, rounding

U8, I64, U64 = DTYPES["u8"], DTYPES["i64"], DTYPES["u64"]


def widened(w: Any, operator: str, dtype: DType, wraps: bool = False) -> DType:
    """The dtype in which an operator computes values of a dtype. Untranslatable if there is none."""
    found = (wrapped_in if wraps else computed_in)(operator, dtype)
    if found is None:
        raise Untranslatable(f"{operator} of {SHORT_NAMES[dtype]} is computed by no implementation of ONNX; cast to another dtype")
    return found


def apply(w: Any, operator: str, *operands: Any, wraps: bool = False, **attributes: Any) -> str:
    """An operator on operands of one dtype, computed in a dtype that it has; the result in theirs."""
    dtype = operands[0].dtype
    inside = widened(w, operator, dtype, wraps)
    if inside == dtype:
        return str(w.emit(operator, *operands, **attributes))
    return str(w.cast(w.emit(operator, *(as_dtype(w, x, inside) for x in operands), **attributes), dtype))


def as_dtype(w: Any, x: Any, dtype: DType) -> Any:
    """An operand or an array in a dtype."""
    if isinstance(x, np.ndarray):
        return x.astype(dtype)
    return x if x.dtype == dtype else w.cast(x, dtype)


def _same(operator: str, *ops: type[Op], wraps: bool = False) -> None:
    """Ops that are one operator of ONNX, in the operands' dtype."""
    translation(*ops)(lambda w, node, *operands: apply(w, operator, *operands, wraps=wraps))


_same("Sub", elementwise.Subtract, wraps=True)
_same("Div", elementwise.Divide)
_same("Max", elementwise.Maximum)
_same("Min", elementwise.Minimum)
_same("Round", rounding.Rint)
_same("Sign", rounding.Sign)


@translation(rounding.Floor, rounding.Ceil)
def rounded(w: Any, node: Node, x: Any) -> Any:
    """Integers and bools stay."""
    return apply(w, "Floor" if isinstance(node.op, rounding.Floor) else "Ceil", x) if is_float(x.dtype) else x


@translation(elementwise.Add)
def add(w: Any, node: Node, x: Any, y: Any) -> str:
    return str(w.emit("Or", x, y)) if x.dtype == BOOL else apply(w, "Add", x, y, wraps=True)


@translation(elementwise.Multiply)
def multiply(w: Any, node: Node, x: Any, y: Any) -> str:
    return str(w.emit("And", x, y)) if x.dtype == BOOL else apply(w, "Mul", x, y, wraps=True)


@translation(elementwise.Clip)
def clip(w: Any, node: Node, x: Any, low: Any, high: Any) -> str:
    """Clip has numbers for limits; where they are arrays, it is the larger of two and then the smaller of two."""
    if low.rank == high.rank == 0 and computed_in("Clip", x.dtype):
        return apply(w, "Clip", x, low, high)
    return apply(w, "Min", w.operand(apply(w, "Max", x, low), node.result.type), high)


@translation(elementwise.Square)
def square(w: Any, node: Node, x: Any) -> str:
    return apply(w, "Mul", x, x, wraps=True)


@translation(elementwise.Negative)
def negative(w: Any, node: Node, x: Any) -> str:
    return apply(w, "Neg", x, wraps=True)


@translation(elementwise.Abs)
def absolute(w: Any, node: Node, x: Any) -> str:
    return str(w.emit("Identity", x)) if x.dtype in UNSIGNED or x.dtype == BOOL else apply(w, "Abs", x)


@translation(elementwise.Select)
def select(w: Any, node: Node, condition: Any, x: Any, y: Any) -> str:
    if is_float(y.dtype) and _is_zero(w, x) and (test := w.made_by(condition)) is not None and test.op_type == "LessOrEqual":
        if test.input[0] == y and _is_zero(w, test.input[1]):  # 0 where y <= 0: nan stays
            return apply(w, "Relu", y)
    if x.dtype != BOOL:
        return choose(w, condition, x, y)
    return str(w.emit("Or", w.emit("And", condition, x), w.emit("And", w.emit("Not", condition), y)))


def _is_zero(w: Any, x: str) -> bool:
    known = w.known(x)
    return known is not None and not known.any()


def choose(w: Any, condition: str, x: Any, y: Any) -> str:
    """x where the condition holds, y elsewhere, which are no bools."""
    dtype = y.dtype
    inside = widened(w, "Where", dtype, wraps=True)
    found = w.emit("Where", condition, as_dtype(w, x, inside), as_dtype(w, y, inside))
    return str(found if inside == dtype else w.cast(found, dtype))


# -- comparison ---------------------------------------------------------------------------------------------


def _compared(operator: str, negated: bool, *ops: type[Op]) -> None:
    def write(w: Any, node: Node, x: Any, y: Any) -> str:
        inside = widened(w, operator, x.dtype)
        found = w.emit(operator, as_dtype(w, x, inside), as_dtype(w, y, inside))
        return str(w.emit("Not", found) if negated else found)

    translation(*ops)(write)


_compared("Equal", False, comparison.Equal)
_compared("Equal", True, comparison.NotEqual)
_compared("Less", False, comparison.Less)
_compared("LessOrEqual", False, comparison.LessEqual)
_compared("Greater", False, comparison.Greater)
_compared("GreaterOrEqual", False, comparison.GreaterEqual)


def _plain(operator: str, *ops: type[Op]) -> None:
    """Ops that are one operator of ONNX, whatever the dtypes."""
    translation(*ops)(lambda w, node, *operands: w.emit(operator, *operands))


_plain("And", comparison.LogicalAnd)
_plain("Or", comparison.LogicalOr)
_plain("Xor", comparison.LogicalXor)
_plain("Not", comparison.LogicalNot)


@translation(comparison.IsNan, comparison.IsInf)
def is_special(w: Any, node: Node, x: Any) -> str:
    operator = "IsNaN" if isinstance(node.op, comparison.IsNan) else "IsInf"
    return str(w.emit(operator, x) if is_float(x.dtype) else _filled(w, x, False))


@translation(comparison.IsFinite)
def is_finite(w: Any, node: Node, x: Any) -> str:
    """|x| < inf, which is false of nan."""
    if not is_float(x.dtype):
        return _filled(w, x, True)
    return str(w.emit("Not", w.emit("Or", w.emit("IsNaN", x), w.emit("IsInf", x))))


def _filled(w: Any, x: Any, value: bool) -> str:
    """A bool of the shape of x."""
    return str(w.emit("Expand", np.array(value), w.emit("Shape", x)))
