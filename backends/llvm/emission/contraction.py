"""Matrix products: contractions given to the routine that computes them, block by block."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.prefetch import address
from nagraph.backends.llvm.gemm.routine import scratch_size
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, i64
from nagraph.kernel.contraction import CHAIN, Contraction, Factor
from nagraph.kernel.form import Read, Store


def prefetching(context: EmissionContext, product: Contraction, rows: int) -> tuple[int, int, int]:
    """What a product of so many rows can prefetch: the tiles that do, the steps of each, and the bytes of an element."""
    tile = tile_of(context, product)
    strips = -(-product.n // tile.strip)
    return tile.prefetching(rows, strips), min(product.terms, CHAIN), product.dtype.itemsize


def scratch(context: EmissionContext, product: Contraction) -> int:
    """Bytes that the routine wants, behind the tiles."""
    return scratch_size(tile_of(context, product))


def tile_of(context: EmissionContext, product: Contraction) -> Tile:
    """The sizes of the routine that the schedule wants for a product."""
    return Tile(product.dtype, context.target, context.product(product.stage))


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
    tile_sizes = tile_of(context, product)
    name, element = tile_sizes.name, tile_sizes.element
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
    code.call(name, "void", *left, *right, c, i64(c_step), *size, depth, i64(len(a.offsets)), *map(i64, product.chain), *tables, accumulate,
              scratch_here, prefetch_table)


def _first(context: EmissionContext, x: Factor, element: str) -> Reg:
    """The address of the first element of A or B: in a tile for the first row of a block, or in memory."""
    place = x.access
    base = context.block_tiles[place.tile] if isinstance(place, Read) else context.pointers[place.operand]
    return context.code.offset(base, element, address(context, place.index))


def _table(code: FunctionBuilder, offsets: tuple[int, ...]) -> Reg:
    """A constant of the module that holds the offsets; null where there is one batch alone."""
    return Reg("ptr", "null") if offsets == (0,) else code.table(offsets)


def columns_from(code: FunctionBuilder, column: Reg, columns: int, n: int) -> Reg:
    """How many columns a block has that begins at `column`: `columns`, of the last one what remains of `n`."""
    if n % columns == 0:
        return i64(columns)
    left = code.sub(i64(n), column)
    return code.emit("i64", f"call i64 @llvm.smin.i64({left}, i64 {columns})")
