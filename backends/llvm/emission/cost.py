"""The cost of a kernel, roughly: chunks are cut by it, so that each is worth handing out. It follows from the kernel alone."""

from __future__ import annotations

import math

from nagraph.kernel.form import Apply, Kernel, Load, Stage

#: Nanoseconds of one vector instruction, and of a floating-point operation of a matrix product.
INSTRUCTION_NS, FLOP_NS = 0.3, 0.01
#: What a point of the grid costs beside its instructions.
POINT_NS = 2.0


def stage_ns(kernel: Kernel, stage: Stage, lanes: int, product: bool) -> float:
    """Time of a stage at one point of the grid: as a matrix product, or `lanes` elements at a time."""
    points = math.prod(kernel.axes[a] for a in stage.loops)
    if product:
        return 2 * points * FLOP_NS
    weights = [i.op.weight if isinstance(i, Apply) else _load(i) if isinstance(i, Load) else 1 for i in stage.body]
    return (sum(weights) + len(stage.stores) + len(stage.folds)) * INSTRUCTION_NS * max(1.0, points / lanes) + POINT_NS


def _load(load: Load) -> int:
    """How many instructions a load takes: where its index is data, each lane loads by itself."""
    return 8 if any(a < 0 for a, _ in load.index.terms) else 1
