"""Activation functions, by the names that recurrent operators know them by as well."""

from __future__ import annotations

from typing import Any

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.nn import functional
from nagraph.onnx.registry import operator


@operator("Relu")
def relu(x: Any) -> Any:
    return functional.relu(x)


@operator("Sigmoid")
def sigmoid(x: Any) -> Any:
    return functional.sigmoid(x)


@operator("Softplus")
def softplus(x: Any) -> Any:
    return functional.softplus(x)


@operator("Softsign")
def softsign(x: Any) -> Any:
    return x / (1 + F.abs(x))


@operator("LeakyRelu")
def leaky_relu(x: Any, *, alpha: float = 0.01) -> Any:
    return functional.leaky_relu(x, alpha)


@operator("PRelu")
def parametric_relu(x: Any, slope: Any) -> Any:
    return F.where(F.less(x, 0), x * slope, x)


@operator("ThresholdedRelu")
def thresholded_relu(x: Any, *, alpha: float = 1.0) -> Any:
    return F.where(F.greater(x, alpha), x, F.zeros_like(x))


@operator("Elu")
def elu(x: Any, *, alpha: float = 1.0) -> Any:
    return functional.elu(x, alpha)


@operator("Celu")
def celu(x: Any, *, alpha: float = 1.0) -> Any:
    return F.where(F.greater(x, 0), x, alpha * F.expm1(F.where(F.greater(x, 0), F.zeros_like(x), x) / alpha))


@operator("Selu")
def selu(x: Any, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Any:
    return gamma * functional.elu(x, alpha)


@operator("Gelu")
def gelu(x: Any, *, approximate: str = "none") -> Any:
    if approximate not in ("none", "tanh"):
        raise OnnxError(f"approximate is none or tanh, not {approximate!r}")
    return functional.gelu(x) if approximate == "none" else functional.gelu_tanh(x)


@operator("HardSigmoid")
def hard_sigmoid(x: Any, *, alpha: float = 0.2, beta: float = 0.5) -> Any:
    return F.clip(alpha * x + beta, 0, 1)


@operator("HardSwish")
def hard_swish(x: Any) -> Any:
    return x * hard_sigmoid(x, alpha=1 / 6, beta=0.5)


@operator("Mish")
def mish(x: Any) -> Any:
    return x * F.tanh(functional.softplus(x))


@operator("Swish")
def swish(x: Any, *, alpha: float = 1.0) -> Any:
    return functional.silu(x) if alpha == 1 else x * functional.sigmoid(alpha * x)


@operator("Shrink")
def shrink(x: Any, *, bias: float = 0.0, lambd: float = 0.5) -> Any:
    wide = x if x.dtype.kind not in "iu" else F.astype(x, "f32")
    found = F.where(F.less(wide, -lambd), wide + bias, F.where(F.greater(wide, lambd), wide - bias, F.zeros_like(wide)))
    return F.astype(found, x.dtype)


@operator("Softmax")
def softmax(x: Any, *, axis: int = -1) -> Any:
    return functional.softmax(x, axis=axis)


@operator("LogSoftmax")
def log_softmax(x: Any, *, axis: int = -1) -> Any:
    return functional.log_softmax(x, axis=axis)


@operator("Hardmax")
def hardmax(x: Any, *, axis: int = -1) -> Any:
    """1 at the first of the largest elements along the axis, 0 elsewhere."""
    return F.moveaxis(F.one_hot(F.argmax(x, axis), x.shape[axis], x.dtype), -1, axis)


#: Activations of recurrent operators: functions of a value, alpha and beta, and the usual alpha and beta.
RECURRENT: dict[str, tuple[Any, float, float]] = {
    "sigmoid": (lambda x, a, b: sigmoid(x), 0, 0), "tanh": (lambda x, a, b: F.tanh(x), 0, 0), "relu": (lambda x, a, b: relu(x), 0, 0),
    "affine": (lambda x, a, b: a * x + b, 1, 0), "leakyrelu": (lambda x, a, b: leaky_relu(x, alpha=a), 0.01, 0),
    "thresholdedrelu": (lambda x, a, b: thresholded_relu(x, alpha=a), 1, 0),
    "scaledtanh": (lambda x, a, b: a * F.tanh(b * x), 1, 1), "hardsigmoid": (lambda x, a, b: hard_sigmoid(x, alpha=a, beta=b), 0.2, 0.5),
    "elu": (lambda x, a, b: elu(x, alpha=a), 1, 0), "softsign": (lambda x, a, b: softsign(x), 0, 0),
    "softplus": (lambda x, a, b: softplus(x), 0, 0),
}
