"""Pooling over one, two and three spatial axes of x [batch, channels, *spatial]."""

from __future__ import annotations

from typing import Any, ClassVar

import nagraph as ng
from nagraph.errors import TypeRuleError
from nagraph.nn import functional
from nagraph.nn.conv import check_rank
from nagraph.nn.module import Module
from nagraph.ops.convolution import per_axis

Array = Any
Sizes = int | tuple[int, ...]


class _MaxPool(Module):
    window: Sizes
    stride: Sizes | None = None
    padding: Any = 0
    axes: ClassVar[int]

    def __call__(self, x: Array) -> Array:
        check_rank(type(self).__name__, x, self.axes)
        return functional.max_pool(x, per_axis("window", self.window, self.axes), self.stride, self.padding)


class MaxPool1d(_MaxPool):
    """Maximum of each window of x [batch, channels, n]; stride None is the window; padding never wins."""

    axes: ClassVar[int] = 1


class MaxPool2d(_MaxPool):
    """Maximum of each window of x [batch, channels, h, w]; stride None is the window; padding never wins."""

    axes: ClassVar[int] = 2


class MaxPool3d(_MaxPool):
    """Maximum of each window over three spatial axes; stride None is the window; padding never wins."""

    axes: ClassVar[int] = 3


class _AvgPool(Module):
    window: Sizes
    stride: Sizes | None = None
    padding: Any = 0
    count_padding: bool = True
    axes: ClassVar[int]

    def __call__(self, x: Array) -> Array:
        check_rank(type(self).__name__, x, self.axes)
        return functional.avg_pool(x, per_axis("window", self.window, self.axes), self.stride, self.padding, self.count_padding)


class AvgPool1d(_AvgPool):
    """Mean of each window of x [batch, channels, n]; padding counts as zeros unless count_padding is False."""

    axes: ClassVar[int] = 1


class AvgPool2d(_AvgPool):
    """Mean of each window of x [batch, channels, h, w]; padding counts as zeros unless count_padding is False."""

    axes: ClassVar[int] = 2


class AvgPool3d(_AvgPool):
    """Mean of each window over three spatial axes; padding counts as zeros unless count_padding is False."""

    axes: ClassVar[int] = 3


def global_avg_pool(x: Array) -> Array:
    """y[n, c] = mean over all spatial axes of x [batch, channels, *spatial]."""
    if len(x.shape) < 3:
        raise TypeRuleError(f"global_avg_pool: x must be [batch, channels, *spatial], got shape {tuple(x.shape)}")
    return ng.numpy.mean(x, axis=tuple(range(2, len(x.shape))))


class GlobalAvgPool(Module):
    """y[n, c] = mean over all spatial axes of x [batch, channels, *spatial]."""

    def __call__(self, x: Array) -> Array:
        return global_avg_pool(x)
