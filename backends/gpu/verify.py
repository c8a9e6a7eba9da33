"""The verifier of GPU schedules: what is legal is said here alone, rule by rule, and each error names the rule that is broken.

A rule is a function of kernel, schedule and target, which gives a sentence for what is wrong, or nothing. They are asked in order: a later
one may rely on what earlier ones found right.
"""

from __future__ import annotations

from collections.abc import Callable

from nagraph.backends.gpu.order import fold_order, runs
from nagraph.backends.gpu.placement import SIDE, in_order, owner, shared_nbytes, transposed_reads, uniform
from nagraph.backends.gpu.products import verify as blocks
from nagraph.backends.gpu.products.form import BlockSchedule
from nagraph.backends.gpu.schedule import REGISTERS, SCRATCH, SHARED, GpuSchedule, Owned, Spread
from nagraph.backends.gpu.target import GpuTarget
from nagraph.errors import ScheduleError
from nagraph.kernel.form import Kernel


def check(kernel: Kernel, schedule: GpuSchedule | BlockSchedule, target: GpuTarget, name: str = "the kernel") -> None:
    """ScheduleError if a schedule is not legal for a kernel on a GPU: the rule that it breaks, and how."""
    problem = problem_of(kernel, schedule, target)
    if problem:
        raise ScheduleError(f"this schedule is not legal for {name}: {problem}")


def problem_of(kernel: Kernel, schedule: GpuSchedule | BlockSchedule, target: GpuTarget) -> str:
    """The rule that a schedule breaks, and how; "" if it is legal. Schedules of blocks have rules of their own (`products/verify.py`)."""
    if isinstance(schedule, BlockSchedule):
        return blocks.problem_of(kernel, schedule, target)
    for name, rule in RULES.items():
        wrong = rule(kernel, schedule, target)
        if wrong:
            return f"rule {name!r}: {wrong}"
    return ""


def _block(kernel: Kernel, schedule: GpuSchedule, target: GpuTarget) -> str:
    """A group is a power of two of threads; a block is whole warps, and not larger than the GPU allows."""
    threads, points = schedule.threads, schedule.points
    if threads < 1 or threads & (threads - 1) or points < 1 or schedule.width < 1:
        return f"a block has points, and a point a power of two of threads; not {points} and {threads}"
    if schedule.block > target.block_threads:
        return f"a block of {schedule.block} threads is larger than {target.name} allows, {target.block_threads}"
    if threads > 1 and schedule.block % target.warp:
        return f"where threads work together a block is whole warps of {target.warp} threads, not {schedule.block}"
    if schedule.apart and threads == 1:
        return "one thread does not stand apart"
    return ""


def _width(kernel: Kernel, schedule: GpuSchedule, target: GpuTarget) -> str:
    """Neighbouring points are computed by one thread where it has them for itself."""
    if schedule.width == 1 or schedule.transposed is not None:
        return ""
    if schedule.threads > 1 or not kernel.grid or kernel.sequential:
        return "a thread takes several points where it needs no other thread, along a grid whose points may come in any order"
    if any(s.loops for s in kernel.stages):
        return "a thread takes several points of a grid at which no stage loops"
    if kernel.axes[kernel.grid - 1] % schedule.width:
        return f"{schedule.width} points do not divide the last axis of the grid, {kernel.axes[kernel.grid - 1]}"
    return ""


def _transposed(kernel: Kernel, schedule: GpuSchedule, target: GpuTarget) -> str:
    """A tile is transposed along an axis along which some operand is read, by whole rows of threads that take several points each."""
    axis, found = schedule.transposed, transposed_reads(kernel)
    if axis is None:
        return ""
    if axis not in found:
        some = ", ".join(f"a{a}" for a in found) or "none"
        return f"no operand is read along a{axis} so that a block could transpose it; along {some} some are"
    if schedule.threads > 1 or schedule.points % SIDE or schedule.points * schedule.width != SIDE * SIDE:
        return f"a block has a tile of {SIDE} by {SIDE} points, whole rows of it at a time, and a thread for several of them"
    return ""


def _stages(kernel: Kernel, schedule: GpuSchedule, target: GpuTarget) -> str:
    """Every stage says how it runs; stages whose stores may meet go in order, and no others."""
    if len(schedule.stages) != len(kernel.stages):
        return f"it has {len(kernel.stages)} stages, numbered from 0"
    for n, (stage, how) in enumerate(zip(kernel.stages, schedule.stages)):
        if in_order(stage) == isinstance(how, Spread):
            return f"the stores of stage {n} {'may meet: it goes in order, or is owned' if in_order(stage) else 'never meet: it is spread'}"
        if isinstance(how, Spread) and how.width > 1 and (schedule.threads == 1 or not stage.loops or how.width < 1
                                                          or kernel.axes[stage.loops[-1]] % how.width):
            return f"stage {n} does not loop over whole parts of {how.width} points along an axis that several threads share"
        if isinstance(how, Owned) and owner(stage) is None:
            return f"stage {n} can't be owned: its place does not tell its elements apart by what is data alone"
    return ""


def _order(kernel: Kernel, schedule: GpuSchedule, target: GpuTarget) -> str:
    """A fold has a thread for each of its chains, so that no schedule changes a bit."""
    for n, (stage, how) in enumerate(zip(kernel.stages, schedule.stages)):
        if isinstance(how, Spread):
            order = fold_order(kernel, stage)
            if how.lanes != order.chains:
                return f"stage {n} adds up in {order.chains} chains, with a thread for each; with {how.lanes} it would have other bits"
            if runs(stage) and (how.width > 1 or (how.lanes > 1 and schedule.apart)):
                return f"stage {n} wants the state of its fold at every point: a thread takes its points one by one, beside its neighbours"
            if stage.folds and not runs(stage) and how.width != order.run:
                return f"stage {n} adds up in runs of {order.run} points; with {how.width} at a time it would have other bits"
            if how.lanes > schedule.threads:
                return f"stage {n} wants {how.lanes} threads, a group has {schedule.threads}"
    return ""


def _tiles(kernel: Kernel, schedule: GpuSchedule, target: GpuTarget) -> str:
    """Every tile has a place that all who read it can reach, and a block's shared memory is not exceeded."""
    if len(schedule.tiles) != len(kernel.tiles):
        return f"it has {len(kernel.tiles)} tiles, numbered from 0"
    for n, where in enumerate(schedule.tiles):
        if where not in (REGISTERS, SHARED, SCRATCH):
            return f"tile t{n} is in {REGISTERS}, {SHARED} or {SCRATCH}, not in {where}"
        if where == REGISTERS and schedule.threads > 1 and not uniform(kernel, n):
            return f"tile t{n} is read by other threads than those that write it: it can't be in their registers"
        if where == SHARED and schedule.threads == 1:
            return f"tile t{n} is one thread's own: its place is no shared memory"
    nbytes, most = shared_nbytes(kernel, schedule), target.shared_nbytes
    return f"a block wants {nbytes:,} bytes of shared memory, {target.name} has {most:,}" if nbytes > most else ""


#: The rules by name, in the order in which they are asked.
RULES: dict[str, Callable[[Kernel, GpuSchedule, GpuTarget], str]] = {
    "block": _block, "width": _width, "transposed": _transposed, "stages": _stages, "order": _order, "tiles": _tiles,
}
