"""Words: how a dialect of C calls dtypes, writes constants, and names the functions that the language does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.errors import MissingRuleError
from nagraph.ir.types import BOOL, DTYPES, FLOATS, SHORT_NAMES, UNSIGNED, DType

F16, BF16, F32, F64, I64, U8, U64 = (DTYPES[n] for n in ("f16", "bf16", "f32", "f64", "i64", "u8", "u64"))


class Literal(str):
    """The text of a constant; of an integer or a bool `value` is what it says, else None."""

    value: int | None

    def __new__(cls, text: str, value: int | None = None) -> Literal:
        made = super().__new__(cls, text)
        made.value = value
        return made


@dataclass(frozen=True)
class Words:
    """The words of a dialect of C.

    types: how each dtype is called. function: how a function begins that kernels call. long_suffix: that of a literal of 64 bits.
    doubles: whether it has a double.
    """

    name: str
    types: Mapping[DType, str]
    function: str
    long_suffix: str
    doubles: bool

    def type(self, dtype: DType) -> str:
        """What a value of the dtype is."""
        if dtype == F64 and not self.doubles:
            raise MissingRuleError(f"{self.name} has no float64; compute in float32")
        return self.types[dtype]

    def memory_type(self, dtype: DType) -> str:
        """What memory holds of it: a bool takes a byte."""
        return self.type(U8 if dtype == BOOL else dtype)

    def helper(self, name: str, dtype: DType) -> str:
        """The function of this name for a dtype: "add" wraps around, "fma" rounds once, "float" widens 16 bits, "f16" narrows to them."""
        raise NotImplementedError

    def bitcast(self, dtype: DType, source: DType) -> str:
        """The function that gives the bits of one dtype as another."""
        raise NotImplementedError

    def truncated(self, x: str, source: DType, dtype: DType) -> str:
        """A float as a signed integer."""
        return f"({self.type(dtype)}){x}"

    def wrapped(self, x: str, source: DType) -> str:
        """A float as an unsigned integer of 64 bits: negative numbers wrap around."""
        return f"{x} < 0 ? ({self.type(U64)})({self.type(I64)}){x} : ({self.type(U64)}){x}"

    def literal(self, value: Any, dtype: DType) -> Literal:
        """A constant: an integer is taken modulo the width, a float rounded once."""
        self.type(dtype)
        if dtype == BOOL:
            return Literal("true" if value else "false", bool(value))
        if dtype in (F16, BF16):
            return Literal(self.half(int(np.asarray(value, dtype).view(np.uint16)), dtype))
        return Literal(self._float(value, dtype)) if dtype in FLOATS else self._integer(value, dtype)

    def half(self, bits: int, dtype: DType) -> str:
        """A 16-bit float by its bits."""
        return f"{self.helper(f'{SHORT_NAMES[dtype]}_of_bits', dtype)}(0x{bits:04X})"

    def _float(self, value: Any, dtype: DType) -> str:
        with np.errstate(all="ignore"):
            x = np.asarray(value, dtype)[()]
        if not np.isfinite(x):
            digits, short = (8, "u32") if dtype == F32 else (16, "u64")
            integer = DTYPES[short]
            suffix = "u" if dtype == F32 else f"u{self.long_suffix}"
            return f"{self.bitcast(dtype, integer)}(0x{int(x.view(integer)):0{digits}X}{suffix})"
        text = repr(float(str(x))) if dtype == F32 else repr(float(x))
        text = f"{text}f" if dtype == F32 else text
        return f"({text})" if text.startswith("-") else text

    def _integer(self, value: Any, dtype: DType) -> Literal:
        width, signed = 8 * dtype.itemsize, dtype not in UNSIGNED
        number = int(value) % (1 << width)
        if signed and number >> (width - 1):
            number -= 1 << width
        suffix = "" if signed else "u"
        if width == 64:
            suffix += self.long_suffix
        if number == -(1 << (width - 1)) and width >= 32:  # C has no literal for the least number
            text = f"({number + 1}{suffix} - 1)"
        else:
            text = f"({number}{suffix})" if number < 0 else f"{number}{suffix}"
        return Literal(f"({self.type(dtype)}){text}" if width < 32 else text, number)
