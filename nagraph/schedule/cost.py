"""The cost of a kernel, roughly: chunks are cut by it, so that each is worth handing out. It follows from kernel and schedule alone."""

from __future__ import annotations

import math

from nagraph.kernel.form import Apply, Kernel, Load, Stage
from nagraph.kernel.row_blocks import RowBlocks
from nagraph.schedule.form import Lanes, Product, Rows, Schedule, Stored, Tiles
from nagraph.schedule.realise import blocks_along, blocks_per_unit, column_blocks

#: Nanoseconds of one vector instruction, and of a floating-point operation of a matrix product.
INSTRUCTION_NS, FLOP_NS = 0.3, 0.01
#: What a point of the grid costs beside its instructions.
POINT_NS = 2.0
#: The work of a chunk, in nanoseconds: long beside the cost of handing it out, short beside what a call takes.
CHUNK_NS = 15_000
#: A launch is cut into no more chunks than this.
MOST_CHUNKS = 256
#: But into more where a chunk would take longer than this: between chunks, signals are listened to.
LONGEST_NS = 20_000_000


def chunk_of(units: int, unit_ns: float) -> int:
    """How many units make a chunk. It follows from the kernel alone, never from the number of threads."""
    cost = max(unit_ns, 0.01)
    wanted, most = max(1, round(CHUNK_NS / cost)), max(1, round(LONGEST_NS / cost))
    return min(units, max(wanted, min(most, -(-units // MOST_CHUNKS))))


def unit_ns(kernel: Kernel, schedule: Schedule, lanes: int, blocks: RowBlocks | None = None) -> float:
    """Time of a unit of a realised kernel, `lanes` elements in a vector; `blocks` where it goes in blocks of rows."""
    match schedule.units:
        case Lanes(width=width):
            return sum(stage_ns(kernel, s, 1, False) for s in kernel.stages) * max(1, width // lanes)
        case Tiles(width=width):
            return stage_ns(kernel, kernel.stages[0], 1, False) * 2 * width
    total = 0.0
    for n, (stage, how) in enumerate(zip(kernel.stages, schedule.stages)):
        if not isinstance(how, Stored):
            ns = stage_ns(kernel, stage, 1, True) if isinstance(how, Product) else stage_ns(kernel, stage, lanes, False)
            half = blocks is not None and blocks.columns[n] is not None and blocks.when[n] == "block"  # of a triangle
            total += ns / 2 if half else ns
    per_unit = blocks_per_unit(kernel, blocks_along(kernel, schedule.units))
    if isinstance(schedule.units, Rows):
        return total * schedule.units.rows / column_blocks(kernel, schedule.units) * per_unit
    return total * per_unit


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
