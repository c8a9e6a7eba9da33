"""Folds across threads: how the states of the threads that share a fold become one, which all of them have then."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.backends.gpu.context import EmissionContext
from nagraph.backends.gpu.placement import SLOT_NBYTES
from nagraph.ir.scalar import Scalar
from nagraph.kernel.fold_steps import State, join, start
from nagraph.kernel.form import Fold, Stage

WARP = 32


class FoldsAcross:
    """The folds of a stage across `lanes` threads: by shuffles within a warp, then by way of shared memory between warps.

    Threads that stand apart are in different warps: theirs go by way of shared memory alone, in the same order.
    """

    def __init__(self, context: EmissionContext, lanes: int):
        self.context, self.text, self.lanes = context, context.text, lanes
        self.schedule, self.thread = context.schedule, context.dialect.thread

    def emit(self, folds: Sequence[Fold], states: Sequence[State]) -> None:
        """Join the states, which are variables."""
        if self.schedule.apart:
            self._apart(folds, states)
            return
        within = min(self.lanes, WARP)
        self._halve(folds, states, within)
        if self.lanes <= WARP:
            self._from(states, "0" if within == WARP else f"({self.thread} & {WARP - within})")
            return
        warps, blocks = self.lanes // WARP, self.schedule.block // WARP
        slots = self._slots(states, blocks)
        with self.text.block(f"if ({self.thread} % {WARP} == 0)"):
            for slot, x in slots:
                self.text.line(f"{slot}[{self.thread} / {WARP}] = {x.raw};")
        self.text.line("ng_block_barrier();")
        first = "" if warps == blocks else f"{self.thread} / {self.lanes} * {warps} + "
        for slot, x in slots:
            self.text.line(f"{x.raw} = {slot}[{first}{self.thread} % {warps}];")
        self._halve(folds, states, warps)
        self._from(states, "0")
        self.text.line("ng_block_barrier();")

    def before(self, folds: Sequence[Fold], states: Sequence[State], stage: Stage) -> None:
        """Let each thread have what the chains before its own give, one after another."""
        slots = self._slots(states, self.schedule.block)
        for slot, x in slots:
            self.text.line(f"{slot}[{self.thread}] = {x.raw};")
        self.context.barrier()
        s = self.context.scalars
        for fold, state in zip(folds, states):
            for x, begun in zip(state, start(fold, stage, s)):
                self.text.line(f"{x.raw} = {begun.raw};")
        with self.text.block(f"for (int q = {self.thread} / {self.lanes} * {self.lanes}; q < {self.thread}; ++q)"):
            others = iter([s.define(x.dtype, f"{slot}[q]") for slot, x in slots])
            for fold, state in zip(folds, states):
                assign(self.context, state, join(fold, s, state, tuple(next(others) for _ in state)))
        self.context.barrier()

    def _apart(self, folds: Sequence[Fold], states: Sequence[State]) -> None:
        """Threads that stand apart: each leaves what it has in shared memory, where half of them take what the others left."""
        points = self.schedule.points
        slots = self._slots(states, self.schedule.block)
        lane = "member" if self.lanes == self.schedule.threads else f"member % {self.lanes}"
        self._leave(slots)
        self.text.line("ng_block_barrier();")
        within = min(self.lanes, WARP)
        self._halve_apart(folds, states, slots, within // 2, 0, lane if within == self.lanes else f"member % {WARP}", "")
        if self.lanes > WARP:
            self._halve_apart(folds, states, slots, self.lanes // 2, WARP // 2, lane, f"member % {WARP} == 0 && ")
        first = "" if self.lanes == self.schedule.threads else f"member / {self.lanes} * {self.lanes * points} + "
        for slot, x in slots:
            self.text.line(f"{x.raw} = {slot}[{first}{self._slot()}];")
        self.text.line("ng_block_barrier();")

    def _halve_apart(self, folds: Sequence[Fold], states: Sequence[State], slots: Sequence[tuple[str, Scalar]], by: int, stop: int,
                     lane: str, when: str) -> None:
        """Of neighbouring members combine the second half into the first, from steps of `by` down to those above `stop`."""
        s, points = self.context.scalars, self.schedule.points
        with self.text.block(f"for (int by = {by}; by > {stop}; by /= 2)"):
            with self.text.block(f"if ({when}{lane} < by)"):
                others = iter([s.define(x.dtype, f"{slot}[(member + by) * {points} + {self._slot()}]") for slot, x in slots])
                for fold, state in zip(folds, states):
                    assign(self.context, state, join(fold, s, state, tuple(next(others) for _ in state)))
                self._leave(slots)
            self.text.line("ng_block_barrier();")

    def _leave(self, slots: Sequence[tuple[str, Scalar]]) -> None:
        """Leave in shared memory what this thread has."""
        for slot, x in slots:
            self.text.line(f"{slot}[member * {self.schedule.points} + {self._slot()}] = {x.raw};")

    def _slot(self) -> str:
        return "slot" if self.schedule.points > 1 else "0"

    def _slots(self, states: Sequence[State], count: int) -> list[tuple[str, Scalar]]:
        """For each value of the states, a pointer to `count` places of shared memory; the value."""
        d, found = self.context.dialect, []
        for n, x in enumerate(x for state in states for x in state):
            kind, place = d.type(x.dtype), self.context.slots + n * count * SLOT_NBYTES
            self.text.line(f"{d.shared}{kind}* const w{n} = ({d.shared}{kind}*)(shared + {place});")
            found.append((f"w{n}", x))
        return found

    def _halve(self, folds: Sequence[Fold], states: Sequence[State], count: int) -> None:
        """Of `count` neighbouring lanes combine the second half into the first, until one is left."""
        s = self.context.scalars
        with self.text.block(f"for (int by = {count // 2}; by > 0; by /= 2)"):
            for fold, state in zip(folds, states):
                other = tuple(s.define(x.dtype, f"ng_shuffle_down({x.raw}, by)") for x in state)
                assign(self.context, state, join(fold, s, state, other))

    def _from(self, states: Sequence[State], lane: str) -> None:
        """Let all lanes have what one has."""
        for x in (x for state in states for x in state):
            self.text.line(f"{x.raw} = ng_shuffle({x.raw}, {lane});")


def assign(context: EmissionContext, state: State, found: Sequence[Scalar]) -> None:
    """Let the variables of a state be what was found; none of it may follow from a variable that changes before."""
    if len(state) == 1:
        context.text.line(f"{state[0].raw} = {context.scalars.inlined(found[0])};")
        return
    for x, y in zip(state, found, strict=True):
        context.text.line(f"{x.raw} = {y.raw};")
