"""Arrays as constants of C: floats in hexadecimal, which is exact in every compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nagraph.elementary.narrow import NARROW
from nagraph.export.to_c.words import C99
from nagraph.ir.types import BOOL, FLOATS, UNSIGNED

Array = np.ndarray[Any, Any]
#: Characters of a line of numbers.
WIDTH = 120


def array_text(array: Array) -> str:
    """The elements of an array, row-major, as lines between braces. C has no array of no elements: an empty one has a zero."""
    lines, line = list[str](), " "
    for x in _elements(array.reshape(-1)) if array.size else ["0"]:
        if len(line) + len(x) + 2 > WIDTH:
            lines.append(line)
            line = " "
        line += f" {x},"
    return "\n".join([*lines, line])


def _elements(x: Array) -> Iterable[str]:
    if x.dtype in NARROW:
        return (f"0x{bits:04X}" for bits in x.view(np.uint16).tolist())
    if x.dtype in FLOATS:
        suffix = "f" if x.dtype.itemsize == 4 else ""
        return (_hexadecimal(v, suffix) for v in x.tolist())
    if x.dtype == BOOL:
        return map(str, x.view(np.uint8).tolist())
    if x.dtype.itemsize < 4:
        return map(str, x.tolist())
    suffix = ("u" if x.dtype in UNSIGNED else "") + ("ll" if x.dtype.itemsize == 8 else "")
    least = int(np.iinfo(x.dtype).min)
    return (str(C99.literal(v, x.dtype)) if v == least and v < 0 else f"{v}{suffix}" for v in x.tolist())


def _hexadecimal(v: float, suffix: str) -> str:
    """A float as C reads it exactly: 0x1.8p+1."""
    if v != v:
        return "-NAN" if np.signbit(v) else "NAN"
    if v in (float("inf"), float("-inf")):
        return "INFINITY" if v > 0 else "-INFINITY"
    if v == int(v) and abs(v) < 1000:
        return ("-0" if np.signbit(v) and v == 0 else str(int(v))) + f".0{suffix}"
    digits, _, exponent = v.hex().partition("p")
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits}p{exponent}{suffix}"
