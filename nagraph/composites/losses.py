"""Cross entropy of class scores, and binary cross entropy of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.composites.base import composite
from nagraph.composites.softmax import _finite_max, _zero
from nagraph.errors import TypeRuleError
from nagraph.ir.sizes import same_shape
from nagraph.ops.base import cast
from nagraph.ops.comparison import equal, not_equal
from nagraph.ops.elementwise import maximum, subtract, where
from nagraph.ops.labels import CheckLabels
from nagraph.ops.movement import iota, reshape
from nagraph.ops.reduction import sum as sum_of
from nagraph.ops.special import exp, log


def _one_hot(labels: Any, shape: tuple[int, ...]) -> Any:
    """bool: class index equals label; an iota compare, no scatter."""
    return equal(iota("int32", shape, len(shape) - 1), cast(reshape(labels, (*shape[:-1], 1)), "int32"))


@composite(integers=("labels",))
def cross_entropy(logits: Any, labels: Any, *, smoothing: float = 0.0, ignore_index: int | None = -100) -> Any:
    """Per row: -sum target · log softmax(logits), with target = (1 - s) one-hot + s / classes; 0 where the label is `ignore_index`.

    logits [..., classes] floating, labels [...] integer; result [...]. Another label outside the classes ends the call with
    LabelError; where ignore_index is None, so does every one.
    """
    return _cross_entropy(logits, labels, smoothing, ignore_index)[0]


def counting(labels: Any, ignore_index: int | None) -> Any:
    """bool: where labels are not ignored; None where no label of their dtype can be."""
    limits = np.iinfo(labels.dtype)
    return not_equal(labels, ignore_index) if ignore_index is not None and limits.min <= ignore_index <= limits.max else None


def _cross_entropy(logits: Any, labels: Any, smoothing: float, ignore: int | None) -> tuple[Any, Any, Any]:
    """The losses, log-sum-exp, and the labels, checked."""
    if not same_shape(labels.shape, logits.shape[:-1], "cross_entropy"):
        raise TypeRuleError(f"cross_entropy: labels {labels.shape} must have the shape of the logits without classes, "
                            f"{logits.shape[:-1]}")
    labels = CheckLabels(logits.shape[-1], ignore)(labels)
    counts = counting(labels, ignore)
    m = _finite_max(logits, -1)
    lse = log(sum_of(exp(logits - m), axis=-1, keepdims=True)) + m
    hot = _one_hot(labels, logits.shape)
    target = sum_of(where(hot, logits, _zero(logits)), axis=-1)
    row = reshape(lse, labels.shape)
    if smoothing:
        average = sum_of(logits, axis=-1) / logits.shape[-1]
        losses = row - (1 - smoothing) * target - smoothing * average
    else:
        losses = subtract(row, target)
    return losses if counts is None else where(counts, losses, _zero(losses)), lse, labels


def _cross_entropy_fwd(logits: Any, labels: Any, *, smoothing: float = 0.0, ignore_index: int | None = -100) -> Any:
    loss, lse, checked = _cross_entropy(logits, labels, smoothing, ignore_index)
    return loss, (logits, checked, lse)


def _cross_entropy_bwd(residuals: Any, cts: Any, *, smoothing: float = 0.0, ignore_index: int | None = -100) -> Any:
    """ct_logits = ct (softmax - target), 0 where the label is ignored."""
    (logits, labels, lse), (ct,) = residuals, cts
    p = exp(logits - lse)
    classes = logits.shape[-1]
    on = np.asarray(1 - smoothing, logits.dtype)
    target = where(_one_hot(labels, logits.shape), on, _zero(logits))
    if smoothing:
        target = target + np.asarray(smoothing / classes, logits.dtype)
    slope = reshape(ct, (*ct.shape, 1)) * (p - target)
    counts = counting(labels, ignore_index)
    return (slope if counts is None else where(reshape(counts, (*ct.shape, 1)), slope, _zero(slope)),)


cross_entropy.declare(_cross_entropy_fwd, _cross_entropy_bwd)


@composite()
def binary_cross_entropy(p: Any, target: Any) -> Any:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100, so that certain mistakes stay finite."""
    yes, no = _bounded_logs(p)
    return -(target * yes + (1 - target) * no)


def _bounded_logs(p: Any) -> tuple[Any, Any]:
    return _bounded_log(p), _bounded_log(1 - p)


def _bounded_log(p: Any) -> Any:
    """log p, at least -100; the slope at 0 is 0 and not 0 · inf."""
    never = equal(p, _zero(p))
    return where(never, -100, maximum(log(where(never, 1, p)), -100))


def _binary_cross_entropy_fwd(p: Any, target: Any) -> Any:
    return binary_cross_entropy.fn(p, target), (p, target)


def _binary_cross_entropy_bwd(residuals: Any, cts: Any) -> Any:
    """ct_p = ct (p - t) / (p (1 - p)), the divisor at least 1e-12: finite also at 0 and 1."""
    (p, target), (ct,) = residuals, cts
    yes, no = _bounded_logs(p)
    return ct * (p - target) / maximum(p * (1 - p), 1e-12), ct * (no - yes)


binary_cross_entropy.declare(_binary_cross_entropy_fwd, _binary_cross_entropy_bwd, kind="custom")  # finite at 0 and 1
