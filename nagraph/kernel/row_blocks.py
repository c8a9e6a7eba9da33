"""Row blocks: how a kernel whose grid points hold whole matrices computes their rows block by block.

Attention's gradient at one head is such a kernel: scores, weights and their gradients, each a matrix of queries by keys. In
blocks of queries only some rows of these exist at a time, and they stay in cache; gradients of keys and values are sums over
the blocks. Of a causal one, a block reaches no further than to its own diagonal (`nagraph.kernel.triangle`). Blocks go from
the last to the first: the last one reaches all columns, so it is the one that begins every sum.

Source: Dao et al., FlashAttention (2022).
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from nagraph.kernel.axis_classes import AxisClasses, StageAxis, index_range
from nagraph.kernel.contraction import Contraction, product_parts, slice_parts
from nagraph.kernel.form import Kernel
from nagraph.kernel.stage_split import split_stage
from nagraph.kernel.triangle import Triangle, triangle
from nagraph.thresholds import follows

#: Rows of a block, whole vectors: of short sequences, and of long ones, where sums are read and written less often. Sums over blocks are
#: made in their order, so that these belong to the order of additions.
FEW, MANY = 32, 64
#: Rows from which a kernel goes in blocks.
LEAST_ROWS = 64
#: And bytes of a matrix from which it pays to hold some rows of it alone, where there is no triangle.
LEAST_NBYTES = 1 << 19


@dataclass(frozen=True)
class RowBlocks:
    """Row blocks are a kernel with its stages split, and for each stage: `rows` and `columns`, its axes of these (None: it has none),
    `conditions`, the instructions that hold below the diagonal, and `when` it runs: "before" all blocks, in each "block", or "after"
    them.

    extent: all rows. row_tiles: elements of a row, of the tiles that hold a block of rows. sums: tiles added to by every block.
    """

    kernel: Kernel
    extent: int
    rows: tuple[int | None, ...]
    columns: tuple[int | None, ...]
    conditions: tuple[frozenset[int], ...]
    when: tuple[str, ...]
    row_tiles: dict[int, int]
    sums: frozenset[int]


def block_rows(extent: int) -> int:
    """The rows of a block, of `extent` rows in all."""
    return FEW if extent <= 8 * FEW else MANY


def blocks_of_rows(kernel: Kernel) -> RowBlocks | None:
    """How a kernel goes in blocks of rows; None if it does not, or if one of its products can't be restricted to a block's rows and
    columns, or anything else adds up over blocks.
    """
    blocks = row_blocks(kernel)
    if blocks is None:
        return None
    for part, rows, columns, when in zip(slice_parts(blocks.kernel), blocks.rows, blocks.columns, blocks.when):
        restricted = [a for a in (rows, columns) if a is not None] if when == "block" else []
        if isinstance(part, Contraction):
            if not part.fits(restricted):
                return None
        elif rows is not None and rows not in part.kept:
            return None
    return blocks


@follows
@functools.lru_cache(256)
def triangle_of_rows(kernel: Kernel) -> Triangle | None:
    """The triangle of a kernel whose rows are the last axis of its grid; None if it has none."""
    if not kernel.grid:
        return None
    last, found = kernel.grid - 1, triangle(kernel, AxisClasses(kernel))
    if found is None or any(r != last for r in found.rows):
        return None
    parts = product_parts(kernel)
    fitting = all(c is None or p.fits([c]) for p, c in zip(parts, found.columns) if isinstance(p, Contraction))
    return found if fitting else None


@follows
@functools.lru_cache(1024)
def row_blocks(kernel: Kernel) -> RowBlocks | None:
    """How the kernel goes in blocks of rows; None if it does not."""
    if not kernel.grid or not any(len(s.kept) > 1 and s.contracts for s in kernel.stages):
        return None
    split = dataclasses.replace(kernel, stages=tuple(part for s in kernel.stages for part in split_stage(s)))
    classes = AxisClasses(split)
    held = triangle(split, classes)
    if held is not None:
        n, row = next((n, r) for n, r in enumerate(held.rows) if r is not None)
        return _blocks(split, classes, (n, row), held) if row >= kernel.grid else None
    if max(t.size * t.dtype.itemsize for t in kernel.tiles) < LEAST_NBYTES:
        return None
    n, row = next((n, s.kept[0]) for n, s in enumerate(split.stages) if len(s.kept) > 1 and s.contracts)
    count = len(split.stages)
    rows = classes.axes((n, row))
    return None if rows is None else _blocks(split, classes, (n, row), Triangle(rows, [None] * count, [frozenset()] * count))


def _blocks(kernel: Kernel, classes: AxisClasses, place: StageAxis, held: Triangle) -> RowBlocks | None:
    extent = kernel.axes[place[1]]
    if extent < LEAST_ROWS:
        return None
    row_tiles, sums, when = {}, set(), []
    late: set[int] = set()  # tiles that are whole when all blocks are done
    for tile in range(len(kernel.tiles)):
        steps = classes.steps(tile, place)
        if len(steps) > 1:  # what a block reads of it another one makes
            return None
        for step in steps:
            if step * extent != kernel.tiles[tile].size:
                return None
            row_tiles[tile] = step
    for a in classes.accesses:
        step = row_tiles.get(a.tile)
        axis = held.rows[a.stage]
        if step is None:
            continue
        within = None if axis is None else index_range(kernel, kernel.stages[a.stage].body, a, axis)
        if axis is None or a.index.coefficient(axis) != step or within is None or within[0] < 0 or within[1] >= step:
            return None
    for n, stage in enumerate(kernel.stages):
        row, made = held.rows[n], {x.tile for x in (*stage.folds, *stage.writes)}
        waits = not late.isdisjoint({a.tile for a in classes.accesses if a.stage == n} - made)
        if row is None:
            when.append("after" if waits else "before")
            late |= made if waits else set()
        elif waits:
            return None
        else:
            when.append("block")
            if row not in stage.kept:
                if stage.writes or stage.stores or any(not f.is_contraction for f in stage.folds):
                    return None
                sums |= made
                late |= made
            elif any(not s.index.coefficient(row) for s in stage.stores):
                return None
    return RowBlocks(kernel, extent, tuple(held.rows), tuple(held.columns), tuple(held.conditions), tuple(when), row_tiles, frozenset(sums))
