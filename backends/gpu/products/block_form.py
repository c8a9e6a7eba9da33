"""The block form of a kernel: how a block of threads goes through its rows and columns, and what of its tiles it needs at a time.

There are two. *Rows of the grid*: the points of some axes of the grid are rows of matrix products, whose columns are loops of the stages.
*Matrices at a point*: each point of the grid has whole matrices, as attention with its gradient has; then the rows are the first loop of
each stage, each result is computed by blocks of its own rows, and what a block reads of another matrix is computed where it is read, block
by block. So a sum over the rows of a matrix of scores needs neither that matrix nor atomics: whoever sums computes the scores again.

Source: Dao, FlashAttention-2 (2023), for the gradient.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nagraph.backends.gpu.products.stage_product import StageProduct, axes_of, dot_values
from nagraph.backends.gpu.products.widened import read_at_their_sources
from nagraph.kernel.affine import Affine
from nagraph.kernel.axis_classes import AxisClasses
from nagraph.kernel.contraction import stride
from nagraph.kernel.form import Kernel, Read, Running
from nagraph.kernel.stage_split import split_stage
from nagraph.kernel.triangle import triangle

#: Which terms of a row count.
UP_TO, FROM = "up to", "from"


class Dims(NamedTuple):
    """The axes of a stage by what they are: rows, columns, and what it reduces; each is walked as one, row-major."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    reduced: tuple[int, ...]


class TileForm(NamedTuple):
    """Where a tile has the element of a row and a column: at `row` times one plus `column` times the other.

    rows, width: how many there are of each. row is 0 for tiles of one row of the grid, and `width` 1 for tiles without columns.
    """

    writer: int
    row: int
    column: int
    rows: int
    width: int


@dataclass(frozen=True)
class BlockForm:
    """The block form of a kernel.

    kernel: without widened tiles, and with its stages split if matrices stand at points of its grid. rows: axes of the grid that are rows,
    () for matrices at points. batch: the other axes of the grid. products: the stages that are matrix products, by number. tiles: the form
    of each tile. whole: tiles of which some stage reads another column than its own, which therefore are whole when they are read.
    diagonals: of stages that reduce along a triangle of rows and columns which of its terms count: those "up to" the row, or "from" it on.
    """

    kernel: Kernel
    rows: tuple[int, ...]
    batch: tuple[int, ...]
    dims: tuple[Dims, ...]
    products: dict[int, StageProduct]
    tiles: dict[int, TileForm]
    whole: frozenset[int]
    diagonals: dict[int, str]

    def extent(self, axes: Sequence[int]) -> int:
        """The places of axes that are walked as one."""
        return math.prod(self.kernel.axes[a] for a in axes)

    @property
    def split_columns(self) -> int:
        """How many columns every stage has, if none needs another column of what an earlier one made; else 0."""
        sizes = {self.extent(d.columns) for d in self.dims}
        elementwise = all(n in self.products or not d.reduced for n, d in enumerate(self.dims))
        tiles = all(t.width in sizes for t in self.tiles.values())
        return sizes.pop() if self.rows and len(sizes) == 1 and elementwise and tiles and not self.whole else 0

    def stored(self) -> Iterator[int]:
        """The stages that store something."""
        return (n for n, s in enumerate(self.kernel.stages) if s.stores)

    def match(self, number: int, index: Affine, tile: int) -> dict[str, str] | None:
        """Which axes of a stage ("rows", "columns", "reduced") walk the "rows" and "columns" of a tile that it reads; None if none do.

        Of tiles of one row of the grid only the columns are told.
        """
        form, dims = self.tiles[tile], self.dims[number]
        if index.offset or any(a < 0 for a, _ in index.terms):
            return None
        found: dict[str, str] = {}
        used: set[int] = set()
        for name, step, extent in (("rows", form.row, form.rows), ("columns", form.column, form.width)):
            if not step or extent == 1:
                continue
            for other in Dims._fields:
                axes = getattr(dims, other)
                if self.rows and other == "rows":
                    continue
                if axes and other not in found.values() and self.extent(axes) == extent and stride(self.kernel, index, axes) == step:
                    found[name] = other
                    used |= set(axes)
                    break
            else:
                return None
        return found if {a for a, _ in index.terms} <= used else None


@functools.lru_cache(1024)
def block_form(kernel: Kernel) -> BlockForm | None:
    """The block form of a kernel; None if it has no matrix products, or does something that a block of threads does not know."""
    if 0 in kernel.axes[:kernel.grid] or not any(dot_values(kernel, s) for s in kernel.stages):
        return None
    if any(isinstance(i, Running) for s in kernel.stages for i in s.body):
        return None
    stores = [s for stage in kernel.stages for s in stage.stores]
    if any((s.combine is not None and not s.row_sum) or any(a < 0 for a, _ in s.index.terms) for s in stores):
        return None
    kernel = read_at_their_sources(kernel)
    return _grid_rows(kernel) or _matrices(kernel)


