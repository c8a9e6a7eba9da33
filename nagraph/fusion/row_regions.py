"""Row regions run block of rows after block of rows: every node computes a row of its result from the same row of its operands.

They are for backends whose steps are nodes, such as NumPy's: what is between the nodes of a region is only as large as a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nagraph.analysis.axes import relations
from nagraph.fusion.rows import prefix, row_counts, row_forms
from nagraph.ir.builder import Builder
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import TensorType


def joins_by_rows(node: Node) -> bool:
    """Whether a node may be part of a row region: its op says how rows come from rows, of one result, and does no more than that.

    Matrix products stay whole: NumPy would compute a block of their rows in another order of additions, and more slowly. What is
    joined or padded stays outside as well: it is copied no faster block by block.
    """
    op = node.op
    if not node.operands or op.contracts or op.stores or op.ends_fusion or op.has_effect or op.may_end_the_call:
        return False
    return relations(node) is not None and op.parts(*[v.type for v in node.operands]) is None


def node_forms(node: Node, producers: Mapping[Value, Node]) -> dict[int, dict[Value, bool]]:
    """For each number of rows in which a node is row-wise, its values: cut into rows, or the same for all. Constants are left out."""
    found: dict[int, dict[Value, bool]] = {}
    given = relations(node) if joins_by_rows(node) else None
    if given is None:
        return found
    for rows in row_counts(node.result.shape):
        forms: dict[Value, bool] = {node.result: True}
        for v, form in zip(node.operands, row_forms(given, node.result, node.operands, rows)):
            producer = producers.get(v)
            if producer is not None and isinstance(producer.op, Constant):
                if form is not False:
                    break
            elif form is None or forms.setdefault(v, form) != form:
                break
        else:
            found[rows] = forms
    return found


@dataclass(frozen=True)
class RowSplit:
    """A row split is the number of rows of a region, and the values that are cut into rows."""

    rows: int
    split: frozenset[Value]


def row_split(graph: Graph) -> RowSplit | None:
    """The split into the most rows in which all of a region is row-wise, or None."""
    widest = max((r.shape for n in graph.nodes for r in n.results), key=lambda s: TensorType(graph.outputs[0].dtype, s).size,
                 default=())
    forms = {n: node_forms(n, graph.producers) for n in graph.nodes if not isinstance(n.op, Constant)}
    for rows in row_counts(widest):
        if all(rows in f for f in forms.values()):
            found: dict[Value, bool] = {n.result: False for n in graph.nodes if isinstance(n.op, Constant)}
            agree = all(found.setdefault(v, form) == form for f in forms.values() for v, form in f[rows].items())
            if agree and all(found.get(v, False) for v in graph.outputs):
                return RowSplit(rows, frozenset(v for v, form in found.items() if form))
    return None


def row_bytes(graph: Graph, split: RowSplit) -> int:
    """Bytes of one row of the widest tensor of a region."""
    return max(-(-v.type.nbytes // split.rows) for v in split.split)


def row_axis(shape: tuple[int, ...]) -> int:
    """The axis along which the rows of a block of such a tensor lie: the first that is not of size 1."""
    return next(a for a, n in enumerate(shape) if n != 1)


def block_type(type: TensorType, rows: int, size: int) -> TensorType:
    """The type of `size` rows of a tensor: they lie along its `row_axis`, its other axes of rows are of size 1."""
    p, axis = prefix(type.shape, rows), row_axis(type.shape)
    assert p is not None
    return type.with_shape((*(size if a == axis else 1 for a in range(p)), *type.shape[p:]))


def block_graph(graph: Graph, split: RowSplit, size: int) -> Graph:
    """The region for `size` of its rows."""
    def in_block(v: Value) -> TensorType:
        return block_type(v.type, split.rows, size) if v in split.split else v.type

    new: dict[Value, Value] = {}
    with Builder() as builder:
        for v in graph.inputs:
            new[v] = builder.input(in_block(v), v.name)
        for node in graph.nodes:
            with builder.at(node.location):
                operands = [new[v] for v in node.operands]
                op = node.op.with_sizes(in_block(node.result), *(v.type for v in operands)) if operands else node.op
                (new[node.result],) = builder.emit(op, operands)
        return builder.graph(graph.name, [new[v] for v in graph.outputs])
