"""Updates in place: where a value's bytes are those of its result, a kernel writes only the block that changes."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph import choices
from nagraph.ir.graph import Graph
from nagraph.kernel.affine import atom
from nagraph.kernel.collapse import collapse
from nagraph.kernel.context import KernelContext
from nagraph.kernel.elements import Elements
from nagraph.kernel.form import Kernel, Load, Stage, Store
from nagraph.kernel.layout import StridedLayout
from nagraph.ops.dynamic_slice import DynamicUpdateSlice

#: A block that is smaller than its array by this factor is worth a kernel of its own.
SMALL = 2


def lower_update(graph: Graph, layouts: Sequence[StridedLayout], written: StridedLayout) -> Kernel | None:
    """The kernel y[a + i] = u[i] of a graph that is one `dynamic_update_slice`, where x has the bytes of y; None for other graphs."""
    node = graph.producers.get(graph.outputs[0])
    if node is None or not isinstance(node.op, DynamicUpdateSlice):
        return None
    x, update, *starts = node.operands
    if x not in graph.inputs or not update.type.size:
        return None
    if not choices.takes("update", SMALL * update.type.size <= x.type.size, str(x.type), str(update.type)):
        return None
    context = KernelContext(graph, layouts)
    context.extents += update.shape
    elements = Elements(context)
    place = [(atom(axis), step) for axis, step in enumerate(written.strides)]
    for start, n, m, step in zip(starts, x.shape, update.shape, written.strides):
        if n > m:
            place.append((elements.clamped(elements.element(start, ()), n - m + 1), step))
    value = elements.element(update, tuple(map(atom, range(x.ndim))))
    store = Store(context.output(), elements.sum(place, written.offset), value)
    return collapse(context.kernel(x.ndim, [Stage((), 0, tuple(elements.body), (), (), (store,))]))


def only_copies(kernel: Kernel) -> bool:
    """Whether a kernel puts elements of one operand to the same places of another: nothing is left to do if these are the same bytes."""
    if len(kernel.stages) != 1 or len(kernel.operands) != 2:
        return False
    (stage,) = kernel.stages
    return (len(stage.body) == len(stage.stores) == 1 and not stage.folds and not stage.writes and isinstance(stage.body[0], Load)
            and stage.body[0].mask is None and stage.body[0].index == stage.stores[0].index and stage.stores[0].combine is None)
