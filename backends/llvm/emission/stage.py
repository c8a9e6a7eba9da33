"""The loops of a stage: over what is kept apart, over what is folded, on blocks of lanes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nagraph.backends.llvm.emission.context import power_of_two
from nagraph.backends.llvm.emission.values import Span, StageValues, combine
from nagraph.backends.llvm.text.builder import Reg, i64, vector
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.scalar import I64, Scalar
from nagraph.ir.types import BOOL
from nagraph.kernel.form import Apply, Fold, Within
from nagraph.ops.reduction import Sum

#: Parts of a lane axis that get loops of their own: the fewest elements of one, and how many.
SHORT, MOST_PARTS = 8, 8
#: Turns of all loops of a stage, at one point of the grid, from which the loops ask whether the call was abandoned.
LONG_STAGE = 1 << 22
#: What joins parts of a sum of products.
PRODUCTS = Sum(())
#: For each width of lanes, the states of the folds.
States = dict[int, list[tuple[Scalar, ...]]]


class StageEmission(StageValues):
    """Writes the loops of one stage."""

    # -- loops --------------------------------------------------------------------------------------------------

    def emit(self) -> None:
        self.code.asks = math.prod(self.kernel.axes[a] for a in self.stage.loops) > LONG_STAGE
        self._compute(0)
        self._keep(0)
        self.code.asks = False

    def _keep(self, depth: int) -> None:
        """The loops over which results are kept apart."""
        if depth == len(self.kept):
            self._reduce()
            return
        axis = self.kept[depth]
        for _ in self._turns(axis):
            with self._scope():
                self._compute(depth + 1)
                self._keep(depth + 1)

    def _turns(self, axis: int) -> Iterator[None]:
        """A loop over an axis; over the lane axis by whole blocks of lanes, then what is left with a mask."""
        frame = self.frame
        if axis != self.lane:
            if self.kernel.axes[axis]:
                with self.code.loop(*self._ends(axis)) as loop:
                    frame.at[axis] = loop.index
                    yield
            return
        for span in self._spans():
            with self._within_span(span):
                if span.single:
                    frame.at[axis] = span.first
                    yield
                else:
                    self._presplat()
                    with self.code.loop(span.first, span.stop, span.width) as loop:
                        self._go(span, loop.index)
                        yield

    def _ends(self, axis: int) -> tuple[Reg, Reg]:
        """Where an axis begins and ends."""
        part = self.frame.ranges.get(axis)
        return (i64(0), i64(self.kernel.axes[axis])) if part is None else (part.start, part.stop)

    def _spans(self) -> list[Span]:
        """The lane axis in spans: of each stretch between borders whole blocks of lanes, then the rest."""
        assert self.lane is not None
        extent, most = self.kernel.axes[self.lane], self.frame.vector() * self.frame.unroll([self.stage])
        part = self.frame.ranges.get(self.lane)
        if part is not None:
            width = min(most, part.step & -part.step)
            whole = Span(part.start, part.stop, width, masked=extent % width > 0)
            if part.edge is None:
                return [whole]
            return [whole._replace(stop=part.edge, masked=False, below=True), whole._replace(first=part.edge)]
        found = []
        for first, stop in itertools.pairwise(self._borders(extent)):
            width = min(most, power_of_two(stop - first))
            whole = stop - (stop - first) % width
            for a, b, lanes in ((first, whole, width), (whole, stop, power_of_two(stop - whole))):
                if a < b:
                    found.append(Span(i64(a), i64(b), lanes, b - a < lanes, single=b - a <= lanes, stretch=(a, b)))
        return found

    def _borders(self, extent: int) -> list[int]:
        """Where conditions on the place along the lane axis begin or cease to hold: between these there is nothing to ask.

        What is joined or padded is so computed part by part. Short parts are not worth loops of their own.
        """
        assert self.lane is not None
        places = {0, extent}
        for i in self.stage.body:
            if isinstance(i, Within) and i.step == 1 and i.index.terms == ((self.lane, 1),):
                places |= {p for p in (-i.index.offset, i.size - i.index.offset) if 0 < p < extent}
        found = sorted(places)
        short = any(b - a < SHORT for a, b in itertools.pairwise(found))
        return [0, extent] if short or len(found) > MOST_PARTS + 1 else found

    @contextmanager
    def _within_span(self, span: Span) -> Iterator[None]:
        """Lanes of a span's width; where there is but one block of them, those past the end are not active."""
        before = self.lanes, self.mask, self.values, self.splats, self.span
        self.lanes, self.span = Lanes(self.code, span.width), span
        self.values, self.splats = dict(self.values), {}
        count = int(span.stop.text) - int(span.first.text) if span.single else 0
        self.mask = first_lanes(count, span.width) if span.single and span.masked else None
        yield
        self.lanes, self.mask, self.values, self.splats, self.span = before

    def _go(self, span: Span, place: Reg) -> None:
        """To a place of a span, in whose last block some lanes may lie past the end."""
        assert self.lane is not None
        self.frame.at[self.lane] = place
        if span.masked:
            places = self.frame.places(self.lanes, place, 1)
            self.mask = self.lanes.compare("lt", places, self.lanes.splat(Scalar(self.frame.one, I64, span.stop))).raw

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """Values that are computed inside are forgotten afterwards."""
        before = self.values, self.splats
        self.values, self.splats = dict(self.values), dict(self.splats)
        yield
        self.values, self.splats = before

    def _presplat(self) -> None:
        """Spread over the lanes, before a loop, what the loop will want so."""
        for i, varies in zip(self.stage.body, self.varies):
            if varies and isinstance(i, Apply):
                for a in i.arguments:
                    if not self.varies[a] and a in self.values:
                        self._value(a)

    # -- folds ----------------------------------------------------------------------------------------------------

    def _reduce(self) -> None:
        """The loops over which values are combined; then the results of the folds, writes and stores."""
        if not self.stage.folds:
            self._finish_point()
            return
        if self.lane in self.reduced:
            self._reduce_lanes()
            return
        states = [self._start(f, self.lanes) for f in self.stage.folds]
        states = self._reduce_loops(len(self.kept), states)
        for fold, state in zip(self.stage.folds, states):
            self._result(fold, state[-1])

    def _reduce_loops(self, depth: int, states: list[tuple[Scalar, ...]]) -> list[tuple[Scalar, ...]]:
        """Loops over the reduced axes, none of which has the lanes, carrying the states."""
        if depth == len(self.order):
            return self._step(states)
        axis = self.order[depth]
        if not self.kernel.axes[axis]:
            return states
        flat = [x for state in states for x in state]
        self._presplat()
        with self.code.loop(*self._ends(axis), 1, [x.raw for x in flat]) as loop, self._scope():
            self.frame.at[axis] = loop.index
            inside = _regroup(states, loop.carried)
            self._compute(depth + 1)
            loop.carried = [x.raw for state in self._reduce_loops(depth + 1, inside) for x in state]
        return _regroup(states, loop.carried)

    def _reduce_lanes(self) -> None:
        """Lanes along the innermost reduced axis: a state for each width that its spans have, joined at the end."""
        spans = self._spans()
        widths = dict.fromkeys(span.width for span in spans)
        states = {w: [self._start(f, Lanes(self.code, w)) for f in self.stage.folds] for w in widths}
        states = self._outer_reduced(len(self.kept), spans, states)
        for n, fold in enumerate(self.stage.folds):
            parts = [self._across(fold, found[n]) for found in states.values()] or [self._start(fold, self.frame.one)]
            whole = parts[0]
            for part in parts[1:]:
                whole = self._combine(fold, self.frame.one, whole, part)
            self._result(fold, whole[-1])

    def _outer_reduced(self, depth: int, spans: Sequence[Span], states: States) -> States:
        axis = self.order[depth]
        if axis != self.lane:
            if not self.kernel.axes[axis]:
                return states
            flat = [x.raw for group in states.values() for state in group for x in state]
            with self.code.loop(*self._ends(axis), 1, flat) as loop, self._scope():
                self.frame.at[axis] = loop.index
                inside = _regroup_all(states, loop.carried)
                self._compute(depth + 1)
                found = self._outer_reduced(depth + 1, spans, inside)
                loop.carried = [x.raw for group in found.values() for state in group for x in state]
            return _regroup_all(states, loop.carried)
        states = dict(states)
        for span in spans:
            group = states[span.width]
            with self._within_span(span):
                self._presplat()
                if span.single:
                    self.frame.at[axis] = span.first
                    with self._scope():
                        self._compute(depth + 1)
                        states[span.width] = self._step(group)
                    continue
                flat = [x.raw for state in group for x in state]
                with self.code.loop(span.first, span.stop, span.width, flat) as loop, self._scope():
                    self._go(span, loop.index)
                    self._compute(depth + 1)
                    loop.carried = [x.raw for state in self._step(_regroup(group, loop.carried)) for x in state]
                states[span.width] = _regroup(group, loop.carried)
        return states

    def _start(self, fold: Fold, lanes: Lanes) -> tuple[Scalar, ...]:
        dtypes = [self.stage.body[v].dtype for v in fold.values]
        if fold.op is None:
            return (lanes.constant(0, dtypes[0]),)
        made: tuple[Scalar, ...] = fold.op.start(lanes, dtypes)  # type: ignore[attr-defined]
        return made

    def _step(self, states: list[tuple[Scalar, ...]]) -> list[tuple[Scalar, ...]]:
        """The states after this point, and what is stored at every point."""
        new = []
        for fold, state in zip(self.stage.folds, states):
            values = tuple(self._value(v) for v in fold.values)
            if fold.op is None:
                found: tuple[Scalar, ...] = (multiply_add(self.lanes, *values, state[0]),)
            else:
                found = self._combine(fold, self.lanes, state, values)
            if self.mask is not None and self.lane in self.reduced:
                found = tuple(Scalar(self.lanes, x.dtype, self.code.select(self.mask, x.raw, old.raw))
                              for x, old in zip(found, state))
            new.append(found)
        self.states = new
        self._compute_running()
        self._finish_point()
        return new

    def _combine(self, fold: Fold, lanes: Lanes, x: tuple[Scalar, ...], y: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        return combine(fold.op or PRODUCTS, lanes, x, y)

    def _across(self, fold: Fold, state: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        """The lanes of a state combined: halves, quarters, ... so that the order depends on the width alone."""
        width = state[0].s.width  # type: ignore[attr-defined]
        while width > 1:
            half = width // 2
            narrow = Lanes(self.code, half)
            low, high = (tuple(self._part(narrow, x, width, first) for x in state) for first in (0, half))
            state, width = self._combine(fold, narrow, low, high), half
        return state

    def _part(self, narrow: Lanes, x: Scalar, width: int, first: int) -> Scalar:
        kind = x.raw.type
        if narrow.width == 1:
            return Scalar(narrow, x.dtype, self.code.emit(narrow.type(x.dtype), f"extractelement {x.raw}, i64 {first}"))
        places = ", ".join(f"i32 {first + i}" for i in range(narrow.width))
        text = f"shufflevector {x.raw}, {kind} poison, <{narrow.width} x i32> <{places}>"
        return Scalar(narrow, x.dtype, self.code.emit(narrow.type(x.dtype), text))

    def _result(self, fold: Fold, value: Scalar) -> None:
        """The value of a fold into its tile."""
        if fold.tile < 0:
            return
        tile = self.kernel.tiles[fold.tile]
        lanes: Any = value.s
        self._write(fold.tile, fold.index, lanes.cast(value, tile.dtype))


def multiply_add(lanes: Lanes, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z: fused for floats; on bools `or` of `and`."""
    if x.dtype == BOOL:
        return (x & y) | z
    return lanes.fma(x, y, z) if x.dtype.kind == "f" else x * y + z


def _regroup(like: Sequence[tuple[Scalar, ...]], registers: Sequence[Reg]) -> list[tuple[Scalar, ...]]:
    """Registers as states of the shape of others."""
    found = iter(registers)
    return [tuple(Scalar(x.s, x.dtype, next(found)) for x in state) for state in like]


def _regroup_all(like: States, registers: Sequence[Reg]) -> States:
    found = list(registers)
    out = {}
    for width, group in like.items():
        count = sum(map(len, group))
        out[width] = _regroup(group, found[:count])
        del found[:count]
    return out


def first_lanes(count: int, width: int) -> Reg:
    """The constant mask of the first lanes."""
    listed = ["true" if i < count else "false" for i in range(width)]
    return Reg(vector(width, "i1"), listed[0] if width == 1 else f"<{', '.join(f'i1 {x}' for x in listed)}>")
