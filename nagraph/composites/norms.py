"""Normalisations: layer_norm, rms_norm, group_norm, batch_norm. Scale and shift may be None."""

from __future__ import annotations

import math
from typing import Any

from nagraph.composites.base import composite
from nagraph.ops.movement import reshape
from nagraph.ops.reduction import mean, shifted
from nagraph.ops.reduction import sum as sum_of
from nagraph.ops.rules import sum_to
from nagraph.ops.special import rsqrt


def _affine(y: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _standardize(x: Any, axes: Any, eps: float) -> tuple[Any, Any]:
    """(x - mean) / sqrt(variance + eps) over the axes, and the reciprocal deviation."""
    distances, first = shifted(x, axes)
    deviations = x - (mean(distances, axis=axes, keepdims=True) + first)
    r = rsqrt(mean(deviations * deviations, axis=axes, keepdims=True) + eps)
    return deviations * r, r


def _standardize_grad(y: Any, r: Any, ct: Any, axes: Any) -> Any:
    """ct_x = r (ct - mean ct - y mean(ct y))."""
    return r * (ct - mean(ct, axis=axes, keepdims=True) - y * mean(ct * y, axis=axes, keepdims=True))


def _sum_to(ct: Any, like: Any) -> Any:
    return sum_to(ct, like.type)


@composite()
def layer_norm(x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    """y = (x - mean x) / sqrt(var x + eps) * weight + bias over the last axis. Source: Ba et al. 2016."""
    return _affine(_standardize(x, -1, eps)[0], weight, bias)


def _layer_norm_fwd(x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    y, r = _standardize(x, -1, eps)
    return _affine(y, weight, bias), (y, r, weight, bias)


def _layer_norm_bwd(residuals: Any, cts: Any, *, eps: float = 1e-5) -> Any:
    (y, r, weight, bias), (ct,) = residuals, cts
    found = [_standardize_grad(y, r, _affine(ct, weight, None), -1)]
    if weight is not None:
        found.append(_sum_to(ct * y, weight))
    if bias is not None:
        found.append(_sum_to(ct, bias))
    return found


layer_norm.declare(_layer_norm_fwd, _layer_norm_bwd)


@composite()
def rms_norm(x: Any, weight: Any = None, *, eps: float = 1e-6) -> Any:
    """y = x / sqrt(mean x² + eps) * weight over the last axis. Source: Zhang and Sennrich 2019."""
    return _affine(x * rsqrt(mean(x * x, axis=-1, keepdims=True) + eps), weight, None)


def _rms_norm_fwd(x: Any, weight: Any = None, *, eps: float = 1e-6) -> Any:
    r = rsqrt(mean(x * x, axis=-1, keepdims=True) + eps)
    y = x * r
    return _affine(y, weight, None), (y, r) if weight is None else (y, r, weight)


def _rms_norm_bwd(residuals: Any, cts: Any, *, eps: float = 1e-6) -> Any:
    (y, r, *weight), (ct,) = residuals, cts
    scaled = ct * weight[0] if weight else ct
    ct_x = r * (scaled - y * mean(scaled * y, axis=-1, keepdims=True))
    return (ct_x, _sum_to(ct * y, weight[0])) if weight else (ct_x,)


rms_norm.declare(_rms_norm_fwd, _rms_norm_bwd)


def _per_channel(v: Any, rank: int) -> Any:
    return None if v is None else reshape(v, (v.shape[0], *(1,) * (rank - 2)))


def _all_but_channels(x: Any) -> tuple[int, ...]:
    return 0, *range(2, x.ndim)


@composite()
def group_norm(x: Any, weight: Any = None, bias: Any = None, *, groups: int, eps: float = 1e-5) -> Any:
    """Standardises groups of channels of x [batch, channels, ...], then scales per channel. Source: Wu and He 2018."""
    y, _ = _standardize(reshape(x, (x.shape[0], groups, math.prod(x.shape[1:]) // groups)), -1, eps)
    return _affine(reshape(y, x.shape), _per_channel(weight, x.ndim), _per_channel(bias, x.ndim))


@composite()
def batch_norm(x: Any, mean_: Any, var_: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    """y = (x - mean) / sqrt(var + eps) * weight + bias per channel of x [batch, channels, ...], statistics given."""
    m, v, w, b = (_per_channel(p, x.ndim) for p in (mean_, var_, weight, bias))
    return _affine((x - m) * rsqrt(v + eps), w, b)


@composite()
def batch_norm_training(x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    """Batch norm with the batch's own statistics: (y, mean, biased variance). Source: Ioffe and Szegedy 2015."""
    return _batch_norm_training_fwd(x, weight, bias, eps=eps)[0]


def _batch_norm_training_fwd(x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    axes, channels = _all_but_channels(x), (x.shape[1],)
    m = mean(x, axis=axes, keepdims=True)
    deviations = x - m
    v = mean(deviations * deviations, axis=axes, keepdims=True)
    r = rsqrt(v + eps)
    y = _affine(deviations * r, _per_channel(weight, x.ndim), _per_channel(bias, x.ndim))
    return (y, reshape(m, channels), reshape(v, channels)), (x, m, r, weight, bias)


def _batch_norm_training_bwd(residuals: Any, cts: Any, *, eps: float = 1e-5) -> Any:
    """ct_x = w r ct_y + (ct_m - w r Σ ct_y) / n + (2 ct_v - w r³ Σ ct_y (x - m)) / n · (x - m).

    n is the number of elements of a channel: two sums and one pass over them, all else is of the size of the channels.
    """
    (x, m, r, weight, bias), (ct, ct_m, ct_v) = residuals, cts
    axes = _all_but_channels(x)
    n = math.prod(x.shape[a] for a in axes)
    deviations = x - m
    total, along = sum_of(ct, axis=axes, keepdims=True), sum_of(ct * deviations, axis=axes, keepdims=True)
    slope = _affine(r, _per_channel(weight, x.ndim), None)
    shift = (_per_channel(ct_m, x.ndim) - slope * total) / n
    tilt = (2 * _per_channel(ct_v, x.ndim) - slope * (r * r) * along) / n
    found = [slope * ct + tilt * deviations + shift]
    if weight is not None:
        found.append(reshape(along * r if n != 0 else along, weight.shape))
    if bias is not None:
        found.append(reshape(total, bias.shape))
    return found


batch_norm_training.declare(_batch_norm_training_fwd, _batch_norm_training_bwd)
