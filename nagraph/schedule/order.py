"""The order of additions that a schedule gives to a kernel's folds. It belongs to the kernel: a schedule that gives another is illegal."""

from __future__ import annotations

from nagraph.ir.types import FLOATS
from nagraph.kernel.contraction import CHAIN
from nagraph.kernel.form import Kernel, Stage
from nagraph.schedule.form import How, Lanes, Loops, Points, Product, Rows, Schedule, Tiles


def orders(kernel: Kernel, schedule: Schedule) -> list[str]:
    """For each stage of a realised kernel that folds floats, in words: in which order it does that."""
    along_grid = isinstance(schedule.units, (Lanes, Tiles))
    stages = [Loops()] * len(kernel.stages) if along_grid else schedule.stages
    return [_order(s, how) + _blocks(schedule) for s, how in zip(kernel.stages, stages) if folds_floats(s)]


def folds_floats(stage: Stage) -> bool:
    """Whether the order in which a stage folds can be seen in its results."""
    return any(stage.body[v].dtype in FLOATS for f in stage.folds for v in f.values)


def _order(stage: Stage, how: How) -> str:
    if isinstance(how, Product):
        return f"in chains of {CHAIN} products"
    assert isinstance(how, Loops)
    if how.axis is None or how.axis in stage.kept:
        return "one after another"
    cuts = f" cut at {', '.join(map(str, how.cuts))}" if how.cuts else ""
    return f"in {how.width} lanes along loop {stage.loops.index(how.axis)}{cuts}"


def _blocks(schedule: Schedule) -> str:
    """Blocks of whole matrices are added up one after another, and each block of a triangle has sums of a length of its own."""
    units = schedule.units
    if (isinstance(units, Points) and units.rows) or (isinstance(units, Rows) and units.triangle):
        return f", in blocks of {units.rows} rows"
    return ""
