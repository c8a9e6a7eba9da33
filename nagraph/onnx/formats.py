"""Rounding to the formats that graphs carry in a wider dtype: 8-bit and 4-bit floats, integers of 4 and 2 bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.ir.types import DTYPES
from nagraph.onnx.dtypes import Format


class Carried(NamedTuple):
    """A carried value is one of an ONNX format that graphs do not have, in the dtype that holds all of its numbers."""

    value: Any
    format: Format


def rounded_to(x: Any, format: Format, saturate: bool = True, mode: str = "up") -> Carried:
    """x, a value of any dtype, in a format. saturate: what is too large becomes the largest number, else infinity or nan.

    mode: of float8e8m0 "up", "down" or "nearest", halves upwards; the others round to nearest, halves to even.
    """
    if not format.is_float:
        return Carried(_low_bits(x, format), format)
    wide = x if x.dtype == DTYPES["f64"] else F.astype(x, "f32")
    found = _power_of_two(wide, format, saturate, mode) if format.name == "float8e8m0" else _nearest(wide, format, saturate)
    return Carried(F.astype(found, format.carrier), format)


def _low_bits(x: Any, format: Format) -> Any:
    """Truncated, then the low bits alone, as C converts to narrow integers."""
    free = np.int32(32 - format.bits)
    if x.dtype.kind == "V" or x.dtype.kind == "f":
        x = F.trunc(F.astype(x, "f32"))
    found = F.right_shift(F.left_shift(F.astype(x, "i32"), free), free)
    return F.astype(found if format.carrier.kind == "i" else F.bitwise_and(found, (1 << format.bits) - 1), format.carrier)


def _numbers(format: Format) -> np.ndarray:
    """The finite numbers of a format from 0 on, ascending, in float64. The place of each is its code."""
    codes = 1 << (format.bits if format.name == "float8e8m0" else format.bits - 1)
    found = np.arange(codes, dtype=np.uint8).view(format.element).astype(np.float64)
    return found[np.isfinite(found)]


def _nearest(x: Any, format: Format, saturate: bool) -> Any:
    """The nearest number, halves to the even code: the place of |x| among the middles of neighbours says which."""
    numbers = _numbers(format)
    beyond = numbers[-1] + (numbers[-1] - numbers[-2]) / 2
    middles = np.append((numbers[:-1] + numbers[1:]) / 2, beyond).astype(x.dtype)
    thresholds = np.where(np.arange(middles.size) % 2 == 0, np.nextafter(middles, np.asarray(np.inf, x.dtype)), middles)
    overflow = np.inf if format.name == "float8e5m2" else np.nan
    if saturate or format.bits < 8:
        overflow = numbers[-1]
    magnitude = F.abs(x)
    place = F.sum(F.astype(F.greater_equal(F.expand_dims(magnitude, -1), thresholds), "i32"), -1)
    y = F.copysign(F.take(np.append(numbers, overflow).astype(x.dtype), place, 0), x)
    return F.astype(y, x.dtype) if format.bits < 8 else F.where(F.isnan(x), np.asarray(np.nan, x.dtype), y)


def _power_of_two(x: Any, format: Format, saturate: bool, mode: str) -> Any:
    """The power of two by the mode; what is not above zero is the smallest one."""
    numbers = _numbers(format).astype(x.dtype)
    thresholds = {"down": numbers[1:], "up": np.nextafter(numbers[:-1], np.asarray(np.inf, x.dtype)),
                  "nearest": ((numbers[:-1].astype(np.float64) + numbers[1:]) / 2).astype(x.dtype)}.get(mode)
    if thresholds is None:
        raise OnnxError(f"round_mode is up, down or nearest, not {mode!r}")
    place = F.sum(F.astype(F.greater_equal(F.expand_dims(x, -1), thresholds), "i32"), -1)
    y = F.take(numbers, place, 0)
    missing = F.logical_not(F.isfinite(x)) if saturate else F.logical_not(F.less_equal(x, numbers[-1]))
    return F.where(missing, np.asarray(np.nan, x.dtype), y)
