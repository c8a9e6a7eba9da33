"""What is converted to a 16-bit float by way of float32: a number rounded so that the second rounding is as good as one."""

from __future__ import annotations

from nagraph.ir.scalar import F32, F64, I32, I64, U32, U64, Scalar, ScalarBuilder
from nagraph.ir.types import DTYPES

#: The dtypes of 16-bit floats.
NARROW = frozenset((DTYPES["f16"], DTYPES["bf16"]))


def single(s: ScalarBuilder, x: Scalar) -> Scalar:
    """A number as float32, so that a second rounding to 16 bits is as good as one."""
    if x.dtype in (I32, U32, I64, U64) and not s.doubles:
        return _odd_single(s, x)
    if x.dtype in (I64, U64):
        return _odd_single(s, _odd_double(s, x))
    if x.dtype in (I32, U32):
        return _odd_single(s, s.cast(x, F64))
    return _odd_single(s, x) if x.dtype == F64 else s.cast(x, F32)


def _odd_double(s: ScalarBuilder, x: Scalar) -> Scalar:
    """A 64-bit integer as float64: exact below 2^53, beyond it with a mark below the bits that 16-bit floats see."""
    near, low = s.cast(x, F64), x & 0xFFF
    marked = s.cast(x - low + s.select(s.ne(low, 0), s.constant(0x800, x.dtype), s.constant(0, x.dtype)), F64)
    return s.select(s.abs(near) < 2.0**53, near, marked)


def _odd_single(s: ScalarBuilder, x: Scalar) -> Scalar:
    """float64, or an integer, to float32 rounded to odd: towards zero, and where that is inexact the last bit is set."""
    nearest = s.cast(x, F32)
    back = s.cast(nearest, x.dtype)
    bits = s.bitcast(nearest, U32)
    beyond = s.select(s.abs(back) > s.abs(x), bits - 1, bits) | 1
    inexact = (s.ne(back, x)) & ~s.is_nan(x)
    return s.bitcast(s.select(inexact, beyond, bits), F32)
