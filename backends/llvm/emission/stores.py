"""Stores: what a stage writes at each point, into tiles and operands, and the memory that it asks for."""

from __future__ import annotations

from typing import Any

from nagraph.backends.llvm.emission.values import StageValues, align
from nagraph.backends.llvm.text.builder import Reg, i64, suffix, vector
from nagraph.backends.llvm.text.lanes import Lanes, memory_type
from nagraph.backends.llvm.text.vectors import prefetch
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import BOOL
from nagraph.kernel.affine import Affine
from nagraph.kernel.fold_steps import combine
from nagraph.kernel.form import Load, Store, left_out


class StageStores:
    """The writes and stores of a stage, of the values at the point in hand."""

    def __init__(self, values: StageValues):
        self.values, self.context, self.code = values, values.context, values.code
        self.stage, self.kernel = values.stage, values.context.kernel

    def point(self) -> None:
        """Writes and stores at one point of all loops, and requests for memory."""
        if self.context.row_prefetch is not None and self.context.row_prefetch[0] is self.stage and self.values.lane is not None:
            for x in self.context.row_prefetch[1]:
                self._request(x)
        for w in self.stage.writes:
            self.write(w.tile, w.index, self.values.value(w.value, self._builder_of(w.index, w.value)))
        for s in self.stage.stores:
            self._store(s)

    def _request(self, x: Load | Store) -> None:
        """Ask for what an access reaches from here: a load at the next point of the grid, a store at this one."""
        code, last, write = self.code, self.kernel.grid - 1, isinstance(x, Store)
        if x.index.coefficient(self.values.lane) != 1:
            return
        here = self.context.at[last]
        self.context.at[last] = here if write else code.add(here, i64(1))
        dtype = self.kernel.operands[x.operand]
        place = code.offset(self.context.pointers[x.operand], memory_type(dtype), self.values.address(x.index)[0])
        self.context.at[last] = here
        prefetch(code, place, self.values.lanes.width * dtype.itemsize, write)

    def _builder_of(self, index: Affine, value: int) -> Lanes:
        """Lanes for an access: as many as in use if the index or the value varies with them."""
        along = index.coefficient(self.values.lane) if self.values.lane is not None else 0
        return self.values.lanes if along or self.values.order.varies[value] else self.context.one

    def write(self, tile: int, index: Affine, value: Scalar) -> None:
        """Write into a tile: a register if it has one element, else memory."""
        if self.kernel.tiles[tile].size == 1:
            self.context.registers[tile] = value
            if tile not in self.context.spilled:
                return
        pointer = self.context.tiles[tile]
        lanes: Any = value.s
        if self.context.lane is None:
            self._put(lanes, pointer, index, value, self.values.mask if lanes.width > 1 else None)
            return
        if lanes.width != self.values.lanes.width:
            value = self.values.lanes.splat(value)
        kind = vector(self.values.lanes.width, memory_type(value.dtype))
        first, _, _ = self.values.address(index)
        self.code.store(self._to_memory(self.values.lanes, value), self.code.offset(pointer, kind, first), align(value.dtype))

    def _store(self, s: Store) -> None:
        """Store into an operand, or combine with what is there."""
        lanes = self._builder_of(s.index, s.value)
        mask = self.values.mask if lanes.width > 1 else None
        pointer, value = self.context.pointers[s.operand], self.values.value(s.value, lanes)
        if s.combine is not None:
            dtype = self.kernel.operands[s.operand]
            there = lanes.cast(self.values.fetch(lanes, pointer, s.index, dtype, mask), value.dtype)
            (combined,) = combine(s.combine, lanes, (there,), (value,))
            value = lanes.cast(lanes.select(self._begins(s, lanes), value, combined) if s.row_sum else combined, dtype)
        self._put(lanes, pointer, s.index, value, mask)

    def _begins(self, s: Store, lanes: Lanes) -> Scalar:
        """Whether the point in hand is the first that a row sum adds up."""
        places = [self.context.at[a] for a in range(self.kernel.grid - left_out(s.index, self.kernel.grid), self.kernel.grid)]
        position = places[0] if places else i64(0)
        for place in places[1:]:
            position = self.code.binary("or", position, place)
        return lanes.splat(Scalar(self.context.one, BOOL, self.code.compare("icmp eq", position, i64(0))))

    def _put(self, lanes: Lanes, pointer: Reg, index: Affine, value: Scalar, mask: Reg | None) -> None:
        """Store a value's lanes, those of the mask, where the index says."""
        code, element = self.code, memory_type(value.dtype)
        raw = self._to_memory(lanes, value)
        first, step, varying = self.values.address(index)
        assert not varying, "a store stands where the axes say"
        nbytes = align(value.dtype)
        if lanes.width == 1 or (step == 1 and mask is None):
            code.store(raw, code.offset(pointer, element, first), nbytes)
        elif step == 1:
            assert mask is not None
            code.call(f"llvm.masked.store.{suffix(raw.type)}.p0", "void", raw, code.offset(pointer, element, first),
                      Reg("i32", str(nbytes)), mask)
        else:
            assert step, "all lanes can't store into one element"
            places = self.context.places(lanes, first, step)
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            every = mask or Reg(vector(lanes.width, "i1"), "splat (i1 true)")
            code.call(f"llvm.masked.scatter.{suffix(raw.type)}.v{lanes.width}p0", "void", raw, addresses,
                      Reg("i32", str(nbytes)), every)

    def _to_memory(self, lanes: Lanes, value: Scalar) -> Reg:
        """A value as memory holds it."""
        return self.code.convert("zext", value.raw, vector(lanes.width, "i8")) if value.dtype == BOOL else value.raw


