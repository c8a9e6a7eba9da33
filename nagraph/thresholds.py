"""Thresholds: the sizes from which optimisations pay, all in one list, so that tests can set them where small programs cross them.

Each stands as a constant in the module that asks it. None decides whether an optimisation is legal: whatever they are within the
values listed here, a program computes the same, but for the order in which it adds.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Threshold(NamedTuple):
    """A constant of a module of nagraph. often, rarely: the values with which most, and fewest, programs get what it decides over."""

    module: str
    name: str
    often: Any
    rarely: Any

    @property
    def value(self) -> Any:
        return getattr(importlib.import_module(f"nagraph.{self.module}"), self.name)


_LARGE = 1 << 40

THRESHOLDS = tuple(Threshold(*t) for t in (
    # Sums over rows, made while a kernel computes the rows. The pass `split` has options of its own: split{shortest=1,rows=1}.
    ("kernel.sweep", "LEAST_ROWS", 1, _LARGE),
    ("kernel.sweep", "GOOD_ROWS", 2, 1 << 10),
    ("kernel.sweep", "STEP", 1, 16),
    ("kernel.sweep", "LEAST_ROW", 1, _LARGE),
    ("kernel.sweep", "LEAST_PARTS", 2, _LARGE),
    ("kernel.sweep", "GOOD_PARTS", 2, 1 << 10),
    ("passes.split", "LEAST_PARTS", 2, _LARGE),
    ("passes.split", "LEAST_REST", 2, _LARGE),
    # What is kept in tiles, and which kernels go in blocks of rows.
    ("kernel.lower", "RECOMPUTE", 0, _LARGE),
    ("kernel.blocks", "LEAST_ROWS", 1, _LARGE),
    ("kernel.blocks", "LEAST_NBYTES", 1, _LARGE),
    ("backends.llvm.blocks", "FEW", 2, 64),
    ("backends.llvm.blocks", "MANY", 4, 128),
    # What may share a kernel, and what is written in place.
    ("plan.regions", "LONGEST_ROW", _LARGE, 1),
    ("plan.regions", "LARGEST_SLICE", _LARGE, 1),
    ("plan.regions", "LEAST_SLICES", 1, _LARGE),
    ("plan.regions", "MOST_MAKERS", 1 << 10, 0),
    ("plan.kernels", "SERIAL", _LARGE, 0),
    ("kernel.update", "SMALL", 1, _LARGE),
    ("passes.rematerialize", "SMALL", 1, _LARGE),
    # How the LLVM backend cuts products into units, and from when on it takes a loop for a product.
    ("backends.llvm.contraction", "LEAST_SLICE", 1, _LARGE),
    ("backends.llvm.contraction", "LEAST_UNITS", 1, 64),
    ("backends.llvm.contraction", "LEAST_ROWS", 1, 64),
    ("backends.llvm.contraction", "CACHED_NBYTES", 1, _LARGE),
    ("backends.llvm.contraction", "BLOCK", (5, 64), (1 << 10, 1 << 10)),
    ("backends.llvm.contraction", "LONG", 1, _LARGE),
    ("backends.llvm.emit", "BLOCK_NBYTES", 1, 1 << 22),
    ("backends.llvm.emit", "BLOCK_ROWS", 1, 1 << 10),
    ("backends.llvm.squares", "LEAST_EXTENT", 1, _LARGE),
    ("backends.llvm.squares", "MOST_TURNED", 8, 0),
    ("backends.llvm.stage", "SHORT", 1, _LARGE),
    ("backends.llvm.prefetch", "ROWS_NBYTES", 1, _LARGE),
))
#: What is set now to another value than its module's own, in words. Kernels and programs that are kept follow from it too.
_changed = ""


def changed() -> str:
    """The thresholds that are set at the moment, in words; "" if all have their own values."""
    return _changed


@contextlib.contextmanager
def setting(choose: Callable[[Threshold], Any]) -> Iterator[None]:
    """Every threshold has the value that `choose` gives for it, here and inside; afterwards those that it had before.

    Executables that were compiled before keep their kernels: make functions anew (`ng.jit`) inside. Not for several threads.
    """
    global _changed
    from nagraph.kernel.blocks import blocks

    before, words = [(t, t.value) for t in THRESHOLDS], _changed
    after = [(t, choose(t)) for t in THRESHOLDS]
    try:
        _set(after)
        _changed = ", ".join(f"{t.module}.{t.name}={value}" for (t, value), (_, own) in zip(after, before) if value != own)
        blocks.cache_clear()
        yield
    finally:
        _set(before)
        _changed = words
        blocks.cache_clear()


def _set(values: list[tuple[Threshold, Any]]) -> None:
    for t, value in values:
        setattr(importlib.import_module(f"nagraph.{t.module}"), t.name, value)
