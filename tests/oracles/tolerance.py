"""How far a result may be from the reference: four times the other library's own error, or some units in the last place of the scale."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
#: How far rounding in float64 is below rounding in float32.
FINER = 2.0 ** -29


def is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype == BFLOAT16


def limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The unit in the last place at 1, and the smallest positive number."""
    info = ml_dtypes.finfo(dtype)
    return float(info.eps), float(info.smallest_subnormal)


def difference(found: Any, wide: Any, own: Any = None, other: Any = None, elementwise: bool = False,
               floor: float = 0, units: int = 8, signed: Any = True) -> str | None:
    """What is wrong with `found`, or None.

    wide: the result in float64 (or exact, for integers and bools). own: the other library's error, an array or None. other: its result in
    the dtype of `found`; where that or `wide` is not finite, either of the two will do. elementwise: the scale is each element's own,
    and zeros have a sign where `signed` holds; otherwise the scale is the largest element, or `floor`.
    """
    found, wide = np.asarray(found), np.asarray(wide)
    if found.shape != wide.shape:
        return f"shape {found.shape}, not {wide.shape}"
    if not is_float(found.dtype):
        if is_float(wide.dtype):
            return f"dtype {found.dtype}, not a floating one"
        return None if np.array_equal(found, wide) else _first(found, wide, found != wide)
    eps, smallest = limits(found.dtype)
    with np.errstate(all="ignore"):
        rounded = wide.astype(found.dtype).astype(np.float64)
        values, wide = found.astype(np.float64), wide.astype(np.float64)
        special = ~np.isfinite(rounded) | ~np.isfinite(values)
        alike = _same(values, rounded)
        if other is not None:
            alike |= _same(values, np.asarray(other, np.float64))
        finite = np.where(np.isfinite(wide), np.abs(wide), 0)
        scale = finite if elementwise else np.max(finite, initial=floor)
        allowed = units * (eps * scale + smallest)
        if own is not None:
            error = np.where(np.isfinite(own), own, 0)
            allowed = np.maximum(allowed, 4 * (error if elementwise else np.max(error, initial=0)))
        wrong = np.where(special, ~alike, ~(np.abs(values - wide) <= allowed))
        if elementwise and other is not None and found.dtype.kind == "f":
            zero = (values == 0) & (rounded == 0) & (np.signbit(np.asarray(other, np.float64)) == np.signbit(rounded))
            wrong |= zero & signed & (np.signbit(values) != np.signbit(rounded))
    return _first(found, wide, wrong, allowed) if wrong.any() else None


def _same(x: Any, y: Any) -> Any:
    return (x == y) | (np.isnan(x) & np.isnan(y))


def _first(found: Any, expected: Any, wrong: Any, allowed: Any = None) -> str:
    at = tuple(int(i) for i in np.argwhere(wrong)[0]) if found.shape else ()
    told = f"{int(np.sum(wrong))} of {found.size} differ; at {at} {found[at]!r}, not {expected[at]!r}"
    return told if allowed is None else f"{told} (allowed {float(np.broadcast_to(allowed, found.shape)[at]):.3g})"
