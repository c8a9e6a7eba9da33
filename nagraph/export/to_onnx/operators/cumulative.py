"""Running sums and extrema along an axis, and where extrema are."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.elementwise import as_dtype, choose, widened
from nagraph.export.to_onnx.operators.reductions import reduce
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.node import Node
from nagraph.ir.types import BOOL, DTYPES, is_float
from nagraph.ops import arg_extremum, cumulative

U8 = DTYPES["u8"]


@translation(cumulative.Cumsum)
def cumsum(w: Any, node: Node, x: Any) -> str:
    op: Any = node.op
    result = node.result.dtype
    inside = widened(w, "CumSum", result, wraps=True)
    found = w.emit("CumSum", as_dtype(w, x, inside), np.array(op.axis), reverse=int(op.reverse))
    return str(found if inside == result else w.cast(found, result))


@translation(arg_extremum.ArgMax, arg_extremum.ArgMin)
def arg_extremum_of(w: Any, node: Node, x: Any) -> str:
    """The first of equals; where there is a nan, the first of these."""
    op: Any = node.op
    operator = "ArgMax" if isinstance(op, arg_extremum.ArgMax) else "ArgMin"
    inside = widened(w, operator, x.dtype)
    found = w.emit(operator, as_dtype(w, x, inside), axis=op.axis, keepdims=0)
    if not is_float(x.dtype):
        return str(found)
    missing = w.cast(w.emit("IsNaN", x), U8)
    first = w.operand(w.emit("ArgMax", missing, axis=op.axis, keepdims=0), node.result.type)
    there_is = w.cast(reduce(w, "ReduceMax", missing, (op.axis,)), BOOL)
    return choose(w, there_is, first, w.operand(found, node.result.type))
