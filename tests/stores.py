"""Every kernel that tests make goes through the proof of its stores and reads (`nagraph.kernel.coverage`); how many, and what is open."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import nagraph.kernel.lower as lowering
import nagraph.kernel.update as updates
from nagraph.errors import VerifyError
from nagraph.kernel.coverage import Region, cover
from nagraph.kernel.form import Kernel
from nagraph.kernel.verify import verify_kernel

#: Kernels looked at, those with stores at places that are data, and what could not be proved of others.
seen, dynamic = 0, 0
open_: list[str] = []


def prove(kernel: Kernel, inputs: Sequence[Region], outputs: Sequence[Region], partial: bool = False) -> None:
    global seen, dynamic
    seen += 1
    dynamic += any(a < 0 for stage in kernel.stages for s in stage.stores for a, _ in s.index.terms)
    try:
        verify_kernel(kernel)
        found = cover(kernel, inputs, outputs, partial)
    except VerifyError as error:
        raise AssertionError(f"{error}\n{kernel}") from error
    open_.extend(f"{line}\n{kernel}" for line in found)


def _regions(values: Sequence[Any], layouts: Sequence[Any] | None = None) -> list[Region]:
    return [Region(v.shape, *(layouts[i] if layouts is not None else lowering.row_major(v.shape))) for i, v in enumerate(values)]


def install() -> None:
    """Look at what the lowering makes from now on, and at values that are joined in place. Call it before a backend is loaded."""
    lower, lower_update = lowering.lower, updates.lower_update

    @functools.wraps(lower)
    def lower_and_prove(graph: Any, layouts: Any = None, written: Any = None, *rest: Any, **options: Any) -> Kernel:
        kernel = lower(graph, layouts, written, *rest, **options)
        inputs = _regions(graph.inputs, layouts) + _regions(lowering.array_constants(graph))
        prove(kernel, inputs, _regions(graph.outputs, written))
        return kernel

    @functools.wraps(lower_update)
    def update_and_prove(graph: Any, layouts: Any, written: Any) -> Kernel | None:
        kernel = lower_update(graph, layouts, written)
        if kernel is not None:
            inputs = _regions(graph.inputs, layouts) + _regions(lowering.array_constants(graph))
            prove(kernel, inputs, _regions(graph.outputs, [written]), partial=True)
        return kernel

    lowering.lower, updates.lower_update = lower_and_prove, update_and_prove  # type: ignore[assignment]
    import nagraph.plan.kernels as kernels
    from nagraph.plan.coverage import cover_joined

    plan = kernels.kernel_plan

    @functools.wraps(plan)
    def plan_and_prove(*arguments: Any, **options: Any) -> Any:
        found = plan(*arguments, **options)
        cover_joined(found[0])
        return found

    kernels.kernel_plan = plan_and_prove


def report() -> str:
    share = 100 * (1 - len(open_) / seen) if seen else 100.0
    return f"{seen} kernels, {dynamic} of them with stores at places that are data: every store and read proved of {share:.2f} %"
