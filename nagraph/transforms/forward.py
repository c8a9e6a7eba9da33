"""Forward mode as a graph transform: tangents of outputs beside the outputs. Zeros are symbolic (None)."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.errors import MissingRuleError, TypeRuleError
from nagraph.ir.builder import Builder, current
from nagraph.ir.graph import Graph, Value, kept
from nagraph.ir.location import located
from nagraph.ir.types import is_float
from nagraph.ops.rules import Maybe, or_zeros
from nagraph.ops.width import derivative


def pushforward(graph: Graph, operands: Sequence[Value], tangents: Sequence[Maybe]) -> tuple[list[Value], list[Maybe]]:
    """Emit `graph` on `operands`; the outputs and their tangents J t (None is zero)."""
    builder = current()
    env: dict[Value, Value] = dict(zip(graph.inputs, map(builder.accept, operands), strict=True))
    moved: dict[Value, Value] = {v: t for v, t in zip(graph.inputs, tangents, strict=True) if t is not None}
    for node in graph.nodes:
        with builder.at(node.location):
            inner = tuple(env[v] for v in node.operands)
            results = builder.emit(node.op, inner)
            env.update(zip(node.results, results, strict=True))
            given = tuple(moved.get(v) for v in node.operands)
            if all(t is None for t in given) or not any(is_float(r.dtype) and r.size != 0 for r in node.results):
                continue
            try:
                found = derivative(node.op, node.op.jvp, given, results, inner, like=results)
            except (MissingRuleError, TypeRuleError) as error:
                raise located(error, node.location) from None
            moved.update((r, t) for r, t in zip(node.results, found, strict=True) if t is not None and is_float(r.dtype))
    return [env[v] for v in graph.outputs], [moved.get(v) for v in graph.outputs]


@kept
def jvp_graph(graph: Graph, moving: Sequence[int]) -> Graph:
    """The graph (inputs, tangents of the inputs `moving`) -> (outputs, tangents of the floating outputs)."""
    with Builder() as builder:
        inputs = [builder.input(v.type, v.name) for v in graph.inputs]
        tangents: list[Maybe] = [None] * len(inputs)
        for i in moving:
            tangents[i] = builder.input(graph.inputs[i].type)
        outputs, moved = pushforward(graph, inputs, tangents)
        floats = [or_zeros(t, o.type) for o, t in zip(outputs, moved) if is_float(o.dtype)]
        return builder.graph(f"{graph.name}.jvp", [*outputs, *floats])
