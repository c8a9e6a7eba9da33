"""Losses: functions of predictions and targets. reduction is "mean", "sum" or "none" (one loss for each element or row).

Of 16-bit floats they are computed in float32, and the loss is rounded once.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.composites import losses as composites
from nagraph.errors import TypeRuleError
from nagraph.ir.types import INTEGERS
from nagraph.nn.functional import softplus
from nagraph.ops.width import widened

Array = Any


def _reduced(losses: Array, reduction: str) -> Array:
    if reduction == "mean":
        return ng.numpy.mean(losses)
    if reduction == "sum":
        return ng.numpy.sum(losses)
    if reduction == "none":
        return losses
    raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')


def _same_shape(name: str, first: Array, second: Array) -> None:
    if tuple(first.shape) != tuple(second.shape):
        raise TypeRuleError(f"{name}: the two shapes must be equal, got {tuple(first.shape)} and {tuple(second.shape)}")


def _same_dtype(name: str, first: Array, second: Array) -> None:
    if first.dtype != second.dtype:
        raise TypeRuleError(f"{name}: the two dtypes must be equal, got {first.dtype} and {second.dtype}; cast the targets")


@widened
def cross_entropy(logits: Array, labels: Array, *, label_smoothing: float = 0.0, ignore_index: int | None = -100,
                  reduction: str = "mean") -> Array:
    """-Σ target · log softmax(logits), with target = (1 - s) one-hot + s / classes.

    logits [..., classes] floating, labels [...] integer. Where the label is `ignore_index` loss and gradient are 0, and the mean
    is over the other rows: nan if there are none. Any other label outside the classes ends the call with LabelError, before
    donated arguments are written; with ignore_index=None every one does. Source: Szegedy et al. 2016 for the smoothing.
    """
    if labels.dtype not in INTEGERS:
        raise TypeRuleError(f"cross_entropy: labels must be integers (class numbers), got {labels.dtype}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must lie between 0 and 1, got {label_smoothing}")
    if ignore_index is not None:
        ignore_index = operator.index(ignore_index)
    losses = composites.cross_entropy(logits, labels, smoothing=float(label_smoothing), ignore_index=ignore_index)
    counts = composites.counting(labels, ignore_index)
    if reduction != "mean" or counts is None:
        return _reduced(losses, reduction)
    return ng.numpy.divide(ng.numpy.sum(losses), ng.numpy.sum(counts).astype(losses.dtype))


@widened
def mse(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """(prediction - target)²."""
    _same_shape("mse", predictions, targets)
    return _reduced(ng.numpy.square(predictions - targets), reduction)


@widened
def huber(predictions: Array, targets: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    """r²/2 where |r| ≤ δ, δ (|r| - δ/2) elsewhere, r = prediction - target. Its second derivative is 1 up to δ. Source: Huber 1964."""
    _same_shape("huber", predictions, targets)
    if not delta > 0:
        raise ValueError(f"huber: delta must be greater than 0, got {delta}")
    r = predictions - targets
    near = ng.numpy.clip(r, -delta, delta)
    # Both branches at once, and no kink at 0 that a second derivative would lose: what lies beyond δ costs δ.
    return _reduced(0.5 * near * near + delta * ng.numpy.abs(r - near), reduction)


@widened
def kl_divergence(log_predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """target · (log target - log prediction), 0 where the target is 0; over rows [..., classes], summed over the classes.

    log_predictions are log-probabilities, targets are probabilities. The mean is over rows.
    """
    _same_shape("kl_divergence", log_predictions, targets)
    some = ng.numpy.not_equal(targets, 0)
    logs = ng.numpy.log(ng.where(some, targets, 1))
    terms = targets * (logs - ng.where(some, log_predictions, 0))
    return _reduced(ng.numpy.sum(terms, axis=-1), reduction)


@widened
def binary_cross_entropy(probabilities: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100, so that certain mistakes stay finite."""
    _same_shape("binary_cross_entropy", probabilities, targets)
    _same_dtype("binary_cross_entropy", probabilities, targets)
    return _reduced(composites.binary_cross_entropy(probabilities, targets), reduction)


