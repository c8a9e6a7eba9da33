"""The loops of a stage, spread over the threads of a group, and what is folded, written and stored in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

from nagraph.backends.gpu.context import EmissionContext
from nagraph.backends.gpu.folds import FoldsAcross, assign
from nagraph.backends.gpu.neighbours import Packs, place_of
from nagraph.backends.gpu.order import fold_order, runs
from nagraph.backends.gpu.placement import count, owner
from nagraph.backends.gpu.schedule import How, Owned, Spread
from nagraph.backends.gpu.values import StageValues
from nagraph.c_text.places import INT
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import BOOL, DType
from nagraph.kernel import fold_steps
from nagraph.kernel.affine import Affine
from nagraph.kernel.fold_steps import State
from nagraph.kernel.form import Load, Stage, Store, left_out
from nagraph.kernel.sharing import may_share


class StageText:
    """The text of one stage. teams: the parts of the group that compute different results, of `lanes` threads each."""

    def __init__(self, context: EmissionContext, stage: Stage, how: How):
        self.context, self.stage, self.how = context, stage, how
        self.kernel, self.text, self.s = context.kernel, context.text, context.scalars
        self.values = StageValues(context, stage)
        self.reduced = stage.loops[len(stage.kept):]
        self.threads = context.schedule.threads
        self.lanes = how.lanes if isinstance(how, Spread) else 1
        self.width = how.width if isinstance(how, Spread) else 1
        self.teams = self.threads // self.lanes
        #: Whether all teams compute the same, for there is but one result.
        self.same = count(self.kernel, stage.kept) == 1
        #: What must hold where a result is stored, beside what the place asks for.
        self.conditions = self.values.conditions

    def emit(self) -> None:
        """Write the stage at the point of the grid in hand."""
        if not isinstance(self.how, Spread):
            self._in_order()
            return
        self.values.compute(0)
        if self.same or not self.stage.kept:
            with self._places(self.stage.kept):
                self._at_result()
        else:
            alone = not self.stage.folds
            with self._spread(self.stage.kept, self._team(), self.teams, shuffles=self.lanes > 1, width=self.width if alone else 1):
                self._at_result()

    def emit_neighbours(self, axis: int, width: int) -> None:
        """Write a stage without loops at `width` neighbouring points along an axis of the grid, of which the first is at `first`."""
        self.values = StageValues(self.context, self.stage, axis)
        self.values.compute(0)
        packs = Packs(self.context, (*self.stage.body, *self.stage.stores), axis, width, self.values.before(1))
        with packs.loop():
            self.values.compute(1)
            self._point([])
        packs.store("p")

    def _in_order(self) -> None:
        """All points, one after another: by the first thread of the group, or by all of them, each of which stores what is its own."""
        self.values.compute(0)
        place = owner(self.stage) if isinstance(self.how, Owned) and self.threads > 1 else None
        with self._when(["member == 0"] if self.threads > 1 and place is None else []):
            with self._nest(self.stage.loops):
                if place is not None:
                    self.values.compute_for(place)
                with self._when([] if place is None else [f"(({self.values.index(place)}) & {self.threads - 1}) == member"]):
                    self.values.compute(1)
                    self._point([])

    # -- loops ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _places(self, axes: Sequence[int]) -> Iterator[None]:
        """The only point of axes of one place each."""
        for a in axes:
            self.text.line(f"const int a{a} = 0;")
        yield

    @contextmanager
    def _nest(self, axes: Sequence[int]) -> Iterator[None]:
        """Loops over axes, one inside another."""
        if not axes:
            yield
            return
        a = axes[0]
        with self.text.block(f"for ({self.context.kind(a)} a{a} = 0; a{a} < {self.kernel.axes[a]}; ++a{a})"):
            with self._nest(axes[1:]):
                yield

    @contextmanager
    def _spread(self, axes: Sequence[int], first: str, step: int, shuffles: bool = False, width: int = 1, alone: Sequence[str] = (),
                stores: bool = True) -> Iterator[None]:
        """A loop over all points of axes, of which every `step`-th is this thread's, from `first` on; or every step-th `width` neighbours.

        shuffles: threads work together inside, so that all of them go through as many iterations. alone: what must hold where it stores.
        stores: whether anything is written or stored inside.
        """
        if width > 1:
            with self._neighbours(axes, first, step, width, alone, stores):
                yield
            return
        total = count(self.kernel, tuple(axes))
        if step == 1:
            with self._nest(axes):
                yield
            return
        kind = "int" if total < 1 << 31 else "i64"
        name = f"a{axes[0]}" if len(axes) == 1 else f"i{axes[0]}"
        uneven = shuffles and total % step > 0
        if uneven:
            head = f"for ({kind} n{axes[0]} = 0; n{axes[0]} < {total}; n{axes[0]} += {step})"
        else:
            head = f"for ({kind} {name} = {first}; {name} < {total}; {name} += {step})"
        with self.text.block(head):
            if uneven:
                self.text.line(f"const bool on{axes[0]} = n{axes[0]} + {first} < {total};")
                self.text.line(f"const {kind} {name} = on{axes[0]} ? n{axes[0]} + {first} : 0;")
                self.conditions.append(f"on{axes[0]}")
            if len(axes) > 1:
                locate(self.context, name, axes)
            yield
            if uneven:
                self.conditions.pop()

    @contextmanager
    def _neighbours(self, axes: Sequence[int], first: str, step: int, width: int, alone: Sequence[str], stores: bool) -> Iterator[None]:
        """The loop over all points of axes, `width` neighbours at a time."""
        total, last = count(self.kernel, tuple(axes)), axes[-1]
        kind = "int" if total < INT else "i64"
        name = "first" if len(axes) == 1 else f"i{axes[0]}"
        begin = f"{first} * {width}" if first.isidentifier() else f"({first}) * {width}"
        with self.text.block(f"for ({kind} {name} = {begin}; {name} < {total}; {name} += {step * width})"):
            if len(axes) > 1:
                locate(self.context, name, axes, {last: "first"})
            results = (*self.stage.writes, *self.stage.stores) if stores else ()
            fixed = self.values.before(1 if last in self.stage.kept else 2)
            packs = Packs(self.context, (*self.stage.body, *results), last, width, fixed)
            with packs.loop():
                yield
            conditions = {"t": [*alone, *self.conditions], "p": [*alone, *self.conditions, *(["active"] if self.context.partial else [])]}
            for letter in sorted(packs.letters()):
                with self._when(conditions[letter]):
                    packs.store(letter)

    def _team(self) -> str:
        return "member" if self.lanes == 1 else f"member / {self.lanes}"

    def _lane(self) -> str:
        return "member" if self.teams == 1 else f"member % {self.lanes}"

    # -- results and points -----------------------------------------------------------------------------------------

    def _at_result(self) -> None:
        """What is done for one result: folds over the reduced axes, or the stage's point itself."""
        self.values.compute(1)
        overwrites = self.same and self.teams > 1 and self._overwrites()
        if not self.stage.folds:
            if overwrites:
                self.context.barrier()
            self._point(["member == 0"] if self.same and self.threads > 1 else [])
            return
        if self.lanes > 1 and runs(self.stage):
            self._in_chains()
            return
        states = self._folded(stores=not overwrites)
        if self.lanes > 1:
            FoldsAcross(self.context, self.lanes).emit(self.stage.folds, states)
        kept = [(f.tile, f.index, state[-1]) for f, state in zip(self.stage.folds, states) if f.tile >= 0]
        for tile, _, value in kept:
            if self.context.is_variable(tile):
                self.text.line(f"t{tile} = {value.raw};")
        rest = [(tile, index, value) for tile, index, value in kept if not self.context.is_variable(tile)]
        if rest:
            first = "member == 0" if self.same else f"{self._lane()} == 0"
            alone = self.threads > 1 and (self.same or self.lanes > 1)
            with self._when([*([first] if alone else []), *self.conditions]):
                for tile, index, value in rest:
                    self.text.line(f"t{tile}[{self.values.index(index)}] = {value.raw};")
        if overwrites:  # all threads have read by now what those of the first team compute again
            self.context.barrier()
            with self._when([f"member < {self.lanes}"]):
                self._folded(stores=True)

    def _in_chains(self) -> None:
        """A running fold by several threads: each folds its chain, then goes through it again, from what the chains before it give."""
        (axis,), run = self.reduced, fold_order(self.kernel, self.stage).run
        kind, extent = self.context.kind(axis), self.kernel.axes[axis]
        lane = self._lane() if self._lane().isidentifier() else f"({self._lane()})"
        self.text.line(f"const {kind} begin = {'(i64)' if kind == 'i64' else ''}{lane} * {run};")
        self.text.line(f"const {kind} end = begin + {run} < {extent} ? begin + {run} : {extent};")
        states = [self._state(n) for n in range(len(self.stage.folds))]
        chain = f"for ({kind} a{axis} = begin; a{axis} < end; ++a{axis})"
        with self.text.block(chain):
            self._step(states)
        FoldsAcross(self.context, self.lanes).before(self.stage.folds, states, self.stage)
        with self._when([f"member < {self.lanes}"] if self.same and self.teams > 1 else []):
            with self.text.block(chain):
                self._step(states)
                self.values.compute_running(states)
                self._point([])

    def _step(self, states: Sequence[State]) -> None:
        """The states after one more point."""
        self.values.compute(2)
        for fold, state in zip(self.stage.folds, states):
            assign(self.context, state, fold_steps.step(fold, self.s, state, tuple(self.values.values[v] for v in fold.values)))

    def _folded(self, stores: bool) -> list[State]:
        """The states of all folds after this thread's points. stores: whether what is written and stored at each point is."""
        states = [self._state(n) for n in range(len(self.stage.folds))]
        alone = [f"member < {self.lanes}"] if self.same and self.teams > 1 else []
        with self._spread(self.reduced, self._lane(), self.lanes, width=self.width, alone=alone, stores=stores):
            self._step(states)
            self.values.compute_running(states)
            if stores:
                self._point(alone)
            for w in self.stage.writes if not stores else ():
                if self.context.is_variable(w.tile):
                    self.text.line(f"t{w.tile} = {self.values.values[w.value].raw};")
        return states

    def _overwrites(self) -> bool:
        """Whether a result may be written over an operand that is read here, also by threads that compute the same and store nothing."""
        inputs = len(self.kernel.operands) - self.kernel.outputs
        loaded = {i.operand for i in self.stage.body if isinstance(i, Load)}
        stored = {s.operand for s in self.stage.stores}
        return bool(loaded & stored) or any(may_share(self.kernel, i, o - inputs) for i in loaded for o in stored if i < inputs)

    def _state(self, n: int) -> State:
        """The variables of a fold, as it begins."""
        found = []
        begin = fold_steps.start(self.stage.folds[n], self.stage, self.s)
        for k, x in enumerate(begin):
            name = f"f{n}" if len(begin) == 1 else f"f{n}_{k}"
            self.text.line(f"{self.context.dialect.type(x.dtype)} {name} = {x.raw};")
            found.append(Scalar(self.s, x.dtype, name))
        return tuple(found)

    def _point(self, alone: list[str]) -> None:
        """Writes and stores at one point of all loops. alone: what must hold where several threads compute the same point."""
        conditions, stored = [*alone, *self.conditions], self.context.stored
        free, guarded = list[str](), list[str]()
        for w in self.stage.writes:
            value, later = self.values.values[w.value].raw, stored.get(place_of(w))
            if self.context.is_variable(w.tile):
                free.append(f"t{w.tile} = {value};")
            elif later is not None:
                free.append(f"{later} = {value};")
            else:
                guarded.append(f"t{w.tile}[{self.values.index(w.index)}] = {value};")
        for s in self.stage.stores:
            if s.combine is None and (later := stored.get(place_of(s))) is not None:
                free.append(f"{later} = {self.values.values[s.value].raw};")
        for line in free:
            self.text.line(line)
        if guarded:
            with self._when(conditions):
                for line in guarded:
                    self.text.line(line)
        stores = [s for s in self.stage.stores if s.combine is not None or place_of(s) not in stored]
        if stores:
            with self._when([*conditions, *(["active"] if self.context.partial else [])]):
                for s in stores:
                    self._store(s)

    def _store(self, s: Store) -> None:
        """Store into an operand, or combine with what is there."""
        dtype, value = self.kernel.operands[s.operand], self.values.values[s.value]
        place = f"p{s.operand}[{self.values.index(s.index)}]"
        if s.combine is not None:
            there = f"{place}{' != 0' if dtype == BOOL else ''}"
            here = self._so_far(s.index, there, dtype) if s.row_sum else self.s.define(dtype, there)
            (combined,) = fold_steps.combine(s.combine, self.s, (self.s.cast(here, value.dtype),), (value,))
            if s.row_sum:
                combined = self.s.define(value.dtype, f"{self._begins(s.index)} ? {value.raw} : {combined.raw}")
            value = self.s.cast(combined, dtype)
        self.text.line(f"{place} = {self.s.inlined(value)};")

    def _so_far(self, index: Affine, there: str, dtype: DType) -> Scalar:
        """What a row sum has added up, or zero before it has begun."""
        return self.s.define(dtype, f"{self._begins(index)} ? {self.s.constant(0, dtype).raw} : {there}")

    def _begins(self, index: Affine) -> str:
        """Whether the point in hand is the first that a row sum adds up."""
        grid = self.kernel.grid
        places = [f"a{a}" for a in range(grid - left_out(index, grid), grid)]
        return f"({' | '.join(places)}) == 0" if places else "true"

    @contextmanager
    def _when(self, conditions: Sequence[str]) -> Iterator[None]:
        """What is written inside happens where all conditions hold."""
        if not conditions:
            yield
            return
        with self.text.block(f"if ({' && '.join(conditions)})"):
            yield


def locate(context: EmissionContext, number: str, axes: Sequence[int], names: Mapping[int, str] = MappingProxyType({})) -> None:
    """Write the place along each axis of the point with this row-major number. names: of axes that are not called a0, a1, ..."""
    extents, step, found = context.kernel.axes, 1, list[str]()
    for a in reversed(axes):
        text = number if step == 1 else f"{number} / {step}"
        found.append(f"const {context.kind(a)} {names.get(a, f'a{a}')} = {text}{f' % {extents[a]}' if a != axes[0] else ''};")
        step *= extents[a]
    for line in reversed(found):
        context.text.line(line)
