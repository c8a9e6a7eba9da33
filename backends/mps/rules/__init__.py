"""The rules of the MPS backend, by family: what MLX is asked to compute for each op."""

from __future__ import annotations

from nagraph.backends.mps.rules import (
    composites,
    control,
    elementwise,
    functions,
    indexing,
    movement,
    products,
    random,
    reductions,
    sorting,
    windows,
)
from nagraph.backends.mps.rules.elementwise import by_scalars
from nagraph.backends.mps.rules.rule import Rule
from nagraph.errors import MissingRuleError
from nagraph.ir.op import Op
from nagraph.ops.base import Elementwise

#: The rule of each op of the house.
RULES: dict[type[Op], Rule] = {}
for family in (elementwise, functions, movement, reductions, products, windows, indexing, sorting, random, composites, control):
    RULES |= family.RULES


def rule_of(op: Op) -> Rule:
    """The rule of an op. An elementwise op from elsewhere is computed by its scalar rule; MissingRuleError for what else has none."""
    found = RULES.get(type(op))
    if found is not None:
        return found
    if isinstance(op, Elementwise) and type(op).scalar is not Op.scalar:
        return by_scalars
    raise MissingRuleError(f"backend 'mps' can't compute op {op.name}: it has no rule of MLX's for it, and calls no Python on a device; "
                           "make it elementwise with a `scalar` rule, or a composite of other ops")
