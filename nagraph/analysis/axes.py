"""What follows from the axis relations of ops: which nodes work element by element, and in which order."""

from __future__ import annotations

from nagraph.ir.axes import IN_ORDER, SAME, AxisRelation
from nagraph.ir.graph import Node


def relations(node: Node) -> tuple[AxisRelation, ...] | None:
    """How the axes of the (one) result come from those of each operand; None if the op does not say so, or has several results."""
    return node.op.axis_relations(*[v.type for v in node.operands]) if len(node.results) == 1 else None


def combined(relation: AxisRelation, rank: int) -> tuple[int, ...]:
    """The axes of an operand of this rank that no axis of the result goes with: an element combines, or picks, what lies along them."""
    return () if relation is IN_ORDER else tuple([a for a in range(rank) if a not in relation])


def is_pointwise(node: Node) -> bool:
    """Whether an element of the result is computed from at most one of each operand, and may be computed wherever it is read.

    So it is for elementwise ops, conversions, and movement that neither reverses nor leaves out; not for what is to be stored.
    """
    found = relations(node) if node.operands and not (node.op.folds or node.op.stores or node.op.ends_fusion or node.op.on_host) else None
    return found is not None and all(
        r is IN_ORDER or all([isinstance(a, int) or a is SAME for a in r]) and
        not any([v.shape[a] != 1 for a in combined(r, v.ndim)]) for r, v in zip(found, node.operands))


def keeps_order(node: Node) -> bool:
    """Whether a node is pointwise, and elements that follow one another in the result do so in the operands, or are the same there."""
    if not is_pointwise(node):
        return False
    for r in relations(node) or ():
        axes = [] if r is IN_ORDER else [a for a in r if isinstance(a, int)]
        if axes != sorted(axes):
            return False
    return True


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


def shared_axes(node: Node) -> int:
    """How many leading axes of the result are an axis of every operand: the batch axes of a product."""
    found = relations(node)
    if not found or any(r is IN_ORDER for r in found):
        return 0
    lead = 0
    for along in zip(*found):
        if not all(isinstance(a, int) for a in along):
            break
        lead += 1
    return lead

