"""Conversion of arrays between dtypes, each element rounded once.

NumPy and ml_dtypes go from float64 and from wide integers to 16-bit floats by way of float32, and round twice: 1 + 2^-8 + 2^-40
becomes 1 in bfloat16. Here the way is rounded to odd, which keeps what decides the second rounding.
Source: Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.integers import digits
from nagraph.ir.types import INTEGERS, SHORT_NAMES, DType, bfloat16

Array = np.ndarray[Any, Any]
F16, F64 = np.dtype(np.float16), np.dtype(np.float64)


def converted(array: Array, dtype: DType) -> Array:
    """The array in another dtype: nearest, halves to even; floats to integers truncate. Too large for a float is an infinity."""
    with np.errstate(all="ignore"):
        if dtype in (F16, bfloat16):
            if array.dtype in INTEGERS and array.dtype.itemsize >= 4:
                array = _odd_double(array)
            if array.dtype == F64 and dtype == bfloat16:
                array = _odd_single(array)
        return array.astype(dtype)


def number(value: Any, dtype: DType) -> Array:
    """A Python or NumPy scalar as a rank-0 array of a dtype. TypeRuleError for an integer that is beyond its range."""
    if type(value) is int and dtype in INTEGERS and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise TypeRuleError(f"Python integer {digits(value)} does not fit {SHORT_NAMES[dtype]} ({np.iinfo(dtype).min} to "
                            f"{np.iinfo(dtype).max}); cast the array first")
    made = np.asarray(value)
    if made.dtype in SHORT_NAMES:
        return converted(made, dtype)
    try:
        return made.astype(dtype)
    except OverflowError:
        shown = digits(value) if isinstance(value, int) else f"{value!r:.80}"
        raise TypeRuleError(f"{shown} is beyond all numbers of {SHORT_NAMES[dtype]}") from None


def _odd_double(x: Array) -> Array:
    """Integers of 32 or 64 bits in float64: exact below 2^53, beyond it with a mark below the bits that 16-bit floats see."""
    near = x.astype(F64)
    if x.dtype.itemsize == 4:
        return near
    low = x & x.dtype.type(0xFFF)
    marked = (x - low + (low != 0) * x.dtype.type(0x800)).astype(F64)
    return np.where(np.abs(near) < 2.0**53, near, marked)


def _odd_single(x: Array) -> Array:
    """float64 in float32, rounded to odd: towards zero, and where that is inexact the last bit is set."""
    near = x.astype(np.float32)
    back, bits = near.astype(F64), near.view(np.uint32)
    odd = np.where(np.abs(back) > np.abs(x), bits - np.uint32(1), bits) | np.uint32(1)
    return np.where((back != x) & ~np.isnan(x), odd, bits).astype(np.uint32).view(np.float32)
