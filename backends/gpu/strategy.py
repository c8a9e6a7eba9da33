"""The strategy: which schedule a kernel gets on a GPU where nobody asks for another."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

from nagraph.backends.gpu.neighbours import side_by_side
from nagraph.backends.gpu.order import RUN, SHARE, WARP, fold_order, runs
from nagraph.backends.gpu.placement import SIDE, count, in_order, owner, shared_nbytes, tile_nbytes, transposed_reads, uniform
from nagraph.backends.gpu.products import choose as products
from nagraph.backends.gpu.products.form import BlockSchedule
from nagraph.backends.gpu.schedule import REGISTERS, SCRATCH, SHARED, GpuSchedule, How, InOrder, Owned, Spread
from nagraph.backends.gpu.target import GpuTarget
from nagraph.kernel.form import Fold, Kernel, Load, Stage, Store
from nagraph.kernel.vector_axis import along_grid
from nagraph.schedule.legality import varying

#: Threads of a block that holds several groups; the most of a group, whose stages have that many points.
BLOCK, LARGEST_GROUP = 256, 512
#: Points of a grid that keep a GPU busy with a thread for each, if each of them has little to do.
MANY, LITTLE = 1 << 15, 8
#: Points of a block whose threads stand apart; the shortest side of what is transposed by tiles.
APART, LONG_SIDE = 16, 24
#: Bytes of tiles that a thread keeps for itself, and of shared memory that leave room for other blocks.
OWN_NBYTES, MOST_SHARED = 256, 48 << 10


#: How a kernel runs: point by point, or, with matrix products, block by block.
AnySchedule = GpuSchedule | BlockSchedule


def choose_any(kernel: Kernel, target: GpuTarget) -> AnySchedule:
    """The schedule of a kernel on a GPU, in blocks where it has matrix products that are worth it; Apple's has them from its library."""
    return products.choose(kernel, target) or choose(kernel, target)


