"""Optimisation: a graph goes through the passes of a pipeline, and is verified once, at the end."""

from __future__ import annotations

from typing import Any

from nagraph.ir.graph import Graph
from nagraph.ir.verify import verify
from nagraph.pipeline import Pipeline


def optimised(graph: Graph, passes: Any, donations: dict[int, int]) -> Graph:
    """The graph after the passes, a pipeline or its text, of which the planner of memory is told the donations."""
    pipeline = Pipeline.parse(passes) if isinstance(passes, str) else passes
    planned = pipeline.replace("memory", donations=tuple(sorted(donations.items()))) if donations else pipeline
    found: Graph = planned(graph)
    verify(found)  # whatever a pass did wrong must not reach the backend
    return found
