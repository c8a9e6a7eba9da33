"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

from nagraph.composites.base import composite
from nagraph.ops.elementwise import where
from nagraph.ops.operands import taken
from nagraph.ops.special import erf, exp, expm1, sigmoid, tanh
from nagraph.ops.width import widened

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def relu(x: Any) -> Any:
    """y = max(x, 0), with slope 0 at 0 (a maximum would share it in halves); nan stays."""
    x = taken(x)
    return where(x <= 0, 0, x)


@composite()
def gelu(x: Any) -> Any:
    """y = x Φ(x) = x/2 (1 + erf(x/√2)). Source: Hendrycks and Gimpel 2016."""
    return 0.5 * x * (1 + erf(x * _SQRT_HALF))


def _gelu_fwd(x: Any) -> Any:
    return gelu.fn(x), (x,)


def _gelu_bwd(residuals: Any, cts: Any) -> Any:
    """dy/dx = Φ(x) + x φ(x)."""
    (x,), (ct,) = residuals, cts
    density = exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return (ct * (0.5 * (1 + erf(x * _SQRT_HALF)) + x * density),)


gelu.declare(_gelu_fwd, _gelu_bwd)


@composite()
def gelu_tanh(x: Any) -> Any:
    """y = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))): the approximation that GPT-2 uses."""
    return 0.5 * x * (1 + tanh(_SQRT_2_OVER_PI * (x + 0.044715 * (x * x * x))))


def _gelu_tanh_fwd(x: Any) -> Any:
    return gelu_tanh.fn(x), (x,)


def _gelu_tanh_bwd(residuals: Any, cts: Any) -> Any:
    """dy/dx = (1 + t)/2 + x/2 (1 - t²) √(2/π) (1 + 3 · 0.044715 x²)."""
    (x,), (ct,) = residuals, cts
    square = x * x
    t = tanh(_SQRT_2_OVER_PI * (x + 0.044715 * (square * x)))
    slope = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * square)
    return (ct * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope),)


gelu_tanh.declare(_gelu_tanh_fwd, _gelu_tanh_bwd)


@composite()
def silu(x: Any) -> Any:
    """y = x σ(x)."""
    return x * sigmoid(x)


@widened
def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """y = x where x > 0, slope · x elsewhere."""
    return where(x > 0, x, x * slope)


@widened
def elu(x: Any, alpha: float = 1.0) -> Any:
    """y = x where x > 0, α (exp x - 1) elsewhere."""
    return where(x > 0, x, alpha * expm1(where(x > 0, 0, x)))
