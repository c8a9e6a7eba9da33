"""Rewiring: a region with fewer outputs, and with fewer inputs or constants in their place."""

from __future__ import annotations

from collections.abc import Iterable

from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value, kept


def live_nodes(graph: Graph, outputs: Iterable[Value]) -> tuple[list[Node], set[Value]]:
    """The nodes that compute these values or have an effect, and all that is read then. O(nodes)."""
    live, found = set(outputs), []
    for node in reversed(graph.nodes):
        if node.op.has_effect or any(r in live for r in node.results):
            found.append(node)
            live.update(node.operands)
    return found[::-1], live


@kept
def inputs_read(graph: Graph, outputs: tuple[int, ...]) -> frozenset[int]:
    """The numbers of the inputs that effects and the outputs of these numbers follow from."""
    _, live = live_nodes(graph, [graph.outputs[i] for i in outputs])
    return frozenset(i for i, v in enumerate(graph.inputs) if v in live)


@kept
def rewired(graph: Graph, outputs: tuple[int, ...], inputs: tuple[int, ...], given: tuple[int | Constant, ...]) -> Graph:
    """The graph with the outputs and inputs of these numbers, in this order.

    given: for each input of `graph` the number of the one that stands for it, such as its own, or the constant that it is.
    Nodes that nothing needs any more go. It is `graph` itself if nothing changes.
    """
    instead: dict[Value, Value] = {}
    constants = []
    for v, g in zip(graph.inputs, given, strict=True):
        if isinstance(g, Constant):
            constants.append(Node.create(g, ()))
            instead[v] = constants[-1].result
        else:
            instead[v] = graph.inputs[g]
    nodes, _ = live_nodes(graph, [graph.outputs[i] for i in outputs])
    same = tuple(range(len(graph.inputs)))
    if inputs == given == same and outputs == tuple(range(len(graph.outputs))) and len(nodes) == len(graph.nodes):
        return graph
    renamed = [node.with_operands(tuple(instead.get(v, v) for v in node.operands)) for node in nodes]
    found = [instead.get(graph.outputs[i], graph.outputs[i]) for i in outputs]
    read = {*found, *(v for node in renamed for v in node.operands)}
    return Graph(graph.name, [graph.inputs[i] for i in inputs], [*(c for c in constants if c.result in read), *renamed], found)
