"""Keys of programs: all that a program follows from, beside the backend that makes it. What backends keep on disk is found by them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nagraph.ir.graph import Graph
from nagraph.ir.nested import nested_graphs
from nagraph.ir.op import Op
from nagraph.ir.printer import format_graph
from nagraph.thresholds import changed


def rules_are_ours(op: Op) -> bool:
    """Whether an op is of this package, whose sources are part of every key: users' own ops may change while their names stay."""
    return type(op).__module__.partition(".")[0] == "nagraph"


def program_key(graph: Graph, options: str, donations: Mapping[int, int]) -> str | None:
    """What the program of a traced graph follows from; None if that can't be told, since an op is the user's own.

    options: in words, what else it follows from, such as the pipeline. donations: output number -> number of the input whose
    array it may take.
    """
    if not all(rules_are_ours(node.op) for g in nested_graphs(graph) for node in g.nodes):
        return None
    return json.dumps([options, changed(), sorted(donations.items()), format_graph(graph, blobs=False, locations=False)])
