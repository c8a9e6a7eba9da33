"""Index ranges: the least and the largest value of every index and integer of a stage, by interval arithmetic, also under masks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nagraph.ir.types import BOOL, INTEGERS
from nagraph.kernel.affine import Affine, total
from nagraph.kernel.form import Apply, Kernel, Number, Position, Stage, Within

#: The least and the largest value; infinities where nothing is known.
Interval = tuple[float, float]
#: What holds where a mask does: each index is from 0 to a size - 1.
Conditions = tuple[tuple[Affine, int], ...]

ANYTHING: Interval = (-math.inf, math.inf)


class IndexRanges:
    """The intervals in which one stage's indices and integers lie."""

    def __init__(self, kernel: Kernel, stage: Stage):
        self.kernel, self.body = kernel, stage.body
        self._known: dict[tuple[int, Conditions], Interval] = {}

    def conditions(self, mask: int | None) -> Conditions:
        """The conditions that hold where a mask does."""
        found = []
        while mask is not None and isinstance(i := self.body[mask], Within):
            found.append((i.index, i.size))
            mask = i.also
        return tuple(found)

    def bounds(self, index: Affine, conditions: Conditions = ()) -> Interval:
        """The range of an index where the conditions hold: (inf, -inf) if they never do."""
        if any(size <= 0 for _, size in conditions):
            return math.inf, -math.inf
        low, high = self._sum(index, conditions)
        rest, below, above = index, 0, 0
        for part, size in conditions:  # of a multiple of what is masked the range is known
            times = _times(rest, part)
            if times:
                rest = total([(rest, 1), (part, -times)])
                below, above = below + min(times * (size - 1), 0), above + max(times * (size - 1), 0)
        least, most = self._sum(rest, conditions)
        return max(low, least + below), min(high, most + above)

    def _sum(self, index: Affine, conditions: Conditions) -> Interval:
        low = high = float(index.offset)
        for atom, c in index.terms:
            ends = (0, self.kernel.axes[atom] - 1) if atom >= 0 else self.value(-1 - atom, conditions)
            a, b = c * ends[0], c * ends[1]
            low, high = low + min(a, b), high + max(a, b)
        return low, high

    def value(self, n: int, conditions: Conditions = ()) -> Interval:
        """The range of an integer that instruction n computes."""
        key = n, conditions
        if key not in self._known:
            self._known[key] = self._value(n, conditions)
        return self._known[key]

    def _value(self, n: int, conditions: Conditions) -> Interval:
        i = self.body[n]
        if isinstance(i, Number):
            return (int(i.value), int(i.value)) if i.dtype in INTEGERS or i.dtype == BOOL else ANYTHING
        if isinstance(i, Position):
            return self.bounds(i.index, conditions)
        of_dtype = (int(np.iinfo(i.dtype).min), int(np.iinfo(i.dtype).max)) if i.dtype in INTEGERS else ANYTHING
        if not isinstance(i, Apply) or i.op.name not in _RULES:
            return of_dtype
        low, high = _RULES[i.op.name](*(self.value(a, conditions) for a in i.arguments))
        return (low, high) if low >= of_dtype[0] and high <= of_dtype[1] else of_dtype  # else it may wrap around


def _times(index: Affine, part: Affine) -> int:
    """The multiple of `part` that an index contains: all coefficients of `part`'s atoms are this multiple of its own; 0 if there is
    none.
    """
    found = {index.coefficient(a) / c for a, c in part.terms}
    times = found.pop() if len(found) == 1 else 0
    return int(times) if times == int(times) else 0


def _quotient(x: Interval, y: Interval) -> Interval:
    return (x[0] // y[0], x[1] // y[0]) if y[0] == y[1] > 0 and math.isfinite(x[0] + x[1]) else ANYTHING


def _remainder(x: Interval, y: Interval) -> Interval:
    return (0, y[1] - 1) if y[0] > 0 else ANYTHING


_RULES: dict[str, Callable[..., Interval]] = {
    "add": lambda x, y: (x[0] + y[0], x[1] + y[1]),
    "subtract": lambda x, y: (x[0] - y[1], x[1] - y[0]),
    "negative": lambda x: (-x[1], -x[0]),
    "maximum": lambda x, y: (max(x[0], y[0]), max(x[1], y[1])),
    "minimum": lambda x, y: (min(x[0], y[0]), min(x[1], y[1])),
    "select": lambda _, x, y: (min(x[0], y[0]), max(x[1], y[1])),
    "cast": lambda x: x,
    "floor_divide": _quotient,
    "remainder": _remainder,
}
