"""Groups: nodes grown together, along the graph's order, as far as they could share a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nagraph import choices
from nagraph.analysis.index_values import Made
from nagraph.analysis.order import reads_before_updates
from nagraph.fusion.legality import SUMMED, Form, forms_of, joins, sources
from nagraph.fusion.remark import Listener, Remark
from nagraph.fusion.row_regions import node_forms
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value

#: Groups that a search for a path visits at most: what it can't tell by then counts as a path, so that growing groups is linear.
MOST_VISITED = 64
#: Instructions that cost as much to compile as what comes with each node: its loads, its place in the loops.
INSTRUCTIONS = 4
#: For a number of rows: which values are cut into rows (True) and which are the same for all rows.
Forms = dict[int, dict[Value, Form]]


@dataclass(eq=False)
class Group:
    """Nodes that may become a region; `before` are the groups that it reads from, `after` those that read from it.

    Both may name groups that have become part of others since. place: that of its last node in the graph. depth: the longest path
    of nodes from the inputs to one of its nodes, or to one that it depends on. price: what its kernel costs to compile, in nodes of one
    instruction. product: whether it has a matrix product. summed: the numbers of rows in which it sums over rows.
    """

    nodes: list[Node]
    forms: Forms
    place: int
    depth: int
    price: int
    product: bool = False
    summed: set[int] = field(default_factory=set)
    made: set[Value] = field(default_factory=set)
    before: dict[Group, None] = field(default_factory=dict)
    after: dict[Group, None] = field(default_factory=dict)
    merged: Group | None = None

    def now(self) -> Group:
        """The group that this one has become part of."""
        group = self
        while group.merged is not None:
            if group.merged.merged is not None:
                group.merged = group.merged.merged  # so that the way is short the next time
            group = group.merged
        return group


def _forms(node: Node, graph: Graph, kernels: bool, everywhere: Made) -> Forms:
    """The numbers of rows in which a node may be part of a region."""
    if kernels:
        return forms_of(node, graph, everywhere) if joins(node) and node.results[0] not in everywhere else {}
    return {rows: {**forms} for rows, forms in node_forms(node, graph.producers).items()}


def grow(graph: Graph, max_nodes: int, kernels: bool, everywhere: Made, why: Listener | None = None) -> list[list[Node]]:
    """Groups of fusible nodes, each grown along the graph's order from its producers."""
    group_of: dict[Node, Group] = {}
    depths: dict[Node, int] = {}
    refused: list[tuple[Node, Node, str]] = []
    last_effect: Node | None = None
    reads = reads_before_updates(graph)
    summing: dict[tuple[Value, tuple[int, ...]], list[Group]] = {}
    for place, node in enumerate(graph.nodes):
        forms = _forms(node, graph, kernels, everywhere)
        producers = [p for v in node.operands if (p := graph.producers.get(v)) is not None and v not in everywhere]
        earlier = dict.fromkeys(p for p in producers if not isinstance(p.op, Constant))
        earlier.update(dict.fromkeys(reads.get(node, ())))
        if node.op.has_effect:
            if last_effect is not None:
                earlier[last_effect] = None
            last_effect = node
        depths[node] = 1 + max((depths[p] for p in earlier), default=0)
        before = dict.fromkeys(group_of[p].now() for p in earlier)
        depth = max([depths[node], *(g.depth for g in before)])
        price = _price(node) if kernels else 1
        mine = Group([node], forms, place, depth, price, node.op.contracts, _summed(forms), set(node.results), before)
        group_of[node] = mine
        for g in mine.before:
            g.after[mine] = None
        for other in sorted(mine.before, key=lambda g: -g.place):
            reason = _try_merge(other.now(), mine.now(), max_nodes)
            if reason and why:
                refused += [(p, node, reason) for p in dict.fromkeys(producers) if group_of[p].now() is other.now()]
        if kernels and forms:  # what sums over the same memory reads it once
            for source in sources(node, graph):
                others = summing.setdefault(source, [])
                for other in others:
                    _try_merge(other.now(), mine.now(), max_nodes)
                others[:] = dict.fromkeys(g for g in (*(h.now() for h in others), mine.now()) if g.price < max_nodes)
    groups = {id(g): g for g in (group_of[n].now() for n in graph.nodes)}
    found = []
    place_of = {n: i for i, n in enumerate(graph.nodes)}
    for g in groups.values():
        members = sorted(g.nodes, key=place_of.__getitem__)
        members = without_outer_views(graph, members) if kernels else _without_last_views(graph, members)
        if len(members) > 1:
            found.append(members)
    for producer, reader, reason in refused:
        if why and group_of[producer].now() is not group_of[reader].now():  # else they came together another way
            why(Remark((producer, reader), False, reason))
    return found


