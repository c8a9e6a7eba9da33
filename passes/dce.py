"""Dead code elimination."""

from __future__ import annotations

from nagraph.ir.graph import Graph, Node, Value
from nagraph.pipeline import any_sizes, graph_pass


@graph_pass
@any_sizes
def dce(graph: Graph) -> Graph:
    """Dead code elimination: nodes whose results nobody reads go, unless they have an effect.

    Before   %0 = tanh(%x)   %1 = exp(%x)   return %0
    After    %0 = tanh(%x)                  return %0

    One walk from the outputs back: O(nodes).
    """
    live: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op.has_effect or any(r in live for r in node.results):
            kept.append(node)
            live.update(node.operands)
    if len(kept) == len(graph.nodes):
        return graph
    return graph.with_nodes(kept[::-1])
