"""Loops, branches and checks that are part of a function of MLX: short scans are unrolled, of small branches both are computed.

What else loops or branches is a stop: Python looks at a flag, or goes round, between functions of MLX (`nagraph.backends.mps.program`).
"""

from __future__ import annotations

from typing import Any

from nagraph.backends.mps.rules.rule import Rule
from nagraph.ir.graph import Graph, kept
from nagraph.ir.op import Op
from nagraph.ops.identities import DebugPrint
from nagraph.ops.labels import CheckLabels
from nagraph.ops.reduction import all as all_of
from nagraph.regions.branches import Cond
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop

Array = Any
#: A scan of at most so many nodes, all its iterations together, is unrolled.
MOST_UNROLLED = 2048
#: Branches that make at most so many elements are both computed: that costs less than to wait for the flag.
MOST_SELECTED = 1 << 18


def stops(op: Op) -> bool:
    """Whether Python has to look at a value, or to go round, in the middle of it."""
    if isinstance(op, (DebugPrint, WhileLoop)) or any(map(holds_stop, op.regions.values())):
        return True
    if isinstance(op, Scan):
        return op.length * op.body.total_nodes > MOST_UNROLLED
    return isinstance(op, Cond) and not (_selectable(op.true) and _selectable(op.false))


@kept
def holds_stop(graph: Graph) -> bool:
    """Whether a node of it is a stop."""
    return any(stops(node.op) for node in graph.nodes)


def _selectable(branch: Graph) -> bool:
    return not branch.may_raise and sum(v.size for node in branch.nodes for v in node.results) <= MOST_SELECTED


def _scan(m: Any, op: Scan, *operands: Array) -> list[Array]:
    fixed, carries, xs = operands[:op.consts], list(operands[op.consts:op.consts + op.carries]), operands[op.consts + op.carries:]
    steps: list[list[Array]] = []
    for t in reversed(range(op.length)) if op.reverse else range(op.length):
        found = m.walk(op.body, [*fixed, *carries, *(m.part(x, (t,)) for x in xs)])
        carries = found[:op.carries]
        steps.append(found[op.carries:])
    return [*carries, *stacked(m, op, steps)]


def stacked(m: Any, op: Scan, steps: list[list[Array]]) -> list[Array]:
    """What the iterations of a scan gave beside its carries, in the order in which they ran, as its results."""
    if not steps:
        return [m.broadcast_to(m.number(0, t.dtype), [0, *t.shape]) for t in op.body.output_types[op.carries:]]
    return [m.stack(ys) for ys in zip(*(reversed(steps) if op.reverse else steps))]


def _cond(m: Any, op: Cond, predicate: Array, *operands: Array) -> list[Array]:
    return [m.where(predicate, x, y) for x, y in zip(m.walk(op.true, operands), m.walk(op.false, operands))]


def _check(m: Any, op: CheckLabels, x: Array) -> Array:
    m.verdicts.append(m.composed(lambda labels: all_of(op.fine(labels)), x))
    return x


RULES: dict[type[Op], Rule] = {Scan: Rule(_scan), Cond: Rule(_cond), CheckLabels: Rule(_check)}
