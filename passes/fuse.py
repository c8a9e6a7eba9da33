"""Fusion: chains of elementwise, broadcast, movement and reduction nodes become regions that run row by row."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.region import Call
from nagraph.pipeline import graph_pass
from nagraph.plan.decision import Decision, Why, region_label
from nagraph.plan.regions import forms_of, joins, made_of_indices
from nagraph.plan.rows import fusible, node_forms

#: For a number of rows: which values are cut into rows (True) and which are the same for all rows.
Forms = dict[int, dict[Value, bool | None]]
#: Values that are computed wherever they are wanted, and the nodes that make each.
Made = dict[Value, tuple[Node, ...]]


@graph_pass
@dataclass(frozen=True)
class Fuse:
    """Fusion: nodes that compute each row from the same row of their operands become one `call` of kind "fused".

    Before   %1 = add(%0, %b)   %2 = tanh(%1)   %3 = sum{axes=[1]}(%2)
    After    %3 = call{label="add_tanh_sum", kind="fused", body=@fused}(%0, %b)

    Legal: there is a number of rows in which all members are row-wise (`nagraph.plan.rows`), and no
    path leaves the region and comes back. Profitable: a tensor of `min_nbytes` or more would
    otherwise travel through memory between two members. No node is computed twice. Views at the
    end of a region stay outside, where they cost nothing. Near-linear in the nodes.
    """

    max_nodes: int = 64
    min_nbytes: int = 1 << 16
    kernels: bool = False

    def __call__(self, graph: Graph, why: Why | None = None) -> Graph:
        regions = []
        everywhere = made_of_indices(graph) if self.kernels else {}
        for g in _grow(graph, self.max_nodes, self.kernels, everywhere, why):
            pays = self._pays(graph, g)
            if pays:
                regions.append(g)
            if why:
                reason = "" if pays else f"no value of {self.min_nbytes} bytes or more between its nodes"
                why(Decision(tuple(g), pays, reason, _saved(graph, g)))
        return _outline(graph, regions, everywhere) if regions else graph

    def _pays(self, graph: Graph, region: list[Node]) -> bool:
        inside = set(region)
        between = (r for n in region for r in n.results if not n.op.view and any(u in inside for u in graph.uses[r]))
        return any(r.type.nbytes >= self.min_nbytes for r in between)


def _saved(graph: Graph, region: list[Node]) -> int:
    """Bytes of reads and writes between nodes of the region: of a value that is read outside as well, of its reads alone."""
    inside, total = set(region), 0
    for r in (r for n in region if not n.op.view for r in n.results):
        readers = graph.uses[r]
        within = sum(u in inside for u in readers)
        total += r.type.nbytes * (within + (within == len(readers) > 0 and r not in graph.outputs))
    return total


@dataclass(eq=False)
class _Group:
    """Nodes that may become a region; `before` are the groups that it reads from, `after` those that read from it.

    top: the last place of its nodes and of all that it depends on.
    """

    nodes: list[Node]
    forms: Forms
    top: int
    made: set[Value] = field(default_factory=set)
    before: set[_Group] = field(default_factory=set)
    after: set[_Group] = field(default_factory=set)
    merged: _Group | None = None

    def now(self) -> _Group:
        """The group that this one has become part of."""
        group = self
        while group.merged is not None:
            group = group.merged
        return group


def _forms(node: Node, graph: Graph, kernels: bool, everywhere: Made) -> Forms:
    """The numbers of rows in which a node may be part of a region."""
    if kernels:
        return forms_of(node, graph.producers, everywhere) if joins(node) and node.results[0] not in everywhere else {}
    return {rows: {**forms} for rows, forms in node_forms(node, graph.producers).items()} if fusible(node.op) else {}


def _grow(graph: Graph, max_nodes: int, kernels: bool, everywhere: Made, why: Why | None = None) -> list[list[Node]]:
    """Groups of fusible nodes, each grown along the graph's order from its producers."""
    group_of: dict[Node, _Group] = {}
    refused: list[tuple[Node, Node, str]] = []
    last_effect: Node | None = None
    for index, node in enumerate(graph.nodes):
        forms = _forms(node, graph, kernels, everywhere)
        mine = group_of[node] = _Group([node], forms, index, set(node.results))
        producers = [graph.producers[v] for v in node.operands if v in graph.producers and v not in everywhere]
        mine.before = {group_of[p].now() for p in producers if not isinstance(p.op, Constant)}
        if node.op.has_effect:
            if last_effect is not None:
                mine.before.add(group_of[last_effect])
            last_effect = node
        for g in mine.before:
            g.after.add(mine)
        for other in sorted(mine.before, key=lambda g: -g.top):
            reason = _try_merge(other.now(), group_of[node].now(), max_nodes)
            if reason and why:
                refused += [(p, node, reason) for p in dict.fromkeys(producers) if group_of[p].now() is other.now()]
    groups = {id(g): g for g in (group_of[n].now() for n in graph.nodes)}
    found = []
    place = {n: i for i, n in enumerate(graph.nodes)}
    for g in groups.values():
        members = _without_last_views(graph, sorted(g.nodes, key=place.__getitem__))
        if kernels:
            members = _without_first_views(graph, members)
        if len(members) > 1:
            found.append(members)
    for producer, reader, reason in refused:
        if why and group_of[producer].now() is not group_of[reader].now():  # else they came together another way
            why(Decision((producer, reader), False, reason))
    return found


