"""What a kernel allows: along which axes lanes may run, what is transposed in tiles, what goes in blocks of rows, what is a triangle."""

from __future__ import annotations

import functools

from nagraph.ir.types import BOOL
from nagraph.kernel.axis_classes import AxisClasses
from nagraph.kernel.contraction import Contraction, product_parts, slice_parts
from nagraph.kernel.form import Apply, Kernel, Load, Number, Read, Running, Stage, Store, Within
from nagraph.kernel.row_blocks import RowBlocks, row_blocks
from nagraph.kernel.triangle import Triangle, triangle
from nagraph.thresholds import follows


def lane_axes(stage: Stage) -> list[int]:
    """The axes of a stage along which lanes may run: not those of running folds, nor of stores that may meet."""
    if any(a < 0 for s in stage.stores for a, _ in s.index.terms):
        return []
    kept = list(stage.kept[-1:])
    running = any(isinstance(i, Running) for i in stage.body)
    return kept if running else [*kept, *stage.loops[len(stage.kept):][-1:]]


def varying(stage: Stage, axis: int) -> list[bool]:
    """For each instruction of a stage whether it may differ from place to place along an axis of the grid."""
    found: list[bool] = []
    for i in stage.body:
        if isinstance(i, Apply):
            found.append(any(found[a] for a in i.arguments))
        elif isinstance(i, (Number, Running, Read)):
            found.append(not isinstance(i, Number))
        else:
            also = i.mask if isinstance(i, Load) else i.also if isinstance(i, Within) else None
            own = any(a == axis or (a < 0 and found[-1 - a]) for a, _ in i.index.terms)
            found.append(own or (also is not None and found[also]))
    return found


def cuts_of(kernel: Kernel, stage: Stage, axis: int) -> list[int]:
    """Where conditions on the place along an axis begin or cease to hold: between these places there is nothing to ask."""
    extent, places = kernel.axes[axis], set[int]()
    for i in stage.body:
        if isinstance(i, Within) and i.step == 1 and i.index.terms == ((axis, 1),):
            places |= {p for p in (-i.index.offset, i.size - i.index.offset) if 0 < p < extent}
    return sorted(places)


def transposed_loads(kernel: Kernel) -> dict[int, list[int]]:
    """For axes of the grid but the last, the loads that walk along them with unit stride, and that the last axis takes elsewhere.

    None but in a kernel of one stage without loops, whose stores have unit stride along the last axis.
    """
    if kernel.grid < 2 or kernel.sequential or len(kernel.stages) != 1 or kernel.stages[0].loops or kernel.stages[0].folds:
        return {}
    (stage,), last = kernel.stages, kernel.grid - 1
    if any(s.index.coefficient(last) != 1 for s in stage.stores):
        return {}
    strided = [n for n, i in enumerate(stage.body) if isinstance(i, Load) and i.dtype != BOOL
               and i.index.coefficient(last) not in (0, 1) and all(a >= 0 for a, _ in i.index.terms)]
    found = {axis: [n for n in strided if stage.body[n].index.coefficient(axis) == 1] for axis in range(last)}  # type: ignore[union-attr]
    return {axis: loads for axis, loads in found.items() if loads}


def blocks_of_rows(kernel: Kernel) -> RowBlocks | None:
    """How a kernel of whole matrices goes in blocks of their rows; None if it does not.

    All its products must be restricted to a block's rows and columns, and nothing else may add up over blocks.
    """
    blocks = row_blocks(kernel)
    if blocks is None:
        return None
    for part, rows, columns, when in zip(slice_parts(blocks.kernel), blocks.rows, blocks.columns, blocks.when):
        restricted = [a for a in (rows, columns) if a is not None] if when == "block" else []
        if isinstance(part, Contraction):
            if not part.fits(restricted):
                return None
        elif rows is not None and rows not in part.kept:
            return None
    return blocks


@follows
@functools.lru_cache(256)
def triangle_of_rows(kernel: Kernel) -> Triangle | None:
    """The triangle of a kernel whose rows are the last axis of its grid; None if it has none."""
    if not kernel.grid:
        return None
    last, found = kernel.grid - 1, triangle(kernel, AxisClasses(kernel))
    if found is None or any(r != last for r in found.rows):
        return None
    parts = product_parts(kernel)
    fitting = all(c is None or p.fits([c]) for p, c in zip(parts, found.columns) if isinstance(p, Contraction))
    return found if fitting else None


def ahead(kernel: Kernel, x: Load | Store) -> bool:
    """Whether an access can be asked for before it is made: its places are no data, and differ from point to point of the grid."""
    terms = [a for a, _ in x.index.terms]
    return min(terms, default=0) >= 0 and any(a < kernel.grid for a in terms)
