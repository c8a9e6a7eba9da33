"""Memory planning: the graph with a place in one arena for every buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nagraph.ir.graph import Graph
from nagraph.pipeline import graph_pass
from nagraph.plan import Planned, make_plan


@graph_pass
@dataclass(frozen=True)
class Memory:
    """Memory planning: live ranges, views, in-place reuse and donation give each buffer an offset in one arena.

    Before   the graph
    After    the same graph with its plan: `graph.plan.arena_bytes`, `str(graph.plan)`

    It is for backends whose steps are nodes, such as NumPy's; those that run kernels plan when they know their kernels
    (`nagraph.plan.kernel_planner`). It runs last: a pass that changes the graph drops the plan. donations: pairs (output, input) of
    numbers: the output may take the array of the input. Offsets are found as `nagraph.plan.offsets` says.
    """

    on_regions: ClassVar[bool] = False
    donations: tuple[tuple[int, int], ...] = ()

    def __call__(self, graph: Graph) -> Graph:
        return Planned(make_plan(graph, dict(self.donations)))
