"""Matrix products on the CPU: one batch-reduce routine a dtype, which every contraction and convolution calls.

    void gemm_f32(ptr a, i64 a_row, i64 a_col, ptr b, i64 b_row, i64 b_col, ptr c, i64 c_row, i64 m, i64 n, i64 k,
                  i64 batches, ptr a_offsets, ptr b_offsets, i64 accumulate, ptr scratch)
"""

from __future__ import annotations

from nagraph.backends.llvm import native
from nagraph.backends.llvm.gemm.routine import emit_routine, scratch_size
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.ir.types import DType


def gemm_module(dtype: DType, vector_nbytes: int | None = None, vector_registers: int | None = None) -> str:
    return emit_routine(_tile(dtype, vector_nbytes, vector_registers))


def scratch_nbytes(dtype: DType, vector_nbytes: int | None = None, vector_registers: int | None = None) -> int:
    return scratch_size(_tile(dtype, vector_nbytes, vector_registers))


def _tile(dtype: DType, nbytes: int | None, registers: int | None) -> Tile:
    return Tile(dtype, nbytes or native.vector_nbytes(), registers or native.vector_registers())
