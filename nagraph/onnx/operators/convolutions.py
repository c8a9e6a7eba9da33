"""Convolutions and their transposes."""

from __future__ import annotations

from typing import Any

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.onnx.operators.elementwise import same_dtypes
from nagraph.onnx.operators.windows import halves, per_axis, spatial_of, windows
from nagraph.onnx.registry import Ints, operator
from nagraph.ops.convolution import ConvGeneral, spread


@operator("Conv")
def conv(x: Any, w: Any, bias: Any = None, *, auto_pad: str = "NOTSET", dilations: Ints | None = None, group: int = 1,
         kernel_shape: Ints | None = None, pads: Ints | None = None, strides: Ints | None = None) -> Any:
    same_dtypes(x, w)
    spatial = spatial_of(x)
    _check_kernel(w, kernel_shape, len(spatial))
    found = windows(spatial, w.shape[2:], strides, dilations, pads, auto_pad)
    y = ConvGeneral(found.strides, found.padding, found.dilations, (1,) * len(spatial), group)(x, w)
    return with_bias(y, bias)


def _check_kernel(w: Any, kernel_shape: Any, axes: int) -> None:
    if len(w.shape) != axes + 2:
        raise OnnxError(f"its kernel has shape {list(w.shape)}, but must have {axes + 2} axes as its operand")
    if kernel_shape is not None and tuple(kernel_shape) != tuple(w.shape[2:]):
        raise OnnxError(f"kernel_shape is {list(kernel_shape)}, but the kernel is {list(w.shape[2:])}")


def with_bias(y: Any, bias: Any) -> Any:
    """y with a number for each channel added."""
    if bias is None:
        return y
    if tuple(bias.shape) != (y.shape[1],):
        raise OnnxError(f"its bias has shape {list(bias.shape)} for {y.shape[1]} channels")
    return y + F.reshape(bias, (y.shape[1], *(1,) * (len(y.shape) - 2)))


@operator("ConvTranspose")
def conv_transpose(x: Any, w: Any, bias: Any = None, *, auto_pad: str = "NOTSET", dilations: Ints | None = None, group: int = 1,
                   kernel_shape: Ints | None = None, output_padding: Ints | None = None, output_shape: Ints | None = None,
                   pads: Ints | None = None, strides: Ints | None = None) -> Any:
    """w is [C, O / group, *kernel]: convolution of x with zeros between its elements, the kernel flipped."""
    same_dtypes(x, w)
    spatial = spatial_of(x)
    d = len(spatial)
    _check_kernel(w, kernel_shape, d)
    if group < 1 or w.shape[0] != x.shape[1] or w.shape[0] % group:
        raise OnnxError(f"its kernel has shape {list(w.shape)} for {x.shape[1]} channels in {group} groups")
    stride, dilation = per_axis("strides", strides, d), per_axis("dilations", dilations, d)
    extra = per_axis("output_padding", output_padding, d, 0)
    reach = tuple(map(spread, w.shape[2:], dilation))
    whole = [s * (n - 1) + k + e for s, n, k, e in zip(stride, spatial, reach, extra)]  # without padding
    if output_shape is not None or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(spatial, stride)] if output_shape is None else per_axis("output_shape", output_shape[-d:], d)
        cut = tuple(halves(max(n - m, 0), auto_pad == "SAME_UPPER") for n, m in zip(whole, wanted))
        extra = tuple(e + max(m - n, 0) for e, n, m in zip(extra, whole, wanted))
    else:
        numbers = per_axis("pads", None if auto_pad == "VALID" else pads, 2 * d, 0)
        cut = tuple(zip(numbers[:d], numbers[d:]))
    c, o = w.shape[:2]
    grouped = F.transpose(F.reshape(w, (group, c // group, o, *w.shape[2:])), (0, 2, 1, *range(3, d + 3)))
    flipped = F.flip(F.reshape(grouped, (group * o, c // group, *w.shape[2:])), tuple(range(2, d + 2)))
    padding = tuple((k - 1 - low, k - 1 - high + e) for k, (low, high), e in zip(reach, cut, extra))
    return with_bias(ConvGeneral((1,) * d, padding, dilation, stride, group)(x, flipped), bias)


@operator("ConvInteger")
def conv_integer(x: Any, w: Any, x_zero: Any = None, w_zero: Any = None, *, auto_pad: str = "NOTSET", dilations: Ints | None = None,
                 group: int = 1, kernel_shape: Ints | None = None, pads: Ints | None = None, strides: Ints | None = None) -> Any:
    """8-bit integers minus their zero points, convolved in 32 bits."""
    wide_x, wide_w = (v if zero is None else v - F.astype(zero, "i32")
                      for v, zero in ((F.astype(x, "i32"), x_zero), (F.astype(w, "i32"), _per_output(w_zero, w))))
    return conv(wide_x, wide_w, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads, strides=strides)


def _per_output(zero: Any, w: Any) -> Any:
    """A zero point for each output channel, along the first axis of w."""
    return zero if zero is None or not zero.shape else F.reshape(zero, (-1, *(1,) * (len(w.shape) - 1)))
