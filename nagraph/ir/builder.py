"""Builder: how graphs are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nagraph.ir.emitter import Emitter
from nagraph.ir.emitter import active as active
from nagraph.ir.emitter import active_stack as active_stack
from nagraph.ir.emitter import constant as constant
from nagraph.ir.emitter import current as current
from nagraph.ir.emitter import emit as emit
from nagraph.ir.graph import Graph, Value
from nagraph.ir.types import TensorType


class Builder(Emitter):
    """An emitter that makes a graph of its nodes.

        with Builder() as b:
            x = b.input(TensorType(f32, (4,)))
            graph = b.graph("double", [x + x])
    """

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Value] = []

    def input(self, type: TensorType, name: str = "") -> Value:
        value = self.make_value(type)
        value.name = name
        self.inputs.append(value)
        return value

    def graph(self, name: str, outputs: Sequence[Value]) -> Graph:
        return Graph(name, self.inputs, self.nodes, [self.accept(v) for v in outputs])


def build(name: str, types: Sequence[TensorType], body: Callable[..., Sequence[Value]],
          names: Sequence[str] = ()) -> Graph:
    """The graph of `body` applied to inputs of the given types."""
    with Builder() as builder:
        inputs = [builder.input(t, names[i] if i < len(names) else "") for i, t in enumerate(types)]
        return builder.graph(name, list(body(*inputs)))


def fresh(graph: Graph) -> Graph:
    """The same graph with values of its own."""
    with Builder() as builder:
        inputs = [builder.input(v.type, v.name) for v in graph.inputs]
        return builder.graph(graph.name, builder.inline(graph, inputs))
