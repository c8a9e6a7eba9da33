"""Triangles: the part of a square of rows and columns that a kernel need not compute, since it is masked beyond the diagonal.

A causal mask allows column j to row i where i >= j. Beyond, scores become -inf, weights 0, and what is summed over them stays
as it is. So columns beyond the last row of a block need not be computed at all. A zero weight counts as nothing
whatever it is multiplied with: a nan in a value that no row may see does not reach it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nagraph.ir.op import Op
from nagraph.kernel.axis_classes import AxisClasses, TileAccess
from nagraph.kernel.form import Apply, Fold, Instruction, Kernel, Number, Position, Read, Stage
from nagraph.ops.base import Cast
from nagraph.ops.comparison import GreaterEqual
from nagraph.ops.elementwise import Multiply, Select, Subtract
from nagraph.ops.reduction import Max, Min, Sum

#: What a value is beyond the diagonal; None if that is not known.
Known = float | bool | None
IDENTITY: dict[type[Op], float] = {Sum: 0.0, Max: -math.inf, Min: math.inf}


class Triangle(NamedTuple):
    """A triangle names for each stage its axis of rows and of columns (None: it has none), and the instructions that say whether i >=
    j.
    """

    rows: list[int | None]
    columns: list[int | None]
    conditions: list[frozenset[int]]


def triangle(kernel: Kernel, classes: AxisClasses) -> Triangle | None:
    """The triangle to which a kernel can be restricted; None if it has none, or if something beyond the diagonal is used."""
    found = [(n, i, pair) for n, s in enumerate(kernel.stages) for i, x in enumerate(s.body) if (pair := _compared(s, x)) is not None]
    if not found:
        return None
    stage, _, (row, column) = found[0]
    rows, columns = classes.axes((stage, row)), classes.axes((stage, column))
    if row < kernel.grid:  # rows of the grid are the same in all stages
        rows = [row] * len(kernel.stages)
    if rows is None or columns is None or kernel.axes[row] != kernel.axes[column] or column < kernel.grid:
        return None
    if any(pair != (rows[n], columns[n]) for n, _, pair in found):
        return None
    conditions = [frozenset(i for m, i, _ in found if m == n) for n in range(len(kernel.stages))]
    made = Triangle(rows, columns, conditions)
    return made if _inert(kernel, made) and _within(classes, made) else None


def _compared(stage: Stage, i: Instruction) -> tuple[int, int] | None:
    """The axes (row, column) that an instruction compares, if it says whether the place on one is at least that on the other; else
    None.
    """
    if not isinstance(i, Apply) or not isinstance(i.op, GreaterEqual):
        return None
    a, b = (_axis(stage, v) for v in i.arguments)
    return None if a is None or b is None else (a, b)


def _axis(stage: Stage, v: int) -> int | None:
    i = stage.body[v]
    if isinstance(i, Apply) and isinstance(i.op, Cast):
        return _axis(stage, i.arguments[0])
    plain = isinstance(i, Position) and not i.index.offset and len(i.index.terms) == 1 and i.index.terms[0][1] == 1
    return i.index.terms[0][0] if plain and i.index.terms[0][0] >= 0 else None  # type: ignore[union-attr]


def _inert(kernel: Kernel, held: Triangle) -> bool:
    """Whether nothing beyond the diagonal is stored, or changes what is folded."""
    beyond: dict[int, Known] = {}
    for n, stage in enumerate(kernel.stages):
        row, column = held.rows[n], held.columns[n]
        if row is None or column is None:
            continue
        values = _beyond(stage, held.conditions[n], beyond, column)
        if stage.stores and column in stage.kept:
            return False
        folded = [a for a in (row, column) if a in stage.loops and a not in stage.kept]
        if len(folded) > 1 or (folded and not all(_changes_nothing(f, [values[v] for v in f.values]) for f in stage.folds)):
            return False
        if not folded:
            beyond.update((f.tile, None) for f in stage.folds)
            beyond.update((w.tile, values[w.value]) for w in stage.writes)
        elif stage.writes or stage.stores:
            if column not in stage.loops[len(stage.kept):] or stage.stores:
                return False
            beyond.update((w.tile, values[w.value]) for w in stage.writes)
    return True


def _within(classes: AxisClasses, held: Triangle) -> bool:
    """Whether tiles that end at the diagonal are read at the very places where they are written: other columns may not be there."""
    kernel = classes.kernel
    ends: dict[int, tuple[int, int, int]] = {}
    for a in classes.accesses:
        stage, row, column = kernel.stages[a.stage], held.rows[a.stage], held.columns[a.stage]
        written = any(x.tile == a.tile for x in (*stage.folds, *stage.writes))
        if written and row is not None and column is not None and a.index.coefficient(column):
            if row < kernel.grid or row in stage.kept:
                ends[a.tile] = _place(a, row, column)
    for a in (a for a in classes.accesses if a.tile in ends):
        row, column = held.rows[a.stage], held.columns[a.stage]
        if row is None or column is None or _place(a, row, column) != ends[a.tile] or {x for x, _ in a.index.terms} - {row, column}:
            return False
    return True


def _place(access: TileAccess, row: int, column: int) -> tuple[int, int, int]:
    return access.index.offset, access.index.coefficient(row), access.index.coefficient(column)


def _changes_nothing(fold: Fold, values: Sequence[Known]) -> bool:
    """Whether a fold over these values changes nothing."""
    if fold.is_contraction:
        return any(v == 0.0 for v in values)
    return len(values) == 1 and values[0] is not None and IDENTITY.get(type(fold.op)) == values[0]


def _beyond(stage: Stage, conditions: frozenset[int], tiles: dict[int, Known], column: int) -> list[Known]:
    """The value of each instruction beyond the diagonal."""
    found: list[Known] = []
    for n, i in enumerate(stage.body):
        if n in conditions:
            found.append(False)
        elif isinstance(i, Number):
            found.append(i.value)
        elif isinstance(i, Read) and i.index.coefficient(column):
            found.append(tiles.get(i.tile))
        elif isinstance(i, Apply):
            found.append(_applied(i, [found[a] for a in i.arguments], [stage.body[a].dtype for a in i.arguments]))
        else:
            found.append(None)
    return found


def _applied(i: Apply, values: list[Known], dtypes: Sequence[np.dtype]) -> Known:  # type: ignore[type-arg]
    if isinstance(i.op, Select) and values[0] is not None:
        return values[1 if values[0] else 2]
    if isinstance(i.op, Multiply) and 0.0 in values:
        return 0.0
    if isinstance(i.op, Subtract) and values[0] == -math.inf:
        return -math.inf
    if None in values or not values:
        return None
    with np.errstate(all="ignore"):
        result: Known = np.asarray(i.op.reference(*(np.asarray(v, d) for v, d in zip(values, dtypes)))).item()  # type: ignore[arg-type]
    return result
