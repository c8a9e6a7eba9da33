"""A stage as loops: what is folded, written and stored in them, sums in the order that the kernel states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from nagraph.c_text.places import INT
from nagraph.export.to_c.context import FOLDS, KernelContext, fold_name
from nagraph.export.to_c.expressions import assignment, bare
from nagraph.export.to_c.values import StageValues
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import BOOL, FLOATS, DType
from nagraph.kernel import fold_steps
from nagraph.kernel.fold_steps import State
from nagraph.kernel.form import Consecutive, Interleaved, Order, Running, Stage, Store, left_out


class StageText:
    """The text of one stage."""

    def __init__(self, context: KernelContext, stage: Stage):
        self.context, self.stage = context, stage
        self.kernel, self.text, self.s = context.kernel, context.text, context.scalars
        self.values = StageValues(context, stage)
        self.reduced = stage.loops[len(stage.kept):]
        #: The names of the states of each fold.
        self.states = [self._names(n) for n in range(len(stage.folds))]

    def emit(self) -> None:
        """Write the stage at the point of the grid in hand."""
        self.values.compute(0)
        with nest(self.context, self.stage.kept):
            self.values.compute(1)
            if not self.stage.folds:
                self._point()
                return
            for fold, state in zip(self.stage.folds, self._folded()):
                if fold.tile >= 0:
                    self._write(fold.tile, self.values.index(fold.index), state[-1])

    # -- folds ------------------------------------------------------------------------------------------------------

    def _names(self, n: int) -> list[tuple[str, DType]]:
        """The names and dtypes of the values that a fold carries."""
        fold = self.stage.folds[n]
        begin = fold_steps.start(fold, self.stage, self.s)
        words = ["best", "place"] if len(begin) == 2 else [FOLDS.get(fold_name(fold), ("so_far",))[0]] * len(begin)
        return [(self.context.names.new(word), x.dtype) for word, x in zip(words, begin, strict=True)]

    def _order(self) -> Order:
        """The order of additions, where it matters: integers and bools, and the places of extrema, are the same in any."""
        matters = any(dtype in FLOATS and len(state) == 1 for state in self.states for _, dtype in state)
        order = self.stage.folds[0].order
        if not matters or order is None or any(isinstance(i, Running) for i in self.stage.body):
            return Consecutive()
        size = math.prod(self.kernel.axes[a] for a in self.reduced)
        if isinstance(order, Consecutive):
            return order if 0 < min(order.length or size, order.run or size) < size else Consecutive()
        return order if any(chains > 1 for _, chains in order.parts) or len(order.parts) > 1 else Consecutive()

    def _folded(self) -> list[State]:
        """The states of all folds after all points."""
        order = self._order()
        if isinstance(order, Interleaved):
            return self._side_by_side(order)
        if order.length or order.run:
            return self._in_chains(order)
        states = self._begun()
        with nest(self.context, self.reduced):
            self._step(states)
        return states

    def _begun(self, suffix: str = "") -> list[State]:
        """The variables of all folds, as they begin."""
        for fold, state in zip(self.stage.folds, self.states):
            for (name, dtype), x in zip(state, fold_steps.start(fold, self.stage, self.s)):
                self.text.line(f"{self.s.words.type(dtype)} {name}{suffix} = {bare(x.raw)};")
        return self._state(suffix)

    def _state(self, suffix: str = "") -> list[State]:
        return [tuple(Scalar(self.s, dtype, name + suffix) for name, dtype in state) for state in self.states]

    def _step(self, states: Sequence[State]) -> None:
        """The states after one more point, and what is done at it."""
        self.values.compute(2)
        for fold, state in zip(self.stage.folds, states):
            values = tuple(self.values.variable(v) if len(state) > 1 else self.values.values[v] for v in fold.values)
            self._assign(state, fold_steps.step(fold, self.s, state, values))
        self.values.compute_running(list(states))
        self._point()

    def _assign(self, state: State, found: Sequence[Scalar]) -> None:
        if len(state) == 1:
            self.text.line(assignment(state[0].raw, self.s.inlined(found[0])))
            return
        for x, y in zip(state, found, strict=True):
            self.text.line(f"{x.raw} = {y.raw};")

    def _join(self, states: Sequence[State], others: Sequence[State]) -> None:
        for fold, x, y in zip(self.stage.folds, states, others):
            self._assign(x, fold_steps.join(fold, self.s, x, y))

    def _in_chains(self, order: Consecutive) -> list[State]:
        """Sums of at most `length` points, one after another, that are added up in the end."""
        extents = [self.kernel.axes[a] for a in self.reduced]
        size, names = math.prod(extents), self.context.names
        run, length = order.run or size, min(order.length or size, order.run or size)
        kind, line = "int" if size < INT else "int64_t", self.text.line
        first, stop = names.new("first"), names.new("stop")
        totals = [tuple(Scalar(self.s, dtype, names.new("total")) for _, dtype in state) for state in self.states]
        for fold, total in zip(self.stage.folds, totals):
            for x, begin in zip(total, fold_steps.start(fold, self.stage, self.s)):
                line(f"{self.s.words.type(x.dtype)} {x.raw} = {bare(begin.raw)};")
        runs = run < size and run % length > 0
        begin, last = 0, (size - 1) // run * run if runs else (size - 1) // length * length
        loop, end = self.text.block, str(size)
        with (loop(_counted(kind, outer := names.new("run"), run, size, last, order.backwards)) if runs else nullcontext()):
            if runs:
                end = names.new("run_stop")
                line(f"const {kind} {end} = {outer} + {run} < {size} ? {outer} + {run} : {size};")
            begins = f"{first} == {last if order.backwards else begin}"
            if runs and order.backwards:
                start = f"{outer} + ({end} - {outer} - 1) / {length} * {length}"
                head = f"for ({kind} {first} = {start}; {first} >= {outer}; {first} -= {length})"
                begins = f"{outer} == {last} && {first} == {last + (size - last - 1) // length * length}"
            elif runs:
                head = f"for ({kind} {first} = {outer}; {first} < {end}; {first} += {length})"
            else:
                head = _counted(kind, first, length, size, last, order.backwards)
            with loop(head):
                states = self._begun()
                line(f"const {kind} {stop} = {first} + {length} < {end} ? {first} + {length} : {end};")
                with self._points(kind, first, stop):
                    self._step(states)
                for fold, total, state in zip(self.stage.folds, totals, states):
                    found = fold_steps.join(fold, self.s, total, state)
                    for x, one, more in zip(total, state, found):
                        line(f"{x.raw} = {begins} ? {one.raw} : {self.s.inlined(more)};")
        return list(totals)

    @contextmanager
    def _points(self, kind: str, first: str, stop: str) -> Iterator[None]:
        """The points [first, stop) of all that is reduced, row-major."""
        axes = [a for a in self.reduced if self.kernel.axes[a] > 1]
        name = self.context.axes[axes[0]] if len(axes) == 1 else self.context.names.new("point")
        with self.text.block(f"for ({kind} {name} = {first}; {name} < {stop}; ++{name})"):
            step, found = 1, list[str]()
            for a in reversed(axes if len(axes) > 1 else []):
                place = name if step == 1 else f"{name} / {step}"
                rest = f" % {self.kernel.axes[a]}" if a != axes[0] else ""
                found.append(f"const {self.context.kind(a)} {self.context.axes[a]} = {place}{rest};")
                step *= self.kernel.axes[a]
            for line in reversed(found):
                self.text.line(line)
            yield

    def _side_by_side(self, order: Interleaved) -> list[State]:
        """Many sums side by side, that are added up by halves in the end."""
        line, names, last = self.text.line, self.context.names, self.reduced[-1]
        counts = list(dict.fromkeys(chains for _, chains in order.parts))
        places = {n: f"_of_{n}" if len(counts) > 1 else "" for n in counts}
        place, chain = self.context.axes[last], names.new("c")
        for n in counts:
            for fold, state in zip(self.stage.folds, self.states):
                for (name, dtype), x in zip(state, fold_steps.start(fold, self.stage, self.s)):
                    declared = f"{self.s.words.type(dtype)} {name}{places[n]}[{n}]"
                    if x.raw in ("0.0f", "0.0"):
                        line(f"{declared} = {{{x.raw}}};")
                        continue
                    line(f"{declared};")
                    with self.text.block(f"for (int {chain} = 0; {chain} < {n}; ++{chain})"):
                        line(f"{name}{places[n]}[{chain}] = {bare(x.raw)};")
        with nest(self.context, self.reduced[:-1]):
            for first, (stop, n) in zip([0, *(stop for stop, _ in order.parts)], order.parts):
                which = "0" if n == 1 else f"{place} % {n}" if first % n == 0 else f"({place} - {first}) % {n}"
                with self._inner(last, first, stop):
                    self._step(self._state(f"{places[n]}[{which}]"))
        for n in counts:
            if n > 1:
                with self.text.block(f"for (int half = {n // 2}; half > 0; half /= 2)"):
                    with self.text.block(f"for (int {chain} = 0; {chain} < half; ++{chain})"):
                        self._join(self._state(f"{places[n]}[{chain}]"), self._state(f"{places[n]}[{chain} + half]"))
        states = self._state(f"{places[counts[0]]}[0]")
        for n in counts[1:]:
            self._join(states, self._state(f"{places[n]}[0]"))
        return states

    @contextmanager
    def _inner(self, axis: int, first: int, stop: int) -> Iterator[None]:
        name, kind = self.context.axes[axis], self.context.kind(axis)
        with self.text.block(f"for ({kind} {name} = {first}; {name} < {stop}; ++{name})"):
            yield

    # -- results ----------------------------------------------------------------------------------------------------

    def _point(self) -> None:
        """Writes and stores at one point of all loops. Of several, each is computed before the first is in memory."""
        results = (*self.stage.writes, *self.stage.stores)
        for r in results if len(results) > 1 else ():
            self.values.variable(r.value)
        for w in self.stage.writes:
            self._write(w.tile, self.values.index(w.index), self.values.values[w.value])
        for s in self.stage.stores:
            self._store(s)

    def _write(self, tile: int, index: str, value: Scalar) -> None:
        name = self.context.tiles[tile]
        self.text.line(f"{name if self.context.is_variable(tile) else f'{name}[{index}]'} = {bare(value.raw)};")

    def _store(self, s: Store) -> None:
        """Store into an operand, or combine with what is there."""
        dtype, value = self.kernel.operands[s.operand], self.values.values[s.value]
        place = f"{self.context.operands[s.operand]}[{self.values.index(s.index)}]"
        if s.combine is None:
            self.text.line(f"{place} = {bare(value.raw)};")
            return
        there, begins = f"{place}{' != 0' if dtype == BOOL else ''}", self._begins(s)
        here = self.s.define(dtype, f"{begins} ? {bare(self.s.constant(0, dtype).raw)} : {there}" if s.row_sum else there)
        (combined,) = fold_steps.combine(s.combine, self.s, (self.s.cast(here, value.dtype),), (value,))
        if s.row_sum:
            combined = self.s.define(value.dtype, f"{begins} ? {value.raw} : {combined.raw}")
        self.text.line(f"{place} = {bare(self.s.inlined(self.s.cast(combined, dtype)))};")

    def _begins(self, s: Store) -> str:
        """Whether the point in hand is the first that a row sum adds up."""
        grid = self.kernel.grid
        axes = [a for a in range(grid - left_out(s.index, grid), grid) if self.kernel.axes[a] > 1]
        return " && ".join(f"{self.context.axes[a]} == 0" for a in axes) or "true"


def _counted(kind: str, name: str, step: int, size: int, last: int, backwards: bool) -> str:
    """The head of a loop over 0, step, ... below size, or over the same backwards."""
    if backwards:
        return f"for ({kind} {name} = {last}; {name} >= 0; {name} -= {step})"
    return f"for ({kind} {name} = 0; {name} < {size}; {name} += {step})"


@contextmanager
def nest(context: KernelContext, axes: Sequence[int]) -> Iterator[None]:
    """Loops over axes, one inside another. An axis of one place has none."""
    if not axes:
        yield
        return
    a, name = axes[0], context.axes[axes[0]]
    if context.kernel.axes[a] == 1:
        with nest(context, axes[1:]):
            yield
        return
    with context.text.block(f"for ({context.kind(a)} {name} = 0; {name} < {context.kernel.axes[a]}; ++{name})"):
        with nest(context, axes[1:]):
            yield
