"""What a graph computes, by the NumPy references of its ops."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.errors import NagraphError
from nagraph.ir.graph import Graph, Value
from nagraph.ir.location import located
from nagraph.ir.op import Array
from nagraph.ir.size_binding import bound


def interpret(graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of `graph`, node by node with each op's NumPy reference; sizes that are known later are those of the arrays."""
    if graph.dims:
        names = [v.name or f"input {i}" for i, v in enumerate(graph.inputs)]
        graph = graph.specialise(bound([v.shape for v in graph.inputs], [a.shape for a in arrays], names))
    env: dict[Value, Array] = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.nodes:
        try:
            results = node.op.evaluate(*(env[v] for v in node.operands))
        except NagraphError as error:
            raise located(error, node.location) from None
        env.update(zip(node.results, results if isinstance(results, tuple) else (results,), strict=True))
    return tuple(env[v] for v in graph.outputs)
