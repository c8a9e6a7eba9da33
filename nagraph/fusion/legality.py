"""Which nodes may share a kernel: those that compute each row of their results from the same row of what the region computes.

What a region reads from outside may be read anywhere, since a load may have any index.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal

from nagraph.analysis.index_values import is_number
from nagraph.analysis.row_sums import summed_rows
from nagraph.fusion.rows import operand_forms, prefix, row_counts
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import FLOATS
from nagraph.ops.arg_extremum import ArgExtremum
from nagraph.ops.base import Cast, Elementwise
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.identities import Materialize, Recompute, StopGradient
from nagraph.ops.indexing import Gather
from nagraph.ops.joining import Concatenate
from nagraph.ops.movement import Broadcast, Flip, Iota, Reshape, Transpose
from nagraph.ops.random import FoldIn, RandomBits
from nagraph.ops.reduction import Reduction
from nagraph.ops.slicing import Pad, Slice

#: Bytes of a row of a matrix product that is not stored at once: with longer rows a block has too few of them.
LONGEST_ROW = 1 << 13
#: Bytes of the matrices that a region computes whole at each of its points. Several of LARGEST_TILE fit the second cache;
#: larger ones must go in blocks of rows (`nagraph.kernel.row_blocks`).
LARGEST_SLICE, LARGEST_TILE = 1 << 26, 1 << 18
#: Points of such a region, so that threads can share them.
LEAST_SLICES = 8

FUSIBLE = (Elementwise, Cast, StopGradient, Broadcast, Reshape, Transpose, Slice, Flip, Pad, Concatenate, Iota, RandomBits, FoldIn,
           Gather, Reduction, ArgExtremum, DotGeneral, Materialize)

#: A value that is a sum over rows, whole when the region is done: no node of it can read that.
SUMMED: Literal["summed"] = "summed"
#: Of an operand: cut into rows like the result (True), the same for all rows (False), or read from outside alone (None).
Form = bool | None | Literal["summed"]


def forms_of(node: Node, graph: Graph, everywhere: Collection[Value] = ()) -> dict[int, dict[Value, Form]]:
    """For each number of rows in which a node may join a region, the forms of its values; numbers, and `everywhere`, fit in all."""
    found: dict[int, dict[Value, Form]] = {}
    counts = row_counts(node.results[0].shape)
    if isinstance(node.op, DotGeneral):
        counts = [r for r in counts if r in _product_rows(node)]
    for rows in counts:
        forms: dict[Value, Form] = {node.result: True}
        for v, wanted in zip(node.operands, _operands(node, rows, graph)):
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


def _product_rows(node: Node) -> tuple[int, ...]:
    """The numbers of rows of a product: each on its own, so that a block of them is a matrix product; or whole small matrices."""
    op, (x, y) = node.op, node.operands
    assert isinstance(op, DotGeneral)
    batches = math.prod(x.shape[a] for a in op.batch_axes[0])
    plain = x.ndim == y.ndim == node.result.ndim == len(op.batch_axes[0]) + 2  # others do not go in blocks
    small = all(v.type.nbytes <= batches * (LARGEST_SLICE if plain else LARGEST_TILE) for v in (node.result, x, y))
    return op.most_rows(x.type, y.type), batches if small and batches >= LEAST_SLICES else 0


def _operands(node: Node, rows: int, graph: Graph) -> Sequence[Form]:
    op = node.op
    outside = (None,) * len(node.operands)
    if isinstance(op, Reduction) and not _is_trailing(node) and not _roots(node.operands[0], graph):
        return outside  # along columns: rows of its operand would be whole matrices
    p = prefix(node.result.shape, rows)
    if isinstance(op, (Elementwise, Cast, StopGradient, Broadcast, Materialize)) and p is not None:
        return [_broadcast(v.shape, node.result.shape, p) for v in node.operands]
    if isinstance(op, (Reshape, Transpose, Slice, Reduction)):
        return operand_forms(node, rows) or outside
    if p is None or not node.operands:
        return outside
    x = node.operands[0]
    same = prefix(x.shape, rows) == p and x.shape[:p] == node.result.shape[:p]
    if isinstance(op, Pad):
        return (True,) if same and not any((*op.low[:p], *op.high[:p], *op.inner[:p])) else outside
    if isinstance(op, Flip):
        return (True,) if same and all(a >= p for a in op.axes) else outside
    if isinstance(op, Concatenate):
        return (True,) * len(node.operands) if same and op.axis >= p else outside
    if isinstance(op, ArgExtremum):
        return (True,) if same and op.axis >= p else outside
    if isinstance(op, DotGeneral):
        if p == len(op.batch_axes[0]):
            return [_slices(axes) for axes in op.batch_axes]
        return (_left(op, x, p), None)
    return outside


def _is_trailing(node: Node) -> bool:
    """Whether a reduction runs along the last axes of its operand."""
    (x,), axes = node.operands, node.op.axes  # type: ignore[attr-defined]
    return bool(axes == tuple(range(x.ndim - len(axes), x.ndim)))


def sources(node: Node, graph: Graph) -> list[Value]:
    """What a reduction along columns reads: its operand, or the values in memory from which that is computed for it alone."""
    (x,) = node.operands
    if not isinstance(node.op, Reduction) or _is_trailing(node):
        return []
    return [v for v in _roots(x, graph) if v.type.size == x.type.size] or [x]


def _roots(v: Value, graph: Graph) -> list[Value]:
    """The values in memory from which v is computed again, element by element, for one reader; none if it is not."""
    node = graph.producers.get(v)
    if node is not None and isinstance(node.op, Recompute):
        return [node.operands[0]]
    if node is None or not isinstance(node.op, (Elementwise, Cast, Reshape)) or len(graph.uses[v]) > 1 or v in graph.outputs:
        return []
    return list(dict.fromkeys(r for x in node.operands for r in _roots(x, graph)))


def _broadcast(shape: tuple[int, ...], result: tuple[int, ...], p: int) -> Form:
    """An operand that broadcasts to a result whose first p axes are its rows."""
    lead = ((1,) * (len(result) - len(shape)) + shape)[:p]
    return True if lead == result[:p] else False if all(size == 1 for size in lead) else None


def _left(op: DotGeneral, x: Value, p: int) -> Form:
    """Whether x of a product may be computed by the region: of a batched one, since every row brings its own y."""
    count = len(op.batch_axes[0])
    free, _ = op.free(x.ndim, 0)
    straight = (*op.batch_axes[0], *free, *op.contract[0]) == tuple(range(x.ndim))
    return True if count and straight and p <= count + len(free) else None


def _slices(batch_axes: tuple[int, ...]) -> Form:
    """Whether a factor of a batched product may be computed by the region, matrix by matrix."""
    return True if batch_axes == tuple(range(len(batch_axes))) else None


def joins(node: Node) -> bool:
    """Whether a node may be part of a region at all: products of floats, with rows short enough to be kept."""
    op = node.op
    if not isinstance(op, DotGeneral):
        return isinstance(op, FUSIBLE)
    x, y = node.operands
    row = math.prod(node.result.shape[x.ndim - len(op.contract[0]):]) * x.dtype.itemsize
    return x.dtype in FLOATS and row <= LONGEST_ROW
