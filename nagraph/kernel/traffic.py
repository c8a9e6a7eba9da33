"""Traffic is the bytes that a kernel cannot avoid to read and to write, counted from its loads and stores.

An element that is loaded many times counts once: that it stays in a cache or a register between is what a good kernel
sees to. So this is the least that goes through memory, and what a roofline is drawn with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from nagraph.kernel.affine import Affine, bounds
from nagraph.kernel.form import Kernel, Load, Stage


def traffic(kernel: Kernel, arrays: Sequence[int], nbytes: Sequence[int | None]) -> tuple[int, int]:
    """(bytes read, bytes written).

    arrays: the number of each operand's array. nbytes: the size of each array, None if not known.
    A store that combines with the element that is there reads it as well. Masks do not count: what they leave out counts as read.
    """
    loads: dict[int, dict[Affine, int]] = {}
    stores: dict[int, dict[Affine, int]] = {}  # array -> index -> bytes
    for stage in kernel.stages:
        for operand, index, reads, writes in _accesses(stage):
            for found, wanted in ((loads, reads), (stores, writes)):
                if wanted:
                    here = _elements(kernel, stage, index) * kernel.operands[operand].itemsize
                    places = found.setdefault(arrays[operand], {})
                    places[index] = max(here, places.get(index, 0))
    return _total(loads, nbytes), _total(stores, nbytes)


def _accesses(stage: Stage) -> Iterator[tuple[int, Affine, bool, bool]]:
    """(operand, index, whether it is read, whether it is written)"""
    for i in stage.body:
        if isinstance(i, Load):
            yield i.operand, i.index, True, False
    for s in stage.stores:
        yield s.operand, s.index, s.combine is not None and not s.row_sum, True


def _elements(kernel: Kernel, stage: Stage, index: Affine) -> int:
    """The number of elements that an index meets, at most: one for each combination of the axes that it varies with."""
    axes = {a for a, _ in index.terms if a >= 0}
    if any(a < 0 for a, _ in index.terms):  # a place that is data may be another at each point
        axes = {*range(kernel.grid), *stage.loops}
    combinations = math.prod(kernel.axes[a] for a in axes)
    if any(a < 0 for a, _ in index.terms) or not combinations:
        return combinations
    low, high = bounds(index, dict(enumerate(kernel.axes)))
    return min(combinations, high - low + 1)


def _total(found: dict[int, dict[Affine, int]], nbytes: Sequence[int | None]) -> int:
    total = 0
    for array, places in found.items():
        size, here = nbytes[array], sum(places.values())
        total += here if size is None else min(here, size)
    return total
