"""Sums, products and extrema over axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.elementwise import as_dtype, choose, widened
from nagraph.export.to_onnx.operators.movement import broadcasted, reshaped, transposed
from nagraph.export.to_onnx.orders import ordered
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.node import Node
from nagraph.ir.types import BOOL, DTYPES, DType, is_float
from nagraph.ops import reduction

I32, I64, U8 = DTYPES["i32"], DTYPES["i64"], DTYPES["u8"]


#: Integers up to here are exact in ONNX Runtime's sums, which are made in float64.
_EXACT = 2**53


@translation(reduction.Sum, reduction.RowSum)
def sum_of(w: Any, node: Node, x: Any) -> Any:
    axes, result = node.op.axes, node.result.dtype  # type: ignore[attr-defined]
    return sum_over(w, x, axes, result) if axes else as_dtype(w, x, result)


def reduce(w: Any, operator: str, x: Any, axes: Any, keepdims: bool = False) -> str:
    """An operator over axes, which stay with size 1 if keepdims."""
    return str(w.emit(operator, x, np.array(axes, np.int64), keepdims=int(keepdims)))


def sum_over(w: Any, x: Any, axes: Any, dtype: DType) -> str:
    """The sum over axes in a dtype; integers wrap around, in int64, of which the lowest bits are kept."""
    inside = widened(w, "ReduceSum", dtype) if is_float(dtype) else I64
    count = math.prod(x.shape[a] for a in axes)
    if is_float(dtype) or isinstance(count, int) and count << 8 * x.dtype.itemsize <= _EXACT:
        found = reduce(w, "ReduceSum", as_dtype(w, x, inside), axes)
    else:
        found = _summed_by_product(w, as_dtype(w, x, inside), x.shape, axes, count)
    return found if inside == dtype else str(w.cast(found, dtype))


def _summed_by_product(w: Any, x: str, shape: tuple[Any, ...], axes: Any, count: Any) -> str:
    """Sums as the product with a column of ones, which is exact in integers."""
    rest = tuple(a for a in range(len(shape)) if a not in axes)
    kept = tuple(shape[a] for a in rest)
    rows = reshaped(w, transposed(w, x, (*rest, *axes)), (*kept, *(shape[a] for a in axes)), (math.prod(kept), count))
    ones = broadcasted(w, w.constant(np.array(1)), (), (count, 1))
    return reshaped(w, w.emit("MatMul", rows, ones), (math.prod(kept), 1), kept)


@translation(reduction.Max, reduction.Min)
def extremum(w: Any, node: Node, x: Any) -> Any:
    """nan if there is one, which implementations leave out."""
    axes = node.op.axes  # type: ignore[attr-defined]
    if not axes:
        return x
    operator = "ReduceMax" if isinstance(node.op, reduction.Max) else "ReduceMin"
    inside, back = ordered(w, operator, x)
    found = back(reduce(w, operator, inside, axes))
    if not is_float(x.dtype):
        return found
    missing = reduce(w, "ReduceMax", w.cast(w.emit("IsNaN", x), U8), axes)
    nan = np.asarray(np.nan).astype(widened(w, operator, x.dtype))
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
