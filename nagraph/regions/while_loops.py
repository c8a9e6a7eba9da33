"""While loops: loops whose length is data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nagraph.errors import MissingRuleError, TypeRuleError
from nagraph.ir.builder import Builder, current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.interpret import interpret
from nagraph.ir.op import Array, Cost, Op, ResidualForm, op
from nagraph.ir.types import BOOL, TensorType, is_float
from nagraph.ops.elementwise import where
from nagraph.ops.reduction import any as any_of
from nagraph.ops.rules import Maybe, align_batched, or_zeros, with_batch_axis
from nagraph.regions.base import Loop, Ports, check_operands, on_floating, region_cost, updated_inputs
from nagraph.regions.branches import Cond
from nagraph.regions.scans import Scan
from nagraph.transforms.batching import batched_call, batched_call_where
from nagraph.transforms.forward import jvp_graph

#: Iterations that a loop is reckoned to have whose number is data.
LIKELY = 8


@op
class WhileLoop(Loop):
    """Repeats body while the condition holds: x = body(consts, x) while condition(consts, x), at most max_steps times.

    Operands: `consts` invariant values, then the carries. Reverse mode needs `max_steps`.
    """

    loops_by_data = True
    condition: Graph
    body: Graph
    consts: int
    max_steps: int | None = None

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        if not 0 <= self.consts <= len(operands) or (self.max_steps or 0) < 0:
            raise TypeRuleError(f"while_loop: {self.consts} consts of {len(operands)} operands and at most {self.max_steps} steps; "
                                "there is an operand for each const, and no number is negative")
        check_operands("while_loop", self.condition, operands)
        check_operands("while_loop", self.body, operands)
        carries = operands[self.consts:]
        if self.condition.output_types != (TensorType(BOOL, ()),):
            got = ", ".join(map(str, self.condition.output_types))
            raise TypeRuleError(f"while_loop: the condition must give bool[], got ({got})")
        if self.body.output_types != carries:
            before, after = (", ".join(map(str, t)) for t in (carries, self.body.output_types))
            raise TypeRuleError(f"while_loop: the carry changes type: ({before}) becomes ({after}); cast one of them")
        return carries

    def ports(self) -> Ports:
        return Ports(0, self.consts, len(self.body.outputs), ("body",))

    def with_ports(self, regions: Mapping[str, Graph], consts: int, carries: int) -> Op:
        return self.with_attributes(**regions, consts=consts)

    def iterations(self) -> tuple[int, int]:
        return 0, LIKELY if self.max_steps is None else min(LIKELY, self.max_steps)

    def reference(self, *operands: Array) -> tuple[Array, ...]:
        consts, carries = operands[:self.consts], tuple(operands[self.consts:])
        steps = 0
        while (self.max_steps is None or steps < self.max_steps) and interpret(self.condition, (*consts, *carries))[0]:
            carries = interpret(self.body, (*consts, *carries))
            steps += 1
        return carries

    def updates(self, result: int) -> int | None:
        k = self.consts + result
        return k if updated_inputs(self.body)[result] == k else None

    def as_scan(self) -> Scan:
        """The bounded loop as a scan whose body is a cond: done steps pass the carry on."""
        if self.max_steps is None:
            raise MissingRuleError(
                "while_loop: reverse mode needs a bound on the steps, to know how many values to save: "
                "pass max_steps=, or use ng.scan"
            )
        with Builder() as builder:
            inputs = [builder.input(v.type, v.name) for v in self.body.inputs]
            (go,) = builder.inline(self.condition, inputs)
            stay = Graph("stay", self.body.inputs, (), self.body.inputs[self.consts:])
            found = builder.emit(Cond(self.body, stay), (go, *inputs))
            graph = builder.graph("bounded", found)
        return Scan(graph, self.consts, len(inputs) - self.consts, self.max_steps)

    def residual_form(self, operands: tuple[TensorType, ...]) -> ResidualForm:
        return self.as_scan().residual_form(operands)

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return self.as_scan().vjp(cotangents, results, operands)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        """One loop that carries values and tangents side by side."""
        moving = [i for i, x in enumerate(operands) if is_float(x.dtype)]
        pushed = jvp_graph(self.body, moving)
        n = len(operands)
        order = [*range(self.consts), *(n + k for k, i in enumerate(moving) if i < self.consts),
                 *range(self.consts, n), *(n + k for k, i in enumerate(moving) if i >= self.consts)]
        body = Graph(pushed.name, [pushed.inputs[i] for i in order], pushed.nodes, pushed.outputs)
        with Builder() as builder:
            inputs = [builder.input(v.type) for v in body.inputs]
            plain = [inputs[order.index(i)] for i in range(n)]
            condition = builder.graph(self.condition.name, builder.inline(self.condition, plain))
        full = [or_zeros(tangents[i], operands[i].type) for i in moving]
        every = (*operands, *full)
        consts = self.consts + sum(i < self.consts for i in moving)
        found = current().emit(WhileLoop(condition, body, consts, self.max_steps), tuple(every[i] for i in order))
        return on_floating(found[len(results):], results)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        """All examples step together until none wants to; those that are done keep their carry."""
        carries = [with_batch_axis(x, b, size) for x, b in zip(operands[self.consts:], batched[self.consts:])]
        values = (*operands[:self.consts], *carries)
        flags = (*batched[:self.consts], *(True for _ in carries))

        def going(inputs: Sequence[Value]) -> Value:
            ((go, has),) = batched_call(self.condition, size, inputs, flags)
            return with_batch_axis(go, has, size)

        with Builder() as builder:
            inputs = [builder.input(v.type) for v in values]
            condition = builder.graph(self.condition.name, [any_of(going(inputs))])
        with Builder() as builder:
            inputs = [builder.input(v.type) for v in values]
            go = going(inputs)
            stepped = batched_call_where(go, self.body, size, inputs, flags)
            old = inputs[self.consts:]
            body = builder.graph(self.body.name, [where(align_batched(go, x.ndim - 1), x, y) for x, y in zip(stepped, old)])
        return current().emit(WhileLoop(condition, body, self.consts, self.max_steps), values)

    def cost(self, *operands: TensorType) -> Cost:
        steps = 1 if self.max_steps is None else self.max_steps
        each = region_cost(self.body)
        return Cost(each.flops * steps, each.transcendental * steps)