def _try_merge(a: _Group, b: _Group, max_nodes: int) -> str:
    """Make one group of a and b, if they have a number of rows in common and no path leads around; else the reason."""
    if a is b:
        return ""
    if len(a.nodes) + len(b.nodes) > max_nodes:
        return f"together more than {max_nodes} nodes"
    if not a.forms or not b.forms:
        node = (b if a.forms else a).nodes[0]
        return f"{node.op.name} to {node.results[0].type} has no rows that a region could share"
    forms: Forms = {}
    for rows in a.forms.keys() & b.forms.keys():
        x, y = a.forms[rows], b.forms[rows]
        small, large = (x, y) if len(x) < len(y) else (y, x)
        # What one of them computes, the other may not want from outside; what both read from outside, each reads its way.
        if all(large.get(v, f) == f or not (v in a.made or v in b.made) for v, f in small.items()):
            forms[rows] = {**x, **y}
    if not forms:
        shared = a.forms.keys() & b.forms.keys()
        return ("a value that one of them computes is wanted from other rows, or whole" if shared else
                f"no number of rows in common: {_counts(a)} and {_counts(b)}")
    if _path_around(a, b) or _path_around(b, a):
        return "a third group stands between them: it reads one and is read by the other"
    b.nodes = [*a.nodes, *b.nodes]
    b.made |= a.made
    b.forms = forms
    b.top = max(a.top, b.top)
    a.merged = b
    b.before = {g for g in (h.now() for h in (*a.before, *b.before)) if g is not b}
    b.after = {g for g in (h.now() for h in (*a.after, *b.after)) if g is not b}
    stack = list(b.after)
    while stack:  # what depends on the group now depends on all of it
        group = stack.pop().now()
        if group.top < b.top:
            group.top = b.top
            stack += group.after
    return ""


def _counts(group: _Group) -> str:
    return " or ".join(map(str, sorted(group.forms, reverse=True)))


def _path_around(source: _Group, target: _Group) -> bool:
    """Whether a path leads from `source` through a third group to `target`."""
    stack = [g.now() for g in target.before]
    seen = {id(source), id(target)}
    while stack:
        group = stack.pop()
        if id(group) in seen or group.top < source.top:  # what depends on the source has no lower top
            continue
        seen.add(id(group))
        for g in group.before:
            h = g.now()
            if h is source:
                return True
            stack.append(h)
    return False


def _without_last_views(graph: Graph, nodes: list[Node]) -> list[Node]:
    """The group without views that only the outside reads: as results of the region they would be copied."""
    kept = set(nodes)
    for node in reversed(nodes):
        if node.op.view and not any(u in kept for u in graph.uses[node.result]):
            kept.discard(node)
    return [n for n in nodes if n in kept]


def _without_first_views(graph: Graph, nodes: list[Node]) -> list[Node]:
    """The group without views of what comes from outside: a load sees through them, and others may use them as well."""
    kept = set(nodes)
    for node in nodes:
        if node.op.view and not any(graph.producers.get(v) in kept for v in node.operands):
            kept.discard(node)
    return [n for n in nodes if n in kept]


def _outline(graph: Graph, regions: list[list[Node]], everywhere: Made) -> Graph:
    """The graph with each region replaced by a call, in a topological order that keeps the old one where it can."""
    index = {n: i for i, n in enumerate(graph.nodes)}
    unit_of: dict[Node, tuple[Node, ...]] = {n: (n,) for n in graph.nodes}
    for region in regions:
        members = tuple(sorted(region, key=index.__getitem__))
        unit_of.update(dict.fromkeys(members, members))
    kept = set(graph.outputs)
    inside: set[Node] = set()  # constants, and what is made everywhere, that the regions have now
    for node in reversed(graph.nodes):
        v = node.results[0] if node.results else None
        if (isinstance(node.op, Constant) or v in everywhere) and v not in kept and all(
                len(unit_of[u]) > 1 or u in inside for u in graph.uses[node.result]):
            inside.add(node)
    renamed: dict[Value, Value] = {}
    nodes: list[Node] = []
    for unit in _ordered(graph, unit_of, index):
        if len(unit) == 1:
            (node,) = unit
            if node in inside:
                continue
            nodes.append(Node(node.op, tuple(renamed.get(v, v) for v in node.operands), node.results, node.location))
        else:
            nodes.append(_call(graph, unit, kept, renamed, everywhere))
    return Graph(graph.name, graph.inputs, nodes, [renamed.get(v, v) for v in graph.outputs])


def _ordered(graph: Graph, unit_of: dict[Node, tuple[Node, ...]], index: dict[Node, int]) -> Iterable[tuple[Node, ...]]:
    """Units in dependency order; among those that are ready, the one whose last node came first."""
    units = list(dict.fromkeys(unit_of[n] for n in graph.nodes))
    waits: dict[tuple[Node, ...], set[tuple[Node, ...]]] = {}
    readers: dict[tuple[Node, ...], list[tuple[Node, ...]]] = {u: [] for u in units}
    for u in units:
        waits[u] = {unit_of[graph.producers[v]] for n in u for v in n.operands if v in graph.producers} - {u}
        for w in waits[u]:
            readers[w].append(u)
    effects = [u for u in units if any(n.op.has_effect for n in u)]
    for a, b in zip(effects, effects[1:]):
        if a not in waits[b]:
            waits[b].add(a)
            readers[a].append(b)
    ready = [(index[u[-1]], u) for u in units if not waits[u]]
    heapq.heapify(ready)
    while ready:
        _, unit = heapq.heappop(ready)
        yield unit
        for reader in readers[unit]:
            waits[reader].discard(unit)
            if not waits[reader]:
                heapq.heappush(ready, (index[reader[-1]], reader))


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
