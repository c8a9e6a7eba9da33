"""Which nodes may share a kernel: those that compute each row of their results from the same row of what the region computes.

What a region reads from outside may be read anywhere, since a load may have any index.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal

from nagraph.analysis.axes import axis_facts, combined, keeps_order, relations
from nagraph.analysis.index_values import is_number
from nagraph.analysis.row_sums import summed_rows
from nagraph.fusion.rows import RowForm, prefix, row_counts, row_forms
from nagraph.ir.axes import AxisRelation
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import FLOATS

#: Bytes of a row of a matrix product that is not stored at once: with longer rows a block has too few of them.
LONGEST_ROW = 1 << 13
#: Bytes of the matrices that a region computes whole at each of its points. Several of LARGEST_TILE fit the second cache;
#: larger ones must go in blocks of rows (`nagraph.kernel.row_blocks`).
LARGEST_SLICE, LARGEST_TILE = 1 << 26, 1 << 18
#: Points of such a region, so that threads can share them.
LEAST_SLICES = 8

#: A value that is a sum over rows, whole when the region is done: no node of it can read that.
SUMMED: Literal["summed"] = "summed"
#: Of an operand: cut into rows like the result (True), the same for all rows (False), or read from outside alone (None).
Form = RowForm | Literal["summed"]


def joins(node: Node) -> bool:
    """Whether a node may be part of a region: a kernel can compute its elements, and its op says how axes come from the operands'.

    Of products those of floats, with rows short enough to be kept.
    """
    op = node.op
    if not op.has_element or op.ends_fusion or op.has_effect or op.may_end_the_call or relations(node) is None:
        return False
    if not op.contracts:
        return True
    row = node.result.type.nbytes // _product_rows(node)[0]
    return node.result.dtype in FLOATS and row <= LONGEST_ROW


def forms_of(node: Node, graph: Graph, everywhere: Collection[Value] = ()) -> dict[int, dict[Value, Form]]:
    """For each number of rows in which a node that joins may be part of a region, the forms of its values; numbers, and `everywhere`,
    fit in all.
    """
    found: dict[int, dict[Value, Form]] = {}
    given = relations(node)
    assert given is not None
    counts = row_counts(node.result.shape)
    if node.op.contracts:
        possible = _product_rows(node)
        counts = [r for r in counts if r in possible]
    for rows in counts:
        forms: dict[Value, Form] = {node.result: True}
        for v, wanted in zip(node.operands, _operands(node, given, rows, graph)):
            if v in everywhere or is_number(v, graph.producers):
                continue
            if v in forms and forms[v] != wanted:
                wanted = None
            forms[v] = wanted
        found[rows] = forms
    summed = summed_rows(node)
    if summed is not None:
        found[summed] = {node.result: SUMMED, node.operands[0]: True}
    return found


def _product_rows(node: Node) -> tuple[int, int]:
    """The numbers of rows of a product: each on its own, so that a block of them is a matrix product; or whole small matrices."""
    op, (x, y) = node.op, node.operands
    batch = axis_facts(node).shared
    batches = math.prod(node.result.shape[:batch])
    plain = x.ndim == y.ndim == node.result.ndim == batch + 2  # others do not go in blocks
    small = all(v.type.nbytes <= batches * (LARGEST_SLICE if plain else LARGEST_TILE) for v in (node.result, x, y))
    return op.most_rows(x.type, y.type), batches if small and batches >= LEAST_SLICES else 0  # type: ignore[attr-defined]


def _operands(node: Node, given: Sequence[AxisRelation], rows: int, graph: Graph) -> Sequence[Form]:
    """The form of each operand, where the result has this number of rows."""
    forms = row_forms(given, node.result, node.operands, rows)
    if not node.op.folds:
        return forms
    facts = axis_facts(node)
    if node.op.contracts:
        batch = facts.shared
        if prefix(node.result.shape, rows) == batch:  # whole matrices
            return forms
        # The rows of x may be computed by the region if every matrix brings its own y, which is read.
        return forms[0] if batch and facts.trailing else None, None
    if not facts.trailing and not _roots(node.operands[0], graph):
        return (None,) * len(forms)  # along columns: rows of its operand would be whole matrices
    return forms


def sources(node: Node, graph: Graph) -> list[tuple[Value, tuple[int, ...]]]:
    """What a fold along columns reads, each with the axes along which it combines: its operand, or the values in memory from which that
    is computed for it alone.
    """
    if not node.op.folds or node.op.contracts or axis_facts(node).trailing:
        return []
    x, given = node.operands[0], relations(node)
    axes = combined(given[0], x.ndim) if given else ()
    return [(v, axes) for v in _roots(x, graph) if v.type.size == x.type.size] or [(x, axes)]


def _roots(v: Value, graph: Graph) -> list[Value]:
    """The values in memory from which v is computed again, element by element, for one reader; none if it is not."""
    found: dict[Value, None] = {}
    stack = [v]
    while stack:
        v = stack.pop()
        node = graph.producers.get(v)
        if node is not None and node.op.ends_fusion:
            found[node.operands[0]] = None
        elif (node is not None and len(graph.uses[v]) < 2 and v not in graph.output_values and keeps_order(node)
                and not (node.op.view and v.type.size != node.operands[0].type.size)):  # repeated
            stack += reversed(node.operands)
    return list(found)
