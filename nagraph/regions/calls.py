"""Calls: `call`, the one op behind composites, checkpoints and fused regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nagraph.errors import TypeRuleError
from nagraph.ir.builder import current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.interpret import interpret
from nagraph.ir.op import Array, Box, Cost, Op, ResidualForm, op, whole
from nagraph.ir.types import TensorType, is_float
from nagraph.ops.rules import Maybe, or_zeros, zeros_of
from nagraph.regions.base import Ports, RegionOp, check_operands, on_floating, region_cost, updated_inputs
from nagraph.transforms.batching import batch_derivative, batch_graph
from nagraph.transforms.forward import jvp_graph, pushforward
from nagraph.transforms.narrowing import narrowed_body
from nagraph.transforms.reverse import pullback, vjp_graph

#: Bodies of more nodes are not put in place of calls where they are called more than once, nor are their derivatives: bodies in
#: bodies, each called twice, would grow beyond all bounds.
LARGE = 4096


@op
class Call(RegionOp):
    """The results of `body` on the operands, under a name.

    kind: "composite" (expanded before fusion unless a backend claims it), "custom" (a composite whose declared
    derivative is another than the body's, so that no part of it may stand for it before it is differentiated), "checkpoint" (kept
    whole: its backward pass recomputes it), "fused" (made by fusion). `fwd` and `bwd` declare a
    derivative: fwd(operands) = results and residuals; bwd(residuals, cotangents) = cotangents of
    the floating operands. Without them the derivative is that of the body.

    options: what a composite was called with beside its operands, so that a backend can compute it by its label: static arguments by
    name, and with None the operands that are left out before others. Calls of what was made of a body, its batch or a part of it, have
    other labels; a part has the options of the whole.
    """

    label: str
    kind: str
    body: Graph
    fwd: Graph | None = None
    bwd: Graph | None = None
    options: tuple[tuple[str, Any], ...] = ()

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

    @property
    def fused(self) -> bool:
        return self.kind == "fused"

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

    def ports(self) -> Ports | None:
        """Those of a checkpoint. Composites are opened, or the backend knows their operands; fusion knows those of its regions."""
        return Ports(0, len(self.body.inputs), 0, ("body",)) if self.kind == "checkpoint" and self.fwd is None else None

    def reference(self, *operands: Array) -> tuple[Array, ...]:
        return interpret(self.body, operands)

    def updates(self, result: int) -> int | None:
        return updated_inputs(self.body)[result] if self.kind != "fused" else None

    def residual_form(self, operands: tuple[TensorType, ...]) -> ResidualForm | None:
        if self.fwd is None or self.bwd is None:
            return None
        count, bwd = len(self.body.outputs), self.bwd
        label = self.label

        def backward(residuals: tuple[Value, ...], cts: tuple[Maybe, ...], xs: tuple[Value, ...]) -> tuple[Maybe, ...]:
            types = bwd.input_types[len(residuals):]
            full = [or_zeros(c, t) for c, t in zip(cts, types, strict=True)]
            return on_floating(current().emit(Call(f"{label}.bwd", "composite", bwd), (*residuals, *full)), xs)

        assert len(self.fwd.outputs) >= count
        return ResidualForm(Call(f"{label}.fwd", "composite", self.fwd), backward)

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
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
        """The body's tangents; where a derivative is declared, those that the adjoint of `bwd` gives, which is linear in the cotangents."""
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
        found = current().emit(Call(f"{self.label}.jvp", self.kind, graph), (*operands, *given))
        return on_floating(found[len(results):], results)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        fwd, bwd = self.fwd, self.bwd
        if fwd is not None and bwd is not None:
            fwd, bwd = batch_derivative(fwd, bwd, len(self.body.outputs), size, batched)
        return current().emit(Call(f"{self.label}.batch", self.kind, batch_graph(self.body, size, batched), fwd, bwd), operands)

    def cost(self, *operands: TensorType) -> Cost:
        return region_cost(self.body)

    def narrow_results(self, boxes: Sequence[Box], *operands: TensorType) -> tuple[Op, Sequence[Box]] | None:
        """The call of a body that computes parts alone. Its derivative is that of its body."""
        if self.kind in ("fused", "custom") or list(boxes) == [whole(v.shape) for v in self.body.outputs]:
            return None
        body, needed = narrowed_body(self.body, tuple(boxes))
        return None if body is self.body else (Call(f"{self.label}.part", self.kind, body, options=self.options), needed)
