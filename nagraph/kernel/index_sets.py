"""Index sets: the places that an affine index reaches, in a canonical form, so that equal sets compare equal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class IndexSet(NamedTuple):
    """An index set is offset + sum of step * i, 0 <= i < extent, each place once. Steps increase, and those that
    form one longer run are merged; the empty set has extent 0.
    """

    offset: int
    steps: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        return math.prod(n for _, n in self.steps)

    @property
    def stop(self) -> int:
        """The place behind the last one."""
        return self.offset + sum(c * (n - 1) for c, n in self.steps) + 1 if self.size else self.offset

    def count_in(self, counts: np.ndarray[tuple[int], np.dtype[np.int8]], start: int) -> None:
        """Add 1 at each place, of an array that begins at place `start`."""
        if not self.size:
            return
        shape, strides = [n for _, n in self.steps], [c for c, _ in self.steps]
        part = np.lib.stride_tricks.as_strided(counts[self.offset - start:], shape, strides)
        part += 1


EMPTY = IndexSet(0, ((1, 0),))


def index_set(offset: int, terms: Iterable[tuple[int, int]]) -> IndexSet | None:
    """The places offset + sum of step * i for 0 <= i < extent, of terms (step, extent); None if it can't be seen that all differ."""
    found: list[tuple[int, int]] = []
    reach = 0
    terms = [t for t in terms if t[1] != 1]
    if any(n == 0 for _, n in terms):
        return EMPTY
    offset += sum(c * (n - 1) for c, n in terms if c < 0)
    for c, n in sorted((abs(c), n) for c, n in terms):
        if c <= reach:
            return None
        reach += c * (n - 1)
        if found and c == found[-1][0] * found[-1][1]:
            found[-1] = found[-1][0], found[-1][1] * n
        else:
            found.append((c, n))
    return IndexSet(offset, tuple(found))


def hull(shape: Sequence[int], offset: int, strides: Sequence[int]) -> tuple[int, int]:
    """The first place of an array's elements, and the place behind the last."""
    if 0 in shape:
        return offset, offset
    reach = [c * (n - 1) for c, n in zip(strides, shape)]
    return offset + sum(min(r, 0) for r in reach), offset + sum(max(r, 0) for r in reach) + 1
