"""Dead code elimination."""

from __future__ import annotations

from nagraph.ir.graph import Graph, Node, Value
from nagraph.pipeline import graph_pass


@graph_pass
def dce(graph: Graph) -> Graph:
    """Dead code elimination: nodes whose results nobody reads go, unless they have an effect.

    Before   %0 = tanh(%x)   %1 = exp(%x)   return %0
    After    %0 = tanh(%x)                  return %0

    One walk from the outputs back: O(nodes).
    """
    live: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op.effect or any(r in live for r in node.results) or _has_effect(node):
            kept.append(node)
            live.update(node.operands)
    if len(kept) == len(graph.nodes):
        return graph
    return graph.with_nodes(kept[::-1])


def _has_effect(node: Node) -> bool:
    """Whether a region of the node holds a node with an effect."""
    stack = list(node.op.regions.values())
    while stack:
        for inner in stack.pop().nodes:
            if inner.op.effect:
                return True
            stack += inner.op.regions.values()
    return False
