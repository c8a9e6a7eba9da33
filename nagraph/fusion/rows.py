"""Rows: how tensors fall into rows, and which rows of its operands a node reads for a row of its result.

A tensor has R rows if its leading axes multiply to R. What a node reads follows from the axis relations of its op.
"""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.ir.axes import AXES, IN_ORDER, SAME, AxisRelation
from nagraph.ir.graph import Value

Shape = tuple[int, ...]
#: What a row of a result reads of an operand: its own row alone (True), the same for every row (False), or anything (None).
RowForm = bool | None


def prefix(shape: Shape, rows: int) -> int | None:
    """The number of leading axes that multiply to `rows` (more than 1): the fewest; None if no number does."""
    product = 1
    for p, size in enumerate(shape, 1):
        product *= size
        if product == rows:
            return p
    return None


def row_counts(shape: Shape) -> list[int]:
    """The numbers of rows above 1 that a shape can be cut into, largest first."""
    counts: list[int] = []
    product = 1
    for size in shape:
        product *= size
        if product > 1 and (not counts or counts[-1] != product):
            counts.append(product)
    return counts[::-1]


def row_form(relation: AxisRelation, result: Shape, operand: Shape, rows: int) -> RowForm:
    """What one of `rows` rows of a result of this shape reads of an operand of that shape. Axes of size 1 do not count."""
    p = prefix(result, rows)
    if p is None:
        return None
    if relation is not IN_ORDER and relation[:p] == AXES[:p]:
        return True
    q = prefix(operand, rows)
    if relation is IN_ORDER:
        return None if q is None else True
    lead = [a for a, n in zip(relation[:p], result) if n != 1]
    if q is not None and lead == [a for a in range(q) if operand[a] != 1]:
        return True
    return False if all([a is SAME for a in lead]) else None


def row_forms(relations: Sequence[AxisRelation], result: Value, operands: Sequence[Value], rows: int) -> list[RowForm]:
    """What a row of a result reads of each operand."""
    shape = result.shape
    straight = AXES[:len(shape)]
    return [True if r == straight else row_form(r, shape, v.shape, rows) for r, v in zip(relations, operands)]
