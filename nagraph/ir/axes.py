"""Axis relations: along which of an operand's axes an op reads it, for each axis of its result.

An op's rule `axis_relations` gives one for each operand. From them follows which rows of the result come from which rows of the
operands, and so what can be fused.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence


class Along(enum.Enum):
    """How an operand is read along an axis of the result where no axis of its own goes with it."""

    #: The operand is the same for every index of this axis.
    SAME = "same"
    #: Where the operand is read, or what is made of it, differs from index to index in another way.
    ANYWHERE = "anywhere"


class Order(enum.Enum):
    """How an operand as a whole lies in the result."""

    #: The result has the operand's elements in their row-major order, under a shape of its own.
    KEPT = "kept"


SAME, ANYWHERE, IN_ORDER = Along.SAME, Along.ANYWHERE, Order.KEPT
#: For each axis of the result: the operand's axis that has the same size and is read at the same index, SAME, or ANYWHERE; or IN_ORDER.
AxisRelation = tuple[int | Along, ...] | Order
#: The axes of a tensor of the most axes, in order: `AXES[:rank]` is the relation of an operand that is as the result is.
AXES = tuple(range(64))


def every_axis(rank: int, but: Collection[int] = ()) -> AxisRelation:
    """The relation of an operand of the result's rank, read at the same index on every axis `but` on some, where anywhere."""
    return tuple([ANYWHERE if a in but else a for a in range(rank)])


def broadcast_axes(shape: Sequence[int], result: Sequence[int]) -> AxisRelation:
    """The relation of an operand of this shape that broadcasts to the result's, by NumPy's rule."""
    if shape == result:
        return AXES[:len(shape)]
    lead = len(result) - len(shape)
    return tuple([a - lead if a >= lead and shape[a - lead] == n else SAME for a, n in enumerate(result)])


def anywhere(rank: int) -> AxisRelation:
    """The relation of an operand that may be read anywhere, to a result of this rank."""
    return (ANYWHERE,) * rank
