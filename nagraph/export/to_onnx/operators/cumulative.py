"""Running sums, products and extrema along an axis, products of integers, and where extrema are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.elementwise import as_dtype, choose, widened
from nagraph.export.to_onnx.operators.reductions import reduce
from nagraph.export.to_onnx.orders import ordered
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.builder import build, constant, current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.node import Node
from nagraph.ir.types import BOOL, DTYPES, TensorType, is_float
from nagraph.ops import arg_extremum, cumulative, elementwise, reduction
from nagraph.ops.base import NARROW_FLOATS, cast
from nagraph.ops.movement import broadcast_to, moveaxis, reshape, transpose
from nagraph.ops.reduction import highest, lowest
from nagraph.regions.scans import Scan

F32, U8 = DTYPES["f32"], DTYPES["u8"]


@translation(cumulative.Cumsum)
def cumsum(w: Any, node: Node, x: Any) -> str:
    op: Any = node.op
    result = node.result.dtype
    inside = widened(w, "CumSum", result, wraps=True)
    found = w.emit("CumSum", as_dtype(w, x, inside), np.array(op.axis), reverse=int(op.reverse))
    return str(found if inside == result else w.cast(found, result))


@translation(cumulative.Cumprod, cumulative.Cummax, cumulative.Cummin)
def running(w: Any, node: Node, x: Any) -> str:
    """A loop along the axis."""
    return str(w.write(_running(node.op, x.type), [x])[0])


def _running(op: Any, x: TensorType) -> Graph:
    """The steps of a running product or extremum, one after another: a graph of a scan."""
    combine = {"cumprod": elementwise.multiply, "cummax": elementwise.maximum, "cummin": elementwise.minimum}[op.name]
    dtype = F32 if x.dtype in NARROW_FLOATS else op.result_dtype(x.dtype)
    start = np.ones((), dtype) if op.name == "cumprod" else np.asarray((lowest if op.name == "cummax" else highest)(dtype)).astype(dtype)
    row = TensorType(dtype, x.shape[:op.axis] + x.shape[op.axis + 1:])
    body = build("step", [row, row], lambda c, r: [combine(c, r)] * 2)

    def steps(x: Value) -> list[Value]:
        rows = moveaxis(cast(x, dtype), op.axis, 0)
        _, found = current().emit(Scan(body, 0, 1, x.shape[op.axis], op.reverse), (broadcast_to(constant(start), row.shape), rows))
        return [cast(moveaxis(found, 0, op.axis), op.result_dtype(x.dtype))]

    return build(op.name, [x], steps)


@translation(reduction.Prod)
def product(w: Any, node: Node, x: Any) -> Any:
    """Of integers, which wrap around, in a loop: ReduceProd of ONNX Runtime is made in float64."""
    op: Any = node.op
    result = node.result.dtype
    if not op.axes:
        return as_dtype(w, x, result)
    if not is_float(result):
        return w.write(_product(op, x.type), [x])[0]
    inside = widened(w, "ReduceProd", result)
    found = reduce(w, "ReduceProd", as_dtype(w, x, inside), op.axes)
    return found if inside == result else w.cast(found, result)


def _product(op: Any, x: TensorType) -> Graph:
    """A scan over the elements of a product."""
    dtype = op.infer(x).dtype
    rest = tuple(a for a in range(x.rank) if a not in op.axes)
    row = TensorType(dtype, tuple(x.shape[a] for a in rest))
    count = math.prod(x.shape[a] for a in op.axes)
    body = build("step", [row, row], lambda c, r: [elementwise.multiply(c, r)])

    def steps(x: Value) -> list[Value]:
        rows = reshape(transpose(cast(x, dtype), (*op.axes, *rest)), (count, *row.shape))
        return list(current().emit(Scan(body, 0, 1, count), (broadcast_to(constant(np.ones((), dtype)), row.shape), rows)))

    return build(op.name, [x], steps)


@translation(arg_extremum.ArgMax, arg_extremum.ArgMin)
def arg_extremum_of(w: Any, node: Node, x: Any) -> str:
    """The first of equals; where there is a nan, the first of these."""
    op: Any = node.op
    operator = "ArgMax" if isinstance(op, arg_extremum.ArgMax) else "ArgMin"
    found = w.emit(operator, ordered(w, operator, x)[0], axis=op.axis, keepdims=0)
    if not is_float(x.dtype):
        return str(found)
    missing = w.cast(w.emit("IsNaN", x), U8)
    first = w.operand(w.emit("ArgMax", missing, axis=op.axis, keepdims=0), node.result.type)
    there_is = w.cast(reduce(w, "ReduceMax", missing, (op.axis,)), BOOL)
    return choose(w, there_is, first, w.operand(found, node.result.type))
