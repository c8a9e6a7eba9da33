"""Loop order: which loops of a stage go outside and which inside, and where each instruction stands."""

from __future__ import annotations

from nagraph.kernel.form import Apply, Kernel, Load, Number, Read, Running, Stage, Within
from nagraph.kernel.levels import levels, waiting


class LoopOrder:
    """The loops of a stage: those over which results are kept apart, then those that are folded; of either, the lanes' axis last.

    lane: the axis along which the lanes run, of the grid or of the stage; None if there are no lanes.
    """

    def __init__(self, kernel: Kernel, stage: Stage, lane: int | None):
        self.kernel, self.stage, self.lane = kernel, stage, lane
        self._along_grid = lane is not None and lane < kernel.grid
        self.kept, self.reduced = (
            [*(a for a in axes if a != self.lane), *(a for a in axes if a == self.lane)]
            for axes in (stage.kept, stage.loops[len(stage.kept):]))
        self.axes = [*self.kept, *self.reduced]
        #: For each instruction: whether it differs from lane to lane, how many loops it stands in, whether it needs a running fold.
        self.varies, self.waits = self._varying(), waiting(stage)
        self.levels = levels(stage, {a: n for n, a in enumerate(self.axes, 1)}, len(self.axes))

    def _varying(self) -> list[bool]:
        """Which instructions differ from lane to lane."""
        found: list[bool] = []
        for i in self.stage.body:
            if isinstance(i, Apply):
                found.append(any(found[a] for a in i.arguments))
            elif isinstance(i, Number):
                found.append(False)
            elif isinstance(i, Running):
                found.append(True)
            else:
                own = any(a == self.lane or (a < 0 and found[-1 - a]) for a, _ in i.index.terms)
                also = i.mask if isinstance(i, (Load, Read)) else i.also if isinstance(i, Within) else None
                tile = isinstance(i, Read) and self._along_grid
                found.append(own or tile or (also is not None and found[also]))
        return found
