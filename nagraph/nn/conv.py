"""Convolutions over one, two and three spatial axes, and their transposes."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

import nagraph as ng
from nagraph.errors import TypeRuleError
from nagraph.nn import functional, initializers
from nagraph.nn.module import Module
from nagraph.ops.convolution import per_axis

Array = Any
Sizes = int | tuple[int, ...]


def _init(cls: Any, key: Array, first: int, second: int, outputs: int, kernel: Sizes, axes: int, bias: bool, weight_init: Any,
          dtype: Any, options: dict[str, Any]) -> Any:
    """A layer with weight [first, second, *kernel] and, like PyTorch, a bias within 1/√(inputs of one unit)."""
    k1, k2 = ng.random.split(key, 2)
    shape = (first, second, *per_axis("kernel", kernel, axes))
    weight, shift = weight_init(k1, shape, dtype), None
    if bias:
        shift = initializers.uniform(1 / initializers.fans(shape)[0] ** 0.5)(k2, (outputs,), dtype)
    return cls(weight, shift, **{k: v if isinstance(v, (int, str)) else tuple(v) for k, v in options.items()})


def _check_groups(name: str, inputs: int, outputs: int, groups: int) -> None:
    if groups < 1 or inputs % groups or outputs % groups:
        raise ValueError(f"{name}: groups {groups} must divide the inputs {inputs} and the outputs {outputs}")


def check_rank(name: str, x: Array, axes: int) -> None:
    """TypeRuleError unless x is [batch, channels] and `axes` spatial axes."""
    if len(x.shape) != axes + 2:
        raise TypeRuleError(f"{name}: x must be [batch, channels] and {axes} spatial axes, got shape {tuple(x.shape)}")


def _shifted(y: Array, bias: Array | None) -> Array:
    return y if bias is None else y + ng.numpy.reshape(bias, (-1, *(1,) * (len(y.shape) - 2)))


class _Conv(Module):
    weight: Array
    bias: Array | None
    stride: Sizes = 1
    padding: Any = 0
    dilation: Sizes = 1
    groups: int = 1
    axes: ClassVar[int]

    @classmethod
    def init(cls, key: Array, inputs: int, outputs: int, kernel: Sizes, *, stride: Sizes = 1, padding: Any = 0,
             dilation: Sizes = 1, groups: int = 1, bias: bool = True, weight_init: Any = initializers.fan_in_uniform,
             dtype: Any = np.float32) -> Self:
        """padding is a number, one for each axis, "same" or "valid"."""
        _check_groups(cls.__name__, inputs, outputs, groups)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        made: Self = _init(cls, key, outputs, inputs // groups, outputs, kernel, cls.axes, bias, weight_init, dtype, options)
        return made

    def __call__(self, x: Array) -> Array:
        check_rank(type(self).__name__, x, self.axes)
        return _shifted(functional.conv(x, self.weight, self.stride, self.padding, self.dilation, self.groups), self.bias)


class Conv1d(_Conv):
    """Cross-correlation y = x * weight + bias of x [batch, inputs, n] with weight [outputs, inputs / groups, k]."""

    axes: ClassVar[int] = 1


class Conv2d(_Conv):
    """Cross-correlation y = x * weight + bias of x [batch, inputs, h, w] with weight [outputs, inputs / groups, kh, kw]."""

    axes: ClassVar[int] = 2


class Conv3d(_Conv):
    """Cross-correlation y = x * weight + bias over three spatial axes, weight [outputs, inputs / groups, kd, kh, kw]."""

    axes: ClassVar[int] = 3


class _ConvTranspose(Module):
    weight: Array
    bias: Array | None
    stride: Sizes = 1
    padding: Sizes = 0
    output_padding: Sizes = 0
    dilation: Sizes = 1
    groups: int = 1
    axes: ClassVar[int]

    @classmethod
    def init(cls, key: Array, inputs: int, outputs: int, kernel: Sizes, *, stride: Sizes = 1, padding: Sizes = 0,
             output_padding: Sizes = 0, dilation: Sizes = 1, groups: int = 1, bias: bool = True,
             weight_init: Any = initializers.fan_in_uniform, dtype: Any = np.float32) -> Self:
        """output_padding is added to one side of the result; it must be less than the stride or the dilation."""
        _check_groups(cls.__name__, inputs, outputs, groups)
        extra, strides, dilations = (per_axis(name, v, cls.axes) for name, v in (
            ("output_padding", output_padding), ("stride", stride), ("dilation", dilation)))
        if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, strides, dilations)):
            raise ValueError(f"{cls.__name__}: output_padding {extra} must be less than stride {strides} or dilation {dilations}")
        options = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation, "groups": groups}
        made: Self = _init(cls, key, inputs, outputs // groups, outputs, kernel, cls.axes, bias, weight_init, dtype, options)
        return made

    def __call__(self, x: Array) -> Array:
        check_rank(type(self).__name__, x, self.axes)
        y = functional.conv_transpose(x, self.weight, self.stride, self.padding, self.output_padding, self.dilation, self.groups)
        return _shifted(y, self.bias)


class ConvTranspose1d(_ConvTranspose):
    """The transpose of Conv1d: n becomes (n - 1) stride - 2 padding + (k - 1) dilation + 1 + output_padding.

    weight [inputs, outputs / groups, k].
    """

    axes: ClassVar[int] = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of Conv2d; weight [inputs, outputs / groups, kh, kw]."""

    axes: ClassVar[int] = 2


class ConvTranspose3d(_ConvTranspose):
    """The transpose of Conv3d; weight [inputs, outputs / groups, kd, kh, kw]."""

    axes: ClassVar[int] = 3
