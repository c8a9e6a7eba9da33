"""Matrix products on the CPU: one batch-reduce routine a dtype, which every contraction and convolution calls.

    void gemm_f32(ptr a, i64 a_row, i64 a_col, ptr b, i64 b_row, i64 b_col, ptr c, i64 c_row, i64 m, i64 n, i64 k,
                  i64 batches, i64 taps, i64 depth, ptr a_offsets, ptr b_offsets, i64 accumulate, ptr scratch,
                  ptr prefetch_table)

    C[i, j] (+)= Σₜ Σₚ a[a_offsets[t] + i a_row + p a_col] b[b_offsets[t] + p b_row + j b_col]

gemm_f64 alike, and routines with register tiles and blocks of other sizes, such as gemm_f32_8x4x384 (`Tile.name`).
One thread runs it; i < m, j < n, p < k, t < batches. Strides and offsets count elements and may be zero or negative;
a null table of offsets stands for zeros. C has rows c_row apart with contiguous columns, and shares no memory with A,
B and scratch; nothing else of it is written. Without terms (k or batches zero) C becomes zero, or stays if accumulate
is not zero. scratch is memory of the thread's own, aligned to a cache line. prefetch_table is null, or a table of
memory that is asked for meanwhile: how many of its pieces are taken, how many there are, the address and the step of
each, and (any address, 0) in the end.

The order of additions is given: the terms of an element are cut into chains, of `taps` batches that go whole (then depth is k or
more), or of `depth` products of one batch (then taps is 1); both are positive, and no chain has more than CHAIN terms. Each chain is
summed by fma from zero, over t and then p; the chains' sums are added in order, to C first if accumulating. So an element has the same
bits whatever m, n, strides, addresses and vector width it is computed with, and NaN and inf go where fma takes them.

Source: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication (2008); Georganas et al.,
High-Performance Deep Learning via a Single Building Block (2019).
"""

from __future__ import annotations

from nagraph.backends.llvm.gemm.routine import emit_routine, scratch_size
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.ir.types import DType
from nagraph.schedule.form import Product
from nagraph.schedule.products import register_tile
from nagraph.schedule.target import Target


def gemm_module(dtype: DType, target: Target, product: Product | None = None) -> str:
    """The LLVM text that defines the routine of a dtype for a machine, of usual sizes unless others are given: `Tile.name` names it.

    Raises TypeError for other dtypes than f32 and f64.
    """
    return emit_routine(Tile(dtype, target, product or register_tile(dtype, target)))


def scratch_nbytes(dtype: DType, target: Target, product: Product | None = None) -> int:
    """The bytes of scratch that the routine needs, whatever the matrices."""
    return scratch_size(Tile(dtype, target, product or register_tile(dtype, target)))
