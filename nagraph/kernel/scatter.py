"""Scatter as a kernel: each point of the axes that are not indexed makes its own column, update after update.

No two points write one element, so there are no atomics, and the updates come in their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph
from nagraph.kernel.affine import Affine, atom, strides
from nagraph.kernel.elements import Elements, NotRowLocal
from nagraph.kernel.form import Kernel, Stage, Store
from nagraph.kernel.lower import Layout, Lowering
from nagraph.ops.indexing import Scatter
from nagraph.ops.movement import Broadcast
from nagraph.ops.reduction import Max, Min, Sum

COMBINE = {"set": None, "add": Sum((0,)), "max": Max((0,)), "min": Min((0,))}


def lower_scatter(graph: Graph, layouts: Sequence[Layout]) -> Kernel:
    """The kernel of a graph that is one scatter: a stage that copies x, then one that walks through the updates."""
    node = graph.producers[graph.outputs[0]]
    op = node.op
    if not isinstance(op, Scatter) or any(not isinstance(n.op, (Scatter, Constant, Broadcast)) for n in graph.nodes):
        raise NotRowLocal("a scatter is a kernel of its own")
    x, updates, *indices = node.operands
    low = Lowering(graph, layouts, 1)
    low.extents.clear()
    rest = [a for a in range(x.ndim) if a not in op.axes]
    low.extents += [x.shape[a] for a in (*rest, *op.axes)] + list(indices[0].shape)
    of_rest = {a: atom(i) for i, a in enumerate(rest)}
    places = tuple(range(len(rest), x.ndim))
    steps = tuple(range(x.ndim, len(low.extents)))
    target, output = strides(x.shape), len(low.operands)

    copying = Elements(low, (0, 1, 1, 0), low.extents)
    at = tuple(of_rest[a] if a in of_rest else atom(places[op.axes.index(a)]) for a in range(x.ndim))
    copy = Store(output, copying.sum(zip(at, target)), copying.element(x, at))

    updating = Elements(low, (1, 1, 1, 0), low.extents)
    step = tuple(map(atom, steps))
    found = {a: updating.clamped(updating.element(i, step), x.shape[a], wraps=True) for a, i in zip(op.axes, indices)}
    where = tuple(of_rest[a] if a in of_rest else found[a] for a in range(x.ndim))
    kept = iter(of_rest[a] for a in rest)
    lead = [next(kept) for _ in range(op.axes[0])]
    value = updating.element(updates, (*lead, *step, *kept))
    store = Store(output, updating.sum(zip(where, target)), value, COMBINE[op.mode])

    stages = [Stage(places, 0, tuple(copying.body), (), (), (copy,))]
    if math.prod(indices[0].shape):
        stages.append(Stage(steps, 0, tuple(updating.body), (), (), (store,)))
    operands = tuple(v.dtype for v in (*low.operands, x))
    return Kernel(tuple(low.extents), len(rest), operands, 1, (), tuple(stages))


__all__ = ["Affine", "lower_scatter"]
