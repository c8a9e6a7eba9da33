"""Writes to arrays that others see: what must be done before them, and the order of nodes in which they come last.

A call that fails, or that its user ends, leaves donated arrays as they were. So a node that can end the call comes before the first
write to one, and so does a loop that may run for long, for after that write the call is not interrupted any more.
"""

from __future__ import annotations

from collections.abc import Mapping

from nagraph.analysis.live_ranges import view_roots
from nagraph.analysis.order import dependencies
from nagraph.errors import MissingRuleError
from nagraph.ir.emitter import Emitter
from nagraph.ir.graph import Graph, Node, Value, kept
from nagraph.ops.identities import Materialize
from nagraph.regions.scans import Scan

#: Operations and elements, all steps together, of a loop that may run after the first write: some tenths of a second.
SHORT_LOOP = 1 << 28


def writes_last(graph: Graph, donations: Mapping[int, int], ends: bool) -> tuple[Node, ...]:
    """The nodes in order, but those that write donated arrays, and all that follows from these, come last.

    Such are the nodes that only make donated outputs, and updates of donated arrays; so what an update overwrites was read before.
    ends: whether nodes can end the call, of which none is moved. O(nodes).
    """
    if not donations:
        return graph.nodes
    before = dependencies(graph)
    first: set[Node] = set()
    for node in reversed(graph.nodes) if ends else ():
        if node in first or precedes_writes(node):
            first.update((node, *before[node]))
    writing = {node for j in donations for node in _writers(graph, graph.outputs[j]) if node not in first}
    last: set[Node] = set()
    for node in graph.nodes:
        if node in writing or not last.isdisjoint(before[node]):
            last.add(node)
    return (*(n for n in graph.nodes if n not in last), *(n for n in graph.nodes if n in last)) if last else graph.nodes


def with_views_copied(graph: Graph, donations: Mapping[int, int]) -> Graph:
    """The graph with outputs that show what may be overwritten, donated inputs and what is updated, as values of their own.

    They would be copied in the end; so they are copied while what they show is there.
    """
    changing = {graph.inputs[i] for i in donations.values()}
    changing.update(n.operands[k] for n in graph.nodes for r in range(len(n.results)) if (k := n.op.updates(r)) is not None)
    roots = view_roots(graph) if changing else {}
    shown = {j for j, v in enumerate(graph.outputs) if roots.get(v) in changing and (v is not roots[v] or v in graph.inputs)
             and not (j in donations and v is graph.inputs[donations[j]])}
    if not shown:
        return graph
    with Emitter() as emitter:
        outputs = [emitter.emit(Materialize(), (v,))[0] if j in shown else v for j, v in enumerate(graph.outputs)]
    return Graph(graph.name, graph.inputs, (*graph.nodes, *emitter.nodes), outputs)


def _writers(graph: Graph, output: Value) -> list[Node]:
    """The nodes that write a donated output: its updates, one of another, or the node that makes it for nobody else."""
    found: list[Node] = []
    v = output
    while v in graph.producers:
        node = graph.producers[v]
        k = node.op.updates(node.results.index(v))
        if k is None:
            if not found and not any(graph.uses[r] for r in node.results):
                found.append(node)
            break
        found.append(node)
        v = node.operands[k]
    return found


def precedes_writes(node: Node) -> bool:
    """Whether a node is to be done before a donated array is written: it can raise an error, or hold the call up for long."""
    op = node.op
    return op.may_raise or op.has_effect or _is_long(node) or any(map(_has_long_loops, op.regions.values()))


def _is_long(node: Node) -> bool:
    return node.op.loops_by_data or (isinstance(node.op, Scan) and _work(node) > SHORT_LOOP)


@kept
def _has_long_loops(graph: Graph) -> bool:
    return any(_is_long(node) or any(map(_has_long_loops, node.op.regions.values())) for node in graph.nodes)


@kept
def _work_of(graph: Graph) -> float:
    return sum(map(_work, graph.nodes))


def _work(node: Node) -> float:
    """The operations of a node and the elements that it writes, roughly; without end where that is not known."""
    op = node.op
    if op.regions:
        return sum(map(_work_of, op.regions.values())) * (op.length if isinstance(op, Scan) else 1)
    try:
        cost = op.cost(*(v.type for v in node.operands))
    except MissingRuleError:
        return float("inf")
    written = sum(r.type.size for r in node.results) if op.updates(0) is None else node.operands[1].type.size
    return cost.flops + 10 * cost.transcendental + (0 if op.view else written)
