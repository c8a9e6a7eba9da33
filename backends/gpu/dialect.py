"""Dialects: the words in which CUDA C++ and the Metal Shading Language differ. Whatever else differs is in `headers/nagraph_gpu.h`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nagraph.c_text.words import Words
from nagraph.ir.types import SHORT_NAMES, DType

#: What C calls the dtypes for which it has a name of its own; the header has the others by their short names.
C_NAMES = {"f32": "float", "f64": "double", "i32": "int", "bool": "bool"}
TYPES = {d: C_NAMES.get(n, n) for d, n in SHORT_NAMES.items()}


@dataclass(frozen=True)
class Dialect(Words):
    """A dialect for GPUs: the words of C, and those of a GPU. The functions of the header are overloaded, so dtypes do not name them.

    device, shared: how pointers to device memory and to shared memory begin. unrolled: the line before a loop that is unrolled.
    thread, block, blocks: the number of the thread in its block, of the block, and how many blocks there are.
    """

    device: str
    shared: str
    unrolled: str
    thread: str
    block: str
    blocks: str

    def helper(self, name: str, dtype: DType) -> str:
        return f"ng_{name}"

    def bitcast(self, dtype: DType, source: DType) -> str:
        return f"ng_bitcast<{self.type(dtype)}>"

    def head(self, name: str, operands: Sequence[str], threads: int) -> list[str]:
        """The lines with which a kernel begins, up to its operands: `operands` are their declarations but for `= where`."""
        raise NotImplementedError


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


CUDA = _Cuda("CUDA", TYPES, "static __device__ __forceinline__", "ll", True, "", "", "#pragma unroll", "threadIdx.x", "blockIdx.x",
             "gridDim.x")
METAL = _Metal("Metal", TYPES, "static inline", "l", False, "device ", "threadgroup ", "_Pragma(\"unroll\")",
               "thread_position_in_threadgroup.x", "threadgroup_position_in_grid.x", "threadgroups_per_grid.x")
