"""LayerNorm, RMSNorm, GroupNorm, BatchNorm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.nn import functional
from nagraph.nn.module import Module, buffer
from nagraph.ops.width import widened

Array = Any


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis."""

    weight: Array
    bias: Array | None
    eps: float = 1e-5

    @classmethod
    def init(cls, width: int, *, eps: float = 1e-5, bias: bool = True, dtype: Any = np.float32) -> LayerNorm:
        return cls(np.ones(width, dtype), np.zeros(width, dtype) if bias else None, eps)

    def __call__(self, x: Array) -> Array:
        return functional.layer_norm(x, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """y = x / sqrt(mean x² + eps) * weight over the last axis."""

    weight: Array
    eps: float = 1e-6

    @classmethod
    def init(cls, width: int, *, eps: float = 1e-6, dtype: Any = np.float32) -> RMSNorm:
        return cls(np.ones(width, dtype), eps)

    def __call__(self, x: Array) -> Array:
        return functional.rms_norm(x, self.weight, eps=self.eps)


class GroupNorm(Module):
    """Standardises groups of channels of x [batch, channels, ...]."""

    weight: Array
    bias: Array
    groups: int
    eps: float = 1e-5

    @classmethod
    def init(cls, groups: int, channels: int, *, eps: float = 1e-5, dtype: Any = np.float32) -> GroupNorm:
        return cls(np.ones(channels, dtype), np.zeros(channels, dtype), groups, eps)

    def __call__(self, x: Array) -> Array:
        return functional.group_norm(x, self.weight, self.bias, groups=self.groups, eps=self.eps)


class BatchNorm(Module):
    """Standardises each channel of x [batch, channels, ...] over batch and space.

    training=True uses the batch's statistics and returns (y, new layer) with the running ones
    moved by `momentum` (the variance unbiased); otherwise the running statistics are used.
    As in PyTorch, a batch without values leaves the running statistics as they are, and one value per channel is an error:
    it has no unbiased variance.
    """

    weight: Array
    bias: Array
    running_mean: Array = buffer()
    running_var: Array = buffer()
    momentum: float = 0.1
    eps: float = 1e-5

    @classmethod
    def init(cls, channels: int, *, momentum: float = 0.1, eps: float = 1e-5, dtype: Any = np.float32) -> BatchNorm:
        one, zero = np.ones(channels, dtype), np.zeros(channels, dtype)
        return cls(one, zero, zero.copy(), one.copy(), momentum, eps)

    def __call__(self, x: Array, *, training: bool = False) -> Any:
        if not training:
            return self._with_running_statistics(x)
        n = math.prod(x.shape[:1] + x.shape[2:])
        if n == 0:
            return self._with_running_statistics(x), self
        if n <= 1:
            raise TypeRuleError(f"BatchNorm: in training a channel needs more than one value for its variance, and x of shape "
                                f"{tuple(x.shape)} has one; pass a larger batch, or training=False to use the running statistics")
        y, mean, var = functional.batch_norm_training(x, self.weight, self.bias, eps=self.eps)
        return y, self.replace(
            running_mean=self._moved(self.running_mean, functional.stop_gradient(mean), self.momentum),
            running_var=self._moved(self.running_var, functional.stop_gradient(var), self.momentum * n / (n - 1)))

    def _with_running_statistics(self, x: Array) -> Array:
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def _moved(self, running: Array, new: Array, weight: float) -> Array:
        return widened(lambda running, new: running * (1 - self.momentum) + new * weight)(running, new)
