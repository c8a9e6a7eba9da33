"""Normalisations."""

from __future__ import annotations

import math
from typing import Any

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.nn import functional
from nagraph.onnx.operators.windows import spatial_of
from nagraph.onnx.registry import Ints, checked_axes, checked_axis, operator
from nagraph.ops.pooling import WindowSum


@operator("BatchNormalization")
def batch_normalization(x: Any, scale: Any, bias: Any, mean: Any, var: Any, *, epsilon: float = 1e-5, momentum: float = 0.9,
                        training_mode: bool = False, call: Any) -> Any:
    if len(x.shape) < 2:
        raise OnnxError(f"its operand has {len(x.shape)} axes, but must be [batch, channels, ...]")
    if any(tuple(v.shape) != (x.shape[1],) for v in (scale, bias, mean, var)):
        raise OnnxError(f"scale, bias, mean and variance must have a number for each of the {x.shape[1]} channels")
    dtype = x.dtype
    if not training_mode:
        wide = (F.astype(v, dtype) for v in (mean, var, scale, bias))
        return functional.batch_norm(x, *wide, eps=epsilon)
    y, now, spread = functional.batch_norm_training(x, F.astype(scale, dtype), F.astype(bias, dtype), eps=epsilon)
    running = (F.astype(old * momentum + F.astype(new, old.dtype) * (1 - momentum), old.dtype) for old, new in ((mean, now), (var, spread)))
    return (y, *running)[:call.outputs]


@operator("InstanceNormalization")
def instance_normalization(x: Any, scale: Any, bias: Any, *, epsilon: float = 1e-5) -> Any:
    spatial_of(x)
    return functional.group_norm(x, scale, bias, groups=x.shape[1], eps=epsilon)


@operator("GroupNormalization", since=18)
def group_normalization_of_groups(x: Any, scale: Any, bias: Any, *, num_groups: int, epsilon: float = 1e-5) -> Any:
    """scale and bias have a number for each group."""
    each = x.shape[1] // max(num_groups, 1)
    return group_normalization(x, F.repeat(scale, each), F.repeat(bias, each), num_groups=num_groups, epsilon=epsilon)


@operator("GroupNormalization", since=21)
def group_normalization(x: Any, scale: Any, bias: Any, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1) -> Any:
    if len(x.shape) < 2 or num_groups < 1 or x.shape[1] % num_groups or any(tuple(v.shape) != (x.shape[1],) for v in (scale, bias)):
        raise OnnxError(f"x {list(x.shape)}, scale {list(scale.shape)} and bias {list(bias.shape)} do not fit {num_groups} groups")
    return functional.group_norm(x, scale, bias, groups=num_groups, eps=epsilon)


@operator("LayerNormalization")
def layer_normalization(x: Any, scale: Any, bias: Any = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1,
                        call: Any) -> Any:
    """Over the axes from `axis` on, which are made one; also the mean, and the reciprocal of the deviation."""
    place = checked_axis(axis, len(x.shape))
    lead, rest = tuple(x.shape[:place]), tuple(x.shape[place:])
    flat = F.reshape(x, (*lead, math.prod(rest)))
    y = F.reshape(functional.layer_norm(flat, _flat(scale, rest), _flat(bias, rest), eps=epsilon), x.shape)
    if call.outputs == 1:
        return y
    wide = flat if x.dtype.itemsize == 8 else F.astype(flat, "f32")
    mean = F.mean(wide, -1, keepdims=True)
    deviation = F.rsqrt(F.mean((wide - mean) * (wide - mean), -1, keepdims=True) + epsilon)
    return (y, *(F.reshape(v, (*lead, *(1,) * len(rest))) for v in (mean, deviation)))[:call.outputs]


def _flat(weight: Any, shape: tuple[int, ...]) -> Any:
    return None if weight is None else F.reshape(F.broadcast_to(weight, shape), (math.prod(shape),))


@operator("RMSNormalization")
def rms_normalization(x: Any, scale: Any, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Any:
    place = checked_axis(axis, len(x.shape))
    rest = tuple(x.shape[place:])
    flat = F.reshape(x, (*x.shape[:place], math.prod(rest)))
    return F.reshape(functional.rms_norm(flat, _flat(scale, rest), eps=epsilon), x.shape)


@operator("LpNormalization")
def lp_normalization(x: Any, *, axis: int = -1, p: int = 2) -> Any:
    """x divided by its norm along an axis; 0 where that is 0."""
    if p not in (1, 2):
        raise OnnxError(f"p is 1 or 2, not {p}")
    norm = F.sum(F.abs(x), axis, keepdims=True) if p == 1 else F.sqrt(F.sum(x * x, axis, keepdims=True))
    return F.where(F.equal(norm, 0), F.zeros_like(x), x / norm)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(x: Any, *, axes: Ints = (0, 2, 3)) -> Any:
    along = checked_axes(axes, len(x.shape))
    centred = x - F.mean(x, along, keepdims=True)
    return centred / (F.sqrt(F.mean(centred * centred, along, keepdims=True)) + 1e-9)


@operator("LRN")
def local_response_normalization(x: Any, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Any:
    """x / (bias + alpha / size · sum of squares of the channels around)^beta."""
    if size < 1 or len(x.shape) < 2:
        raise OnnxError(f"size is {size}, of a value with {len(x.shape)} axes")
    squares = F.moveaxis(x * x, 1, -1)
    around = WindowSum((size,), (1,), (((size - 1) // 2, size // 2),))(squares)
    return x / F.power(bias + alpha / size * F.moveaxis(around, -1, 1), beta)
