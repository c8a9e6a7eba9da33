"""The values of a stage: instructions as lanes, loads and stores, tiles."""

from __future__ import annotations

from typing import Any, NamedTuple

from nagraph.backends.llvm.emission.context import Frame, liking
from nagraph.backends.llvm.text.builder import Reg, i64, suffix, vector
from nagraph.backends.llvm.text.lanes import NARROW, Lanes, known, memory_type
from nagraph.backends.llvm.text.vectors import prefetch
from nagraph.ir.op import Op
from nagraph.ir.scalar import F32, I64, Scalar
from nagraph.ir.types import BOOL, DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Instruction, Load, Number, Position, Read, Running, Stage, Store, Within, left_out


class Span(NamedTuple):
    """A part of the lane axis, `width` lanes at a time.

    masked: the last block of lanes may reach past the end. single: there is but one block, and where it is is known now.
    stretch: from where to where, if that is known. below: it lies before the edge of a triangle.
    """

    first: Reg
    stop: Reg
    width: int
    masked: bool = False
    below: bool = False
    single: bool = False
    stretch: tuple[int, int] | None = None


class StageValues:
    """The values of a stage. Those that don't vary along the lane axis are scalars, made in the outermost loop that allows it."""

    def __init__(self, frame: Frame, stage: Stage):
        self.frame, self.stage, self.code, self.kernel = frame, stage, frame.code, frame.kernel
        self.lane = frame.lane if frame.lane is not None else self._choose_lane()
        kept = [a for a in stage.kept if a != self.lane]
        reduced = [a for a in stage.loops[len(stage.kept):] if a != self.lane]
        lane_kept, lane_reduced = (([self.lane] if self.lane in axes else []) for axes in (stage.kept, stage.loops[len(stage.kept):]))
        self.kept, self.reduced = kept + lane_kept, reduced + lane_reduced
        self.order = [*self.kept, *self.reduced]
        self.values: dict[int, Scalar] = {}
        self.splats: dict[int, Scalar] = {}
        self.varies = self._varying()
        self.levels = self._levels()
        self.waits = self._waiting()
        self.lanes = frame.lanes if frame.lane is not None else frame.one
        self.mask: Reg | None = frame.mask if frame.lane is not None else None
        #: Where the lanes are along their axis.
        self.span: Span | None = None
        self.states: list[tuple[Scalar, ...]] = []

    def _choose_lane(self) -> int | None:
        """The axis that most accesses walk with unit stride; of a short and a long one, the long one."""
        best, found = -1, None
        for a in lane_axes(self.stage):
            indices = [x.index for x in (*self.stage.body, *self.stage.stores) if not isinstance(x, (Apply, Number, Running))]
            score = sum(liking(i, a) for i in indices) * min(self.kernel.axes[a], 16)
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
                tile = isinstance(i, Read) and self.frame.lane is not None
                found.append(own or tile or (also is not None and found[also]))
        return found

    def _levels(self) -> list[int]:
        """How many loops an instruction stands in."""
        depth = {a: n for n, a in enumerate(self.order, 1)}
        found: list[int] = []
        for i in self.stage.body:
            if isinstance(i, Apply):
                found.append(max((found[a] for a in i.arguments), default=0))
            elif isinstance(i, Number):
                found.append(0)
            elif isinstance(i, Running):
                found.append(len(self.order))
            else:
                level = max((depth.get(a, 0) if a >= 0 else found[-1 - a] for a, _ in i.index.terms), default=0)
                also = i.mask if isinstance(i, (Load, Read)) else i.also if isinstance(i, Within) else None
                found.append(max(level, found[also]) if also is not None else level)
        return found

    # -- values -----------------------------------------------------------------------------------------------------

    def _compute(self, level: int) -> None:
        """The instructions that stand in so many loops."""
        for n, i in enumerate(self.stage.body):
            if self.levels[n] == level and not self.waits[n]:
                self.values[n] = self._instruction(n, i)

    def _waiting(self) -> list[bool]:
        """Which instructions need the state of a running fold."""
        found: list[bool] = []
        for i in self.stage.body:
            found.append(isinstance(i, Running) or (isinstance(i, Apply) and any(found[a] for a in i.arguments)))
        return found

    def _compute_running(self) -> None:
        for n, i in enumerate(self.stage.body):
            if self.waits[n]:
                self.values[n] = self.states[i.fold][0] if isinstance(i, Running) else self._instruction(n, i)

    def _builder(self, n: int) -> Lanes:
        return self.lanes if self.varies[n] else self.frame.one

    def _value(self, n: int, lanes: Lanes | None = None) -> Scalar:
        """The value of an instruction, spread over the lanes in use."""
        lanes = lanes or self.lanes
        value = self.values[n]
        if value.s.width == lanes.width:  # type: ignore[attr-defined]
            return Scalar(lanes, value.dtype, value.raw)
        if n not in self.splats or self.splats[n].s.width != lanes.width:  # type: ignore[attr-defined]
            self.splats[n] = lanes.splat(value)
        return self.splats[n]

    def _instruction(self, n: int, i: Instruction) -> Scalar:
        lanes = self._builder(n)
        if n in self.frame.conditions and self.span is not None and self.span.below:
            return lanes.constant(True, BOOL)
        match i:
            case Number():
                return lanes.constant(i.value, i.dtype)
            case Position(index=index):
                return self._position(lanes, index)
            case Within():
                return self._within(lanes, i)
            case Load():
                return self._load(n, lanes, i)
            case Read():
                return self._read(lanes, i)
            case Apply():
                return self._apply(lanes, i)
        raise AssertionError(i)

    def _apply(self, lanes: Lanes, i: Apply) -> Scalar:
        arguments = [self._value(a, lanes) for a in i.arguments]
        narrow = getattr(i.op, "widens", False) and any(a.dtype in NARROW for a in arguments)
        if narrow:
            arguments = [lanes.cast(a, F32) if a.dtype in NARROW else a for a in arguments]
        found: Scalar = i.op.scalar(lanes, *arguments)
        return lanes.cast(found, i.dtype) if narrow else found

    def _position(self, lanes: Lanes, index: Affine) -> Scalar:
        """An affine expression in the lanes."""
        first, step, varying = self._address(index)
        place = self.frame.places(lanes, first, step)
        for atom, c in varying:
            place = place + self._value(-1 - atom, lanes) * c
        return place

    def _within(self, lanes: Lanes, i: Within) -> Scalar:
        if (inside := self._always_within(i)) is not None:
            return lanes.constant(inside, BOOL) if i.also is None or not inside else self._value(i.also, lanes)
        place = self._position(lanes, i.index)
        # As unsigned numbers, negative ones are larger than any size.
        inside = Scalar(lanes, BOOL, self.code.compare("icmp ult", place.raw, lanes.constant(i.size, I64).raw))
        if i.step > 1:
            inside = inside & lanes.eq(lanes.rem(place, lanes.constant(i.step, I64)), 0)
        return inside if i.also is None else inside & self._value(i.also, lanes)

    def _always_within(self, i: Within) -> bool | None:
        """Whether the condition holds in all lanes of this stretch, or in none; None if that is not known now."""
        stretch = self.span.stretch if self.span is not None else None
        if stretch is None or i.step > 1 or i.index.terms != ((self.lane, 1),):
            return None
        first, last = stretch[0] + i.index.offset, stretch[1] - 1 + i.index.offset
        return True if 0 <= first and last < i.size else False if last < 0 or first >= i.size else None

    def _given(self, mask: int | None, lanes: Lanes) -> Reg | bool:
        """The mask of an access; True or False where that is known now."""
        if mask is None:
            return True
        value = self._value(mask, lanes)
        chosen = known(value)
        return value.raw if chosen is None else bool(chosen)

    def _address(self, index: Affine) -> tuple[Reg, int, list[tuple[int, int]]]:
        """(place of the first lane, step from lane to lane, atoms that vary otherwise) of an affine expression."""
        code, first, step = self.code, i64(index.offset), 0
        varying = []
        for atom, c in index.terms:
            if atom == self.lane:
                step = c
            elif atom < 0 and self.varies[-1 - atom]:
                varying.append((atom, c))
                continue
            place = self.frame.at[atom] if atom >= 0 else self.values[-1 - atom].raw
            first = code.add(first, code.mul(place, i64(c)))
        return first, step, varying

    # -- memory -----------------------------------------------------------------------------------------------------

    def _load(self, n: int, lanes: Lanes, i: Load) -> Scalar:
        given = self._given(i.mask, lanes)
        if given is False:
            return lanes.constant(0, i.dtype)
        mask = None if given is True else given
        if lanes.width == 1 and mask is not None:
            return self._guarded_load(i, mask)
        if self.varies[n] and self.mask is not None:
            mask = self.mask if mask is None else self.code.binary("and", mask, self.mask)
        return self._fetch(lanes, self.frame.pointers[i.operand], i.index, i.dtype, mask)

    def _guarded_load(self, i: Load | Read, mask: Reg) -> Scalar:
        """A load of one element that is only made where the mask holds."""
        kind = memory_type(i.dtype)
        code = self.code
        before = code.block
        then, done = code.fresh("then"), code.fresh("done")
        code.branch(mask, then, done)
        code.label(then)
        pointer = self.frame.pointers[i.operand] if isinstance(i, Load) else self.frame.tiles[i.tile]
        raw = code.load(kind, code.offset(pointer, kind, self._place(i.index)), _align(i.dtype))
        code.jump(done)
        code.label(done)
        zero = "0.0" if kind in ("float", "double") else "0"
        met = code.emit(kind, f"phi {kind} [ {zero}, %{before} ], [ {raw.text}, %{then} ]")
        return self._from_memory(self.frame.one, i.dtype, met)

    def _read(self, lanes: Lanes, i: Read) -> Scalar:
        if i.tile in self.frame.registers:
            value = self.frame.registers[i.tile]
            return Scalar(lanes, i.dtype, value.raw) if value.raw.type == lanes.type(i.dtype) else lanes.splat(value)
        pointer = self.frame.tiles[i.tile]
        found = self._given(i.mask, lanes)
        if found is False:
            return lanes.constant(0, i.dtype)
        given = None if found is True else found
        if self.frame.lane is None:
            if lanes.width == 1 and given is not None:
                return self._guarded_load(i, given)
            mask = self.mask if lanes.width > 1 else None
            if given is not None:
                mask = given if mask is None else self.code.binary("and", given, mask)
            return self._fetch(lanes, pointer, i.index, i.dtype, mask)
        kind = vector(lanes.width, memory_type(i.dtype))
        first, _, _ = self._address(i.index)
        place = self.code.offset(pointer, kind, first)
        if given is None or lanes.width == 1:
            raw = self.code.load(kind, place, _align(i.dtype))
        else:
            raw = self.code.call(f"llvm.masked.load.{suffix(kind)}.p0", kind, place, Reg("i32", str(_align(i.dtype))), given,
                                 Reg(kind, "zeroinitializer"))
        return self._from_memory(lanes, i.dtype, raw)

    def _fetch(self, lanes: Lanes, pointer: Reg, index: Affine, dtype: DType, mask: Reg | None) -> Scalar:
        code, element = self.code, memory_type(dtype)
        kind = vector(lanes.width, element)
        first, step, varying = self._address(index)
        if varying or step not in (0, 1):
            if lanes.width == 1:
                place = code.offset(pointer, element, self._place(index))
                return self._from_memory(lanes, dtype, code.load(element, place, _align(dtype)))
            places = self.frame.places(lanes, first, step)
            for atom, c in varying:
                places = places + self._value(-1 - atom, lanes) * c
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            every = mask or Reg(vector(lanes.width, "i1"), "splat (i1 true)")
            raw = code.call(f"llvm.masked.gather.{suffix(kind)}.v{lanes.width}p0", kind, addresses,
                            Reg("i32", str(_align(dtype))), every, Reg(kind, "zeroinitializer"))
            return self._from_memory(lanes, dtype, raw)
        address = code.offset(pointer, element, first)
        if step == 0 and lanes.width > 1:
            # One element for all lanes; a mask can only be that of the loop's end, whose first lane is active, ...
            if mask is None or mask is self.mask:
                one = self._from_memory(self.frame.one, dtype, code.load(element, address, _align(dtype)))
                return lanes.splat(one)
            # ... or that of the instruction: then the lanes ask one by one.
            places = self.frame.places(lanes, first, 0)
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            raw = code.call(f"llvm.masked.gather.{suffix(kind)}.v{lanes.width}p0", kind, addresses,
                            Reg("i32", str(_align(dtype))), mask, Reg(kind, "zeroinitializer"))
        elif mask is None or lanes.width == 1:
            raw = code.load(kind, address, _align(dtype))
        else:
            raw = code.call(f"llvm.masked.load.{suffix(kind)}.p0", kind, address, Reg("i32", str(_align(dtype))), mask,
                            Reg(kind, "zeroinitializer"))
        return self._from_memory(lanes, dtype, raw)

    def _place(self, index: Affine) -> Reg:
        """An index of one element, where it stands: its axes and the integers that instructions computed."""
        place, _, varying = self._address(index)
        for atom, c in varying:
            place = self.code.add(place, self.code.mul(self.values[-1 - atom].raw, i64(c)))
        return place

    def _from_memory(self, lanes: Lanes, dtype: DType, raw: Reg) -> Scalar:
        if dtype == BOOL:
            zero = Reg(raw.type, "zeroinitializer" if lanes.width > 1 else "0")
            raw = self.code.compare("icmp ne", raw, zero)
        return Scalar(lanes, dtype, raw)

    def _finish_point(self) -> None:
        """Writes and stores at one point of all loops, and requests for memory."""
        if self.frame.requests is not None and self.frame.requests[0] is self.stage and self.lane is not None:
            for x in self.frame.requests[1]:
                self._request(x)
        for w in self.stage.writes:
            self._write(w.tile, w.index, self._value(w.value, self._builder_of(w.index, w.value)))
        for s in self.stage.stores:
            self._store(s)

    def _request(self, x: Load | Store) -> None:
        """Ask for what an access reaches from here: a load at the next point of the grid, a store at this one."""
        code, last, write = self.code, self.kernel.grid - 1, isinstance(x, Store)
        if x.index.coefficient(self.lane) != 1:
            return
        here = self.frame.at[last]
        self.frame.at[last] = here if write else code.add(here, i64(1))
        dtype = self.kernel.operands[x.operand]
        place = code.offset(self.frame.pointers[x.operand], memory_type(dtype), self._address(x.index)[0])
        self.frame.at[last] = here
        prefetch(code, place, self.lanes.width * dtype.itemsize, write)

    def _builder_of(self, index: Affine, value: int) -> Lanes:
        """Lanes for an access: as many as in use if the index or the value varies with them."""
        along = index.coefficient(self.lane) if self.lane is not None else 0
        return self.lanes if along or self.varies[value] else self.frame.one

    def _write(self, tile: int, index: Affine, value: Scalar) -> None:
        """Into a tile: a register if it has one element, else memory."""
        if self.kernel.tiles[tile].size == 1:
            self.frame.registers[tile] = value
            if tile not in self.frame.kept:
                return
        pointer = self.frame.tiles[tile]
        lanes: Any = value.s
        if self.frame.lane is None:
            self._put(lanes, pointer, index, value, self.mask if lanes.width > 1 else None)
            return
        if lanes.width != self.lanes.width:
            value = self.lanes.splat(value)
        kind = vector(self.lanes.width, memory_type(value.dtype))
        first, _, _ = self._address(index)
        self.code.store(self._to_memory(self.lanes, value), self.code.offset(pointer, kind, first), _align(value.dtype))

    def _store(self, s: Store) -> None:
        lanes = self._builder_of(s.index, s.value)
        mask = self.mask if lanes.width > 1 else None
        pointer, value = self.frame.pointers[s.operand], self._value(s.value, lanes)
        if s.combine is not None:
            there = self._fetch(lanes, pointer, s.index, value.dtype, mask)
            (combined,) = combine(s.combine, lanes, (there,), (value,))
            value = lanes.select(self._begins(s, lanes), value, combined) if s.row_sum else combined
        self._put(lanes, pointer, s.index, value, mask)

    def _begins(self, s: Store, lanes: Lanes) -> Scalar:
        """Whether the point in hand is the first that a sweeping store combines."""
        places = [self.frame.at[a] for a in range(self.kernel.grid - left_out(s.index, self.kernel.grid), self.kernel.grid)]
        together = places[0] if places else i64(0)
        for place in places[1:]:
            together = self.code.binary("or", together, place)
        return lanes.splat(Scalar(self.frame.one, BOOL, self.code.compare("icmp eq", together, i64(0))))

    def _put(self, lanes: Lanes, pointer: Reg, index: Affine, value: Scalar, mask: Reg | None) -> None:
        code, element = self.code, memory_type(value.dtype)
        raw = self._to_memory(lanes, value)
        first, step, varying = self._address(index)
        assert not varying, "a store stands where the axes say"
        align = _align(value.dtype)
        if lanes.width == 1 or (step == 1 and mask is None):
            code.store(raw, code.offset(pointer, element, first), align)
        elif step == 1:
            assert mask is not None
            code.call(f"llvm.masked.store.{suffix(raw.type)}.p0", "void", raw, code.offset(pointer, element, first),
                      Reg("i32", str(align)), mask)
        else:
            assert step, "all lanes can't store into one element"
            places = self.frame.places(lanes, first, step)
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            every = mask or Reg(vector(lanes.width, "i1"), "splat (i1 true)")
            code.call(f"llvm.masked.scatter.{suffix(raw.type)}.v{lanes.width}p0", "void", raw, addresses,
                      Reg("i32", str(align)), every)

    def _to_memory(self, lanes: Lanes, value: Scalar) -> Reg:
        return self.code.convert("zext", value.raw, vector(lanes.width, "i8")) if value.dtype == BOOL else value.raw


def lane_axes(stage: Stage) -> list[int]:
    """The axes of a stage along which lanes may run: not those of running folds, nor of stores that may meet."""
    if any(a < 0 for s in stage.stores for a, _ in s.index.terms):
        return []
    kept = list(stage.kept[-1:])
    running = any(isinstance(i, Running) for i in stage.body)
    return kept if running else [*kept, *stage.loops[len(stage.kept):][-1:]]


def combine(op: Op, lanes: Lanes, x: tuple[Scalar, ...], y: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """Two states of a fold as one; 16-bit floats, which are held by their bits, by way of float32."""
    narrow = [a.dtype if a.dtype in NARROW else None for a in x]
    x, y = (tuple(lanes.cast(a, F32) if n else a for a, n in zip(state, narrow)) for state in (x, y))
    made: tuple[Scalar, ...] = op.combine(lanes, x, y)  # type: ignore[attr-defined]
    return tuple(lanes.cast(a, n) if n else a for a, n in zip(made, narrow))


def _align(dtype: DType) -> int:
    return max(1, dtype.itemsize)
