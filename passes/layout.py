"""Layout: convolutions and the nodes between them compute with channels last."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nagraph.analysis.axes import keeps_order, relations
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.op import Op
from nagraph.ops.convolution import ConvGeneral
from nagraph.ops.identities import Materialize
from nagraph.ops.movement import Broadcast, Transpose, reshape, transpose
from nagraph.ops.window_products import as_product, batch_last, channels_last
from nagraph.pipeline import graph_pass

#: The axes of a value, the outermost in memory first.
Order = tuple[int, ...]


@graph_pass
@dataclass(frozen=True)
class Layout:
    """Layout: a convolution becomes a matrix product over windows, its channels last; other nodes compute in that order too.

    Before   %1 = conv_general(%x, %w)   %2 = maximum(%1, %zero)             %x: f32[8,3,32,32]
    After    %1 = transpose{axes=[0,2,3,1]}(%x)   ...   %4 = dot_general(%3, ...)   %5 = maximum(%4, %zero)
             %6 = transpose{axes=[0,3,1,2]}(%5)

    Every value keeps its meaning: where one was computed in another order, a transposition gives it back, and what reads
    the other order skips it. So transpositions stay only where data enter, leave, or meet nodes that want one order.
    It is for backends that have no convolution of their own.
    """

    def __call__(self, graph: Graph) -> Graph:
        if not any(isinstance(n.op, ConvGeneral) for n in graph.nodes):
            return graph
        return graph.rebuild(_Orders().visit)


def inverse(order: Order) -> Order:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def compose(p: Order, q: Order) -> Order:
    """The permutation p, then q: axis i of the result is axis p[q[i]]."""
    return tuple(p[i] for i in q)


def emit(op: Op, *operands: Value) -> Value:
    """The result of a node with this op."""
    return current().emit(op, operands)[0]


@dataclass
class _Orders:
    """The orders of axes in which values were computed. `stored`: for each such value its order, and the value with its axes in that
    order.
    """

    stored: dict[Value, tuple[Order, Value]] = field(default_factory=dict)
    #: Values that repeat few elements, which cost nothing in any order, and what they repeat.
    free: dict[Value, Value] = field(default_factory=dict)

    def order(self, v: Value) -> Order:
        return self.stored[v][0] if v in self.stored else tuple(range(v.ndim))

    def in_order(self, v: Value, order: Order) -> Value:
        """v with its axes in this order."""
        have, base = self.stored.get(v, (tuple(range(v.ndim)), v))
        found: Value = transpose(base, compose(inverse(have), order))
        return found

    def put(self, base: Value, order: Order) -> Value:
        """The value that `base` shows with its axes in this order."""
        v: Value = transpose(base, inverse(order))
        if v is not base:
            self.stored[v] = (order, base)
        return v

    def visit(self, node: Node) -> Value | None:
        op, operands = node.op, node.operands
        if isinstance(op, ConvGeneral):
            return self.convolution(op, *operands) if as_product(op, *(v.type for v in operands)) else None
        if isinstance(op, Broadcast):
            if operands[0].type.size < node.result.type.size:
                self.free[node.result] = operands[0]
            return None
        if isinstance(op, Transpose) and operands[0] in self.stored:
            order, base = self.stored[operands[0]]
            return self.put(base, compose(inverse(op.axes), order))
        if len(operands) > 1 and keeps_order(node):
            return self.together(node)
        return self.alone(node) if len(operands) == 1 and operands[0] in self.stored else None

    def convolution(self, op: ConvGeneral, x: Value, w: Value) -> Value:
        """A convolution, channels last; a weight gradient, whose channels are the images, with its batch last."""
        spatial = tuple(range(2, x.ndim))
        gradient = math.prod(w.shape[2:]) > math.prod(op.infer(x.type, w.type).shape[2:])
        if op.groups == 1 and (self.order(x)[-1] == 0 or gradient and self.order(x)[-1] != 1):
            y = batch_last(op, self.in_order(x, (1, *spatial, 0)), self.in_order(w, (1, *spatial, 0)))
            return self.put(y, (*spatial, 0, 1))
        kernel = self.in_order(w, (*spatial, 1, 0))
        if self.order(w) != (*spatial, 1, 0):  # it is read once for every block of results
            kernel = Materialize()(kernel)
        y = channels_last(op, self.in_order(x, (0, *spatial, 1)), kernel)
        return self.put(y, (0, *spatial, 1))

    def together(self, node: Node) -> Value | None:
        """A node of several operands computed in the order that most bytes of these have; in doubt in one with channels last."""
        shape, size = node.result.shape, node.result.type.size
        straight = tuple(range(len(shape)))
        votes: dict[Order, int] = {}
        for v in node.operands:
            if v.type.size == size and v.ndim == len(shape) and v not in self.free:
                votes[self.order(v)] = votes.get(self.order(v), 0) + v.type.nbytes
        order = max(votes, key=lambda order: (votes[order], order != straight), default=straight)
        op = node.op.in_order(order)
        if order == straight or op is None:
            return None
        return self.put(emit(op, *(self.aligned(v, order) for v in node.operands)), order)

    def aligned(self, v: Value, order: Order) -> Value:
        """An operand that broadcasts to what has this order."""
        while v in self.free:
            v = self.free[v]
        if v.type.size == 1:
            return v
        wide = v if v.ndim == len(order) else reshape(v, (1,) * (len(order) - v.ndim) + v.shape)
        return self.in_order(wide, order)

    def alone(self, node: Node) -> Value | None:
        """A node of one operand computed in the order that this has."""
        (x,), given = node.operands, relations(node)
        order, base = self.stored[x]
        op = node.op.in_order(order)
        if op is None or not given:
            return None
        if node.result.ndim < x.ndim:  # what is left of the axes keeps its order
            order = tuple(given[0].index(a) for a in order if a in given[0])  # type: ignore[union-attr, operator]
        return self.put(emit(op, base), order)
