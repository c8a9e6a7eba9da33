"""Rematerialisation: cheap values are computed by their readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nagraph import choices
from nagraph.analysis.axes import is_pointwise, keeps_order, only_reshapes
from nagraph.analysis.index_values import made_of_indices
from nagraph.fusion.groups import grow
from nagraph.fusion.legality import joins
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ops.identities import Recompute
from nagraph.pipeline import graph_pass

#: A value is small beside one of this many times its elements: to read it as well costs little.
SMALL = 16


@graph_pass
@dataclass(frozen=True)
class Rematerialize:
    """Rematerialisation: what is cheap to compute from values in memory is computed by its readers, and not stored.

    Before   %1 = subtract(%0, %mean)   %2 = square(%1)   %3 = sum{axes=[0]}(%2)      %0 is stored: others read it as well
    After    %1 = recompute(%0)   %2 = subtract(%1, %mean)   %3 = square(%2)   %4 = sum{axes=[0]}(%3)

    Legal: the same operations on the same values. Profitable: `most` operations at most, none of them a function like exp, on
    one large value that is stored anyway, so that a reader reads as much as before; or on two, if there is but one reader. It
    is done for readers outside the group of nodes that would share a kernel with it (`nagraph.fusion.groups`), for all of them
    or none, so that a write is saved. It is for backends of kernels, before fusion, which ends at `recompute`. Near-linear in the nodes.
    """

    most: int = 4
    min_nbytes: int = 1 << 16
    max_nodes: int = 128

    def __call__(self, graph: Graph) -> Graph:
        recomputed = _Recomputed(self, graph)
        if not recomputed.chosen:
            return graph
        again: dict[tuple[int, Value], Value] = {}

        def repeat(v: Value, group: int) -> Value:
            """v computed once more, by the nodes of a group."""
            if (group, v) not in again:
                node = graph.producers[v]
                operands = [x if recomputed.is_small(x, v) else repeat(x, group) if recomputed.is_repeated(x) else root(x)
                            for x in node.operands]
                (again[group, v],) = current().emit(node.op, operands)
            return again[group, v]

        def root(v: Value) -> Value:
            if (-1, v) not in again:
                again[-1, v] = Recompute()(v)
            return again[-1, v]

        def visit(node: Node) -> Node:
            group = recomputed.group_of(node)
            return node.with_operands(tuple(
                repeat(v, group) if v in recomputed.chosen and recomputed.group_of(graph.producers[v]) != group else v
                for v in node.operands))

        return graph.rebuild(visit)


class Recomputation(NamedTuple):
    """A recomputation says how a value is computed again: from which large values in memory, by how many operations."""

    roots: frozenset[Value]
    operations: int


class _Recomputed:
    """The values that their readers compute for themselves."""

    def __init__(self, options: Rematerialize, graph: Graph):
        self.options, self.graph = options, graph
        self.everywhere = made_of_indices(graph)
        self.outputs = set(graph.outputs)
        self.groups = {n: i for i, nodes in enumerate(grow(graph, options.max_nodes, True, self.everywhere)) for n in nodes}
        self.numbers = {n: len(self.groups) + i for i, n in enumerate(graph.nodes)}
        self.recomputations: dict[Value, Recomputation] = {}
        self.readers: dict[Value, list[Node]] = {}
        self.chosen: set[Value] = set()
        for node in graph.nodes:
            found = self._recomputation(node)
            if found is not None:
                self.recomputations[node.result] = found
                if self._pays(node, found):
                    self.chosen.add(node.result)

    def group_of(self, node: Node) -> int:
        """The number of the group of a node; one of its own if it is alone."""
        return self.groups.get(node, self.numbers[node])

    def is_small(self, v: Value, beside: Value) -> bool:
        """Whether reading v costs little beside another value, or nothing at all."""
        return v.type.size * SMALL <= beside.type.size or v in self.everywhere

    def is_repeated(self, v: Value) -> bool:
        """Whether v is computed again where something that follows from it is."""
        return v in self.recomputations and (v in self.chosen or not self._is_stored(v))

    def _recomputation(self, node: Node) -> Recomputation | None:
        """How the node's result can be computed by others, if it can be."""
        if node.op.weight > 1 or node.op.has_effect or not keeps_order(node):
            return None
        v, roots, count = node.result, set[Value](), int(not node.op.view)
        for x in node.operands:
            if self.is_small(x, v):
                continue
            if self.is_repeated(x):
                roots |= self.recomputations[x].roots
                count += self.recomputations[x].operations
            elif self._is_stored(x):
                roots.add(x)
            else:
                return None
        return Recomputation(frozenset(roots), count) if count <= self.options.most else None

    def _pays(self, node: Node, found: Recomputation) -> bool:
        """Whether all that read the value can compute it, and read no more for it than they save."""
        v = node.result
        readers = self._outside(v, node)
        least = choices.least("rematerialize", self.options.min_nbytes)
        if v in self.outputs or node.op.view or v.type.nbytes < least or not readers:
            return False
        if not found.roots or not all(self._can_compute(u) for u in readers):
            return False
        several = len({self._reader_group(u) for u in readers}) > 1
        pays = sum(r.type.nbytes for r in found.roots) <= (1 if several else 2) * v.type.nbytes
        return choices.takes("rematerialize", pays, self.numbers[node])

    def _outside(self, v: Value, node: Node) -> list[Node]:
        """The nodes of other groups that read a result of a node."""
        if v not in self.readers:
            group = self.group_of(node)
            self.readers[v] = [u for u in self.graph.uses[v] if self.group_of(u) != group]
        return self.readers[v]

    def _is_stored(self, v: Value) -> bool:
        """Whether a value is in memory: given, wanted, or read by other groups as it is."""
        node = self.graph.producers.get(v)
        return node is None or v in self.outputs or (v not in self.chosen and bool(self._outside(v, node)))

    def _can_compute(self, reader: Node) -> bool:
        """Whether a node can share a kernel with what makes its operand: elementwise or a reduction, or a view for one of these."""
        if only_reshapes(reader):
            uses = self.graph.uses[reader.result]
            return len(uses) == 1 and reader.result not in self.outputs and self._can_compute(uses[0])
        op = reader.op
        return joins(reader) and not op.contracts if op.folds else not op.view and is_pointwise(reader)

    def _reader_group(self, reader: Node) -> int:
        return self._reader_group(self.graph.uses[reader.result][0]) if only_reshapes(reader) else self.group_of(reader)
