"""The base of ops that hold graphs, and what all of them ask of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Graph, Value, kept
from nagraph.ir.nested import nested_graphs
from nagraph.ir.op import Cost
from nagraph.ir.types import TensorType, is_float
from nagraph.ops.base import Primitive
from nagraph.ops.rules import Maybe


class RegionOp(Primitive):
    """Base of the ops that hold graphs."""

    small = False

    def samples(self, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        """None: the tests of these ops make their graphs."""
        return iter(())


def check_operands(name: str, graph: Graph, types: Sequence[TensorType]) -> None:
    """The region's inputs must have exactly the operands' types."""
    if graph.input_types != tuple(types):
        wanted = ", ".join(map(str, graph.input_types))
        raise TypeRuleError(f"{name}: the region {graph.name} takes ({wanted}), got ({', '.join(map(str, types))})")


@kept
def region_cost(graph: Graph) -> Cost:
    """The sum over the region's nodes."""
    flops = transcendental = 0.0
    for node in graph.nodes:
        cost = node.op.cost(*(v.type for v in node.operands))
        flops, transcendental = flops + cost.flops, transcendental + cost.transcendental
    return Cost(flops, transcendental)


def on_floating(tangents: Sequence[Value], results: Sequence[Value]) -> tuple[Maybe, ...]:
    """Tangents of the floating results, None for the others."""
    found = iter(tangents)
    return tuple(next(found) if is_float(r.dtype) else None for r in results)


def loops_by_data(graph: Graph) -> bool:
    """Whether the graph holds, at any depth, a loop whose length is data."""
    return any(node.op.loops_by_data for g in nested_graphs(graph) for node in g.nodes)
