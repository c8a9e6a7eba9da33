"""The micro-kernel: a tile of C held in registers while A and B stream by."""

from __future__ import annotations

from nagraph.backends.llvm.code import Code, Module, Reg, constant, i64
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.gemm.vectors import first_lanes, fma, load, splat, store

#: a, a_row, a_col, a_offsets, b, b_row, b_offsets, c, c_row, blocks, columns, k, batches, add, ahead, ahead_row
ARGUMENTS = ("ptr noalias", "i64", "i64", "ptr noalias", "ptr noalias", "i64", "ptr noalias", "ptr noalias", "i64",
             "i64", "i64", "i64", "i64", "i1", "ptr", "i64")
#: Fewest rows of a micro-kernel that has time to ask for what comes next.
AHEAD_ROWS = 4
AHEAD = True


def microkernel(module: Module, tile: Tile, name: str, rows: int, vectors: int) -> None:
    """C (+)= Σₜ AₜBₜ for `blocks` tiles of C one below another, each of so many rows and vectors; each sum is a chain of fma.

    B has unit steps along its rows. Columns from `columns` on are left alone: a call has more columns than half the
    vectors hold, so that the upper half alone needs masks.
    """
    code = module.function(name, "void", ARGUMENTS, linkage="internal")
    a, a_row, a_col, a_offsets, b, b_row, b_offsets, c, c_row, blocks, columns, k, batches, add, ahead, ahead_row = code.arguments
    masks = [first_lanes(code, tile.lanes, code.sub(columns, i64(j * tile.lanes))) if j >= vectors // 2 else None
             for j in range(vectors)]
    steps = [i64(0), a_row, code.mul(a_row, i64(2))]
    a_block, c_block = code.mul(a_row, i64(rows)), code.mul(c_row, i64(rows))
    starts = [code.mul(a_row, i64(i)) for i in range(0, rows, len(steps))]
    zeros = [constant(tile.vector, "0")] * (rows * vectors)
    with code.loop(i64(0), blocks, carried=(a, c, ahead, ahead_row), known=True) as down:
        a0, c, ahead, ahead_row = down.carried
        _prefetch(code, tile, c, c_row, rows, vectors)
        with code.loop(i64(0), batches, carried=[ahead, *zeros], known=True) as batch:
            a_here = code.offset(a0, tile.element, code.load("i64", code.offset(a_offsets, "i64", batch.index), 8))
            b_here = code.offset(b, tile.element, code.load("i64", code.offset(b_offsets, "i64", batch.index), 8))
            pointers = [code.offset(a_here, tile.element, start) for start in starts]
            with code.loop(i64(0), k, carried=(*pointers, b_here, *batch.carried), known=True) as along:
                *pointers, b_here, ahead = along.carried[:len(pointers) + 2]
                if rows >= AHEAD_ROWS and AHEAD:
                    for j in range(0, vectors * tile.nbytes, 64):
                        code.do(f"call void @llvm.prefetch.p0({code.offset(ahead, 'i8', i64(j))}, i32 0, i32 2, i32 1)")
                factors = [code.offset(pointers[i // len(steps)], tile.element, steps[i % len(steps)]) for i in range(rows)]
                sums = _outer(code, tile, factors, b_here, masks, along.carried[len(pointers) + 2:])
                a_step, b_step, ahead_step = (code.unary("freeze", step) for step in (a_col, b_row, ahead_row))
                along.carried = [*(code.offset(p, tile.element, a_step) for p in pointers),
                                 code.offset(b_here, tile.element, b_step), code.offset(ahead, tile.element, ahead_step), *sums]
            batch.carried = along.carried[len(pointers) + 1:]
        _put(code, tile, batch.carried[1:], c, c_row, masks, add)
        down.carried = [*(code.offset(p, tile.element, code.unary("freeze", s)) for p, s in ((a0, a_block), (c, c_block))), b, i64(0)]
    code.ret()


def _outer(code: Code, tile: Tile, factors: list[Reg], b: Reg, masks: list[Reg | None], sums: list[Reg]) -> list[Reg]:
    """Each row's sums plus the row's factor times a row of B."""
    found = list(sums)
    across = [load(code, tile.vector, code.offset(b, tile.element, i64(j * tile.lanes)), tile.size, mask)
              for j, mask in enumerate(masks)]
    for i, pointer in enumerate(factors):
        factor = splat(code, code.load(tile.element, pointer, tile.size), tile.vector)
        for j, x in enumerate(across):
            found[i * len(masks) + j] = fma(code, factor, x, sums[i * len(masks) + j])
    return found


def _put(code: Code, tile: Tile, sums: list[Reg], c: Reg, c_row: Reg, masks: list[Reg | None], add: Reg) -> None:
    """C = sums, or C + sums."""
    rows = len(sums) // len(masks)
    places = [code.offset(c, tile.element, code.mul(c_row, i64(i))) for i in range(rows)]
    pointers = [code.offset(p, tile.element, i64(j * tile.lanes)) for p in places for j in range(len(masks))]
    every = [(s, p, masks[n % len(masks)]) for n, (s, p) in enumerate(zip(sums, pointers))]
    adding, storing, done = code.fresh("add"), code.fresh("store"), code.fresh("done")
    code.branch(add, adding, storing)
    code.label(adding)
    for s, p, mask in every:
        store(code, code.binary("fadd", load(code, tile.vector, p, tile.size, mask), s), p, tile.size, mask)
    code.jump(done)
    code.label(storing)
    for s, p, mask in every:
        store(code, s, p, tile.size, mask)
    code.jump(done)
    code.label(done)


PREFETCH = True

def _prefetch(code: Code, tile: Tile, c: Reg, c_row: Reg, rows: int, vectors: int) -> None:
    """Ask for the tile of C before it is written."""
    if not PREFETCH: return
    code.module.declarations["pf"] = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
    for i in range(rows):
        place = code.offset(c, tile.element, code.mul(c_row, i64(i)))
        for j in range(0, vectors * tile.nbytes, 64):
            code.do(f"call void @llvm.prefetch.p0({code.offset(place, 'i8', i64(j))}, i32 1, i32 3, i32 1)")
