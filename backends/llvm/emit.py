"""Emission: a kernel as one LLVM function, its loops on vectors of lanes.

The lanes run along one axis: the last axis of the grid where memory is walked best along it, else an axis
of each stage. Values that don't vary along it stay scalar, and are computed in the outermost loop that they allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nagraph.backends.llvm.code import Code, Module, Reg, i64, vector
from nagraph.backends.llvm.lanes import NARROW, Lanes, memory_type
from nagraph.backends.llvm.native import vector_nbytes
from nagraph.ir.types import BOOL, DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Apply, Fold, Instruction, Kernel, Load, Number, Position, Read, Running, Stage, Store, Within
from nagraph.kernel.scalar import F32, I64, Scalar
from nagraph.ops.base import Elementwise
from nagraph.plan.plan import aligned

#: What a kernel function takes: the thread's table of pointers, which of them are its operands, its units, its scratch.
ARGUMENTS = ("ptr noalias", "ptr noalias", "i64", "i64", "ptr noalias")


@dataclass(frozen=True)
class Emitted:
    """How to launch a kernel: how many units its grid has, and the bytes of scratch that a thread needs."""

    units: int
    scratch_nbytes: int


def emit(module: Module, kernel: Kernel, name: str) -> Emitted:
    """Write the function `name` for a kernel: void(slots, args, start, stop, scratch)."""
    return _Emission(module, kernel, name).emit()


def unit_stride(index: Affine, axis: int) -> int:
    """How an access likes to be walked along an axis: 2 for unit stride, 1 for none at all, 0 otherwise."""
    c = index.coefficient(axis)
    varies = any(a < 0 for a, _ in index.terms)
    return 0 if varies else 2 if c == 1 else 1 if c == 0 else 0


class _Emission:
    def __init__(self, module: Module, kernel: Kernel, name: str):
        self.kernel = kernel
        self.code = Code(module, name, "void", ARGUMENTS)
        module.functions.append(self.code)
        self.one = Lanes(self.code, 1)
        self.itemsize = max((d.itemsize for d in kernel.operands if d.itemsize >= 4), default=4)
        self.grid_lanes = _grid_lanes(kernel)
        #: Where each axis stands: the scalar index; of the lane axis, the index of the first lane.
        self.at: dict[int, Reg] = {}
        self.registers: dict[int, Scalar] = {}

    # -- the whole function -----------------------------------------------------------------------------------

    def emit(self) -> Emitted:
        code, kernel = self.code, self.kernel
        slots, args, start, stop, scratch = code.arguments
        self.pointers = [self._pointer(slots, args, i) for i in range(len(kernel.operands))]
        lanes = self._grid_width() if self.grid_lanes else 1
        self.tiles: dict[int, Reg] = {}
        nbytes = 0
        for i, tile in enumerate(kernel.tiles):
            if tile.size > 1:
                self.tiles[i] = code.offset(scratch, "i8", i64(nbytes))
                nbytes += aligned(tile.size * lanes * max(1, tile.dtype.itemsize))
        extents = list(kernel.axes[:kernel.grid])
        if self.grid_lanes:
            extents[-1] = -(-extents[-1] // lanes)
        with code.loop(start, stop) as loop:
            rest = loop.index
            for axis in range(kernel.grid - 1, -1, -1):
                if axis == 0:
                    self.at[axis] = rest
                else:
                    self.at[axis] = code.emit("i64", f"urem {rest}, {extents[axis]}")
                    rest = code.emit("i64", f"udiv {rest}, {extents[axis]}")
            if self.grid_lanes:
                last = kernel.grid - 1
                self.at[last] = code.mul(self.at[last], i64(lanes))
                self.lanes = Lanes(code, lanes)
                self.mask = self._active(last, lanes)
            for stage in kernel.stages:
                _StageEmission(self, stage).emit()
        code.ret()
        return Emitted(math.prod(extents), nbytes)

    def _pointer(self, slots: Reg, args: Reg, i: int) -> Reg:
        code = self.code
        slot = code.load("i64", code.offset(args, "i64", i64(i)), 8)
        return code.load("ptr", code.offset(slots, "ptr", slot), 8)

    def _grid_width(self) -> int:
        """Lanes along the grid: more than one vector, so that several are under way; fewer for a short axis."""
        extent = self.kernel.axes[self.kernel.grid - 1]
        width = self.vector() * self.unroll(self.kernel.stages)
        while width > self.vector() and (width > extent or extent % width):
            width //= 2
        return min(width, _power(extent))

    def vector(self) -> int:
        return vector_nbytes() // self.itemsize

    def unroll(self, stages: Sequence[Stage]) -> int:
        """Vectors side by side: for short bodies, whose operations wait for each other or for memory."""
        heavy = sum(i.op.weight for s in stages for i in s.body if isinstance(i, Apply) and isinstance(i.op, Elementwise))
        size = heavy + sum(len(s.body) for s in stages)
        return 4 if size < 8 else 2 if size < 24 else 1

    def _active(self, axis: int, width: int) -> Reg | None:
        """Which lanes from self.at[axis] on are inside the axis; None if all are."""
        if self.kernel.axes[axis] % width == 0:
            return None
        lanes = Lanes(self.code, width)
        places = self.places(lanes, self.at[axis], 1)
        return lanes.compare("lt", places, lanes.constant(self.kernel.axes[axis], I64)).raw

    def places(self, lanes: Lanes, first: Reg, step: int) -> Scalar:
        """first, first + step, ... in the lanes, as i64."""
        base = lanes.splat(Scalar(self.one, I64, first))
        if lanes.width == 1 or step == 0:
            return base
        offsets = ", ".join(f"i64 {i * step}" for i in range(lanes.width))
        return Scalar(lanes, I64, self.code.binary("add", base.raw, Reg(base.raw.type, f"<{offsets}>")))


def _grid_lanes(kernel: Kernel) -> bool:
    """Whether the lanes run along the last axis of the grid: where no stage loops, or memory is walked better along it."""
    if not kernel.grid:
        return False
    if not any(s.loops for s in kernel.stages):
        return True
    last = kernel.grid - 1
    along_grid = along_loops = 0
    for stage in kernel.stages:
        accesses = [x for x in (*stage.body, *stage.stores) if not isinstance(x, (Apply, Number, Running))]
        turns = math.prod(kernel.axes[a] for a in stage.loops)
        indices = [x.index for x in accesses]
        along_grid += turns * sum(unit_stride(i, last) for i in indices)
        along_loops += turns * max((sum(unit_stride(i, a) for i in indices) for a in _lane_axes(stage)), default=0)
    short = max((kernel.axes[a] for s in kernel.stages for a in _lane_axes(s)), default=1)
    if short < 8 and kernel.axes[last] > 8:
        return along_grid * 2 >= along_loops
    return along_grid > along_loops


def _lane_axes(stage: Stage) -> list[int]:
    """The axes of a stage along which lanes may run: not those of running folds, nor of stores that may meet."""
    if any(a < 0 for s in stage.stores for a, _ in s.index.terms):
        return []
    kept = list(stage.kept[-1:])
    running = any(isinstance(i, Running) for i in stage.body)
    return kept if running else [*kept, *stage.loops[len(stage.kept):][-1:]]


def _power(n: int) -> int:
    """The least power of two that is not less than n."""
    return 1 << max(0, n - 1).bit_length()


class _StageEmission:
    """One stage: loops, values at their levels, folds, writes and stores."""

    def __init__(self, outer: _Emission, stage: Stage):
        self.outer, self.stage, self.code, self.kernel = outer, stage, outer.code, outer.kernel
        self.lane = outer.kernel.grid - 1 if outer.grid_lanes else self._choose_lane()
        kept = [a for a in stage.kept if a != self.lane]
        reduced = [a for a in stage.loops[len(stage.kept):] if a != self.lane]
        lane_kept, lane_reduced = (([self.lane] if self.lane in axes else []) for axes in (stage.kept, stage.loops[len(stage.kept):]))
        self.kept, self.reduced = kept + lane_kept, reduced + lane_reduced
        self.order = [*self.kept, *self.reduced]
        self.values: dict[int, Scalar] = {}
        self.splats: dict[int, Scalar] = {}
        self.varies = self._varying()
        self.levels = self._levels()
        self.lanes = outer.lanes if outer.grid_lanes else outer.one
        self.mask: Reg | None = outer.mask if outer.grid_lanes else None
        self.states: list[tuple[Scalar, ...]] = []

    def _choose_lane(self) -> int | None:
        """The axis that most accesses walk with unit stride; of a short and a long one, the long one."""
        best, found = -1, None
        for a in _lane_axes(self.stage):
            indices = [x.index for x in (*self.stage.body, *self.stage.stores) if not isinstance(x, (Apply, Number, Running))]
            score = sum(unit_stride(i, a) for i in indices) * min(self.kernel.axes[a], 16)
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
                also = i.mask if isinstance(i, Load) else i.also if isinstance(i, Within) else None
                tile = isinstance(i, Read) and self.outer.grid_lanes
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
                also = i.mask if isinstance(i, Load) else i.also if isinstance(i, Within) else None
                found.append(max(level, found[also]) if also is not None else level)
        return found

    # -- loops --------------------------------------------------------------------------------------------------

    def emit(self) -> None:
        self._compute(0)
        self._keep(0)

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
        extent = self.kernel.axes[axis]
        outer = self.outer
        if axis != self.lane:
            if extent:
                with self.code.loop(i64(0), i64(extent)) as loop:
                    outer.at[axis] = loop.index
                    yield
            return
        for first, stop, width in self._blocks(extent):
            with self._width(width, stop - first if stop - first < width else None):
                if stop - first <= width:
                    outer.at[axis] = i64(first)
                    yield
                else:
                    self._presplat()
                    with self.code.loop(i64(first), i64(stop), width) as loop:
                        outer.at[axis] = loop.index
                        yield

    def _blocks(self, extent: int) -> list[tuple[int, int, int]]:
        """(first, stop, lanes): whole blocks of lanes, then the rest."""
        width = min(self.outer.vector() * self.outer.unroll([self.stage]), _power(extent))
        whole = extent // width * width
        found = [(0, whole, width)] if whole else []
        return [*found, (whole, extent, _power(extent - whole))] if whole < extent else found

    @contextmanager
    def _width(self, width: int, count: int | None) -> Iterator[None]:
        """Lanes of this width, only the first `count` of them active."""
        before = self.lanes, self.mask, self.values, self.splats
        self.lanes = Lanes(self.code, width)
        self.values, self.splats = dict(self.values), {}
        self.mask = None if count is None else Reg(vector(width, "i1"), _first_lanes(count, width))
        yield
        self.lanes, self.mask, self.values, self.splats = before

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
        with self.code.loop(i64(0), i64(self.kernel.axes[axis]), 1, [x.raw for x in flat]) as loop, self._scope():
            self.outer.at[axis] = loop.index
            inside = _regroup(states, loop.carried)
            self._compute(depth + 1)
            loop.carried = [x.raw for state in self._reduce_loops(depth + 1, inside) for x in state]
        return _regroup(states, loop.carried)

    def _reduce_lanes(self) -> None:
        """Lanes along the innermost reduced axis: a state for whole blocks and one for the rest, joined at the end."""
        assert self.lane is not None
        blocks = self._blocks(self.kernel.axes[self.lane])
        builders = [Lanes(self.code, width) for _, _, width in blocks]
        states = [[self._start(f, b) for f in self.stage.folds] for b in builders]
        states = self._outer_reduced(len(self.kept), blocks, states)
        for n, fold in enumerate(self.stage.folds):
            parts = [self._across(fold, state[n]) for state in states] or [self._start(fold, self.outer.one)]
            whole = parts[0]
            for part in parts[1:]:
                whole = self._combine(fold, self.outer.one, whole, part)
            self._result(fold, whole[-1])

    def _outer_reduced(self, depth: int, blocks: Sequence[tuple[int, int, int]],
                       states: list[list[tuple[Scalar, ...]]]) -> list[list[tuple[Scalar, ...]]]:
        axis = self.order[depth]
        if axis != self.lane:
            if not self.kernel.axes[axis]:
                return states
            flat = [x for group in states for state in group for x in state]
            with self.code.loop(i64(0), i64(self.kernel.axes[axis]), 1, [x.raw for x in flat]) as loop, self._scope():
                self.outer.at[axis] = loop.index
                inside = _regroup_all(states, loop.carried)
                self._compute(depth + 1)
                found = self._outer_reduced(depth + 1, blocks, inside)
                loop.carried = [x.raw for group in found for state in group for x in state]
            return _regroup_all(states, loop.carried)
        done = []
        for (first, stop, width), group in zip(blocks, states):
            with self._width(width, stop - first if stop - first < width else None):
                self._presplat()
                if stop - first <= width:
                    self.outer.at[axis] = i64(first)
                    with self._scope():
                        self._compute(depth + 1)
                        done.append(self._step(group))
                    continue
                flat = [x.raw for state in group for x in state]
                with self.code.loop(i64(first), i64(stop), width, flat) as loop, self._scope():
                    self.outer.at[axis] = loop.index
                    self._compute(depth + 1)
                    loop.carried = [x.raw for state in self._step(_regroup(group, loop.carried)) for x in state]
                done.append(_regroup(group, loop.carried))
        return done

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
                found: tuple[Scalar, ...] = (_multiply_add(self.lanes, *values, state[0]),)
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
        if fold.op is None:
            return (x[0] + y[0] if x[0].dtype != BOOL else x[0] | y[0],)
        made: tuple[Scalar, ...] = fold.op.combine(lanes, x, y)  # type: ignore[attr-defined]
        return made

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

    # -- values -----------------------------------------------------------------------------------------------------

    def _compute(self, level: int) -> None:
        """The instructions that stand in so many loops."""
        for n, i in enumerate(self.stage.body):
            if self.levels[n] == level and not self._waits(n):
                self.values[n] = self._instruction(n, i)

    def _waits(self, n: int) -> bool:
        """Whether an instruction needs the state of a running fold."""
        i = self.stage.body[n]
        return isinstance(i, Running) or (isinstance(i, Apply) and any(self._waits(a) for a in i.arguments))

    def _compute_running(self) -> None:
        for n, i in enumerate(self.stage.body):
            if self._waits(n):
                self.values[n] = self.states[i.fold][0] if isinstance(i, Running) else self._instruction(n, i)

    def _builder(self, n: int) -> Lanes:
        return self.lanes if self.varies[n] else self.outer.one

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
        place = self.outer.places(lanes, first, step)
        for atom, c in varying:
            place = place + self._value(-1 - atom, lanes) * c
        return place

    def _within(self, lanes: Lanes, i: Within) -> Scalar:
        place = self._position(lanes, i.index)
        # As unsigned numbers, negative ones are larger than any size.
        inside = Scalar(lanes, BOOL, self.code.compare("icmp ult", place.raw, lanes.constant(i.size, I64).raw))
        if i.step > 1:
            inside = inside & lanes.eq(lanes.rem(place, lanes.constant(i.step, I64)), 0)
        return inside if i.also is None else inside & self._value(i.also, lanes)

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
            place = self.outer.at[atom] if atom >= 0 else self.values[-1 - atom].raw
            first = code.add(first, code.mul(place, i64(c)))
        return first, step, varying

    # -- memory -----------------------------------------------------------------------------------------------------

    def _load(self, n: int, lanes: Lanes, i: Load) -> Scalar:
        mask = None if i.mask is None else self._value(i.mask, lanes).raw
        if lanes.width == 1 and mask is not None:
            return self._guarded_load(i, mask)
        if self.varies[n] and self.mask is not None:
            mask = self.mask if mask is None else self.code.binary("and", mask, self.mask)
        return self._fetch(lanes, self.outer.pointers[i.operand], i.index, i.dtype, mask)

    def _guarded_load(self, i: Load, mask: Reg) -> Scalar:
        """A load of one element that is only made where the mask holds."""
        kind = memory_type(i.dtype)
        code = self.code
        before = code.block
        then, done = code.fresh("then"), code.fresh("done")
        code.branch(mask, then, done)
        code.label(then)
        first, _, _ = self._address(i.index)
        raw = code.load(kind, code.offset(self.outer.pointers[i.operand], kind, first), _align(i.dtype))
        code.jump(done)
        code.label(done)
        zero = "0.0" if kind in ("float", "double") else "0"
        met = code.emit(kind, f"phi {kind} [ {zero}, %{before} ], [ {raw.text}, %{then} ]")
        return self._from_memory(self.outer.one, i.dtype, met)

    def _read(self, lanes: Lanes, i: Read) -> Scalar:
        if i.tile in self.outer.registers:
            value = self.outer.registers[i.tile]
            return Scalar(lanes, i.dtype, value.raw) if value.raw.type == lanes.type(i.dtype) else lanes.splat(value)
        pointer = self.outer.tiles[i.tile]
        if not self.outer.grid_lanes:
            return self._fetch(lanes, pointer, i.index, i.dtype, self.mask if lanes.width > 1 else None)
        kind = vector(lanes.width, memory_type(i.dtype))
        first, _, _ = self._address(i.index)
        raw = self.code.load(kind, self.code.offset(pointer, kind, first), max(1, _align(i.dtype)))
        return self._from_memory(lanes, i.dtype, raw)

    def _fetch(self, lanes: Lanes, pointer: Reg, index: Affine, dtype: DType, mask: Reg | None) -> Scalar:
        code, element = self.code, memory_type(dtype)
        kind = vector(lanes.width, element)
        first, step, varying = self._address(index)
        if varying or step not in (0, 1):
            if lanes.width == 1:
                place = first
                for atom, c in varying:
                    place = code.add(place, code.mul(self.values[-1 - atom].raw, i64(c)))
                return self._from_memory(lanes, dtype, code.load(element, code.offset(pointer, element, place), _align(dtype)))
            places = self.outer.places(lanes, first, step)
            for atom, c in varying:
                places = places + self._value(-1 - atom, lanes) * c
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            every = mask or Reg(vector(lanes.width, "i1"), "splat (i1 true)")
            raw = code.call(f"llvm.masked.gather.{_suffix(kind)}.v{lanes.width}p0", kind, addresses,
                            Reg("i32", str(_align(dtype))), every, Reg(kind, "zeroinitializer"))
            return self._from_memory(lanes, dtype, raw)
        address = code.offset(pointer, element, first)
        if step == 0 and lanes.width > 1:
            # One element for all lanes; a mask can only be that of the loop's end, whose first lane is active, ...
            if mask is None or mask is self.mask:
                one = self._from_memory(self.outer.one, dtype, code.load(element, address, _align(dtype)))
                return lanes.splat(one)
            # ... or that of the instruction: then the lanes ask one by one.
            places = self.outer.places(lanes, first, 0)
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            raw = code.call(f"llvm.masked.gather.{_suffix(kind)}.v{lanes.width}p0", kind, addresses,
                            Reg("i32", str(_align(dtype))), mask, Reg(kind, "zeroinitializer"))
        elif mask is None or lanes.width == 1:
            raw = code.load(kind, address, _align(dtype))
        else:
            raw = code.call(f"llvm.masked.load.{_suffix(kind)}.p0", kind, address, Reg("i32", str(_align(dtype))), mask,
                            Reg(kind, "zeroinitializer"))
        return self._from_memory(lanes, dtype, raw)

    def _from_memory(self, lanes: Lanes, dtype: DType, raw: Reg) -> Scalar:
        if dtype == BOOL:
            zero = Reg(raw.type, "zeroinitializer" if lanes.width > 1 else "0")
            raw = self.code.compare("icmp ne", raw, zero)
        return Scalar(lanes, dtype, raw)

    def _finish_point(self) -> None:
        """Writes and stores at one point of all loops."""
        for w in self.stage.writes:
            self._write(w.tile, w.index, self._value(w.value, self._builder_of(w.index, w.value)))
        for s in self.stage.stores:
            self._store(s)

    def _builder_of(self, index: Affine, value: int) -> Lanes:
        """Lanes for an access: as many as in use if the index or the value varies with them."""
        along = index.coefficient(self.lane) if self.lane is not None else 0
        return self.lanes if along or self.varies[value] else self.outer.one

    def _write(self, tile: int, index: Affine, value: Scalar) -> None:
        """Into a tile: a register if it has one element, else memory."""
        if self.kernel.tiles[tile].size == 1:
            self.outer.registers[tile] = value
            return
        pointer = self.outer.tiles[tile]
        lanes: Any = value.s
        if not self.outer.grid_lanes:
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
        pointer, value = self.outer.pointers[s.operand], self._value(s.value, lanes)
        if s.combine is not None:
            there = self._fetch(lanes, pointer, s.index, value.dtype, mask)
            value = s.combine.combine(lanes, (there,), (value,))[0]  # type: ignore[attr-defined]
        self._put(lanes, pointer, s.index, value, mask)

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
            code.call(f"llvm.masked.store.{_suffix(raw.type)}.p0", "void", raw, code.offset(pointer, element, first),
                      Reg("i32", str(align)), mask)
        else:
            assert step, "all lanes can't store into one element"
            places = self.outer.places(lanes, first, step)
            addresses = code.emit(vector(lanes.width, "ptr"), f"getelementptr inbounds {element}, {pointer}, {places.raw}")
            every = mask or Reg(vector(lanes.width, "i1"), "splat (i1 true)")
            code.call(f"llvm.masked.scatter.{_suffix(raw.type)}.v{lanes.width}p0", "void", raw, addresses,
                      Reg("i32", str(align)), every)

    def _to_memory(self, lanes: Lanes, value: Scalar) -> Reg:
        return self.code.convert("zext", value.raw, vector(lanes.width, "i8")) if value.dtype == BOOL else value.raw


def _multiply_add(lanes: Lanes, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z: fused for floats; on bools `or` of `and`."""
    if x.dtype == BOOL:
        return (x & y) | z
    return lanes.fma(x, y, z) if x.dtype.kind == "f" else x * y + z


def _regroup(like: Sequence[tuple[Scalar, ...]], registers: Sequence[Reg]) -> list[tuple[Scalar, ...]]:
    """Registers as states of the shape of others."""
    found = iter(registers)
    return [tuple(Scalar(x.s, x.dtype, next(found)) for x in state) for state in like]


def _regroup_all(like: Sequence[Sequence[tuple[Scalar, ...]]], registers: Sequence[Reg]) -> list[list[tuple[Scalar, ...]]]:
    found = list(registers)
    out = []
    for group in like:
        count = sum(map(len, group))
        out.append(_regroup(group, found[:count]))
        del found[:count]
    return out


def _first_lanes(count: int, width: int) -> str:
    """The constant mask of the first lanes."""
    if width == 1:
        return "true" if count else "false"
    listed = ", ".join("i1 true" if i < count else "i1 false" for i in range(width))
    return f"<{listed}>"


def _align(dtype: DType) -> int:
    return max(1, dtype.itemsize)


def _suffix(kind: str) -> str:
    from nagraph.backends.llvm.code import suffix

    return suffix(kind)


#: A function that emits something for a launch; see `emit`.
Emitter = Callable[[Module, Kernel, str], Emitted]
