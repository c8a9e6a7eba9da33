"""Constants of a graph: the values that follow from constants alone and are cheap enough for the compiler to compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph import choices
from nagraph.errors import MissingRuleError
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.base import Primitive

Array = np.ndarray[Any, Any]

#: Nodes whose operands are all constant are computed when the plan is made, up to this size of their results.
HOIST_NBYTES = 1 << 18
#: The most bytes of operands, as large as they are read, and the most operations of a node that the compiler evaluates.
MOST_NBYTES, MOST_FLOPS = 1 << 24, 1 << 23


def affordable(node: Node) -> bool:
    """Whether a compiler may evaluate a node: it is a view, or neither what it reads nor its work is large."""
    if node.op.view:
        return True
    values = (*node.operands, *node.results)
    if sum(v.type.nbytes for v in values) > MOST_NBYTES:
        return False
    try:
        return node.op.cost(*(v.type for v in node.operands)).flops <= MOST_FLOPS
    except MissingRuleError:
        return True


def constants(graph: Graph, spreads: bool) -> dict[Value, Array]:
    """The constants of a graph, and the values that follow from constants alone and are not large; they are computed once, with the
    plan.

    spreads: views that are larger than what they show, such as a row repeated, count whatever their size; else only one number
    repeated does, since a backend would have to write out the others.
    """
    known: dict[Value, Array] = {}
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Constant):
            known[node.result] = op.array
        elif (isinstance(op, Primitive) and not (op.effect or op.can_fail or op.on_host or op.regions)
              and all(v in known for v in node.operands)):
            _add(known, node, spreads)
    return known


def _add(known: dict[Value, Array], node: Node, spreads: bool) -> None:
    op: Any = node.op
    nbytes = sum(r.type.nbytes for r in node.results)
    if op.view:
        found = op.reference(*(known[v] for v in node.operands))
        if spreads or nbytes <= max(HOIST_NBYTES, node.operands[0].type.nbytes) or not any(found.strides):
            known[node.result] = found
    elif op.stores and 0 not in known[node.operands[0]].strides:  # the same bytes in another order: at each call it would cost as much
        known[node.result] = op.reference(known[node.operands[0]])
    elif not node.operands:  # one row or column of numbers, repeated
        if nbytes <= HOIST_NBYTES or spreads and max(node.result.shape) * node.result.dtype.itemsize <= MOST_NBYTES:
            known[node.result] = op.reference()
    elif nbytes <= HOIST_NBYTES and affordable(node) and choices.takes("hoist", True, len(known)):
        evaluated = op.evaluate(*(known[v] for v in node.operands))
        known.update(zip(node.results, evaluated if isinstance(evaluated, tuple) else (evaluated,)))
