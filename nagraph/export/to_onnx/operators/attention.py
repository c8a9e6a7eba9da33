"""Attention: one operator from opset 23 on, before that a function of two products around a softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nagraph.composites import attention as composites
from nagraph.export.to_onnx.dtypes import BF16, F16, F32
from nagraph.export.to_onnx.operators.elementwise import apply
from nagraph.export.to_onnx.operators.movement import broadcasted, reshaped, transposed
from nagraph.export.to_onnx.operators.products import matmul
from nagraph.export.to_onnx.operators.reductions import reduce
from nagraph.export.to_onnx.registry import composite
from nagraph.ir.node import Node
from nagraph.ir.sizes import Size
from nagraph.ir.types import BOOL, DType


@composite(composites.attention, function=True)
def by_products(w: Any, node: Node, q: Any, k: Any, v: Any, mask: Any, *, causal: bool, scale: float | None) -> Any:
    """softmax(q kᵀ · scale + mask) v. Groups of heads that share keys are rows of one product. A row that sees nothing is zeros."""
    (*lead, heads, n, d), (*_, groups, m, _), e = q.shape, k.shape, v.shape[-1]
    factor = _scale(d, scale)
    if factor is None or not isinstance(heads, int) or not isinstance(groups, int) or q.dtype == BF16:
        return None  # bfloat16 is computed in float32 throughout, as the body says
    rows = n if heads == groups else n * (heads // groups)
    shared, whole = (*lead, groups, rows), (*lead, heads, n)
    scaled = w.emit("Mul", q, np.asarray(factor).astype(q.dtype))
    scaled = w.operand(_reshaped(w, scaled, (*whole, d), (*shared, d)), q.type.with_shape((*shared, d)))
    keys = w.operand(transposed(w, k, (*range(k.rank - 2), k.rank - 1, k.rank - 2)), k.type)
    scores = _reshaped(w, matmul(w, scaled, keys), (*shared, m), (*whole, m))
    bias = _bias(w, mask, _causal(w, n, m) if causal else None, q.dtype)
    if bias is not None:
        scores = w.emit("Add", scores, bias)
    chances = apply(w, "Softmax", w.operand(scores, q.type), axis=-1)
    chances = w.operand(_reshaped(w, chances, (*whole, m), (*shared, m)), q.type.with_shape((*shared, m)))
    y = _reshaped(w, matmul(w, chances, v), (*shared, e), (*whole, e))
    if mask is None and (not causal or n == m):
        return y  # every row sees something
    sees = w.emit("Greater", reduce(w, "ReduceMax", bias, (-1,), keepdims=True), _least(q.dtype))
    return w.emit("Where", sees, y, np.zeros((), q.dtype))


@composite(composites.attention, since=23)
def by_operator(w: Any, node: Node, q: Any, k: Any, v: Any, mask: Any, *, causal: bool, scale: float | None) -> Any:
    """Attention; causal there is from the first key on, so where there are more keys than queries the mask is written out."""
    n, m, factor = q.shape[-2], k.shape[-2], _scale(q.shape[-1], scale)
    if q.rank != 4 or factor is None or q.dtype not in (F16, F32) or mask is not None and not 2 <= mask.rank <= 4:
        return None
    frontier = _causal(w, n, m) if causal and n != m else None
    allowed: Any = mask
    if frontier is not None:
        boolean = mask is None or mask.dtype == BOOL
        allowed = frontier if mask is None else w.emit("And", mask, frontier) if boolean else _bias(w, mask, frontier, q.dtype)
    elif mask is not None and mask.shape[-2:] != (n, m):  # ONNX Runtime wants these two axes as they are
        allowed = broadcasted(w, mask, mask.shape, (*mask.shape[:-2], n, m))
    return w.emit("Attention", q, k, v, allowed, is_causal=int(causal and n == m), scale=factor)


def _bias(w: Any, mask: Any, frontier: Any, dtype: DType) -> Any:
    """What is added to scores: 0, or the mask's number, where attention is allowed, -inf elsewhere; None where there is no mask."""
    if mask is None and frontier is None:
        return None
    if mask is not None and mask.dtype != BOOL:
        return mask if frontier is None else w.emit("Where", frontier, mask, _least(dtype))
    allowed = mask if frontier is None else frontier if mask is None else w.emit("And", mask, frontier)
    return w.emit("Where", allowed, np.zeros((), dtype), _least(dtype))


def _least(dtype: DType) -> np.ndarray[Any, Any]:
    return np.asarray(-np.inf).astype(dtype)


def _scale(d: Any, scale: float | None) -> float | None:
    """What scores are multiplied with; None where it depends on a size that is known later."""
    return scale if scale is not None else None if isinstance(d, Size) else 1 / math.sqrt(max(d, 1))


def _causal(w: Any, n: Any, m: Any) -> Any:
    """bool[n, m]: whether query i sees key j, which it does up to i + m - n."""
    if not isinstance(n, Size) and not isinstance(m, Size):
        return w.constant(np.tri(n, m, m - n, dtype=bool))
    zero, one = np.array(0), np.array(1)
    rows, columns = (w.emit("Range", zero, w.emit("Squeeze", w.size(size), np.array([0])), one) for size in (n, m))
    if n != m:
        rows = w.emit("Add", rows, w.size(m - n))
    return w.emit("LessOrEqual", columns, w.emit("Unsqueeze", rows, np.array([1])))


def _reshaped(w: Any, x: Any, old: tuple[Any, ...], new: tuple[Any, ...]) -> Any:
    return x if old == new else reshaped(w, x, old, new)
