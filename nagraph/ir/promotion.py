"""Which dtype an operation on mixed dtypes gives: NumPy's NEP 50, and a table for bfloat16.

Python scalars are weak: they take the dtype of what they meet unless their kind is higher.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nagraph.ir.conversion import number
from nagraph.ir.types import BOOL, DTYPES, DType, bfloat16, is_float

#: Python's scalar types in the order of their kinds; NEP 50 calls them weak.
WEAK = (bool, int, float)

F16, F32, F64, I64 = (DTYPES[n] for n in ("f16", "f32", "f64", "i64"))


@cache
def _strong(a: DType, b: DType) -> DType:
    if a == b:
        return a
    if bfloat16 in (a, b):
        other = b if a == bfloat16 else a
        if other == F16:
            return F32
        return other if is_float(other) else bfloat16
    return np.result_type(a, b)


def default_dtype(weak: type) -> DType:
    """The dtype of a Python scalar that meets nothing: bool, i64 or f64."""
    return {bool: BOOL, int: I64, float: F64}[weak]


def _meet(dtype: DType, weak: type) -> DType:
    if weak is bool or is_float(dtype):
        return dtype
    if weak is int:
        return I64 if dtype == BOOL else dtype
    return F64


def result_type(*items: DType | type) -> DType:
    """The dtype of an operation on `items`: dtypes, or the Python types bool, int, float (weak).

    The same as np.result_type with Python scalars in place of the weak items; integers with
    bfloat16 give bfloat16, float16 with bfloat16 gives float32.
    """
    strong = [i for i in items if isinstance(i, np.dtype)]
    weak = [i for i in items if not isinstance(i, np.dtype)]
    highest: type = max(weak, key=WEAK.index) if weak else bool
    if not strong:
        return default_dtype(highest)
    dtype = strong[0]
    for other in strong[1:]:
        dtype = _strong(dtype, other)
    return _meet(dtype, highest)


def floating(dtype: DType) -> DType:
    """The dtype in which NumPy computes a transcendental function of `dtype`."""
    if is_float(dtype):
        return dtype
    return {1: F16, 2: F32}.get(dtype.itemsize, F64)


def scalar_array(value: bool | int | float, dtype: DType) -> np.ndarray[Any, DType]:
    """A Python scalar as a rank-0 array of `dtype`; an integer that does not fit is an error, as in NumPy."""
    return number(value, dtype)
