"""How stages run as loops: along which axis the lanes go, how many there are, and where a loop is cut. Each choice is a small rule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Kernel, Load, Number, Running, Stage, Store
from nagraph.ops.base import Elementwise
from nagraph.schedule.cost import stage_ns
from nagraph.schedule.form import Loops, power_of_two
from nagraph.schedule.legality import ahead, cuts_of, lane_axes
from nagraph.schedule.target import Target

#: Parts of a lane axis that get loops of their own: the fewest elements of one, and how many.
SHORT, MOST_PARTS = 8, 8
#: From so many bytes on, the rows of an operand are not expected to be near.
ROWS_NBYTES = 1 << 20
#: How much of a grid's last axis may be lanes past its end.
MOST_WASTE = 1.25


def vector_lanes(kernel: Kernel, target: Target) -> int:
    """Lanes of one vector register: of the widest dtype that the kernel reads or writes, 16-bit floats being widened."""
    return target.vector_nbytes // max((d.itemsize for d in kernel.operands if d.itemsize >= 4), default=4)


def side_by_side(stages: Sequence[Stage]) -> int:
    """How many vectors are computed side by side: several in short bodies, whose operations wait for each other or for memory."""
    heavy = sum(i.op.weight for s in stages for i in s.body if isinstance(i, Apply) and isinstance(i.op, Elementwise))
    size = heavy + sum(len(s.body) for s in stages)
    return 4 if size < 8 else 2 if size < 24 else 1


def loops_of(kernel: Kernel, stage: Stage, target: Target, step: int | None = None, ranged: Iterable[int | None] = ()) -> Loops:
    """How a stage runs by itself. `ranged`: axes of which it goes through a range, whose bounds are multiples of `step`."""
    axis = lane_axis(kernel, stage)
    if axis is None:
        return Loops()
    most = vector_lanes(kernel, target) * side_by_side([stage])
    if step is not None and axis in ranged:
        return Loops(axis, min(most, step & -step))
    return Loops(axis, min(most, power_of_two(kernel.axes[axis])), cuts(kernel, stage, axis))


def lane_axis(kernel: Kernel, stage: Stage) -> int | None:
    """The axis that most accesses walk with unit stride; of a short and a long one, the long one."""
    best, found = -1, None
    for a in lane_axes(stage):
        score = sum(stride_score(i, a) for i in indices(stage)) * min(kernel.axes[a], 16)
        if score > best:
            best, found = score, a
    return found


def cuts(kernel: Kernel, stage: Stage, axis: int) -> tuple[int, ...]:
    """What is joined or padded is computed part by part. Short parts are not worth loops of their own."""
    found = cuts_of(kernel, stage, axis)
    short = any(b - a < SHORT for a, b in itertools.pairwise([0, *found, kernel.axes[axis]]))
    return () if short or len(found) >= MOST_PARTS else tuple(found)


def along_grid(kernel: Kernel) -> bool:
    """Whether the lanes run along the last axis of the grid: where no stage loops, or memory is walked better along it."""
    if not kernel.grid or kernel.sequential:
        return False
    if not any(s.loops for s in kernel.stages):
        return True
    last = kernel.grid - 1
    grid = loops = 0
    for stage in kernel.stages:
        iterations = math.prod(kernel.axes[a] for a in stage.loops)
        grid += iterations * sum(stride_score(i, last) for i in indices(stage))
        loops += iterations * max((sum(stride_score(i, a) for i in indices(stage)) for a in lane_axes(stage)), default=0)
    longest = max((kernel.axes[a] for s in kernel.stages for a in lane_axes(s)), default=1)
    if longest < 8 < kernel.axes[last]:
        return grid * 2 >= loops
    return grid > loops


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


def indices(stage: Stage) -> list[Affine]:
    """The indices of all that a stage reads and stores, and of its conditions."""
    return [x.index for x in (*stage.body, *stage.stores) if not isinstance(x, (Apply, Number, Running))]


def stride_score(index: Affine, axis: int) -> int:
    """How well lanes along an axis suit an access: 2 for unit stride, 1 where all lanes read one element, 0 otherwise."""
    c = index.coefficient(axis)
    varies = any(a < 0 for a, _ in index.terms)
    return 0 if varies else 2 if c == 1 else 1 if c == 0 else 0
