"""Reverse mode as a graph transform: cotangents of inputs from those of outputs.

It walks a graph once and emits into the active builder with the rules that the ops declare, so
derivatives are graphs, and derivatives of derivatives need nothing new. Zeros are symbolic (None).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nagraph.errors import MissingRuleError, SignatureError, TypeRuleError
from nagraph.ir.builder import Builder, current
from nagraph.ir.graph import Graph, Node, Value, kept
from nagraph.ir.location import located
from nagraph.ir.types import is_float
from nagraph.ops.rules import Maybe, add_tangents, ones_of, or_zeros
from nagraph.ops.width import derivative
from nagraph.transforms.narrowing import narrowed

Pull = Callable[[Sequence[Maybe]], list[Maybe]]
Backward = Callable[[tuple[Maybe, ...]], tuple[Maybe, ...]]


def pullback(graph: Graph, operands: Sequence[Value], wrt: Sequence[int] | None = None) -> tuple[list[Value], Pull]:
    """Emit `graph` on `operands`; the outputs, and a function from their cotangents to the inputs'.

    pull(ct) = Jᵀ ct, one value for each index in `wrt` (default: all inputs), None where zero.
    O(nodes). An op on the way without a derivative raises MissingRuleError with the user's line.
    """
    builder = current()
    graph = narrowed(graph)  # so that what is not read has no derivative either
    which = range(len(operands)) if wrt is None else wrt
    env: dict[Value, Value] = dict(zip(graph.inputs, map(builder.accept, operands), strict=True))
    depends = {graph.inputs[i] for i in which if is_float(graph.inputs[i].dtype)}
    tape: list[tuple[Node, Backward]] = []
    for node in graph.nodes:
        with builder.at(node.location):
            inner = tuple(env[v] for v in node.operands)
            active = any(v in depends for v in node.operands) and any(is_float(r.dtype) for r in node.results)
            form = node.op.residual_form(tuple(v.type for v in inner)) if active else None
            if form is not None:
                found = builder.emit(form.forward, inner)
                results, residuals = found[:len(node.results)], found[len(node.results):]
                tape.append((node, _residual_backward(form.backward, residuals, inner)))
            else:
                results = builder.emit(node.op, inner)
                if active:
                    tape.append((node, _rule_backward(node, results, inner)))
            env.update(zip(node.results, results, strict=True))
            if active:
                depends.update(r for r in node.results if is_float(r.dtype))

    def pull(cotangents: Sequence[Maybe]) -> list[Maybe]:
        builder = current()
        cts: dict[Value, Value] = {}
        makers: dict[Value, Node] = {}  # of the cotangents
        _accumulate(cts, makers, depends, graph.outputs, cotangents)
        for node, backward in reversed(tape):
            given = tuple(cts.pop(r, None) for r in node.results)
            # Of nothing, or by nothing, the derivative is zero: rules need not know what that is for them.
            if all(c is None or c.size == 0 for c in given) or not any(v in depends and v.size != 0 for v in node.operands):
                continue
            with builder.at(node.location):
                mark = len(builder.nodes)
                found = backward(given)
                makers.update((r, n) for n in builder.nodes[mark:] for r in n.results)
                _accumulate(cts, makers, depends, node.operands, found)
        return [cts.get(graph.inputs[i]) for i in which]

    return [env[v] for v in graph.outputs], pull


def _rule_backward(node: Node, results: tuple[Value, ...], operands: tuple[Value, ...]) -> Backward:
    def backward(cts: tuple[Maybe, ...]) -> tuple[Maybe, ...]:
        try:
            return derivative(node.op, node.op.vjp, cts, results, operands, like=operands)
        except (MissingRuleError, TypeRuleError) as error:
            raise located(error, node.location) from None

    return backward


def _residual_backward(rule: Callable[..., tuple[Maybe, ...]], residuals: tuple[Value, ...],
                       operands: tuple[Value, ...]) -> Backward:
    return lambda cts: rule(residuals, cts, operands)


def _accumulate(cts: dict[Value, Value], makers: dict[Value, Node], depends: set[Value], values: Sequence[Value],
                found: Sequence[Maybe]) -> None:
    for v, c in zip(values, found, strict=True):
        if c is not None and v in depends:
            before = cts.get(v)
            cts[v] = c if before is None else _sum(before, c, makers)


def _sum(a: Value, b: Value, makers: dict[Value, Node]) -> Value:
    """a + b, as the ops that made them add their results where they know how."""
    first, second = makers.get(a), makers.get(b)
    mark = len(current().nodes)
    total = None if first is None or second is None else first.op.plus(first.operands, second.op, second.operands)
    if total is None:
        total = add_tangents(a, b)
        assert total is not None
    makers.update((r, n) for n in current().nodes[mark:] for r in n.results)
    return total


@kept
def vjp_graph(graph: Graph, wrt: Sequence[int] | None = None, seeds: Sequence[int] | None = None,
              name: str = "", with_outputs: bool = False) -> Graph:
    """The graph (inputs, cotangents of the outputs `seeds`) -> cotangents of the inputs `wrt`, zeros made explicit."""
    seeded = list(range(len(graph.outputs)) if seeds is None else seeds)
    which = [i for i, t in enumerate(graph.input_types) if is_float(t.dtype)] if wrt is None else list(wrt)
    with Builder() as builder:
        inputs = [builder.input(v.type, v.name) for v in graph.inputs]
        outputs, pull = pullback(graph, inputs, which)
        cts: list[Maybe] = [None] * len(graph.outputs)
        for i in seeded:
            cts[i] = builder.input(graph.outputs[i].type, f"ct{i}")
        found = [or_zeros(c, graph.input_types[i]) for i, c in zip(which, pull(cts), strict=True)]
        return builder.graph(name or f"{graph.name}.vjp", [*outputs, *found] if with_outputs else found)


def grad_graph(graph: Graph, argnums: int | Sequence[int] = 0) -> Graph:
    """The gradient of a graph with one scalar floating output, as a graph of the same inputs."""
    if len(graph.outputs) != 1 or graph.output_types[0].shape or not is_float(graph.output_types[0].dtype):
        shown = ", ".join(map(str, graph.output_types))
        raise SignatureError(f"grad: the graph {graph.name} must have one floating scalar output, it has ({shown})")
    which = [argnums] if isinstance(argnums, int) else list(argnums)
    with Builder() as builder:
        inputs = [builder.input(v.type, v.name) for v in graph.inputs]
        outputs, pull = pullback(graph, inputs, which)
        found = pull([ones_of(outputs[0].type)])
        grads = [or_zeros(c, graph.input_types[i]) for i, c in zip(which, found, strict=True)]
        return builder.graph(f"{graph.name}.grad", grads)
