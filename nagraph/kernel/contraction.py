"""Contractions: which stages of a kernel are matrix products, of which factors, and where their elements are.

Every backend asks here. A stage that sums products is one if both factors are read from memory, unmasked and at affine indices: its
axes then are rows, columns, and what is summed over, and each factor has one stride along each of these.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nagraph.ir.types import DTYPES, DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Consecutive, Interleaved, Kernel, Load, Order, Read, Stage, Store

#: Products that one chain of fma adds up, at most: of so many rows and columns a product keeps a part in cache.
CHAIN = 512
#: Multiplications from which a product at one point of the grid is worth a call.
LEAST_SLICE = 1 << 11


class Factor(NamedTuple):
    """A factor of a matrix product: where its first element is read, and its strides, in elements.

    free: along the rows of A, or the columns of B. summed: along k. offsets: where each batch begins, counted from the first one.
    """

    access: Load | Read
    free: int
    summed: int
    offsets: tuple[int, ...]


@dataclass(frozen=True)
class Contraction:
    """A stage that is a matrix product: C[m, n] = sum over batches of A[m, k] B[k, n].

    rows, columns: the loops of the stage that are the rows and columns of C; without `rows` these run along the last axis of the grid.
    batches, summed: the reduced loops, of which the factors walk through `summed` with one stride each, and through `batches` by offsets.
    tile: where the fold puts C. m, n, k: extents of the rows, the columns and `summed`.
    """

    stage: Stage
    dtype: DType
    tile: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    batches: tuple[int, ...]
    summed: tuple[int, ...]
    m: int
    n: int
    k: int
    a: Factor
    b: Factor

    @staticmethod
    def of(kernel: Kernel, stage: Stage) -> Contraction | None:
        """The stage as the matrix product that it is; None if it is none."""
        if len(stage.folds) != 1 or not stage.folds[0].is_contraction or stage.writes or stage.stores or len(stage.body) != 2:
            return None
        (fold,) = stage.folds
        a, b = (stage.body[v] for v in fold.values) if len(set(fold.values)) == 2 else (None, None)
        if not isinstance(a, (Load, Read)) or not isinstance(b, (Load, Read)) or a.dtype not in (DTYPES["f32"], DTYPES["f64"]):
            return None
        if any(x.mask is not None or any(t < 0 for t, _ in x.index.terms) for x in (a, b)) or kernel.tiles[fold.tile].dtype != a.dtype:
            return None
        # A walks along the rows, B along the columns.
        last, kept, reduced = kernel.grid - 1, stage.kept, stage.loops[len(stage.kept):]
        count = max((n for n, axis in enumerate(kept, 1) if a.index.coefficient(axis)), default=0)
        rows, columns = kept[:count], kept[count:]
        if any(b.index.coefficient(axis) for axis in rows) or (not rows and (isinstance(b, Read) or b.index.coefficient(last))):
            return None
        along = [stride(kernel, index, axes) for index, axes in ((b.index, columns), (fold.index, columns), (a.index, rows))]
        if None in along or along[1] not in (1, 0) or (rows and stride(kernel, fold.index, kept) != 1):
            return None
        # The longest run of the innermost reduced axes that both walk through at one stride is k; those around it are batches.
        inner = next(i for i in range(len(reduced) + 1) if all(stride(kernel, x.index, reduced[i:]) is not None for x in (a, b)))
        batches, summed = reduced[:inner], reduced[inner:]
        of_grid = kernel.tiles[a.tile].size if isinstance(a, Read) else a.index.coefficient(last) if kernel.grid else 0
        left, right = (
            Factor(x, free or 0, stride(kernel, x.index, summed) or 0, _offsets(kernel, x.index, batches))
            for x, free in ((a, along[2] if rows else of_grid), (b, along[0])))
        m, n, k = (math.prod(kernel.axes[x] for x in axes) for axes in (rows or range(kernel.grid)[-1:], columns, summed))
        return Contraction(stage, a.dtype, fold.tile, rows, columns, batches, summed, m, n, k, left, right)

    @property
    def terms(self) -> int:
        """The products that one element of C is the sum of."""
        return self.k * len(self.a.offsets)

    @property
    def b_nbytes(self) -> int:
        """The bytes of B that are read, in all batches."""
        return self.terms * self.n * self.dtype.itemsize

    @property
    def chain(self) -> tuple[int, int]:
        """(batches, terms of each) of a chain, in the order that its fold states, which a product must follow."""
        return chain_of(self.k, len(self.a.offsets), self.stage.folds[0].order)

    def fits(self, axes: Collection[int]) -> bool:
        """Whether these axes can be restricted to ranges: each is all of its rows, of its columns, or of what is summed."""
        return all(a not in self.stage.loops or (a,) in (self.rows, self.columns, self.batches + self.summed) for a in axes)

    def strides_of(self, kernel: Kernel, store: Store) -> tuple[int, int]:
        """(row, column): the strides of C where a store puts it."""
        row = stride(kernel, store.index, self.rows) if self.rows else store.index.coefficient(kernel.grid - 1)
        assert row is not None
        column = stride(kernel, store.index, self.columns) if self.columns else int(row not in (0, 1))
        assert column == 1 or row == 1 or self.m == 1, f"steps of {row} from row to row and {column} from column to column"
        return row, column


def product_order(k: int, batches: int) -> Consecutive:
    """The order of additions of a product: chains of whole batches where these are short, else nearly equal parts of each batch."""
    if k * batches <= CHAIN:
        return Consecutive()
    if k <= CHAIN:
        groups = ceil_div(batches, CHAIN // k)
        return Consecutive(ceil_div(batches, groups) * k)
    part = ceil_div(k, ceil_div(k, CHAIN))
    return Consecutive(ceil_div(part, 16) * 16, k if batches > 1 else 0)


def chain_of(k: int, batches: int, order: Order | None = None) -> tuple[int, int]:
    """(batches, terms of each) of a chain of a product; without a stated order, of `product_order`."""
    order = order or product_order(k, batches)
    assert isinstance(order, Consecutive)
    if not order.length:
        return max(1, batches), max(1, k)
    return (order.length // k, k) if order.length >= k else (1, order.length)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


#: A stage, as the matrix product that it is or as its loops.
Part = Contraction | Stage


def product_parts(kernel: Kernel) -> list[Part]:
    """The stages, of which those that are worth being computed as matrix products are contractions.

    The order of additions decides first, where it is stated: a product's chains are consecutive, and none is longer than CHAIN.
    """
    parts: list[Part] = []
    for stage, found in zip(kernel.stages, contractions(kernel)):
        order = stage.folds[0].order if stage.folds else None
        if isinstance(order, Consecutive) and order.length:
            found = Contraction.of(kernel, stage)
            assert found is not None, f"only products add up {order}"
        loops = found is None or isinstance(order, Interleaved) or (order == Consecutive() and found.terms > CHAIN)
        parts.append(stage if loops or found is None else found)
    return parts


def contractions(kernel: Kernel) -> list[Contraction | None]:
    """For each stage the matrix product that it is, if it is one and worth a call, whatever the order of additions."""
    found = (Contraction.of(kernel, s) for s in kernel.stages)
    return [None if c is None or (c.rows and c.m * c.n * c.terms < LEAST_SLICE) else c for c in found]


def slice_parts(kernel: Kernel) -> list[Part]:
    """The stages, of which those that are products of whole matrices at one point of the grid are contractions."""
    return [p if isinstance(p, Stage) or p.rows else p.stage for p in product_parts(kernel)]


def stage_of(part: Part) -> Stage:
    """The stage that a part is."""
    return part.stage if isinstance(part, Contraction) else part


def stride(kernel: Kernel, index: Affine, axes: Sequence[int]) -> int | None:
    """The stride of an index along axes walked through as one, row-major; None if there is no single one."""
    if not axes:
        return 0
    for outer, inner in zip(axes, axes[1:]):
        if index.coefficient(outer) != index.coefficient(inner) * kernel.axes[inner]:
            return None
    return index.coefficient(axes[-1])


def makes_matrix(stage: Stage) -> bool:
    """Whether a stage sums products to a matrix of several rows at each point of the grid, not to one row of it, in whatever order."""
    for fold in (f for f in stage.folds if f.is_contraction):
        x, y = ({axis for axis, _ in getattr(stage.body[v], "index", Affine()).terms} & {*stage.kept} for v in fold.values)
        if x - y and y - x:
            return True
    return False


def _offsets(kernel: Kernel, index: Affine, axes: Sequence[int]) -> tuple[int, ...]:
    """What an index adds at each point of these axes, row-major."""
    steps = [range(0, kernel.axes[a] * index.coefficient(a), index.coefficient(a)) if index.coefficient(a) else (0,) * kernel.axes[a]
             for a in axes]
    return tuple(map(sum, itertools.product(*steps)))


def is_column_major(kernel: Kernel, store: Store) -> bool:
    """Whether C is stored by columns: the rows along the last axis of the grid, not the columns, have unit steps."""
    return kernel.grid > 0 and store.index.coefficient(kernel.grid - 1) == 1


def direct_output(kernel: Kernel, parts: list[Part], sums: Collection[int] = ()) -> tuple[list[Part], dict[int, Store]]:
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
        step = stride(kernel, store.index, part.columns) if part.columns else 1
        straight = read.index == part.stage.folds[0].index and None not in (step, stride(kernel, store.index, part.rows))
        if straight and (step == 1 or (not part.rows and is_column_major(kernel, store))):
            found[part.tile] = store
            kept = [p for p in kept if p is not copy]
    return kept, found


def tiles_in_memory(kernel: Kernel, parts: Collection[Part]) -> set[int]:
    """The tiles that can't be registers: those of several elements, and those that matrix products read or write."""
    products = [p for p in parts if isinstance(p, Contraction)]
    factors = {x.access.tile for p in products for x in (p.a, p.b) if isinstance(x.access, Read)}
    return {i for i, t in enumerate(kernel.tiles) if t.size > 1} | factors | {p.tile for p in products}


def _reads(part: Part, tile: int) -> bool:
    return any(isinstance(i, Read) and i.tile == tile for i in stage_of(part).body)
