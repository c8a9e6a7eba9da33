"""How stages run as loops: along which axis the lanes go, how many there are, and where a loop is cut. Each choice is a small rule."""

from __future__ import annotations

import math
from collections.abc import Iterable

from nagraph.kernel.form import Interleaved, Kernel, Load, Stage, Store
from nagraph.kernel.vector_axis import cuts, power_of_two, side_by_side, vector_axis, widest
from nagraph.schedule.cost import stage_ns
from nagraph.schedule.form import Loops
from nagraph.schedule.legality import ahead
from nagraph.schedule.target import Target

#: From so many bytes on, the rows of an operand are not expected to be near.
ROWS_NBYTES = 1 << 20
#: How much of a grid's last axis may be lanes past its end.
MOST_WASTE = 1.25


def vector_lanes(kernel: Kernel, target: Target) -> int:
    """Lanes of one vector register: of the widest dtype that the kernel reads or writes, 16-bit floats being widened."""
    return target.vector_nbytes // widest(kernel)


def loops_of(kernel: Kernel, stage: Stage, target: Target, step: int | None = None, ranged: Iterable[int | None] = ()) -> Loops:
    """How a stage runs by itself. `ranged`: axes of which it goes through a range, whose bounds are multiples of `step`."""
    axis = vector_axis(kernel, stage)
    if axis is None:
        return Loops()
    order = stage.folds[0].order if axis not in stage.kept else None
    if isinstance(order, Interleaved):  # each chain has a lane; narrow vectors hold them in several registers
        return Loops(axis, max((chains for _, chains in order.parts), default=1))
    most = vector_lanes(kernel, target) * side_by_side([stage])
    if step is not None and axis in ranged:
        return Loops(axis, min(most, step & -step))
    return Loops(axis, min(most, power_of_two(kernel.axes[axis])), tuple(cuts(kernel, stage, axis)))


def grid_lanes(kernel: Kernel, target: Target) -> int:
    """Lanes along the grid: as many vectors as go side by side, fewer where many lanes would lie past the end."""
    extent, one = kernel.axes[kernel.grid - 1], vector_lanes(kernel, target)
    width = one * side_by_side(kernel.stages)
    while width > one and -(-extent // width) * width > MOST_WASTE * extent:
        width //= 2
    return min(width, power_of_two(extent))


def next_point(kernel: Kernel, lanes: int) -> tuple[int | None, tuple[int, ...]]:
    """(stage, operands): of a kernel that goes through its rows several times, the stage that computes longest at a point of the grid, and
    the operands that it asks for meanwhile: loaded ones at the next point, stored ones here. Those of ROWS_NBYTES or more: smaller
    ones are in cache. (None, ()) if there are none.
    """
    loops = [n for n, s in enumerate(kernel.stages) if s.loops]
    if len(loops) < 2 or not kernel.grid:
        return None, ()
    busiest = max(loops, key=lambda n: stage_ns(kernel, kernel.stages[n], lanes, False))
    known, found = {*range(kernel.grid), *kernel.stages[busiest].loops}, set()
    for i in (i for s in kernel.stages for i in (*s.body, *s.stores) if isinstance(i, (Load, Store))):
        axes = {a for a, _ in i.index.terms}
        if axes <= known and math.prod(kernel.axes[a] for a in axes) * kernel.operands[i.operand].itemsize >= ROWS_NBYTES:
            found.add(i.operand)
    return (busiest, tuple(sorted(found))) if found else (None, ())


def operands_ahead(kernel: Kernel, stages: Iterable[Stage]) -> tuple[int, ...]:
    """The operands that can be asked for while products are computed."""
    return tuple(sorted({i.operand for s in stages for i in (*s.body, *s.stores) if isinstance(i, (Load, Store)) and ahead(kernel, i)}))
