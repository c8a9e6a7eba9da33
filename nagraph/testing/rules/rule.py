"""What a rule is: it proposes a statement over the values that there are.

A proposal may fail in NumPy (shapes that do not fit, an empty maximum); then another is made. So rules stay short, and what a
program may do is what NumPy can do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nagraph.testing.choice import Choice

#: What a rule proposes: text with {0}, {1}, ... and the operands that these stand for.
Proposal = tuple[str, tuple[str, ...]]


class Rule(NamedTuple):
    """A rule is a kind of statement: `propose` makes one, or raises NoChoice; `weight`: how often, beside others."""

    name: str
    propose: Callable[[Choice], Proposal]
    weight: float = 1.0


#: Every rule of the house, in the order in which their files are read.
RULES: list[Rule] = []


def rule(weight: float = 1.0) -> Callable[[Callable[[Choice], Proposal]], Callable[[Choice], Proposal]]:
    """Decorator: adds a rule that proposes what the function returns."""

    def add(propose: Callable[[Choice], Proposal]) -> Callable[[Choice], Proposal]:
        RULES.append(Rule(propose.__name__, propose, weight))
        return propose

    return add
