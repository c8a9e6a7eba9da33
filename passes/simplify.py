"""Simplification: algebra as rules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from nagraph.ir.graph import Graph
from nagraph.pipeline import any_sizes, graph_pass
from nagraph.rewrite.greedy import rewrite
from nagraph.rewrite.rule import Rule
from nagraph.rewrite.rules import ALL


@graph_pass
@any_sizes
@dataclass(frozen=True)
class Simplify:
    """Simplification: the rules of `nagraph.rewrite.rules`, applied until none matches.

    Before   %1 = multiply(%x, %one)   %2 = negative(%1)   %3 = negative(%2)
    After    %x

    Exact rules alone, unless `inexact` is set: those keep all values, NaN, infinities and the sign of zero
    included. Idempotent. What a rule leaves unread goes with dead code elimination.
    """

    inexact: bool = False

    def __call__(self, graph: Graph) -> Graph:
        return rewrite(graph, _rules(self.inexact))


@cache
def _rules(inexact: bool) -> tuple[Rule, ...]:
    return tuple(rule for rule in ALL if rule.exact or inexact)
