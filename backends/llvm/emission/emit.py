"""Emission: a kernel as one LLVM function that computes a range of its grid's units.

A kernel that is nothing but maps, or walks memory best along its grid, has lanes along the grid's last axis:
a unit is a vector of points. A kernel with contractions takes a block of rows for a unit, so that its matrix products
are worth the name. Any other one computes point after point, with lanes along the loops of each stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from nagraph import sanitizing
from nagraph.backends.llvm.emission.context import KernelContext, power_of_two, stride_score
from nagraph.backends.llvm.emission.contraction import (
    Contraction,
    as_contraction,
    column_major,
    columns_from,
    direct_output,
    even_rows,
    tiles_in_memory,
    with_column_split,
)
from nagraph.backends.llvm.emission.cost import stage_ns
from nagraph.backends.llvm.emission.loop_order import lane_axes
from nagraph.backends.llvm.emission.prefetch import PrefetchQueue, accesses, row_prefetch
from nagraph.backends.llvm.emission.row_blocks import RowBlockEmission, block_rows, fit, ranges, triangle_of_rows
from nagraph.backends.llvm.emission.stage import StageLoops
from nagraph.backends.llvm.emission.tiled_transpose import TransposeTile, transposed_loads
from nagraph.backends.llvm.emission.values import first_lanes
from nagraph.backends.llvm.text.builder import FunctionBuilder, Loop, Module, Reg, i64
from nagraph.backends.llvm.text.lanes import Lanes, memory_type
from nagraph.backends.llvm.text.target import masks_memory
from nagraph.ir.scalar import I64
from nagraph.kernel.form import Apply, Kernel, Number, Read, Running, Stage
from nagraph.kernel.row_blocks import RowBlocks, row_blocks
from nagraph.kernel.update import only_copies
from nagraph.plan.plan import aligned

#: What a kernel function takes: the thread's table of pointers, which of them are its operands, its units, its scratch.
ARGUMENTS = ("ptr noalias", "ptr noalias", "i64", "i64", "ptr noalias")
#: Bytes that the tiles of a block of rows may fill: most of the second cache, for short blocks pack B again and again.
BLOCK_NBYTES = 1 << 19
#: Rows of a block: a multiple of the rows of a matrix product in registers.
BLOCK_ROWS = 144


class Emitted(NamedTuple):
    """How to launch a kernel: its units, the bytes of scratch that a thread needs, and roughly the time of a unit."""

    units: int
    scratch_nbytes: int
    unit_ns: float = 100.0


def emit(module: Module, kernel: Kernel, name: str) -> Emitted:
    """Write the function `name` for a kernel: void(slots, args, start, stop, scratch)."""
    kernel = with_column_split(kernel)
    code = FunctionBuilder(module, name, "void", ARGUMENTS)
    module.functions.append(code)
    context = KernelContext(kernel, code)
    slots, args, *_ = code.arguments
    context.pointers = [operand_pointer(code, slots, args, i) for i in range(len(kernel.operands))]
    if only_copies(kernel):
        with code.when(code.compare("icmp ne", *context.pointers)):
            emitted = _emitted(context)
    else:
        emitted = _emitted(context)
    code.ret()
    return emitted


def _emitted(context: KernelContext) -> Emitted:
    """Write the units in the way that suits the kernel."""
    kernel = context.kernel
    split = row_blocks(kernel)
    if split is not None and fit(split):
        return _by_blocks(context, split)
    parts = [as_contraction(kernel, s) or s for s in kernel.stages]
    if any(isinstance(p, Contraction) and p.rows for p in parts):
        return _by_slices(context, [p if isinstance(p, Stage) or p.rows else p.stage for p in parts])
    if any(isinstance(p, Contraction) for p in parts):
        return _by_rows(context, parts)
    if not kernel.sequential and (found := transposed_loads(kernel)) is not None:
        return _by_transpose_tiles(context, *found)
    return _by_lanes(context) if _along_grid(kernel) else _by_points(context)


def operand_pointer(code: FunctionBuilder, slots: Reg, args: Reg, i: int) -> Reg:
    """The address of operand i of this launch."""
    slot = code.load("i64", code.offset(args, "i64", i64(i)), 8)
    return code.load("ptr", code.offset(slots, "ptr", slot), 8)


def _blocks_per_unit(kernel: Kernel, extents: list[int]) -> int:
    """How many blocks of the grid, of which `extents` are the numbers, make a unit: one, or all that a row sum adds up, in their order."""
    return math.prod(extents[kernel.grid - kernel.sequential:])


@contextmanager
def _loop(context: KernelContext, per_unit: int = 1) -> Iterator[Loop]:
    """The loop over the blocks of the units that are asked for."""
    code = context.code
    start, stop = (code.mul(x, i64(per_unit)) for x in code.arguments[2:4])
    with code.loop(start, stop) as loop:
        if sanitizing.is_on() and context.tile_nbytes:  # no tile holds anything yet
            code.call("llvm.memset.p0.i64", "void", code.arguments[4], Reg("i8", str(sanitizing.NAN)), i64(context.tile_nbytes),
                      Reg("i1", "false"))
        yield loop


def _along_grid(kernel: Kernel) -> bool:
    """Whether the lanes run along the last axis of the grid: where no stage loops, or memory is walked better along it."""
    if not kernel.grid or kernel.sequential:
        return False
    if not any(s.loops for s in kernel.stages):
        return True
    last = kernel.grid - 1
    along_grid = along_loops = 0
    for stage in kernel.stages:
        indices = [x.index for x in (*stage.body, *stage.stores) if not isinstance(x, (Apply, Number, Running))]
        iterations = math.prod(kernel.axes[a] for a in stage.loops)
        along_grid += iterations * sum(stride_score(i, last) for i in indices)
        along_loops += iterations * max((sum(stride_score(i, a) for i in indices) for a in lane_axes(stage)), default=0)
    longest = max((kernel.axes[a] for s in kernel.stages for a in lane_axes(s)), default=1)
    if longest < 8 < kernel.axes[last]:
        return along_grid * 2 >= along_loops
    return along_grid > along_loops


# -- lanes along the grid -------------------------------------------------------------------------------------------


def _by_lanes(context: KernelContext) -> Emitted:
    kernel, code = context.kernel, context.code
    last = context.lane = kernel.grid - 1
    extent = kernel.axes[last]
    width = context.vector() * context.unroll(kernel.stages)
    while width > context.vector() and -(-extent // width) * width > 1.25 * extent:
        width //= 2
    width = min(width, power_of_two(extent))
    context.lanes = Lanes(code, width)
    nbytes = context.tile_memory({i: t.size * width for i, t in enumerate(kernel.tiles) if t.size > 1})
    extents = [*kernel.axes[:last], -(-extent // width)]
    with _loop(context) as loop:
        context.locate(loop.index, extents)
        context.at[last] = code.mul(context.at[last], i64(width))
        if extent < width or not extent % width:
            context.mask = first_lanes(extent, width) if extent < width else None
            _stages(context)
        elif masks_memory():
            places = context.places(context.lanes, context.at[last], 1)
            context.mask = context.lanes.compare("lt", places, context.lanes.constant(extent, I64)).raw
            _stages(context)
        else:  # lane after lane, but for whole blocks; which lanes of the last one are active is known now
            for which, mask in (("sle", None), ("sgt", first_lanes(extent % width, width))):
                with code.when(code.compare(f"icmp {which}", context.at[last], i64(extent - width))):
                    context.mask = mask
                    _stages(context)
    vectors = max(1, width // context.vector())
    cost = sum(stage_ns(kernel, s, 1, False) for s in kernel.stages) * vectors
    return Emitted(math.prod(extents), nbytes, cost)


def _stages(context: KernelContext) -> None:
    for stage in context.kernel.stages:
        StageLoops(context, stage).emit()


# -- tiles of two axes of the grid ---------------------------------------------------------------------------------


def _by_transpose_tiles(context: KernelContext, axis: int, loads: list[int]) -> Emitted:
    kernel, code = context.kernel, context.code
    last = kernel.grid - 1
    width = min(context.vector(), power_of_two(min(kernel.axes[axis], kernel.axes[last])))
    extents = [-(-n // width) if a in (axis, last) else n for a, n in enumerate(kernel.axes[:kernel.grid])]
    with _loop(context) as loop:
        context.locate(loop.index, extents)
        for a in (axis, last):
            context.at[a] = code.mul(context.at[a], i64(width))
        TransposeTile(context, axis, loads, width).emit()
    return Emitted(math.prod(extents), 0, stage_ns(kernel, kernel.stages[0], 1, False) * 2 * width)


# -- point after point ------------------------------------------------------------------------------------------------


def _by_points(context: KernelContext) -> Emitted:
    kernel = context.kernel
    nbytes = context.tile_memory({i: t.size for i, t in enumerate(kernel.tiles) if t.size > 1})
    extents = list(kernel.axes[:kernel.grid])
    context.row_prefetch = row_prefetch(kernel, context.vector())
    per_unit = _blocks_per_unit(kernel, extents)
    with _loop(context, per_unit) as loop:
        context.locate(loop.index, extents)
        _stages(context)
    cost = sum(stage_ns(kernel, s, context.vector(), False) for s in kernel.stages)
    return Emitted(math.prod(extents) // per_unit, nbytes, cost * per_unit)


# -- slices: matrix products at each point of the grid -------------------------------------------------------------------


def _by_slices(context: KernelContext, parts: list[Contraction | Stage]) -> Emitted:
    kernel, code = context.kernel, context.code
    parts, outputs = direct_output(kernel, parts)
    products = [p for p in parts if isinstance(p, Contraction)]
    memory = tiles_in_memory(kernel, parts) - outputs.keys()
    context.spilled = {i for i in memory if kernel.tiles[i].size == 1}
    nbytes = context.tile_memory({i: kernel.tiles[i].size for i in sorted(memory)})
    context.block_tiles = context.tiles
    extents = list(kernel.axes[:kernel.grid])
    requests, per_unit = PrefetchQueue(context), _blocks_per_unit(kernel, extents)
    with _loop(context, per_unit) as loop:
        context.locate(code.add(loop.index, i64(1)), extents)
        requests.add(accesses(kernel, kernel.stages), context.at)
        context.locate(loop.index, extents)
        for part in parts:
            if isinstance(part, Stage):
                StageLoops(context, part).emit()
                continue
            rows = math.prod(kernel.axes[a] for a in part.rows)
            prefetch_table = requests.table(*part.tiles(rows))
            part.emit(context, context.tiles.get(part.tile), outputs.get(part.tile), i64(rows), i64(0), i64(part.n), nbytes, prefetch_table)
    cost = sum(stage_ns(kernel, p.stage, 1, True) if isinstance(p, Contraction) else stage_ns(kernel, p, context.vector(), False)
               for p in parts)
    return Emitted(math.prod(extents) // per_unit, nbytes + max(p.scratch for p in products), cost * per_unit)


def _by_blocks(context: KernelContext, split: RowBlocks) -> Emitted:
    """The same in blocks of rows, one after another."""
    context.kernel = split.kernel
    extents = list(split.kernel.axes[:split.kernel.grid])
    emission, per_unit = RowBlockEmission(context, split), _blocks_per_unit(split.kernel, extents)
    with _loop(context, per_unit) as loop:
        context.locate(loop.index, extents)
        emission.emit()
    return Emitted(math.prod(extents) // per_unit, emission.scratch, emission.unit_ns() * per_unit)


# -- blocks of rows -----------------------------------------------------------------------------------------------------


def _by_rows(context: KernelContext, parts: list[Contraction | Stage]) -> Emitted:
    kernel, code = context.kernel, context.code
    causal = triangle_of_rows(kernel, parts)
    parts, outputs = direct_output(kernel, parts)
    groups = _groups(parts)
    memory = _in_memory(kernel, groups) - set(outputs)
    context.spilled = {i for i in memory if kernel.tiles[i].size == 1}
    row_nbytes = sum(kernel.tiles[i].size * kernel.tiles[i].dtype.itemsize for i in memory)
    last = kernel.grid - 1
    extent = kernel.axes[last] if kernel.grid else 1
    products = math.prod(kernel.axes[:last]) if kernel.grid else 1
    alone = parts[0] if len(parts) == 1 and isinstance(parts[0], Contraction) and outputs else None
    if alone is not None:
        rows, columns = alone.blocks(extent, products, column_major(kernel, outputs[alone.tile]))
    else:
        rows, columns = _rows(extent, row_nbytes, products) if causal is None else block_rows(extent), 0
    nbytes = context.tile_memory({i: kernel.tiles[i].size * rows for i in sorted(memory)})
    bases = context.block_tiles = dict(context.tiles)
    extents = [*kernel.axes[:last], -(-extent // rows)] if kernel.grid else []
    column_blocks = -(-alone.n // columns) if alone is not None else 1
    per_unit = _blocks_per_unit(kernel, extents)
    with _loop(context, per_unit) as loop:
        unit, column = loop.index, i64(0)
        requests, ahead = PrefetchQueue(context), PrefetchQueue(context)
        if kernel.grid and column_blocks == 1:
            context.locate(code.add(unit, i64(1)), extents)
            context.at[last] = code.mul(context.at[last], i64(rows))
            ahead.add((a for p in parts if isinstance(p, Contraction) for a in accesses(kernel, [p.stage], rows)), context.at)
        if column_blocks > 1:
            column = code.mul(code.emit("i64", f"urem {unit}, {column_blocks}"), i64(columns))
            unit = code.emit("i64", f"udiv {unit}, {column_blocks}")
        context.locate(unit, extents)
        first, count = i64(0), i64(1)
        if kernel.grid:
            first = code.mul(context.at[last], i64(rows))
            count = _rows_of_block(code, code.sub(i64(extent), first), rows, extent)
        stop = code.add(first, count)

        def restrict(stage: Stage) -> None:
            """Of a triangle, the columns that a row of the block sees."""
            if causal is not None:
                n = next(n for n, s in enumerate(kernel.stages) if s is stage)
                context.ranges, context.conditions = ranges(None, causal.columns[n], first, stop, rows), causal.conditions[n]

        for n, group in enumerate(groups):
            if isinstance(group, Contraction):
                if kernel.grid:
                    context.at[last] = first
                following = groups[n + 1] if n + 1 < len(groups) else None
                if isinstance(following, list):
                    requests.add(accesses(kernel, following, rows), context.at)
                if n == 0:
                    requests.waiting += ahead.waiting
                prefetch_table = requests.table(*group.tiles(rows))
                target = outputs.get(group.tile)
                restrict(group.stage)
                width = columns_from(code, column, columns, group.n) if column_blocks > 1 else group.column_count(context)
                group.emit(context, bases.get(group.tile), target, count, column, width, aligned(nbytes), prefetch_table)
                continue
            context.registers.clear()
            with code.loop(i64(0), count, 1, known=True) as row:
                if kernel.grid:
                    context.at[last] = code.add(first, row.index)
                for i, base in bases.items():
                    tile = kernel.tiles[i]
                    context.tiles[i] = code.offset(base, memory_type(tile.dtype), code.mul(row.index, i64(tile.size)))
                for stage in group:
                    restrict(stage)
                    StageLoops(context, stage).emit()
    cost = sum(stage_ns(kernel, p.stage, 1, True) if isinstance(p, Contraction) else stage_ns(kernel, p, context.vector(), False)
               for p in parts) * rows / column_blocks * per_unit
    scratch = max(p.scratch for p in parts if isinstance(p, Contraction))
    return Emitted(math.prod(extents) * column_blocks // per_unit, aligned(nbytes) + scratch, cost)


def _groups(parts: list[Contraction | Stage]) -> list[Contraction | list[Stage]]:
    """Contractions, and the runs of stages between them, which a row can pass through at one go."""
    found: list[Contraction | list[Stage]] = []
    for part in parts:
        if isinstance(part, Contraction):
            found.append(part)
        elif found and isinstance(found[-1], list):
            found[-1].append(part)
        else:
            found.append([part])
    return found


def _in_memory(kernel: Kernel, groups: list[Contraction | list[Stage]]) -> set[int]:
    """The tiles that stand in memory: longer ones, and those that one group leaves for another."""
    home: dict[int, int] = {}
    found = tiles_in_memory(kernel, [g for g in groups if isinstance(g, Contraction)])
    for n, group in enumerate(groups):
        for stage in [group.stage] if isinstance(group, Contraction) else group:
            for tile in (*(f.tile for f in stage.folds), *(w.tile for w in stage.writes)):
                home[tile] = n
            found |= {i.tile for i in stage.body if isinstance(i, Read) and home[i.tile] != n}
    return found


def _rows(extent: int, row_nbytes: int, column_blocks: int) -> int:
    """Rows of a block: as many as fit the cache, but enough blocks to be shared; each makes `column_blocks` units."""
    rows = max(1, min(BLOCK_ROWS, BLOCK_NBYTES // max(1, row_nbytes)))
    if rows > 12:
        rows -= rows % 12
    return even_rows(extent, min(rows, extent), column_blocks)


def _rows_of_block(code: FunctionBuilder, left: Reg, rows: int, extent: int) -> Reg:
    """The rows of this block: `rows`, or what is left."""
    if extent % rows == 0:
        return i64(rows)
    return code.emit("i64", f"call i64 @llvm.smin.i64({left}, i64 {rows})")
