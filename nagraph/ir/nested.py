"""Walking through a graph and all that it holds."""

from __future__ import annotations

from collections.abc import Iterator

from nagraph.ir.graph import Graph
from nagraph.ir.sizes import Dim, dims


def nested_graphs(graph: Graph) -> Iterator[Graph]:
    """The graph, and the graphs in its regions at every depth: each once, however many ops hold it."""
    waiting, seen = [graph], {id(graph)}
    while waiting:
        found = waiting.pop()
        yield found
        new = {id(r): r for node in found.nodes for r in node.op.regions.values() if id(r) not in seen}
        seen.update(new)
        waiting += new.values()


def nested_dims(graph: Graph) -> tuple[Dim, ...]:
    """The dimensions of sizes in a graph and its regions, those of the inputs first."""
    found = dict.fromkeys(graph.dims)
    for g in nested_graphs(graph):
        for values, op in ((g.inputs, None), *((n.results, n.op) for n in g.nodes)):
            for v in values:
                if v.type.symbolic:
                    found.update(dict.fromkeys(dims(v.type.shape)))
            if op is not None and op.dims:
                found.update(dict.fromkeys(op.dims))
    return tuple(found)