@functools.lru_cache(1024)
def choose(kernel: Kernel, target: GpuTarget) -> GpuSchedule:
    """The schedule of a kernel on a GPU.

    What is read along one axis and stored along another is transposed in tiles. Rows go to threads, warps or blocks by their length: a
    group has as many threads as the longest fold has chains, or as stages have points to be computed side by side. Where memory is walked
    along the grid, neighbouring threads have neighbouring points. Of a scatter each element has a thread that goes through all updates;
    other stages whose stores may meet go in order, by a thread for each point.
    """
    stages: tuple[How, ...] = tuple(_how(kernel, s) for s in kernel.stages)
    axis = _transposed_axis(kernel)
    if axis is not None:
        return GpuSchedule(1, BLOCK, SIDE * SIDE // BLOCK, stages=stages, transposed=axis)
    lanes = max((how.lanes for how in stages if isinstance(how, Spread)), default=1)
    owned = any(isinstance(how, Owned) for how in stages)
    threads = _owners(kernel) if owned else _threads(kernel, stages, target)
    apart = owned or (lanes > 1 and along_grid(kernel))
    if apart:
        last = kernel.axes[kernel.grid - 1 - kernel.sequential] if kernel.grid > kernel.sequential else 1
        points = min(APART, _above(last))
        threads = max(lanes, min(threads, LARGEST_GROUP // points))
        points = max(points, target.warp // threads)
    else:
        points, groups = max(1, BLOCK // threads), math.prod(kernel.axes[:kernel.grid - kernel.sequential])
        while points > 1 and points * threads > 2 * target.warp and groups < points * target.multiprocessors:
            points //= 2  # every multiprocessor has something to do
    if threads == 1:
        stages = tuple(how._replace(width=1) if isinstance(how, Spread) else how for how in stages)
    schedule = GpuSchedule(threads, points, _width(kernel, target), stages=stages, apart=apart)
    return _with_tiles(kernel, schedule, target)


def _how(kernel: Kernel, stage: Stage) -> How:
    if not in_order(stage):
        order = fold_order(kernel, stage)
        return Spread(order.chains, 1 if runs(stage) else order.run if stage.folds else _side_by_side(kernel, stage))
    return InOrder() if owner(stage) is None else Owned()


def _transposed_axis(kernel: Kernel) -> int | None:
    """The axis of transposed tiles, if there is much to transpose: the innermost one that is long."""
    last = kernel.grid - 1
    long = [axis for axis in transposed_reads(kernel) if min(kernel.axes[axis], kernel.axes[last]) >= LONG_SIDE]
    return max(long, default=None)


def _side_by_side(kernel: Kernel, stage: Stage) -> int:
    """Of a stage without folds, the neighbouring points that a thread takes at a time."""
    if not stage.loops or count(kernel, stage.loops) < RUN * WARP // 2 or kernel.axes[stage.loops[-1]] % RUN:
        return 1
    axis, fixed = stage.loops[-1], [n for n, varies in enumerate(varying(stage, stage.loops[-1])) if not varies]
    return RUN if any(side_by_side(x, axis, fixed) for x in (*stage.body, *stage.stores, *stage.writes)) else 1


def _owners(kernel: Kernel) -> int:
    """The threads that share the elements at a point of the grid."""
    points = math.prod(kernel.axes[:kernel.grid])
    return max(LARGEST_GROUP // APART, LARGEST_GROUP // _above(min(points, LARGEST_GROUP)))


def _above(n: int) -> int:
    """The least power of two that is not less than n."""
    return 1 << max(n - 1, 0).bit_length()


def _threads(kernel: Kernel, stages: tuple[How, ...], target: GpuTarget) -> int:
    """The threads of a group."""
    if all(not isinstance(how, Spread) or not s.loops for s, how in zip(kernel.stages, stages)):
        return 1
    spread = [(s, how.lanes) for s, how in zip(kernel.stages, stages) if isinstance(how, Spread)]
    lanes, wide = max(n for _, n in spread), max(count(kernel, s.kept) for s, _ in spread)
    points = math.prod(kernel.axes[:kernel.grid - kernel.sequential])
    if lanes == 1 and (len(spread) < len(stages) or (points >= MANY and wide <= LITTLE)):
        return 1
    wanted = max(lanes, *(_wanted(s.folds, count(kernel, s.kept), n, lanes) for s, n in spread))
    return max(lanes, min(target.block_threads, LARGEST_GROUP, _above(wanted)))


def _wanted(folds: tuple[Fold, ...], kept: int, lanes: int, most: int) -> int:
    """Threads that a stage keeps busy: each result that is folded has its lanes; of others a thread computes several, and where `most`
    threads share a fold, these compute them all.
    """
    if folds:
        return kept * lanes
    return 1 if most >= WARP else max(min(kept, WARP), 1 << (kept // SHARE).bit_length() - 1 if kept >= SHARE else 1)


def _width(kernel: Kernel, target: GpuTarget) -> int:
    """Of a map, the neighbouring points that a thread takes: as many elements of the widest operand as one access loads."""
    if not kernel.grid or kernel.sequential or any(s.loops for s in kernel.stages):
        return 1
    last = kernel.grid - 1
    found = [x.operand for s in kernel.stages for x in (*s.body, *s.stores) if isinstance(x, (Load, Store)) and side_by_side(
        x, last, [n for n, varies in enumerate(varying(s, last)) if not varies])]
    widest = max((kernel.operands[i].itemsize for i in found), default=target.load_nbytes)
    width, last = target.load_nbytes // widest, kernel.axes[last]
    return width if last % width == 0 and math.prod(kernel.axes[:kernel.grid]) >= MANY * width else 1


def _with_tiles(kernel: Kernel, schedule: GpuSchedule, target: GpuTarget) -> GpuSchedule:
    """The schedule with a place for each tile: as near as there is room."""
    nbytes = [tile_nbytes(kernel, i) for i in range(len(kernel.tiles))]
    if schedule.threads == 1:
        own = sum(nbytes) <= OWN_NBYTES
        return replace(schedule, tiles=tuple(REGISTERS if own or t.size == 1 else SCRATCH for t in kernel.tiles))
    tiles = [REGISTERS if uniform(kernel, i) else SHARED for i in range(len(kernel.tiles))]
    while True:
        found = replace(schedule, tiles=tuple(tiles))
        room = min(target.shared_nbytes, MOST_SHARED if schedule.points > 1 else target.shared_nbytes)
        if shared_nbytes(kernel, found) <= room:
            return found
        if schedule.points > 1 and schedule.block > 32:
            schedule = replace(schedule, points=schedule.points // 2)
        else:
            largest = max((i for i, where in enumerate(tiles) if where == SHARED), key=lambda i: nbytes[i])
            tiles[largest] = SCRATCH
