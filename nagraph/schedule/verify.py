"""The verifier of schedules: what is legal is said here alone, rule by rule, and each error names the rule that is broken.

A rule is a function of the case, which gives a sentence for what is wrong, or nothing. They are asked in order: a later one may rely
on what earlier ones found right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nagraph.errors import ScheduleError
from nagraph.ir.cached import cached_property
from nagraph.kernel.column_split import columns
from nagraph.kernel.contraction import CHAIN, Contraction, Part, direct_output, product_parts, slice_parts
from nagraph.kernel.form import Interleaved, Kernel
from nagraph.kernel.row_blocks import RowBlocks, blocks_of_rows, triangle_of_rows
from nagraph.kernel.vector_axis import cuts_of, lane_axes
from nagraph.schedule.fields import wrong_field
from nagraph.schedule.form import How, Lanes, Loops, Points, Product, Rows, Schedule, Stored, Tiles
from nagraph.schedule.legality import transposed_loads, varying
from nagraph.schedule.loops import vector_lanes
from nagraph.schedule.order import other_order
from nagraph.schedule.realise import groups_of, split_kernel, staged_tiles, unit_count
from nagraph.schedule.target import Target

#: Vectors that are computed side by side at most: more would not stay in registers.
MOST_VECTORS = 8


@dataclass(frozen=True)
class Case:
    """A schedule, a target, and the kernel: as it is (`own`), and with its columns split."""

    own: Kernel
    kernel: Kernel
    schedule: Schedule
    target: Target

    @cached_property
    def blocks(self) -> RowBlocks | None:
        """How the kernel goes in blocks of rows, if the schedule says that it does."""
        units = self.schedule.units
        return blocks_of_rows(self.kernel) if isinstance(units, Points) and units.rows else None

    @cached_property
    def realised(self) -> Kernel:
        """The kernel that the stages of the schedule are those of."""
        return self.blocks.kernel if self.blocks is not None else self.kernel

    @cached_property
    def stages(self) -> list[tuple[int, Part, How]]:
        """The number of each stage of the realised kernel, the product or the loops that it is, how the schedule runs it."""
        return [(n, p, how) for n, (p, how) in enumerate(zip(self.parts, self.schedule.stages))]

    def ranged(self, n: int) -> tuple[int | None, ...]:
        """The axes of stage n of which a block of rows goes through a range."""
        units, blocks = self.schedule.units, self.blocks
        if blocks is not None:
            return (blocks.rows[n], blocks.columns[n]) if blocks.when[n] == "block" else ()
        held = triangle_of_rows(self.kernel) if isinstance(units, Rows) and units.triangle else None
        return () if held is None else (held.columns[n],)

    @cached_property
    def parts(self) -> list[Part]:
        """The stages of the realised kernel, of which those are products that the routine computes."""
        return product_parts(self.realised) if isinstance(self.schedule.units, Rows) else slice_parts(self.realised)


def check(kernel: Kernel, schedule: Schedule, target: Target, name: str = "the kernel") -> None:
    """ScheduleError if a schedule is not legal for a kernel on a machine: the rule that it breaks, and how."""
    problem = problem_of(kernel, schedule, target)
    if problem:
        raise ScheduleError(f"this schedule is not legal for {name}: {problem}")


def problem_of(kernel: Kernel, schedule: Schedule, target: Target) -> str:
    """The rule that a schedule breaks, and how; "" if it is legal."""
    wrong = wrong_field(schedule)
    if wrong:
        return f"rule 'fields': {wrong}"
    wrong = _split(Case(kernel, kernel, schedule, target))
    if wrong:
        return f"rule 'split': {wrong}"
    case = Case(kernel, split_kernel(kernel, schedule.split), schedule, target)
    for name, rule in RULES.items():
        wrong = rule(case)
        if wrong:
            return f"rule {name!r}: {wrong}"
    return ""


def _split(case: Case) -> str:
    """Columns are split where no stage needs another column of what an earlier one made, into equal parts."""
    split, kernel = case.schedule.split, case.own
    if split is None:
        return ""
    found = columns(kernel)
    if not found:
        return "this kernel has no columns that could be computed apart"
    if split.row and kernel.grid:
        return "it has a grid already, and needs no axis of one row"
    extent = kernel.axes[found[0]]
    if (split.width and (split.axis != found[0] or split.width < 0 or extent % split.width)) or not (split.width or split.row):
        return f"its columns are split along a{found[0]}, in parts that divide its extent {extent}"
    return ""


def _units(case: Case) -> str:
    """Units are of a kind that the kernel has, and not larger than the kernel."""
    kernel, units, last = case.kernel, case.schedule.units, case.kernel.grid - 1
    extent = kernel.axes[last] if kernel.grid else 1
    match units:
        case Lanes():
            if not kernel.grid or kernel.sequential:
                return "lanes run along a grid whose points may come in any order"
            if any(a < 0 and varying(s, last)[-1 - a] for s in kernel.stages for x in s.stores for a, _ in x.index.terms):
                return f"places that are data differ along a{last}: lanes can't store there at one time"
            if any(x.index.coefficient(last) == 0 for s in kernel.stages for x in s.stores):
                return f"a store has one place for all points of a{last}"
        case Tiles(axis=axis):
            found = transposed_loads(kernel)
            if axis not in found:
                return f"no load is transposed along a{axis}; along {', '.join(f'a{a}' for a in found) or 'none'} some are"
        case Points(rows=rows):
            if rows and case.blocks is None:
                return "its matrices do not go in blocks of rows"
            if rows < 0 or (case.blocks is not None and rows > case.blocks.extent):
                return f"it has {case.blocks.extent if case.blocks else 0} rows"
        case Rows(rows=rows, columns=width, triangle=held):
            parts = product_parts(kernel)
            products = [p for p in parts if isinstance(p, Contraction)]
            if not products or any(p.rows for p in products):
                return "the rows of the grid are not those of matrix products"
            if not 1 <= rows <= extent:
                return f"a block has 1 to {extent} rows"
            if held and triangle_of_rows(kernel) is None:
                return "it is no triangle"
            direct, outputs = direct_output(kernel, parts)
            if width and (len(direct) > 1 or not outputs):
                return "only a product that stores all that it makes is cut along its columns"
            if width < 0 or width >= products[0].n and width:
                return f"a block has less than {products[0].n} columns, or all"
    return ""


def _stages(case: Case) -> str:
    """Each stage is a product, or loops, or stored by its product, as it is made; where lanes run along the grid all stages have these."""
    units, stages = case.schedule.units, case.schedule.stages
    if isinstance(units, (Lanes, Tiles)):
        return "stages have the lanes of the units, and none of their own" if stages else ""
    parts, blocks = case.parts, case.blocks
    if len(stages) != len(parts):
        return f"it has {len(parts)} stages, numbered from 0"
    direct, _ = direct_output(case.realised, parts, blocks.sums if blocks is not None else ())
    for n, part, how in case.stages:
        if isinstance(part, Contraction) != isinstance(how, Product):
            return f"stage {n} is {'a matrix product' if isinstance(part, Contraction) else 'no matrix product for the routine'}"
        if isinstance(how, Stored) and any(p is part for p in direct):
            return f"stage {n} does more than to copy what a product makes"
    if any(not any(p is part for p in direct) and not isinstance(how, (Stored, Product)) for _, part, how in case.stages) and (
            isinstance(units, Rows) and units.columns):
        return "a product that is cut along its columns stores what it makes itself"
    return ""


def _lanes(case: Case) -> str:
    """Lanes run along an axis that allows it, a power of two at a time; in a block of rows, as many as divide it."""
    units, one = case.schedule.units, vector_lanes(case.kernel, case.target)
    widths = [units.width] if isinstance(units, (Lanes, Tiles)) else []
    most = one if isinstance(units, Tiles) else one * MOST_VECTORS
    kernel = case.realised
    for n, _, how in case.stages:
        if not isinstance(how, Loops):
            continue
        stage = kernel.stages[n]
        if how.axis in stage.kept or not any(isinstance(f.order, Interleaved) for f in stage.folds):  # these have a lane for each chain
            widths.append(how.width)
        allowed = lane_axes(stage)
        if how.axis is None:
            if how.width != 1 or how.cuts:
                return f"stage {n} has no lanes without an axis"
            continue
        if how.axis not in allowed:
            return f"stage {n} can have lanes along {', '.join(f'a{a}' for a in allowed) or 'no axis'}, not along a{how.axis}"
        rows = units.rows if isinstance(units, (Points, Rows)) else 0
        if how.axis in case.ranged(n) and (rows % how.width or how.cuts):
            return f"stage {n} goes through a{how.axis} in blocks of {rows}, which {how.width} lanes must divide, without cuts"
        if not set(how.cuts) <= set(cuts_of(kernel, stage, how.axis)) or list(how.cuts) != sorted(set(how.cuts)):
            return f"stage {n} can be cut at {', '.join(map(str, cuts_of(kernel, stage, how.axis))) or 'no place'}, in order"
    for width in widths:
        if width < 1 or width & (width - 1) or width > most:
            return f"lanes are a power of two, up to {most}; not {width}"
    return ""


def _registers(case: Case) -> str:
    """All sums of a register tile, a row of B and an element of A are in registers; blocks are whole tiles, and fit a cache."""
    for n, part, how in case.stages:
        if isinstance(how, Product) and isinstance(part, Contraction):
            needed = how.rows * how.vectors + how.vectors + 1
            if how.rows < 4 or how.vectors not in (2, 4):
                return f"stage {n}: register tiles have at least 4 rows, and 2 or 4 vectors"
            if needed > case.target.vector_registers:
                return (f"stage {n}: register tiles of {how.rows} rows by {how.vectors} vectors want {needed} registers; "
                        f"there are {case.target.vector_registers}")
            if how.block < how.rows or how.block % how.rows:
                return f"stage {n}: a block of {how.block} rows is not made of tiles of {how.rows} rows"
            if how.block * CHAIN * part.dtype.itemsize > case.target.caches[-1]:
                return f"stage {n}: a block of {how.block} rows of {CHAIN} products does not fit the last cache"
    return ""


def _memory(case: Case) -> str:
    """The tiles of a block of rows fit the last cache, unless it is one row."""
    units, kernel = case.schedule.units, case.kernel
    if not isinstance(units, Rows) or units.rows == 1:
        return ""
    parts = [p for _, p, how in case.stages if not isinstance(how, Stored)]
    nbytes = units.rows * sum(kernel.tiles[i].size * kernel.tiles[i].dtype.itemsize for i in staged_tiles(kernel, groups_of(parts)))
    return f"the tiles of {units.rows} rows take {nbytes:,} bytes, the last cache has {case.target.caches[-1]:,}" if (
        nbytes > case.target.caches[-1]) else ""


def _prefetch(case: Case) -> str:
    """Operands are asked for while products are computed, or during a stage that loops at the points of a grid."""
    schedule, kernel = case.schedule, case.kernel
    products = any(isinstance(how, Product) for how in schedule.stages)
    if any(not 0 <= i < len(kernel.operands) for i in schedule.prefetch) or list(schedule.prefetch) != sorted(set(schedule.prefetch)):
        return f"operands are p0 to p{len(kernel.operands) - 1}, each named once, in order"
    if schedule.during is not None and not schedule.prefetch:
        return "no operand is named"
    if not schedule.prefetch:
        return ""
    if isinstance(schedule.units, (Lanes, Tiles)) or case.blocks is not None:
        return "nothing is asked for ahead of time by units of this kind"
    if products != (schedule.during is None):
        return "memory is asked for while products are computed" if products else "it has no products: name the stage that asks for memory"
    if schedule.during is not None and (not 0 <= schedule.during < len(kernel.stages) or not kernel.grid
                                        or not isinstance(schedule.stages[schedule.during], Loops)
                                        or not kernel.stages[schedule.during].loops):
        return f"stage {schedule.during} has no loops at the points of a grid"
    return ""


def _chunk(case: Case) -> str:
    """A chunk is one unit or more, up to all."""
    most = max(1, unit_count(case.realised, case.schedule.units))
    return "" if 1 <= case.schedule.chunk <= most else f"a chunk has 1 to {most} units"


def _order(case: Case) -> str:
    """Every fold keeps to the order of additions that the kernel states, so that no schedule changes a bit."""
    schedule, blocks = case.schedule, case.blocks
    hows = dict(enumerate(schedule.stages))
    for n, stage in enumerate(case.realised.stages):
        wrong = other_order(stage, hows.get(n), schedule, blocks, case.ranged(n))
        if wrong:
            return f"stage {n}: {wrong}; with another order it would have other bits"
    return ""


#: The rules by name, in the order in which they are asked; the rules 'fields' and 'split' come before them.
RULES: dict[str, Callable[[Case], str]] = {
    "units": _units, "stages": _stages, "lanes": _lanes, "registers": _registers, "memory": _memory, "prefetch": _prefetch, "chunk": _chunk,
    "order": _order,
}