def _grid_rows(kernel: Kernel) -> BlockForm | None:
    """Rows along those axes of the grid that no second factor varies with; with row sums, along the axes that these leave out."""
    rows = set(range(kernel.grid))
    for stage in kernel.stages:
        values = dot_values(kernel, stage)
        if values is None or not stage.kept:
            continue
        axes = sorted((axes_of(kernel, stage, v) for v in values), key=lambda found: len(found & set(stage.kept)))
        if axes[0] & set(stage.kept):
            continue
        rows -= axes[1]
    if kernel.sequential:
        last = set(range(kernel.grid - kernel.sequential, kernel.grid))
        rows = last if last <= rows else set()
    if not rows:
        return None
    along = tuple(sorted(rows))
    dims = tuple(Dims(along, s.kept, s.loops[len(s.kept):]) for s in kernel.stages)
    found = {n: StageProduct.of(kernel, s, d.rows, d.columns) for n, (s, d) in enumerate(zip(kernel.stages, dims))}
    products = {n: p for n, p in found.items() if p is not None}
    return _finished(kernel, along, dims, products)


def _matrices(kernel: Kernel) -> BlockForm | None:
    """Rows along the first loop of each stage, of a product along the loops that its first factor alone varies with."""
    if kernel.sequential:
        return None
    kernel = dataclasses.replace(kernel, stages=tuple(part for s in kernel.stages for part in split_stage(s)))
    dims, products = [], {}
    for n, stage in enumerate(kernel.stages):
        kept, reduced = stage.kept, stage.loops[len(stage.kept):]
        at = 1
        for i in range(1, len(kept)):
            found = StageProduct.of(kernel, stage, kept[:i], kept[i:])
            if found is not None:
                products[n], at = found, i
                break
        dims.append(Dims(kept[:at], kept[at:], reduced))
    return _finished(kernel, (), tuple(dims), products)


def _finished(kernel: Kernel, rows: tuple[int, ...], dims: tuple[Dims, ...], products: dict[int, StageProduct]) -> BlockForm | None:
    if not products:
        return None
    tiles: dict[int, TileForm] = {}
    for n, (stage, d) in enumerate(zip(kernel.stages, dims)):
        for made in (*stage.folds, *stage.writes):
            if made.tile < 0:
                continue
            found = _tile_form(kernel, rows, n, space(d, made.index), made.index, kernel.tiles[made.tile].size)
            if found is None or made.tile in tiles:
                return None
            tiles[made.tile] = found
    form = BlockForm(kernel, rows, tuple(a for a in range(kernel.grid) if a not in rows), dims, products, tiles, frozenset(), {})
    whole = set()
    for n, stage in enumerate(kernel.stages):
        for i in stage.body:
            if isinstance(i, Read):
                if i.tile not in tiles:
                    return None
                if form.match(n, i.index, i.tile) is None:
                    if not rows:
                        return None
                    whole.add(i.tile)
    return dataclasses.replace(form, whole=frozenset(whole), diagonals=_diagonals(form))


def _diagonals(form: BlockForm) -> dict[int, str]:
    """Beyond the diagonal of a causal mask nothing counts (`nagraph.kernel.triangle`)."""
    held = triangle(form.kernel, AxisClasses(form.kernel))
    found = {}
    for n, dims in enumerate(form.dims if held is not None else ()):
        along = (held.rows[n],), (held.columns[n],)  # type: ignore[union-attr]
        if (dims.rows, dims.reduced) == along:
            found[n] = UP_TO
        elif (dims.reduced, dims.rows) == along:
            found[n] = FROM
    return found


def space(dims: Dims, index: Affine) -> Dims:
    """The axes at each of whose points something is written: of a stage that writes at every point of a sum, its terms are columns."""
    inside = {a for a, _ in index.terms} & set(dims.reduced)
    return Dims(dims.rows, (*dims.columns, *dims.reduced), ()) if inside else dims


def _tile_form(kernel: Kernel, rows: tuple[int, ...], writer: int, dims: Dims, index: Affine, size: int) -> TileForm | None:
    """The form of a tile that is written at an index; None if it is no matrix of the stage's rows and columns."""
    walked = {a for a, _ in index.terms}
    along = [(axes, math.prod(kernel.axes[a] for a in axes)) for axes in ((() if rows else dims.rows), dims.columns)]
    steps = [stride(kernel, index, axes) if walked & set(axes) else 0 for axes, _ in along]
    (row, column), (height, width) = steps, (n if step else 1 for step, (_, n) in zip(steps, along))
    if row is None or column is None or index.offset or walked - {a for axes, _ in along for a in axes} or height * width != size:
        return None
    return TileForm(writer, row, column, height, width)
