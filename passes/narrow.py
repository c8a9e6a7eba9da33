"""Narrowing: values that are read in part are computed in part."""

from __future__ import annotations

from nagraph.ir.graph import Graph
from nagraph.pipeline import any_sizes, graph_pass
from nagraph.transforms.narrowing import narrowed


@graph_pass
@any_sizes
def narrow(graph: Graph) -> Graph:
    """Narrowing: of a value that is read in part, only that part is computed.

    Before   %1 = dot_general(%x, %w)   %2 = tanh(%1)   %3 = slice{start=[0,0], stop=[1,8]}(%2)     %x: f32[64,8]
    After    %1 = slice{start=[0,0], stop=[1,8]}(%x)    %2 = dot_general(%1, %w)   %3 = tanh(%2)

    Reverse mode does the same before it differentiates (`nagraph.transforms.narrowing`), for a gradient that is nothing but zeros
    beyond a part is seen to be so only there. One walk backwards for what is read, one forwards: O(nodes).
    """
    return narrowed(graph)
