"""Control flow as ops that hold graphs: `cond`, `scan`, `while_loop`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import MissingRuleError, TypeRuleError
from nagraph.ir.builder import Builder, current
from nagraph.ir.graph import Graph, Value, kept
from nagraph.ir.op import Array, Cost, Op, op
from nagraph.ir.types import BOOL, DTYPES, TensorType, is_float
from nagraph.ops.region import Region, ResidualForm, check_operands, interpret, region_cost
from nagraph.ops.rules import Maybe, add_tangents, zeros_of

I64 = DTYPES["i64"]


def _types(values: Sequence[Value]) -> tuple[TensorType, ...]:
    return tuple(v.type for v in values)


@op
class Cond(Region):
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

    def reference(self, predicate: Array, *operands: Array) -> tuple[Array, ...]:
        return interpret(self.true if predicate else self.false, operands)

    def vjp(self, cotangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        """A cond of the branches' pullbacks; each recomputes its forward pass, so nothing is saved."""
        from nagraph.transforms.reverse import vjp_graph

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
        return _spread(moved[len(results):], results)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        """With a predicate for each example both branches run, each for the examples that take it, and results are selected."""
        from nagraph.ops.bits import invert
        from nagraph.ops.elementwise import where
        from nagraph.ops.rules import align_batched
        from nagraph.transforms.batching import batch_graph

        if not batched[0]:
            true, false = (batch_graph(g, size, batched[1:]) for g in (self.true, self.false))
            return current().emit(Cond(true, false), operands)
        taken = operands[0]
        chosen = _side(self.true, size, taken, operands[1:], batched[1:])
        others = _side(self.false, size, invert(taken), operands[1:], batched[1:])
        return tuple(where(align_batched(taken, x.ndim - 1), x, y) for x, y in zip(chosen, others))

    def harmless(self, condition: Value, operands: tuple[Value, ...]) -> tuple[Op, tuple[Value, ...]]:
        from nagraph.transforms.batching import harmless

        return Cond(harmless(self.true), harmless(self.false)), (operands[0], condition, *operands[1:])

    def cost(self, *operands: TensorType) -> Cost:
        return max(region_cost(self.true), region_cost(self.false))

    def samples(self, rng: np.random.Generator) -> Any:
        return iter(())


@op
class Scan(Region):
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
        if min(self.consts, self.carries, self.length) < 0 or self.consts + self.carries > len(operands):
            raise TypeRuleError(f"scan: {self.consts} consts, {self.carries} carries and {self.length} steps do not fit "
                                f"{len(operands)} operands; none is negative, and there is an operand for each const and carry")
        consts, carries, xs = self._split(operands)
        for x in xs:
            if not x.shape or x.shape[0] != self.length:
                raise TypeRuleError(f"scan: each x needs {self.length} steps on axis 0, got {x}")
        check_operands("scan", self.body, [*consts, *carries, *(x.with_shape(x.shape[1:]) for x in xs)])
        outs = self.body.output_types
        if outs[:self.carries] != tuple(carries):
            before, after = (", ".join(map(str, t)) for t in (carries, outs[:self.carries]))
            raise TypeRuleError(f"scan: the carry changes type: ({before}) becomes ({after}); cast one of them")
        return (*carries, *(y.with_shape((self.length, *y.shape)) for y in outs[self.carries:]))

    def reference(self, *operands: Array) -> tuple[Array, ...]:
        consts, carries, xs = self._split(operands)
        ys = [np.empty((self.length, *t.shape), t.dtype) for t in self.body.output_types[self.carries:]]
        for t in reversed(range(self.length)) if self.reverse else range(self.length):
            outs = interpret(self.body, [*consts, *carries, *(x[t] for x in xs)])
            carries = list(outs[:self.carries])
            for y, value in zip(ys, outs[self.carries:], strict=True):
                y[t] = value
        return (*carries, *ys)

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
            full = [zeros_of(t) if c is None else c for c, t in zip(cts, result_types, strict=True)
                    if is_float(t.dtype)]
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
        form = self.residual_form(_types(operands))
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
        full = []
        for i in moving:
            tangent = tangents[i]
            full.append(zeros_of(operands[i].type) if tangent is None else tangent)
        every = (*operands, *full)
        op_ = Scan(merged, len(groups[0]), len(groups[1]), self.length, self.reverse)
        found = current().emit(op_, tuple(every[i] for i in order))
        position = {place: found[k] for k, place in enumerate((*carry_out, *y_out))}
        return tuple(position[m + outs_float.index(i)] if i in outs_float else None for i in range(m))

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        from nagraph.ops.movement import moveaxis
        from nagraph.ops.rules import with_batch_axis
        from nagraph.transforms.batching import batch_graph

        consts, carries, xs = self._split(operands)
        const_b, _, xs_b = self._split(batched)
        flags = (*const_b, *(True for _ in carries), *xs_b)
        body = batch_graph(self.body, size, flags)
        starts = [with_batch_axis(c, b, size) for c, b in zip(carries, self._split(batched)[1])]
        moved = [moveaxis(x, 1, 0) if b else x for x, b in zip(xs, xs_b)]
        found = current().emit(Scan(body, self.consts, self.carries, self.length, self.reverse), (*consts, *starts, *moved))
        return (*found[:self.carries], *(moveaxis(y, 0, 1) for y in found[self.carries:]))

    def harmless(self, condition: Value, operands: tuple[Value, ...]) -> tuple[Op, tuple[Value, ...]]:
        from nagraph.transforms.batching import harmless

        return Scan(harmless(self.body), self.consts + 1, self.carries, self.length, self.reverse), (condition, *operands)

    def cost(self, *operands: TensorType) -> Cost:
        each = region_cost(self.body)
        return Cost(each.flops * self.length, each.transcendental * self.length)

    def samples(self, rng: np.random.Generator) -> Any:
        return iter(())


