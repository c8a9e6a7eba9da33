"""Loop order: which loops of a stage go outside and which inside, along which the lanes run, and where each instruction stands."""

from __future__ import annotations

from nagraph.backends.llvm.emission.context import stride_score
from nagraph.kernel.form import Apply, Kernel, Load, Number, Read, Running, Stage, Within


class LoopOrder:
    """The loops of a stage: those over which results are kept apart, then those that are folded; of either, the lanes' axis last.

    grid_lane: the axis of the grid along which the lanes run; None if the stage chooses one of its own loops.
    """

    def __init__(self, kernel: Kernel, stage: Stage, grid_lane: int | None):
        self.kernel, self.stage, self.grid_lane = kernel, stage, grid_lane
        self.lane = grid_lane if grid_lane is not None else self._choose_lane()
        self.kept, self.reduced = (
            [*(a for a in axes if a != self.lane), *(a for a in axes if a == self.lane)]
            for axes in (stage.kept, stage.loops[len(stage.kept):]))
        self.axes = [*self.kept, *self.reduced]
        #: For each instruction: whether it differs from lane to lane, how many loops it stands in, whether it needs a running fold.
        self.varies, self.levels, self.waits = self._varying(), self._levels(), self._waiting()

    def _choose_lane(self) -> int | None:
        """The axis that most accesses walk with unit stride; of a short and a long one, the long one."""
        best, found = -1, None
        for a in lane_axes(self.stage):
            indices = [x.index for x in (*self.stage.body, *self.stage.stores) if not isinstance(x, (Apply, Number, Running))]
            score = sum(stride_score(i, a) for i in indices) * min(self.kernel.axes[a], 16)
            if score > best:
                best, found = score, a
        return found

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
                tile = isinstance(i, Read) and self.grid_lane is not None
                found.append(own or tile or (also is not None and found[also]))
        return found

    def _levels(self) -> list[int]:
        """How many loops an instruction stands in."""
        depth = {a: n for n, a in enumerate(self.axes, 1)}
        found: list[int] = []
        for i in self.stage.body:
            if isinstance(i, Apply):
                found.append(max((found[a] for a in i.arguments), default=0))
            elif isinstance(i, Number):
                found.append(0)
            elif isinstance(i, Running):
                found.append(len(self.axes))
            else:
                level = max((depth.get(a, 0) if a >= 0 else found[-1 - a] for a, _ in i.index.terms), default=0)
                also = i.mask if isinstance(i, (Load, Read)) else i.also if isinstance(i, Within) else None
                found.append(max(level, found[also]) if also is not None else level)
        return found

    def _waiting(self) -> list[bool]:
        """Which instructions need the state of a running fold."""
        found: list[bool] = []
        for i in self.stage.body:
            found.append(isinstance(i, Running) or (isinstance(i, Apply) and any(found[a] for a in i.arguments)))
        return found


def lane_axes(stage: Stage) -> list[int]:
    """The axes of a stage along which lanes may run: not those of running folds, nor of stores that may meet."""
    if any(a < 0 for s in stage.stores for a, _ in s.index.terms):
        return []
    kept = list(stage.kept[-1:])
    running = any(isinstance(i, Running) for i in stage.body)
    return kept if running else [*kept, *stage.loops[len(stage.kept):][-1:]]
