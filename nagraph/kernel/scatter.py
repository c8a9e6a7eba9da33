"""Scatter as a kernel: each point of the axes that are not indexed writes its own column, one update after another.

No two points write one element, so there are no atomics, and the updates come in their order. Sums of 16-bit floats are made in
float32, as all sums of them: where a thousand updates meet, each would be lost beside the sum of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.kernel.affine import atom, strides
from nagraph.kernel.context import KernelContext, NotRowLocal
from nagraph.kernel.elements import Elements
from nagraph.kernel.form import Kernel, Stage, Store
from nagraph.kernel.layout import StridedLayout
from nagraph.ops.base import F32, NARROW_FLOATS, cast
from nagraph.ops.indexing import Scatter
from nagraph.ops.movement import Broadcast, broadcast_to
from nagraph.ops.reduction import Max, Min, Sum

COMBINE = {"set": None, "add": Sum((0,)), "max": Max((0,)), "min": Min((0,))}


def lower_scatter(graph: Graph, layouts: Sequence[StridedLayout]) -> Kernel:
    """The kernel of a graph that is one scatter: a stage that copies x, then one that walks through the updates."""
    node = graph.producers[graph.outputs[0]]
    op = node.op
    if not isinstance(op, Scatter) or any(not isinstance(n.op, (Scatter, Constant, Broadcast)) for n in graph.nodes):
        raise NotRowLocal("a scatter is a kernel of its own")
    x, updates, *indices = node.operands
    context = KernelContext(graph, layouts)
    rest = [a for a in range(x.ndim) if a not in op.axes]
    context.extents += [x.shape[a] for a in (*rest, *op.axes)] + list(indices[0].shape)
    of_rest = {a: atom(i) for i, a in enumerate(rest)}
    places = tuple(range(len(rest), x.ndim))
    steps = tuple(range(x.ndim, len(context.extents)))
    target, output = strides(x.shape), context.output()

    copying = Elements(context)
    at = tuple(of_rest[a] if a in of_rest else atom(places[op.axes.index(a)]) for a in range(x.ndim))
    copy = Store(output, copying.sum(zip(at, target)), copying.element(x, at))

    updating = Elements(context)
    step = tuple(map(atom, steps))
    found = {a: updating.clamped(updating.element(i, step), x.shape[a], wraps=True) for a, i in zip(op.axes, indices)}
    where = tuple(of_rest[a] if a in of_rest else found[a] for a in range(x.ndim))
    kept = iter(of_rest[a] for a in rest)
    lead = [next(kept) for _ in range(op.axes[0])]
    value = updating.element(updates, (*lead, *step, *kept))
    value = value if op.mode == "set" else updating.wide(value)
    store = Store(output, updating.sum(zip(where, target)), value, COMBINE[op.mode])

    stages = [Stage(places, 0, tuple(copying.body), (), (), (copy,))]
    if math.prod(indices[0].shape):
        stages.append(Stage(steps, 0, tuple(updating.body), (), (), (store,)))
    return context.kernel(len(rest), stages)


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
        return cast(node.op(wide(x), wide(updates), *indices), node.result.dtype)

    return graph.map_regions(in_float32, skip=lambda op: getattr(op, "kind", "") == "fused").rebuild(visit)
