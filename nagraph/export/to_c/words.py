"""The words of C99: types of fixed width, and functions whose names have the dtype. They are in `support.c`, or in math.h."""

from __future__ import annotations

from nagraph.c_text.words import Words
from nagraph.ir.types import DTYPES, SHORT_NAMES, DType

F32, F64 = DTYPES["f32"], DTYPES["f64"]
#: 16-bit floats are their bits.
C_NAMES = {"f16": "uint16_t", "bf16": "uint16_t", "f32": "float", "f64": "double", "bool": "bool"}
TYPES = {d: C_NAMES.get(n) or f"{'u' if n[0] == 'u' else ''}int{n[1:]}_t" for d, n in SHORT_NAMES.items()}
#: Functions of math.h that round correctly, by the name of that for double.
MATH = {"abs": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint", "copysign": "copysign"}


class _C99(Words):
    def helper(self, name: str, dtype: DType) -> str:
        if dtype in (F32, F64) and name in MATH:
            return MATH[name] + ("f" if dtype == F32 else "")
        if name == "float":
            return f"f32_of_{SHORT_NAMES[dtype]}"
        if name in ("f16", "bf16"):
            return f"{name}_of_f32"
        return f"{name}_{SHORT_NAMES[dtype]}"

    def bitcast(self, dtype: DType, source: DType) -> str:
        if dtype in (F32, F64):
            return f"{SHORT_NAMES[dtype]}_of_bits"
        return f"({self.type(dtype)}){f'bits_of_{SHORT_NAMES[source]}' if source in (F32, F64) else ''}"

    def truncated(self, x: str, source: DType, dtype: DType) -> str:
        return f"{SHORT_NAMES[dtype]}_of_{SHORT_NAMES[source]}({x})"

    def wrapped(self, x: str, source: DType) -> str:
        return f"u64_of_{SHORT_NAMES[source]}({x})"

    def half(self, bits: int, dtype: DType) -> str:
        return f"0x{bits:04X}"


C99 = _C99("C99", TYPES, "static", "ll", True)
