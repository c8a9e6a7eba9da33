"""Scans: loops of known length, which carry values and stack results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.builder import Builder, current, fresh
from nagraph.ir.graph import Graph, Value, kept
from nagraph.ir.interpret import interpret
from nagraph.ir.op import Array, Cost, Op, ResidualForm, op
from nagraph.ir.sizes import same
from nagraph.ir.types import TensorType, is_float
from nagraph.ops.movement import moveaxis
from nagraph.ops.rules import Maybe, add_tangents, or_zeros, with_batch_axis, zeros_of
from nagraph.regions.base import Loop, Ports, check_operands, region_cost, updated_inputs
from nagraph.transforms.batching import batch_graph
from nagraph.transforms.forward import jvp_graph
from nagraph.transforms.reverse import pullback


@op
class Scan(Loop):
    """A loop of known length that carries values and stacks results: c[t+1], y[t] = body(consts, c[t], x[t]).

    Operands: `consts` loop-invariant values, `carries` initial carries, then the xs, which have the
    loop's axis in front. Results: the final carries, then the ys, stacked. `reverse` runs t from
    the end; y[t] still stands beside x[t].
    """

    body: Graph
    consts: int
    carries: int
    length: int
    reverse: bool = False

    def _split(self, items: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        a, b = self.consts, self.consts + self.carries
        return list(items[:a]), list(items[a:b]), list(items[b:])

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        if any([n < 0 for n in (self.consts, self.carries, self.length)]) or self.consts + self.carries > len(operands):
            raise TypeRuleError(f"scan: {self.consts} consts, {self.carries} carries and {self.length} steps do not fit "
                                f"{len(operands)} operands; none is negative, and there is an operand for each const and carry")
        consts, carries, xs = self._split(operands)
        for x in xs:
            if not x.shape or not same(x.shape[0], self.length, "scan"):
                raise TypeRuleError(f"scan: each x needs {self.length} steps on axis 0, got {x}")
        check_operands("scan", self.body, [*consts, *carries, *(x.with_shape(x.shape[1:]) for x in xs)])
        outs = self.body.output_types
        if outs[:self.carries] != tuple(carries):
            before, after = (", ".join(map(str, t)) for t in (carries, outs[:self.carries]))
            raise TypeRuleError(f"scan: the carry changes type: ({before}) becomes ({after}); cast one of them")
        return (*carries, *(y.with_shape((self.length, *y.shape)) for y in outs[self.carries:]))

    def ports(self) -> Ports:
        return Ports(0, self.consts, self.carries, ("body",), stacks=True)

    def with_ports(self, regions: Mapping[str, Graph], consts: int, carries: int) -> Op:
        return self.with_attributes(**regions, consts=consts, carries=carries)

    def iterations(self) -> tuple[int, int]:
        return self.length, self.length

    def reference(self, *operands: Array) -> tuple[Array, ...]:
        consts, carries, xs = self._split(operands)
        ys = [np.empty((self.length, *t.shape), t.dtype) for t in self.body.output_types[self.carries:]]
        for t in reversed(range(self.length)) if self.reverse else range(self.length):
            outs = interpret(self.body, [*consts, *carries, *(x[t] for x in xs)])
            carries = list(outs[:self.carries])
            for y, value in zip(ys, outs[self.carries:], strict=True):
                y[t] = value
        return (*carries, *ys)

    def updates(self, result: int) -> int | None:
        k = self.consts + result
        return k if result < self.carries and updated_inputs(self.body)[result] == k else None

    def residual_form(self, operands: tuple[TensorType, ...]) -> ResidualForm:
        """Forward scan that stacks what the backward body reads; backward scan in the other direction."""
        forward_body, backward_body, saved = split_body(self.body, self.consts, self.carries)
        forward = Scan(forward_body, self.consts, self.carries, self.length, self.reverse)
        consts, carries, xs = self._split(self.body.inputs)
        const_at = [i for i, v in enumerate(consts) if is_float(v.dtype)]
        carry_at = [i for i, v in enumerate(carries) if is_float(v.dtype)]
        x_at = [i for i, v in enumerate(xs) if is_float(v.dtype)]
        outs = self.body.output_types

        def backward(residuals: tuple[Value, ...], cts: tuple[Maybe, ...], values: tuple[Value, ...]) -> tuple[Maybe, ...]:
            result_types = [*outs[:self.carries], *(t.with_shape((self.length, *t.shape)) for t in outs[self.carries:])]
            full = [or_zeros(c, t) for c, t in zip(cts, result_types, strict=True) if is_float(t.dtype)]
            carry_cts, y_cts = full[:len(carry_at)], full[len(carry_at):]
            sums = [zeros_of(consts[i].type) for i in const_at]
            op_ = Scan(backward_body, len(saved), len(carry_at) + len(const_at), self.length, not self.reverse)
            found = current().emit(op_, (*(values[i] for i in saved), *carry_cts, *sums, *y_cts, *residuals))
            out: list[Maybe] = [None] * len(values)
            order = [*(self.consts + i for i in carry_at), *const_at,
                     *(self.consts + self.carries + i for i in x_at)]
            for i, c in zip(order, found, strict=True):
                out[i] = c
            return tuple(out)

        return ResidualForm(forward, backward)

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        form = self.residual_form(tuple(v.type for v in operands))
        found = current().emit(form.forward, operands)
        return form.backward(found[len(results):], cotangents, operands)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        """One scan that carries values and tangents side by side."""
        moving = [i for i, x in enumerate(operands) if is_float(x.dtype)]
        body = jvp_graph(self.body, moving)
        c0, c1 = self.consts, self.consts + self.carries
        n = len(self.body.inputs)
        groups: list[list[int]] = []
        for low, high in ((0, c0), (c0, c1), (c1, n)):
            groups.append([*range(low, high), *(n + k for k, i in enumerate(moving) if low <= i < high)])
        order = [i for g in groups for i in g]
        outs_float = [i for i, t in enumerate(self.body.output_types) if is_float(t.dtype)]
        m = len(self.body.outputs)
        carry_out = [*range(self.carries), *(m + k for k, i in enumerate(outs_float) if i < self.carries)]
        y_out = [*range(self.carries, m), *(m + k for k, i in enumerate(outs_float) if i >= self.carries)]
        merged = Graph(body.name, [body.inputs[i] for i in order], body.nodes,
                       [body.outputs[i] for i in (*carry_out, *y_out)])
        full = [or_zeros(tangents[i], operands[i].type) for i in moving]
        every = (*operands, *full)
        op_ = Scan(merged, len(groups[0]), len(groups[1]), self.length, self.reverse)
        found = current().emit(op_, tuple(every[i] for i in order))
        position = {place: found[k] for k, place in enumerate((*carry_out, *y_out))}
        return tuple(position[m + outs_float.index(i)] if i in outs_float else None for i in range(m))

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        consts, carries, xs = self._split(operands)
        const_b, _, xs_b = self._split(batched)
        flags = (*const_b, *(True for _ in carries), *xs_b)
        body = batch_graph(self.body, size, flags)
        starts = [with_batch_axis(c, b, size) for c, b in zip(carries, self._split(batched)[1])]
        moved = [moveaxis(x, 1, 0) if b else x for x, b in zip(xs, xs_b)]
        found = current().emit(Scan(body, self.consts, self.carries, self.length, self.reverse), (*consts, *starts, *moved))
        return (*found[:self.carries], *(moveaxis(y, 0, 1) for y in found[self.carries:]))

    def cost(self, *operands: TensorType) -> Cost:
        each = region_cost(self.body)
        return Cost(each.flops * self.length, each.transcendental * self.length)


@kept
def split_body(body: Graph, consts: int, carries: int) -> tuple[Graph, Graph, list[int]]:
    """A loop body's derivative in two halves.

    Forward: inputs -> outputs, residuals. Backward: (saved consts, cotangents of the carries,
    running sums for the consts, cotangents of the ys, residuals) -> (cotangents of the carries,
    sums, cotangents of the xs). Third, which consts the backward half reads: they need no stacking.
    """
    with Builder() as builder:
        inputs = [builder.input(v.type, v.name) for v in body.inputs]
        outputs, pull = pullback(body, inputs)
        count = len(builder.nodes)
        cts: list[Maybe] = [Value(v.type) if is_float(v.dtype) else None for v in body.outputs]
        found = pull(cts)
    forward, backward = builder.nodes[:count], builder.nodes[count:]
    made = {r for node in forward for r in node.results} | set(inputs)
    cheap = {r: node for node in forward if not node.operands for r in node.results}
    read: dict[Value, None] = {}
    local: dict[Value, None] = {}
    for v in (*(v for node in backward for v in node.operands), *(c for c in found if c is not None)):
        if v in cheap:
            local[v] = None
        elif v in made:
            read[v] = None
    saved = [i for i in range(consts) if inputs[i] in read]
    residuals = [v for v in read if v not in inputs[:consts]]
    float_in = [i for i, v in enumerate(inputs) if is_float(v.dtype)]
    carry_in = [i for i in float_in if consts <= i < consts + carries]
    const_in = [i for i in float_in if i < consts]
    x_in = [i for i in float_in if i >= consts + carries]
    with Builder() as extra:
        for v in local:
            extra.append(cheap[v])
        for node in backward:
            extra.append(node)
        sums_in = [Value(inputs[i].type) for i in const_in]

        def ct_of(i: int) -> Value:
            return or_zeros(found[i], inputs[i].type)

        carry_out = [ct_of(i) for i in carry_in]
        sums_out = []
        for s, i in zip(sums_in, const_in):
            total = add_tangents(s, found[i])
            assert total is not None
            sums_out.append(total)
        x_out = [ct_of(i) for i in x_in]
    float_cts = [c for c in cts if c is not None]
    n_carry = sum(is_float(v.dtype) for v in body.outputs[:carries])
    backward_inputs = [*(inputs[i] for i in saved), *float_cts[:n_carry], *sums_in, *float_cts[n_carry:], *residuals]
    backward_graph = Graph(f"{body.name}.bwd", backward_inputs, extra.nodes, [*carry_out, *sums_out, *x_out])
    forward_graph = Graph(f"{body.name}.fwd", inputs, forward, [*outputs, *residuals])
    return forward_graph, fresh(backward_graph), saved
