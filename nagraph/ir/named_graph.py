"""Graphs of files: with the names that a file has for inputs and outputs, which may be any texts."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.ir.graph import Graph


class NamedGraph(Graph):
    """A named graph is a `Graph` with names for its inputs and outputs."""

    def __init__(self, graph: Graph, input_names: Sequence[str], output_names: Sequence[str]):
        super().__init__(graph.name, graph.inputs, graph.nodes, graph.outputs)
        self.input_names, self.output_names = tuple(input_names), tuple(output_names)
