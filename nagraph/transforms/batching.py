"""Batching as a graph transform: a graph of one example becomes a graph of many, axis 0 running over them."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.errors import MissingRuleError, TypeRuleError
from nagraph.ir.builder import Builder, current
from nagraph.ir.graph import Graph, Value, kept
from nagraph.ir.location import located
from nagraph.ir.types import TensorType, is_float
from nagraph.ops.arg_extremum import argmax
from nagraph.ops.elementwise import where
from nagraph.ops.identities import stop_gradient
from nagraph.ops.indexing import take
from nagraph.ops.reduction import any as any_of
from nagraph.ops.reduction import sum as sum_of
from nagraph.ops.rules import align_batched, checked, with_batch_axis


def batched_call(graph: Graph, size: int, operands: Sequence[Value], batched: Sequence[bool]) -> list[tuple[Value, bool]]:
    """Emit `graph` for `size` examples; each output with whether it has the batch axis (in front)."""
    builder = current()
    env: dict[Value, tuple[Value, bool]] = {
        v: (builder.accept(x), b) for v, x, b in zip(graph.inputs, operands, batched, strict=True)
    }
    for node in graph.nodes:
        inner = tuple(env[v][0] for v in node.operands)
        flags = tuple(env[v][1] for v in node.operands)
        with builder.at(node.location):
            if any(flags):
                try:
                    shapes = [(size, *r.shape) for r in node.results]
                    results = checked(node.op, "batch", node.op.batch(size, inner, flags), shapes, zeros=False)
                except (MissingRuleError, TypeRuleError) as error:
                    raise located(error, node.location) from None
            else:
                results = builder.emit(node.op, inner)
        for r, x in zip(node.results, results, strict=True):
            env[r] = (x, any(flags))
    return [env[v] for v in graph.outputs]


@kept
def batch_graph(graph: Graph, size: int, batched: Sequence[bool]) -> Graph:
    """The graph of `size` examples at once; every output gets the batch axis."""
    with Builder() as builder:
        inputs = [
            builder.input(TensorType(v.dtype, (size, *v.shape)) if b else v.type, v.name)
            for v, b in zip(graph.inputs, batched, strict=True)
        ]
        outputs = [with_batch_axis(x, b, size) for x, b in batched_call(graph, size, inputs, batched)]
        return builder.graph(graph.name, outputs)


@kept
def batch_derivative(fwd: Graph, bwd: Graph, count: int, size: int, batched: Sequence[bool]) -> tuple[Graph, Graph]:
    """The two halves of a declared derivative for `size` examples at once; `fwd` gives `count` results and then residuals.

    Residuals that no example has of its own are kept once; cotangents of operands that all examples share are summed over them.
    """
    types = [TensorType(t.dtype, (size, *t.shape)) if b else t for t, b in zip(fwd.input_types, batched, strict=True)]
    with Builder() as builder:
        found = batched_call(fwd, size, [builder.input(t) for t in types], batched)
        results = [with_batch_axis(x, b, size) for x, b in found[:count]]
        forward = builder.graph(fwd.name, [*results, *(x for x, _ in found[count:])])
    with Builder() as builder:
        inputs = [builder.input(t) for t in (*forward.output_types[count:], *forward.output_types[:count])]
        flags = [*(b for _, b in found[count:]), *(True for _ in results)]
        cts = [with_batch_axis(x, b, size) for x, b in batched_call(bwd, size, inputs, flags)]
        own = [b for t, b in zip(types, batched) if is_float(t.dtype)]
        return forward, builder.graph(bwd.name, [c if b else sum_of(c, axis=0) for c, b in zip(cts, own, strict=True)])


def batched_call_where(taken: Value, graph: Graph, size: int, operands: Sequence[Value], batched: Sequence[bool]) -> list[Value]:
    """Emit `graph` for the examples that are `taken` (bool[size]); each output has the batch axis, and of the others any values.

    The others compute on the operands of the first one that is taken. So neither what `graph` makes of their own
    operands (nan, inf, a loop without end) nor its derivative there reaches anything: a selection of the outputs sends
    them cotangents of zero, and these meet slopes that are as finite as those of an example that counts. Where none is
    taken, the slopes may be nan: what comes back for their own operands is dropped by the selections below.
    """
    if graph.nodes and size != 0:
        first, some = argmax(taken), any_of(taken)
        operands = [
            where(align_batched(taken, x.ndim - 1), x, stop_gradient(take(x, first, axis=0))) if b
            else where(some, x, stop_gradient(x)) if is_float(x.dtype) else x
            for x, b in zip(operands, batched, strict=True)
        ]
    return [with_batch_axis(x, b, size) for x, b in batched_call(graph, size, operands, batched)]
