"""The explanation of a program: what it was made from. Calls need none of it; it is there for whoever looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nagraph.ir.graph import Graph
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.plan.plan import Plan
from nagraph.program.lowered import LoweredProgram
from nagraph.program.lowering import Make, lower


class Explanation(NamedTuple):
    """What a program was made from: the optimised graph, its plan, and the program as instructions."""

    graph: Graph
    plan: Plan
    program: LoweredProgram

    @classmethod
    def of(cls, graph: Graph, donations: Mapping[int, int], make: Make, host: bool = True) -> Explanation:
        """Plan a graph by kernels and lower it. make, host: as of `lower`."""
        planner, plan = kernel_plan(graph, donations)
        return cls(graph, plan, lower(planner, plan, make, host))
