"""Folding of control flow: branches that are known, loops of no iteration or of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nagraph import choices
from nagraph.ir.constant import Constant
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.movement import reshape
from nagraph.ops.rules import zeros_of
from nagraph.pipeline import apply, graph_pass
from nagraph.regions.branches import Cond
from nagraph.regions.calls import LARGE
from nagraph.regions.rewiring import rewired
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop


@graph_pass
def fold_control(graph: Graph) -> Graph:
    """Folding of control flow: a branch that is known to be taken, or the one iteration of a loop, stands where it would run.

    Before   %p = const{true}   %1 = cond{true=@f, false=@g}(%p, %x)     @f(%x) -> (tanh(%x))
    After    %1 = tanh(%x)

    So do branches that are equal; a loop of no iteration is its carries. Within a branch the predicate is a constant, if the branch
    reads it. Large regions that several nodes hold stay. O(nodes).
    """
    if not graph.holds_regions:
        return graph
    held = Counter(id(r) for node in graph.nodes for r in node.op.regions.values())
    known: dict[Value, Constant] = {}

    def visit(node: Node) -> Node | Sequence[Value] | None:
        if isinstance(node.op, Constant):
            known[node.result] = node.op
        if not isinstance(node.op, (Cond, Scan, WhileLoop)) or not choices.takes("fold_control", True, node.op.name):
            return None
        if any(held[id(g)] > 1 and g.total_nodes > LARGE for g in node.op.regions.values()):
            return None
        if isinstance(node.op, Cond):
            return _branch(node, node.op, known.get(node.operands[0]))
        return _scan(node, node.op) if isinstance(node.op, Scan) else _while(node, node.op)

    return graph.rebuild(visit)


def _branch(node: Node, op: Cond, predicate: Constant | None) -> Node | Sequence[Value]:
    """The branch that is known to be taken; else the node, whose branches know which way the predicate went."""
    given = node.operands[1:]
    if predicate is not None or op.true == op.false:
        return current().inline(op.true if predicate is None or predicate.array else op.false, given)
    if node.operands[0] not in given:
        return node
    sides = []
    for graph, value in ((op.true, True), (op.false, False)):
        constant = Constant.of(np.array(value))
        wires = tuple(constant if v is node.operands[0] else i for i, v in enumerate(given))
        sides.append(apply(fold_control, rewired(graph, tuple(range(len(graph.outputs))), tuple(range(len(given))), wires)))
    return node.with_op(Cond(*sides))


def _scan(node: Node, op: Scan) -> Sequence[Value] | None:
    """The results of a scan of no step or of one."""
    if op.length > 1:
        return None
    consts, carries, xs = op._split(node.operands)
    if not op.length:
        return *carries, *(zeros_of(r.type) for r in node.results[op.carries:])
    found = current().inline(op.body, [*consts, *carries, *(reshape(x, x.shape[1:]) for x in xs)])
    return *found[:op.carries], *(reshape(y, r.shape) for y, r in zip(found[op.carries:], node.results[op.carries:]))


def _while(node: Node, op: WhileLoop) -> Sequence[Value] | None:
    """The carries of a loop that is known not to begin."""
    (go,) = op.condition.outputs
    producer = op.condition.producers.get(go)
    never = producer is not None and isinstance(producer.op, Constant) and not producer.op.array
    return node.operands[op.consts:] if op.max_steps == 0 or never and not any(n.op.has_effect for n in op.condition.nodes) else None
