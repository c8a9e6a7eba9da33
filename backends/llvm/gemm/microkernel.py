"""The micro-kernel: a tile of C held in registers while A and B stream by."""

from __future__ import annotations

from nagraph.backends.llvm.code import Code, Module, Reg, constant, i64
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.gemm.vectors import first_lanes, fma, load, prefetch, splat, store

#: a, a_row, a_col, a_offsets, b, b_row, b_offsets, c, c_row, blocks, columns, k, batches, add, ahead, ahead_row
ARGUMENTS = ("ptr noalias", "i64", "i64", "ptr noalias", "ptr noalias", "i64", "ptr noalias", "ptr noalias", "i64",
             "i64", "i64", "i64", "i64", "i1", "ptr", "i64")
#: Fewest rows of a tile whose micro-kernel has time to ask for what comes next.
AHEAD_ROWS = 4
#: Rows of A that one pointer serves, at itself and so many strides behind it.
POINTER_ROWS = 3


def microkernel(module: Module, tile: Tile, name: str, rows: int, vectors: int) -> None:
    """C (+)= Σₜ AₜBₜ for `blocks` tiles of C one below another, each of so many rows and vectors; each sum is a chain of fma.

    B has unit steps along its rows. Columns from `columns` on are left alone: a call has more columns than half the
    vectors hold, so that the upper half alone needs masks. While the first tile is computed, memory at `ahead`, in
    steps of `ahead_row`, is brought into the second cache: it holds what the next call reads of B.
    """
    code = module.function(name, "void", ARGUMENTS, linkage="internal")
    a, a_row, a_col, a_offsets, b, b_row, b_offsets, c, c_row, blocks, columns, k, batches, add, ahead, ahead_row = code.arguments
    masks = [first_lanes(code, tile.lanes, code.sub(columns, i64(j * tile.lanes))) if j >= vectors // 2 else None
             for j in range(vectors)]
    steps = [code.mul(a_row, i64(i)) for i in range(POINTER_ROWS)]
    starts = [code.mul(a_row, i64(i)) for i in range(0, rows, POINTER_ROWS)]
    a_tile, c_tile = code.mul(a_row, i64(rows)), code.mul(c_row, i64(rows))
    zeros = [constant(tile.vector, "0")] * (rows * vectors)
    with code.loop(i64(0), blocks, carried=(a, c, ahead, ahead_row), known=True) as down:
        a, c, ahead, ahead_row = down.carried
        places = [code.offset(c, tile.element, code.mul(c_row, i64(i))) for i in range(rows)]
        for place in places:
            prefetch(code, place, vectors * tile.nbytes, write=True)
        with code.loop(i64(0), batches, carried=[ahead, *zeros], known=True) as batch:
            a_tap = code.offset(a, tile.element, code.load("i64", code.offset(a_offsets, "i64", batch.index), 8))
            b_tap = code.offset(b, tile.element, code.load("i64", code.offset(b_offsets, "i64", batch.index), 8))
            pointers = [b_tap, *(code.offset(a_tap, tile.element, start) for start in starts)]
            with code.loop(i64(0), k, carried=[*pointers, *batch.carried], known=True) as along:
                b_here, *a_here, ahead = along.carried[:len(pointers) + 1]
                if rows >= AHEAD_ROWS:
                    prefetch(code, ahead, vectors * tile.nbytes)
                factors = [code.offset(a_here[i // POINTER_ROWS], tile.element, steps[i % POINTER_ROWS]) for i in range(rows)]
                sums = _outer(code, tile, factors, b_here, masks, along.carried[len(pointers) + 1:])
                along.carried = [_next(code, tile, b_here, b_row), *(_next(code, tile, p, a_col) for p in a_here),
                                 _next(code, tile, ahead, ahead_row), *sums]
            batch.carried = along.carried[len(pointers):]
        _put(code, tile, batch.carried[1:], places, masks, add)
        down.carried = [_next(code, tile, a, a_tile), _next(code, tile, c, c_tile), b, i64(0)]
    code.ret()


def _next(code: Code, tile: Tile, pointer: Reg, step: Reg) -> Reg:
    """The pointer of the next turn. Code generation sees no constant step, else it would keep a pointer for every row of A."""
    return code.offset(pointer, tile.element, code.unary("freeze", step))


def _outer(code: Code, tile: Tile, factors: list[Reg], b: Reg, masks: list[Reg | None], sums: list[Reg]) -> list[Reg]:
    """Each row's sums plus the row's factor times a row of B."""
    found = []
    across = [load(code, tile.vector, code.offset(b, tile.element, i64(j * tile.lanes)), tile.size, mask)
              for j, mask in enumerate(masks)]
    for i, pointer in enumerate(factors):
        factor = splat(code, code.load(tile.element, pointer, tile.size), tile.vector)
        found += [fma(code, factor, x, sums[i * len(across) + j]) for j, x in enumerate(across)]
    return found


def _put(code: Code, tile: Tile, sums: list[Reg], places: list[Reg], masks: list[Reg | None], add: Reg) -> None:
    """C = sums, or C + sums."""
    every = [(code.offset(place, tile.element, i64(j * tile.lanes)), mask) for place in places for j, mask in enumerate(masks)]
    adding, storing, done = code.fresh("add"), code.fresh("store"), code.fresh("done")
    code.branch(add, adding, storing)
    code.label(adding)
    for x, (place, mask) in zip(sums, every):
        store(code, code.binary("fadd", load(code, tile.vector, place, tile.size, mask), x), place, tile.size, mask)
    code.jump(done)
    code.label(storing)
    for x, (place, mask) in zip(sums, every):
        store(code, x, place, tile.size, mask)
    code.jump(done)
    code.label(done)
