"""Expansion of composites."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nagraph import choices
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.pipeline import graph_pass
from nagraph.regions.calls import LARGE, Call


@graph_pass
@dataclass(frozen=True)
class Expand:
    """Expansion: each composite's call is replaced by its body, so that fusion sees the primitives.

    Before   %1 = call{label="softmax", kind="composite", body=@softmax}(%0)
    After    %1 = max(%0)   %2 = subtract(%0, %1)   %3 = exp(%2)   ...

    keep: labels of composites that stay whole, since the backend computes them so. Checkpoints stay whole: merging their
    recomputation with the forward pass would undo them. So do large bodies that are called more than once.
    """

    keep: tuple[str, ...] = ()

    def __call__(self, graph: Graph) -> Graph:
        calls = Counter(id(n.op.body) for n in graph.nodes if isinstance(n.op, Call))

        def visit(node: Node) -> list[Value] | None:
            op = node.op
            if not isinstance(op, Call) or op.kind not in ("composite", "custom") or op.label in self.keep:
                return None
            if not choices.takes("expand", True, op.label):
                return None
            if calls[id(op.body)] == 1 or len(op.body.nodes) <= LARGE:
                return current().inline(op.body, node.operands)
            return None

        return graph.rebuild(visit)
