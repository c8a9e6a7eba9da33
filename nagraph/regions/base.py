"""The base of ops that hold graphs, and what all of them ask of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Graph, Value, kept
from nagraph.ir.nested import nested_graphs
from nagraph.ir.op import Cost, Op
from nagraph.ir.types import TensorType, is_float
from nagraph.ops.base import Primitive
from nagraph.ops.rules import Maybe


class Ports(NamedTuple):
    """Where the operands and results of an op that holds graphs go.

    `ahead` operands are the op's own. Each region has an input for each of the others, in their order: `consts` that no iteration changes,
    `carries` that go from one iteration to the next, and the rest, of which it gets a slice along axis 0. The regions named in `giving`
    give the results: the carries, then others, which are stacked if `stacks`.
    """

    ahead: int
    consts: int
    carries: int
    giving: tuple[str, ...]
    stacks: bool = False


class RegionOp(Primitive):
    """Base of the ops that hold graphs."""

    small = False

    def ports(self) -> Ports | None:
        """How operands and results belong to inputs and outputs of the regions; None where no pass may change their number."""
        return None

    def with_ports(self, regions: Mapping[str, Graph], consts: int, carries: int) -> Op:
        """The op of other regions, which have this many consts and carries."""
        return self.with_attributes(**regions)

    def samples(self, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        """None: the tests of these ops make their graphs."""
        return iter(())


class Loop(RegionOp):
    """Base of the ops whose regions run again and again."""

    consts: int

    def iterations(self) -> tuple[int, int]:
        """How many iterations there are at least, and how many to reckon with."""
        raise NotImplementedError


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


@kept
def updated_inputs(graph: Graph) -> tuple[int | None, ...]:
    """For each output the number of the input that it is, but for some of its elements (`Op.updates`); None where there is none."""
    source = {v: i for i, v in enumerate(graph.inputs)}
    for node in graph.nodes:
        for r, v in enumerate(node.results):
            k = node.op.updates(r)
            if k is not None and node.operands[k] in source:
                source[v] = source[node.operands[k]]
    return tuple(source.get(v) for v in graph.outputs)


def on_floating(tangents: Sequence[Value], results: Sequence[Value]) -> tuple[Maybe, ...]:
    """Tangents of the floating results, None for the others."""
    found = iter(tangents)
    return tuple(next(found) if is_float(r.dtype) else None for r in results)


def loops_by_data(graph: Graph) -> bool:
    """Whether the graph holds, at any depth, a loop whose length is data."""
    return any(node.op.loops_by_data for g in nested_graphs(graph) for node in g.nodes)
