"""The context of a kernel function: its pointers, the indices of its axes, the memory and registers of its tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, i64
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.scalar import I64, Scalar
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Kernel, Load, Stage, Store
from nagraph.ops.base import Elementwise
from nagraph.plan.plan import aligned


class Range(NamedTuple):
    """The part of an axis that a block computes: from `start` to `stop`, multiples of `step` but for the axis's own end.

    edge: of the columns of a triangle, where the block's diagonal begins: all rows see what is before it.
    """

    start: Reg
    stop: Reg
    step: int
    edge: Reg | None = None


class EmissionContext:
    """The emission context: what the stages of a kernel share while its function is written.

    lane: the grid axis along which the lanes run, None if each stage chooses one of its own loops.
    """

    def __init__(self, kernel: Kernel, code: FunctionBuilder):
        self.kernel, self.code, self.target = kernel, code, code.module.target
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
        self._itemsize = max((d.itemsize for d in kernel.operands if d.itemsize >= 4), default=4)

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

    def vector(self) -> int:
        """Lanes of one vector register."""
        return self.target.vector_nbytes // self._itemsize

    def unroll(self, stages: Sequence[Stage]) -> int:
        """How many vectors are computed side by side: several in short bodies, whose operations wait for each other or for memory."""
        heavy = sum(i.op.weight for s in stages for i in s.body if isinstance(i, Apply) and isinstance(i.op, Elementwise))
        size = heavy + sum(len(s.body) for s in stages)
        return 4 if size < 8 else 2 if size < 24 else 1

    def places(self, lanes: Lanes, first: Reg, step: int) -> Scalar:
        """The indices first, first + step, ... in the lanes, as i64."""
        base = lanes.splat(Scalar(self.one, I64, first))
        if lanes.width == 1 or step == 0:
            return base
        offsets = ", ".join(f"i64 {i * step}" for i in range(lanes.width))
        return Scalar(lanes, I64, self.code.binary("add", base.raw, Reg(base.raw.type, f"<{offsets}>")))


def stride_score(index: Affine, axis: int) -> int:
    """How well lanes along an axis suit an access: 2 for unit stride, 1 where all lanes read one element, 0 otherwise."""
    c = index.coefficient(axis)
    varies = any(a < 0 for a, _ in index.terms)
    return 0 if varies else 2 if c == 1 else 1 if c == 0 else 0


def power_of_two(n: int) -> int:
    """The least power of two that is not less than n."""
    return 1 << max(0, n - 1).bit_length()
