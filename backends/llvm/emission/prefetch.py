"""Prefetching: while a stage or a matrix product is computed, the memory that is read and written next is requested.

In a kernel that goes through each row several times, the stage with the most work asks for the next row and for where this
one is stored: a row read for the first time would otherwise be waited for.

The routine takes a table of pieces: each tile of C that it computes asks for one of them, a row of it at every step of k.
So requests are spread evenly over the time of the product, and what stages and products read next is in the second cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.text.builder import Reg, i64
from nagraph.backends.llvm.text.lanes import memory_type
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Kernel, Load, Stage, Store
from nagraph.schedule.form import Schedule
from nagraph.schedule.legality import ahead

#: What one request brings: two cache lines.
REQUEST_NBYTES = 128
#: How many times as far as a piece reaches requests may go: what lies beyond it may be wanted, or not.
FAR = 4


class Piece(NamedTuple):
    """Requests at offset, offset + step, ... in elements: as many as `rows`."""

    offset: int
    step: int
    rows: int


@dataclass(frozen=True)
class Access:
    """An index of an operand, and the axes along which it moves, each with its extent."""

    operand: int
    index: Affine
    axes: tuple[tuple[int, int], ...]


def accesses(kernel: Kernel, stages: Iterable[Stage], rows: int = 1) -> list[Access]:
    """What stages load and store for `rows` rows along the last axis of the grid, but for what is the same at all of its points."""
    found: dict[Access, None] = {}
    for stage in stages:
        for i in (*stage.body, *stage.stores):
            if isinstance(i, (Load, Store)) and (a := access(kernel, i, stage.loops, rows)) is not None:
                found[a] = None
    return list(found)


def access(kernel: Kernel, x: Load | Store, loops: Sequence[int], rows: int = 1) -> Access | None:
    """The access of one instruction; None if its places are data, or the same at all points of the grid."""
    axes = [(a, kernel.axes[a]) for a in loops] + [(kernel.grid - 1, rows)]
    return Access(x.operand, x.index, tuple(axes)) if ahead(kernel, x) else None


def pieces(found: Access, itemsize: int, most: int) -> list[Piece]:
    """The memory that an access reaches from the start of its axes on, as pieces of at most `most` rows."""
    steps = [(c, extent) for a, extent in found.axes if (c := found.index.coefficient(a)) and extent > 1]
    lowest = sum(c * (extent - 1) for c, extent in steps if c < 0)
    axes = sorted((abs(c), extent) for c, extent in steps)
    run = 1
    while axes and axes[0][0] <= run:  # what lies side by side, or overlaps
        step, extent = axes.pop(0)
        run = step * (extent - 1) + run
    request = REQUEST_NBYTES // itemsize
    axes.append((request, -(-run // request)))
    step, rows = axes.pop(max(range(len(axes)), key=lambda i: axes[i][1]))
    others = [[c * i for i in range(extent)] for c, extent in axes]
    return [Piece(lowest + sum(offsets) + first * step, step, min(most, rows - first))
            for offsets in itertools.product(*others) for first in range(0, rows, most)]


def row_prefetch(kernel: Kernel, schedule: Schedule) -> tuple[Stage, list[Load | Store]] | None:
    """The stage during which a schedule asks for memory, and the accesses that it asks for: those along its own loops."""
    if schedule.during is None:
        return None
    stage = kernel.stages[schedule.during]
    known = {*range(kernel.grid), *stage.loops}
    found: dict[tuple[int, Affine], Load | Store] = {}
    for i in (i for s in kernel.stages for i in (*s.body, *s.stores) if isinstance(i, (Load, Store)) and i.operand in schedule.prefetch):
        if {a for a, _ in i.index.terms} <= known:
            found.setdefault((i.operand, i.index), i)
    return stage, list(found.values())


class PrefetchQueue:
    """Accesses that matrix products can prefetch while they are computed, each with the grid's indices at which it is made."""

    def __init__(self, context: EmissionContext):
        self.context = context
        self.waiting: list[tuple[Access, dict[int, Reg]]] = []

    def add(self, found: Iterable[Access], at: dict[int, Reg]) -> None:
        """Queue accesses that are made at these indices of the grid's axes, of the operands that the schedule names."""
        self.waiting += [(a, dict(at)) for a in found if a.operand in self.context.schedule.prefetch]

    def table(self, tiles: int, depth: int, size: int) -> Reg:
        """A table for the routine, from the queue: for `tiles` tiles of `depth` steps, elements of `size` bytes. Null if none fits."""
        code = self.context.code
        entries: list[tuple[Reg, int]] = []
        while self.waiting and depth:
            found, at = self.waiting[0]
            dtype = self.context.kernel.operands[found.operand]
            wanted = pieces(found, dtype.itemsize, depth)
            if len(entries) + len(wanted) > tiles:
                break
            self.waiting.pop(0)
            start = code.offset(self.context.pointers[found.operand], memory_type(dtype), address(self.context, found.index, at))
            entries += [(code.offset(start, memory_type(dtype), i64(p.offset)), _step(p, dtype.itemsize, depth) // size) for p in wanted]
        if not entries:
            return Reg("ptr", "null")
        table = code.reserve("i64", 2 * len(entries) + 4)
        entries.append((table, 0))
        for n, word in enumerate((i64(0), i64(len(entries) - 1))):
            code.store(word, code.offset(table, "i64", i64(n)), 8)
        for n, (place, step) in enumerate(entries):
            code.store(code.convert("ptrtoint", place, "i64"), code.offset(table, "i64", i64(2 * n + 2)), 8)
            code.store(i64(step), code.offset(table, "i64", i64(2 * n + 3)), 8)
        return table


def _step(piece: Piece, itemsize: int, depth: int) -> int:
    """The step of a piece's requests in bytes. A tile makes `depth` of them: where memory is contiguous they don't go far beyond."""
    nbytes = piece.step * itemsize
    far = nbytes == REQUEST_NBYTES and piece.rows * FAR < depth
    return -(-piece.rows * nbytes // depth // itemsize) * itemsize if far else nbytes


def address(context: EmissionContext, index: Affine, at: dict[int, Reg] | None = None) -> Reg:
    """The value of an index at the current indices of the grid, or at others; loops of the stage are at their start."""
    code, place = context.code, i64(index.offset)
    for axis, c in index.terms:
        if axis < context.kernel.grid:
            place = code.add(place, code.mul((at or context.at)[axis], i64(c)))
        elif axis in context.ranges:
            place = code.add(place, code.mul(context.ranges[axis].start, i64(c)))
    return place
