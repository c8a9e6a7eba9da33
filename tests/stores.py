"""Every kernel that tests make goes through the proof of its stores and reads (`nagraph.kernel.coverage`); how many, and what is open."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import nagraph.kernel.lower as lowering
import nagraph.kernel.update as updates
from nagraph.errors import VerifyError
from nagraph.kernel.context import array_constants
from nagraph.kernel.counting import count_stores
from nagraph.kernel.coverage import Footprint, cover
from nagraph.kernel.form import Kernel
from nagraph.kernel.layout import row_major
from nagraph.kernel.verify import verify_kernel

#: Kernels looked at, those that were counted by the interpreter as well, and what could not be proved.
seen, counted = 0, 0
open_: list[str] = []
#: What is known of the kernels that were made last.
_known: dict[Kernel, tuple[Sequence[Footprint], Sequence[Footprint], bool]] = {}
#: The points of a stage that the interpreter goes through, all at once, and one after another.
MOST_POINTS, MOST_STEPS = 1 << 16, 300


def prove(kernel: Kernel, inputs: Sequence[Footprint], outputs: Sequence[Footprint], partial: bool = False) -> None:
    global seen, counted
    seen += 1
    dynamic = any(a < 0 for stage in kernel.stages for s in stage.stores for a, _ in s.index.terms)
    try:
        verify_kernel(kernel)
        found = cover(kernel, inputs, outputs, partial)
        if (dynamic or found) and _small(kernel):
            counted += 1
            _count(kernel, inputs, outputs, partial)
            found = []
    except VerifyError as error:
        raise AssertionError(f"{error}\n{kernel}") from error
    if len(_known) > 1000:
        _known.clear()
    _known[kernel] = inputs, outputs, partial
    if found:
        open_.append("\n".join([*found, str(kernel)]))


def _small(kernel: Kernel) -> bool:
    grid = math.prod(kernel.axes[:kernel.grid])
    loops = [math.prod(kernel.axes[a] for a in stage.loops) for stage in kernel.stages]
    return grid * max(loops, default=1) <= MOST_POINTS and max(loops, default=1) <= MOST_STEPS


def _count(kernel: Kernel, inputs: Sequence[Footprint], outputs: Sequence[Footprint], partial: bool) -> None:
    """Where places are data, every element is written, once or more, and nothing else, whatever the data."""
    counts = count_stores(kernel, [r.hull[1] for r in (*inputs, *outputs)])
    for region, found in zip(outputs, counts):
        expected = np.zeros(found.size, np.int8)
        if region.places is not None and region.places.size:
            region.places.count_in(expected, 0)
        if (found[expected == 0] > 0).any() or (not partial and (found[expected > 0] == 0).any()):
            raise VerifyError(f"{region} is written at {np.flatnonzero(found)}")


def _regions(values: Sequence[Any], layouts: Sequence[Any] | None = None) -> list[Footprint]:
    return [Footprint(v.shape, *(layouts[i] if layouts is not None else row_major(v.shape))) for i, v in enumerate(values)]


def install() -> None:
    """Look at what the lowering makes from now on, and at values that are joined in place. Call it before a backend is loaded."""
    lower, lower_update = lowering.lower, updates.lower_update

    @functools.wraps(lower)
    def lower_and_prove(graph: Any, layouts: Any = None, written: Any = None, *rest: Any, **options: Any) -> Kernel:
        kernel = lower(graph, layouts, written, *rest, **options)
        inputs = _regions(graph.inputs, layouts) + _regions(array_constants(graph))
        prove(kernel, inputs, _regions(graph.outputs, written))
        return kernel

    @functools.wraps(lower_update)
    def update_and_prove(graph: Any, layouts: Any, written: Any) -> Kernel | None:
        kernel = lower_update(graph, layouts, written)
        if kernel is not None:
            inputs = _regions(graph.inputs, layouts) + _regions(array_constants(graph))
            prove(kernel, inputs, _regions(graph.outputs, [written]), partial=True)
        return kernel

    lowering.lower, updates.lower_update = lower_and_prove, update_and_prove  # type: ignore[assignment]
    import nagraph.plan.kernel_planner as kernels
    from nagraph.plan.coverage import cover_joined

    plan = kernels.kernel_plan

    @functools.wraps(plan)
    def plan_and_prove(*arguments: Any, **options: Any) -> Any:
        found = plan(*arguments, **options)
        cover_joined(found[0])
        return found

    kernels.kernel_plan = plan_and_prove
    import nagraph.backends.llvm.emission.emit as emission

    split_kernel, blocks_of_rows = emission.split_kernel, emission.blocks_of_rows

    def again(changed: Kernel, kernel: Kernel) -> None:
        """What emission makes of a kernel stores and reads what that does."""
        if changed != kernel and kernel in _known:
            prove(changed, *_known[kernel])

    @functools.wraps(split_kernel)
    def split_and_prove(kernel: Kernel, split: Any) -> Kernel:
        found = split_kernel(kernel, split)
        again(found, kernel)
        return found

    @functools.wraps(blocks_of_rows)
    def blocks_and_prove(kernel: Kernel) -> Any:
        found = blocks_of_rows(kernel)
        if found is not None:
            again(found.kernel, kernel)
        return found

    emission.split_kernel, emission.blocks_of_rows = split_and_prove, blocks_and_prove


def report() -> str:
    share = 100 * (1 - len(open_) / seen) if seen else 100.0
    return f"{seen} kernels, all reads and stores proved of {share:.2f} %; {counted} with places that are data were counted as well"
