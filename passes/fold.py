"""Constant folding."""

from __future__ import annotations

from dataclasses import dataclass

from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.base import Primitive
from nagraph.pipeline import graph_pass


@graph_pass
@dataclass(frozen=True)
class Fold:
    """Constant folding: a node whose operands are all constants becomes a constant, by its NumPy reference.

    Before   %0 = const{2.0}   %1 = const{3.0}   %2 = multiply(%0, %1)
    After    %2 = const{6.0}

    Results above `max_elements` elements stay computed: a broadcast zero is cheaper than its bytes.
    """

    max_elements: int = 1024

    def __call__(self, graph: Graph) -> Graph:
        known: dict[Value, Constant] = {}

        def visit(node: Node) -> tuple[Value, ...] | None:
            if isinstance(node.op, Constant):
                known[node.result] = node.op
                return None
            if (not isinstance(node.op, Primitive) or node.op.effect or node.op.regions
                    or any(v not in known for v in node.operands)
                    or any(r.type.size > self.max_elements for r in node.results)):
                return None
            from nagraph.ir.builder import current

            results = node.op.evaluate(*(known[v].array for v in node.operands))
            made = []
            for array in results if isinstance(results, tuple) else (results,):
                constant = Constant.of(array)
                (value,) = current().emit(constant, ())
                known[value] = constant
                made.append(value)
            return tuple(made)

        return graph.rebuild(visit)
