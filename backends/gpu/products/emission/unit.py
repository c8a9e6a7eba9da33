"""The unit: what a block of threads has in hand while its text is written: its rows, its shared memory, the tiles that stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from nagraph.backends.gpu.dialect import Dialect
from nagraph.backends.gpu.products.block_form import BlockForm
from nagraph.backends.gpu.products.form import WARP, BlockSchedule
from nagraph.backends.gpu.products.tiles import aligned
from nagraph.c_text.functions import Functions
from nagraph.c_text.scalars import CScalars
from nagraph.c_text.text import Text
from nagraph.ir.types import DType
from nagraph.kernel.affine import Affine, bounds

#: The place in the text that takes the address of the staging memory, which is known in the end.
STAGING = "@staging@"
#: The largest index that an int holds.
LARGEST = (1 << 31) - 1


class Range(NamedTuple):
    """The places [start, stop) of axes that are walked as one: `size` of them at most. `whole`: all that there are."""

    start: str
    stop: str
    size: int
    whole: bool = False

    @staticmethod
    def of(extent: int) -> Range:
        """All places."""
        return Range("0", str(extent), extent, True)

    def covers(self, other: Range) -> bool:
        """Whether it has all places of another one."""
        return self.whole or self == other

    @property
    def full(self) -> bool:
        """Whether there are `size` of them, which is known now."""
        return self.whole


class Storage(NamedTuple):
    """The shared memory of a tile: `name` points to its first element; a row is `pitch` elements."""

    name: str
    pitch: int
    rows: Range
    columns: Range

    def at(self, row: str, column: str) -> str:
        """The element of a row and a column, by their numbers in the whole tile."""
        return f"{self.name}[{plus(times(minus(row, self.rows.start), self.pitch), minus(column, self.columns.start))}]"


class Unit:
    """A unit has the text, its scalars, and what stands in shared memory. ranges: "rows" of a unit whose rows are the grid's.

    at: what is known of the kernel's axes: the point of the batch.
    """

    def __init__(self, form: BlockForm, schedule: BlockSchedule, text: Text, dialect: Dialect):
        self.form, self.kernel, self.schedule, self.text, self.dialect = form, form.kernel, schedule, text, dialect
        self.s, self.functions = CScalars(text, dialect), Functions(dialect)
        self.at: dict[int, str] = {}
        self.rows = Range("0", "1", 1, True)
        self.storages: dict[int, Storage] = {}
        self.nbytes = self.most_nbytes = self.staging_nbytes = 0

    @property
    def threads(self) -> int:
        return self.schedule.threads

    @property
    def warps(self) -> int:
        return self.schedule.threads // WARP

    def extent(self, axes: Sequence[int]) -> int:
        return self.form.extent(axes)

    # -- shared memory ----------------------------------------------------------------------------------------

    def memory(self, dtype: DType, elements: int, what: str) -> str:
        """The name of new shared memory, which is free again at the end of the scope."""
        kind, name = self.dialect.memory_type(dtype), f"{what}_{self.text.fresh()}"
        self.text.line(f"{self.dialect.shared}{kind}* const {name} = ({self.dialect.shared}{kind}*)(memory + {self.nbytes});")
        self.nbytes += aligned(elements * dtype.itemsize)
        self.most_nbytes = max(self.most_nbytes, self.nbytes)
        return name

    def store_tile(self, tile: int, rows: Range, columns: Range) -> Storage:
        """Memory for a block of a tile. Its rows lie four elements further apart than they are long, in other banks."""
        pitch = columns.size if columns.size < 16 else -(-columns.size // 4) * 4 + 4
        found = Storage(self.memory(self.kernel.tiles[tile].dtype, rows.size * pitch, f"t{tile}"), pitch, rows, columns)
        self.storages[tile] = found
        return found

    @contextmanager
    def scope(self, head: str = "") -> Iterator[None]:
        """A block of the text, after which what it stored is gone."""
        storages, nbytes = self.storages, self.nbytes
        self.storages = dict(storages)
        with self.text.block(head):
            yield
        self.storages, self.nbytes = storages, nbytes

    def barrier(self) -> None:
        """All threads wait for each other."""
        self.text.line("ng_block_barrier();")

    # -- places -----------------------------------------------------------------------------------------------

    def index(self, x: Affine, place: dict[int, str]) -> str:
        """An affine expression, `place` of each atom; in 64 bits where 32 are too few."""
        extents = {a: self.kernel.axes[a] for a, _ in x.terms if a >= 0}
        wide = any(a < 0 for a, _ in x.terms) or max(map(abs, bounds(x, extents))) > LARGEST
        return affine(x, {a: place[a] for a, _ in x.terms}, wide)


def affine(x: Affine, place: dict[int, str], wide: bool) -> str:
    """The text of an affine expression."""
    parts = [times(f"(i64){atom_text(place[a])}" if wide else place[a], c) for a, c in x.terms]
    if x.offset or not parts:
        parts.append(str(x.offset))
    return " + ".join(parts)


def atom_text(x: str) -> str:
    """An expression that binds as a name does."""
    return x if re.fullmatch(r"[\w.]+", x) else f"({x})"


def times(x: str, factor: int) -> str:
    """The text of a product with a number."""
    if x == "0" or factor == 0:
        return "0"
    return x if factor == 1 else f"{factor} * {atom_text(x) if not x.startswith('(i64)') else x}"


def plus(x: str, y: str) -> str:
    """The text of a sum."""
    return y if x == "0" else x if y == "0" else f"{x} + {y}"


def minus(x: str, y: str) -> str:
    """The text of a difference."""
    return x if y == "0" else "0" if x == y else f"({x} - {atom_text(y)})"
