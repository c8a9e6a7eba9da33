"""Orders: which nodes must come before which, and a topological order by priority."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from nagraph.analysis.live_ranges import view_roots
from nagraph.ir.graph import Graph, Node, Value

T = TypeVar("T")


def dependencies(graph: Graph) -> dict[Node, list[Node]]:
    """For each node those that must come before it, each once: the producers of its operands, and the effect before its own.

    Those that read what an update changes (`reads_before_updates`) are among them, though results do not follow from that.
    """
    found: dict[Node, list[Node]] = {}
    last_effect: Node | None = None
    reads = reads_before_updates(graph)
    for node in graph.nodes:
        before = dict.fromkeys(graph.producers[v] for v in node.operands if v in graph.producers)
        before.update(dict.fromkeys(reads.get(node, ())))
        if node.op.has_effect:
            if last_effect is not None:
                before[last_effect] = None
            last_effect = node
        found[node] = list(before)
    return found


def reads_before_updates(graph: Graph) -> dict[Node, list[Node]]:
    """For the last update of each value (`Op.updates`), the nodes that read the value, or a view of it, and come before the update.

    While they stay before it the update may be in place. Constants are left out: they never are changed. O(nodes).
    """
    changing: dict[Value, Node] = {}
    for node in graph.nodes:
        for k in {node.op.updates(r) for r in range(len(node.results))} - {None}:
            changing[node.operands[k]] = node  # type: ignore[index]
    changing = {v: u for v, u in changing.items() if v not in graph.producers or graph.producers[v].operands}
    if not any(len(graph.uses[v]) > 1 for v in changing):
        return {}
    roots, found = view_roots(graph), {u: dict[Node, None]() for u in changing.values()}
    done: set[Node] = set()
    for node in graph.nodes:
        done.add(node)
        if not node.op.view:
            for v in node.operands:
                update = changing.get(roots[v])
                if update is not None and update not in done:
                    found[update][node] = None
    return {u: list(nodes) for u, nodes in found.items()}


def topological(items: Sequence[T], before: Mapping[T, Sequence[T]], rank: Callable[[T], int],
                changed: Callable[[T], Iterable[T]] = lambda item: ()) -> list[T]:
    """The items, each behind those that `before` lists for it: next the ready item of lowest rank, of equal ones the first in `items`.

    `changed` tells, of an item that was just placed, which others' ranks it has lowered. O(n log n) for n items and dependencies.
    """
    index = {x: i for i, x in enumerate(items)}
    after: dict[T, list[T]] = {x: [] for x in items}
    waiting = {}
    for x in items:
        waiting[x] = len(before[x])
        for b in before[x]:
            after[b].append(x)
    heap = [(rank(x), index[x]) for x in items if not waiting[x]]
    heapq.heapify(heap)
    order: list[T] = []
    placed: set[T] = set()
    while heap:
        item = items[heapq.heappop(heap)[1]]
        if item in placed:
            continue
        placed.add(item)
        order.append(item)
        for other in after[item]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(heap, (rank(other), index[other]))
        for other in changed(item):
            if not waiting[other] and other not in placed:
                heapq.heappush(heap, (rank(other), index[other]))
    return order
