"""Translation: a walk through a graph that makes the calls of MLX for each node, by the rule of its op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nagraph.backends.mps.arrays import mlx_dtype
from nagraph.backends.mps.calls import Calls
from nagraph.backends.mps.rules import rule_of
from nagraph.errors import NagraphError
from nagraph.ir.builder import build
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.location import located
from nagraph.ir.types import DTYPES, TensorType
from nagraph.ops.base import NARROW_FLOATS

Array = Any
F32 = DTYPES["f32"]


class Translation(Calls):
    """Calls of MLX, and walks through graphs: what a rule is given."""

    _composing = 0

    def walk(self, graph: Graph, operands: Sequence[Array]) -> list[Array]:
        """The outputs of a graph for these inputs."""
        known: dict[Value, Array] = dict(zip(graph.inputs, operands, strict=True))
        self.nodes(graph.nodes, known)
        return [known[v] for v in graph.outputs]

    def nodes(self, nodes: Sequence[Node], known: dict[Value, Array]) -> None:
        """Compute the nodes, of whose operands the arrays are known, and add those of their results."""
        for node in nodes:
            listener = None if self._composing else self._listener
            if listener is not None:
                listener.begin(node)
            try:
                found = self._node(node, [known[v] for v in node.operands])
            except NagraphError as error:
                raise located(error, node.location) from None
            if listener is not None:
                listener.end()
            known.update(zip(node.results, found, strict=True))

    def composed(self, function: Callable[..., Any], *operands: Array) -> Array:
        """A function written with the ops of the house, on arrays of MLX."""
        types = [TensorType(self.dtype(x), tuple(x.shape)) for x in operands]
        self._composing += 1  # the calls are made for the node whose rule asks for them
        (found,) = self.walk(build("composed", types, lambda *values: [function(*values)]), operands)
        self._composing -= 1
        return found

    def _node(self, node: Node, operands: Sequence[Array]) -> list[Array]:
        rule = rule_of(node.op)
        if not rule.narrow and getattr(node.op, "widens", False):
            operands = [self.to(x, F32) if v.dtype in NARROW_FLOATS else x for v, x in zip(node.operands, operands)]
        found = rule.call(self, node.op, *operands)
        return [self._fitted(y, v) for y, v in zip(found if isinstance(found, (tuple, list)) else (found,), node.results, strict=True)]

    def _fitted(self, y: Array, v: Value) -> Array:
        """A result in the dtype and shape of its value, of which rules may leave the rounding to 16 bits and the repetition of a number."""
        y = y if y.dtype == mlx_dtype(v.dtype) else self.to(y, v.dtype)
        return y if tuple(y.shape) == v.shape else self.broadcast_to(y, v.shape)
