"""Splitting of long reductions into partial ones and a combination, so that many threads can share them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.movement import Transpose, reshape
from nagraph.ops.reduction import Reduction, Sum
from nagraph.ops.windows import Windows
from nagraph.pipeline import graph_pass


@graph_pass
@dataclass(frozen=True)
class Split:
    """Splitting: a long reduction with a small result is done in parts, then over the parts.

    Before   %1 = sum{axes=[0,1]}(%0)                       %0: f32[16,128,104]
    After    %1 = sum{axes=[1]}(%0)   %2 = sum{axes=[0]}(%1)

    The parts follow from the shape alone, never from a number of threads; so does the order of additions.
    It is for results of fewer than `rows` rows that are reduced from `shortest` elements or more. Matrix products whose
    operands come from memory badly are split so that a part of them fits a cache of `cache_nbytes`: those over windows, which read
    them again for every place in the window, and long ones over the rows of an x whose rows fall into few sets of a cache.
    """

    shortest: int = 1 << 13
    rows: int = 64
    most: int = 256
    cache_nbytes: int = 1 << 19

    def __call__(self, graph: Graph) -> Graph:
        windows: dict[Value, Value] = {}

        def visit(node: Node) -> Value | None:
            if isinstance(node.op, (Windows, Transpose)):
                source = windows.get(node.operands[0], node.operands[0] if isinstance(node.op, Windows) else None)
                if source is not None:
                    windows[node.result] = source
            if isinstance(node.op, DotGeneral):
                return self._product(node, windows)
            return self._visit(node)

        return graph.rebuild(visit)

    def _product(self, node: Node, windows: dict[Value, Value]) -> Value | None:
        """Parts of the first axis that is summed over, if that is the first axis of both operands."""
        op = node.op
        assert isinstance(op, DotGeneral)
        x, y = node.operands
        if op.batch_axes != ((), ()) or not op.contract[0] or op.contract[0][0] or op.contract[1][0]:
            return None
        if x not in windows and not _conflicts(op, x):
            return None
        size = x.shape[0]
        nbytes = windows.get(x, x).type.nbytes + y.type.nbytes
        cache = self.cache_nbytes if x in windows else 5 * self.cache_nbytes // 2
        parts = min((d for d in range(1, size + 1) if size % d == 0 and nbytes <= d * cache), default=size)
        if parts == 1 or parts * node.result.type.nbytes > nbytes:
            return None
        x, y = (reshape(v, (parts, size // parts, *v.shape[1:])) for v in (x, y))
        inner = tuple(tuple(a + 1 for a in axes) for axes in op.contract)
        found: Value = Sum((0,))(DotGeneral((inner[0], inner[1]), ((0,), (0,)))(x, y))
        return found

    def _visit(self, node: Node) -> Value | None:
        op = node.op
        if not isinstance(op, Reduction) or not op.axes:
            return None
        (x,) = node.operands
        trailing = op.axes == tuple(range(x.ndim - len(op.axes), x.ndim))
        if x.type.size < self.shortest or (trailing and node.result.type.size >= self.rows):
            return None
        first, extent = op.axes[0], x.shape[op.axes[0]]
        parts = max((d for d in range(1, min(extent, self.most) + 1) if extent % d == 0), default=1)
        rest = math.prod(x.shape[a] for a in op.axes) // max(parts, 1)
        if parts < 8 or rest < 8:
            return None
        kind: Any = type(op)
        if parts < extent:
            x = reshape(x, (*x.shape[:first], parts, extent // parts, *x.shape[first + 1:]))
            inner = (first + 1, *(a + 1 for a in op.axes[1:]))
        else:
            inner = op.axes[1:]
        result: Value = kind((first,))(kind(inner)(x))
        return result


def _conflicts(op: DotGeneral, x: Value) -> bool:
    """Whether a product sums over many rows of x, of more columns than a block takes, a multiple of half a page apart."""
    axes = op.contract[0]
    if axes != tuple(range(len(axes))):
        return False
    count, columns = math.prod(x.shape[:len(axes)]), math.prod(x.shape[len(axes):])
    return count >= 2048 and columns >= 256 and columns * x.dtype.itemsize % 2048 == 0
