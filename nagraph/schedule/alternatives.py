"""Alternatives: other legal schedules of a kernel, a handful, which a tuner measures. Each way to change one is a small function."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from nagraph.kernel.column_split import columns
from nagraph.kernel.form import Kernel
from nagraph.kernel.row_blocks import row_blocks
from nagraph.schedule.form import Lanes, Loops, Points, Product, Rows, Schedule, Split
from nagraph.schedule.loops import grid_lanes, next_point, operands_ahead, vector_lanes
from nagraph.schedule.realise import realised, split_kernel, unit_count
from nagraph.schedule.strategy import at_points, choose_after, with_chunk
from nagraph.schedule.target import Target
from nagraph.schedule.verify import problem_of

#: How many alternatives of one schedule are measured at most.
MOST = 12
#: Rows of a block, and columns.
ROWS, COLUMNS = (12, 24, 48, 72, 96, 144, 192, 288), (128, 256, 512)
#: Register tiles, by rows and vectors.
REGISTERS = (12, 2), (8, 2), (6, 4), (6, 2)


def alternatives(kernel: Kernel, schedule: Schedule, target: Target, known: Collection[Schedule] = ()) -> list[Schedule]:
    """Other legal schedules of a kernel than this one and those that are known, MOST at most: they differ from it in one thing.

    No kernel is left with fewer units than the machine has cores, unless it has so few already.
    """
    least = min(target.cores, unit_count(realised(kernel, schedule), schedule.units))
    found: dict[Schedule, None] = {}
    ways = [change(kernel, schedule, target) for change in CHANGES]
    for other in filter(None, itertools.chain.from_iterable(itertools.zip_longest(*ways))):  # something of each kind first
        if other.split == schedule.split and _blocks_of(kernel, other) is None:
            other = with_chunk(realised(kernel, other), other, target) if not problem_of(kernel, replace(other, chunk=1), target) else other
        if other == schedule or other in known or other in found or problem_of(kernel, other, target):
            continue
        if unit_count(realised(kernel, other), other.units) >= least:
            found[other] = None
        if len(found) == MOST:
            break
    return list(found)


def _blocks_of(kernel: Kernel, schedule: Schedule) -> object:
    units = schedule.units
    return row_blocks(split_kernel(kernel, schedule.split)) if isinstance(units, Points) and units.rows else None


def _block_rows(kernel: Kernel, schedule: Schedule, target: Target) -> Iterator[Schedule]:
    """Other blocks of rows."""
    units = schedule.units
    if isinstance(units, Rows) and not units.triangle:
        for rows in sorted(ROWS, key=lambda rows: abs(rows - units.rows)):
            yield replace(schedule, units=units._replace(rows=rows))


def _block_columns(kernel: Kernel, schedule: Schedule, target: Target) -> Iterator[Schedule]:
    """Other blocks of columns, or none."""
    units = schedule.units
    if isinstance(units, Rows):
        for width in (*COLUMNS, 0):
            yield replace(schedule, units=units._replace(columns=width))


def _registers(kernel: Kernel, schedule: Schedule, target: Target) -> Iterator[Schedule]:
    """Other register tiles, with blocks of A of about the same size."""
    for rows, vectors in REGISTERS:
        stages = [Product(rows, vectors, max(1, how.block // rows) * rows, how.packs) if isinstance(how, Product) else how
                  for how in schedule.stages]
        yield replace(schedule, stages=tuple(stages))


def _packing(kernel: Kernel, schedule: Schedule, target: Target) -> Iterator[Schedule]:
    """Blocks of A half as large, and twice as large; nothing packed that need not be."""
    for by in (0.5, 2):
        stages = [how._replace(block=max(1, int(how.block * by) // how.rows) * how.rows) if isinstance(how, Product) else how
                  for how in schedule.stages]
        yield replace(schedule, stages=tuple(stages))
    stages = [how._replace(packs=not how.packs) if isinstance(how, Product) else how for how in schedule.stages]
    yield replace(schedule, stages=tuple(stages))


def _lanes(kernel: Kernel, schedule: Schedule, target: Target) -> Iterator[Schedule]:
    """Half as many lanes, and twice as many: along the grid, or in each stage whose order allows it."""
    units = schedule.units
    for by in (0.5, 2, 4):
        if isinstance(units, Lanes):
            yield replace(schedule, units=Lanes(int(units.width * by)))
            continue
        stages = list(schedule.stages)
        for n, how in enumerate(schedule.stages):
            if isinstance(how, Loops) and how.axis is not None:
                stages[n] = how._replace(width=int(how.width * by))
                if problem_of(kernel, replace(schedule, stages=tuple(stages)), target):
                    stages[n] = how
        yield replace(schedule, stages=tuple(stages))


def _ways(kernel: Kernel, schedule: Schedule, target: Target) -> Iterator[Schedule]:
    """Lanes along the grid in place of points, and the other way round."""
    inside = split_kernel(kernel, schedule.split)
    if isinstance(schedule.units, Lanes):
        yield at_points(inside, target, schedule.split)
    elif not any(isinstance(how, Product) for how in schedule.stages) and inside.grid:
        for width in (grid_lanes(inside, target), vector_lanes(inside, target)):
            yield Schedule(Lanes(width), 1, split=schedule.split)


def _split(kernel: Kernel, schedule: Schedule, target: Target) -> Iterator[Schedule]:
    """Other parts of the columns, or none."""
    found = columns(kernel)
    if found and any(isinstance(how, Product) for how in schedule.stages):
        extent, row = kernel.axes[found[0]], schedule.split is not None and schedule.split.row
        usual = schedule.split.width if schedule.split is not None and schedule.split.width else extent
        widths = [w for w in range(1, extent + 1) if extent % w == 0 and usual <= 4 * w and w <= 4 * usual]
        for width in sorted(widths, key=lambda w: max(w / usual, usual / w)):
            yield choose_after(kernel, target, Split(found[0], width, row) if width < extent else Split(0, 0, True) if row else None)


def _prefetch(kernel: Kernel, schedule: Schedule, target: Target) -> Iterator[Schedule]:
    """Nothing asked for ahead of time, or all that can be."""
    if schedule.prefetch:
        yield replace(schedule, prefetch=(), during=None)
    elif isinstance(schedule.units, (Rows, Points)):
        inside = realised(kernel, schedule)
        if any(isinstance(how, Product) for how in schedule.stages):
            yield replace(schedule, prefetch=operands_ahead(inside, inside.stages))
        else:
            during, operands = next_point(inside, vector_lanes(inside, target))
            yield replace(schedule, prefetch=operands, during=during)


#: The ways to change a schedule.
CHANGES: tuple[Callable[[Kernel, Schedule, Target], Iterator[Schedule]], ...] = (
    _block_rows, _registers, _split, _block_columns, _lanes, _ways, _packing, _prefetch)
