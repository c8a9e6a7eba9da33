"""The whole routine as a module: products that need no loops, narrow ones computed transposed, all others by blocks."""

from __future__ import annotations

from nagraph.backends.llvm.code import Code, Module, Reg, constant, i64
from nagraph.backends.llvm.gemm.block import ARGUMENTS, blocked, kernel_name, kernel_table, scratch_layout
from nagraph.backends.llvm.gemm.microkernel import microkernel
from nagraph.backends.llvm.gemm.packing import emit_copies
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.gemm.vectors import minimum

#: Columns of Cᵀ that a narrow product computes at a time.
NARROW_STEP = 1024


def emit_routine(tile: Tile) -> str:
    module = Module()
    kernel_table(module, tile)
    for rows in tile.heights:
        for vectors in tile.widths(rows):
            microkernel(module, tile, kernel_name(rows, vectors), rows, vectors)
    emit_copies(module, tile)
    blocked(module, tile, "blocked")
    _entry(module, tile)
    return str(module)


def scratch_size(tile: Tile) -> int:
    """Bytes of scratch: those of the blocks, and of a narrow Cᵀ behind them."""
    return scratch_layout(tile)["end"] + tile.lanes // 2 * NARROW_STEP * tile.size


def _entry(module: Module, tile: Tile) -> None:
    """A product of few columns is computed as Cᵀ (+)= Σₜ BₜᵀAₜᵀ: its rows of C fill vectors, its columns would not."""
    code = module.function(f"gemm_{tile.suffix}", "void", ARGUMENTS)
    a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, a_offsets, b_offsets, accumulate, scratch = code.arguments
    some = code.compare("icmp sgt", minimum(code, m, n), i64(0))
    with code.when(some):
        nothing = code.compare("icmp sle", minimum(code, k, batches), i64(0))
        narrow = code.binary("and", code.compare("icmp sle", n, i64(tile.lanes // 2)), code.compare("icmp sge", m, i64(tile.lanes)))
        empty, other, aside, straight, done = (code.fresh(name) for name in ("empty", "other", "narrow", "straight", "done"))
        code.branch(nothing, empty, other)
        code.label(empty)
        with code.when(code.compare("icmp eq", accumulate, i64(0))):
            _clear(code, tile, c, c_row, m, n)
        code.jump(done)
        code.label(other)
        code.branch(narrow, aside, straight)
        code.label(aside)
        _transposed(code, tile, scratch)
        code.jump(done)
        code.label(straight)
        code.call("blocked", "void", *code.arguments)
        code.jump(done)
        code.label(done)
    code.ret()


def _clear(code: Code, tile: Tile, c: Reg, c_row: Reg, m: Reg, n: Reg) -> None:
    with code.loop(i64(0), m, known=True) as down, code.loop(i64(0), n, known=True) as across:
        place = code.add(code.mul(down.index, c_row), across.index)
        code.store(constant(tile.element, "0.0"), code.offset(c, tile.element, place), tile.size)


def _transposed(code: Code, tile: Tile, scratch: Reg) -> None:
    a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, a_offsets, b_offsets, accumulate, _ = code.arguments
    turned = code.offset(scratch, "i8", i64(scratch_layout(tile)["end"]))
    with code.loop(i64(0), m, NARROW_STEP, known=True) as down:
        rows = minimum(code, i64(NARROW_STEP), code.sub(m, down.index))
        a_here, c_here = (code.offset(p, tile.element, code.mul(down.index, row)) for p, row in ((a, a_row), (c, c_row)))
        _move(code, tile, c_here, c_row, i64(1), turned, i64(1), i64(NARROW_STEP), rows, n)
        code.call("blocked", "void", b, b_col, b_row, a_here, a_col, a_row, turned, i64(NARROW_STEP), n, rows, k, batches,
                  b_offsets, a_offsets, accumulate, scratch)
        _move(code, tile, turned, i64(1), i64(NARROW_STEP), c_here, c_row, i64(1), rows, n)


def _move(code: Code, tile: Tile, source: Reg, source_row: Reg, source_col: Reg, to: Reg, to_row: Reg, to_col: Reg,
          rows: Reg, columns: Reg) -> None:
    with code.loop(i64(0), rows, known=True) as down:
        here = code.offset(source, tile.element, code.mul(down.index, source_row))
        there = code.offset(to, tile.element, code.mul(down.index, to_row))
        with code.loop(i64(0), columns, known=True) as across:
            x = code.load(tile.element, code.offset(here, tile.element, code.mul(across.index, source_col)), tile.size)
            code.store(x, code.offset(there, tile.element, code.mul(across.index, to_col)), tile.size)
