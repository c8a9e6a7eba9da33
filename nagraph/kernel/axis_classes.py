"""Axis classes: the loop axes of different stages that walk the same dimension of a tile, and so are one axis of the whole kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Instruction, Kernel, Read, Stage, Within

#: An axis in a stage. (Another stage may use the same axis for something else.)
StageAxis = tuple[int, int]


class TileAccess(NamedTuple):
    """A tile access is one read or write of a tile in a stage, at an index, under a mask."""

    stage: int
    tile: int
    index: Affine
    mask: int | None = None


def accesses(stage: Stage, number: int) -> Iterator[TileAccess]:
    for i in stage.body:
        if isinstance(i, Read):
            yield TileAccess(number, i.tile, i.index, i.mask)
    for x in (*stage.folds, *stage.writes):
        if x.tile >= 0:
            yield TileAccess(number, x.tile, x.index)


class AxisClasses:
    """The classes of a kernel's axes, found by joining each axis with the tile dimensions, named by their steps, that it walks."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self._parent: dict[object, object] = {}
        self.accesses = [a for n, s in enumerate(kernel.stages) for a in accesses(s, n)]
        for a in self.accesses:
            for axis, step in a.index.terms:
                self._join((a.stage, axis), ("tile", a.tile, step))

    def _find(self, x: object) -> object:
        while (up := self._parent.get(x, x)) != x:
            x = up
        return x

    def _join(self, a: object, b: object) -> None:
        self._parent[self._find(a)] = self._find(b)

    def same(self, a: StageAxis, b: StageAxis) -> bool:
        return self._find(a) == self._find(b)

    def axes(self, place: StageAxis) -> list[int | None] | None:
        """The axis of each stage that belongs to the class of `place`, None where it has none; None if a stage has several."""
        found: list[int | None] = []
        for n, stage in enumerate(self.kernel.stages):
            axes = [a for a in (*range(self.kernel.grid), *stage.loops) if self.same((n, a), place)]
            if len(axes) > 1:
                return None
            found.append(axes[0] if axes else None)
        return found

    def steps(self, tile: int, place: StageAxis) -> set[int]:
        """The steps at which a tile is walked along the class of a place. There are none if the tile does not depend on it, and
        several if it is written at one place and read at another, such as backwards.
        """
        return {s for a in self.accesses if a.tile == tile for _, s in a.index.terms if self._find(("tile", tile, s)) == self._find(place)}


def index_range(kernel: Kernel, body: tuple[Instruction, ...], access: TileAccess, without: int) -> tuple[int, int] | None:
    """The least and the largest value of an index without one of its axes, where its mask holds; None if that is data."""
    low = high = access.index.offset
    for axis, step in access.index.terms:
        if axis < 0:
            return None
        if axis != without:
            first, last = _range(kernel, body, axis, access.mask)
            low, high = low + min(step * first, step * last), high + max(step * first, step * last)
    return low, high


def _range(kernel: Kernel, body: tuple[Instruction, ...], axis: int, mask: int | None) -> tuple[int, int]:
    """The first and the last place of an axis where a mask holds."""
    first, last = 0, kernel.axes[axis] - 1
    while mask is not None:
        condition = body[mask]
        if not isinstance(condition, Within):
            break
        if condition.index.terms == ((axis, 1),):
            first, last = max(first, -condition.index.offset), min(last, condition.size - 1 - condition.index.offset)
        mask = condition.also
    return first, last
