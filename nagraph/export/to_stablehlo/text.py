"""How StableHLO is spelled: types, constants, attributes, names. The text is that of the specification's generic form."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.ir.types import BOOL, DTYPES, SHORT_NAMES, DType, TensorType, is_float

Array = np.ndarray[Any, Any]
#: Constants of up to this many elements are written as numbers, larger ones as bytes in hexadecimal.
WRITTEN_OUT = 64
#: The element types whose names differ from ours: signed integers are MLIR's integers without a sign.
_ELEMENTS = {"bool": "i1", "u8": "ui8", "u16": "ui16", "u32": "ui32", "u64": "ui64"}


def element_text(dtype: DType) -> str:
    """The element type of a dtype: `f32`, `i64`, `ui8`, `i1`."""
    name = SHORT_NAMES[dtype]
    return _ELEMENTS.get(name, name)


def type_text(t: TensorType) -> str:
    """A tensor type: `tensor<2x?xf32>`, in which sizes that are known later are `?`."""
    return f"tensor<{''.join(f'{n}x' if type(n) is int else '?x' for n in t.shape)}{element_text(t.dtype)}>"


def types_text(types: Sequence[TensorType]) -> str:
    return f"({', '.join(map(type_text, types))})"


def number_text(value: Any, dtype: DType) -> str:
    """One element: floats read back to the same bits, those that are not finite as their bits."""
    if dtype == BOOL:
        return "true" if value else "false"
    if not is_float(dtype):
        return str(int(value))
    made = np.asarray(value, dtype)
    wide = float(made)
    if not math.isfinite(wide):
        return f"0x{int(made.view(f'u{dtype.itemsize}')):0{2 * dtype.itemsize}X}"
    if dtype == DTYPES["f32"]:
        short = str(np.float32(wide))
        if np.float32(float(short)) == made:
            wide = float(short)
    digits, e, exponent = repr(wide).partition("e")
    return f"{digits}{'' if '.' in digits else '.0'}{e}{exponent}"


def dense(array: Array) -> str:
    """The elements of a constant: one for all, a nest of lists, or bytes; bools never as bytes, of which they have none of their own."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size and np.array_equal(same := flat.view(np.uint8).reshape(flat.size, -1), np.broadcast_to(same[:1], same.shape)):
        return f"dense<{number_text(flat[0], array.dtype)}>"
    if flat.size <= WRITTEN_OUT or array.dtype == BOOL:
        return f"dense<{_nested(array)}>"
    return f'dense<"0x{flat.astype(array.dtype.newbyteorder("<"), copy=False).tobytes().hex().upper()}">'


def _nested(array: Array) -> str:
    if array.ndim and not array.size:
        return ""
    return f"[{', '.join(map(_nested, array))}]" if array.ndim else number_text(array, array.dtype)


def array_text(numbers: Sequence[int]) -> str:
    """An attribute of whole numbers: `array<i64: 0, 1>`."""
    return f"array<i64: {', '.join(map(str, numbers))}>" if numbers else "array<i64>"


def list_text(numbers: Sequence[int]) -> str:
    return f"[{', '.join(map(str, numbers))}]"


def string_text(text: str) -> str:
    """A string attribute: UTF-8, of which MLIR escapes bytes by two digits."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in text.encode()) + '"'


def attribute_text(value: Any) -> str | None:
    """An option of a composite as an attribute; None for what has no such form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value} : i64"
    if isinstance(value, float):
        return f"{number_text(value, DTYPES['f64'])} : f64"
    if isinstance(value, str):
        return string_text(value)
    if isinstance(value, tuple):
        found = [attribute_text(v) for v in value]
        return None if None in found else f"[{', '.join(map(str, found))}]"
    return None


def symbol(name: str) -> str:
    """The name of a function: `@softmax`, in quotes where it is no plain word."""
    return f"@{name}" if re.fullmatch(r"[A-Za-z_][\w$.]*", name, re.ASCII) else f"@{json.dumps(re.sub(r'[^ -~]', '_', name))}"


def local_name(name: str) -> str:
    """What stands after `%` for a name of the user's: letters, digits, `_`, `.`, and no number, which values without a name have."""
    made = re.sub(r"[^A-Za-z0-9_.]", "_", name)
    return made if re.match(r"[A-Za-z_]", made) else f"_{made}"
