"""Cross entropy of class scores, and binary cross entropy of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.composites.base import composite
from nagraph.composites.softmax import _finite_max, _zero
from nagraph.errors import TypeRuleError
from nagraph.ops.base import cast
from nagraph.ops.comparison import equal
from nagraph.ops.elementwise import maximum, where
from nagraph.ops.movement import iota, reshape
from nagraph.ops.reduction import sum as sum_of
from nagraph.ops.special import exp, log


def _one_hot(labels: Any, shape: tuple[int, ...]) -> Any:
    """bool: class index equals label; an iota compare, no scatter."""
    return equal(iota("int32", shape, len(shape) - 1), cast(reshape(labels, (*shape[:-1], 1)), "int32"))


@composite
def cross_entropy(logits: Any, labels: Any, *, smoothing: float = 0.0) -> Any:
    """Per row: -sum target · log softmax(logits), with target = (1 - s) one-hot + s / classes.

    logits [..., classes] floating, labels [...] integer; result [...]. A label outside the classes
    gives a row without target: loss log-sum-exp.
    """
    return _cross_entropy(logits, labels, smoothing)[0]


def _cross_entropy(logits: Any, labels: Any, smoothing: float) -> tuple[Any, Any]:
    if labels.shape != logits.shape[:-1]:
        raise TypeRuleError(f"cross_entropy: labels {labels.shape} must have the shape of the logits without classes, "
                            f"{logits.shape[:-1]}")
    m = _finite_max(logits, -1)
    lse = log(sum_of(exp(logits - m), axis=-1, keepdims=True)) + m
    hot = _one_hot(labels, logits.shape)
    target = sum_of(where(hot, logits, _zero(logits)), axis=-1)
    row = reshape(lse, labels.shape)
    if smoothing:
        average = sum_of(logits, axis=-1) / logits.shape[-1]
        return row - (1 - smoothing) * target - smoothing * average, lse
    return row - target, lse


def _cross_entropy_fwd(logits: Any, labels: Any, *, smoothing: float = 0.0) -> Any:
    loss, lse = _cross_entropy(logits, labels, smoothing)
    return loss, (logits, labels, lse)


def _cross_entropy_bwd(residuals: Any, cts: Any, *, smoothing: float = 0.0) -> Any:
    """ct_logits = ct (softmax - target)."""
    (logits, labels, lse), (ct,) = residuals, cts
    p = exp(logits - lse)
    classes = logits.shape[-1]
    on = np.asarray(1 - smoothing, logits.dtype)
    target = where(_one_hot(labels, logits.shape), on, _zero(logits))
    if smoothing:
        target = target + np.asarray(smoothing / classes, logits.dtype)
    return (reshape(ct, (*ct.shape, 1)) * (p - target),)


cross_entropy.declare(_cross_entropy_fwd, _cross_entropy_bwd)


@composite
def binary_cross_entropy(p: Any, target: Any) -> Any:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100, so that certain mistakes stay finite."""
    yes, no = _bounded_logs(p)
    return -(target * yes + (1 - target) * no)


def _bounded_logs(p: Any) -> tuple[Any, Any]:
    return maximum(log(p), -100), maximum(log(1 - p), -100)


def _binary_cross_entropy_fwd(p: Any, target: Any) -> Any:
    return binary_cross_entropy.fn(p, target), (p, target)


def _binary_cross_entropy_bwd(residuals: Any, cts: Any) -> Any:
    """ct_p = ct (p - t) / (p (1 - p)), the divisor at least 1e-12: finite also at 0 and 1."""
    (p, target), (ct,) = residuals, cts
    yes, no = _bounded_logs(p)
    return ct * (p - target) / maximum(p * (1 - p), 1e-12), ct * (no - yes)


binary_cross_entropy.declare(_binary_cross_entropy_fwd, _binary_cross_entropy_bwd)