def _try_merge(a: Group, b: Group, max_nodes: int) -> str:
    """Make one group of a and b, if they have a number of rows in common and no path leads around; else the reason."""
    if a is b:
        return ""
    if a.price + b.price > max_nodes:
        return f"together more than {max_nodes} nodes"
    if not a.forms or not b.forms:
        node = (b if a.forms else a).nodes[0]
        types = ", ".join(str(v.type) for v in node.results) or "nothing"
        return f"{node.op.name} to {types} has no rows that a region could share"
    rows = [r for r in a.forms if r in b.forms and _agree(a, b, r)]
    if not (a.product or b.product):  # rows are summed while a matrix product makes them, else by themselves
        rows = [r for r in rows if r not in a.summed and r not in b.summed]
    if not rows:
        return ("a value that one of them computes is wanted from other rows, or whole" if a.forms.keys() & b.forms.keys() else
                f"no number of rows in common: {_counts(a)} and {_counts(b)}")
    if _path_around(a, b) or (a not in b.before and _path_around(b, a)):
        return "a third group stands between them: it reads one and is read by the other"
    if not choices.takes("fuse", True, a.place, b.place, len(a.nodes)):
        return "it was chosen not to"
    _merge(*(a, b) if len(a.nodes) > len(b.nodes) else (b, a), rows)
    return ""


def _agree(a: Group, b: Group, rows: int) -> bool:
    """Whether neither of two groups wants from outside, or in another form, what the other computes for so many rows."""
    x, y = a.forms[rows], b.forms[rows]
    small, large = (x, y) if len(x) < len(y) else (y, x)
    return all(large.get(v, f) == f or not (v in a.made or v in b.made) for v, f in small.items())


def _merge(large: Group, small: Group, rows: Sequence[int]) -> None:
    """Make a group part of another; what it has is put into what the larger has, so that growing a group is linear."""
    small.merged = large
    large.nodes += small.nodes
    large.price += small.price
    large.made |= small.made
    large.forms = {r: _joined(large.forms[r], small.forms[r]) for r in rows}
    large.summed |= small.summed
    large.product |= small.product
    large.place = max(large.place, small.place)
    large.before = {h: None for g in (*large.before, *small.before) if (h := g.now()) is not large}
    readers = [*(large if large.depth < small.depth else small).after]
    large.after, fewer = (large.after, small.after) if len(large.after) > len(small.after) else (small.after, large.after)
    large.after.update(fewer)
    large.depth = max(large.depth, small.depth)
    while readers:  # what depends on one of them now depends on both
        group = readers.pop().now()
        if group.depth < large.depth:
            group.depth = large.depth
            readers += group.after


def _price(node: Node) -> int:
    """What a node adds to the time that its kernel takes to compile, in nodes of one instruction: functions such as sin are dearer."""
    return 1 + (node.op.weight + node.op.rare_weight) // INSTRUCTIONS


def _joined(x: dict[Value, Form], y: dict[Value, Form]) -> dict[Value, Form]:
    """The forms of both. What each reads its way, nobody may compute for them."""
    large, small = (x, y) if len(x) > len(y) else (y, x)
    for v, form in small.items():
        if large.setdefault(v, form) != form:
            large[v] = None
    return large


def _summed(forms: Forms) -> set[int]:
    """The numbers of rows in which a value is a sum over rows."""
    return {rows for rows, found in forms.items() if SUMMED in found.values()}


def _counts(group: Group) -> str:
    return " or ".join(map(str, sorted(group.forms, reverse=True)))


def _path_around(source: Group, target: Group) -> bool:
    """Whether a path leads from `source` through a third group to `target`, or may: among very many groups that is not found out."""
    if all(g.now() in (source, target) for g in source.after):
        return False
    stack = [g.now() for g in target.before]
    seen = {source, target}
    while stack:
        group = stack.pop()
        if group in seen or group.depth < source.depth:  # what depends on the source is no less deep
            continue
        seen.add(group)
        if len(seen) > MOST_VISITED:
            return True
        for g in group.before:
            h = g.now()
            if h is source:
                return True
            stack.append(h)
    return False


def without_outer_views(graph: Graph, nodes: list[Node]) -> list[Node]:
    """The nodes of a region of kernels without views at its ends: they cost nothing where they are, inside they might."""
    return _without_first_views(graph, _without_last_views(graph, nodes))


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
