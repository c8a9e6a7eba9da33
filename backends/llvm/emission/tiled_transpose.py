"""Maps that read along one axis of the grid and write along another: square by square, each turned in registers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

from nagraph.backends.llvm.emission.context import Frame
from nagraph.backends.llvm.emission.stage import StageEmission
from nagraph.backends.llvm.text.builder import Reg, i64
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.backends.llvm.text.register_transpose import turned_square
from nagraph.ir.scalar import I64, Scalar
from nagraph.ir.types import BOOL
from nagraph.kernel.form import Instruction, Kernel, Load, Stage
from nagraph.kernel.stage_split import needed

#: More loads than these at a time would not stay in registers.
MOST_TURNED = 2
#: Points of an axis that make a square.
LEAST_EXTENT = 8


def turned_loads(kernel: Kernel) -> tuple[int, list[int]] | None:
    """(axis, loads): an axis of the grid, not the last, that loads walk with unit stride; the last one takes them elsewhere.

    None where lanes along the last axis are as good: without such loads, or with too many of them.
    """
    if kernel.grid < 2 or len(kernel.stages) != 1 or kernel.stages[0].loops or kernel.stages[0].folds:
        return None
    (stage,), last = kernel.stages, kernel.grid - 1
    if kernel.axes[last] < LEAST_EXTENT or any(s.index.coefficient(last) != 1 for s in stage.stores):
        return None
    strided = [n for n, i in enumerate(stage.body) if isinstance(i, Load) and i.dtype != BOOL
               and i.index.coefficient(last) not in (0, 1) and all(a >= 0 for a, _ in i.index.terms)]
    for axis in range(last - 1, -1, -1):
        found = [n for n in strided if stage.body[n].index.coefficient(axis) == 1]  # type: ignore[union-attr]
        if found and kernel.axes[axis] >= LEAST_EXTENT:
            return (axis, found) if len(found) <= MOST_TURNED else None
    return None


class _Turned(StageEmission):
    """The stage along the last axis, with some of its loads given."""

    def __init__(self, frame: Frame, stage: Stage, given: Mapping[int, Scalar]):
        super().__init__(frame, stage)
        self.given = given

    def _instruction(self, n: int, i: Instruction) -> Scalar:
        return self.given[n] if n in self.given else super()._instruction(n, i)


class Squares:
    """One square of a kernel: `lanes` points of `axis` by as many of the grid's last axis, from where the grid stands."""

    def __init__(self, frame: Frame, axis: int, loads: list[int], lanes: int):
        self.frame, self.code, self.axis, self.loads = frame, frame.code, axis, loads
        self.last, self.lanes = frame.kernel.grid - 1, Lanes(frame.code, lanes)
        (self.stage,) = frame.kernel.stages

    def emit(self) -> None:
        frame, code, width = self.frame, self.code, self.lanes.width
        down, across = frame.at[self.axis], frame.at[self.last]
        turned = self._read(down, across)
        self._along(self.last, across)
        for i in range(width):
            place = code.add(down, i64(i))
            extent = frame.kernel.axes[self.axis]
            inside = code.when(code.compare("icmp slt", place, i64(extent))) if extent % width and i else nullcontext()
            with inside:
                frame.at[self.axis] = place
                _Turned(frame, self.stage, {n: self._scalar(n, rows[i]) for n, rows in turned.items()}).emit()

    def _read(self, down: Reg, across: Reg) -> dict[int, list[Reg]]:
        """The loads, each as rows of the square along the last axis. Columns past its end repeat the last one."""
        frame, code = self.frame, self.code
        self._along(self.axis, down)
        columns: dict[int, list[Reg]] = {n: [] for n in self.loads}
        needed_first = needed(self.stage, self.loads)
        extent = frame.kernel.axes[self.last]
        for j in range(self.lanes.width):
            place = code.add(across, i64(j))
            if extent % self.lanes.width:
                place = code.emit("i64", f"call i64 @llvm.smin.i64({place}, i64 {extent - 1})")
            frame.at[self.last] = place
            reading = StageEmission(frame, self.stage)
            for n in needed_first:
                reading.values[n] = reading._instruction(n, self.stage.body[n])
            for n in self.loads:
                columns[n].append(reading._value(n).raw)
        frame.at[self.last] = across
        return {n: turned_square(code, found) for n, found in columns.items()}

    def _along(self, axis: int, first: Reg) -> None:
        """Lanes along an axis from `first` on, those past its end masked."""
        frame = self.frame
        frame.lane, frame.lanes, frame.mask = axis, self.lanes, None
        frame.at[axis] = first
        extent = frame.kernel.axes[axis]
        if extent % self.lanes.width:
            places = frame.places(self.lanes, first, 1)
            frame.mask = self.lanes.compare("lt", places, self.lanes.constant(extent, I64)).raw

    def _scalar(self, n: int, raw: Reg) -> Scalar:
        return Scalar(self.lanes, self.stage.body[n].dtype, raw)
