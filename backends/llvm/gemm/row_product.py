"""A row times a matrix with contiguous columns: squares of it are turned in registers, used once, and never packed."""

from __future__ import annotations

from nagraph.backends.llvm.code import Module, constant, i64
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.gemm.vectors import first_lanes, fma, load, minimum, splat, store

#: a, a_col, a_offsets, b, b_col, b_offsets, c, columns, k, batches, add
ARGUMENTS = ("ptr noalias", "i64", "ptr noalias", "ptr noalias", "i64", "ptr noalias", "ptr noalias", "i64", "i64", "i64", "i1")


def row_product(module: Module, tile: Tile, name: str) -> None:
    """c (+)= Σₜ aₜBₜ for rows c and a, where B has unit steps along its columns: the sums of the micro-kernels, bit for bit."""
    code = module.function(name, "void", ARGUMENTS, linkage="internal")
    a, a_col, a_offsets, b, b_col, b_offsets, c, columns, k, batches, add = code.arguments
    lanes = i64(tile.lanes)
    turned = code.reserve(tile.vector, tile.lanes)
    with code.loop(i64(0), columns, tile.lanes, known=True) as across:
        left = code.sub(columns, across.index)
        mask = first_lanes(code, tile.lanes, left)
        c_here, b_here = code.offset(c, tile.element, across.index), code.offset(b, tile.element, code.mul(across.index, b_col))
        with code.loop(i64(0), batches, carried=[constant(tile.vector, "0")], known=True) as batch:
            a_tap = code.offset(a, tile.element, code.load("i64", code.offset(a_offsets, "i64", batch.index), 8))
            b_tap = code.offset(b_here, tile.element, code.load("i64", code.offset(b_offsets, "i64", batch.index), 8))
            with code.loop(i64(0), k, tile.lanes, carried=[a_tap, *batch.carried], known=True) as along:
                rows = code.sub(k, along.index)
                code.call("square", "void", turned, lanes, code.offset(b_tap, tile.element, along.index), b_col, rows, left)
                with code.loop(i64(0), minimum(code, rows, lanes), carried=along.carried, known=True) as row:
                    factor, total = row.carried
                    x = code.load(tile.vector, code.offset(turned, tile.vector, row.index), tile.nbytes)
                    total = fma(code, splat(code, code.load(tile.element, factor, tile.size), tile.vector), x, total)
                    row.carried = [code.offset(factor, tile.element, a_col), total]
                along.carried = row.carried
            batch.carried = along.carried[1:]
        (total,) = batch.carried
        before = load(code, tile.vector, c_here, tile.size, code.select(add, mask, constant(mask.type, "false")))
        store(code, code.select(add, code.binary("fadd", before, total), total), c_here, tile.size, mask)
    code.ret()
