"""The values of a stage: instructions as lanes, loads and stores, tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.loop_order import LoopOrder
from nagraph.backends.llvm.text.builder import Reg, i64, suffix, vector
from nagraph.backends.llvm.text.lanes import Lanes, known, memory_type
from nagraph.ir.scalar import I64, Scalar
from nagraph.ir.types import BOOL, DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.fold_steps import State
from nagraph.kernel.form import Apply, Instruction, Load, Number, Position, Read, Running, Stage, Within


class Span(NamedTuple):
    """A part of the lane axis, `width` lanes at a time.

    masked: the last block of lanes may reach past the end. single: there is but one block, and where it is is known now.
    bounds: where it begins and ends, if these are numbers. below: it lies before the edge of a triangle.
    """

    first: Reg
    stop: Reg
    width: int
    masked: bool = False
    below: bool = False
    single: bool = False
    bounds: tuple[int, int] | None = None


class StageValues:
    """The values of a stage. Those that don't vary along the lane axis are scalars, made in the outermost loop that allows it.

    given: instructions whose values are known already.
    """

    def __init__(self, context: EmissionContext, stage: Stage, given: Mapping[int, Scalar] = MappingProxyType({})):
        self.context, self.stage, self.code, self.given = context, stage, context.code, given
        self.order = LoopOrder(context.kernel, stage, context.lane if context.lane is not None else context.loops(stage).axis)
        self.lane, self.varies = self.order.lane, self.order.varies
        self.values: dict[int, Scalar] = {}
        self.splats: dict[int, Scalar] = {}
        self.lanes = context.lanes if context.lane is not None else context.one
        self.mask: Reg | None = context.mask if context.lane is not None else None
        #: Where the lanes are along their axis.
        self.span: Span | None = None

    # -- where the point in hand is ---------------------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Values that are computed inside are forgotten afterwards."""
        before = self.values, self.splats
        self.values, self.splats = dict(self.values), dict(self.splats)
        yield
        self.values, self.splats = before

    @contextmanager
    def within(self, span: Span) -> Iterator[None]:
        """Lanes have a span's width inside; where the span is one block, those past its end are not active."""
        before = self.lanes, self.mask, self.values, self.splats, self.span
        self.lanes, self.span = Lanes(self.code, span.width), span
        self.values, self.splats = dict(self.values), {}
        count = int(span.stop.text) - int(span.first.text) if span.single else 0
        self.mask = first_lanes(count, span.width) if span.single and span.masked else None
        yield
        self.lanes, self.mask, self.values, self.splats, self.span = before

    def move_to(self, span: Span, place: Reg) -> None:
        """Move to a place of a span, in whose last block some lanes may lie past the end."""
        assert self.lane is not None
        self.context.at[self.lane] = place
        if span.masked:
            places = self.context.places(self.lanes, place, 1)
            self.mask = self.lanes.compare("lt", places, self.lanes.splat(Scalar(self.context.one, I64, span.stop))).raw

    # -- values -----------------------------------------------------------------------------------------------------

    def compute(self, level: int) -> None:
        """Compute the instructions that stand in `level` loops."""
        for n, i in enumerate(self.stage.body):
            if self.order.levels[n] == level and not self.order.waits[n]:
                self.values[n] = self.instruction(n, i)

    def compute_running(self, states: list[State]) -> None:
        """Compute the instructions that need the states of running folds."""
        for n, i in enumerate(self.stage.body):
            if self.order.waits[n]:
                self.values[n] = states[i.fold][0] if isinstance(i, Running) else self.instruction(n, i)

    def spread(self) -> None:
        """Spread over the lanes, before a loop, the scalars that instructions in it will want in every lane."""
        for i, varies in zip(self.stage.body, self.varies):
            if varies and isinstance(i, Apply):
                for a in i.arguments:
                    if not self.varies[a] and a in self.values:
                        self.value(a)

    def _builder(self, n: int) -> Lanes:
        return self.lanes if self.varies[n] else self.context.one

    def value(self, n: int, lanes: Lanes | None = None) -> Scalar:
        """The value of an instruction, spread over the lanes in use."""
        lanes = lanes or self.lanes
        value = self.values[n]
        if value.s.width == lanes.width:  # type: ignore[attr-defined]
            return Scalar(lanes, value.dtype, value.raw)
        if n not in self.splats or self.splats[n].s.width != lanes.width:  # type: ignore[attr-defined]
            self.splats[n] = lanes.splat(value)
        return self.splats[n]

    def instruction(self, n: int, i: Instruction) -> Scalar:
        """What an instruction computes at the point in hand."""
        if n in self.given:
            return self.given[n]
        lanes = self._builder(n)
        if n in self.context.conditions and self.span is not None and self.span.below:
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
        found: Scalar = i.op.scalar(lanes, *(self.value(a, lanes) for a in i.arguments))
        return found

    def _position(self, lanes: Lanes, index: Affine) -> Scalar:
        """The value of an affine expression in each lane."""
        first, step, varying = self.address(index)
        place = self.context.places(lanes, first, step)
        for atom, c in varying:
            place = place + self.value(-1 - atom, lanes) * c
        return place

    def _within(self, lanes: Lanes, i: Within) -> Scalar:
        if (inside := self._always_within(i)) is not None:
            return lanes.constant(inside, BOOL) if i.also is None or not inside else self.value(i.also, lanes)
        place = self._position(lanes, i.index)
        # As unsigned numbers, negative ones are larger than any size.
        inside = Scalar(lanes, BOOL, self.code.compare("icmp ult", place.raw, lanes.constant(i.size, I64).raw))
        if i.step > 1:
            inside = inside & lanes.eq(lanes.rem(place, lanes.constant(i.step, I64)), 0)
        return inside if i.also is None else inside & self.value(i.also, lanes)

    def _always_within(self, i: Within) -> bool | None:
        """Whether the condition holds in all lanes of the span, or in none; None if that is not known now."""
        bounds = self.span.bounds if self.span is not None else None
        if bounds is None or i.step > 1 or i.index.terms != ((self.lane, 1),):
            return None
        first, last = bounds[0] + i.index.offset, bounds[1] - 1 + i.index.offset
        return True if 0 <= first and last < i.size else False if last < 0 or first >= i.size else None

    def _given(self, mask: int | None, lanes: Lanes) -> Reg | bool:
        """The mask of an access; True or False where that is known now."""
        if mask is None:
            return True
        value = self.value(mask, lanes)
        chosen = known(value)
        return value.raw if chosen is None else bool(chosen)

    def address(self, index: Affine) -> tuple[Reg, int, list[tuple[int, int]]]:
        """(place of the first lane, step from lane to lane, atoms that vary otherwise) of an affine expression."""
        code, first, step = self.code, i64(index.offset), 0
        varying = []
        for atom, c in index.terms:
            if atom == self.lane:
                step = c
            elif atom < 0 and self.varies[-1 - atom]:
                varying.append((atom, c))
                continue
            place = self.context.at[atom] if atom >= 0 else self.values[-1 - atom].raw
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
        return self.fetch(lanes, self.context.pointers[i.operand], i.index, i.dtype, mask)

    def _guarded_load(self, i: Load | Read, mask: Reg) -> Scalar:
        """A load of one element that is only made where the mask holds."""
        kind = memory_type(i.dtype)
        code = self.code
        before = code.block
        then, done = code.fresh("then"), code.fresh("done")
        code.branch(mask, then, done)
        code.label(then)
        pointer = self.context.pointers[i.operand] if isinstance(i, Load) else self.context.tiles[i.tile]
        raw = code.load(kind, code.offset(pointer, kind, self._place(i.index)), align(i.dtype))
        code.jump(done)
        code.label(done)
        zero = "0.0" if kind in ("float", "double") else "0"
        met = code.emit(kind, f"phi {kind} [ {zero}, %{before} ], [ {raw.text}, %{then} ]")
        return self._from_memory(self.context.one, i.dtype, met)

    def _read(self, lanes: Lanes, i: Read) -> Scalar:
        if i.tile in self.context.registers:
            value = self.context.registers[i.tile]
            return Scalar(lanes, i.dtype, value.raw) if value.raw.type == lanes.type(i.dtype) else lanes.splat(value)
        pointer = self.context.tiles[i.tile]
        found = self._given(i.mask, lanes)
        if found is False:
            return lanes.constant(0, i.dtype)
        given = None if found is True else found
        if self.context.lane is None:
            if lanes.width == 1 and given is not None:
                return self._guarded_load(i, given)
            mask = self.mask if lanes.width > 1 else None
            if given is not None:
                mask = given if mask is None else self.code.binary("and", given, mask)
            return self.fetch(lanes, pointer, i.index, i.dtype, mask)
        kind = vector(lanes.width, memory_type(i.dtype))
        first, _, _ = self.address(i.index)
        place = self.code.offset(pointer, kind, first)
        if given is None or lanes.width == 1:
            raw = self.code.load(kind, place, align(i.dtype))
        else:
            raw = self.code.call(f"llvm.masked.load.{suffix(kind)}.p0", kind, place, Reg("i32", str(align(i.dtype))), given,
                                 Reg(kind, "zeroinitializer"))
        return self._from_memory(lanes, i.dtype, raw)

    def fetch(self, lanes: Lanes, pointer: Reg, index: Affine, dtype: DType, mask: Reg | None) -> Scalar:
        code, element = self.code, memory_type(dtype)
        kind = vector(lanes.width, element)
        first, step, varying = self.address(index)
        if varying or step not in (0, 1):
            if lanes.width == 1:
                place = code.offset(pointer, element, self._place(index))
                return self._from_memory(lanes, dtype, code.load(element, place, align(dtype)))
            places = self.context.places(lanes, first, step)
            for atom, c in varying:
                places = places + self.value(-1 - atom, lanes) * c
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            every = mask or Reg(vector(lanes.width, "i1"), "splat (i1 true)")
            raw = code.call(f"llvm.masked.gather.{suffix(kind)}.v{lanes.width}p0", kind, addresses,
                            Reg("i32", str(align(dtype))), every, Reg(kind, "zeroinitializer"))
            return self._from_memory(lanes, dtype, raw)
        address = code.offset(pointer, element, first)
        if step == 0 and lanes.width > 1:
            # One element for all lanes; a mask can only be that of the loop's end, whose first lane is active, ...
            if mask is None or mask is self.mask:
                one = self._from_memory(self.context.one, dtype, code.load(element, address, align(dtype)))
                return lanes.splat(one)
            # ... or that of the instruction: then the lanes ask one by one.
            places = self.context.places(lanes, first, 0)
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            raw = code.call(f"llvm.masked.gather.{suffix(kind)}.v{lanes.width}p0", kind, addresses,
                            Reg("i32", str(align(dtype))), mask, Reg(kind, "zeroinitializer"))
        elif mask is None or lanes.width == 1:
            raw = code.load(kind, address, align(dtype))
        else:
            raw = code.call(f"llvm.masked.load.{suffix(kind)}.p0", kind, address, Reg("i32", str(align(dtype))), mask,
                            Reg(kind, "zeroinitializer"))
        return self._from_memory(lanes, dtype, raw)

    def _place(self, index: Affine) -> Reg:
        """An index of one element, where it stands: its axes and the integers that instructions computed."""
        place, _, varying = self.address(index)
        for atom, c in varying:
            place = self.code.add(place, self.code.mul(self.values[-1 - atom].raw, i64(c)))
        return place

    def _from_memory(self, lanes: Lanes, dtype: DType, raw: Reg) -> Scalar:
        if dtype == BOOL:
            zero = Reg(raw.type, "zeroinitializer" if lanes.width > 1 else "0")
            raw = self.code.compare("icmp ne", raw, zero)
        return Scalar(lanes, dtype, raw)


def align(dtype: DType) -> int:
    """The alignment of an element in memory."""
    return max(1, dtype.itemsize)


def first_lanes(count: int, width: int) -> Reg:
    """The constant mask of the first lanes."""
    listed = ["true" if i < count else "false" for i in range(width)]
    return Reg(vector(width, "i1"), listed[0] if width == 1 else f"<{', '.join(f'i1 {x}' for x in listed)}>")
