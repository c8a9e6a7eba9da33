"""Barriers: between which stages the threads of a group have to wait for one another."""

from __future__ import annotations

from nagraph.backends.gpu.placement import in_order, read, written
from nagraph.backends.gpu.schedule import REGISTERS, GpuSchedule
from nagraph.kernel.form import Kernel, Load, Stage
from nagraph.kernel.sharing import may_share

#: What threads of a group share: a tile ("t", number), or an output ("p", number), whose bytes may be those of an operand.
Resource = tuple[str, int]


class Barriers:
    """What the threads of a group have read and written since the last barrier."""

    def __init__(self, kernel: Kernel, schedule: GpuSchedule):
        self.kernel, self.schedule = kernel, schedule
        self.inputs = len(kernel.operands) - kernel.outputs
        self._shares: dict[tuple[int, int], bool] = {}
        self._read: set[Resource] = set()
        self._written: set[Resource] = set()

    def before(self, stage: Stage) -> bool:
        """Whether a barrier is to stand before a stage, which comes next."""
        reads, writes = self._reads(stage), self._writes(stage)
        wait = bool(reads & self._written or writes & (self._read | self._written))
        if wait:
            self._read, self._written = set(), set()
        self._read |= reads
        self._written |= writes
        return wait

    @property
    def again(self) -> bool:
        """Whether a barrier is to stand at the end of a loop around all stages."""
        return any(where != REGISTERS for where in self.schedule.tiles)

    def _tiles(self, tiles: set[int]) -> set[Resource]:
        return {("t", i) for i in tiles if self.schedule.tiles[i] != REGISTERS}

    def _writes(self, stage: Stage) -> set[Resource]:
        return self._tiles(written(stage)) | {("p", s.operand) for s in stage.stores if not s.row_sum}

    def _reads(self, stage: Stage) -> set[Resource]:
        loaded = {i.operand for i in stage.body if isinstance(i, Load)}
        outputs = range(self.inputs, self.inputs + self.kernel.outputs)
        found = {("p", o) for o in outputs if any(o == i or self._may_share(i, o) for i in loaded)}
        if in_order(stage):
            found |= {("p", s.operand) for s in stage.stores}
        return self._tiles(read(stage)) | found

    def _may_share(self, operand: int, output: int) -> bool:
        key = operand, output
        if key not in self._shares:
            self._shares[key] = operand < self.inputs and may_share(self.kernel, operand, output - self.inputs)
        return self._shares[key]
