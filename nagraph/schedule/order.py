"""The order of additions is the kernel's: what of a schedule must be so that every fold keeps to the order that it states."""

from __future__ import annotations

from nagraph.kernel.form import Consecutive, Interleaved, Order, Stage
from nagraph.kernel.row_blocks import RowBlocks
from nagraph.schedule.form import How, Lanes, Loops, Points, Product, Schedule, Tiles


def other_order(stage: Stage, how: How | None, schedule: Schedule, blocks: RowBlocks | None, ranged: tuple[int | None, ...] = ()) -> str:
    """What is wrong with the way in which a stage runs, for the order of its folds; "" if it keeps to it.

    how: None where lanes run along the grid. blocks: how the kernel goes in blocks of rows, if it does. ranged: axes of which a block goes
    through a range.
    """
    order = stage.folds[0].order if stage.folds else None
    if order is None:
        return ""
    if isinstance(how, Product):
        return _of_product(stage, order, schedule, blocks)
    if isinstance(order, Consecutive):
        if order.length:
            return f"sums that are made {order} are those of products"
        if isinstance(how, Loops) and how.axis is not None and how.axis not in stage.kept:
            return f"it adds up in order, which lanes along a{how.axis} do not"
        return ""
    return _side_by_side(stage, order, how, schedule, ranged)


def _of_product(stage: Stage, order: Order, schedule: Schedule, blocks: RowBlocks | None) -> str:
    """Sums over blocks of rows are made from the last block on, each block being a chain."""
    rows = schedule.units.rows if isinstance(schedule.units, Points) else 0
    summed = blocks is not None and stage.folds[0].tile in blocks.sums
    if isinstance(order, Interleaved) or order.backwards != summed:
        return f"it adds up {order}, which a product {'over blocks of rows' if summed else 'at once'} does not"
    return f"it adds up {order}, and not of {rows}" if summed and order.length != rows else ""


def _side_by_side(stage: Stage, order: Interleaved, how: How | None, schedule: Schedule, ranged: tuple[int | None, ...]) -> str:
    """Each chain has a lane, along the innermost reduced axis."""
    chains, axis = max((n for _, n in order.parts), default=1), stage.loops[-1]
    if isinstance(schedule.units, (Lanes, Tiles)) or not isinstance(how, Loops) or how.axis != axis or how.width != chains or how.cuts:
        return f"it adds up {order}: {chains} lanes along a{axis}, without cuts, do"
    return f"it adds up {order}, which blocks of rows do not" if axis in ranged and len(order.parts) > 1 else ""
