"""softmax, log_softmax, logsumexp: each subtracts the row's maximum first, so nothing overflows."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.composites.base import composite
from nagraph.ops.comparison import equal, isfinite
from nagraph.ops.elementwise import where
from nagraph.ops.movement import reshape
from nagraph.ops.operands import normalize_axes, shape_of
from nagraph.ops.reduction import max as max_of
from nagraph.ops.reduction import sum as sum_of
from nagraph.ops.rules import full
from nagraph.ops.special import exp, log


def _finite_max(x: Any, axis: int | tuple[int, ...]) -> Any:
    """The row's maximum, 0 for rows that are empty, -inf throughout (fully masked) or hold +inf."""
    axes = normalize_axes("softmax", axis, x.ndim)
    if any(x.shape[a] == 0 for a in axes):
        return full(x.type.with_shape(tuple(1 if a in axes else n for a, n in enumerate(x.shape))), 0)
    m = max_of(x, axis=axis, keepdims=True)
    return where(isfinite(m), m, _zero(m))


def _zero(x: Any) -> Any:
    return np.zeros((), x.dtype)


@composite()
def softmax(x: Any, *, axis: int = -1) -> Any:
    """y = exp(x - max x) / sum exp(x - max x) along an axis; a row of -inf alone gives zeros.

    Shape and dtype kept.
    """
    e = exp(x - _finite_max(x, axis))
    return e * _reciprocal(sum_of(e, axis=axis, keepdims=True))


def _reciprocal(total: Any) -> Any:
    """1 / total, 1 where that is zero: one division for a row of products."""
    return _one(total) / where(equal(total, _zero(total)), _one(total), total)


def _one(x: Any) -> Any:
    return np.ones((), x.dtype)


def _softmax_fwd(x: Any, *, axis: int = -1) -> Any:
    y = softmax.fn(x, axis=axis)
    return y, (y,)


def _softmax_bwd(residuals: Any, cts: Any, *, axis: int = -1) -> Any:
    """ct_x = y (ct - sum(ct y))."""
    (y,), (ct,) = residuals, cts
    return (y * (ct - sum_of(ct * y, axis=axis, keepdims=True)),)


softmax.declare(_softmax_fwd, _softmax_bwd)


@composite()
def log_softmax(x: Any, *, axis: int = -1) -> Any:
    """y = x - max x - log sum exp(x - max x) along an axis. Shape and dtype kept."""
    shifted = x - _finite_max(x, axis)
    return shifted - log(sum_of(exp(shifted), axis=axis, keepdims=True))


def _log_softmax_fwd(x: Any, *, axis: int = -1) -> Any:
    y = log_softmax.fn(x, axis=axis)
    return y, (y,)


def _log_softmax_bwd(residuals: Any, cts: Any, *, axis: int = -1) -> Any:
    """ct_x = ct - exp(y) sum(ct)."""
    (y,), (ct,) = residuals, cts
    return (ct - exp(y) * sum_of(ct, axis=axis, keepdims=True),)


log_softmax.declare(_log_softmax_fwd, _log_softmax_bwd)


@composite()
def _logsumexp(x: Any, *, axis: tuple[int, ...] = (-1,), keepdims: bool = False) -> Any:
    m = _finite_max(x, axis)
    total = sum_of(exp(x - m), axis=axis, keepdims=True)
    empty = equal(total, _zero(total))  # a row of -inf alone: its derivative is zero, not 0 / 0
    y = where(empty, -np.inf, log(where(empty, _one(total), total)) + m)
    return y if keepdims else sum_of(y, axis=axis)


def _logsumexp_fwd(x: Any, *, axis: tuple[int, ...] = (-1,), keepdims: bool = False) -> Any:
    y = _logsumexp.fn(x, axis=axis, keepdims=True)
    return (y if keepdims else sum_of(y, axis=axis)), (x, y)


def _logsumexp_bwd(residuals: Any, cts: Any, *, axis: tuple[int, ...] = (-1,), keepdims: bool = False) -> Any:
    """ct_x = ct exp(x - y); a row of -inf alone gets zeros, in a row with +inf that element gets nan and the others zeros."""
    (x, y), (ct,) = residuals, cts
    ct = ct if keepdims else reshape(ct, y.shape)
    return (ct * exp(x - where(equal(y, -np.inf), _zero(y), y)),)


_logsumexp.declare(_logsumexp_fwd, _logsumexp_bwd)


def logsumexp(x: Any, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Any:
    """y = log sum exp x along axes (None: all), without overflow."""
    return _logsumexp(x, axis=normalize_axes("logsumexp", axis, len(shape_of(x))), keepdims=keepdims)
