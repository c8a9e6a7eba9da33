"""The loops of a stage: over the axes of its results, over those that are folded, on blocks of lanes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.folds import across
from nagraph.backends.llvm.emission.stores import StageStores
from nagraph.backends.llvm.emission.values import Span, StageValues
from nagraph.backends.llvm.text.builder import Reg, i64
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.scalar import Scalar
from nagraph.kernel import fold_steps
from nagraph.kernel.fold_steps import State
from nagraph.kernel.form import Fold, Interleaved, Stage
from nagraph.kernel.vector_axis import parted

#: Iterations of all loops of a stage, at one point of the grid, from which the loops poll whether the call was abandoned.
LONG_STAGE = 1 << 22
#: For each width of lanes, the states of the folds.
States = dict[int, list[State]]


class StageLoops:
    """The loops of one stage, and what is done in them. given: instructions whose values are known already."""

    def __init__(self, context: EmissionContext, stage: Stage, given: Mapping[int, Scalar] = MappingProxyType({})):
        self.context, self.stage, self.code, self.kernel = context, stage, context.code, context.kernel
        self.values = StageValues(context, stage, given)
        self.stores = StageStores(self.values)
        order = self.values.order
        self.lane, self.kept, self.reduced, self.axes = order.lane, order.kept, order.reduced, order.axes

    # -- loops --------------------------------------------------------------------------------------------------

    def emit(self) -> None:
        """Write all loops of the stage, at the current indices of the grid."""
        self.code.polls = math.prod(self.kernel.axes[a] for a in self.stage.loops) > LONG_STAGE
        self.values.compute(0)
        self._keep(0)
        self.code.polls = False

    def _keep(self, depth: int) -> None:
        """The loops over which results are kept apart."""
        if depth == len(self.kept):
            self._reduce()
            return
        axis = self.kept[depth]
        for _ in self._iterations(axis):
            with self.values.scope():
                self.values.compute(depth + 1)
                self._keep(depth + 1)

    def _iterations(self, axis: int) -> Iterator[None]:
        """A loop over an axis; over the lane axis by whole blocks of lanes, then what is left with a mask."""
        context = self.context
        if axis != self.lane:
            if self.kernel.axes[axis]:
                with self.code.loop(*self._ends(axis)) as loop:
                    context.at[axis] = loop.index
                    yield
            return
        for span in self._spans():
            with self.values.within(span):
                if span.single:
                    context.at[axis] = span.first
                    yield
                else:
                    self.values.spread()
                    with self.code.loop(span.first, span.stop, span.width) as loop:
                        self.values.move_to(span, loop.index)
                        yield

    def _ends(self, axis: int) -> tuple[Reg, Reg]:
        """Where an axis begins and ends."""
        part = self.context.ranges.get(axis)
        return (i64(0), i64(self.kernel.axes[axis])) if part is None else (part.start, part.stop)

    def _spans(self) -> list[Span]:
        """The lane axis in spans: of each part whole blocks of lanes, and then the rest. A chain of a fold has a lane of its own."""
        assert self.lane is not None
        how, part = self.context.loops(self.stage), self.context.ranges.get(self.lane)
        extent, order = self.kernel.axes[self.lane], self.stage.folds[0].order if self.lane in self.reduced else None
        if part is not None:
            whole = Span(part.start, part.stop, how.width, masked=extent % how.width > 0)
            if part.edge is None:
                return [whole]
            return [whole._replace(stop=part.edge, masked=False, below=True), whole._replace(first=part.edge)]
        found, first = [], 0
        for stop, width in order.parts if isinstance(order, Interleaved) else parted([0, *how.cuts, extent], how.width):
            whole = stop - (stop - first) % width
            for a, b in ((first, whole), (whole, stop)):
                if a < b:
                    found.append(Span(i64(a), i64(b), width, b - a < width, single=b - a <= width, bounds=(a, b)))
            first = stop
        return found

    # -- folds ----------------------------------------------------------------------------------------------------

    def _reduce(self) -> None:
        """The loops over which values are combined; then the results of the folds, writes and stores."""
        if not self.stage.folds:
            self.stores.point()
            return
        if self.lane in self.reduced:
            self._reduce_lanes()
            return
        states = [fold_steps.start(f, self.stage, self.values.lanes) for f in self.stage.folds]
        states = self._reduce_loops(len(self.kept), states)
        for fold, state in zip(self.stage.folds, states):
            self._result(fold, state[-1])

    def _reduce_loops(self, depth: int, states: list[State]) -> list[State]:
        """Loops over the reduced axes, none of which has the lanes, carrying the states."""
        if depth == len(self.axes):
            return self._step(states)
        axis = self.axes[depth]
        if not self.kernel.axes[axis]:
            return states
        flat = [x for state in states for x in state]
        self.values.spread()
        with self.code.loop(*self._ends(axis), 1, [x.raw for x in flat]) as loop, self.values.scope():
            self.context.at[axis] = loop.index
            inside = _regroup(states, loop.carried)
            self.values.compute(depth + 1)
            loop.carried = [x.raw for state in self._reduce_loops(depth + 1, inside) for x in state]
        return _regroup(states, loop.carried)

    def _reduce_lanes(self) -> None:
        """Lanes along the innermost reduced axis: a state for each width that its spans have, joined at the end."""
        spans = self._spans()
        widths = dict.fromkeys(span.width for span in spans)
        states = {w: [fold_steps.start(f, self.stage, Lanes(self.code, w)) for f in self.stage.folds] for w in widths}
        states = self._outer_reduced(len(self.kept), spans, states)
        for n, fold in enumerate(self.stage.folds):
            parts = [across(fold, self.code, found[n]) for found in states.values()]
            whole = parts[0] if parts else fold_steps.start(fold, self.stage, self.context.one)
            for part in parts[1:]:
                whole = fold_steps.join(fold, self.context.one, whole, part)
            self._result(fold, whole[-1])

    def _outer_reduced(self, depth: int, spans: Sequence[Span], states: States) -> States:
        """Loops over the reduced axes, the last of which has the lanes, carrying the states."""
        axis = self.axes[depth]
        if axis != self.lane:
            if not self.kernel.axes[axis]:
                return states
            flat = [x.raw for group in states.values() for state in group for x in state]
            with self.code.loop(*self._ends(axis), 1, flat) as loop, self.values.scope():
                self.context.at[axis] = loop.index
                inside = _regroup_all(states, loop.carried)
                self.values.compute(depth + 1)
                found = self._outer_reduced(depth + 1, spans, inside)
                loop.carried = [x.raw for group in found.values() for state in group for x in state]
            return _regroup_all(states, loop.carried)
        states = dict(states)
        for span in spans:
            group = states[span.width]
            with self.values.within(span):
                self.values.spread()
                if span.single:
                    self.context.at[axis] = span.first
                    with self.values.scope():
                        self.values.compute(depth + 1)
                        states[span.width] = self._step(group)
                    continue
                flat = [x.raw for state in group for x in state]
                with self.code.loop(span.first, span.stop, span.width, flat) as loop, self.values.scope():
                    self.values.move_to(span, loop.index)
                    self.values.compute(depth + 1)
                    loop.carried = [x.raw for state in self._step(_regroup(group, loop.carried)) for x in state]
                states[span.width] = _regroup(group, loop.carried)
        return states

    def _step(self, states: list[State]) -> list[State]:
        """The states after this point, and what is stored at every point."""
        values, new = self.values, []
        for fold, state in zip(self.stage.folds, states):
            found = fold_steps.step(fold, values.lanes, state, tuple(values.value(v) for v in fold.values))
            if values.mask is not None and self.lane in self.reduced:
                found = tuple(Scalar(values.lanes, x.dtype, self.code.select(values.mask, x.raw, old.raw)) for x, old in zip(found, state))
            new.append(found)
        values.compute_running(new)
        self.stores.point()
        return new

    def _result(self, fold: Fold, value: Scalar) -> None:
        """Write the value of a fold into its tile."""
        if fold.tile < 0:
            return
        self.stores.write(fold.tile, fold.index, value)


def _regroup(like: Sequence[State], registers: Sequence[Reg]) -> list[State]:
    """Registers as states that are like others."""
    found = iter(registers)
    return [tuple(Scalar(x.s, x.dtype, next(found)) for x in state) for state in like]


def _regroup_all(like: States, registers: Sequence[Reg]) -> States:
    """The same for the states of all widths."""
    found = list(registers)
    out = {}
    for width, group in like.items():
        count = sum(map(len, group))
        out[width] = _regroup(group, found[:count])
        del found[:count]
    return out
