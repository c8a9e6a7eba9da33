"""Grid rows: a kernel with matrix products whose rows are the last axis of the grid takes a block of these rows for a unit.

A product goes through the whole block in one call of the routine. Stages between two products go through it row by row. A kernel
that is one product and nothing else is cut along the columns as well.
"""

from __future__ import annotations

import math

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.contraction import (
    block_size,
    column_count,
    columns_from,
    emit_product,
    even_rows,
    part_ns,
    prefetching,
    scratch,
)
from nagraph.backends.llvm.emission.kernel_function import Emitted, blocks_per_unit, unit_loop
from nagraph.backends.llvm.emission.prefetch import PrefetchQueue, accesses
from nagraph.backends.llvm.emission.row_blocks import block_rows, ranges, triangle_of_rows
from nagraph.backends.llvm.emission.stage import StageLoops
from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, i64
from nagraph.backends.llvm.text.lanes import memory_type
from nagraph.kernel.contraction import Contraction, Part, direct_output, is_column_major, tiles_in_memory
from nagraph.kernel.form import Kernel, Read, Stage
from nagraph.plan.plan import aligned

#: Bytes that the tiles of a block of rows may fill: most of the second cache, for short blocks pack B again and again.
BLOCK_NBYTES = 1 << 19
#: Rows of a block: a multiple of the rows of a matrix product in registers.
BLOCK_ROWS = 144
#: A contraction, or a run of stages.
Group = Contraction | list[Stage]


class GridRows:
    """The units of a kernel: blocks of `rows` of the `extent` rows by blocks of columns, `column_blocks` of them."""

    def __init__(self, context: EmissionContext, parts: list[Part]):
        kernel = context.kernel
        self.context, self.kernel, self.last = context, kernel, kernel.grid - 1
        self.causal = triangle_of_rows(kernel, parts)
        self.parts, self.outputs = direct_output(kernel, parts)
        self.groups = _groups(self.parts)
        memory = _in_memory(kernel, self.groups) - set(self.outputs)
        context.spilled = {i for i in memory if kernel.tiles[i].size == 1}
        self.extent = kernel.axes[self.last] if kernel.grid else 1
        self._choose_blocks(sum(kernel.tiles[i].size * kernel.tiles[i].dtype.itemsize for i in memory))
        self.nbytes = context.tile_memory({i: kernel.tiles[i].size * self.rows for i in sorted(memory)})
        context.block_tiles = dict(context.tiles)
        self.extents = [*kernel.axes[:self.last], -(-self.extent // self.rows)] if kernel.grid else []

    def _choose_blocks(self, row_nbytes: int) -> None:
        """The size of a block. row_nbytes: the tiles of one row."""
        only, products = self.parts[0], math.prod(self.kernel.axes[:self.last]) if self.kernel.grid else 1
        self.column_blocks, self.columns = 1, 0
        if len(self.parts) == 1 and isinstance(only, Contraction) and self.outputs:
            self.rows, self.columns = block_size(
                only, self.extent, products, is_column_major(self.kernel, self.outputs[only.tile]))
            self.column_blocks = -(-only.n // self.columns)
        else:
            self.rows = _rows(self.extent, row_nbytes, products) if self.causal is None else block_rows(self.extent)

    def emit(self) -> Emitted:
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
        cost = sum(part_ns(kernel, p, context.vector()) for p in self.parts) * self.rows / self.column_blocks * per_unit
        behind = max(scratch(context, p) for p in self.parts if isinstance(p, Contraction))
        return Emitted(math.prod(self.extents) * self.column_blocks // per_unit, aligned(self.nbytes) + behind, cost)

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


def _groups(parts: list[Part]) -> list[Group]:
    """Contractions, and the runs of stages between them, which a row can pass through at one go."""
    found: list[Group] = []
    for part in parts:
        if isinstance(part, Contraction):
            found.append(part)
        elif found and isinstance(found[-1], list):
            found[-1].append(part)
        else:
            found.append([part])
    return found


def _in_memory(kernel: Kernel, groups: list[Group]) -> set[int]:
    """The tiles that need memory: longer ones, and those that one group leaves for another."""
    home: dict[int, int] = {}
    found = tiles_in_memory(kernel, [g for g in groups if isinstance(g, Contraction)])
    for n, group in enumerate(groups):
        for stage in [group.stage] if isinstance(group, Contraction) else group:
            for tile in (*(f.tile for f in stage.folds), *(w.tile for w in stage.writes)):
                home[tile] = n
            found |= {i.tile for i in stage.body if isinstance(i, Read) and home[i.tile] != n}
    return found


def _rows(extent: int, row_nbytes: int, products: int) -> int:
    """The rows of a block: as many as fit the cache, but enough blocks to be shared. products: how many products have such blocks."""
    rows = max(1, min(BLOCK_ROWS, BLOCK_NBYTES // max(1, row_nbytes)))
    if rows > 12:
        rows -= rows % 12
    return even_rows(extent, min(rows, extent), products)


def _rows_of_block(code: FunctionBuilder, left: Reg, rows: int, extent: int) -> Reg:
    """The rows of this block: `rows`, or the `left` ones if these are fewer."""
    if extent % rows == 0:
        return i64(rows)
    return code.emit("i64", f"call i64 @llvm.smin.i64({left}, i64 {rows})")
