"""Emission: a kernel as one LLVM function that computes a range of its units, as its schedule says.

A unit is a vector of points along the grid's last axis, a tile of two axes, a block of rows of matrix products, or a point of the grid,
at which stages have lanes along their own loops, and matrices are computed whole or in blocks of their rows.
"""

from __future__ import annotations

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.contraction import emit_product, prefetching, scratch
from nagraph.backends.llvm.emission.grid_rows import GridRows
from nagraph.backends.llvm.emission.kernel_function import ARGUMENTS, Emitted, operand_pointer, unit_loop
from nagraph.backends.llvm.emission.prefetch import PrefetchQueue, accesses, row_prefetch
from nagraph.backends.llvm.emission.row_blocks import RowBlockEmission
from nagraph.backends.llvm.emission.stage import StageLoops
from nagraph.backends.llvm.emission.tiled_transpose import TransposeTile
from nagraph.backends.llvm.emission.values import first_lanes
from nagraph.backends.llvm.text.builder import FunctionBuilder, Module, i64
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.scalar import I64
from nagraph.kernel.contraction import Contraction, tiles_in_memory
from nagraph.kernel.form import Kernel, Stage
from nagraph.kernel.row_blocks import RowBlocks, blocks_of_rows
from nagraph.schedule import form
from nagraph.schedule.form import Points, Product, Rows, Schedule, Tiles
from nagraph.schedule.legality import transposed_loads
from nagraph.schedule.realise import blocks_along, blocks_per_unit, parts_of, split_kernel


def emit(module: Module, kernel: Kernel, name: str, schedule: Schedule) -> Emitted:
    """Write the function `name` for a kernel: void(slots, args, start, stop, scratch)."""
    code = FunctionBuilder(module, name, "void", ARGUMENTS)
    module.functions.append(code)
    split, units = split_kernel(kernel, schedule.split), schedule.units
    blocks = blocks_of_rows(split) if isinstance(units, Points) and units.rows else None
    context = EmissionContext(split if blocks is None else blocks.kernel, code, schedule)
    slots, args, *_ = code.arguments
    context.pointers = [operand_pointer(code, slots, args, i) for i in range(len(kernel.operands))]
    scratch_nbytes = _units(context, blocks)
    code.ret()
    return Emitted.of(context, scratch_nbytes, blocks)


def _units(context: EmissionContext, blocks: RowBlocks | None) -> int:
    """Write the units of a kernel, which may go in blocks of rows; the bytes of scratch that they need."""
    match context.schedule.units:
        case form.Lanes(width=width):
            return _lanes(context, width)
        case Tiles(axis=axis, width=width):
            return _transposed_tiles(context, axis, width)
        case Rows() as units:
            return GridRows(context, units).emit()
        case Points(rows=rows) if blocks is not None:
            return _row_blocks(context, RowBlockEmission(context, blocks, rows))
    return _matrices(context) if any(isinstance(how, Product) for how in context.schedule.stages) else _points(context)


# -- lanes along the grid -------------------------------------------------------------------------------------------


def _lanes(context: EmissionContext, width: int) -> int:
    """Lanes along the last axis of the grid: a unit is a vector of its points."""
    kernel, code = context.kernel, context.code
    last = context.lane = kernel.grid - 1
    extent = kernel.axes[last]
    context.lanes = Lanes(code, width)
    nbytes = context.tile_memory({i: t.size * width for i, t in enumerate(kernel.tiles) if t.size > 1})
    with unit_loop(context) as loop:
        context.locate(loop.index, blocks_along(kernel, context.schedule.units))
        context.at[last] = code.mul(context.at[last], i64(width))
        if extent < width or not extent % width:
            context.mask = first_lanes(extent, width) if extent < width else None
            _stages(context)
        elif context.target.masks_memory:
            places = context.places(context.lanes, context.at[last], 1)
            context.mask = context.lanes.compare("lt", places, context.lanes.constant(extent, I64)).raw
            _stages(context)
        else:  # lane after lane, but for whole blocks; which lanes of the last one are active is known now
            for which, mask in (("sle", None), ("sgt", first_lanes(extent % width, width))):
                with code.when(code.compare(f"icmp {which}", context.at[last], i64(extent - width))):
                    context.mask = mask
                    _stages(context)
    return nbytes


def _stages(context: EmissionContext) -> None:
    """All stages, one after another, at the point in hand."""
    for stage in context.kernel.stages:
        StageLoops(context, stage).emit()


# -- tiles of two axes of the grid ---------------------------------------------------------------------------------


def _transposed_tiles(context: EmissionContext, axis: int, width: int) -> int:
    """Tiles of two axes of the grid, in which loads along `axis` are transposed: a unit is a tile."""
    kernel, code = context.kernel, context.code
    with unit_loop(context) as loop:
        context.locate(loop.index, blocks_along(kernel, context.schedule.units))
        for a in (axis, kernel.grid - 1):
            context.at[a] = code.mul(context.at[a], i64(width))
        TransposeTile(context, axis, transposed_loads(kernel)[axis], width).emit()
    return 0


# -- point after point ------------------------------------------------------------------------------------------------


def _points(context: EmissionContext) -> int:
    """Point after point of the grid, with lanes along the loops of each stage."""
    kernel = context.kernel
    nbytes = context.tile_memory({i: t.size for i, t in enumerate(kernel.tiles) if t.size > 1})
    extents = list(kernel.axes[:kernel.grid])
    context.row_prefetch = row_prefetch(kernel, context.schedule)
    with unit_loop(context, blocks_per_unit(kernel, extents)) as loop:
        context.locate(loop.index, extents)
        _stages(context)
    return nbytes


def _matrices(context: EmissionContext) -> int:
    """Matrix products at each point of the grid, which is a unit."""
    kernel, code = context.kernel, context.code
    parts, outputs = parts_of(kernel, context.schedule)
    memory = tiles_in_memory(kernel, parts) - outputs.keys()
    context.spilled = {i for i in memory if kernel.tiles[i].size == 1}
    nbytes = context.tile_memory({i: kernel.tiles[i].size for i in sorted(memory)})
    context.block_tiles = context.tiles
    extents = list(kernel.axes[:kernel.grid])
    requests = PrefetchQueue(context)
    with unit_loop(context, blocks_per_unit(kernel, extents)) as loop:
        context.locate(code.add(loop.index, i64(1)), extents)
        requests.add(accesses(kernel, kernel.stages), context.at)
        context.locate(loop.index, extents)
        for part in parts:
            if isinstance(part, Stage):
                StageLoops(context, part).emit()
                continue
            prefetch_table = requests.table(*prefetching(context, part, part.m))
            emit_product(context, part, context.tiles.get(part.tile), outputs.get(part.tile), i64(part.m), i64(0), i64(part.n), nbytes,
                         prefetch_table)
    return nbytes + max(scratch(context, p) for p in parts if isinstance(p, Contraction))


def _row_blocks(context: EmissionContext, emission: RowBlockEmission) -> int:
    """Matrix products at each point of the grid, in blocks of their rows one after another."""
    extents = list(context.kernel.axes[:context.kernel.grid])
    with unit_loop(context, blocks_per_unit(context.kernel, extents)) as loop:
        context.locate(loop.index, extents)
        emission.emit()
    return emission.scratch
