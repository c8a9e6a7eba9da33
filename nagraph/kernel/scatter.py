"""Scatter as a kernel: each point of the axes that are not indexed writes its own column, one update after another.

No two points write one element, so there are no atomics, and the updates come in their order. Sums of 16-bit floats are made in
float32, as all sums of them: where a thousand updates meet, each would be lost beside the sum of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nagraph import choices
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import DTYPES, TensorType
from nagraph.kernel.affine import atom, strides
from nagraph.kernel.context import KernelContext, NotRowLocal
from nagraph.kernel.elements import Elements
from nagraph.kernel.form import Kernel, Stage, Store
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.ops.base import F32, NARROW_FLOATS, cast
from nagraph.ops.elementwise import add
from nagraph.ops.indexing import Gather, Scatter
from nagraph.ops.movement import Broadcast, broadcast_to, iota, reshape
from nagraph.ops.reduction import Max, Min, Sum
from nagraph.ops.rules import full

#: Rows that sums of 16-bit floats are made of are taken out of an array larger than they by this factor.
SMALL_ROWS = 4
COMBINE = {"set": None, "add": Sum((0,)), "max": Max((0,)), "min": Min((0,))}


def lower_scatter(graph: Graph, layouts: Sequence[StridedLayout]) -> Kernel:
    """The kernel of a graph that is one scatter: a stage that copies x, then one that walks through the updates."""
    node = graph.producers[graph.outputs[0]]
    op = node.op
    if not isinstance(op, Scatter) or any(not isinstance(n.op, (Scatter, Constant, Broadcast)) for n in graph.nodes):
        raise NotRowLocal("a scatter is a kernel of its own")
    x, _, *indices = node.operands
    context = KernelContext(graph, layouts)
    rest = [a for a in range(x.ndim) if a not in op.axes]
    context.extents += [x.shape[a] for a in (*rest, *op.axes)]
    places = tuple(range(len(rest), x.ndim))
    elements = Elements(context)
    at = tuple(atom((*rest, *op.axes).index(a)) for a in range(x.ndim))
    copy = Store(context.output(), elements.sum(zip(at, strides(x.shape))), elements.element(x, at))
    stages = [Stage(places, 0, tuple(elements.body), (), (), (copy,))]
    if math.prod(indices[0].shape):
        stages.append(scatter_stage(context, node, row_major(x.shape)))
    return context.kernel(len(rest), stages)


def scatter_stage(context: KernelContext, node: Node, written: StridedLayout) -> Stage:
    """The stage that walks through the updates of a scatter, for a grid over the axes that are not indexed; it adds its own axes.

    written: where the elements of the result are.
    """
    op, (x, updates, *indices) = node.op, node.operands
    assert isinstance(op, Scatter)
    rest = [a for a in range(x.ndim) if a not in op.axes]
    steps = tuple(range(len(context.extents), len(context.extents) + indices[0].ndim))
    context.extents += indices[0].shape
    elements, step = Elements(context), tuple(map(atom, steps))
    found = {a: elements.clamped(elements.element(i, step), x.shape[a], wraps=True) for a, i in zip(op.axes, indices)}
    where = tuple(found[a] if a in found else atom(rest.index(a)) for a in range(x.ndim))
    lead = op.axes[0]
    value = elements.element(updates, (*map(atom, range(lead)), *step, *map(atom, range(lead, len(rest)))))
    value = value if op.mode == "set" else elements.wide(value)
    store = Store(context.output(), elements.sum(zip(where, written.strides), written.offset), value, COMBINE[op.mode])
    return Stage(steps, 0, tuple(elements.body), (), (), (store,))


def in_float32(graph: Graph) -> Graph:
    """The graph, and its regions, with sums of 16-bit floats at indices made in float32, and rounded once."""

    def wide(v: Value) -> Value:
        node = graph.producers.get(v)  # zeros are made wide, not read
        if node is not None and isinstance(node.op, Broadcast):
            return broadcast_to(cast(node.operands[0], F32), v.shape)
        return cast(v, F32)

    def visit(node: Node) -> Value | None:
        if not isinstance(node.op, Scatter) or node.op.mode != "add" or node.result.dtype not in NARROW_FLOATS:
            return None
        x, updates, *indices = node.operands
        if choices.takes("update", _changes_few_rows(node, graph), str(x.type), str(updates.type)):
            return _rows_in_float32(node.op, x, updates, indices)
        return cast(node.op(wide(x), wide(updates), *indices), node.result.dtype)

    return graph.map_regions(in_float32, skip=lambda op: getattr(op, "kind", "") == "fused").rebuild(visit)


def _changes_few_rows(node: Node, graph: Graph) -> bool:
    """Whether a sum at indices changes few rows of an array, long ones, that is there already."""
    x, updates = node.operands[:2]
    made = graph.producers.get(x)
    places = math.prod(x.shape[a] for a in node.op.axes)  # type: ignore[attr-defined]
    return not (made is not None and isinstance(made.op, Broadcast)) and SMALL_ROWS * max(updates.type.nbytes, 4 * places) <= x.type.nbytes


def _rows_in_float32(op: Scatter, x: Value, updates: Value, indices: Sequence[Value]) -> Value:
    """x with updates added, by the rows that change alone: each is taken out once, summed in float32, rounded once, and put back.

    Where several updates meet, their sum is made at the number of the last of them.
    """
    count, lead = indices[0].size, op.axes[0]
    shape = (*updates.shape[:lead], count, *updates.shape[lead + indices[0].ndim:])
    rows, new = (reshape(cast(v, F32), shape) for v in (Gather(op.axes)(x, *indices), updates))
    if count == 1:
        sums = add(rows, new)
    else:
        last = reshape(_last_updates(x, op.axes, indices), (count,))
        sums = Gather((lead,))(Scatter((lead,), "add")(rows, new, last), last)
    found = reshape(cast(sums, x.dtype), updates.shape)
    changed: Value = Scatter(op.axes, "set")(x, found, *indices)
    return changed


def _last_updates(x: Value, axes: tuple[int, ...], indices: Sequence[Value]) -> Value:
    """For each index the number of the last one that means the same place."""
    count, dtype = indices[0].size, DTYPES["i32" if indices[0].size < 1 << 31 else "i64"]
    table, every = full(TensorType(dtype, tuple(x.shape[a] for a in axes)), 0), tuple(range(len(axes)))
    numbers = reshape(iota(dtype, (count,), 0), indices[0].shape)
    found: Value = Gather(every)(Scatter(every, "set")(table, numbers, *indices), *indices)
    return found
