"""Canonical form: one way to write each thing, so that other passes have fewer cases."""

from __future__ import annotations

from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.operators import COMMUTATIVE
from nagraph.pipeline import any_sizes, graph_pass


@graph_pass
@any_sizes
def canonicalize(graph: Graph) -> Graph:
    """Canonical form: constants to the right of commutative ops, otherwise the earlier value to the left.

    Before   %1 = add(%c, %x)    %2 = multiply(%y, %x)     (%c constant, %x before %y)
    After    %1 = add(%x, %c)    %2 = multiply(%x, %y)

    NaN payloads aside, the results keep their bits. O(nodes).
    """
    constants: set[Value] = set()
    order: dict[Value, int] = {v: i for i, v in enumerate(graph.inputs)}

    def visit(node: Node) -> Node:
        if isinstance(node.op, Constant):
            constants.add(node.result)
        if node.op.name in COMMUTATIVE:
            a, b = node.operands
            if (a in constants, order[a]) > (b in constants, order[b]):
                node = node.with_operands((b, a))
        for r in node.results:
            order[r] = len(order)
        return node

    return graph.rebuild(visit)
