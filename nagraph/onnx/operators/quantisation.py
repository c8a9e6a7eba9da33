"""Quantisation: numbers as multiples of a scale around a zero point."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.ir.types import DTYPES
from nagraph.onnx.dtypes import Format, element_type
from nagraph.onnx.formats import Carried, rounded_to
from nagraph.onnx.operators.convolutions import conv, with_bias
from nagraph.onnx.registry import Ints, checked_axis, operator


@operator("QuantizeLinear", formats="given")
def quantize(x: Any, scale: Any, zero: Any = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0, precision: int = 0,
             saturate: bool = True) -> Any:
    """y = round(x / scale) + zero, halves to even, within the range of its type: that of `zero`, or `output_dtype`, or uint8."""
    kind = element_type(output_dtype) if output_dtype else DTYPES["u8"]
    if zero is not None:
        kind = zero.format if isinstance(zero, Carried) else zero.dtype
    value, wide_scale = x, scale
    if precision:
        value, wide_scale = (F.astype(v, element_type(precision)) for v in (x, scale))
    if value.dtype.kind in "iu":
        value = F.astype(value, "f32")
    quotient = F.astype(value, "f32") / F.astype(_along(wide_scale, x, axis, block_size), "f32")
    if value.dtype == wide_scale.dtype and value.dtype.itemsize == 2:  # rounded as a quotient of their dtype is
        quotient = F.astype(F.astype(quotient, value.dtype), "f32")
    offset = None if zero is None else F.astype(_along(zero.value if isinstance(zero, Carried) else zero, x, axis, block_size), "f32")
    if isinstance(kind, Format) and kind.is_float:
        return rounded_to(quotient if offset is None or kind.bits == 8 else quotient + offset, kind, saturate)
    if not isinstance(kind, Format) and kind.kind not in "iu":
        raise OnnxError(f"numbers are quantised to whole ones or small floats, not to {kind}")
    steps = F.rint(quotient)
    return _saturated(steps if offset is None else steps + offset, kind)


def _saturated(x: Any, kind: Any) -> Any:
    """Whole numbers, held as floats, in an integer type: what is beyond its range becomes its end."""
    if isinstance(kind, Format):
        low, high = (0, (1 << kind.bits) - 1) if kind.carrier.kind == "u" else (-(1 << kind.bits - 1), (1 << kind.bits - 1) - 1)
        return Carried(F.astype(F.clip(x, low, high), kind.carrier), kind)
    info = np.iinfo(kind)
    return F.astype(F.clip(x, float(info.min), float(info.max)), kind)


@operator("DequantizeLinear", formats="given")
def dequantize(x: Any, scale: Any, zero: Any = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0) -> Any:
    """y = (x - zero) scale, in the dtype of the scale or `output_dtype`."""
    dtype = element_type(output_dtype) if output_dtype else scale.dtype
    value, zero = (v.value if isinstance(v, Carried) else v for v in (x, zero))
    wide = F.astype(value, "i32") if value.dtype.kind in "iu" else F.astype(value, "f32")
    if zero is not None:
        wide = wide - F.astype(_along(zero, value, axis, block_size), wide.dtype)
    return F.astype(F.astype(wide, "f32") * F.astype(_along(scale, value, axis, block_size), "f32"), dtype)


def _along(parameter: Any, x: Any, axis: int, block: int) -> Any:
    """A scale or zero point for each element of x: one number, or one for each place of an axis, or for each block along it."""
    rank, shape = len(x.shape), tuple(parameter.shape)
    if not shape or shape == (1,) and not block:
        return F.reshape(parameter, ())
    place = checked_axis(axis, rank)
    if block:
        blocks = -(-x.shape[place] // block) if block > 0 else -1
        if shape != (*x.shape[:place], blocks, *x.shape[place + 1:]):
            raise OnnxError(f"a scale or zero point has shape {list(shape)} for blocks of {block} along axis {place} of {list(x.shape)}")
        return F.array(F.repeat(parameter, block, place))[(slice(None),) * place + (slice(x.shape[place]),)]
    if shape != (x.shape[place],):
        raise OnnxError(f"a scale or zero point has shape {list(shape)} for axis {place} of {list(x.shape)}")
    return F.reshape(parameter, (shape[0], *(1,) * (rank - place - 1)))


@operator("DynamicQuantizeLinear")
def dynamic_quantize(x: Any) -> Any:
    """uint8, with scale and zero point by the smallest and the largest element, and 0."""
    low, high = F.minimum(F.min(x), np.float32(0)), F.maximum(F.max(x), np.float32(0))
    scale = (high - low) / np.float32(255)
    scale = F.where(F.equal(scale, 0), np.float32(1), scale)
    zero = F.clip(F.rint(-low / scale), 0, 255)
    return F.astype(F.clip(F.rint(x / scale) + zero, 0, 255), "u8"), scale, F.astype(zero, "u8")


@operator("QLinearMatMul")
def quantized_matmul(a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any) -> Any:
    """The product of 8-bit matrices minus their zero points, quantised again."""
    left, right = (F.astype(v, "i32") - F.astype(z, "i32") for v, z in ((a, _column(a_zero)), (b, b_zero)))
    product = F.matmul(left, right)
    factor = F.astype(_column(a_scale), "f32") * F.astype(b_scale, "f32") / F.astype(_column(y_scale), "f32")
    return _saturated(F.rint(F.astype(product, "f32") * factor) + F.astype(_column(y_zero), "f32"), y_zero.dtype)


def _column(x: Any) -> Any:
    """A number for each row, as a column."""
    return F.expand_dims(x, -1) if len(x.shape) == 1 and x.shape[0] > 1 else x


@operator("QLinearConv")
def quantized_conv(x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any, y_scale: Any, y_zero: Any, bias: Any = None, *,
                   auto_pad: str = "NOTSET", dilations: Ints | None = None, group: int = 1, kernel_shape: Ints | None = None,
                   pads: Ints | None = None, strides: Ints | None = None) -> Any:
    """The convolution of 8-bit numbers minus their zero points, quantised again; the bias is in 32 bits already."""
    rank = len(w.shape)
    per_output = w_zero if not w_zero.shape else F.reshape(w_zero, (-1, *(1,) * (rank - 1)))
    y = conv(F.astype(x, "i32") - F.astype(x_zero, "i32"), F.astype(w, "i32") - F.astype(per_output, "i32"), auto_pad=auto_pad,
             dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads, strides=strides)
    factor = x_scale * w_scale / y_scale
    factor = factor if not factor.shape or factor.shape == (1,) else F.reshape(factor, (-1, *(1,) * (rank - 2)))
    return _saturated(F.rint(F.astype(with_bias(y, bias), "f32") * factor) + F.astype(y_zero, "f32"), y_zero.dtype)
