"""Outlining makes groups of nodes calls of fused regions, cuts a region that can't be one kernel in two, and opens regions again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nagraph.analysis.index_values import Made, made_of_indices
from nagraph.analysis.order import dependencies, topological
from nagraph.fusion.groups import without_outer_views
from nagraph.fusion.remark import region_label
from nagraph.ir.constant import Constant
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.regions.calls import Call


def outlined(graph: Graph, regions: list[list[Node]], everywhere: Made) -> Graph:
    """The graph with each region replaced by a call, in a topological order that keeps the old one where it can."""
    index = {n: i for i, n in enumerate(graph.nodes)}
    unit_of: dict[Node, tuple[Node, ...]] = {n: (n,) for n in graph.nodes}
    grouped: set[tuple[Node, ...]] = set()
    for region in regions:
        members = tuple(sorted(region, key=index.__getitem__))
        unit_of.update(dict.fromkeys(members, members))
        grouped.add(members)
    kept = set(graph.outputs)
    inside: set[Node] = set()  # constants, and what is made everywhere, that the regions have now
    for node in reversed(graph.nodes):
        v = node.results[0] if node.results else None
        if (isinstance(node.op, Constant) or v in everywhere) and v not in kept and all(
                unit_of[u] in grouped or u in inside for u in graph.uses[node.result]):
            inside.add(node)
    renamed: dict[Value, Value] = {}
    nodes: list[Node] = []
    for unit in _ordered(graph, unit_of, index):
        if unit not in grouped:
            (node,) = unit
            if node in inside:
                continue
            nodes.append(Node(node.op, tuple(renamed.get(v, v) for v in node.operands), node.results, node.location))
        else:
            nodes.append(_call(graph, unit, kept, renamed, everywhere))
    return Graph(graph.name, graph.inputs, nodes, [renamed.get(v, v) for v in graph.outputs])


def apart(graph: Graph, only: Node | None = None) -> Graph:
    """The graph, and its regions, with fused calls replaced by their bodies: those of a node's op, or all."""

    def visit(node: Node) -> list[Value] | None:
        op: Any = node.op
        if getattr(op, "kind", "") != "fused" or (only is not None and op != only.op):
            return None
        return current().inline(op.body, node.operands)

    return graph.map_regions(lambda region: apart(region, only), skip=lambda op: getattr(op, "kind", "") == "fused").rebuild(visit)


def halved(graph: Graph, calls: Collection[Node]) -> Graph:
    """The graph with each of these fused calls cut in two, its earlier and its later nodes; a half of one node becomes that node.

    A cut of a topological order is always legal. Cut again and again, a region ends as single nodes.
    """
    halves: list[list[Node]] = []
    ops = {id(n.op) for n in calls}

    def visit(node: Node) -> list[Value] | None:
        if id(node.op) not in ops:
            return None
        assert isinstance(node.op, Call)
        before = len(current().nodes)
        results = current().inline(node.op.body, node.operands)
        nodes = [n for n in current().nodes[before:] if not isinstance(n.op, Constant)]
        halves.extend((nodes[:len(nodes) // 2], nodes[len(nodes) // 2:]))
        return results

    apart = graph.rebuild(visit)
    everywhere = made_of_indices(apart)
    regions = [without_outer_views(apart, [n for n in half if n.results[0] not in everywhere]) for half in halves]
    return outlined(apart, [r for r in regions if len(r) > 1], everywhere)


def _ordered(graph: Graph, unit_of: dict[Node, tuple[Node, ...]], index: dict[Node, int]) -> list[tuple[Node, ...]]:
    """Units in dependency order; among those that are ready, the one whose last node came first."""
    before = dependencies(graph)
    units = list(dict.fromkeys(unit_of[n] for n in graph.nodes))
    waits = {u: [w for w in dict.fromkeys(unit_of[b] for n in u for b in before[n]) if w is not u] for u in units}
    return topological(units, waits, lambda unit: index[unit[-1]])


def _call(graph: Graph, unit: tuple[Node, ...], kept: set[Value], renamed: dict[Value, Value], everywhere: Made) -> Node:
    """The call of a region: constants move inside, results that the outside reads become its results."""
    inside = set(unit)
    inner: dict[Value, Value] = {}
    inputs: list[Value] = []
    operands: list[Value] = []
    body: list[Node] = []
    for node in unit:
        for v in node.operands:
            if v in inner:
                continue
            producer = graph.producers.get(v)
            if v in everywhere and producer not in inside:
                for made in (n for n in everywhere[v] if n.result not in inner):
                    inner[made.result] = Value(made.result.type)
                    body.append(Node(made.op, tuple(inner[x] for x in made.operands), (inner[made.result],), made.location))
                continue
            inner[v] = Value(v.type, v.name)
            if producer is not None and isinstance(producer.op, Constant):
                body.append(Node(producer.op, (), (inner[v],), producer.location))
            elif producer not in inside:
                inputs.append(inner[v])
                operands.append(renamed.get(v, v))
        results = tuple(Value(r.type) for r in node.results)
        inner.update(zip(node.results, results))
        body.append(Node(node.op, tuple(inner[v] for v in node.operands), results, node.location))
    outputs = [r for n in unit for r in n.results if r in kept or any(u not in inside for u in graph.uses[r])]
    region = Graph("fused", inputs, body, [inner[v] for v in outputs])
    results = tuple(Value(v.type) for v in outputs)
    renamed.update(zip(outputs, results))
    return Node(Call(region_label(unit), "fused", region), tuple(operands), results, unit[-1].location)
