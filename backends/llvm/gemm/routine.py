"""The whole routine as a module: most products go by blocks, those of few columns may be computed transposed."""

from __future__ import annotations

from nagraph.backends.llvm.gemm.loop_nest import ARGUMENTS, blocked, kernel_name, kernel_table, scratch_layout
from nagraph.backends.llvm.gemm.microkernel import microkernel
from nagraph.backends.llvm.gemm.packing import emit_copies
from nagraph.backends.llvm.gemm.stream import streamed
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.text.builder import FunctionBuilder, Module, Reg, constant, i64
from nagraph.backends.llvm.text.vectors import minimum

#: Columns of Cᵀ that are computed at a time.
TRANSPOSED_COLUMNS = 512


def emit_routine(tile: Tile) -> str:
    """The text of the module that defines the routine for a tile's dtype and machine."""
    module = Module(tile.target)
    kernel_table(module, tile)
    for rows in tile.heights:
        for width in tile.widths(rows):
            microkernel(module, tile, kernel_name(rows, width), rows, width)
    emit_copies(module, tile)
    blocked(module, tile, "blocked")
    streamed(module, tile, "streamed")
    _entry(module, tile, tile.name)
    return str(module)


def scratch_size(tile: Tile) -> int:
    """Bytes of scratch: what the blocks need, and behind it Cᵀ of few columns, with room for whole squares to transpose C."""
    return scratch_layout(tile)["end"] + tile.lanes * TRANSPOSED_COLUMNS * tile.size


def _entry(module: Module, tile: Tile, name: str) -> None:
    """The entry of the routine: it chooses how C is computed.

    Cᵀ (+)= Σₜ BₜᵀAₜᵀ has the same products in the same order. It is computed instead of C for few columns if A has unit rows
    (then those of Cᵀ fill vectors, and nothing needs packing), and for one row if B has unit rows (they are the rows of Bᵀ,
    which need no packing either). One row times a B with unit columns of more than half the second cache streams. All other products go
    by blocks.
    """
    code = module.function(name, "void", ARGUMENTS)
    (a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, taps, depth, a_offsets, b_offsets, accumulate, scratch,
     prefetch_table) = code.arguments
    with code.when(code.compare("icmp sgt", minimum(code, m, n), i64(0))):
        empty, some, transposed, other, row, straight, stream, blocks, done = (
            code.fresh(block) for block in ("empty", "some", "transposed", "other", "row", "straight", "stream", "blocks", "done"))
        code.branch(code.compare("icmp sgt", minimum(code, k, batches), i64(0)), some, empty)
        code.label(empty)
        with code.when(code.compare("icmp eq", accumulate, i64(0))):
            _clear(code, tile, c, c_row, m, n)
        code.jump(done)
        code.label(some)
        b_col = code.select(code.compare("icmp eq", n, i64(1)), i64(1), b_col)
        few, tall = code.compare("icmp sle", n, i64(tile.lanes // 4)), code.compare("icmp sge", m, i64(tile.lanes))
        code.branch(_all(code, few, tall, code.compare("icmp eq", a_row, i64(1))), transposed, other)
        code.label(transposed)
        _by_transpose(code, tile)
        code.jump(done)
        code.label(other)
        unit, strided = code.compare("icmp eq", b_row, i64(1)), code.compare("icmp ne", b_col, i64(1))
        code.branch(_all(code, code.compare("icmp eq", m, i64(1)), unit, strided), row, straight)
        code.label(row)
        code.call("blocked", "void", b, b_col, b_row, a, a_col, i64(1), c, i64(1), n, m, k, batches, taps, depth, b_offsets, a_offsets,
                  accumulate, scratch, prefetch_table)
        code.jump(done)
        code.label(straight)
        large = code.compare("icmp sge", code.mul(b_row, k), i64(tile.target.near_nbytes // 2 // tile.size))
        alone = code.binary("and", code.compare("icmp eq", m, i64(1)), code.compare("icmp eq", batches, i64(1)))
        plain = [code.compare("icmp eq", table, Reg("ptr", "null")) for table in (a_offsets, b_offsets)]
        code.branch(_all(code, large, alone, *plain, code.compare("icmp eq", b_col, i64(1))), stream, blocks)
        code.label(stream)
        code.call("streamed", "void", *code.arguments)
        code.jump(done)
        code.label(blocks)
        code.call("blocked", "void", a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, taps, depth, a_offsets, b_offsets,
                  accumulate, scratch, prefetch_table)
        code.jump(done)
        code.label(done)
    code.ret()


def _all(code: FunctionBuilder, *conditions: Reg) -> Reg:
    found, *rest = conditions
    for condition in rest:
        found = code.binary("and", found, condition)
    return found


def _clear(code: FunctionBuilder, tile: Tile, c: Reg, c_row: Reg, m: Reg, n: Reg) -> None:
    with code.loop(i64(0), m, known=True) as down, code.loop(i64(0), n, known=True) as across:
        place = code.add(code.mul(down.index, c_row), across.index)
        code.store(constant(tile.element, "0.0"), code.offset(c, tile.element, place), tile.size)


def _by_transpose(code: FunctionBuilder, tile: Tile) -> None:
    """Compute Cᵀ in scratch, TRANSPOSED_COLUMNS columns at a time, and copy it to C."""
    (a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, taps, depth, a_offsets, b_offsets, accumulate, scratch,
     prefetch_table) = code.arguments
    transposed, step = code.offset(scratch, "i8", i64(scratch_layout(tile)["end"])), i64(TRANSPOSED_COLUMNS)
    with code.loop(i64(0), m, TRANSPOSED_COLUMNS, known=True) as down:
        columns = minimum(code, step, code.sub(m, down.index))
        a_here, c_here = (code.offset(p, tile.element, code.mul(down.index, row)) for p, row in ((a, a_row), (c, c_row)))
        with code.when(code.compare("icmp ne", accumulate, i64(0))):
            code.call("transpose", "void", transposed, step, c_here, i64(1), c_row, n, columns)
        code.call("blocked", "void", b, b_col, b_row, a_here, a_col, a_row, transposed, step, n, columns, k, batches, taps, depth,
                  b_offsets, a_offsets, accumulate, scratch, prefetch_table)
        code.call("gather", "void", c_here, c_row, transposed, i64(1), step, columns, n)
