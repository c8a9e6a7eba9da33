"""Composites that are operators of ONNX. One that means something else in a corner is guarded there, or left to its body."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.composites import activations, norms
from nagraph.composites import softmax as softmaxes
from nagraph.export.to_onnx.operators.elementwise import apply
from nagraph.export.to_onnx.registry import composite
from nagraph.ir.node import Node


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
    return apply(w, "Softmax", x, axis=axis)


@composite(softmaxes.log_softmax)
def log_softmax(w: Any, node: Node, x: Any, *, axis: int) -> Any:
    return apply(w, "LogSoftmax", x, axis=axis)


@composite(norms.layer_norm)
def layer_norm(w: Any, node: Node, x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    """LayerNormalization has a scale always; where the model has none it is 1. 16-bit floats are computed in float32."""
    if weight is not None and weight.rank != 1 or bias is not None and bias.rank != 1:
        return None
    if weight is None:
        weight = np.ones(x.shape[-1:], x.dtype) if isinstance(x.shape[-1], int) else None
    return None if weight is None else apply(w, "LayerNormalization", x, weight, *([] if bias is None else [bias]), axis=-1, epsilon=eps)


@composite(norms.rms_norm, since=23)
def rms_norm(w: Any, node: Node, x: Any, weight: Any, *, eps: float) -> Any:
    if weight is None and isinstance(x.shape[-1], int):
        weight = np.ones(x.shape[-1:], x.dtype)
    return None if weight is None or len(weight.shape) != 1 else apply(w, "RMSNormalization", x, weight, axis=-1, epsilon=eps)


@composite(norms.batch_norm)
def batch_norm(w: Any, node: Node, x: Any, mean: Any, var: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    channels = x.shape[1]
    if not isinstance(channels, int):
        return None
    scale = np.ones(channels, x.dtype) if weight is None else weight
    shift = np.zeros(channels, x.dtype) if bias is None else bias
    return apply(w, "BatchNormalization", x, scale, shift, mean, var, epsilon=eps)
