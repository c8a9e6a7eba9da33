"""One row times a large matrix: B is read once, from memory, several rows side by side.

Strips of a few vectors, as the micro-kernels have them, would leave each row of B after some hundred bytes. Here several rows of B
stream by side by side, each for as long as the panel is wide; the sums, one for each column, stand in the first cache. They
are the chains of fma of the micro-kernels, so the result has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

from nagraph.backends.llvm.gemm.loop_nest import ARGUMENTS, scratch_layout
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.text.builder import FunctionBuilder, Module, Reg, constant, i64
from nagraph.backends.llvm.text.vectors import first_lanes, fma, load, minimum, splat, store

#: Rows of B that are read at a time, vectors of each at a time, and columns of a panel, whose sums fill a part of the first cache.
ROWS, VECTORS, PANEL = 8, 4, 2048


def streamed(module: Module, tile: Tile, name: str) -> None:
    """c (+)= a B for n, k > 0 and a B with unit columns: the function `name` with the arguments of all, of which m and batches are 1."""
    code = module.function(name, "void", ARGUMENTS, linkage="internal")
    a, _, a_col, b, b_row, _, c, _, _, n, k, _, _, depth, _, _, accumulate, scratch, _ = code.arguments
    stream = _Stream(code, tile, code.offset(scratch, "i8", i64(scratch_layout(tile)["b_strip"])))
    with code.loop(i64(0), n, PANEL, known=True) as across, code.loop(i64(0), k, depth, known=True) as along:
        columns, steps = minimum(code, i64(PANEL), code.sub(n, across.index)), minimum(code, depth, code.sub(k, along.index))
        a_here = code.offset(a, tile.element, code.mul(along.index, a_col))
        b_here = code.offset(b, tile.element, code.add(across.index, code.mul(along.index, b_row)))
        whole = code.binary("and", steps, i64(-ROWS))
        for rows, start, stop in ((ROWS, i64(0), whole), (1, whole, steps)):
            with code.loop(start, stop, rows) as down:
                stream.add(rows, down.index, columns, code.offset(a_here, tile.element, code.mul(down.index, a_col)), a_col,
                           code.offset(b_here, tile.element, code.mul(down.index, b_row)), b_row)
        first = code.compare("icmp eq", along.index, i64(0))
        stream.put(code.offset(c, tile.element, across.index), columns, code.select(first, accumulate, i64(1)))
    code.ret()


class _Stream:
    """The sums of a panel's columns, in memory."""

    def __init__(self, code: FunctionBuilder, tile: Tile, sums: Reg):
        self.code, self.tile, self.sums = code, tile, sums

    def add(self, rows: int, done: Reg, columns: Reg, a: Reg, a_col: Reg, b: Reg, b_row: Reg) -> None:
        """Add `rows` products to each sum, after those that are `done`."""
        code, tile = self.code, self.tile
        factors = [splat(code, code.load(tile.element, code.offset(a, tile.element, code.mul(a_col, i64(r))), tile.size), tile.vector)
                   for r in range(rows)]
        places = [code.offset(b, tile.element, code.mul(b_row, i64(r))) for r in range(rows)]
        begins = code.compare("icmp eq", done, i64(0))

        def strip(x: Reg, masks: list[Reg | None]) -> None:
            for i, mask in enumerate(masks):
                at = code.add(x, i64(i * tile.lanes))
                here = code.offset(self.sums, tile.element, at)
                total = code.select(begins, constant(tile.vector, "0"), code.load(tile.vector, here, tile.size))
                for factor, place in zip(factors, places):
                    total = fma(code, factor, load(code, tile.vector, code.offset(place, tile.element, at), tile.size, mask), total)
                code.store(total, here, tile.size)

        self._strips(columns, strip)

    def put(self, c: Reg, columns: Reg, accumulate: Reg) -> None:
        """C = sums, or C + sums."""
        code, tile = self.code, self.tile
        add = code.compare("icmp ne", accumulate, i64(0))

        def strip(x: Reg, masks: list[Reg | None]) -> None:
            for i, mask in enumerate(masks):
                at = code.add(x, i64(i * tile.lanes))
                there, total = code.offset(c, tile.element, at), code.load(tile.vector, code.offset(self.sums, tile.element, at), tile.size)
                both = code.binary("fadd", load(code, tile.vector, there, tile.size, mask), total)
                store(code, code.select(add, both, total), there, tile.size, mask)

        self._strips(columns, strip)

    def _strips(self, columns: Reg, strip: Callable[[Reg, list[Reg | None]], None]) -> None:
        """Whole strips of the columns, then the last one with masks."""
        code, lanes = self.code, self.tile.lanes
        whole = code.binary("and", columns, i64(-VECTORS * lanes))
        with code.loop(i64(0), whole, VECTORS * lanes) as across:
            strip(across.index, [None] * VECTORS)
        with code.when(code.compare("icmp slt", whole, columns)):
            strip(whole, [first_lanes(code, lanes, code.sub(columns, code.add(whole, i64(i * lanes)))) for i in range(VECTORS)])
