"""How matrix products are cut: into blocks of rows and columns, each of which is a unit, and into tiles that stay in registers."""

from __future__ import annotations

import math

from nagraph.ir.types import DType
from nagraph.kernel.column_split import columns
from nagraph.kernel.contraction import CHAIN, Contraction, contractions, product_parts
from nagraph.kernel.form import Interleaved, Kernel
from nagraph.schedule.form import Product, Split
from nagraph.schedule.target import Target

#: Rows and columns of the block of a large product.
BLOCK = 192, 256
#: The part of the second cache that a B may fill which need not be cut; that tiles of a block of rows may fill; that a block of A may.
B_PART, TILES_PART, A_PART = (1, 4), (1, 4), (3, 8)
#: Rows of a block of a kernel with several products: a multiple of the rows of a product in registers.
BLOCK_ROWS = 144
#: Units that a product has at least, so that threads can share it, unless its blocks had fewer rows than these.
LEAST_UNITS = 8
LEAST_ROWS = 12
#: With fewer units than these it matters how many there are.
FEW_UNITS = 32
#: Columns of a strip, and the fewest of a unit, where B streams past one row.
STRIP, LEAST_COLUMNS = 64, 192


def near(target: Target, part: tuple[int, int]) -> int:
    """The bytes of a part of the second cache."""
    return target.near_nbytes * part[0] // part[1]


def register_tile(dtype: DType, target: Target) -> Product:
    """The largest register tile two vectors wide whose sums and two vectors of B leave a register or more for A."""
    rows = 12 if target.vector_registers >= 32 else 6
    return Product(rows, 2, max(1, near(target, A_PART) // CHAIN // dtype.itemsize // rows) * rows)


def block_size(product: Contraction, extent: int, products: int, column_major: bool, target: Target) -> tuple[int, int]:
    """(rows, columns) of the block that one unit computes, of a kernel that is `products` matrix products and nothing else.

    `column_major`: C is stored by columns, so the routine computes its transpose. Measured: blocks of 192 x 256 are within a
    tenth of the best ones at all sizes; a B that fits the second cache is not cut at all.
    """
    column_nbytes = product.terms * product.dtype.itemsize
    if column_major:
        found_columns, rows = _block_size(column_nbytes, extent, product.n, products, target)
        return rows, found_columns
    return _block_size(column_nbytes, product.n, extent, products, target)


def _block_size(column_nbytes: int, n: int, extent: int, products: int, target: Target) -> tuple[int, int]:
    """(rows, columns) of the block of a product of `extent` rows and n columns, each of which takes so many bytes of B."""
    if extent == 1:  # B is read once: the longer its rows, the better
        return 1, _columns_of_unit(n) if products == 1 else n
    rows, width = min(extent, BLOCK[0]), n if column_nbytes * n <= near(target, B_PART) else min(n, BLOCK[1])
    while products * -(-extent // rows) * -(-n // width) < least_units(target) and rows > LEAST_ROWS:
        if width > 128 and rows <= 96:
            width = max(128, width // 2 // 64 * 64)
        else:
            rows = max(LEAST_ROWS, rows // 2 // LEAST_ROWS * LEAST_ROWS)
    return even_rows(extent, rows, products * -(-n // width)), width


def least_units(target: Target) -> int:
    """Units that a product is cut into at least: two for each core, so that none waits long for another."""
    return max(LEAST_UNITS, 2 * target.cores)


def rows_of_block(extent: int, row_nbytes: int, products: int, target: Target) -> int:
    """The rows of a block of several stages: as many as fit the cache, but enough blocks to be shared.

    row_nbytes: the tiles of one row. products: how many products have such blocks.
    """
    rows = max(1, min(BLOCK_ROWS, near(target, TILES_PART) // max(1, row_nbytes)))
    if rows > 12:
        rows -= rows % 12
    return even_rows(extent, min(rows, extent), products)


def even_rows(extent: int, rows: int, column_blocks: int = 1) -> int:
    """The rows of a block, at most `rows`: all blocks have one size, and few units are of a number that threads share evenly.

    `column_blocks`: units that each block of rows makes.
    """
    blocks = -(-extent // rows)
    if rows <= LEAST_ROWS:
        return rows
    while blocks * column_blocks < FEW_UNITS and blocks * column_blocks % 4:
        blocks += 1
    return min(rows, max(LEAST_ROWS, -(-(-(-extent // blocks)) // 4) * 4))


def split_of(kernel: Kernel, target: Target) -> Split | None:
    """How the columns of a product, and of what is done to each of its elements, become a parallel axis: where B is large or rows few."""
    found, products = columns(kernel), [p for p in contractions(kernel) if p is not None and not p.rows]
    others = [s for s in kernel.stages if not any(s is p.stage for p in products)]
    if not found or not products or not others or any(s.reduced for s in others):
        return None
    # Without a grid they are loops once their columns are split, which the order of additions forbids where it is a product's.
    routine = [p for p in product_parts(kernel) if isinstance(p, Contraction)]
    first, size, row = kernel.axes[found[0]], products[0].n, False
    units = math.prod(kernel.axes[:kernel.grid - 1]) * -(-kernel.axes[kernel.grid - 1] // BLOCK[0]) if kernel.grid else 1
    large = any(p.b_nbytes > near(target, B_PART) for p in products)
    least = 32
    if large and not kernel.grid and len(routine) == len(products) and all(p.b.free == 1 for p in products):
        row, most = True, _columns_of_unit(size)  # one row, past which B streams
    elif not kernel.grid and any(p.terms > CHAIN for p in routine):
        return None
    elif large and not kernel.grid and any(isinstance(f.order, Interleaved) for p in products for f in p.stage.folds):
        most, least = BLOCK[1], 1  # B has its columns side by side: each is a sum along both, no product in tiles
    else:
        most = BLOCK[1] if large else size
        while most > 64 and units * -(-size // most) < LEAST_UNITS:
            most //= 2
    width = max((w for w in range(1, first + 1) if first % w == 0 and w * (size // first) <= most), default=first)
    split = width if width < first and width * (size // first) >= least else 0
    return Split(found[0] if split else 0, split, row) if split or row else None


def _columns_of_unit(columns: int) -> int:
    """Columns of B that one unit takes in a product of one row: whole strips, in units that threads can share evenly."""
    strips = -(-columns // STRIP)
    units = next((u for u in (LEAST_UNITS, 6, 4) if strips % u == 0), LEAST_UNITS)
    return max(LEAST_COLUMNS, -(-strips // units) * STRIP)
