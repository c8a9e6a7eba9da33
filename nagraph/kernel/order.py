"""Orders: in which order each fold of a kernel adds up, stated from the kernel alone and the same on every machine.

Matrix products add up in consecutive chains. Other sums do so where lanes run along what is kept apart, and in interleaved chains where
memory is walked along what is summed: as many chains as fill vectors of CHAINS_NBYTES, several of them where there is little else to do.
A machine with narrower vectors holds the chains in more of them. Whatever else a schedule chooses, it keeps to these orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nagraph.kernel.column_split import columns, split_columns
from nagraph.kernel.contraction import Contraction, Part, product_order, product_parts, slice_parts, stage_of
from nagraph.kernel.form import Consecutive, Interleaved, Kernel, Order, Stage
from nagraph.kernel.row_blocks import FEW, RowBlocks, block_rows, blocks_of_rows, triangle_of_rows
from nagraph.kernel.vector_axis import along_grid, cuts, parted, side_by_side, vector_axis, widest

#: Bytes of a vector of chains.
CHAINS_NBYTES = 64
#: Of a product of one row: bytes of a B that is large, terms from which lanes run along the sum where columns of B lie side by side,
#: and columns of a part of it.
LARGE_NBYTES, LONG, COLUMNS = 1 << 19, 64, 256
#: Parts of the columns, so that threads can share them, and the fewest columns of one.
PARTS, LEAST_COLUMNS = 8, 32


def with_orders(kernel: Kernel) -> Kernel:
    """The kernel whose folds state their orders."""
    if not any(s.folds for s in kernel.stages):
        return kernel
    orders = _orders(kernel)
    stages = (replace(s, folds=tuple(replace(f, order=o) for f in s.folds)) for s, o in zip(kernel.stages, orders))
    return replace(kernel, stages=tuple(stages))


def _orders(kernel: Kernel) -> list[Order]:
    """The order of the folds of each stage."""
    blocks, parts = blocks_of_rows(kernel), product_parts(kernel)
    if blocks is not None:
        return _in_blocks(kernel, blocks)
    if any(isinstance(p, Contraction) and p.rows for p in parts):
        return [_order(kernel, p) for p in slice_parts(kernel)]
    if any(isinstance(p, Contraction) for p in parts):
        if (parted := _in_columns(kernel, parts)) is not None:
            return _orders(parted)
        held = triangle_of_rows(kernel)
        if held is None or (extent := kernel.axes[kernel.grid - 1]) < 2 * FEW:
            return [_order(kernel, p) for p in parts]
        size = block_rows(extent)
        return [_order(kernel, p, (axis,), size) for p, axis in zip(parts, held.columns)]
    if along_grid(kernel):
        return [Consecutive()] * len(parts)
    return [_order(kernel, p) for p in parts]


def _in_blocks(kernel: Kernel, blocks: RowBlocks) -> list[Order]:
    """The orders of a kernel that goes through the rows at a point of its grid block by block."""
    size, found = block_rows(blocks.extent), list[Order]()
    for part, rows, across, when in zip(slice_parts(blocks.kernel), blocks.rows, blocks.columns, blocks.when):
        if not stage_of(part).folds:
            continue
        if isinstance(part, Contraction) and part.tile in blocks.sums:
            found.append(Consecutive(size, backwards=True))  # the last block reaches all columns, and begins every sum
        else:
            found.append(_order(blocks.kernel, part, (rows, across) if when == "block" else (), size))
    orders = iter(found)  # only stages without folds were split
    return [next(orders) if s.folds else Consecutive() for s in kernel.stages]


def _order(kernel: Kernel, part: Part, ranged: Sequence[int | None] = (), step: int = 1) -> Order:
    """The order of a product or of loops. `ranged`: axes of which a block goes through a part, whose bounds are multiples of `step`."""
    if isinstance(part, Contraction):
        return product_order(part.k, len(part.a.offsets))
    axis = vector_axis(kernel, part)
    if not part.folds or axis is None or axis in part.kept:
        return Consecutive()
    extent, most = kernel.axes[axis], CHAINS_NBYTES // widest(kernel) * side_by_side([part])
    if axis in ranged:
        return Interleaved(((extent, min(most, step & -step)),))
    return Interleaved(tuple(parted([0, *cuts(kernel, part, axis), extent], most)))


def _in_columns(kernel: Kernel, parts: Sequence[Part]) -> Kernel | None:
    """Of a kernel of one row, the kernel whose columns are a parallel axis, so that its products are loops; None if they stay products.

    They do where B is large and read row by row, and where there are few columns.
    """
    found, products = columns(kernel), [p for p in parts if isinstance(p, Contraction)]
    if kernel.grid or not found or len(parts) == len(products) or any(p.reduced for p in parts if isinstance(p, Stage)):
        return None
    first, size = kernel.axes[found[0]], products[0].n
    most, least = size, LEAST_COLUMNS
    if any(p.b_nbytes > LARGE_NBYTES for p in products):
        most = COLUMNS
        if all(p.b.free == 1 for p in products):
            return None
        if all(p.b.summed == 1 and p.k >= LONG for p in products):
            least = 1
    while least > 1 and most > 64 and -(-size // most) < PARTS:
        most //= 2
    width = max((w for w in range(1, first + 1) if first % w == 0 and w * (size // first) <= most), default=first)
    return split_columns(kernel, width) if width < first and width * (size // first) >= least else None
