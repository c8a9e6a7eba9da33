"""Dialects: the words in which CUDA C++ and the Metal Shading Language differ. Whatever else differs is in `headers/nagraph_gpu.h`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nagraph.errors import MissingRuleError
from nagraph.ir.types import BOOL, DTYPES, FLOATS, SHORT_NAMES, UNSIGNED, DType

F16, BF16, F32, F64, U8 = (DTYPES[n] for n in ("f16", "bf16", "f32", "f64", "u8"))
#: What C calls the dtypes for which it has a name of its own; the header has the others by their short names.
C_NAMES = {"f32": "float", "f64": "double", "i32": "int", "bool": "bool"}


@dataclass(frozen=True)
class Dialect:
    """A dialect is a table of words.

    function: how a function begins that kernels call. device, shared: how pointers to device memory and to shared memory begin.
    long_suffix: that of a literal of 64 bits. unrolled: the line before a loop that is unrolled. thread, block, blocks: the number of the
    thread in its block, of the block, and how many blocks there are. doubles: whether it has a double.
    """

    name: str
    function: str
    device: str
    shared: str
    long_suffix: str
    unrolled: str
    thread: str
    block: str
    blocks: str
    doubles: bool
    #: How each dtype is called.
    types: Mapping[DType, str] = field(default_factory=lambda: {d: C_NAMES.get(n, n) for d, n in SHORT_NAMES.items()})

    def type(self, dtype: DType) -> str:
        """What a value of the dtype is."""
        if dtype == F64 and not self.doubles:
            raise MissingRuleError(f"{self.name} has no float64; compute in float32")
        return self.types[dtype]

    def memory_type(self, dtype: DType) -> str:
        """What memory holds of it: a bool takes a byte."""
        return self.type(U8 if dtype == BOOL else dtype)

    def head(self, name: str, operands: Sequence[str], threads: int) -> list[str]:
        """The lines with which a kernel begins, up to its operands: `operands` are their declarations but for `= where`."""
        raise NotImplementedError

    def literal(self, value: Any, dtype: DType) -> Literal:
        """A constant: an integer is taken modulo the width, a float rounded once."""
        self.type(dtype)
        if dtype == BOOL:
            return Literal("true" if value else "false", bool(value))
        if dtype in (F16, BF16):
            return Literal(f"ng_{SHORT_NAMES[dtype]}_of_bits(0x{int(np.asarray(value, dtype).view(np.uint16)):04X})")
        return Literal(self._float(value, dtype)) if dtype in FLOATS else self._integer(value, dtype)

    def _float(self, value: Any, dtype: DType) -> str:
        with np.errstate(all="ignore"):
            x = np.asarray(value, dtype)[()]
        if not np.isfinite(x):
            digits, integer = (8, np.uint32) if dtype == F32 else (16, np.uint64)
            suffix = "u" if dtype == F32 else f"u{self.long_suffix}"
            return f"ng_bitcast<{self.type(dtype)}>(0x{int(x.view(integer)):0{digits}X}{suffix})"
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


class Literal(str):
    """The text of a constant; of an integer or a bool `value` is what it says, else None."""

    value: int | None

    def __new__(cls, text: str, value: int | None = None) -> Literal:
        made = super().__new__(cls, text)
        made.value = value
        return made


class _Cuda(Dialect):
    def head(self, name: str, operands: Sequence[str], threads: int) -> list[str]:
        slots = ", ".join(f"int s{i}" for i in range(len(operands)))
        return [f'extern "C" __global__ void __launch_bounds__({threads})',
                f"{name}(void* const* table{', ' if slots else ''}{slots}) {{",
                *(f"  {declaration} = ({declaration.rpartition('*')[0]}*)table[s{i}];" for i, declaration in enumerate(operands))]


class _Metal(Dialect):
    def head(self, name: str, operands: Sequence[str], threads: int) -> list[str]:
        listed = [f"{declaration.replace('* const', '*')} [[buffer({i})]]" for i, declaration in enumerate(operands)]
        listed += ["uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]",
                   "uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]",
                   "uint3 threadgroups_per_grid [[threadgroups_per_grid]]"]
        return [f"[[kernel, max_total_threads_per_threadgroup({threads})]] void", f"{name}({', '.join(listed)}) {{"]


CUDA = _Cuda("CUDA", "static __device__ __forceinline__", "", "", "ll", "#pragma unroll", "threadIdx.x", "blockIdx.x", "gridDim.x", True)
METAL = _Metal("Metal", "static inline", "device ", "threadgroup ", "l", "_Pragma(\"unroll\")", "thread_position_in_threadgroup.x",
               "threadgroup_position_in_grid.x", "threadgroups_per_grid.x", False)
