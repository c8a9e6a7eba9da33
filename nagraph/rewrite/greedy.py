"""The greedy rewriter: apply rules wherever they match, until none does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nagraph import choices
from nagraph.errors import PassError
from nagraph.ir.emitter import Emitter, current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.rewrite.pattern import INPUT
from nagraph.rewrite.rule import Rule

#: More rounds than this mean that rules undo one another.
MAX_ROUNDS = 50


def rewrite(graph: Graph, rules: Iterable[Rule], fired: list[str] | None = None) -> Graph:
    """The graph in which no rule matches any more. `fired` collects the names of the rules that did.

    Rounds over the nodes in order, so that operands are rewritten before what reads them; the order
    of the rules decides between several that match. A round is O(nodes × rules for an op and the ops of its operands).
    Raises PassError naming the rules that go in circles.
    """
    table = RuleTable(rules)
    names: list[str] = []
    latest: list[str] = []
    for _ in range(MAX_ROUNDS):
        latest = []
        graph = _round(graph, table, latest)
        names += latest
        if not latest:
            if fired is not None:
                fired += names
            return graph
    raise PassError(f"rules go in circles on graph {graph.name}: {', '.join(dict.fromkeys(latest))}")


class RuleTable:
    """A rule table finds the rules that may match a node by the names of its op and of those that make its operands.

    So most nodes are met by no rule at all. What it found is kept.
    """

    def __init__(self, rules: Iterable[Rule]):
        self._by_op: dict[str, list[Rule]] = {}
        for rule in rules:
            self._by_op.setdefault(rule.left.name, []).append(rule)
        self._known: dict[tuple[str, ...], tuple[Rule, ...]] = {}

    def rules(self, node: Node, producers: Mapping[Value, Node]) -> tuple[Rule, ...]:
        """The rules for the op of a node whose patterns of operands begin with the ops that make these, in order."""
        name = node.op.name
        if name not in self._by_op:
            return ()
        made = [producers.get(v) for v in node.operands]
        key = (name, *[INPUT if n is None else n.op.name for n in made])
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tuple(r for r in self._by_op[name] if r.left.may_match(key[1:]))
        return found


def _round(graph: Graph, table: RuleTable, fired: list[str]) -> Graph:
    producers: dict[Value, Node] = {}

    def visit(node: Node) -> Value | None:
        producers.update(dict.fromkeys(node.results, node))
        if len(node.results) != 1:
            return None
        emitter = current()
        for rule in table.rules(node, producers):
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
