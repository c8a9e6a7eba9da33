"""Expansion of composites."""

from __future__ import annotations

from nagraph import choices
from nagraph.ir.builder import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.region import Call
from nagraph.pipeline import graph_pass


@graph_pass
def expand(graph: Graph) -> Graph:
    """Expansion: each composite's call is replaced by its body, so that fusion sees the primitives.

    Before   %1 = call{label="softmax", kind="composite", body=@softmax}(%0)
    After    %1 = max(%0)   %2 = subtract(%0, %1)   %3 = exp(%2)   ...

    Checkpoints stay whole: merging their recomputation with the forward pass would undo them.
    """

    def visit(node: Node) -> list[Value] | None:
        if isinstance(node.op, Call) and node.op.kind == "composite" and choices.takes("expand", True, node.op.label):
            return current().inline(node.op.body, node.operands)
        return None

    return graph.rebuild(visit)
