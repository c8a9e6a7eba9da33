"""Conversion between dtypes, each element rounded once, as `nagraph.ir.conversion` has it."""

from __future__ import annotations

from typing import Any

from nagraph.backends.mps.calls import Calls
from nagraph.ir.types import DTYPES, INTEGERS, SIGNED, DType, bfloat16

Array = Any
U32, U64, F16, F32 = (DTYPES[n] for n in ("u32", "u64", "f16", "f32"))


def cast(m: Calls, x: Array, dtype: DType) -> Array:
    """x in a dtype: nearest, halves to even; floats to integers truncate."""
    source = m.dtype(x)
    if source in INTEGERS and source.itemsize >= 4 and dtype in (F16, bfloat16):
        return m.to(_odd_single(m, x, source), dtype)
    if {source, dtype} == {F16, bfloat16}:
        x = m.to(x, F32)
    return m.to(x, dtype)


def _odd_single(m: Calls, x: Array, source: DType) -> Array:
    """Integers of 32 or 64 bits in float32, rounded to odd: what decides the rounding to 16 bits stays as a mark below their bits.

    float32 holds 24 bits. Of a number from 2^24 up to 2^36 bits 12 to 35 are kept, the lowest of them set if any below is; and so on.
    Source: Boldo and Melquiond 2008.
    """
    unsigned = DTYPES[f"u{8 * source.itemsize}"]
    size = m.bits(m.abs(x), unsigned) if source in SIGNED else x
    for least, mark in ((24, 12), (36, 24), (48, 36), (60, 40)):
        if least >= 8 * source.itemsize:
            break
        below = m.number((1 << mark + 1) - 1, unsigned)
        lost = m.bitwise_and(size, below)
        kept = m.subtract(size, lost)
        marked = m.where(m.equal(lost, m.number(0, unsigned)), kept, m.bitwise_or(kept, m.number(1 << mark, unsigned)))
        size = m.where(m.less(size, m.number(1 << least, unsigned)), size, marked)
    y = m.to(size, F32)
    return m.where(m.less(x, m.number(0, source)), m.negative(y), y) if source in SIGNED else y
