"""Grid rows: a kernel with matrix products whose rows are the last axis of the grid takes a block of these rows for a unit.

A product goes through the whole block in one call of the routine. Stages between two products go through it row by row. A kernel
that is one product and nothing else is cut along the columns as well.
"""

from __future__ import annotations

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.contraction import column_count, columns_from, emit_product, prefetching, scratch
from nagraph.backends.llvm.emission.kernel_function import unit_loop
from nagraph.backends.llvm.emission.prefetch import PrefetchQueue, accesses
from nagraph.backends.llvm.emission.row_blocks import ranges
from nagraph.backends.llvm.emission.stage import StageLoops
from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, i64
from nagraph.backends.llvm.text.lanes import memory_type
from nagraph.kernel.contraction import Contraction
from nagraph.kernel.form import Stage
from nagraph.kernel.row_blocks import triangle_of_rows
from nagraph.plan.plan import aligned
from nagraph.schedule.form import Rows
from nagraph.schedule.realise import blocks_along, blocks_per_unit, column_blocks, groups_of, parts_of, staged_tiles


class GridRows:
    """The units of a kernel: blocks of `rows` of the `extent` rows by blocks of columns, `column_blocks` of them."""

    def __init__(self, context: EmissionContext, units: Rows):
        kernel = context.kernel
        self.context, self.kernel, self.last = context, kernel, kernel.grid - 1
        self.rows, self.columns, self.column_blocks = units.rows, units.columns, column_blocks(kernel, units)
        self.causal = triangle_of_rows(kernel) if units.triangle else None
        self.parts, self.outputs = parts_of(kernel, context.schedule)
        self.groups = groups_of(self.parts)
        memory = staged_tiles(kernel, self.groups) - set(self.outputs)
        context.spilled = {i for i in memory if kernel.tiles[i].size == 1}
        self.extent = kernel.axes[self.last] if kernel.grid else 1
        self.nbytes = context.tile_memory({i: kernel.tiles[i].size * self.rows for i in sorted(memory)})
        context.block_tiles = dict(context.tiles)
        self.extents = blocks_along(kernel, units)

    def emit(self) -> int:
        """Write the units; the bytes of scratch that they need."""
        context, code, kernel = self.context, self.context.code, self.kernel
        per_unit = blocks_per_unit(kernel, self.extents)
        with unit_loop(context, per_unit) as loop:
            unit, column, ahead = loop.index, i64(0), PrefetchQueue(context)
            if kernel.grid and self.column_blocks == 1:
                context.locate(code.add(unit, i64(1)), self.extents)
                context.at[self.last] = code.mul(context.at[self.last], i64(self.rows))
                ahead.add((a for p in self.parts if isinstance(p, Contraction) for a in accesses(kernel, [p.stage], self.rows)), context.at)
            if self.column_blocks > 1:
                column = code.mul(code.emit("i64", f"urem {unit}, {self.column_blocks}"), i64(self.columns))
                unit = code.emit("i64", f"udiv {unit}, {self.column_blocks}")
            context.locate(unit, self.extents)
            self._block(column, ahead)
        behind = max(scratch(context, p) for p in self.parts if isinstance(p, Contraction))
        return aligned(self.nbytes) + behind

    def _block(self, column: Reg, ahead: PrefetchQueue) -> None:
        """One block, from where the grid stands. ahead: what the first product can prefetch of the next block."""
        context, code, kernel = self.context, self.context.code, self.kernel
        first, count = i64(0), i64(1)
        if kernel.grid:
            first = code.mul(context.at[self.last], i64(self.rows))
            count = _rows_of_block(code, code.sub(i64(self.extent), first), self.rows, self.extent)
        stop, bases, requests = code.add(first, count), context.block_tiles, PrefetchQueue(context)
        for n, group in enumerate(self.groups):
            if isinstance(group, Contraction):
                if kernel.grid:
                    context.at[self.last] = first
                following = self.groups[n + 1] if n + 1 < len(self.groups) else None
                if isinstance(following, list):
                    requests.add(accesses(kernel, following, self.rows), context.at)
                if n == 0:
                    requests.waiting += ahead.waiting
                prefetch_table = requests.table(*prefetching(context, group, self.rows))
                self._restrict(group.stage, first, stop)
                width = columns_from(code, column, self.columns, group.n) if self.column_blocks > 1 else column_count(context, group)
                tile, target = bases.get(group.tile), self.outputs.get(group.tile)
                emit_product(context, group, tile, target, count, column, width, aligned(self.nbytes), prefetch_table)
                continue
            context.registers.clear()
            with code.loop(i64(0), count, 1, known=True) as row:
                if kernel.grid:
                    context.at[self.last] = code.add(first, row.index)
                for i, base in bases.items():
                    tile = kernel.tiles[i]
                    context.tiles[i] = code.offset(base, memory_type(tile.dtype), code.mul(row.index, i64(tile.size)))
                for stage in group:
                    self._restrict(stage, first, stop)
                    StageLoops(context, stage).emit()

    def _restrict(self, stage: Stage, first: Reg, stop: Reg) -> None:
        """Of a triangle, let the stage compute the columns alone that a row of the block sees."""
        if self.causal is not None:
            n = next(n for n, s in enumerate(self.kernel.stages) if s is stage)
            self.context.ranges = ranges(None, self.causal.columns[n], first, stop, self.rows)
            self.context.conditions = self.causal.conditions[n]


def _rows_of_block(code: FunctionBuilder, left: Reg, rows: int, extent: int) -> Reg:
    """The rows of this block: `rows`, or the `left` ones if these are fewer."""
    if extent % rows == 0:
        return i64(rows)
    return code.emit("i64", f"call i64 @llvm.smin.i64({left}, i64 {rows})")
