"""Fusion: chains of elementwise, broadcast, movement and reduction nodes become regions that run row by row."""

from __future__ import annotations

from dataclasses import dataclass

from nagraph import choices
from nagraph.analysis.constants import HOIST_NBYTES
from nagraph.analysis.index_values import Made, made_of_indices
from nagraph.fusion.groups import grow
from nagraph.fusion.legality import joins
from nagraph.fusion.outline import outlined
from nagraph.fusion.remark import Listener, Remark, region_label
from nagraph.ir.graph import Graph, Node
from nagraph.pipeline import graph_pass


@graph_pass
@dataclass(frozen=True)
class Fuse:
    """Fusion: nodes that compute each row from the same row of their operands become one `call` of kind "fused".

    Before   %1 = add(%0, %b)   %2 = tanh(%1)   %3 = sum{axes=[1]}(%2)
    After    %3 = call{label="add_tanh_sum", kind="fused", body=@fused}(%0, %b)

    Legal: there is a number of rows in which all members are row-wise, which the axis relations of their ops say
    (`nagraph.fusion`), and no path leaves the region and comes back. Profitable: a tensor of `min_nbytes` or more would
    otherwise travel through memory between two members. Views at the end of a region stay outside,
    where they cost nothing. Linear in the nodes.

    `kernels` is for backends that make one kernel of a region: matrix products, padding, joining, gathering and random bits join
    as well, what is read from outside may be read anywhere (`nagraph.fusion.legality`), and what follows from indices alone is computed
    again in every region that reads it. Without it no node is computed twice. There, `max_nodes` bounds what a kernel costs to compile:
    exp counts as three nodes, sin as thirteen.
    """

    max_nodes: int = 64
    min_nbytes: int = 1 << 16
    kernels: bool = False

    def __call__(self, graph: Graph, why: Listener | None = None) -> Graph:
        regions = []
        everywhere = made_of_indices(graph) if self.kernels else {}
        groups = grow(graph, self.max_nodes, self.kernels, everywhere, why)
        grown = {n for g in groups for n in g}
        for g in [*groups, *([n] for n in graph.nodes if n not in grown and self._reads_made(n, everywhere))]:
            pays = self._pays(graph, g, everywhere)
            if pays:
                regions.append(g)
            if why:
                reason = "" if pays else f"no value of {self.min_nbytes} bytes or more between its nodes"
                why(Remark(tuple(g), pays, reason, _saved(graph, g)))
        return outlined(graph, regions, everywhere) if regions else graph

    def _reads_made(self, node: Node, everywhere: Made) -> bool:
        """Whether a node reads a large value that its kernel can make of indices: then it is a region with what makes it."""
        return (not any(v in everywhere for v in node.results) and joins(node)
                and any(v in everywhere and v.type.nbytes > HOIST_NBYTES for v in node.operands))

    def _pays(self, graph: Graph, region: list[Node], everywhere: Made) -> bool:
        inside = set(region)
        if len(region) == 1:
            return self._reads_made(region[0], everywhere)
        between = (r for n in region for r in n.results if not n.op.view and any(u in inside for u in graph.uses[r]))
        pays = any(r.type.nbytes >= self.min_nbytes for r in between)
        return choices.takes("fuse", pays, region_label(region), len(region))


def _saved(graph: Graph, region: list[Node]) -> int:
    """Bytes of reads and writes between nodes of the region: of a value that is read outside as well, of its reads alone."""
    inside, total = set(region), 0
    for r in (r for n in region if not n.op.view for r in n.results):
        readers = graph.uses[r]
        within = sum(u in inside for u in readers)
        total += r.type.nbytes * (within + (within == len(readers) > 0 and r not in graph.output_values))
    return total
