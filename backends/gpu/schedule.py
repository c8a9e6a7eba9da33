"""The schedule of a kernel on a GPU as data: which threads compute a point of its grid, what each stage's loops are spread over, where
tiles are.

A group of `threads` threads computes a point of the grid together, and a block holds `points` groups side by side. Its text,
`str(schedule)`, reads back with `nagraph.backends.gpu.schedule_text`. No schedule changes a bit (`order.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

#: Where a tile may be: in registers of each thread, in the shared memory of the block, in device memory of the launch.
REGISTERS, SHARED, SCRATCH = "registers", "shared", "scratch"


class Spread(NamedTuple):
    """A stage as loops whose points are spread over the group: `lanes` threads share a fold, and the results that are kept apart are dealt
    out to as many such teams as the group has. Without folds each thread takes points of its own. width: neighbouring points that a thread
    takes at a time, whose elements it loads and stores by one access each.
    """

    lanes: int = 1
    width: int = 1

    def __str__(self) -> str:
        parts = [f"{self.lanes} threads a fold"] * (self.lanes > 1) + [f"{self.width} points at a time"] * (self.width > 1)
        return ", ".join(["spread", *parts])


class Owned(NamedTuple):
    """A stage whose stores may meet, at places that are data: every thread of the group goes through all points in order, and stores those
    whose place is its own. So each element has one thread, which combines what comes there in order.
    """

    def __str__(self) -> str:
        return "owned"


class InOrder(NamedTuple):
    """A stage whose points one thread of the group computes, one after another: stores may meet there."""

    def __str__(self) -> str:
        return "in order"


#: How a stage runs. A stage that is a matrix product may have a kind of its own beside these.
How = Spread | Owned | InOrder


@dataclass(frozen=True)
class GpuSchedule:
    """A GPU schedule is how a kernel runs on a GPU.

    threads: those of a group, a power of two. points: groups of a block. width: neighbouring points of the grid's last axis that a group
    of one thread takes one after another. apart: whether neighbouring threads have neighbouring points, so that those of a group stand
    apart; else those of a group are neighbours. transposed: of a map, the axis along which operands are read that a block transposes.
    tiles: where each tile is. stages: how each stage runs, in their order.
    """

    threads: int
    points: int
    width: int = 1
    tiles: tuple[str, ...] = ()
    stages: tuple[How, ...] = ()
    apart: bool = False
    transposed: int | None = None

    @property
    def block(self) -> int:
        """The threads of a block."""
        return self.threads * self.points

    def __str__(self) -> str:
        each = f"{self.threads} threads each" if self.threads > 1 else f"a thread for {self.width}" if self.width > 1 else "a thread each"
        how = ", apart" if self.apart else f", transposed along a{self.transposed}" if self.transposed is not None else ""
        lines = [f"block: {self.points * self.width} points, {each}{how}"]
        lines += [f"t{n}: {where}" for n, where in enumerate(self.tiles)]
        lines += [f"stage {n}: {how}" for n, how in enumerate(self.stages)]
        return "\n".join(["schedule {", *(f"  {line}" for line in lines), "}"])
