"""The strategy: which schedule a kernel gets on a machine where nobody asks for another. Read `choose` first."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

from nagraph.kernel.contraction import Contraction, Part, direct_output, is_column_major, product_parts, slice_parts, stage_of
from nagraph.kernel.form import Kernel
from nagraph.kernel.row_blocks import FEW, RowBlocks, block_rows, blocks_of_rows, triangle_of_rows
from nagraph.kernel.vector_axis import along_grid, power_of_two
from nagraph.schedule.cost import chunk_of, unit_ns
from nagraph.schedule.form import How, Lanes, Points, Rows, Schedule, Split, Stored, Tiles, Units
from nagraph.schedule.legality import transposed_loads
from nagraph.schedule.loops import grid_lanes, loops_of, next_point, operands_ahead, vector_lanes
from nagraph.schedule.products import block_size, register_tile, rows_of_block, split_of
from nagraph.schedule.realise import groups_of, split_kernel, staged_tiles, unit_count
from nagraph.schedule.target import Target
from nagraph.thresholds import follows

#: More loads than these at a time would not stay in registers while they are transposed.
MOST_LOADS = 2
#: Points that each of the two axes of a transposed tile has at least.
LEAST_EXTENT = 8


@follows
@functools.lru_cache(1024)
def choose(kernel: Kernel, target: Target) -> Schedule:
    """The schedule of a kernel on a machine.

    A kernel with matrix products whose rows are the grid's takes a block of these rows for a unit; one whose matrices stand at each
    point of the grid takes a point, and goes through large matrices block by block. One that reads along one axis and writes
    along another is transposed tile by tile. One that is nothing but maps, or walks memory best along its grid, has lanes
    there. Any other one computes point after point, with lanes along the loops of each stage.
    """
    return choose_after(kernel, target, split_of(kernel, target))


def choose_after(kernel: Kernel, target: Target, split: Split | None) -> Schedule:
    """The schedule of a kernel whose columns are split in this way."""
    kernel = split_kernel(kernel, split)
    blocks = blocks_of_rows(kernel)
    if blocks is not None:
        return _in_row_blocks(blocks, target, split)
    parts = product_parts(kernel)
    if any(isinstance(p, Contraction) and p.rows for p in parts):
        return _at_points(kernel, slice_parts(kernel), target, split)
    if any(isinstance(p, Contraction) for p in parts):
        return _in_rows(kernel, parts, target, split)
    axis = _transposed_axis(kernel)
    if axis is not None:
        side = min(vector_lanes(kernel, target), power_of_two(min(kernel.axes[axis], kernel.axes[kernel.grid - 1])))
        return _finished(kernel, Tiles(axis, side), (), target, split)
    if along_grid(kernel):
        return _finished(kernel, Lanes(grid_lanes(kernel, target)), (), target, split)
    return at_points(kernel, target, split)


def _transposed_axis(kernel: Kernel) -> int | None:
    """The axis of transposed tiles: the innermost long one along which loads have unit stride, if these are few."""
    found = transposed_loads(kernel)
    long = [axis for axis in found if min(kernel.axes[axis], kernel.axes[kernel.grid - 1]) >= LEAST_EXTENT]
    return max(long) if long and len(found[max(long)]) <= MOST_LOADS else None


def at_points(kernel: Kernel, target: Target, split: Split | None = None) -> Schedule:
    """Point after point, with lanes along the loops of each stage."""
    return _at_points(kernel, list(kernel.stages), target, split)


def _at_points(kernel: Kernel, parts: list[Part], target: Target, split: Split | None) -> Schedule:
    """A point of the grid is a unit. While products are computed, all that is read and stored next is asked for; else by next_point."""
    direct, _ = direct_output(kernel, parts)
    stages = tuple(_how(kernel, p, direct, target) for p in parts)
    if any(isinstance(p, Contraction) for p in parts):
        return _finished(kernel, Points(), stages, target, split, operands_ahead(kernel, kernel.stages))
    during, operands = next_point(kernel, vector_lanes(kernel, target))
    return _finished(kernel, Points(), stages, target, split, operands, during)


def _in_row_blocks(blocks: RowBlocks, target: Target, split: Split | None) -> Schedule:
    """A point of the grid is a unit, and goes through the rows of its matrices block by block."""
    kernel, size = blocks.kernel, block_rows(blocks.extent)
    parts = slice_parts(kernel)
    direct, _ = direct_output(kernel, parts, blocks.sums)
    stages = tuple(_how(kernel, p, direct, target, size, (rows, columns) if when == "block" else ())
                   for p, rows, columns, when in zip(parts, blocks.rows, blocks.columns, blocks.when))
    return _finished(kernel, Points(size), stages, target, split, blocks=blocks)


def _in_rows(kernel: Kernel, parts: list[Part], target: Target, split: Split | None) -> Schedule:
    """A block of rows is a unit; of a kernel that is one product and nothing else, a block of rows and columns."""
    direct, outputs = direct_output(kernel, parts)
    last = kernel.grid - 1
    extent, products = (kernel.axes[last], math.prod(kernel.axes[:last])) if kernel.grid else (1, 1)
    only, columns = direct[0], tuple[int | None, ...]((None,) * len(parts))
    if len(direct) == 1 and isinstance(only, Contraction) and outputs:
        rows, width = block_size(only, extent, products, is_column_major(kernel, outputs[only.tile]), target)
        units = Rows(rows, width if width < only.n else 0)
    elif (held := triangle_of_rows(kernel)) is not None and extent >= 2 * FEW:
        units, columns = Rows(block_rows(extent), triangle=True), tuple(held.columns)
    else:
        memory = staged_tiles(kernel, groups_of(direct)) - outputs.keys()
        units = Rows(rows_of_block(extent, sum(kernel.tiles[i].size * kernel.tiles[i].dtype.itemsize for i in memory), products, target))
    stages = tuple(_how(kernel, p, direct, target, units.rows, (c,)) for p, c in zip(parts, columns))
    return _finished(kernel, units, stages, target, split, operands_ahead(kernel, kernel.stages))


def _how(kernel: Kernel, part: Part, direct: list[Part], target: Target, step: int | None = None,
         ranged: tuple[int | None, ...] = ()) -> How:
    """How one stage runs; one that is not among `direct` is stored by its product."""
    if isinstance(part, Contraction):
        return register_tile(part.dtype, target)
    if not any(p is part for p in direct):
        return Stored()
    return loops_of(kernel, stage_of(part), target, step, ranged)


def _finished(kernel: Kernel, units: Units, stages: tuple[How, ...], target: Target, split: Split | None, prefetch: tuple[int, ...] = (),
              during: int | None = None, blocks: RowBlocks | None = None) -> Schedule:
    """The schedule with chunks cut by the cost of its units."""
    return with_chunk(kernel, Schedule(units, 1, stages, split, prefetch, during), target, blocks)


def with_chunk(kernel: Kernel, schedule: Schedule, target: Target, blocks: RowBlocks | None = None) -> Schedule:
    """The schedule of a realised kernel with chunks cut by the cost of its units; `blocks` where it goes in blocks of rows."""
    cost = unit_ns(kernel, schedule, vector_lanes(kernel, target), blocks)
    return replace(schedule, chunk=chunk_of(unit_count(kernel, schedule.units), cost))
