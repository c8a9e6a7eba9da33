"""Region ops: `call`, one op for composites, fused regions and checkpoints, and the reference of any region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nagraph.errors import NagraphError, TypeRuleError
from nagraph.ir.builder import current
from nagraph.ir.graph import Graph, Value, kept
from nagraph.ir.location import located
from nagraph.ir.op import Array, Cost, Op, op
from nagraph.ir.types import TensorType, is_float
from nagraph.ops.base import Primitive
from nagraph.ops.rules import Maybe, zeros_of


def interpret(graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of `graph`, node by node with each op's NumPy reference."""
    env: dict[Value, Array] = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.nodes:
        op_ = node.op
        try:
            if isinstance(op_, Primitive):
                results = op_.evaluate(*(env[v] for v in node.operands))
            else:
                results = op_.reference(*(env[v] for v in node.operands))
        except NagraphError as error:
            raise located(error, node.location) from None
        env.update(zip(node.results, results if isinstance(results, tuple) else (results,), strict=True))
    return tuple(env[v] for v in graph.outputs)


@kept
def region_cost(graph: Graph) -> Cost:
    """The sum over the region's nodes."""
    flops = transcendental = 0.0
    for node in graph.nodes:
        cost = node.op.cost(*(v.type for v in node.operands))
        flops, transcendental = flops + cost.flops, transcendental + cost.transcendental
    return Cost(flops, transcendental)


#: Bodies of more nodes are not put in place of calls where they are called more than once, nor are their derivatives: bodies in
#: bodies, each called twice, would grow beyond all bounds.
LARGE = 4096


def check_operands(name: str, graph: Graph, types: Sequence[TensorType]) -> None:
    """The region's inputs must have exactly the operands' types."""
    if graph.input_types != tuple(types):
        wanted = ", ".join(map(str, graph.input_types))
        raise TypeRuleError(f"{name}: the region {graph.name} takes ({wanted}), got ({', '.join(map(str, types))})")


@dataclass(frozen=True)
class ResidualForm:
    """A way to differentiate an op that saves values: another op for the forward pass, a function for the backward.

    `forward` gives the op's results and then the residuals; `backward(residuals, cotangents,
    operands)` emits the cotangents of the operands.
    """

    forward: Op
    backward: Callable[[tuple[Value, ...], tuple[Maybe, ...], tuple[Value, ...]], tuple[Maybe, ...]]


class Region(Primitive):
    """Base of the ops that hold graphs."""

    small = False

    def residual_form(self, operands: tuple[TensorType, ...]) -> ResidualForm | None:
        """How reverse mode saves values of the forward pass; None where `vjp` needs none."""
        return None


