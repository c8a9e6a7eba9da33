"""The whole routine as a module: products without terms, those of few columns, and all others, which go by blocks."""

from __future__ import annotations

from nagraph.backends.llvm.code import Code, Module, Reg, constant, i64
from nagraph.backends.llvm.gemm.block import ARGUMENTS, blocked, kernel_name, kernel_table, scratch_layout
from nagraph.backends.llvm.gemm.microkernel import microkernel
from nagraph.backends.llvm.gemm.packing import emit_copies
from nagraph.backends.llvm.gemm.row_product import row_product
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.gemm.vectors import minimum

#: Columns of Cᵀ that a product of few columns computes at a time.
TURNED_COLUMNS = 1024


def emit_routine(tile: Tile) -> str:
    module = Module()
    kernel_table(module, tile)
    for rows in tile.heights:
        for vectors in tile.widths(rows):
            microkernel(module, tile, kernel_name(rows, vectors), rows, vectors)
    emit_copies(module, tile)
    row_product(module, tile, "row_product")
    blocked(module, tile, "blocked")
    _entry(module, tile, f"gemm_{tile.suffix}")
    return str(module)


def scratch_size(tile: Tile) -> int:
    """Bytes of scratch: what the blocks need, and behind it Cᵀ of a product of few columns, with whole squares to turn C."""
    return scratch_layout(tile)["end"] + tile.lanes * TURNED_COLUMNS * tile.size


def _entry(module: Module, tile: Tile, name: str) -> None:
    code = module.function(name, "void", ARGUMENTS)
    a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, a_offsets, b_offsets, accumulate, scratch = code.arguments
    empty, some, few, many, done = (code.fresh(block) for block in ("empty", "some", "few", "many", "done"))
    with code.when(code.compare("icmp sgt", minimum(code, m, n), i64(0))):
        code.branch(code.compare("icmp sgt", minimum(code, k, batches), i64(0)), some, empty)
        code.label(empty)
        with code.when(code.compare("icmp eq", accumulate, i64(0))):
            _clear(code, tile, c, c_row, m, n)
        code.jump(done)
        code.label(some)
        narrow = code.compare("icmp sle", n, i64(3 * tile.lanes // 8)), code.compare("icmp sge", m, i64(tile.lanes))
        code.branch(code.binary("and", *narrow), few, many)
        code.label(few)
        _turned(code, tile)
        code.jump(done)
        code.label(many)
        code.call("blocked", "void", *code.arguments)
        code.jump(done)
        code.label(done)
    code.ret()


def _clear(code: Code, tile: Tile, c: Reg, c_row: Reg, m: Reg, n: Reg) -> None:
    with code.loop(i64(0), m, known=True) as down, code.loop(i64(0), n, known=True) as across:
        place = code.add(code.mul(down.index, c_row), across.index)
        code.store(constant(tile.element, "0.0"), code.offset(c, tile.element, place), tile.size)


def _turned(code: Code, tile: Tile) -> None:
    """Cᵀ (+)= Σₜ BₜᵀAₜᵀ, whose rows fill vectors where those of C would not; the products and their order are the same."""
    a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, a_offsets, b_offsets, accumulate, scratch = code.arguments
    turned, columns = code.offset(scratch, "i8", i64(scratch_layout(tile)["end"])), i64(TURNED_COLUMNS)
    with code.loop(i64(0), m, TURNED_COLUMNS, known=True) as down:
        rows = minimum(code, columns, code.sub(m, down.index))
        a_here, c_here = (code.offset(p, tile.element, code.mul(down.index, row)) for p, row in ((a, a_row), (c, c_row)))
        with code.when(code.compare("icmp ne", accumulate, i64(0))):
            code.call("transpose", "void", turned, columns, c_here, i64(1), c_row, n, rows)
        code.call("blocked", "void", b, b_col, b_row, a_here, a_col, a_row, turned, columns, n, rows, k, batches, b_offsets, a_offsets,
                  accumulate, scratch)
        code.call("gather", "void", c_here, c_row, turned, i64(1), columns, rows, n)
