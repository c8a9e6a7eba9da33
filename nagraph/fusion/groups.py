"""Groups: nodes grown together, along the graph's order, as far as they could share a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field

from nagraph import choices
from nagraph.analysis.index_values import Made
from nagraph.fusion.legality import SUMMED, Form, forms_of, joins, sources
from nagraph.fusion.remark import Listener, Remark
from nagraph.fusion.rows import fusible, node_forms
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.reduction import Reduction

#: For a number of rows: which values are cut into rows (True) and which are the same for all rows.
Forms = dict[int, dict[Value, Form]]


@dataclass(eq=False)
class Group:
    """Nodes that may become a region; `before` are the groups that it reads from, `after` those that read from it.

    top: the last place of its nodes and of all that it depends on. product: whether it has a matrix product.
    """

    nodes: list[Node]
    forms: Forms
    top: int
    product: bool = False
    made: set[Value] = field(default_factory=set)
    before: set[Group] = field(default_factory=set)
    after: set[Group] = field(default_factory=set)
    merged: Group | None = None

    def now(self) -> Group:
        """The group that this one has become part of."""
        group = self
        while group.merged is not None:
            group = group.merged
        return group


def _forms(node: Node, graph: Graph, kernels: bool, everywhere: Made) -> Forms:
    """The numbers of rows in which a node may be part of a region."""
    if kernels:
        return forms_of(node, graph, everywhere) if joins(node) and node.results[0] not in everywhere else {}
    return {rows: {**forms} for rows, forms in node_forms(node, graph.producers).items()} if fusible(node.op) else {}


def grow(graph: Graph, max_nodes: int, kernels: bool, everywhere: Made, why: Listener | None = None) -> list[list[Node]]:
    """Groups of fusible nodes, each grown along the graph's order from its producers."""
    group_of: dict[Node, Group] = {}
    refused: list[tuple[Node, Node, str]] = []
    last_effect: Node | None = None
    summing: dict[tuple[Value, tuple[int, ...]], list[Group]] = {}
    for index, node in enumerate(graph.nodes):
        forms = _forms(node, graph, kernels, everywhere)
        mine = group_of[node] = Group([node], forms, index, isinstance(node.op, DotGeneral), set(node.results))
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
        if kernels and isinstance(node.op, Reduction):  # what sums over the same memory reads it once
            for source in sources(node, graph):
                for other in summing.setdefault((source, node.op.axes), []):
                    _try_merge(other.now(), group_of[node].now(), max_nodes)
                summing[source, node.op.axes].append(group_of[node])
    groups = {id(g): g for g in (group_of[n].now() for n in graph.nodes)}
    found = []
    place = {n: i for i, n in enumerate(graph.nodes)}
    for g in groups.values():
        members = sorted(g.nodes, key=place.__getitem__)
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
    if len(a.nodes) + len(b.nodes) > max_nodes:
        return f"together more than {max_nodes} nodes"
    if not a.forms or not b.forms:
        node = (b if a.forms else a).nodes[0]
        types = ", ".join(str(v.type) for v in node.results) or "nothing"
        return f"{node.op.name} to {types} has no rows that a region could share"
    forms: Forms = {}
    for rows in a.forms.keys() & b.forms.keys():
        x, y = a.forms[rows], b.forms[rows]
        small, large = (x, y) if len(x) < len(y) else (y, x)
        # What one of them computes, the other may not want from outside; what both read from outside, each reads its way.
        if all(large.get(v, f) == f or not (v in a.made or v in b.made) for v, f in small.items()):
            forms[rows] = {**x, **y}
    if not (a.product or b.product):  # rows are summed while a matrix product makes them, else by themselves
        forms = {rows: found for rows, found in forms.items() if SUMMED not in found.values()}
    if not forms:
        shared = a.forms.keys() & b.forms.keys()
        return ("a value that one of them computes is wanted from other rows, or whole" if shared else
                f"no number of rows in common: {_counts(a)} and {_counts(b)}")
    if _path_around(a, b) or _path_around(b, a):
        return "a third group stands between them: it reads one and is read by the other"
    if not choices.takes("fuse", True, a.top, b.top, len(a.nodes)):
        return "it was chosen not to"
    b.nodes = [*a.nodes, *b.nodes]
    b.made |= a.made
    b.product |= a.product
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


def _counts(group: Group) -> str:
    return " or ".join(map(str, sorted(group.forms, reverse=True)))


def _path_around(source: Group, target: Group) -> bool:
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
