"""Coverage proves that a kernel writes each element of each result once, and reads neither outside its operands nor what nobody wrote.

Of stores at affine places this is proved: by the form of their index sets where one store makes a result, else place by place, without
any data. Of a store whose places are data it is proved that it stays inside, and that all has been written before. It shares no
analysis with the lowering: masks and clamps are taken for what the instructions say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.errors import VerifyError
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Fold, Kernel, Load, Read, Stage, Store, Within, left_out
from nagraph.kernel.index_ranges import IndexRanges
from nagraph.kernel.index_sets import EMPTY, IndexSet, hull, index_set

#: Elements of a result, and points of loops, that are looked at one by one, at most.
MOST_ELEMENTS, MOST_POINTS = 1 << 26, 1 << 22

Array = np.ndarray[Any, Any]
#: Places that are written, each once: by their form, or one by one; None if they are too many to be looked at.
Places = IndexSet | Array | None


class Footprint(NamedTuple):
    """A footprint is the places of an operand's elements in its memory: offset + sum of index * stride."""

    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]

    @property
    def places(self) -> IndexSet | None:
        return index_set(self.offset, zip(self.strides, self.shape))

    @property
    def hull(self) -> tuple[int, int]:
        return hull(self.shape, self.offset, self.strides)


def cover(kernel: Kernel, inputs: Sequence[Footprint], outputs: Sequence[Footprint], partial: bool = False) -> list[str]:
    """Raise VerifyError where a kernel writes a place of a result twice, or not at all, or reads outside of an operand or tile.

    partial: the results hold values already, so that a part of each may be written. The answer lists, in words, what could not be
    proved; it is empty if all is.
    """
    return _Cover(kernel, (*inputs, *outputs), partial).run()


