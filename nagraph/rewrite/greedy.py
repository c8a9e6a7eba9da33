"""The greedy rewriter: apply rules wherever they match, until none does."""

from __future__ import annotations

from collections.abc import Iterable

from nagraph import choices
from nagraph.errors import PassError
from nagraph.ir.emitter import Emitter, current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.rewrite.rule import Rule

#: More rounds than this mean that rules undo one another.
MAX_ROUNDS = 50


def rewrite(graph: Graph, rules: Iterable[Rule], fired: list[str] | None = None) -> Graph:
    """The graph in which no rule matches any more. `fired` collects the names of the rules that did.

    Rounds over the nodes in order, so that operands are rewritten before what reads them; the order
    of the rules decides between several that match. A round is O(nodes × rules for an op).
    Raises PassError naming the rules that go in circles.
    """
    by_op: dict[str, list[Rule]] = {}
    for rule in rules:
        by_op.setdefault(rule.left.name, []).append(rule)
    names: list[str] = []
    latest: list[str] = []
    for _ in range(MAX_ROUNDS):
        latest = []
        graph = _round(graph, by_op, latest)
        names += latest
        if not latest:
            if fired is not None:
                fired += names
            return graph
    raise PassError(f"rules go in circles on graph {graph.name}: {', '.join(dict.fromkeys(latest))}")


def _round(graph: Graph, by_op: dict[str, list[Rule]], fired: list[str]) -> Graph:
    producers: dict[Value, Node] = {}

    def visit(node: Node) -> Value | None:
        producers.update(dict.fromkeys(node.results, node))
        if len(node.results) != 1:
            return None
        emitter = current()
        for rule in by_op.get(node.op.name, ()):
            made = _attempt(rule, node, producers, emitter)
            if made is not None:
                fired.append(rule.name)
                return made
        return None

    return graph.rebuild(visit)


def _attempt(rule: Rule, node: Node, producers: dict[Value, Node], emitter: Emitter) -> Value | None:
    """The value that a rule puts in place of the node's result, None if it does not apply; what it emitted is known afterwards, or
    taken back.
    """
    if not choices.takes("simplify", True, rule.name, str(node.result.type)):
        return None
    mark = len(emitter.nodes)
    made = rule.apply(node, producers)
    if made is None:
        del emitter.nodes[mark:]
        return None
    for n in emitter.nodes[mark:]:
        producers.update(dict.fromkeys(n.results, n))
    return made
