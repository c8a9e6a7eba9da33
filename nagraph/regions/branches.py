"""Branches: `cond`, an op that holds two graphs of which one runs."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.errors import TypeRuleError
from nagraph.ir.builder import Builder, current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.interpret import interpret
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.types import BOOL, TensorType, is_float
from nagraph.ops.bits import invert
from nagraph.ops.elementwise import where
from nagraph.ops.reduction import any as any_of
from nagraph.ops.rules import Maybe, align_batched, zeros_of
from nagraph.regions.base import Ports, RegionOp, check_operands, loops_by_data, on_floating, region_cost, updated_inputs
from nagraph.transforms.batching import batch_graph, batched_call_where
from nagraph.transforms.forward import jvp_graph
from nagraph.transforms.reverse import vjp_graph


@op
class Cond(RegionOp):
    """One of two graphs on the same operands: y = true(x) if predicate else false(x). Only the chosen one runs."""

    true: Graph
    false: Graph

    def infer(self, predicate: TensorType, *operands: TensorType) -> tuple[TensorType, ...]:
        if predicate != TensorType(BOOL, ()):
            raise TypeRuleError(f"cond: the predicate must be bool[], got {predicate}")
        check_operands("cond", self.true, operands)
        check_operands("cond", self.false, operands)
        if self.true.output_types != self.false.output_types:
            a, b = (", ".join(map(str, g.output_types)) for g in (self.true, self.false))
            raise TypeRuleError(f"cond: the branches give different types: ({a}) and ({b})")
        return self.true.output_types

    def ports(self) -> Ports:
        return Ports(1, len(self.true.inputs), 0, ("true", "false"))

    def reference(self, predicate: Array, *operands: Array) -> tuple[Array, ...]:
        return interpret(self.true if predicate else self.false, operands)

    def updates(self, result: int) -> int | None:
        one, other = (updated_inputs(g)[result] for g in (self.true, self.false))
        return one + 1 if one is not None and one == other else None

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        """A cond of the branches' pullbacks; each recomputes its forward pass, so nothing is saved."""
        which = [i for i, x in enumerate(operands[1:]) if is_float(x.dtype)]
        given = [i for i, c in enumerate(cotangents) if c is not None]
        true, false = (vjp_graph(g, which, given) for g in (self.true, self.false))
        cts = [c for c in cotangents if c is not None]
        found = iter(current().emit(Cond(true, false), (*operands, *cts)))
        return None, *(next(found) if i in which else None for i in range(len(operands) - 1))

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        given = [i for i, t in enumerate(tangents[1:]) if t is not None]
        true, false = (jvp_graph(g, given) for g in (self.true, self.false))
        moved = current().emit(Cond(true, false), (*operands, *(tangents[i + 1] for i in given)))
        return on_floating(moved[len(results):], results)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        """With a predicate for each example both branches run, each for the examples that take it, and results are selected."""
        if not batched[0]:
            true, false = (batch_graph(g, size, batched[1:]) for g in (self.true, self.false))
            return current().emit(Cond(true, false), operands)
        taken = operands[0]
        chosen = _side(self.true, size, taken, operands[1:], batched[1:])
        others = _side(self.false, size, invert(taken), operands[1:], batched[1:])
        return tuple(where(align_batched(taken, x.ndim - 1), x, y) for x, y in zip(chosen, others))

    def cost(self, *operands: TensorType) -> Cost:
        return max(region_cost(self.true), region_cost(self.false))


def _side(graph: Graph, size: int, taken: Value, operands: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    """The results of a branch for the examples that take it. A branch that may not end, or may raise, runs only if there are any."""
    if not (loops_by_data(graph) or graph.may_raise):
        return batched_call_where(taken, graph, size, operands, batched)
    with Builder() as builder:
        mask, *inputs = (builder.input(v.type) for v in (taken, *operands))
        run = builder.graph(graph.name, batched_call_where(mask, graph, size, inputs, batched))
    with Builder() as builder:
        inputs = [builder.input(v.type) for v in (taken, *operands)]
        skip = builder.graph("skip", [zeros_of(t) for t in run.output_types])
    return current().emit(Cond(run, skip), (any_of(taken), taken, *operands))