class _Cover:
    def __init__(self, kernel: Kernel, regions: Sequence[Footprint], partial: bool):
        self.kernel, self.regions, self.partial = kernel, regions, partial
        self.open: list[str] = []
        #: For each tile and result the sets that were written so far.
        self.tiles: dict[int, list[Places]] = {n: [] for n in range(len(kernel.tiles))}
        self.results: dict[int, list[Places]] = {n: [] for n in range(len(regions) - kernel.outputs, len(regions))}

    def run(self) -> list[str]:
        kernel = self.kernel
        if len(self.regions) != len(kernel.operands):
            raise VerifyError(f"a kernel of {len(kernel.operands)} operands has {len(self.regions)} regions")
        if 0 not in kernel.axes[:kernel.grid]:
            for number, stage in enumerate(kernel.stages):
                self._stage(f"stage {number}", stage)
        for operand, written in self.results.items():
            self._result(operand, written)
        return self.open

    # -- stages -------------------------------------------------------------------------------------------------

    def _stage(self, where: str, stage: Stage) -> None:
        ranges = IndexRanges(self.kernel, stage)
        if not any(self.kernel.axes[a] == 0 for a in stage.loops):
            for n, i in enumerate(stage.body):
                if isinstance(i, Load):
                    if i.operand in self.results:
                        raise VerifyError(f"{where}: v{n} reads result {i.operand}")
                    self._inside(f"{where}: v{n} reads operand {i.operand}", ranges, i.index, i.mask, self.regions[i.operand].hull)
                elif isinstance(i, Read):
                    what = f"{where}: v{n} reads tile {i.tile}"
                    self._inside(what, ranges, i.index, i.mask, (0, self.kernel.tiles[i.tile].size))
                    self._written(what, ranges, i)
        for part in (*stage.folds, *stage.writes):
            if part.tile >= 0:
                loops = stage.kept if isinstance(part, Fold) else stage.loops
                self._put(f"{where}: tile {part.tile}", self.tiles[part.tile], loops, part.index, (0, self.kernel.tiles[part.tile].size))
        for store in stage.stores:
            self._store(where, stage, store, ranges)

    def _store(self, where: str, stage: Stage, store: Store, ranges: IndexRanges) -> None:
        what, region = f"{where}: operand {store.operand}", self.regions[store.operand]
        # Of the points that a row sum leaves out the first one writes, the others add.
        grid = range(self.kernel.grid - (left_out(store.index, self.kernel.grid) if store.row_sum else 0))
        if any(a < 0 for a, _ in store.index.terms) or (store.combine is not None and not store.row_sum):
            self._inside(f"{what} is written", ranges, store.index, None, region.hull)
            if not self.partial:
                self._result(store.operand, self.results[store.operand])
            return
        self._put(what, self.results[store.operand], (*grid, *stage.loops), store.index, region.hull)

    def _put(self, what: str, written: list[Places], axes: Iterable[int], index: Affine, ends: tuple[int, int]) -> None:
        """Adds places to those that are written: each once, and between the ends."""
        axes = list(axes)
        found: Places = index_set(index.offset, [(index.coefficient(a), self.kernel.axes[a]) for a in axes])
        low, stop = (found.offset, found.stop) if isinstance(found, IndexSet) else (ends[0], ends[0])
        if found is None and (found := self._places(index, axes)) is not None:
            met = np.unique(found, return_counts=True)[1].max(initial=0)
            if met > 1:
                raise VerifyError(f"{what}: index {index} meets a place {met} times")
            low, stop = found.min(initial=ends[1]), found.max(initial=ends[0] - 1) + 1
        if low < stop and not (ends[0] <= low and stop <= ends[1]):
            raise VerifyError(f"{what}: index {index} runs from {low} to {stop - 1}, but the elements are from {ends[0]} to {ends[1] - 1}")
        written.append(found)

    def _places(self, index: Affine, axes: Sequence[int]) -> Array | None:
        """All values of an affine index, an array with an axis for each of `axes`; None if they are data, or too many."""
        if any(a < 0 for a, _ in index.terms) or math.prod(self.kernel.axes[a] for a in axes) > MOST_POINTS:
            return None
        found = np.full([1] * len(axes), index.offset)
        for n, a in enumerate(axes):
            shape = [-1 if m == n else 1 for m in range(len(axes))]
            found = found + index.coefficient(a) * np.arange(self.kernel.axes[a]).reshape(shape)
        return found

    # -- reading --------------------------------------------------------------------------------------------------

    def _inside(self, what: str, ranges: IndexRanges, index: Affine, mask: int | None, ends: tuple[int, int]) -> None:
        """Checks that an index stays between two ends wherever its mask holds."""
        low, high = ranges.bounds(index, ranges.conditions(mask))
        if low > high or (ends[0] <= low and high < ends[1]):
            return
        places = self._met(ranges, index, mask)
        if places is None:
            self.open.append(f"{what} at {index}: between {low:.0f} and {high:.0f}, of {ends[0]} to {ends[1] - 1}")
        elif (outside := places[(places < ends[0]) | (places >= ends[1])]).size:
            raise VerifyError(f"{what}: index {index} is {outside[0]}, but the elements are from {ends[0]} to {ends[1] - 1}")

    def _met(self, ranges: IndexRanges, index: Affine, mask: int | None) -> Array | None:
        """The places that an index reaches where its mask holds, one by one; None if they are data, or too many."""
        conditions: list[Within] = []
        while mask is not None:
            i = ranges.body[mask]
            if not isinstance(i, Within):
                return None
            conditions.append(i)
            mask = i.also
        axes = sorted({a for x in (index, *(i.index for i in conditions)) for a, _ in x.terms})
        places, *asked = (self._places(x, axes) if min(axes, default=0) >= 0 else None for x in (index, *(i.index for i in conditions)))
        if places is None:
            return None
        held = np.ones(places.shape, bool)
        for i, at in zip(conditions, asked):
            assert at is not None
            held = held & (at >= 0) & (at < i.size) & (at % i.step == 0)
        met: Array = np.broadcast_to(places, held.shape)[held]
        return met

    def _written(self, what: str, ranges: IndexRanges, read: Read) -> None:
        """Checks that what is read of a tile was written by an earlier stage."""
        written, size = self.tiles[read.tile], self.kernel.tiles[read.tile].size
        if index_set(0, [(1, size)]) in [w for w in written if isinstance(w, IndexSet)] or not size:
            return
        counts, met = _counts(written, 0, size), self._met(ranges, read.index, read.mask)
        if not written or (counts is not None and met is not None and not counts[met].all()):
            raise VerifyError(f"{what} at {read.index}, where no stage has written before")
        if counts is None or not (met is not None or counts.all()):
            self.open.append(f"{what} at {read.index}, of which a part may not be written")

    # -- results ----------------------------------------------------------------------------------------------------

    def _result(self, operand: int, written: Sequence[Places]) -> None:
        """Checks that every element of a result is written, once."""
        region = self.regions[operand]
        expected = EMPTY if 0 in region.shape else region.places
        sets = [w for w in written if w is None or w.size]
        if len(sets) == 1 and isinstance(sets[0], IndexSet) and sets[0] == expected:
            return
        start, stop = region.hull
        counts, wanted = _counts(sets, start, stop), _counts([expected], start, stop)
        if counts is None or wanted is None:
            self.open.append(f"result {operand}, of {region}")
            return
        for wrong, what in ((counts > 1, "is written twice or more"), (counts > wanted, "is written, which is none of its elements"),
                            (counts < wanted, "is never written")):
            if wrong.any() and not (self.partial and what == "is never written"):
                raise VerifyError(f"result {operand}, of {region}: place {start + int(np.argmax(wrong))} {what}")


def _counts(written: Sequence[Places], start: int, stop: int) -> Array | None:
    """How often each place from start to stop - 1 is written; None if that is not known, or if there are too many."""
    if any(w is None for w in written) or stop - start > MOST_ELEMENTS:
        return None
    counts = np.zeros(stop - start, np.int8)
    for places in written:
        if isinstance(places, IndexSet):
            places.count_in(counts, start)
        elif places is not None:
            counts[places.reshape(-1) - start] += 1
    return counts
