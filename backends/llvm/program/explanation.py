"""The explanation of a program: what it was made from. Calls need none of it (`images.Image` is all that they need)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nagraph.backends.llvm.program.functions import kernel_of
from nagraph.ir.graph import Graph
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.plan.plan import Plan
from nagraph.program.lowered import LoweredProgram
from nagraph.program.lowering import lower


class Explanation(NamedTuple):
    """What a program was made from: the optimised graph, its plan, and the program as instructions."""

    graph: Graph
    plan: Plan
    program: LoweredProgram

    @classmethod
    def of(cls, graph: Graph, donations: Mapping[int, int]) -> Explanation:
        planner, plan = kernel_plan(graph, donations)
        return cls(graph, plan, lower(planner, plan, kernel_of))
