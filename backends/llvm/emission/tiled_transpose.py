"""Tiled transpose: maps that read along one axis of the grid and write along another, tile by tile, each transposed in registers."""

from __future__ import annotations

from contextlib import nullcontext

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.stage import StageLoops
from nagraph.backends.llvm.emission.values import StageValues
from nagraph.backends.llvm.text.builder import Reg, i64
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.backends.llvm.text.register_transpose import transposed
from nagraph.ir.scalar import I64, Scalar
from nagraph.kernel.stage_split import needed


class TransposeTile:
    """One tile of a kernel: `lanes` points of `axis` by as many of the grid's last axis, from the current indices on."""

    def __init__(self, context: EmissionContext, axis: int, loads: list[int], lanes: int):
        self.context, self.code, self.axis, self.loads = context, context.code, axis, loads
        self.last, self.lanes = context.kernel.grid - 1, Lanes(context.code, lanes)
        (self.stage,) = context.kernel.stages

    def emit(self) -> None:
        """Write the tile: its loads transposed, then the stage for row after row."""
        context, code, width = self.context, self.code, self.lanes.width
        down, across = context.at[self.axis], context.at[self.last]
        rows_of = self._read(down, across)
        self._along(self.last, across)
        for i in range(width):
            place = code.add(down, i64(i))
            extent = context.kernel.axes[self.axis]
            inside = code.when(code.compare("icmp slt", place, i64(extent))) if extent % width and i else nullcontext()
            with inside:
                context.at[self.axis] = place
                StageLoops(context, self.stage, {n: self._scalar(n, rows[i]) for n, rows in rows_of.items()}).emit()

    def _read(self, down: Reg, across: Reg) -> dict[int, list[Reg]]:
        """The loads, each as rows of the tile along the last axis. Columns past its end repeat the last one."""
        context, code = self.context, self.code
        self._along(self.axis, down)
        columns: dict[int, list[Reg]] = {n: [] for n in self.loads}
        needed_first = needed(self.stage, self.loads)
        extent = context.kernel.axes[self.last]
        for j in range(self.lanes.width):
            place = code.add(across, i64(j))
            if extent % self.lanes.width:
                place = code.emit("i64", f"call i64 @llvm.smin.i64({place}, i64 {extent - 1})")
            context.at[self.last] = place
            reading = StageValues(context, self.stage)
            for n in needed_first:
                reading.values[n] = reading.instruction(n, self.stage.body[n])
            for n in self.loads:
                columns[n].append(reading.value(n).raw)
        context.at[self.last] = across
        return {n: transposed(code, found) for n, found in columns.items()}

    def _along(self, axis: int, first: Reg) -> None:
        """Lanes along an axis from `first` on, those past its end masked."""
        context = self.context
        context.lane, context.lanes, context.mask = axis, self.lanes, None
        context.at[axis] = first
        extent = context.kernel.axes[axis]
        if extent % self.lanes.width:
            places = context.places(self.lanes, first, 1)
            context.mask = self.lanes.compare("lt", places, self.lanes.constant(extent, I64)).raw

    def _scalar(self, n: int, raw: Reg) -> Scalar:
        return Scalar(self.lanes, self.stage.body[n].dtype, raw)
