"""Orders: which nodes must come before which, and a topological order by priority."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from nagraph.ir.graph import Graph, Node

T = TypeVar("T")


def dependencies(graph: Graph) -> dict[Node, list[Node]]:
    """For each node those that must come before it, each once: the producers of its operands, and the effect before its own."""
    found: dict[Node, list[Node]] = {}
    last_effect: Node | None = None
    for node in graph.nodes:
        before = dict.fromkeys(graph.producers[v] for v in node.operands if v in graph.producers)
        if node.op.has_effect:
            if last_effect is not None:
                before[last_effect] = None
            last_effect = node
        found[node] = list(before)
    return found


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
