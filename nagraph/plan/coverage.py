"""Coverage of joined values: the parts that are placed in a larger value, and the borders, fill it, each element once."""

from __future__ import annotations

import numpy as np

from nagraph.errors import VerifyError
from nagraph.ir.graph import Value
from nagraph.kernel.coverage import Footprint
from nagraph.kernel.index_sets import IndexSet, index_set
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.plan.kernel_planner import KernelPlanner
from nagraph.plan.placement import border


def cover_joined(planner: KernelPlanner) -> None:
    """Raise VerifyError where two results are placed over one another in a larger value, or where it has a gap."""
    found: dict[Value, list[IndexSet | None]] = {whole: [] for whole in planner.wholes}
    for v, placement in planner.placed.items():
        if planner.graph.producers[v] in planner.places and planner.graph.producers[v] not in planner.joined:
            found[placement.whole].append(Footprint(v.shape, *_layout(planner, v)).places)
    for node in planner.joined:
        v = node.result
        kernel = border(node, _layout(planner, v))
        for stage in kernel.stages if kernel is not None else ():
            axes = (*range(kernel.grid), *stage.loops)  # type: ignore[union-attr]
            found[planner.placed[v].whole if v in planner.placed else v] += [
                index_set(s.index.offset, [(s.index.coefficient(a), kernel.axes[a]) for a in axes])  # type: ignore[union-attr]
                for s in stage.stores]
    for whole, images in found.items():
        counts = np.zeros(whole.type.size, np.int8)
        for part in images:
            if part is None or not 0 <= part.offset <= part.stop <= whole.type.size:
                raise VerifyError(f"a result that is placed in {whole.type} at {part} meets itself, or reaches beyond it")
            part.count_in(counts, 0)
        if (counts != 1).any():
            at = int(np.argmax(counts != 1))
            raise VerifyError(f"element {at} of {whole.type}, which is joined in place, is written {counts[at]} times")


def _layout(planner: KernelPlanner, v: Value) -> StridedLayout:
    return planner.layouts.get(v, row_major(v.shape))
