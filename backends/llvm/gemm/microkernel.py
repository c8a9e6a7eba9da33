"""The micro-kernel: a tile of C held in registers while A and B stream by."""

from __future__ import annotations

from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.text.builder import FunctionBuilder, Module, Reg, constant, i64, vector
from nagraph.backends.llvm.text.vectors import first_lanes, fma, load, minimum, prefetch, splat, store

#: a, a_row, a_col, a_offsets, b, b_row, b_offsets, c, c_row, blocks, columns, k, batches, add, ahead, ahead_row, prefetch_table
ARGUMENTS = ("ptr noalias", "i64", "i64", "ptr noalias", "ptr noalias", "i64", "ptr noalias", "ptr noalias", "i64",
             "i64", "i64", "i64", "i64", "i1", "ptr", "i64", "ptr")
#: Fewest rows of a tile whose micro-kernel has time to ask for what comes next.
AHEAD_ROWS = 4
#: Rows of A that one pointer serves, at itself and so many strides behind it.
POINTER_ROWS = 3


def microkernel(module: Module, tile: Tile, name: str, rows: int, width: int) -> None:
    """C (+)= Σₜ AₜBₜ for `blocks` tiles of C one below another, of so many rows and columns; each sum is a chain of fma.

    B has unit steps along its rows. Columns from `columns` on are left alone: there are more of them than half the width,
    so that of several vectors the upper half alone needs masks. Without masks one vector is whole, and of several the last ones
    lie so far back that they are: columns in two of them are computed twice, with the same result.

    While the first tile is computed, memory at `ahead`, in steps of `ahead_row`, is brought into the second cache: what the
    next call reads of B, or, where B ends, a piece from `prefetch_table`. Each further tile takes a piece of this table:
    [taken, count, (address, step) of each piece, (address, 0) in the end].
    """
    code = module.function(name, "void", ARGUMENTS, linkage="internal")
    a, a_row, a_col, a_offsets, b, b_row, b_offsets, c, c_row, blocks, columns, k, batches, add, ahead, ahead_row, prefetch_table = (
        code.arguments)
    row = _Row(code, tile, width, columns)
    steps = [code.mul(a_row, i64(i)) for i in range(POINTER_ROWS)]
    starts = [code.mul(a_row, i64(i)) for i in range(0, rows, POINTER_ROWS)]
    a_tile, c_tile = code.mul(a_row, i64(rows)), code.mul(c_row, i64(rows))
    zeros = [constant(row.kind, "0.0")] * (rows * len(row.masks))
    with code.loop(i64(0), blocks, carried=(a, c, ahead, ahead_row), known=True) as down:
        a, c, ahead, ahead_row = down.carried
        places = [code.offset(c, tile.element, code.mul(c_row, i64(i))) for i in range(rows)]
        for place in places:
            prefetch(code, place, width * tile.size, write=True)
        with code.loop(i64(0), batches, carried=[ahead, *zeros], known=True) as batch:
            a_tap = code.offset(a, tile.element, code.load("i64", code.offset(a_offsets, "i64", batch.index), 8))
            b_tap = code.offset(b, tile.element, code.load("i64", code.offset(b_offsets, "i64", batch.index), 8))
            pointers = [b_tap, *(code.offset(a_tap, tile.element, start) for start in starts)]
            with code.loop(i64(0), k, carried=[*pointers, *batch.carried], known=True) as along:
                b_here, *a_here, ahead = along.carried[:len(pointers) + 1]
                if rows >= AHEAD_ROWS:
                    prefetch(code, ahead, width * tile.size)
                factors = [code.offset(a_here[i // POINTER_ROWS], tile.element, steps[i % POINTER_ROWS]) for i in range(rows)]
                sums = _outer(code, tile, factors, row, b_here, along.carried[len(pointers) + 1:])
                along.carried = [_next(code, tile, b_here, b_row), *(_next(code, tile, p, a_col) for p in a_here),
                                 _next(code, tile, ahead, ahead_row), *sums]
            batch.carried = along.carried[len(pointers):]
        _put(code, batch.carried[1:], row, places, add)
        more = code.convert("zext", code.compare("icmp slt", code.add(down.index, i64(1)), blocks), "i64")
        down.carried = [_next(code, tile, a, a_tile), _next(code, tile, c, c_tile), *take(code, prefetch_table, more)]
    code.ret()


def take(code: FunctionBuilder, prefetch_table: Reg, more: Reg) -> tuple[Reg, Reg]:
    """The address and step of the next piece of the table, of the last one if all are taken. It is taken if `more` is 1, not 0."""
    taken, count = (code.load("i64", code.offset(prefetch_table, "i64", i64(n)), 8) for n in range(2))
    following = code.intrinsic("smin", "i64", code.add(taken, more), count)
    code.store(following, prefetch_table, 8)
    address, step = (code.load("i64", code.offset(prefetch_table, "i64", code.add(code.add(taken, taken), i64(n))), 8) for n in (2, 3))
    return code.emit("ptr", f"inttoptr {address} to ptr"), step


class _Row:
    """A row of B or C as vectors, of which the last ones are masked or, without masks, end where the columns do."""

    def __init__(self, code: FunctionBuilder, tile: Tile, width: int, columns: Reg):
        lanes = min(width, tile.lanes)
        self.code, self.tile, self.kind = code, tile, vector(lanes, tile.element)
        self.starts = [i64(j) for j in range(0, width, lanes)]
        sure = len(self.starts) // 2
        self.masks: list[Reg | None] = [None] * len(self.starts)
        if tile.masks:
            self.masks[sure:] = [first_lanes(code, lanes, code.sub(columns, j)) for j in self.starts[sure:]]
        elif sure:
            last = code.sub(columns, i64(lanes))
            self.starts[sure:] = [minimum(code, j, last) for j in self.starts[sure:]]

    def load(self, pointer: Reg) -> list[Reg]:
        places = [self.code.offset(pointer, self.tile.element, j) for j in self.starts]
        return [load(self.code, self.kind, p, self.tile.size, mask) for p, mask in zip(places, self.masks)]

    def store(self, values: list[Reg], pointer: Reg) -> None:
        places = [self.code.offset(pointer, self.tile.element, j) for j in self.starts]
        for x, p, mask in zip(values, places, self.masks):
            store(self.code, x, p, self.tile.size, mask)


def _next(code: FunctionBuilder, tile: Tile, pointer: Reg, step: Reg) -> Reg:
    """The pointer of the next iteration. Code generation sees no constant step, else it would keep a pointer for every row of A."""
    return code.offset(pointer, tile.element, code.unary("freeze", step))


def _outer(code: FunctionBuilder, tile: Tile, factors: list[Reg], row: _Row, b: Reg, sums: list[Reg]) -> list[Reg]:
    """Each row's sums plus the row's factor times a row of B."""
    found = []
    across = row.load(b)
    for i, pointer in enumerate(factors):
        factor = splat(code, code.load(tile.element, pointer, tile.size), row.kind)
        found += [fma(code, factor, x, sums[i * len(across) + j]) for j, x in enumerate(across)]
    return found


def _put(code: FunctionBuilder, sums: list[Reg], row: _Row, places: list[Reg], add: Reg) -> None:
    """C = sums, or C + sums."""
    rows = [(sums[i * len(row.masks):(i + 1) * len(row.masks)], place) for i, place in enumerate(places)]
    adding, storing, done = code.fresh("add"), code.fresh("store"), code.fresh("done")
    code.branch(add, adding, storing)
    code.label(adding)
    for values, place in rows:
        row.store([code.binary("fadd", before, x) for before, x in zip(row.load(place), values)], place)
    code.jump(done)
    code.label(storing)
    for values, place in rows:
        row.store(values, place)
    code.jump(done)
    code.label(done)
