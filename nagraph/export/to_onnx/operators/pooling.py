"""Pooling: maxima and sums over windows of the last axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nagraph.export.to_onnx.dtypes import F64, I32, computed_in
from nagraph.export.to_onnx.operators.movement import broadcasted, padded, reshaped, windowed
from nagraph.export.to_onnx.operators.reductions import sum_over
from nagraph.export.to_onnx.registry import Untranslatable, translation
from nagraph.ir.node import Node
from nagraph.ir.types import SHORT_NAMES, DType, is_float
from nagraph.ops import pooling


@translation(pooling.WindowMax)
def window_max(w: Any, node: Node, x: Any) -> str:
    inside = _max_dtype(x.dtype)
    found = _pooled(w, node, x if inside == x.dtype else w.cast(x, inside), x.shape, "MaxPool")[0]
    return found if inside == x.dtype else w.cast(found, x.dtype)


@translation(pooling.WindowArgmax)
def window_argmax(w: Any, node: Node, x: Any) -> str:
    """MaxPool numbers the elements of the whole tensor, row-major; here those of the last axes are numbered."""
    inside = _max_dtype(x.dtype)
    places = _pooled(w, node, x if inside == x.dtype else w.cast(x, inside), x.shape, "MaxPool", results=2)[1]
    size = math.prod(x.shape[x.rank - len(node.op.window):])  # type: ignore[attr-defined]
    return str(w.emit("Mod", places, w.size(size)))


def _max_dtype(dtype: DType) -> DType:
    """The dtype in which maxima of windows are taken; float64 holds integers of 32 bits."""
    found = computed_in("MaxPool", dtype) or (F64 if dtype.itemsize <= I32.itemsize else None)
    if found is None:
        raise Untranslatable(f"MaxPool of {SHORT_NAMES[dtype]} is computed by no implementation of ONNX; cast to another dtype")
    return found


def _pooled(w: Any, node: Node, x: str, shape: tuple[Any, ...], operator: str, results: int = 1, **attributes: Any) -> list[str]:
    """An operator over windows of [N, C, *spatial], which the axes are made for it and back."""
    op: Any = node.op
    d = len(op.window)
    lead, spatial = shape[:len(shape) - d], shape[len(shape) - d:]
    flat = lead if len(lead) == 2 else (1, math.prod(lead))
    x = x if flat == lead else reshaped(w, x, shape, (*flat, *spatial))
    found = w.emit(operator, x, results=results, kernel_shape=op.window, strides=op.stride,
                   pads=[p for side in zip(*op.padding) for p in side], **attributes)
    to = node.result.shape
    return [y if flat == lead else reshaped(w, y, (*flat, *to[len(lead):]), to) for y in ([found] if results == 1 else found)]


@translation(pooling.WindowSum)
def window_sum(w: Any, node: Node, x: Any) -> str:
    """The mean of the window, padding included, times its size."""
    op: Any = node.op
    inside = computed_in("AveragePool", x.dtype)
    if not is_float(x.dtype) or inside is None:
        none = (0,) * (x.rank - len(op.window))
        wide = padded(w, x, (*none, *(p[0] for p in op.padding)), (*none, *(p[1] for p in op.padding)), (0,) * x.rank, 0)
        seen = windowed(w, wide, tuple(range(len(none), x.rank)), op.window, op.stride, (1,) * len(op.window))
        return sum_over(w, seen, tuple(range(x.rank, x.rank + len(op.window))), x.dtype)
    mean = _pooled(w, node, x if inside == x.dtype else w.cast(x, inside), x.shape, "AveragePool", count_include_pad=1)[0]
    found = w.emit("Mul", mean, np.asarray(math.prod(op.window)).astype(inside))
    return str(found if inside == x.dtype else w.cast(found, x.dtype))


@translation(pooling.WindowPut)
def window_put(w: Any, node: Node, u: Any, places: Any) -> str:
    """Elements added into zeros, for each of the leading axes in a row of its own."""
    op: Any = node.op
    d, shape = len(op.sizes), node.result.shape
    lead, size, windows = math.prod(u.shape[:u.rank - d]), math.prod(op.sizes), math.prod(u.shape[u.rank - d:])
    inside = computed_in("ScatterElements", u.dtype) or u.dtype
    zeros = broadcasted(w, w.constant(np.zeros((), inside)), (), (lead, size))
    values = reshaped(w, u if inside == u.dtype else w.cast(u, inside), u.shape, (lead, windows))
    at = reshaped(w, places, u.shape, (lead, windows))
    found = w.emit("ScatterElements", zeros, at, values, axis=1, reduction="add")
    found = reshaped(w, found, (lead, size), shape)
    return found if inside == u.dtype else w.cast(found, u.dtype)