@op
class WhileLoop(Region):
    """Repeats body while the condition holds: x = body(consts, x) while condition(consts, x), at most max_steps times.

    Operands: `consts` invariant values, then the carries. Reverse mode needs `max_steps`.
    """

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

    def reference(self, *operands: Array) -> tuple[Array, ...]:
        consts, carries = operands[:self.consts], tuple(operands[self.consts:])
        steps = 0
        while (self.max_steps is None or steps < self.max_steps) and interpret(self.condition, (*consts, *carries))[0]:
            carries = interpret(self.body, (*consts, *carries))
            steps += 1
        return carries

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
        full = []
        for i in moving:
            tangent = tangents[i]
            full.append(zeros_of(operands[i].type) if tangent is None else tangent)
        every = (*operands, *full)
        consts = self.consts + sum(i < self.consts for i in moving)
        found = current().emit(WhileLoop(condition, body, consts, self.max_steps), tuple(every[i] for i in order))
        return _spread(found[len(results):], results)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        """All examples step together until none wants to; those that are done keep their carry."""
        from nagraph.ops.elementwise import where
        from nagraph.ops.reduction import any as any_of
        from nagraph.ops.rules import align_batched, with_batch_axis
        from nagraph.transforms.batching import batched_call, batched_call_where

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

    def harmless(self, condition: Value, operands: tuple[Value, ...]) -> tuple[Op, tuple[Value, ...]]:
        from nagraph.transforms.batching import harmless

        return WhileLoop(harmless(self.condition), harmless(self.body), self.consts + 1, self.max_steps), (condition, *operands)

    def cost(self, *operands: TensorType) -> Cost:
        steps = 1 if self.max_steps is None else self.max_steps
        each = region_cost(self.body)
        return Cost(each.flops * steps, each.transcendental * steps)

    def samples(self, rng: np.random.Generator) -> Any:
        return iter(())


def _side(graph: Graph, size: int, taken: Value, operands: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    """A branch for the examples that take it. One that may not end runs only if there are any."""
    from nagraph.ops.reduction import any as any_of
    from nagraph.transforms.batching import batched_call_where

    if not _may_not_end(graph):
        return batched_call_where(taken, graph, size, operands, batched)
    with Builder() as builder:
        mask, *inputs = (builder.input(v.type) for v in (taken, *operands))
        run = builder.graph(graph.name, batched_call_where(mask, graph, size, inputs, batched))
    with Builder() as builder:
        inputs = [builder.input(v.type) for v in (taken, *operands)]
        skip = builder.graph("skip", [zeros_of(t) for t in run.output_types])
    return current().emit(Cond(run, skip), (any_of(taken), taken, *operands))


def _may_not_end(graph: Graph) -> bool:
    """Whether there is a loop of unknown length inside."""
    seen, waiting = {id(graph)}, [graph]
    while waiting:
        for node in waiting.pop().nodes:
            if isinstance(node.op, WhileLoop):
                return True
            new = [g for g in node.op.regions.values() if id(g) not in seen]
            seen.update(map(id, new))
            waiting += new
    return False


def _spread(tangents: Sequence[Value], results: Sequence[Value]) -> tuple[Maybe, ...]:
    """Tangents of the floating results, None for the others."""
    found = iter(tangents)
    return tuple(next(found) if is_float(r.dtype) else None for r in results)


@kept
def jvp_graph(graph: Graph, moving: Sequence[int]) -> Graph:
    """The graph (inputs, tangents of the inputs `moving`) -> (outputs, tangents of the floating outputs)."""
    from nagraph.transforms.reverse import pushforward

    with Builder() as builder:
        inputs = [builder.input(v.type, v.name) for v in graph.inputs]
        tangents: list[Maybe] = [None] * len(inputs)
        for i in moving:
            tangents[i] = builder.input(graph.inputs[i].type)
        outputs, moved = pushforward(graph, inputs, tangents)
        floats = [zeros_of(o.type) if t is None else t for o, t in zip(outputs, moved) if is_float(o.dtype)]
        return builder.graph(f"{graph.name}.jvp", [*outputs, *floats])


@kept
def split_body(body: Graph, consts: int, carries: int) -> tuple[Graph, Graph, list[int]]:
    """A loop body's derivative in two halves.

    Forward: inputs -> outputs, residuals. Backward: (saved consts, cotangents of the carries,
    running sums for the consts, cotangents of the ys, residuals) -> (cotangents of the carries,
    sums, cotangents of the xs). Third, which consts the backward half reads: they need no stacking.
    """
    from nagraph.transforms.reverse import pullback

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
            c = found[i]
            return zeros_of(inputs[i].type) if c is None else c

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


def fresh(graph: Graph) -> Graph:
    """The same graph with values of its own."""
    with Builder() as builder:
        inputs = [builder.input(v.type, v.name) for v in graph.inputs]
        return builder.graph(graph.name, builder.inline(graph, inputs))
