"""Walking through a graph and all that it holds."""

from __future__ import annotations

from collections.abc import Iterator

from nagraph.ir.graph import Graph


def nested_graphs(graph: Graph) -> Iterator[Graph]:
    """The graph, and the graphs in its regions at every depth: each once, however many ops hold it."""
    waiting, seen = [graph], {id(graph)}
    while waiting:
        found = waiting.pop()
        yield found
        new = {id(r): r for node in found.nodes for r in node.op.regions.values() if id(r) not in seen}
        seen.update(new)
        waiting += new.values()
