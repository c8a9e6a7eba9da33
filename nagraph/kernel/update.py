"""Updates in place: where a value's bytes are those of its result, a kernel writes only the elements that change."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.ir.graph import Graph, Node
from nagraph.kernel.affine import atom
from nagraph.kernel.collapse import collapse
from nagraph.kernel.context import KernelContext
from nagraph.kernel.elements import Elements
from nagraph.kernel.form import Kernel, Stage, Store
from nagraph.kernel.layout import StridedLayout
from nagraph.kernel.scatter import scatter_stage
from nagraph.kernel.sharing import reads
from nagraph.ops.dynamic_slice import DynamicUpdateSlice
from nagraph.ops.indexing import Scatter


def lower_update(graph: Graph, layouts: Sequence[StridedLayout], written: StridedLayout) -> Kernel | None:
    """The kernel that changes x, in place, into the result of a graph that is one `dynamic_update_slice` or `scatter` of it.

    written: where the elements of x are, and those of the result. None for other graphs, and where what is written depends on x.
    """
    node = graph.producers.get(graph.outputs[0])
    if node is None or not isinstance(node.op, (DynamicUpdateSlice, Scatter)) or node.operands[0] not in graph.inputs:
        return None
    x, update, *_ = node.operands
    context = KernelContext(graph, layouts)
    if not update.type.size:  # nothing changes
        context.extents.append(0)
        return context.kernel(1, ())
    if isinstance(node.op, Scatter):
        rest = [n for a, n in enumerate(x.shape) if a not in node.op.axes]
        context.extents += rest
        grid, stage = len(rest), scatter_stage(context, node, written)
    else:
        grid, stage = x.ndim, _block_stage(context, node, written)
    kernel = collapse(context.kernel(grid, [stage]))
    return None if reads(kernel, context.operands[x]) else kernel


def _block_stage(context: KernelContext, node: Node, written: StridedLayout) -> Stage:
    """The stage y[a + i] = u[i], for a grid over the block."""
    x, update, *starts = node.operands
    context.extents += update.shape
    elements = Elements(context)
    place = [(atom(axis), step) for axis, step in enumerate(written.strides)]
    for start, n, m, step in zip(starts, x.shape, update.shape, written.strides):
        if n > m:
            place.append((elements.clamped(elements.element(start, ()), n - m + 1), step))
    value = elements.element(update, tuple(map(atom, range(x.ndim))))
    store = Store(context.output(), elements.sum(place, written.offset), value)
    return Stage((), 0, tuple(elements.body), (), (), (store,))
