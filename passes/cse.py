"""Common subexpression elimination."""

from __future__ import annotations

from nagraph import choices
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.op import Op
from nagraph.ir.operators import COMMUTATIVE
from nagraph.pipeline import any_sizes, graph_pass


@graph_pass
@any_sizes
def cse(graph: Graph) -> Graph:
    """Common subexpression elimination: nodes with equal op and operands become one.

    Before   %2 = tanh(%0)   %3 = tanh(%0)   %4 = add(%2, %3)
    After    %2 = tanh(%0)                   %4 = add(%2, %2)

    Operands of commutative ops may come in any order. Nodes with an effect stay. One walk in topological
    order with a table of nodes seen: O(nodes).
    Source: Cocke, Global common subexpression elimination (1970).
    """
    seen: dict[tuple[Op, tuple[Value, ...]], Node] = {}

    def visit(node: Node) -> Node:
        if node.op.has_effect or not choices.takes("cse", True, len(seen)):
            return node
        operands = tuple(sorted(node.operands, key=id)) if node.op.name in COMMUTATIVE else node.operands
        return seen.setdefault((node.op, operands), node)

    return graph.rebuild(visit)
