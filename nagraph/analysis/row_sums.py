"""Row sums: sums over rows that a kernel makes while it computes these rows.

The gradient of a bias is a sum over all rows of what a matrix product and its epilogue make. A kernel that computes a part of
the rows one after another adds each to the sum of the part as it goes: that stays in the first cache, and no row is read
again. The parts follow from shapes alone, and so does the order of additions. Which sums these are is decided once, by the pass `split`,
and marked: `row_sum` in place of `sum`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import DTYPES
from nagraph.ops.reduction import RowSum, Sum

#: Rows of a part: enough for a block of a matrix product, and whole register tiles of it.
LEAST_ROWS, GOOD_ROWS, STEP = 64, 96, 4
#: Elements of a row: the sums of fewer wait for one another, and take as long as if they were made apart.
LEAST_ROW = 64
#: Parts, so that threads can share them: the fewest, and how many are better.
LEAST_PARTS, GOOD_PARTS = 8, 16


def sum_op(x: Value, axes: tuple[int, ...]) -> Sum:
    """The sum of x over these axes: marked if a kernel that computes x can make it, as it can of floats, over whole rows, in many parts."""
    first, end = axes[0], axes[-1] + 1
    parts, rows = math.prod(x.shape[:first]), math.prod(x.shape[first:end])
    good = (axes == tuple(range(first, end)) and end < x.ndim and x.dtype in (DTYPES["f32"], DTYPES["f64"])
            and parts >= LEAST_PARTS and fits(rows) and math.prod(x.shape[end:]) >= LEAST_ROW)
    return RowSum(axes) if good else Sum(axes)


def summed_rows(node: Node) -> int | None:
    """The number of rows of its operand, in all parts, that a node is marked to sum; None for other nodes."""
    op = node.op
    return math.prod(node.operands[0].shape[:op.axes[-1] + 1]) if isinstance(op, RowSum) else None


def fits(rows: int) -> bool:
    """Whether parts of this many rows are good blocks of a matrix product."""
    return rows >= LEAST_ROWS and rows % STEP == 0


def part_rows(x: Value, count: int) -> tuple[int, int] | None:
    """(axis, size): where to cut the leading axes of x into parts, `size` of this axis times all behind it being the rows of a part;
    None if nothing fits.

    Whole axes are better: what reads their rows need not be cut as well.
    """
    lead, found, behind = x.shape[:count], [], 1
    if math.prod(x.shape[count:]) < LEAST_ROW:
        return None
    every = math.prod(lead)
    for axis in reversed(range(len(lead))):
        for size in (d for d in range(1, lead[axis] + 1) if lead[axis] % d == 0):
            rows = behind * size
            if fits(rows) and every >= LEAST_PARTS * rows:
                few, cut = every < GOOD_PARTS * rows, size < lead[axis]
                found.append((few, cut, cut and rows < GOOD_ROWS, abs(rows - GOOD_ROWS), axis, size))
        behind *= lead[axis]
    return min(found)[-2:] if found else None


def row_sums(graph: Graph) -> dict[Value, Node]:
    """The results of a region that may be sums over its rows, each with its node: it has a matrix product, and reads none of them."""
    if not any(n.op.contracts for n in graph.nodes):
        return {}
    return {v: n for v in graph.outputs if (n := graph.producers.get(v)) is not None and not graph.uses[v] and summed_rows(n)}


def summand(v: Value, sums: Mapping[Value, Node]) -> Value:
    """The value whose rows are summed to v, if v is one of the row sums; else v itself."""
    return sums[v].operands[0] if v in sums else v
