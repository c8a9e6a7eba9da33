"""Emission: a kernel as one LLVM function that computes a range of its grid's units.

A kernel that is nothing but maps, or walks memory best along its grid, has lanes along the grid's last axis:
a unit is a vector of points. A kernel with contractions takes a block of rows for a unit, so that its matrix products
are worth the name. Any other one computes point after point, with lanes along the loops of each stage.
"""

from __future__ import annotations

import math

from nagraph.backends.llvm.emission.context import EmissionContext, power_of_two, stride_score
from nagraph.backends.llvm.emission.contraction import emit_product, part_ns, prefetching, scratch, with_column_split
from nagraph.backends.llvm.emission.cost import stage_ns
from nagraph.backends.llvm.emission.grid_rows import GridRows
from nagraph.backends.llvm.emission.kernel_function import ARGUMENTS, Emitted, blocks_per_unit, operand_pointer, unit_loop
from nagraph.backends.llvm.emission.loop_order import lane_axes
from nagraph.backends.llvm.emission.prefetch import PrefetchQueue, accesses, row_prefetch
from nagraph.backends.llvm.emission.row_blocks import RowBlockEmission, fits_blocks
from nagraph.backends.llvm.emission.stage import StageLoops
from nagraph.backends.llvm.emission.tiled_transpose import TransposeTile, transposed_loads
from nagraph.backends.llvm.emission.values import first_lanes
from nagraph.backends.llvm.text.builder import FunctionBuilder, Module, i64
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.scalar import I64
from nagraph.kernel.contraction import Contraction, Part, direct_output, product_parts, slice_parts, tiles_in_memory
from nagraph.kernel.form import Apply, Kernel, Number, Running, Stage
from nagraph.kernel.row_blocks import RowBlocks, row_blocks
from nagraph.kernel.update import only_copies


def emit(module: Module, kernel: Kernel, name: str) -> Emitted:
    """Write the function `name` for a kernel: void(slots, args, start, stop, scratch)."""
    kernel = with_column_split(kernel)
    code = FunctionBuilder(module, name, "void", ARGUMENTS)
    module.functions.append(code)
    context = EmissionContext(kernel, code)
    slots, args, *_ = code.arguments
    context.pointers = [operand_pointer(code, slots, args, i) for i in range(len(kernel.operands))]
    if only_copies(kernel):
        with code.when(code.compare("icmp ne", *context.pointers)):
            emitted = _emitted(context)
    else:
        emitted = _emitted(context)
    code.ret()
    return emitted


def _emitted(context: EmissionContext) -> Emitted:
    """Write the units in the way that suits the kernel."""
    kernel = context.kernel
    split = row_blocks(kernel)
    if split is not None and fits_blocks(split):
        return _by_blocks(context, split)
    parts = product_parts(kernel)
    if any(isinstance(p, Contraction) and p.rows for p in parts):
        return _by_slices(context, slice_parts(kernel))
    if any(isinstance(p, Contraction) for p in parts):
        return GridRows(context, parts).emit()
    if not kernel.sequential and (found := transposed_loads(kernel)) is not None:
        return _by_transpose_tiles(context, *found)
    return _by_lanes(context) if _along_grid(kernel) else _by_points(context)


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


def _by_lanes(context: EmissionContext) -> Emitted:
    """Lanes along the last axis of the grid: a unit is a vector of its points."""
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
    with unit_loop(context) as loop:
        context.locate(loop.index, extents)
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
    vectors = max(1, width // context.vector())
    cost = sum(stage_ns(kernel, s, 1, False) for s in kernel.stages) * vectors
    return Emitted(math.prod(extents), nbytes, cost)


def _stages(context: EmissionContext) -> None:
    """All stages, one after another, at the point in hand."""
    for stage in context.kernel.stages:
        StageLoops(context, stage).emit()


# -- tiles of two axes of the grid ---------------------------------------------------------------------------------


def _by_transpose_tiles(context: EmissionContext, axis: int, loads: list[int]) -> Emitted:
    """Tiles of two axes of the grid, in which these loads are transposed: a unit is a tile."""
    kernel, code = context.kernel, context.code
    last = kernel.grid - 1
    width = min(context.vector(), power_of_two(min(kernel.axes[axis], kernel.axes[last])))
    extents = [-(-n // width) if a in (axis, last) else n for a, n in enumerate(kernel.axes[:kernel.grid])]
    with unit_loop(context) as loop:
        context.locate(loop.index, extents)
        for a in (axis, last):
            context.at[a] = code.mul(context.at[a], i64(width))
        TransposeTile(context, axis, loads, width).emit()
    return Emitted(math.prod(extents), 0, stage_ns(kernel, kernel.stages[0], 1, False) * 2 * width)


# -- point after point ------------------------------------------------------------------------------------------------


def _by_points(context: EmissionContext) -> Emitted:
    """Point after point of the grid, with lanes along the loops of each stage."""
    kernel = context.kernel
    nbytes = context.tile_memory({i: t.size for i, t in enumerate(kernel.tiles) if t.size > 1})
    extents = list(kernel.axes[:kernel.grid])
    context.row_prefetch = row_prefetch(kernel, context.vector())
    per_unit = blocks_per_unit(kernel, extents)
    with unit_loop(context, per_unit) as loop:
        context.locate(loop.index, extents)
        _stages(context)
    cost = sum(stage_ns(kernel, s, context.vector(), False) for s in kernel.stages)
    return Emitted(math.prod(extents) // per_unit, nbytes, cost * per_unit)


# -- slices: matrix products at each point of the grid -------------------------------------------------------------------


def _by_slices(context: EmissionContext, parts: list[Part]) -> Emitted:
    """Matrix products at each point of the grid, which is a unit."""
    kernel, code = context.kernel, context.code
    parts, outputs = direct_output(kernel, parts)
    products = [p for p in parts if isinstance(p, Contraction)]
    memory = tiles_in_memory(kernel, parts) - outputs.keys()
    context.spilled = {i for i in memory if kernel.tiles[i].size == 1}
    nbytes = context.tile_memory({i: kernel.tiles[i].size for i in sorted(memory)})
    context.block_tiles = context.tiles
    extents = list(kernel.axes[:kernel.grid])
    requests, per_unit = PrefetchQueue(context), blocks_per_unit(kernel, extents)
    with unit_loop(context, per_unit) as loop:
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
    cost = sum(part_ns(kernel, p, context.vector()) for p in parts)
    return Emitted(math.prod(extents) // per_unit, nbytes + max(scratch(context, p) for p in products), cost * per_unit)


def _by_blocks(context: EmissionContext, split: RowBlocks) -> Emitted:
    """Matrix products at each point of the grid, in blocks of their rows one after another."""
    context.kernel = split.kernel
    extents = list(split.kernel.axes[:split.kernel.grid])
    emission, per_unit = RowBlockEmission(context, split), blocks_per_unit(split.kernel, extents)
    with unit_loop(context, per_unit) as loop:
        context.locate(loop.index, extents)
        emission.emit()
    return Emitted(math.prod(extents) // per_unit, emission.scratch, emission.unit_ns() * per_unit)
