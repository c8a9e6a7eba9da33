"""Scheduling: an order of the nodes in which little memory is taken at one time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nagraph import choices
from nagraph.analysis.live_ranges import peak_live_bytes, view_roots
from nagraph.analysis.order import dependencies, topological
from nagraph.ir.graph import Graph, Node, Value
from nagraph.pipeline import graph_pass


@graph_pass
def schedule(graph: Graph) -> Graph:
    """Scheduling: of several orders the one in which the largest sum of live bytes is smallest.

    Before   %0 = exp(%x)   %1 = exp(%y)   %2 = sum(%0)   %3 = sum(%1)     (two large tensors live)
    After    %0 = exp(%x)   %2 = sum(%0)   %1 = exp(%y)   %3 = sum(%1)     (one)

    The orders: the graph's own; as late as possible, from the outputs back; and greedily, next the
    ready node that frees most. Finding the best one is NP-hard. Effects keep their order. O(nodes log nodes).
    """
    before = dependencies(graph)
    orders: list[Sequence[Node]] = [graph.nodes, _late(graph, before), _greedy(graph, before)]
    peaks = [peak_live_bytes(graph, order) for order in orders]
    best = choices.pick("schedule", sorted(range(len(orders)), key=lambda i: (peaks[i], i)), graph.name, len(graph.nodes))
    return graph if best == 0 else graph.with_nodes(orders[best])


def _late(graph: Graph, before: dict[Node, list[Node]]) -> list[Node]:
    """The order in which each node comes as late as it can: topological from the outputs back."""
    readers: dict[Node, list[Node]] = {n: [] for n in graph.nodes}
    for node, needed in before.items():
        for b in needed:
            readers[b].append(node)
    return topological(graph.nodes[::-1], readers, lambda n: 0)[::-1]


def _greedy(graph: Graph, before: dict[Node, list[Node]]) -> list[Node]:
    """The order in which the ready node comes next that frees most bytes beyond those it takes."""
    roots = view_roots(graph)
    left: dict[Value, int] = {}
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for v in {roots[x] for x in node.operands}:
            left[v] = left.get(v, 0) + 1
            readers.setdefault(v, []).append(node)
    for v in graph.outputs:
        left[roots[v]] = left.get(roots[v], 0) + 1
    owned = {r for n in graph.nodes if n.operands for r in n.results if roots[r] is r}

    def rank(node: Node) -> int:
        takes = sum(r.type.nbytes for r in node.results if r in owned)
        frees = sum(v.type.nbytes for v in {roots[x] for x in node.operands} if v in owned and left[v] == 1)
        return takes - frees

    def changed(node: Node) -> Iterator[Node]:
        for v in {roots[x]: None for x in node.operands}:
            left[v] -= 1
            if left[v] == 1:
                yield from readers[v]

    return topological(graph.nodes, before, rank, changed)
