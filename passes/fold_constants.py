"""Constant folding."""

from __future__ import annotations

from dataclasses import dataclass

from nagraph import choices
from nagraph.analysis.constants import affordable
from nagraph.ir.constant import Constant
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.op import Array
from nagraph.ops.base import Primitive
from nagraph.pipeline import any_sizes, graph_pass


@graph_pass
@any_sizes
@dataclass(frozen=True)
class FoldConstants:
    """Constant folding: a node whose operands are all constants becomes a constant, by its NumPy reference.

    Before   %0 = const{2.0}   %1 = const{3.0}   %2 = multiply(%0, %1)
    After    %2 = const{6.0}

    Results above `max_elements` elements stay computed, and so does what reads or works much (`nagraph.analysis.constants`), and a
    view that is larger than its operand: a broadcast zero is cheaper than its bytes. What is computed from such a view is folded.
    Of sizes that are known later nothing is computed.
    """

    max_elements: int = 1024

    def __call__(self, graph: Graph) -> Graph:
        known: dict[Value, Array] = {}

        def visit(node: Node) -> tuple[Value, ...] | None:
            if isinstance(node.op, Constant):
                known[node.result] = node.op.array
                return None
            if (not isinstance(node.op, Primitive) or node.op.effect or node.op.can_fail or node.op.on_host
                    or node.op.regions or node.op.dims or any(v not in known for v in node.operands)
                    or any(r.type.size > self.max_elements for r in node.results) or not affordable(node)
                    or not choices.takes("fold_constants", True, str(node.op), len(known))):
                return None
            found = node.op.evaluate(*(known[v] for v in node.operands))
            arrays = found if isinstance(found, tuple) else (found,)
            if node.op.view and node.result.type.size > node.operands[0].type.size:
                known[node.result] = arrays[0]
                return None
            constants = [Constant.of(a) for a in arrays]
            made = tuple(current().emit(c, ())[0] for c in constants)
            known.update((v, c.array) for v, c in zip(made, constants))
            return made

        return graph.rebuild(visit)
