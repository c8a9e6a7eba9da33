"""Composites that are operators of ONNX. One that means something else in a corner is guarded there, or left to its body."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.composites import activations, attention, norms
from nagraph.composites import softmax as softmaxes
from nagraph.export.to_onnx.dtypes import F16, F32, F64
from nagraph.export.to_onnx.operators.elementwise import apply, choose
from nagraph.export.to_onnx.operators.movement import broadcasted
from nagraph.export.to_onnx.operators.reductions import reduce
from nagraph.export.to_onnx.registry import composite
from nagraph.ir.node import Node
from nagraph.ir.types import is_float


@composite(activations.gelu, since=20)
def gelu(w: Any, node: Node, x: Any) -> Any:
    return apply(w, "Gelu", x)


@composite(activations.gelu_tanh, since=20)
def gelu_tanh(w: Any, node: Node, x: Any) -> Any:
    return apply(w, "Gelu", x, approximate="tanh")


@composite(activations.silu, since=24)
def silu(w: Any, node: Node, x: Any) -> Any:
    return apply(w, "Swish", x)


@composite(softmaxes.softmax)
def softmax(w: Any, node: Node, x: Any, *, axis: int) -> Any:
    """Softmax; a row of -inf alone, which is nan there, gives zeros where the model itself makes such rows."""
    y = apply(w, "Softmax", x, axis=axis)
    if not _may_be_masked(w, x):
        return y
    least = w.operand(reduce(w, "ReduceMax", x, (axis % x.rank,), keepdims=True), x.type)
    masked = w.emit("Equal", least, np.asarray(-np.inf).astype(x.dtype))
    return choose(w, masked, np.zeros((), x.dtype), w.operand(y, x.type))


#: What passes on an -inf that it is given.
_PASSING = frozenset(("Where", "Add", "Sub", "Mul", "Div", "Max", "Min", "Neg", "Reshape", "Transpose", "Expand", "Slice", "Concat", "Cast",
                      "Identity", "Unsqueeze", "Squeeze", "Pad"))


def _may_be_masked(w: Any, x: str) -> bool:
    """Whether an infinity that stands in the model may come to x. Those of inputs are left to whoever gives them."""
    seen, waiting = set(), [str(x)]
    while waiting:
        name = waiting.pop()
        known, maker = w.known(name), w.made_by(name)
        if known is not None and is_float(known.dtype) and np.isinf(known).any():
            return True
        if maker is not None and maker.op_type in _PASSING and name not in seen:
            seen.add(name)
            waiting += maker.input
    return False


@composite(softmaxes.log_softmax)
def log_softmax(w: Any, node: Node, x: Any, *, axis: int) -> Any:
    return apply(w, "LogSoftmax", x, axis=axis)


@composite(norms.layer_norm)
def layer_norm(w: Any, node: Node, x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    """LayerNormalization, which is computed in float32, also of 16-bit floats."""
    scale, shift = _per_axis(x, weight, 1), [] if bias is None else [bias]
    if scale is None or x.dtype == F64 or any(len(v.shape) != 1 for v in (scale, *shift)):
        return None
    return apply(w, "LayerNormalization", x, scale, *shift, axis=-1, epsilon=eps)


@composite(norms.rms_norm, since=23)
def rms_norm(w: Any, node: Node, x: Any, weight: Any, *, eps: float) -> Any:
    scale = _per_axis(x, weight, 1)
    if scale is None or x.dtype == F64 or len(scale.shape) != 1:
        return None
    return apply(w, "RMSNormalization", x, scale, axis=-1, epsilon=eps)


@composite(norms.group_norm, since=21)
def group_norm(w: Any, node: Node, x: Any, weight: Any, bias: Any, *, groups: int, eps: float) -> Any:
    scale, shift = _per_axis(x, weight, 1, axis=1), _per_axis(x, bias, 0, axis=1)
    if scale is None or shift is None or x.dtype == F64:
        return None
    return apply(w, "GroupNormalization", x, scale, shift, num_groups=groups, epsilon=eps)


def _per_axis(x: Any, given: Any, usual: float, axis: int = -1) -> Any:
    """What is given, or a number for each index on an axis; None where nobody knows how many these are."""
    n = x.shape[axis]
    return given if given is not None else np.full(n, usual, x.dtype) if isinstance(n, int) else None


@composite(norms.batch_norm)
def batch_norm(w: Any, node: Node, x: Any, mean: Any, var: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    scale, shift = _per_axis(x, weight, 1, axis=1), _per_axis(x, bias, 0, axis=1)
    return None if scale is None or shift is None else apply(w, "BatchNormalization", x, scale, shift, mean, var, epsilon=eps)


@composite(attention.rope, since=23)
def rope(w: Any, node: Node, x: Any, cos: Any, sin: Any) -> Any:
    """RotaryEmbedding, which wants the tables of each example."""
    if x.rank != 4 or x.dtype not in (F16, F32) or cos.type != sin.type or cos.rank != 2:
        return None
    tables = []
    for table in (cos, sin):
        key = str(table), x.shape[0]
        if key not in w.shared:
            w.shared[key] = broadcasted(w, table, table.shape, (x.shape[0], *table.shape))
        tables.append(w.shared[key])
    return w.emit("RotaryEmbedding", x, *tables)
