"""What follows from the axis relations of ops: which nodes work element by element, and in which order."""

from __future__ import annotations

from typing import NamedTuple

from nagraph.ir.axes import ANYWHERE, AXES, IN_ORDER, AxisRelation
from nagraph.ir.graph import Node
from nagraph.ir.op import Op, keep
from nagraph.ir.types import TensorType


class AxisFacts(NamedTuple):
    """Axis facts are what an op with operands of certain types says of its axes, and what follows for its nodes.

    relations: one for each operand; None if the op does not say so. pointwise, keeps_order: see `is_pointwise`, `keeps_order`.
    shared: how many leading axes of the result are an axis of every operand: the batch axes of a product.
    trailing: whether what the op combines of its first operand lies along the last axes of this.
    """

    relations: tuple[AxisRelation, ...] | None
    pointwise: bool = False
    keeps_order: bool = False
    shared: int = 0
    trailing: bool = False


def axis_facts(node: Node) -> AxisFacts:
    """The facts of a node, found out once for its op and the types of its operands."""
    types = tuple([v.type for v in node.operands])
    known = node.op.axis_facts
    found: AxisFacts | None = known.get(types)
    if found is None:
        given = node.op.axis_relations(*types) if len(node.results) == 1 else None
        found = AxisFacts(None) if given is None else _facts(node.op, types, given)
        keep(known, types, found)
    return found


def _facts(op: Op, types: tuple[TensorType, ...], given: tuple[AxisRelation, ...]) -> AxisFacts:
    pointwise = _is_pointwise(op, types, given)
    if not op.folds:
        return AxisFacts(given, pointwise, pointwise and all(map(_is_sorted, given)))
    axes, rank = combined(given[0], types[0].rank), types[0].rank
    return AxisFacts(given, shared=_shared(given), trailing=axes == AXES[rank - len(axes):rank])


def _shared(given: tuple[AxisRelation, ...]) -> int:
    lead = 0
    for along in zip(*[() if r is IN_ORDER else r for r in given]):
        if not all([isinstance(a, int) for a in along]):
            break
        lead += 1
    return lead


def relations(node: Node) -> tuple[AxisRelation, ...] | None:
    """How the axes of the (one) result come from those of each operand; None if the op does not say so, or has several results."""
    return axis_facts(node).relations


def combined(relation: AxisRelation, rank: int) -> tuple[int, ...]:
    """The axes of an operand of this rank that no axis of the result goes with: an element combines, or picks, what lies along them."""
    if relation is IN_ORDER or len(relation) == rank and relation == AXES[:rank]:
        return ()
    return tuple([a for a in range(rank) if a not in relation])


def is_pointwise(node: Node) -> bool:
    """Whether an element of the result is computed from at most one of each operand, and may be computed wherever it is read.

    So it is for elementwise ops, conversions, and movement that neither reverses nor leaves out; not for what is to be stored.
    """
    return axis_facts(node).pointwise


def keeps_order(node: Node) -> bool:
    """Whether a node is pointwise, and elements that follow one another in the result do so in the operands, or are the same there."""
    return axis_facts(node).keeps_order


def _is_pointwise(op: Op, types: tuple[TensorType, ...], given: tuple[AxisRelation, ...]) -> bool:
    if not types or op.folds or op.stores or op.ends_fusion or op.on_host:
        return False
    for r, t in zip(given, types):
        if r is not IN_ORDER and (ANYWHERE in r or any([t.shape[a] != 1 for a in combined(r, t.rank)])):
            return False
    return True


def _is_sorted(relation: AxisRelation) -> bool:
    axes = () if relation is IN_ORDER else tuple([a for a in relation if isinstance(a, int)])
    return all([a < b for a, b in zip(axes, axes[1:])])


def permutation(node: Node) -> tuple[int, ...] | None:
    """The order in which a view has all axes of its operand; None for other nodes. Identities have them in order."""
    found = relations(node) if node.op.view else None
    if found is None or found[0] is IN_ORDER:
        return None
    axes = tuple([a for a in found[0] if isinstance(a, int)])
    return axes if len(axes) == len(found[0]) == node.operands[0].ndim else None


def only_reshapes(node: Node) -> bool:
    """Whether a node is a view of all elements of its operand in their order."""
    return node.op.view and keeps_order(node) and node.results[0].type.size == node.operands[0].type.size