@widened
def binary_cross_entropy_with_logits(logits: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """softplus(x) - t x, which is the binary cross entropy of σ(x) without overflow."""
    _same_shape("binary_cross_entropy_with_logits", logits, targets)
    return _reduced(softplus(logits) - targets * logits, reduction)


@widened
def focal(logits: Array, targets: Array, *, gamma: float = 2.0, alpha: float | None = 0.25, reduction: str = "mean") -> Array:
    """α_t (1 - p_t)^γ · -log p_t for binary targets t, p = σ(logits).

    p_t is p where t = 1 and 1 - p where t = 0, α_t likewise; alpha None weighs both alike. Source: Lin et al. 2017.
    """
    _same_shape("focal", logits, targets)
    if gamma < 0:
        raise ValueError(f"focal: gamma must be at least 0, got {gamma}")
    # log(1 - p_t) = -softplus(±x): the power stays exact where p_t is close to 1.
    missed = -(targets * softplus(logits) + (1 - targets) * softplus(-logits))
    loss = ng.numpy.exp(gamma * missed) * (softplus(logits) - targets * logits)
    if alpha is not None:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return _reduced(loss, reduction)


@widened
def cosine_similarity(x: Array, y: Array, *, eps: float = 1e-8) -> Array:
    """x · y / (|x| |y|) over the last axis, each norm at least eps."""
    _same_shape("cosine_similarity", x, y)
    floor = eps * eps
    norms = (ng.numpy.sqrt(ng.numpy.maximum(ng.numpy.sum(v * v, axis=-1), floor)) for v in (x, y))
    a, b = norms
    return ng.numpy.sum(x * y, axis=-1) / (a * b)


@widened
def cosine_embedding(x: Array, y: Array, same: Array, *, margin: float = 0.0, reduction: str = "mean") -> Array:
    """1 - cos(x, y) where `same` is 1, max(0, cos(x, y) - margin) where it is -1, over the last axis."""
    cos = cosine_similarity(x, y)
    _same_shape("cosine_embedding (rows and labels)", cos, same)
    return _reduced(ng.where(same > 0, 1 - cos, ng.numpy.maximum(cos - margin, 0)), reduction)


def _distance(x: Array, y: Array, eps: float) -> Array:
    """Euclidean over the last axis, with PyTorch's eps added to each difference so that it has a slope at 0."""
    return ng.numpy.linalg.norm(x - y + eps, axis=-1)


@widened
def triplet(anchor: Array, positive: Array, negative: Array, *, margin: float = 1.0, eps: float = 1e-6,
            reduction: str = "mean") -> Array:
    """max(0, |a - p| - |a - n| + margin), Euclidean over the last axis. Source: Balntas et al. 2016."""
    _same_shape("triplet", anchor, positive)
    _same_shape("triplet", anchor, negative)
    gap = _distance(anchor, positive, eps) - _distance(anchor, negative, eps)
    return _reduced(ng.numpy.maximum(gap + margin, 0), reduction)


@widened
def contrastive(x: Array, y: Array, *, temperature: float = 0.07, reduction: str = "mean") -> Array:
    """Rows of x and y that belong together against all others: both directions' cross entropy, averaged.

    Logits x̂ ŷᵀ / temperature of unit rows, the target of row i is i; x, y [batch, width].
    Source: van den Oord et al. 2018; Radford et al. 2021.
    """
    _same_shape("contrastive", x, y)
    if len(x.shape) != 2:
        raise TypeRuleError(f"contrastive: x and y are [batch, width], got shape {tuple(x.shape)}")
    if not temperature > 0:
        raise ValueError(f"contrastive: temperature must be greater than 0, got {temperature}")
    x, y = _unit(x), _unit(y)
    logits = ng.numpy.matmul(x, ng.numpy.swapaxes(y, 0, 1)) / temperature
    labels = ng.numpy.arange(x.shape[0])
    ways = logits, ng.numpy.swapaxes(logits, 0, 1)
    rows, columns = (composites.cross_entropy(v, labels, smoothing=0.0, ignore_index=None) for v in ways)
    return _reduced(0.5 * (rows + columns), reduction)


def _unit(x: Array) -> Array:
    floor = np.finfo(np.float32).tiny
    return x / ng.numpy.sqrt(ng.numpy.maximum(ng.numpy.sum(x * x, axis=-1, keepdims=True), floor))
