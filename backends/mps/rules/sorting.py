"""Sorting: by keys that no two elements share, so that the order of equals is theirs on every device; nan last."""

from __future__ import annotations

from typing import Any

from nagraph.backends.mps.rules.rule import Rule
from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES, SIGNED, is_float
from nagraph.ops import sorting

Array = Any
U32, U64, I64 = DTYPES["u32"], DTYPES["u64"], DTYPES["i64"]


def order_key(m: Any, x: Array, nan_last: bool = True) -> Array:
    """Unsigned integers that are ordered as the elements: zeros are equal, so are nans, which come last or first."""
    dtype = m.dtype(x)
    if dtype == BOOL:
        return m.to(x, U32)
    width = 8 * dtype.itemsize
    unsigned = DTYPES[f"u{width}"]
    sign = m.number(1 << width - 1, unsigned)
    bits = m.bits(x, unsigned)
    if is_float(dtype):
        zero, whole = m.number(0, unsigned), m.number((1 << width) - 1, unsigned)
        bits = m.where(m.equal(x, m.number(0, dtype)), zero, bits)
        negative = m.not_equal(m.bitwise_and(bits, sign), zero)
        bits = m.where(negative, m.bitwise_invert(bits), m.bitwise_xor(bits, sign))
        bits = m.where(m.isnan(x), whole if nan_last else zero, bits)
    elif dtype in SIGNED:
        bits = m.bitwise_xor(bits, sign)
    return bits if width == 64 else m.to(bits, U32)


def argsort(m: Any, keys: Array, axis: int) -> Array:
    """The indices that sort keys of 32 or 64 bits, u64: a key and its place are one number. 64 bits go half by half."""
    if m.dtype(keys) == U32:
        return _sorted_places(m, m.to(keys, U64), axis)
    by_low = _sorted_places(m, m.bitwise_and(keys, m.number(0xFFFF_FFFF, U64)), axis)
    high = m.right_shift(m.take_along_axis(keys, by_low, axis=axis), m.number(32, U64))
    return m.take_along_axis(by_low, _sorted_places(m, high, axis), axis=axis)


def _sorted_places(m: Any, keys: Array, axis: int) -> Array:
    """For keys below 2^32 in 64 bits."""
    n = keys.shape[axis]
    places = m.reshape(m.range(n, U64), [n if a == axis else 1 for a in range(keys.ndim)])
    together = m.bitwise_or(m.left_shift(keys, m.number(32, U64)), places)
    return m.bitwise_and(m.sort(together, axis=axis), m.number(0xFFFF_FFFF, U64))


def _argsort(m: Any, op: sorting.Argsort, x: Array) -> Array:
    return m.to(argsort(m, order_key(m, x), op.axis), I64) if x.size else m.to(x, I64)


def _sort(m: Any, op: sorting.Sort, x: Array) -> Array:
    if not x.size:
        return x
    return m.take_along_axis(x, argsort(m, order_key(m, x), op.axis), axis=op.axis) if is_float(m.dtype(x)) else m.sort(x, axis=op.axis)


RULES: dict[type[Op], Rule] = {sorting.Argsort: Rule(_argsort), sorting.Sort: Rule(_sort)}
