"""The interpreter runs kernels in NumPy: slow, and plain enough to be believed. Lowering and code generation are tested against it.

Every instruction is computed for all points of the grid and of its stage's loops at once: its value is an array with
an axis for each axis of the kernel, of length 1 where it does not depend on it. Folds add up in the orders that they state, so that sums
have the bits of compiled code; a product is rounded before it is added, which a fused multiply-add does not do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.ir.types import BOOL
from nagraph.kernel.affine import Affine
from nagraph.kernel.chains import combined, in_order
from nagraph.kernel.form import Apply, Fold, Instruction, Kernel, Load, Number, Position, Read, Running, Stage, Store, Within
from nagraph.ops.base import Primitive
from nagraph.ops.reduction import highest, lowest

Array = np.ndarray[Any, Any]


def interpret_kernel(kernel: Kernel, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    """Run a kernel on flat arrays, writing into `outputs`."""
    Interpreter(kernel, [*(a.reshape(-1) for a in inputs), *(a.reshape(-1) for a in outputs)]).interpret()


class Interpreter:
    """The interpreter of one kernel: the memory of its operands, its tiles, and the values of the stage that runs."""

    def __init__(self, kernel: Kernel, memory: list[Array]):
        self.kernel, self.memory = kernel, memory
        grid = kernel.axes[:kernel.grid]
        #: A tile is [*grid, element].
        self.tiles = [np.zeros((*grid, t.size), t.dtype) for t in kernel.tiles]
        self.values: list[Array] = []
        #: Axes that are fixed at one place.
        self.fixed: dict[int, int] = {}

    def interpret(self) -> None:
        if 0 in self.kernel.axes[:self.kernel.grid]:
            return
        with np.errstate(all="ignore"):
            for stage in self.kernel.stages:
                self.run(stage)

    def axis(self, a: int) -> Array:
        """0 ... extent - 1 along an axis."""
        if a in self.fixed:
            return np.full([1] * len(self.kernel.axes), self.fixed[a])
        shape = [1] * len(self.kernel.axes)
        shape[a] = self.kernel.axes[a]
        return np.arange(self.kernel.axes[a]).reshape(shape)

    def index(self, x: Affine) -> Array:
        total = np.full([1] * len(self.kernel.axes), x.offset)
        for atom, c in x.terms:
            total = total + c * (self.axis(atom) if atom >= 0 else self.values[-1 - atom])
        return total

    def full(self, stage: Stage, x: Array) -> Array:
        """A value spread over all points of the grid and the stage's loops."""
        kept = (*range(self.kernel.grid), *stage.loops)
        return np.broadcast_to(x, [n if a in kept else 1 for a, n in enumerate(self.kernel.axes)])

    def run(self, stage: Stage) -> None:
        if any((s.combine is not None and not s.row_sum) or any(a < 0 for a, _ in s.index.terms) for s in stage.stores):
            self._in_order(stage)
            return
        self.values = []
        for i in stage.body:
            self.values.append(self._running(stage, i) if isinstance(i, Running) else self.value(i))
        for fold in stage.folds:
            if fold.tile >= 0:
                self.keep(fold.tile, fold.index, self.fold(stage, fold))
        for w in stage.writes:
            self.keep(w.tile, w.index, self.full(stage, self.values[w.value]))
        for s in stage.stores:
            self._store(stage, s)

    def _store(self, stage: Stage, s: Store) -> None:
        if s.row_sum:
            self._row_sum(stage, s)
            return
        places, value = (self.full(stage, x).reshape(-1) for x in (self.index(s.index), self.values[s.value]))
        self.put(s.operand, places, value)

    def put(self, operand: int, places: Array, value: Array) -> None:
        """Writes values into places of an operand; both have shape [n]."""
        self.memory[operand][places] = value

    def get(self, operand: int, places: Array, mask: Array | None) -> Array:
        """The elements of an operand at places; where a mask is false, anything."""
        source = self.memory[operand]
        found: Array = source[places if mask is None else np.clip(places, 0, source.size - 1)]
        return found

    def _row_sum(self, stage: Stage, s: Store) -> None:
        """Stores the combination of the values of all points that meet in one element."""
        left_out = tuple(a for a in range(self.kernel.grid) if not s.index.coefficient(a))
        value = in_order(s.combine.ufunc, self.full(stage, self.values[s.value]), left_out)  # type: ignore[union-attr]
        self.put(s.operand, np.broadcast_to(self.index(s.index), value.shape).reshape(-1), value.reshape(-1))

    def _in_order(self, stage: Stage) -> None:
        """Runs a stage whose stores may meet, the points of its loops one after another."""
        axes = self.kernel.axes
        for point in np.ndindex(*(axes[a] for a in stage.loops)):
            self.values, self.fixed = [], dict(zip(stage.loops, point))
            for i in stage.body:
                self.values.append(self.value(i))
            for s in stage.stores:
                grid = [n if a < self.kernel.grid else 1 for a, n in enumerate(axes)]
                places, value = (np.broadcast_to(x, grid).reshape(-1) for x in (self.index(s.index), self.values[s.value]))
                if s.combine is not None:
                    value = s.combine.ufunc(self.get(s.operand, places, None).astype(value.dtype), value)  # type: ignore[attr-defined]
                self.put(s.operand, places, value)
        self.fixed = {}

    # -- values -----------------------------------------------------------------------------------------------

    def value(self, i: Instruction) -> Array:
        match i:
            case Number():
                return np.full([1] * len(self.kernel.axes), i.value, i.dtype)
            case Position(index=index):
                return self.index(index)
            case Within(index=index, size=size, step=step, also=also):
                place = self.index(index)
                inside: Array = (place >= 0) & (place < size) & (place % step == 0)
                return inside if also is None else inside & self.values[also]
            case Load(operand=operand, index=index, mask=mask):
                places = self.index(index)
                if mask is None:
                    return self.get(operand, places, None)
                if not self.memory[operand].size:
                    return np.zeros(np.broadcast_shapes(places.shape, self.values[mask].shape), i.dtype)
                return np.where(self.values[mask], self.get(operand, places, self.values[mask]), np.zeros((), i.dtype))
            case Read(tile=tile, index=index, mask=mask):
                where, place = [self.axis(a) for a in range(self.kernel.grid)], self.index(index)
                if mask is None:
                    found: Array = self.tiles[tile][(*where, place)]
                    return found
                inside = self.tiles[tile][(*where, np.clip(place, 0, self.kernel.tiles[tile].size - 1))]
                return np.where(self.values[mask], inside, np.zeros((), i.dtype))
            case Apply(op=op, arguments=arguments):
                assert isinstance(op, Primitive)
                made: Array = op.evaluate(*np.broadcast_arrays(*(self.values[a] for a in arguments)))
                return made
        raise AssertionError(i)

    def fold(self, stage: Stage, fold: Fold) -> Array:
        """The values combined over the reduced axes, which keep length 1."""
        reduced = stage.loops[len(stage.kept):]
        values = [self.full(stage, self.values[v]) for v in fold.values]
        if not fold.is_contraction and len(values) == 2:
            return self._extremum(fold, values, reduced)
        x = values[0] * values[1] if fold.is_contraction else values[0]  # of bools: and
        rest = [a for a in range(x.ndim) if a not in reduced]
        inner = [x.shape[a] for a in reduced[-1:]] or [1]
        flat = x.transpose(*rest, *reduced).reshape(*(x.shape[a] for a in rest), math.prod(x.shape[a] for a in reduced[:-1]), *inner)
        if fold.is_contraction:
            ufunc, start = np.logical_or if x.dtype == BOOL else np.add, 0
        else:
            ufunc, start = fold.op.ufunc, _start(fold, x.dtype)  # type: ignore[union-attr]
        return combined(ufunc, start, flat, fold.order).reshape([1 if a in reduced else n for a, n in enumerate(x.shape)])

    def _extremum(self, fold: Fold, values: list[Array], reduced: tuple[int, ...]) -> Array:
        x, places = values
        best = x.max(axis=reduced, keepdims=True) if fold.op.name == "argmax" else x.min(axis=reduced, keepdims=True)  # type: ignore[union-attr]
        hit = (x == best) | ((x != x) & (best != best))
        first: Array = np.where(hit, places, np.iinfo(np.int64).max).min(axis=reduced, keepdims=True)
        return first

    def _running(self, stage: Stage, i: Running) -> Array:
        """The state of a fold after each step along its one reduced axis."""
        fold = stage.folds[i.fold]
        (axis,) = stage.loops[len(stage.kept):] or (0,)
        value = self.full(stage, self.values[fold.values[0]])
        if len(stage.kept) == len(stage.loops):
            return value
        steps: Array = fold.op.ufunc.accumulate(value, axis=axis)  # type: ignore[union-attr]
        return steps

    def keep(self, tile: int, index: Affine, value: Array) -> None:
        """Writes a value of shape [*grid, loops...] into a tile."""
        where = [self.axis(a) for a in range(self.kernel.grid)]
        places = (*where, self.index(index))
        self.tiles[tile][places] = np.broadcast_to(value, np.broadcast_shapes(value.shape, *(p.shape for p in places)))


def _start(fold: Fold, dtype: Any) -> Any:
    """The value that a fold begins with."""
    name = fold.op.name  # type: ignore[union-attr]
    return {"sum": 0, "prod": 1, "max": lowest(dtype), "min": highest(dtype), "all": True, "any": False}[name]
