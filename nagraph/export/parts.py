"""Parts of composites that are composites: of a softmax of which some rows are read, the pass `narrow` makes a call of other operands."""

from __future__ import annotations

from nagraph.composites.base import REGISTRY
from nagraph.ir.graph import Graph, Node, Value, kept
from nagraph.pipeline import Pipeline
from nagraph.regions.calls import Call

_PASSES = "canonicalize,simplify,fold_constants,cse,dce,canonicalize,simplify,cse,dce"


def as_whole(call: Call) -> Call:
    """The call of a composite, where a part of a composite is nothing else; else the same call. What both compute is compared."""
    composite = REGISTRY.get(call.label.removesuffix(".part"))
    if composite is None or composite.label == call.label:
        return call
    left_out, given = {name for name, _ in call.options} & {*composite.operands}, iter(call.body.input_types)
    types = [None if name in left_out else next(given, None) for name in composite.operands]
    while types and types[-1] is None:
        types.pop()
    found = composite.op(tuple(types), {name: value for name, value in call.options if name not in left_out})
    return found if _plain(found.body) == _plain(call.body) else call


@kept
def _plain(graph: Graph) -> Graph:
    """The graph simplified, its nodes in the order in which they are used."""
    graph = Pipeline.parse(_PASSES)(graph)
    order: dict[Node, None] = {}
    waiting: list[tuple[Value, bool]] = [(v, False) for v in reversed(graph.outputs)]
    while waiting:
        value, ready = waiting.pop()
        node = graph.producers.get(value)
        if node is None or node in order:
            continue
        if ready:
            order[node] = None
        else:
            waiting += [(value, True), *((x, False) for x in reversed(node.operands))]
    return graph.with_nodes(tuple(order))
