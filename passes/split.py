"""Splitting of long reductions into partial ones and a combination, so that many threads can share them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.movement import reshape
from nagraph.ops.reduction import Reduction
from nagraph.pipeline import graph_pass


@graph_pass
@dataclass(frozen=True)
class Split:
    """Splitting: a long reduction with a small result is done in parts, then over the parts.

    Before   %1 = sum{axes=[0,1]}(%0)                       %0: f32[16,128,104]
    After    %1 = sum{axes=[1]}(%0)   %2 = sum{axes=[0]}(%1)

    The parts follow from the shape alone, never from a number of threads; so does the order of additions.
    It is for results of fewer than `rows` rows that are reduced from `shortest` elements or more.
    """

    shortest: int = 1 << 13
    rows: int = 64
    most: int = 256

    def __call__(self, graph: Graph) -> Graph:
        return graph.rebuild(self._visit)

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
