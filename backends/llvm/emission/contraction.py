"""Matrix products: contractions given to the routine that computes them, block by block."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.cost import stage_ns
from nagraph.backends.llvm.emission.prefetch import address
from nagraph.backends.llvm.gemm import scratch_nbytes
from nagraph.backends.llvm.gemm.tile import CHAIN, Tile
from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, i64
from nagraph.ir.scalar import F32
from nagraph.kernel.column_split import columns, split_columns, with_row
from nagraph.kernel.contraction import Contraction, Factor, Part, product_parts
from nagraph.kernel.form import Kernel, Read, Store

#: Rows and columns of the block of a large product, and bytes of a B that need not be cut.
BLOCK = 192, 256
CACHED_NBYTES = 1 << 19
#: Units that a product has at least, so that threads can share it, unless its blocks had fewer rows than these.
LEAST_UNITS = 8
LEAST_ROWS = 12
#: Columns of a strip, and the fewest of a unit, where B streams past one row.
STRIP, LEAST_COLUMNS = 64, 192
#: Products in the sum of one element from which lanes run along the sum, in a product of one row whose factors both have unit steps.
LONG = 64
#: With fewer units than these it matters how many there are.
FEW_UNITS = 32


def prefetching(context: EmissionContext, product: Contraction, rows: int) -> tuple[int, int, int]:
    """What a product of so many rows can prefetch: the tiles that do, the steps of each, and the bytes of an element."""
    tile = Tile(product.dtype, context.target)
    strips = -(-product.n // (2 * tile.lanes))
    return tile.prefetching(rows, strips), min(product.terms, CHAIN), product.dtype.itemsize


def scratch(context: EmissionContext, product: Contraction) -> int:
    """Bytes that the routine wants, behind the tiles."""
    return scratch_nbytes(product.dtype, context.target)


def block_size(product: Contraction, extent: int, products: int = 1, column_major: bool = False) -> tuple[int, int]:
    """(rows, columns) of the block that one unit computes, of a kernel that is `products` matrix products and nothing else.

    `column_major`: C is stored by columns, so the routine computes its transpose. Measured: blocks of 192 x 256 are within a
    tenth of the best ones at all sizes; a B that fits the second cache is not cut at all.
    """
    if column_major:
        columns, rows = _block_size(product.terms * product.dtype.itemsize, extent, product.n, products)
        return rows, columns
    return _block_size(product.terms * product.dtype.itemsize, product.n, extent, products)


def _block_size(column_nbytes: int, n: int, extent: int, products: int) -> tuple[int, int]:
    """(rows, columns) of the block of a product of `extent` rows and n columns, each of which takes so many bytes of B."""
    if extent == 1:  # B is read once: the longer its rows, the better
        return 1, _columns_of_unit(n) if products == 1 else n
    rows, columns = min(extent, BLOCK[0]), n if column_nbytes * n <= CACHED_NBYTES else min(n, BLOCK[1])
    while products * -(-extent // rows) * -(-n // columns) < LEAST_UNITS and rows > LEAST_ROWS:
        if columns > 128 and rows <= 96:
            columns = max(128, columns // 2 // 64 * 64)
        else:
            rows = max(LEAST_ROWS, rows // 2 // LEAST_ROWS * LEAST_ROWS)
    return even_rows(extent, rows, products * -(-n // columns)), columns


def _count(context: EmissionContext, axes: Sequence[int], extent: int) -> Reg:
    """How many rows, columns or terms there are: those of the range that their axis is restricted to, if it is."""
    part = context.ranges.get(axes[0]) if len(axes) == 1 else None
    return i64(extent) if part is None else context.code.sub(part.stop, part.start)


def row_count(context: EmissionContext, product: Contraction) -> Reg:
    """How many rows the product has at one point of the grid, or the block of them."""
    return _count(context, product.rows, product.m)


def column_count(context: EmissionContext, product: Contraction) -> Reg:
    """How many columns the product has, or the range of them."""
    return _count(context, product.columns, product.n)


def emit_product(
    context: EmissionContext, product: Contraction, tile: Reg | None, target: Store | None, rows: Reg, column: Reg, columns: Reg,
    scratch_offset: int, prefetch_table: Reg = Reg("ptr", "null"), accumulate: Reg = Reg("i64", "0"),
) -> None:
    """Call the routine for `rows` rows from the current indices on, and `columns` columns from `column` on.

    scratch_offset: where the routine's scratch memory begins in the thread's. prefetch_table: what it asks for meanwhile.
    """
    code, (a, b) = context.code, (product.a, product.b)
    name, element = ("gemm_f32", "float") if product.dtype == F32 else ("gemm_f64", "double")
    first_a, first_b = (_first(context, x, element) for x in (a, b))
    first_b = code.offset(first_b, element, code.mul(column, i64(b.free)))
    if target is not None:
        c = code.offset(context.pointers[target.operand], element, address(context, target.index))
        c_row, c_column = product.strides_of(context.kernel, target)
    else:
        assert tile is not None
        c, c_row, c_column = code.offset(tile, element, address(context, product.stage.folds[0].index)), product.n, 1
    a_table, b_table = (_table(code, x.offsets) for x in (a, b))
    scratch_here = code.offset(code.arguments[4], "i8", i64(scratch_offset))
    left, right = (first_a, i64(a.free), i64(a.summed)), (first_b, i64(b.summed), i64(b.free))
    c = code.offset(c, element, code.mul(column, i64(c_column)))
    size, tables, c_step = (rows, columns), (a_table, b_table), c_row
    if c_column != 1:  # the columns of C have unit steps: Cᵀ = BᵀAᵀ, its sums made in the same order
        left, right = (first_b, i64(b.free), i64(b.summed)), (first_a, i64(a.summed), i64(a.free))
        size, tables, c_step = (columns, rows), (b_table, a_table), c_column
    depth = _count(context, product.batches + product.summed, product.k)
    code.call(name, "void", *left, *right, c, i64(c_step), *size, depth, i64(len(a.offsets)), *tables, accumulate,
              scratch_here, prefetch_table)


def _first(context: EmissionContext, x: Factor, element: str) -> Reg:
    """The address of the first element of A or B: in a tile for the first row of a block, or in memory."""
    place = x.access
    base = context.block_tiles[place.tile] if isinstance(place, Read) else context.pointers[place.operand]
    return context.code.offset(base, element, address(context, place.index))


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


def _table(code: FunctionBuilder, offsets: tuple[int, ...]) -> Reg:
    """A constant of the module that holds the offsets; null where there is one batch alone."""
    return Reg("ptr", "null") if offsets == (0,) else code.table(offsets)


def columns_from(code: FunctionBuilder, column: Reg, columns: int, n: int) -> Reg:
    """How many columns a block has that begins at `column`: `columns`, of the last one what remains of `n`."""
    if n % columns == 0:
        return i64(columns)
    left = code.sub(i64(n), column)
    return code.emit("i64", f"call i64 @llvm.smin.i64({left}, i64 {columns})")


def with_column_split(kernel: Kernel) -> Kernel:
    """A matrix product and what is done to each of its elements, in blocks of columns if B is large or rows are few."""
    parts = product_parts(kernel)
    found = columns(kernel)
    products = [p for p in parts if isinstance(p, Contraction) and not p.rows]
    if not found or not products or len(parts) == len(products) or any(p.reduced for p in parts if not isinstance(p, Contraction)):
        return kernel
    first, size = kernel.axes[found[0]], products[0].n
    units = math.prod(kernel.axes[:kernel.grid - 1]) * -(-kernel.axes[kernel.grid - 1] // BLOCK[0]) if kernel.grid else 1
    large = any(p.b_nbytes > CACHED_NBYTES for p in products)
    least = 32
    if large and not kernel.grid and all(p.b.free == 1 for p in products):
        kernel, most = with_row(kernel), _columns_of_unit(size)  # one row, past which B streams
    elif large and not kernel.grid and all(p.b.summed == 1 and p.k >= LONG for p in products):
        most, least = BLOCK[1], 1  # B has its columns side by side: each is a sum along both, no product in tiles
    else:
        most = BLOCK[1] if large else size
        while most > 64 and units * -(-size // most) < LEAST_UNITS:
            most //= 2
    width = max((w for w in range(1, first + 1) if first % w == 0 and w * (size // first) <= most), default=first)
    return split_columns(kernel, width) if width < first and width * (size // first) >= least else kernel


def _columns_of_unit(columns: int) -> int:
    """Columns of B that one unit takes in a product of one row: whole strips, in units that threads can share evenly."""
    strips = -(-columns // STRIP)
    units = next((u for u in (LEAST_UNITS, 6, 4) if strips % u == 0), LEAST_UNITS)
    return max(LEAST_COLUMNS, -(-strips // units) * STRIP)


def part_ns(kernel: Kernel, part: Part, lanes: int) -> float:
    """Roughly the time of a part at one point of the grid: as a matrix product, or `lanes` elements at a time."""
    return stage_ns(kernel, part.stage, 1, True) if isinstance(part, Contraction) else stage_ns(kernel, part, lanes, False)