@op
class Call(Region):
    """The results of `body` on the operands, under a name.

    kind: "composite" (expanded before fusion unless a backend claims it), "custom" (a composite whose declared
    derivative is another than the body's, so that no part of it may stand for it before it is differentiated), "checkpoint" (kept
    whole: its backward pass recomputes it), "fused" (made by fusion). `fwd` and `bwd` declare a
    derivative: fwd(operands) = results and residuals; bwd(residuals, cotangents) = cotangents of
    the floating operands. Without them the derivative is that of the body.
    """

    label: str
    kind: str
    body: Graph
    fwd: Graph | None = None
    bwd: Graph | None = None

    KINDS: ClassVar[tuple[str, ...]] = ("composite", "custom", "checkpoint", "fused")

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        if self.kind not in self.KINDS:
            raise TypeRuleError(f"call: kind is one of {', '.join(self.KINDS)}, got {self.kind!r}")
        if (self.fwd is None) != (self.bwd is None):
            raise TypeRuleError(f"call {self.label}: a declared derivative needs both fwd and bwd")
        check_operands(f"call {self.label}", self.body, operands)
        if self.fwd is not None and "_sound" not in self.__dict__:
            self._check_derivative(operands)
            self.__dict__["_sound"] = True  # the operands' types are those of the body, so it stays so
        return self.body.output_types

    def _check_derivative(self, operands: tuple[TensorType, ...]) -> None:
        """fwd: operands -> results, residuals. bwd: residuals, cotangents of the results -> cotangents of the floating operands."""
        assert self.fwd is not None and self.bwd is not None
        check_operands(f"call {self.label}", self.fwd, operands)
        results, count = self.body.output_types, len(self.body.outputs)
        if self.fwd.output_types[:count] != results:
            raise TypeRuleError(f"call {self.label}: fwd gives first the results of the body, ({', '.join(map(str, results))}), "
                                f"and then residuals; got ({', '.join(map(str, self.fwd.output_types))})")
        check_operands(f"call {self.label}", self.bwd, (*self.fwd.output_types[count:], *results))
        wanted = tuple(t for t in operands if is_float(t.dtype))
        if self.bwd.output_types != wanted:
            raise TypeRuleError(f"call {self.label}: bwd gives a cotangent for each floating operand, ({', '.join(map(str, wanted))}); "
                                f"got ({', '.join(map(str, self.bwd.output_types))})")

    def reference(self, *operands: Array) -> tuple[Array, ...]:
        return interpret(self.body, operands)

    def residual_form(self, operands: tuple[TensorType, ...]) -> ResidualForm | None:
        if self.fwd is None or self.bwd is None:
            return None
        count, bwd = len(self.body.outputs), self.bwd
        label = self.label

        def backward(residuals: tuple[Value, ...], cts: tuple[Maybe, ...], xs: tuple[Value, ...]) -> tuple[Maybe, ...]:
            types = bwd.input_types[len(residuals):]
            full = [zeros_of(t) if c is None else c for c, t in zip(cts, types, strict=True)]
            found = iter(current().emit(Call(f"{label}.bwd", "composite", bwd), (*residuals, *full)))
            return tuple(next(found) if is_float(x.dtype) else None for x in xs)

        assert len(self.fwd.outputs) >= count
        return ResidualForm(Call(f"{label}.fwd", "composite", self.fwd), backward)

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        from nagraph.transforms.reverse import pullback, vjp_graph

        if self.kind == "checkpoint" or self.body.total_nodes > LARGE:
            which = [i for i, x in enumerate(operands) if is_float(x.dtype)]
            given = [i for i, c in enumerate(cotangents) if c is not None]
            graph = vjp_graph(self.body, wrt=which, seeds=given, name=f"{self.label}.bwd")
            cts = [c for c in cotangents if c is not None]
            found = current().emit(Call(graph.name, self.kind, graph), (*operands, *cts))
            out: list[Maybe] = [None] * len(operands)
            for i, c in zip(which, found, strict=True):
                out[i] = c
            return tuple(out)
        _, pull = pullback(self.body, operands)
        return tuple(pull(cotangents))

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        """The body's; a declared derivative is linear in the cotangents, so that its transpose is the forward mode."""
        from nagraph.ops.control import jvp_graph
        from nagraph.transforms.reverse import pullback, pushforward

        if self.fwd is not None and self.bwd is not None:
            count = len(self.body.outputs)
            residuals = current().emit(Call(f"{self.label}.fwd", "composite", self.fwd), operands)[count:]
            floats = [i for i, v in enumerate(results) if is_float(v.dtype)]
            cts = tuple(zeros_of(t) for t in self.bwd.input_types[len(residuals):])
            _, pull = pullback(self.bwd, (*residuals, *cts), [len(residuals) + i for i in floats])
            moved = dict(zip(floats, pull([t for t, x in zip(tangents, operands) if is_float(x.dtype)])))
            return tuple(moved.get(i) for i in range(count))
        if self.body.total_nodes <= LARGE:
            return tuple(pushforward(self.body, operands, tangents)[1])
        moving = [i for i, t in enumerate(tangents) if t is not None]
        graph = jvp_graph(self.body, moving)
        given = [t for t in tangents if t is not None]
        found = iter(current().emit(Call(f"{self.label}.jvp", self.kind, graph), (*operands, *given))[len(results):])
        return tuple(next(found) if is_float(r.dtype) else None for r in results)

    def harmless(self, condition: Value, operands: tuple[Value, ...]) -> tuple[Op, tuple[Value, ...]]:
        from nagraph.transforms.batching import harmless

        fwd = None if self.fwd is None else harmless(self.fwd)
        return Call(self.label, self.kind, harmless(self.body), fwd, self.bwd), (condition, *operands)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        from nagraph.transforms.batching import batch_derivative, batch_graph

        fwd, bwd = self.fwd, self.bwd
        if fwd is not None and bwd is not None:
            fwd, bwd = batch_derivative(fwd, bwd, len(self.body.outputs), size, batched)
        return current().emit(Call(self.label, self.kind, batch_graph(self.body, size, batched), fwd, bwd), operands)

    def cost(self, *operands: TensorType) -> Cost:
        return region_cost(self.body)

    def samples(self, rng: np.random.Generator) -> Any:
        return iter(())
