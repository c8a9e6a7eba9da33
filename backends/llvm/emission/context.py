"""The context of a kernel function: its pointers, the indices of its axes, the memory and registers of its tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, i64
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.scalar import I64, Scalar
from nagraph.kernel.form import Kernel, Load, Stage, Store
from nagraph.plan.plan import aligned
from nagraph.schedule.form import Loops, Product, Schedule


class Range(NamedTuple):
    """The part of an axis that a block computes: from `start` to `stop`, multiples of `step` but for the axis's own end.

    edge: of the columns of a triangle, where the block's diagonal begins: all rows see what is before it.
    """

    start: Reg
    stop: Reg
    step: int
    edge: Reg | None = None


class EmissionContext:
    """The emission context: what the stages of a realised kernel share while its function is written.

    lane: the grid axis along which the lanes run, None if the schedule has one for each stage.
    """

    def __init__(self, kernel: Kernel, code: FunctionBuilder, schedule: Schedule):
        self.kernel, self.code, self.schedule, self.target = kernel, code, schedule, code.module.target
        self._hows = {id(s): how for s, how in zip(kernel.stages, schedule.stages)}
        self.one = Lanes(code, 1)
        self.lane: int | None = None
        #: Lanes along that axis, and which of them are active (None: all).
        self.lanes, self.mask = self.one, None
        self.pointers: list[Reg] = []
        #: The index of each axis at the point in hand; of the lane axis, that of the first lane.
        self.at: dict[int, Reg] = {}
        #: Memory of tiles for the point in hand; values of tiles of one element; which of these have memory as well.
        self.tiles: dict[int, Reg] = {}
        self.tile_nbytes = 0
        self.registers: dict[int, Scalar] = {}
        self.spilled: set[int] = set()
        #: Memory of tiles for the first row of a block.
        self.block_tiles: dict[int, Reg] = {}
        #: The stage that asks for memory while it computes, and for which accesses (`prefetch.row_prefetch`).
        self.row_prefetch: tuple[Stage, list[Load | Store]] | None = None
        #: Of the stage in hand: axes that go through a part of their extent, and conditions that hold before a triangle's edge.
        self.ranges: dict[int, Range] = {}
        self.conditions: frozenset[int] = frozenset()

    def locate(self, block: Reg, extents: list[int]) -> None:
        """Set the indices of the grid's axes to those of a block, whose number this is. extents: blocks along each axis."""
        rest = block
        for axis in range(len(extents) - 1, -1, -1):
            if axis == 0:
                self.at[axis] = rest
            else:
                self.at[axis] = self.code.emit("i64", f"urem {rest}, {extents[axis]}")
                rest = self.code.emit("i64", f"udiv {rest}, {extents[axis]}")

    def tile_memory(self, sizes: Mapping[int, int]) -> int:
        """Give tiles their places in scratch, by their numbers of elements; the bytes that they take."""
        nbytes = 0
        for i, size in sizes.items():
            self.tiles[i] = self.code.offset(self.code.arguments[4], "i8", i64(nbytes))
            nbytes += aligned(size * self.kernel.tiles[i].dtype.itemsize)
        self.tile_nbytes = nbytes
        return nbytes

    def loops(self, stage: Stage) -> Loops:
        """How a stage runs as loops."""
        how = self._hows[id(stage)]
        assert isinstance(how, Loops)
        return how

    def product(self, stage: Stage) -> Product:
        """How a stage runs as a matrix product."""
        how = self._hows[id(stage)]
        assert isinstance(how, Product)
        return how

    def places(self, lanes: Lanes, first: Reg, step: int) -> Scalar:
        """The indices first, first + step, ... in the lanes, as i64."""
        base = lanes.splat(Scalar(self.one, I64, first))
        if lanes.width == 1 or step == 0:
            return base
        offsets = ", ".join(f"i64 {i * step}" for i in range(lanes.width))
        return Scalar(lanes, I64, self.code.binary("add", base.raw, Reg(base.raw.type, f"<{offsets}>")))
