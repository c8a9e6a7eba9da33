"""Expansion of composites."""

from __future__ import annotations

from collections import Counter

from nagraph import choices
from nagraph.ir.builder import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.region import LARGE, Call
from nagraph.pipeline import graph_pass


@graph_pass
def expand(graph: Graph) -> Graph:
    """Expansion: each composite's call is replaced by its body, so that fusion sees the primitives.

    Before   %1 = call{label="softmax", kind="composite", body=@softmax}(%0)
    After    %1 = max(%0)   %2 = subtract(%0, %1)   %3 = exp(%2)   ...

    Checkpoints stay whole: merging their recomputation with the forward pass would undo them. So do large bodies that are called
    more than once.
    """
    calls = Counter(id(n.op.body) for n in graph.nodes if isinstance(n.op, Call))

    def visit(node: Node) -> list[Value] | None:
        if not isinstance(node.op, Call) or node.op.kind not in ("composite", "custom") or not choices.takes("expand", True, node.op.label):
            return None
        if calls[id(node.op.body)] == 1 or len(node.op.body.nodes) <= LARGE:
            return current().inline(node.op.body, node.operands)
        return None

    return graph.rebuild(visit)
