"""Rows: which regions compute each row of their tensors from the same row of their operands, and such a region for a block of rows.

A tensor has R rows if its leading axes multiply to R. A node is row-wise if row i of its result
reads row i of its operands, or operands that are the same for all rows (a bias, a scalar).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from nagraph.ir.builder import Builder
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.op import Op
from nagraph.ir.types import TensorType
from nagraph.ops.base import Cast, Elementwise
from nagraph.ops.identities import StopGradient
from nagraph.ops.movement import Broadcast, Reshape, Transpose
from nagraph.ops.reduction import Reduction
from nagraph.ops.slicing import Slice

Shape = tuple[int, ...]


def prefix(shape: Shape, rows: int) -> int | None:
    """The number of leading axes that multiply to `rows` (more than 1): the fewest; None if no number does."""
    product = 1
    for p, size in enumerate(shape, 1):
        product *= size
        if product == rows:
            return p
    return None


def row_counts(shape: Shape) -> list[int]:
    """The numbers of rows above 1 that a shape can be cut into, largest first."""
    counts: list[int] = []
    product = 1
    for size in shape:
        product *= size
        if product > 1 and (not counts or counts[-1] != product):
            counts.append(product)
    return counts[::-1]


def fusible(op: Op) -> bool:
    """Whether an op can be part of a fused region."""
    if isinstance(op, Reduction):
        return [f.name for f in dataclasses.fields(op)] == ["axes"]  # type: ignore[arg-type]
    return isinstance(op, (Elementwise, Cast, StopGradient, Broadcast, Reshape, Transpose, Slice))


def operand_forms(node: Node, rows: int) -> tuple[bool, ...] | None:
    """For each operand whether it is cut into rows (else it is the same for all rows); None if the node is not row-wise."""
    op, x = node.op, node.operands[0]
    if isinstance(op, (Elementwise, Cast, StopGradient, Broadcast)):
        shape = node.result.shape
        p = prefix(shape, rows)
        if p is None:
            return None
        forms = []
        for v in node.operands:
            lead = ((1,) * (len(shape) - v.ndim) + v.shape)[:p]
            if lead == shape[:p]:
                forms.append(True)
            elif all(size == 1 for size in lead):
                forms.append(False)
            else:
                return None
        return tuple(forms)
    p = prefix(x.shape, rows)
    if p is None or prefix(node.result.shape, rows) is None:
        return None
    if isinstance(op, Reshape):
        return (True,)
    if isinstance(op, Transpose):
        return (True,) if op.axes[:p] == tuple(range(p)) else None
    if isinstance(op, Slice):
        whole = all(a == 0 and b == n and s == 1 for a, b, s, n in zip(op.start[:p], op.stop, op.step, x.shape))
        return (True,) if whole else None
    if isinstance(op, Reduction):
        return (True,) if op.axes and min(op.axes) >= p else None
    return None


def node_forms(node: Node, producers: Mapping[Value, Node]) -> dict[int, dict[Value, bool]]:
    """For each number of rows in which a node is row-wise, its values: cut into rows, or the same for all. Constants are left out."""
    shape = node.operands[0].shape if isinstance(node.op, (Reshape, Transpose, Slice, Reduction)) else node.result.shape
    found: dict[int, dict[Value, bool]] = {}
    for rows in row_counts(shape):
        wanted = operand_forms(node, rows)
        if wanted is None:
            continue
        forms: dict[Value, bool] = {node.result: True}
        for v, w in zip(node.operands, wanted):
            producer = producers.get(v)
            if producer is not None and isinstance(producer.op, Constant):
                if w:
                    break
            elif forms.setdefault(v, w) != w:
                break
        else:
            found[rows] = forms
    return found


@dataclass(frozen=True)
class RowForm:
    """The number of rows of a region, and the values that are cut into rows."""

    rows: int
    split: frozenset[Value]


def row_form(graph: Graph) -> RowForm | None:
    """The form with the most rows in which a region is row-wise, or None."""
    widest = max((r.shape for n in graph.nodes for r in n.results), key=lambda s: TensorType(graph.outputs[0].dtype, s).size,
                 default=())
    for rows in row_counts(widest):
        split = _split(graph, rows)
        if split is not None:
            return RowForm(rows, split)
    return None


def _split(graph: Graph, rows: int) -> frozenset[Value] | None:
    form: dict[Value, bool] = {}
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            form[node.result] = False
            continue
        if not fusible(node.op):
            return None
        wanted = operand_forms(node, rows)
        if wanted is None:
            return None
        for v, w in zip(node.operands, wanted):
            if form.setdefault(v, w) != w:
                return None
        form[node.result] = True
    if not all(form.get(v, False) for v in graph.outputs):
        return None
    return frozenset(v for v, f in form.items() if f)


def row_bytes(graph: Graph, form: RowForm) -> int:
    """Bytes of one row of the widest tensor of a region."""
    return max(-(-v.type.nbytes // form.rows) for v in form.split)


def block_type(type: TensorType, rows: int, size: int) -> TensorType:
    """The type of `size` rows of a tensor: one axis of rows, then the axes of a row."""
    p = prefix(type.shape, rows)
    assert p is not None
    return type.with_shape((size, *type.shape[p:]))


def block_graph(graph: Graph, form: RowForm, size: int) -> Graph:
    """The region for `size` of its rows."""
    rows = form.rows
    new: dict[Value, Value] = {}
    with Builder() as builder:
        for v in graph.inputs:
            new[v] = builder.input(block_type(v.type, rows, size) if v in form.split else v.type, v.name)
        for node in graph.nodes:
            with builder.at(node.location):
                operands = tuple(_row_operand(v, new[v], node, form) for v in node.operands)
                (new[node.result],) = builder.emit(_block_op(node, rows, size), operands)
        return builder.graph(graph.name, [new[v] for v in graph.outputs])


def _row_operand(old: Value, value: Value, node: Node, form: RowForm) -> Value:
    """An operand that is the same for all rows, without the axes of size 1 that stand for the rows."""
    if old in form.split:
        return value
    shape = node.result.shape
    p = prefix(shape, form.rows)
    assert p is not None
    drop = p - (len(shape) - old.ndim)
    if drop <= 0:
        return value
    result: Value = Reshape(old.shape[drop:])(value)
    return result


def _block_op(node: Node, rows: int, size: int) -> Op:
    """The op on blocks, whose leading axes are one."""
    op = node.op
    if isinstance(op, (Broadcast, Reshape)):
        return op.with_attributes(shape=block_type(node.result.type, rows, size).shape)
    if isinstance(op, (Transpose, Slice, Reduction)):
        p = prefix(node.operands[0].shape, rows)
        assert p is not None
        if isinstance(op, Transpose):
            return Transpose((0, *(a - p + 1 for a in op.axes[p:])))
        if isinstance(op, Slice):
            return Slice((0, *op.start[p:]), (size, *op.stop[p:]), (1, *op.step[p:]))
        return op.with_attributes(axes=tuple(a - p + 1 for a in op.axes))
    return op
