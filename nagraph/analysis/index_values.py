"""Index values follow from their indices alone, such as a causal mask: they are computed wherever they are wanted."""

from __future__ import annotations

from collections.abc import Mapping

from nagraph.analysis.axes import is_pointwise, relations
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value

#: Values that are computed wherever they are wanted, and the nodes that make each.
Made = dict[Value, tuple[Node, ...]]
#: Nodes that make a value of its indices, at most.
MOST_MAKERS = 10


def made_of_indices(graph: Graph) -> Made:
    """Values that follow from their indices alone, such as a causal mask, each with the few nodes that make it.

    They are computed wherever they are wanted, like constants: no memory is read for them.
    """
    found: Made = {}
    for node in graph.nodes:
        if not node.operands and relations(node) is not None:
            found[node.result] = (node,)
        elif is_pointwise(node) or node.op.view and not node.op.ends_fusion and not node.op.may_end_the_call:
            makers = [(graph.producers[v],) if is_number(v, graph.producers) else found.get(v) for v in node.operands]
            nodes = tuple(dict.fromkeys(n for made in makers if made for n in made))
            if None not in makers and any(v in found for v in node.operands) and len(nodes) < MOST_MAKERS:
                found[node.result] = (*nodes, node)
    return found


def is_number(v: Value, producers: Mapping[Value, Node]) -> bool:
    """Whether a value is one constant number."""
    return v in producers and isinstance(producers[v].op, Constant) and v.type.size == 1
