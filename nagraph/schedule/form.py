"""The schedule of a kernel as data: what a unit of its grid is, and how the stages run in it.

A kernel says what is computed, and in which order sums are added up. A schedule says the rest: what one call of the kernel's
function computes, along which axis vectors run, how large the tiles of products are, what stays in tiles, what memory is asked
for ahead of time. Whatever legal schedule a kernel has, its results have the same bits.

Its text, `str(schedule)`, reads back with `nagraph.schedule.text`. It speaks of axes, operands and stages by the numbers that they have
in the text of the kernel, or, where columns are split or rows go in blocks, of the kernel that this makes (`realise.realised`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Lanes(NamedTuple):
    """Units of lanes: a unit is `width` neighbouring points of the grid's last axis, each in a lane of its own in all stages."""

    width: int

    def __str__(self) -> str:
        return f"{self.width} points in lanes"


class Tiles(NamedTuple):
    """Transposed tiles: a unit is a square of points of the grid's last axis and of `axis`, which is transposed in registers."""

    axis: int
    width: int

    def __str__(self) -> str:
        return f"tiles of {self.width} along a{self.axis}, transposed"


class Points(NamedTuple):
    """Units of points: a unit is a point of the grid. rows: of the matrices at a point, rows that are computed at a time; 0 for all."""

    rows: int = 0

    def __str__(self) -> str:
        return f"points, {self.rows} rows at a time" if self.rows else "points"


class Rows(NamedTuple):
    """Blocks of rows: a unit is `rows` points of the grid's last axis, which are the rows of matrix products.

    columns: of a kernel that is one product alone, the columns that a unit computes; 0 for all. triangle: of causal scores only the columns
    that a row of the block sees are computed.
    """

    rows: int
    columns: int = 0
    triangle: bool = False

    def __str__(self) -> str:
        across = f" and {self.columns} columns" if self.columns else ""
        return f"blocks of {self.rows} rows{across}{' of a triangle' if self.triangle else ''}"


Units = Lanes | Tiles | Points | Rows


class Loops(NamedTuple):
    """A stage as loops: lanes along one of its axes, or none; `width` lanes at a time, in one or several vector registers.

    cuts: places along that axis between which a loop of its own runs, so that it asks for no condition that is known there.
    """

    axis: int | None = None
    width: int = 1
    cuts: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.axis is None:
            return "element by element"
        cuts = f", cut at {', '.join(map(str, self.cuts))}" if self.cuts else ""
        return f"{self.width} lanes along a{self.axis}{cuts}"


class Product(NamedTuple):
    """A stage as a matrix product, which the routine for products computes.

    rows, vectors: the height of its register tiles, and their width in vector registers. block: rows of A that it goes through at a time.
    packs: whether parts of A and B are copied to where they are read in order, if their rows or columns fall into few sets of a cache;
    a B without unit steps along its rows is copied in any case.
    """

    rows: int
    vectors: int
    block: int
    packs: bool = True

    def __str__(self) -> str:
        packs = "" if self.packs else ", unpacked"
        return f"product, register tiles of {self.rows} rows by {self.vectors} vectors, blocks of {self.block} rows{packs}"


class Stored(NamedTuple):
    """A stage that only copies what a product makes to where it is stored: the product writes there itself, no tile stands between."""

    def __str__(self) -> str:
        return "stored by its product"


How = Loops | Product | Stored


class Split(NamedTuple):
    """The columns as a parallel axis: parts of `width` of `axis`, the first axis of the columns.

    row: a kernel without a grid is given one of one row, so that its products stay products. width 0: nothing but that.
    """

    axis: int
    width: int
    row: bool = False

    def __str__(self) -> str:
        parts = [f"a{self.axis} in parts of {self.width}"] if self.width else []
        return ", ".join([*parts, *(["one row"] if self.row else [])])


@dataclass(frozen=True)
class Schedule:
    """A schedule is how a kernel runs.

    units: what one unit is. chunk: units that a thread takes at a time. split: its columns as a parallel axis, before all else.
    prefetch: operands that are asked for ahead of time: while products are computed, or `during` a stage.
    stages: how each stage runs, in their order; none where the lanes run along the grid, in all stages alike.
    """

    units: Units
    chunk: int
    stages: tuple[How, ...] = ()
    split: Split | None = None
    prefetch: tuple[int, ...] = ()
    during: int | None = None

    def __str__(self) -> str:
        lines = [f"split: {self.split}"] if self.split is not None else []
        lines += [f"units: {self.units}", f"chunk: {self.chunk}"]
        if self.prefetch:
            during = f" during stage {self.during}" if self.during is not None else ""
            lines.append(f"prefetch: {', '.join(f'p{i}' for i in self.prefetch)}{during}")
        lines += [f"stage {n}: {how}" for n, how in enumerate(self.stages)]
        return "\n".join(["schedule {", *(f"  {line}" for line in lines), "}"])
