"""Sums, products and extrema over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.elementwise import as_dtype, choose, widened
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.node import Node
from nagraph.ir.types import BOOL, DTYPES, DType, is_float
from nagraph.ops import reduction

I32, U8 = DTYPES["i32"], DTYPES["u8"]


def _reduced(operator: str, wraps: bool, *ops: Any) -> None:
    def write(w: Any, node: Node, x: Any) -> Any:
        result = node.result.dtype
        if not node.op.axes:  # type: ignore[attr-defined]
            return x if x.dtype == result else w.cast(x, result)
        inside = widened(w, operator, result, wraps)
        found = reduce(w, operator, as_dtype(w, x, inside), node.op.axes)  # type: ignore[attr-defined]
        return found if inside == result else w.cast(found, result)

    translation(*ops)(write)


def reduce(w: Any, operator: str, x: Any, axes: Any, keepdims: bool = False) -> str:
    """An operator over axes, which stay with size 1 if keepdims."""
    return str(w.emit(operator, x, np.array(axes, np.int64), keepdims=int(keepdims)))


def sum_over(w: Any, x: Any, axes: Any, dtype: DType) -> str:
    """The sum over axes in a dtype; integers wrap around."""
    inside = widened(w, "ReduceSum", dtype, wraps=True)
    found = reduce(w, "ReduceSum", as_dtype(w, x, inside), axes)
    return found if inside == dtype else str(w.cast(found, dtype))


_reduced("ReduceSum", True, reduction.Sum, reduction.RowSum)
_reduced("ReduceProd", True, reduction.Prod)


@translation(reduction.Max, reduction.Min)
def extremum(w: Any, node: Node, x: Any) -> Any:
    """nan if there is one, which implementations leave out."""
    axes = node.op.axes  # type: ignore[attr-defined]
    if not axes:
        return x
    operator = "ReduceMax" if isinstance(node.op, reduction.Max) else "ReduceMin"
    inside = widened(w, operator, x.dtype)
    found = reduce(w, operator, as_dtype(w, x, inside), axes)
    found = found if inside == x.dtype else w.cast(found, x.dtype)
    if not is_float(x.dtype):
        return found
    missing = reduce(w, "ReduceMax", w.cast(w.emit("IsNaN", x), U8), axes)
    nan = np.asarray(np.nan).astype(inside)
    return choose(w, w.cast(missing, BOOL), nan, w.operand(found, node.result.type))


@translation(reduction.All, reduction.Any_)
def quantifier(w: Any, node: Node, x: Any) -> Any:
    """Extrema of the bools as integers; of none all are true, and none is."""
    axes = node.op.axes  # type: ignore[attr-defined]
    if not axes:
        return x
    all_of = isinstance(node.op, reduction.All)
    number = w.cast(x, I32)
    count = reduce(w, "ReduceSum", w.cast(w.emit("Not", x), I32) if all_of else number, axes)
    return w.emit("Equal" if all_of else "Greater", count, np.array(0, np.int32))
