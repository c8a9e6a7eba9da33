"""Contractions: stages that are matrix products, given to the routine that computes them block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.emission.cost import stage_ns
from nagraph.backends.llvm.emission.prefetch import address
from nagraph.backends.llvm.gemm import machine_tile, scratch_nbytes
from nagraph.backends.llvm.gemm.tile import CHAIN
from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, i64
from nagraph.ir.scalar import F32, F64
from nagraph.ir.types import DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.column_split import columns, split_columns, with_row
from nagraph.kernel.form import Kernel, Load, Read, Stage, Store

#: Rows and columns of the block of a large product, and bytes of a B that need not be cut.
BLOCK = 192, 256
CACHED_NBYTES = 1 << 19
#: Multiplications from which a product at one point of the grid is worth a call.
LEAST_SLICE = 1 << 11
#: Units that a product has at least, so that threads can share it, unless its blocks had fewer rows than these.
LEAST_UNITS = 8
LEAST_ROWS = 12
#: Columns of a strip, and the fewest of a unit, where B streams past one row.
STRIP, LEAST_COLUMNS = 64, 192
#: Products in the sum of one element from which lanes run along the sum, in a product of one row whose factors both have unit steps.
LONG = 64
#: With fewer units than these it matters how many there are.
FEW_UNITS = 32


class Contraction(NamedTuple):
    """A stage that is a matrix product: C[rows, n] = sum over batches of A[rows, k] B[k, n]. Steps are strides, in elements.

    `rows`: the loops of the stage that are its rows; if there are none, they run along the last axis of the grid.
    `a_offsets`, `b_offsets`: where the batches begin, from where the first one does.
    """

    stage: Stage
    dtype: DType
    tile: int
    rows: tuple[int, ...]
    a: Load | Read
    b: Load | Read
    n: int
    k: int
    a_row: int
    a_step: int
    b_step: int
    b_column: int
    a_offsets: tuple[int, ...] = (0,)
    b_offsets: tuple[int, ...] = (0,)

    @property
    def columns(self) -> tuple[int, ...]:
        """The loops of the stage that are the columns of C."""
        return self.stage.kept[len(self.rows):]

    def tiles(self, rows: int) -> tuple[int, int, int]:
        """What a product of so many rows can prefetch: the tiles that do, the steps of each, and the bytes of an element."""
        tile = machine_tile(self.dtype)
        strips = -(-self.n // (2 * tile.lanes))
        return tile.prefetching(rows, strips), min(self.k * len(self.a_offsets), CHAIN), self.dtype.itemsize

    @property
    def scratch(self) -> int:
        """Bytes that the routine wants, behind the tiles."""
        return scratch_nbytes(self.dtype)

    def blocks(self, extent: int, products: int = 1, column_major: bool = False) -> tuple[int, int]:
        """(rows, columns) of the block that one unit computes, of a kernel that is `products` matrix products and nothing else.

        `column_major`: C is stored by columns, so the routine computes its transpose. Measured: blocks of 192 x 256 are within a
        tenth of the best ones at all sizes; a B that fits the second cache is not cut at all.
        """
        if column_major:
            columns, rows = self._replace(n=extent).blocks(self.n, products)
            return rows, columns
        if extent == 1:  # B is read once: the longer its rows, the better
            return 1, _columns_of_unit(self.n) if products == 1 else self.n
        small = self.k * len(self.a_offsets) * self.n * self.dtype.itemsize <= CACHED_NBYTES
        rows, columns = min(extent, BLOCK[0]), self.n if small else min(self.n, BLOCK[1])
        while products * -(-extent // rows) * -(-self.n // columns) < LEAST_UNITS and rows > LEAST_ROWS:
            if columns > 128 and rows <= 96:
                columns = max(128, columns // 2 // 64 * 64)
            else:
                rows = max(LEAST_ROWS, rows // 2 // LEAST_ROWS * LEAST_ROWS)
        return even_rows(extent, rows, products * -(-self.n // columns)), columns

    def fits(self, axes: Collection[int]) -> bool:
        """Whether these axes can be restricted to ranges: each is all of its rows, of its columns, or of what is summed."""
        reduced = self.stage.loops[len(self.stage.kept):]
        return all(a not in self.stage.loops or (a,) in (self.rows, self.columns, reduced) for a in axes)

    def _count(self, context: EmissionContext, axes: Sequence[int], extent: int) -> Reg:
        """How many rows, columns or terms there are: those of the range that their axis is restricted to, if it is."""
        part = context.ranges.get(axes[0]) if len(axes) == 1 else None
        return i64(extent) if part is None else context.code.sub(part.stop, part.start)

    def row_count(self, context: EmissionContext) -> Reg:
        """How many rows the product has, or the block of them."""
        return self._count(context, self.rows, math.prod(context.kernel.axes[a] for a in self.rows))

    def column_count(self, context: EmissionContext) -> Reg:
        """How many columns the product has, or the range of them."""
        return self._count(context, self.columns, self.n)

    def emit(self, context: EmissionContext, tile: Reg | None, target: Store | None, rows: Reg, column: Reg, columns: Reg,
             scratch_offset: int, prefetch_table: Reg = Reg("ptr", "null"), accumulate: Reg = Reg("i64", "0")) -> None:
        """Call the routine for `rows` rows from the current indices on, and `columns` columns from `column` on.

        scratch_offset: where the routine's scratch memory begins in the thread's. prefetch_table: what it asks for meanwhile.
        """
        code = context.code
        name = "gemm_f32" if self.dtype == F32 else "gemm_f64"
        element = "float" if self.dtype == F32 else "double"
        last = context.kernel.grid - 1
        a, b = (_first(context, x, element) for x in (self.a, self.b))
        b = code.offset(b, element, code.mul(column, i64(self.b_column)))
        if target is not None:
            c = code.offset(context.pointers[target.operand], element, address(context, target.index))
            c_row = nested(context.kernel, target.index, self.rows) if self.rows else target.index.coefficient(last)
            assert c_row is not None
            c_column = nested(context.kernel, target.index, self.columns) if self.columns else int(c_row not in (0, 1))
        else:
            assert tile is not None
            c, c_row, c_column = code.offset(tile, element, address(context, self.stage.folds[0].index)), self.n, 1
        a_table, b_table = (_table(code, offsets) for offsets in (self.a_offsets, self.b_offsets))
        scratch = code.offset(code.arguments[4], "i8", i64(scratch_offset))
        left, right = (a, i64(self.a_row), i64(self.a_step)), (b, i64(self.b_step), i64(self.b_column))
        c = code.offset(c, element, code.mul(column, i64(c_column)))
        size, tables, c_step = (rows, columns), (a_table, b_table), c_row
        height = math.prod(context.kernel.axes[a] for a in self.rows or range(context.kernel.grid)[-1:])
        assert c_column == 1 or c_row == 1 or height == 1, f"steps of {c_row} from row to row and {c_column} from column to column"
        if c_column != 1:  # the columns of C have unit steps: Cᵀ = BᵀAᵀ, its sums made in the same order
            left, right = (b, i64(self.b_column), i64(self.b_step)), (a, i64(self.a_step), i64(self.a_row))
            size, tables, c_step = (columns, rows), (b_table, a_table), c_column
        depth = self._count(context, self.stage.loops[len(self.stage.kept):], self.k)
        code.call(name, "void", *left, *right, c, i64(c_step), *size, depth, i64(len(self.a_offsets)), *tables, accumulate,
                  scratch, prefetch_table)


#: A stage, as the matrix product that it is or as its loops.
Part = Contraction | Stage


def _first(context: EmissionContext, x: Load | Read, element: str) -> Reg:
    """The address of the first element of A or B: in a tile for the first row of a block, or in memory."""
    if isinstance(x, Read):
        return context.code.offset(context.block_tiles[x.tile], element, address(context, x.index))
    return context.code.offset(context.pointers[x.operand], element, address(context, x.index))


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


def as_contraction(kernel: Kernel, stage: Stage) -> Contraction | None:
    """The stage as a matrix product, if it is one."""
    if len(stage.folds) != 1 or not stage.folds[0].is_contraction or stage.writes or stage.stores or len(stage.body) != 2:
        return None
    (fold,) = stage.folds
    a, b = (stage.body[v] for v in fold.values) if len(set(fold.values)) == 2 else (None, None)
    last, kept, reduced = kernel.grid - 1, stage.kept, stage.loops[len(stage.kept):]
    if not isinstance(a, (Load, Read)) or not isinstance(b, (Load, Read)) or a.dtype not in (F32, F64):
        return None
    if any(x.mask is not None or any(t < 0 for t, _ in x.index.terms) for x in (a, b)) or kernel.tiles[fold.tile].dtype != a.dtype:
        return None
    # A walks along the rows, B along the columns.
    count = max((n for n, axis in enumerate(kept, 1) if a.index.coefficient(axis)), default=0)
    rows, columns = kept[:count], kept[count:]
    if any(b.index.coefficient(axis) for axis in rows) or (not rows and (isinstance(b, Read) or b.index.coefficient(last))):
        return None
    n = math.prod(kernel.axes[x] for x in columns)
    steps = [nested(kernel, index, axes) for index, axes in ((b.index, columns), (fold.index, columns), (a.index, rows))]
    if None in steps or steps[1] not in (1, 0) or (rows and nested(kernel, fold.index, kept) != 1):
        return None
    # The longest run of the innermost reduced axes that both walk through at one step is k; those around it are batches.
    inner = next(i for i in range(len(reduced) + 1) if all(nested(kernel, x.index, reduced[i:]) is not None for x in (a, b)))
    a_step, b_step = (nested(kernel, x.index, reduced[inner:]) or 0 for x in (a, b))
    offsets = [_offsets(kernel, x.index, reduced[:inner]) for x in (a, b)]
    k = math.prod(kernel.axes[x] for x in reduced[inner:])
    if rows and math.prod(kernel.axes[x] for x in stage.loops) < LEAST_SLICE:
        return None
    a_row = kernel.tiles[a.tile].size if isinstance(a, Read) else a.index.coefficient(last) if kernel.grid else 0
    return Contraction(stage, a.dtype, fold.tile, rows, a, b, n, k, (steps[2] or 0) if rows else a_row, a_step, b_step, steps[0] or 0,
                       *offsets)


def matrix_parts(kernel: Kernel) -> list[Part]:
    """The stages, of which those that are products of whole matrices are contractions."""
    found = [as_contraction(kernel, s) or s for s in kernel.stages]
    return [p if isinstance(p, Stage) or p.rows else p.stage for p in found]


def _offsets(kernel: Kernel, index: Affine, axes: Sequence[int]) -> tuple[int, ...]:
    """What an index adds at each point of these axes, row-major."""
    steps = [range(0, kernel.axes[a] * index.coefficient(a), index.coefficient(a)) if index.coefficient(a) else (0,) * kernel.axes[a]
             for a in axes]
    return tuple(map(sum, itertools.product(*steps)))


def with_column_split(kernel: Kernel) -> Kernel:
    """A matrix product and what is done to each of its elements, in blocks of columns if B is large or rows are few."""
    parts = [as_contraction(kernel, s) for s in kernel.stages]
    found = columns(kernel)
    products = [p for p in parts if p is not None and not p.rows]
    if not found or not products or len(parts) == len(products) or any(s.reduced for s, p in zip(kernel.stages, parts) if p is None):
        return kernel
    first, size = kernel.axes[found[0]], products[0].n
    units = math.prod(kernel.axes[:kernel.grid - 1]) * -(-kernel.axes[kernel.grid - 1] // BLOCK[0]) if kernel.grid else 1
    large = any(p.k * len(p.a_offsets) * p.n * p.dtype.itemsize > CACHED_NBYTES for p in products)
    least = 32
    if large and not kernel.grid and all(p.b_column == 1 for p in products):
        kernel, most = with_row(kernel), _columns_of_unit(size)  # one row, past which B streams
    elif large and not kernel.grid and all(p.b_step == 1 and p.k >= LONG for p in products):
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


def nested(kernel: Kernel, index: Affine, axes: Sequence[int]) -> int | None:
    """The step of an index along axes walked through as one, row-major; None if there is no single step."""
    if not axes:
        return 0
    for outer, inner in zip(axes, axes[1:]):
        if index.coefficient(outer) != index.coefficient(inner) * kernel.axes[inner]:
            return None
    return index.coefficient(axes[-1])


def column_major(kernel: Kernel, store: Store) -> bool:
    """Whether a block is stored by columns: its rows, not its columns, have unit steps."""
    return kernel.grid > 0 and store.index.coefficient(kernel.grid - 1) == 1


def direct_output(
    kernel: Kernel, parts: list[Part], sums: Collection[int] = ()
) -> tuple[list[Part], dict[int, Store]]:
    """The parts but for stages that only copy a contraction's tile to where it is stored, and these stores by the tile.

    `sums`: tiles that several calls add to, which stay where they are in cache.
    """
    found: dict[int, Store] = {}
    kept = list(parts)
    for part in parts:
        if not isinstance(part, Contraction) or part.tile in sums:
            continue
        readers = [p for p in parts if p is not part and _reads(p, part.tile)]
        copy = readers[0] if len(readers) == 1 else part
        if isinstance(copy, Contraction):
            continue
        if len(copy.body) != 1 or copy.folds or copy.writes or len(copy.stores) != 1 or copy.loops != part.stage.kept:
            continue
        (store,), (read,) = copy.stores, copy.body
        assert isinstance(read, Read)
        if store.combine is not None:  # it adds to what stands there
            continue
        step = nested(kernel, store.index, part.columns) if part.columns else 1
        straight = read.index == part.stage.folds[0].index and None not in (step, nested(kernel, store.index, part.rows))
        if straight and (step == 1 or (not part.rows and column_major(kernel, store))):
            found[part.tile] = store
            kept = [p for p in kept if p is not copy]
    return kept, found


def tiles_in_memory(kernel: Kernel, parts: Collection[Part]) -> set[int]:
    """The tiles that can't be registers: those of several elements, and those that matrix products read or write."""
    products = [p for p in parts if isinstance(p, Contraction)]
    factors = {x.tile for p in products for x in (p.a, p.b) if isinstance(x, Read)}
    return {i for i, t in enumerate(kernel.tiles) if t.size > 1} | factors | {p.tile for p in products}


def _reads(part: Part, tile: int) -> bool:
    return any(isinstance(i, Read) and i.tile == tile for i in stage_of(part).body)


def stage_of(part: Part) -> Stage:
    """The stage that a part is."""
    return part.stage if isinstance(part, Contraction) else part


def part_ns(kernel: Kernel, part: Part, lanes: int) -> float:
    """Roughly the time of a part at one point of the grid: as a matrix product, or `lanes` elements at a time."""
    return stage_ns(kernel, part.stage, 1, True) if isinstance(part, Contraction) else stage_ns(kernel, part, lanes, False)
