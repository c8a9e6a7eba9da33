"""The sizes of the matrix product: what a register tile, a strip and a block hold, and the name of the routine that has them."""

from __future__ import annotations

from dataclasses import dataclass

from nagraph.backends.llvm.text.builder import vector
from nagraph.ir.types import DTYPES, DType
from nagraph.schedule.form import Product
from nagraph.schedule.products import register_tile
from nagraph.schedule.target import Target

F32, F64 = DTYPES["f32"], DTYPES["f64"]



@dataclass(frozen=True)
class Tile:
    """The sizes of register tiles and blocks for a dtype on a machine, as a schedule says them."""

    dtype: DType
    target: Target
    product: Product

    def __post_init__(self) -> None:
        if self.dtype not in (F32, F64):
            raise TypeError(f"matrix products are emitted for f32 and f64, not {self.dtype}")

    @property
    def suffix(self) -> str:
        return "f32" if self.dtype == F32 else "f64"

    @property
    def element(self) -> str:
        return "float" if self.dtype == F32 else "double"

    @property
    def size(self) -> int:
        return self.dtype.itemsize

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.dtype)

    @property
    def vector(self) -> str:
        return vector(self.lanes, self.element)

    @property
    def masks(self) -> bool:
        """Whether a part of a vector can be loaded and stored."""
        return self.target.masks_memory

    @property
    def name(self) -> str:
        """The routine's name: that of the dtype for usual sizes, followed by other ones."""
        rows, vectors, block, packs = self.product
        sizes = "" if self.product == register_tile(self.dtype, self.target) else f"_{rows}x{vectors}x{block}{'' if packs else '_unpacked'}"
        return f"gemm_{self.suffix}{sizes}"

    @property
    def rows(self) -> int:
        """Rows of the largest register tile."""
        return self.product.rows

    @property
    def strip(self) -> int:
        """Columns of the largest register tile."""
        return self.product.vectors * self.lanes

    @property
    def heights(self) -> tuple[int, ...]:
        """Rows of the register tiles: the largest, and those for the rows that remain."""
        return (self.rows, *(h for h in (8, 4) if h < self.rows), 3, 2, 1)

    @property
    def split(self) -> int:
        """The height of tiles, of which one less is taken where 4 to 7 rows would remain: two of 8 take less time. 0 for none."""
        return self.rows if self.rows == 12 else 0

    def prefetching(self, rows: int, strips: int) -> int:
        """How many register tiles of a product prefetch other memory than B: all of the last strip, all but the first of a call elsewhere.

        Those of few rows have no time for it.
        """
        found = 0
        for height in self.heights[:-3]:
            count, left = divmod(rows, height)
            if height == self.split and count and left // 4 == 1:
                count -= 1
            rows -= count * height
            found += strips * count - (strips - 1) * min(count, 1)
        return found

    @property
    def slots(self) -> tuple[int, ...]:
        """Columns of the register tiles: half a vector, which takes half the time if it is long, one, two, four, eight.

        Without masks all powers of two, of which a part of a vector is put together.
        """
        least = self.lanes // 2 if self.masks else 1
        return tuple(least << i for i in range((8 * self.lanes // least).bit_length()))

    def widths(self, rows: int) -> tuple[int, ...]:
        """Columns of the register tiles of so many rows. Few rows go with wide ones: eight sums keep the fma units busy."""
        narrow = self.lanes if 16 < self.target.vector_nbytes < 64 else self.slots[0]
        wide = max({1: 8, 2: 4, 3: 4}.get(rows, 2), self.product.vectors) * self.lanes
        return tuple(w for w in self.slots if narrow <= w <= wide)

    @property
    def block_rows(self) -> int:
        """Rows of a block of A: whole register tiles."""
        return self.product.block
