"""Thresholds are the sizes from which optimisations pay, listed here so that tests can set them where small programs cross them.

Each is a constant of the module that asks it. None decides whether an optimisation is legal: whatever they are within the
values listed here, a program computes the same, but for the order in which it adds.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar


class Threshold(NamedTuple):
    """A threshold is a constant of a module. often, rarely: its values with which most programs, and fewest, are optimised.

    decision: the one of `nagraph.choices` that it belongs to, whose forcing and forbidding sets it.
    """

    decision: str
    module: str
    name: str
    often: Any
    rarely: Any

    @property
    def value(self) -> Any:
        return getattr(importlib.import_module(f"nagraph.{self.module}"), self.name)

    @property
    def own(self) -> Any:
        """The value that its module gives it."""
        return _OWN.setdefault(self, self.value)


_LARGE = 1 << 40

THRESHOLDS = tuple(Threshold(*t) for t in (
    # Sums over rows, made while a kernel computes the rows. The pass `split` has options of its own: split{shortest=1,rows=1}.
    ("row_sums", "analysis.row_sums", "LEAST_ROWS", 1, _LARGE),
    ("row_sums", "analysis.row_sums", "GOOD_ROWS", 2, 1 << 10),
    ("row_sums", "analysis.row_sums", "STEP", 1, 16),
    ("row_sums", "analysis.row_sums", "LEAST_ROW", 1, _LARGE),
    ("row_sums", "analysis.row_sums", "LEAST_PARTS", 2, _LARGE),
    ("row_sums", "analysis.row_sums", "GOOD_PARTS", 2, 1 << 10),
    ("split", "passes.split", "LEAST_PARTS", 2, _LARGE),
    ("split", "passes.split", "LEAST_REST", 2, _LARGE),
    # What is kept in tiles, and which kernels go in blocks of rows.
    ("tile", "kernel.stage_assignment", "RECOMPUTE", 0, _LARGE),
    ("row_blocks", "kernel.row_blocks", "LEAST_ROWS", 1, _LARGE),
    ("row_blocks", "kernel.row_blocks", "LEAST_NBYTES", 1, _LARGE),
    ("row_blocks", "kernel.row_blocks", "FEW", 2, 64),
    ("row_blocks", "kernel.row_blocks", "MANY", 4, 128),
    # What may share a kernel, and what is written in place.
    ("fuse", "fusion.legality", "LONGEST_ROW", _LARGE, 1),
    ("fuse", "fusion.legality", "LARGEST_SLICE", _LARGE, 1),
    ("fuse", "fusion.legality", "LEAST_SLICES", 1, _LARGE),
    ("index_values", "analysis.index_values", "MOST_MAKERS", 1 << 10, 0),
    ("fuse", "plan.kernel_planner", "SERIAL", _LARGE, 0),
    ("update", "plan.kernel_planner", "SMALL", 1, _LARGE),
    ("update", "kernel.scatter", "SMALL_ROWS", 1, _LARGE),
    ("donate", "plan.writes", "SHORT_LOOP", _LARGE, 0),
    ("rematerialize", "passes.rematerialize", "SMALL", 1, _LARGE),
    # From when on a loop is a product, how schedules cut products into units, and what else they do.
    ("gemm", "kernel.contraction", "LEAST_SLICE", 1, _LARGE),
    ("cut", "schedule.products", "LEAST_UNITS", 1, 64),
    ("cut", "schedule.products", "LEAST_ROWS", 1, 64),
    ("cut", "schedule.products", "B_PART", (1, _LARGE), (_LARGE, 1)),
    ("cut", "schedule.products", "BLOCK", (5, 64), (1 << 10, 1 << 10)),
    ("gemm", "kernel.order", "LONG", 1, _LARGE),
    ("cut", "schedule.products", "TILES_PART", (1, _LARGE), (2, 1)),
    ("cut", "schedule.products", "BLOCK_ROWS", 1, 1 << 10),
    ("tiled_transpose", "schedule.strategy", "LEAST_EXTENT", 1, _LARGE),
    ("tiled_transpose", "schedule.strategy", "MOST_LOADS", 8, 0),
    ("loop_split", "kernel.vector_axis", "SHORT", 1, _LARGE),
    ("prefetch", "schedule.loops", "ROWS_NBYTES", 1, _LARGE),
))
#: What thresholds were before any was set.
_OWN: dict[Threshold, Any] = {}
#: What is set now to another value than its module's own, in words. Kernels and programs that are kept follow from it too.
_changed = ""
#: Functions whose remembered results follow from thresholds.
_FOLLOWING: list[Any] = []
F = TypeVar("F")


def follows(function: F) -> F:
    """Mark a function with a cache (`functools.lru_cache`) whose results follow from thresholds: it forgets them when one is set."""
    _FOLLOWING.append(function)
    return function


def _forget() -> None:
    for function in _FOLLOWING:
        function.cache_clear()


def changed() -> str:
    """The thresholds that are set at the moment, in words; "" if all have their own values."""
    return _changed


@contextlib.contextmanager
def setting(choose: Callable[[Threshold], Any]) -> Iterator[None]:
    """Gives every threshold the value that `choose` says, inside; afterwards each has again the one it had before.

    Executables that were compiled before keep their kernels: make functions anew (`ng.jit`) inside. Not for several threads.
    """
    global _changed
    own = {t: t.own for t in THRESHOLDS}
    before, words = [(t, t.value) for t in THRESHOLDS], _changed
    after = [(t, choose(t)) for t in THRESHOLDS]
    try:
        _set(after)
        _changed = ", ".join(f"{t.module}.{t.name}={value}" for t, value in after if value != own[t])
        _forget()
        yield
    finally:
        _set(before)
        _changed = words
        _forget()


def _set(values: list[tuple[Threshold, Any]]) -> None:
    for t, value in values:
        setattr(importlib.import_module(f"nagraph.{t.module}"), t.name, value)
