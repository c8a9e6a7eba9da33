"""Splitting of long reductions into partial ones and a combination, so that many threads can share them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from nagraph import choices
from nagraph.analysis.axes import keeps_order
from nagraph.analysis.row_sums import part_rows, sum_op
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.base import NARROW_FLOATS
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.movement import Transpose, reshape
from nagraph.ops.reduction import Reduction, RowSum, Sum
from nagraph.ops.width import widened
from nagraph.ops.windows import Windows
from nagraph.pipeline import graph_pass

#: Parts of a reduction, and elements of each of them, from which it is worth being split.
LEAST_PARTS, LEAST_REST = 8, 8


@graph_pass
@dataclass(frozen=True)
class Split:
    """Splitting: a long reduction with a small result is done in parts, then over the parts.

    Before   %1 = sum{axes=[0,1]}(%0)                       %0: f32[16,128,104]
    After    %1 = sum{axes=[1]}(%0)   %2 = sum{axes=[0]}(%1)

    The parts follow from the shape alone, never from a number of threads; so does the order of additions. It is for backends of
    several threads, such as LLVM's.
    It is for results of fewer than `rows` rows that are reduced from `shortest` elements or more. Of sums over rows that a matrix product
    makes, the parts are blocks of its rows, which it can sum as it goes. Sums that a kernel can make so are marked, `row_sum` in place of
    `sum` (`nagraph.analysis.row_sums`). Matrix products whose operands come from memory badly are split into parts of `part_nbytes`, which
    fit a cache and are the same on every machine: those over windows, which read them again for every place in the window, and long ones
    over the rows of an x whose rows fall into few sets of a cache. row_sums: whether sums are marked; a GPU has no use for it, whose
    blocks would wait for one another.
    """

    shortest: int = 1 << 13
    rows: int = 64
    most: int = 256
    part_nbytes: int = 1 << 19
    row_sums: bool = True

    def __call__(self, graph: Graph) -> Graph:
        windows: dict[Value, Value] = {}
        products = _Products()

        def visit(node: Node) -> Value | None:
            products.add(node)
            if isinstance(node.op, (Windows, Transpose)):
                source = windows.get(node.operands[0], node.operands[0] if isinstance(node.op, Windows) else None)
                if source is not None:
                    windows[node.result] = source
            if isinstance(node.op, DotGeneral):
                return self._product(node, windows)
            found = self._visit(node, products.made)
            if found is not None:
                products.after[found] = products.after[node.results[0]]
            return found

        return graph.rebuild(visit)

    def _product(self, node: Node, windows: dict[Value, Value]) -> Value | None:
        """A matrix product in parts of the first axis that it sums over; None if that is not the first axis of both operands, or
        does not pay.
        """
        op = node.op
        assert isinstance(op, DotGeneral)
        x, y = node.operands
        if x.dtype in NARROW_FLOATS:  # its parts would be rounded
            return None
        if op.batch_axes != ((), ()) or not op.contract[0] or op.contract[0][0] or op.contract[1][0]:
            return None
        if not choices.takes("split", x in windows or _conflicts(op, x), str(x.type), str(y.type)):
            return None
        size = x.shape[0]
        nbytes = windows.get(x, x).type.nbytes + y.type.nbytes
        most = choices.most("split", self.part_nbytes if x in windows else 5 * self.part_nbytes // 2)
        parts = min((d for d in range(1, size + 1) if size % d == 0 and nbytes <= d * most), default=size)
        if parts < 2 or not choices.takes("split", parts * node.result.type.nbytes <= nbytes, parts):
            return None
        x, y = (reshape(v, (parts, size // parts, *v.shape[1:])) for v in (x, y))
        inner = tuple(tuple(a + 1 for a in axes) for axes in op.contract)
        found: Value = Sum((0,))(DotGeneral((inner[0], inner[1]), ((0,), (0,)))(x, y))
        return found

    def _visit(self, node: Node, made: Collection[Value]) -> Value | None:
        op = node.op
        if not isinstance(op, Reduction) or not op.axes or isinstance(op, RowSum):
            return None
        (x,) = node.operands
        trailing = op.axes == tuple(range(x.ndim - len(op.axes), x.ndim))
        if x.type.size < choices.least("split", self.shortest) or (trailing and node.result.type.size >= choices.most("split", self.rows)):
            return self._marked(x, op)
        if self.row_sums and isinstance(op, Sum) and not trailing and x in made and (found := _by_parts(x, op.axes)) is not None:
            return found
        first, extent = op.axes[0], x.shape[op.axes[0]]
        parts = max((d for d in range(1, min(extent, self.most) + 1) if extent % d == 0), default=1)
        rest = math.prod(x.shape[a] for a in op.axes) // max(parts, 1)
        if parts < LEAST_PARTS or rest < LEAST_REST:
            return self._marked(x, op)
        kind: Any = type(op)
        if parts < extent:
            x = reshape(x, (*x.shape[:first], parts, extent // parts, *x.shape[first + 1:]))
            inner = (first + 1, *(a + 1 for a in op.axes[1:]))
        else:
            inner = op.axes[1:]
        marks = kind is Sum and self.row_sums
        result: Value = widened(lambda v: kind((first,))((sum_op(v, inner) if marks else kind(inner))(v)))(x)
        return result

    def _marked(self, x: Value, op: Reduction) -> Value | None:
        """A sum as it is, but marked; None if it is none that a kernel makes row by row."""
        marked = sum_op(x, op.axes) if isinstance(op, Sum) and self.row_sums else op
        found: Value | None = marked(x) if isinstance(marked, RowSum) else None
        return found


class _Products:
    """The values that matrix products make, and those that follow from them element by element, each with the number of its product."""

    def __init__(self) -> None:
        self.made: dict[Value, int] = {}
        #: For each value, as bits, the products that must be done in all rows before it can be computed.
        self.after: dict[Value, int] = {}

    def add(self, node: Node) -> None:
        after = 0
        for v in node.operands:
            after |= self.after.get(v, 0)
        sizes = {v.type.size for v in node.results}
        number = max((self.made[v] for v in node.operands if v in self.made and v.type.size in sizes), default=0)
        if node.op.contracts:
            self.made[node.result] = len(self.made) + 1
        elif number and not after >> number & 1 and keeps_order(node):
            self.made[node.result] = number
        else:
            for v in node.operands:
                after |= 1 << self.made[v] if v in self.made else 0
        self.after.update(dict.fromkeys(node.results, after))


def _by_parts(x: Value, axes: tuple[int, ...]) -> Value | None:
    """The sum over the rows of x, made part by part, so that each part can be summed while a matrix product makes its rows."""
    rest = x.ndim - len(axes)
    cut = part_rows(x, len(axes)) if axes == tuple(range(len(axes))) else None
    if cut is None:
        return None
    axis, size = cut
    if size < x.shape[axis]:
        x = reshape(x, (*x.shape[:axis], x.shape[axis] // size, size, *x.shape[axis + 1:]))
        axis += 1
    found: Value = widened(lambda v: Sum(tuple(range(axis)))(sum_op(v, tuple(range(axis, v.ndim - rest)))(v)))(x)
    return found


def _conflicts(op: DotGeneral, x: Value) -> bool:
    """Whether a product sums over many rows of x whose starts are a multiple of half a page apart, so that they fall into few sets of a
    cache.
    """
    axes = op.contract[0]
    if axes != tuple(range(len(axes))):
        return False
    count, columns = math.prod(x.shape[:len(axes)]), math.prod(x.shape[len(axes):])
    return count >= 2048 and columns >= 256 and columns * x.dtype.itemsize % 2048 == 0
