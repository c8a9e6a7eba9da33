"""What of a kernel decides where its tiles may be and how its stages may run on a GPU: facts that strategy, verifier and emission share."""

from __future__ import annotations

import math

from nagraph.backends.gpu.order import runs
from nagraph.backends.gpu.schedule import SHARED, GpuSchedule, Spread
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Kernel, Load, Read, Stage
from nagraph.schedule.legality import transposed_loads

#: Points of a transposed tile along each of its two axes. In shared memory a row has one element more, so that neither rows nor columns
#: fall into one bank.
SIDE, PITCH = 32, 33
#: What a fold leaves for other threads takes so many bytes for each value.
SLOT_NBYTES = 8


def in_order(stage: Stage) -> bool:
    """Whether a stage's points must come one after another: its stores may meet, since they combine or since places are data."""
    if not stage.loops:
        return False
    return any((s.combine is not None and not s.row_sum) or any(a < 0 for a, _ in s.index.terms) for s in stage.stores)


def owner(stage: Stage) -> Affine | None:
    """What of the one place where a stage stores is data: elements where it differs are different ones. None if it does not tell them
    apart.
    """
    if not in_order(stage) or len(stage.stores) != 1 or stage.writes or stage.folds:
        return None
    data = tuple((a, c) for a, c in stage.stores[0].index.terms if a < 0)
    if not data or any(a in stage.loops for a, _ in stage.stores[0].index.terms):
        return None
    whole = math.gcd(*(c for _, c in data))
    return Affine(0, tuple((a, c // whole) for a, c in data))


def count(kernel: Kernel, axes: tuple[int, ...]) -> int:
    """The points of these axes."""
    return math.prod(kernel.axes[a] for a in axes)


def groups(kernel: Kernel, schedule: GpuSchedule) -> int:
    """The groups that a launch has: one for each point of the axes that are parallel, or for each `width` of them."""
    if schedule.transposed is not None:
        return math.prod(tile_counts(kernel, schedule.transposed)) * schedule.points
    axes = kernel.axes[:kernel.grid - kernel.sequential]
    return math.prod(axes) // schedule.width


def transposed_reads(kernel: Kernel) -> dict[int, list[Load]]:
    """For axes of the grid of a map, the loads that walk along them while stores walk along the last one, if there are some."""
    found = {axis: [kernel.stages[0].body[n] for n in numbers] for axis, numbers in transposed_loads(kernel).items()}
    unmasked = {axis: [x for x in loads if isinstance(x, Load) and x.mask is None] for axis, loads in found.items()}
    return {axis: loads for axis, loads in unmasked.items() if loads}


def tile_counts(kernel: Kernel, axis: int) -> list[int]:
    """How many transposed tiles there are along each axis of the grid."""
    counts = list(kernel.axes[:kernel.grid])
    for a in (axis, kernel.grid - 1):
        counts[a] = -(-counts[a] // SIDE)
    return counts


def transposed_nbytes(x: Load) -> int:
    """The bytes of shared memory in which a transposed tile has what a load reads."""
    return -(-SIDE * PITCH * x.dtype.itemsize // 16) * 16


def uniform(kernel: Kernel, tile: int) -> bool:
    """Whether all threads of a group can hold a tile: it has one element, which every thread of the group computes."""
    if kernel.tiles[tile].size != 1:
        return False
    for stage in kernel.stages:
        if tile in written(stage) and (count(kernel, stage.kept) != 1 or in_order(stage)):
            return False
        if any(w.tile == tile for w in stage.writes) and count(kernel, stage.loops) != 1:
            return False
    return True


def written(stage: Stage) -> set[int]:
    """The tiles that a stage writes."""
    return {f.tile for f in stage.folds if f.tile >= 0} | {w.tile for w in stage.writes}


def read(stage: Stage) -> set[int]:
    """The tiles that a stage reads."""
    return {i.tile for i in stage.body if isinstance(i, Read)}


def tile_nbytes(kernel: Kernel, tile: int) -> int:
    """The bytes of a tile for one point of the grid, whole words."""
    return -(-kernel.tiles[tile].size * kernel.tiles[tile].dtype.itemsize // 16) * 16


def slots_nbytes(kernel: Kernel, schedule: GpuSchedule) -> int:
    """The bytes of shared memory in which the warps of a block leave what folds have: for the stage that needs the most."""
    most = 0
    for stage, how in zip(kernel.stages, schedule.stages):
        each = schedule.apart or runs(stage)  # each thread leaves what it has, not each warp
        if isinstance(how, Spread) and how.lanes > (1 if each else 32):
            values = sum(1 if f.is_contraction else len(f.values) for f in stage.folds)
            most = max(most, values * (schedule.block if each else schedule.block // 32))
    return most * SLOT_NBYTES


def shared_nbytes(kernel: Kernel, schedule: GpuSchedule) -> int:
    """The bytes of shared memory of a block."""
    if schedule.transposed is not None:
        return sum(map(transposed_nbytes, transposed_reads(kernel)[schedule.transposed]))
    tiles = sum(tile_nbytes(kernel, i) for i, where in enumerate(schedule.tiles) if where == SHARED)
    return tiles * schedule.points + slots_nbytes(kernel, schedule)
