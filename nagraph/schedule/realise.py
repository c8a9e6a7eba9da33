"""What a schedule makes of its kernel: the kernel with split columns and stages, its units, its products, the tiles that need memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nagraph.kernel.column_split import split_columns, with_row
from nagraph.kernel.contraction import Contraction, Part, stage_of, tiles_in_memory
from nagraph.kernel.form import Kernel, Read, Stage, Store
from nagraph.kernel.row_blocks import row_blocks
from nagraph.schedule.form import Lanes, Points, Product, Rows, Schedule, Split, Stored, Tiles, Units

#: A matrix product, or a run of stages.
Group = Contraction | list[Stage]


def split_kernel(kernel: Kernel, split: Split | None) -> Kernel:
    """The kernel with its columns split."""
    if split is None:
        return kernel
    kernel = with_row(kernel) if split.row else kernel
    return split_columns(kernel, split.width) if split.width else kernel


def realised(kernel: Kernel, schedule: Schedule) -> Kernel:
    """The kernel that the rest of a schedule speaks of: with its columns split, and, where it goes in blocks of rows, its stages."""
    kernel = split_kernel(kernel, schedule.split)
    if isinstance(schedule.units, Points) and schedule.units.rows:
        blocks = row_blocks(kernel)
        assert blocks is not None, "a legal schedule has rows at a time only where a kernel goes in blocks"
        return blocks.kernel
    return kernel


def parts_of(kernel: Kernel, schedule: Schedule) -> tuple[list[Part], dict[int, Store]]:
    """The stages of a realised kernel as products and loops, without those that a product stores; these stores by the product's tile."""
    parts: list[Part] = []
    outputs: dict[int, Store] = {}
    for stage, how in zip(kernel.stages, schedule.stages):
        if isinstance(how, Stored):
            (read,), (store,) = stage.body, stage.stores
            assert isinstance(read, Read)
            outputs[read.tile] = store
        elif isinstance(how, Product):
            product = Contraction.of(kernel, stage)
            assert product is not None
            parts.append(product)
        else:
            parts.append(stage)
    return parts, outputs


def blocks_along(kernel: Kernel, units: Units) -> list[int]:
    """How many blocks of points there are along each axis of the grid; a unit is one of them, or all that a row sum adds up."""
    extents, last = list(kernel.axes[:kernel.grid]), kernel.grid - 1
    match units:
        case Lanes(width=size) | Rows(rows=size) if extents:
            extents[last] = -(-extents[last] // size)
        case Tiles(axis=axis, width=size):
            extents[axis], extents[last] = -(-extents[axis] // size), -(-extents[last] // size)
    return extents


def blocks_per_unit(kernel: Kernel, extents: Sequence[int]) -> int:
    """How many blocks of the grid make a unit: one, or all that a row sum adds up in their order. `extents`: blocks along each axis."""
    return math.prod(extents[kernel.grid - kernel.sequential:])


def column_blocks(kernel: Kernel, units: Units) -> int:
    """Into how many blocks of columns the only product of a kernel is cut."""
    if not isinstance(units, Rows) or not units.columns:
        return 1
    product = Contraction.of(kernel, kernel.stages[0])
    assert product is not None
    return -(-product.n // units.columns)


def unit_count(kernel: Kernel, units: Units) -> int:
    """The units of a realised kernel."""
    extents = blocks_along(kernel, units)
    return math.prod(extents) * column_blocks(kernel, units) // blocks_per_unit(kernel, extents)


def groups_of(parts: Sequence[Part]) -> list[Group]:
    """Products, and the runs of stages between them, which a row can pass through at one go."""
    found: list[Group] = []
    for part in parts:
        if isinstance(part, Contraction):
            found.append(part)
        elif found and isinstance(found[-1], list):
            found[-1].append(part)
        else:
            found.append([part])
    return found


def staged_tiles(kernel: Kernel, groups: Sequence[Group]) -> set[int]:
    """The tiles that need memory: longer ones, and those that one group leaves for another."""
    home: dict[int, int] = {}
    found = tiles_in_memory(kernel, [g for g in groups if isinstance(g, Contraction)])
    for n, group in enumerate(groups):
        for stage in [stage_of(group)] if isinstance(group, Contraction) else group:
            for tile in (*(f.tile for f in stage.folds), *(w.tile for w in stage.writes)):
                home[tile] = n
            found |= {i.tile for i in stage.body if isinstance(i, Read) and home[i.tile] != n}
    return found
