"""Scheduling: an order of the nodes in which little memory is taken at one time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from nagraph import choices
from nagraph.ir.graph import Graph, Node, Value
from nagraph.pipeline import graph_pass
from nagraph.plan.live_ranges import peak_live_bytes, view_roots


@graph_pass
def schedule(graph: Graph) -> Graph:
    """Scheduling: of several orders the one in which the largest sum of live bytes is smallest.

    Before   %0 = exp(%x)   %1 = exp(%y)   %2 = sum(%0)   %3 = sum(%1)     (two large tensors live)
    After    %0 = exp(%x)   %2 = sum(%0)   %1 = exp(%y)   %3 = sum(%1)     (one)

    The orders: the graph's own; as late as possible, from the outputs back; and greedily, next the
    ready node that frees most. Finding the best one is NP-hard. Effects keep their order. O(nodes log nodes).
    """
    after = _dependencies(graph)
    orders: list[Sequence[Node]] = [graph.nodes, _late(graph, after), _greedy(graph, after)]
    peaks = [peak_live_bytes(graph, order) for order in orders]
    best = choices.pick("schedule", sorted(range(len(orders)), key=lambda i: (peaks[i], i)), graph.name, len(graph.nodes))
    return graph if best == 0 else graph.with_nodes(orders[best])


def _dependencies(graph: Graph) -> dict[Node, list[Node]]:
    """For each node those that must come before it, each once."""
    after: dict[Node, list[Node]] = {}
    last_effect: Node | None = None
    for node in graph.nodes:
        before = dict.fromkeys(graph.producers[v] for v in node.operands if v in graph.producers)
        if node.op.has_effect:
            if last_effect is not None:
                before[last_effect] = None
            last_effect = node
        after[node] = list(before)
    return after


def _topological(nodes: Sequence[Node], before: dict[Node, list[Node]], rank: Callable[[Node], int],
                 changed: Callable[[Node], Iterator[Node]] = lambda node: iter(())) -> list[Node]:
    """An order that respects `before`: next the ready node of lowest rank, then earliest.

    `changed` tells, of a node that was just placed, which others' ranks it changed.
    """
    index = {n: i for i, n in enumerate(nodes)}
    readers: dict[Node, list[Node]] = {n: [] for n in nodes}
    waiting = {}
    for n in nodes:
        waiting[n] = len(before[n])
        for b in before[n]:
            readers[b].append(n)
    heap = [(rank(n), index[n], n) for n in nodes if not waiting[n]]
    heapq.heapify(heap)
    order: list[Node] = []
    placed: set[Node] = set()
    while heap:
        _, _, node = heapq.heappop(heap)
        if node in placed:
            continue
        placed.add(node)
        order.append(node)
        for reader in readers[node]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(heap, (rank(reader), index[reader], reader))
        for other in changed(node):
            if not waiting[other] and other not in placed:
                heapq.heappush(heap, (rank(other), index[other], other))
    return order


def _late(graph: Graph, after: dict[Node, list[Node]]) -> list[Node]:
    """As late as possible: the graph turned around, in the order of its own nodes from the end."""
    turned: dict[Node, list[Node]] = {n: [] for n in graph.nodes}
    for node, before in after.items():
        for b in before:
            turned[b].append(node)
    return _topological(graph.nodes[::-1], turned, lambda n: 0)[::-1]


def _greedy(graph: Graph, after: dict[Node, list[Node]]) -> list[Node]:
    """Next the ready node that frees most bytes beyond those it takes."""
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

    return _topological(graph.nodes, after, rank, changed)
