"""The vector axis: along which axis the lanes of vectors run, in one stage or in all stages of a kernel, by how memory is walked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Consecutive, Interleaved, Kernel, Number, Running, Stage, Within
from nagraph.ops.base import Elementwise

#: Parts of an axis that get loops of their own: the fewest elements of one, and how many.
SHORT, MOST_PARTS = 8, 8


def vector_axis(kernel: Kernel, stage: Stage) -> int | None:
    """The axis that most accesses walk with unit stride; of a short and a long one, the long one. None if no axis can have lanes.

    A stage whose folds have an order of additions has lanes along what it reduces if the order is of interleaved chains, else not.
    """
    best, found = -1, None
    for a in lane_axes(stage):
        score = sum(stride_score(i, a) for i in indices(stage)) * min(kernel.axes[a], 16)
        if score > best:
            best, found = score, a
    return found


def lane_axes(stage: Stage) -> list[int]:
    """The axes of a stage along which lanes may run, as far as the order of its folds allows it."""
    found, reduced = _loop_axes(stage), stage.loops[len(stage.kept):]
    if any(isinstance(f.order, Interleaved) for f in stage.folds):
        return [a for a in found if a in reduced]
    if any(isinstance(f.order, Consecutive) for f in stage.folds):
        return [a for a in found if a not in reduced]
    return found


def _loop_axes(stage: Stage) -> list[int]:
    """The innermost axis that results are kept apart over, and the innermost reduced one: not that of a running fold, and neither of
    them where stores may meet.
    """
    if any(a < 0 for s in stage.stores for a, _ in s.index.terms):
        return []
    running = any(isinstance(i, Running) for i in stage.body)
    return [*stage.kept[-1:], *(() if running else stage.loops[len(stage.kept):][-1:])]


def along_grid(kernel: Kernel) -> bool:
    """Whether the lanes run along the last axis of the grid: where no stage loops, or memory is walked better along it."""
    if not kernel.grid or kernel.sequential or any(isinstance(f.order, Interleaved) for s in kernel.stages for f in s.folds):
        return False
    if not any(s.loops for s in kernel.stages):
        return True
    last = kernel.grid - 1
    grid = loops = 0
    for stage in kernel.stages:
        iterations = math.prod(kernel.axes[a] for a in stage.loops)
        grid += iterations * sum(stride_score(i, last) for i in indices(stage))
        loops += iterations * max((sum(stride_score(i, a) for i in indices(stage)) for a in _loop_axes(stage)), default=0)
    longest = max((kernel.axes[a] for s in kernel.stages for a in _loop_axes(s)), default=1)
    if longest < 8 < kernel.axes[last]:
        return grid * 2 >= loops
    return grid > loops


def side_by_side(stages: Sequence[Stage]) -> int:
    """How many vectors are computed side by side: several in short bodies, whose operations wait for each other or for memory."""
    heavy = sum(i.op.weight for s in stages for i in s.body if isinstance(i, Apply) and isinstance(i.op, Elementwise))
    size = heavy + sum(len(s.body) for s in stages)
    return 4 if size < 8 else 2 if size < 24 else 1


def widest(kernel: Kernel) -> int:
    """The bytes of the widest element that a kernel computes with, 16-bit floats being widened: as many lanes fit a vector."""
    return max((d.itemsize for d in kernel.operands if d.itemsize >= 4), default=4)


def cuts(kernel: Kernel, stage: Stage, axis: int) -> list[int]:
    """What is joined or padded is computed part by part. Short parts are not worth loops of their own."""
    found = cuts_of(kernel, stage, axis)
    short = any(b - a < SHORT for a, b in itertools.pairwise([0, *found, kernel.axes[axis]]))
    return [] if short or len(found) >= MOST_PARTS else found


def cuts_of(kernel: Kernel, stage: Stage, axis: int) -> list[int]:
    """Where conditions on the place along an axis begin or cease to hold: between these places there is nothing to ask."""
    extent, places = kernel.axes[axis], set[int]()
    for i in stage.body:
        if isinstance(i, Within) and i.step == 1 and i.index.terms == ((axis, 1),):
            places |= {p for p in (-i.index.offset, i.size - i.index.offset) if 0 < p < extent}
    return sorted(places)


def parted(places: Sequence[int], most: int) -> list[tuple[int, int]]:
    """(stop, lanes) of the parts of an axis between these places, `most` lanes at a time; what whole blocks leave is a part with as
    few lanes as hold it, if they are fewer.
    """
    found: list[tuple[int, int]] = []
    for first, stop in itertools.pairwise(places):
        lanes = min(most, power_of_two(stop - first))
        whole = stop - (stop - first) % lanes
        if first == stop:
            continue
        if power_of_two(stop - whole) == lanes or whole == stop:
            found.append((stop, lanes))
        else:
            found += [(whole, lanes), (stop, power_of_two(stop - whole))]
    return found


def indices(stage: Stage) -> list[Affine]:
    """The indices of all that a stage reads and stores, and of its conditions."""
    return [x.index for x in (*stage.body, *stage.stores) if not isinstance(x, (Apply, Number, Running))]


def stride_score(index: Affine, axis: int) -> int:
    """How well lanes along an axis suit an access: 2 for unit stride, 1 where all lanes read one element, 0 otherwise."""
    c = index.coefficient(axis)
    varies = any(a < 0 for a, _ in index.terms)
    return 0 if varies else 2 if c == 1 else 1 if c == 0 else 0


def power_of_two(n: int) -> int:
    """The least power of two that is not less than n."""
    return 1 << max(0, n - 1).bit_length()
