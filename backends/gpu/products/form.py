"""The schedule of a kernel with matrix products on a GPU: what a block of threads computes, and with which tiles.

A unit is a block of threads. It computes a block of rows, of all columns or of a block of them, and goes through the kernel's stages; what
one stage leaves for another stands in shared memory, whole (`kept`) or block by block, computed again by each stage that reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

#: How products are summed: fma of single elements; tensor cores on 16-bit floats; tensor cores on float32 rounded to 11 bits.
FMA, MMA, TF32 = "fma", "mma", "tf32"
#: Threads of a warp.
WARP = 32


class ProductTile(NamedTuple):
    """How a block of threads computes a product: C in tiles of `rows` by `columns`, `depth` terms at a time in shared memory, twice.

    thread_rows, thread_columns: the part of a tile that a thread has in registers; with tensor cores, a warp.
    """

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    instruction: str = FMA

    @property
    def threads(self) -> int:
        """The threads that share a tile."""
        parts = self.rows // self.thread_rows * (self.columns // self.thread_columns)
        return parts if self.instruction == FMA else parts * WARP

    def __str__(self) -> str:
        part = "thread" if self.instruction == FMA else "warp"
        return (f"product, tiles of {self.rows} rows by {self.columns} columns, {self.depth} terms at a time, "
                f"{self.thread_rows} by {self.thread_columns} a {part}, {self.instruction}")


class BlockLoops(NamedTuple):
    """A stage as loops of a block of threads over its rows and columns."""

    def __str__(self) -> str:
        return "loops"


@dataclass(frozen=True)
class BlockSchedule:
    """How a kernel with products runs: a block of threads computes `rows` rows of `columns` columns (0: all of them).

    step: columns, or terms of a sum, at a time where what is read of them is not kept. kept: tiles that are whole in shared memory.
    stages: how each stage runs, in their order.
    """

    rows: int
    columns: int
    step: int
    threads: int
    kept: tuple[int, ...]
    stages: tuple[ProductTile | BlockLoops, ...]

    def __str__(self) -> str:
        across = f" and {self.columns} columns" if self.columns else ""
        lines = [f"block: {self.rows} rows{across}, {self.threads} threads"]
        if self.step:
            lines.append(f"step: {self.step} at a time")
        if self.kept:
            lines.append(f"kept: {', '.join(f't{t}' for t in self.kept)}")
        lines += [f"stage {n}: {how}" for n, how in enumerate(self.stages)]
        return "\n".join(["schedule {", *(f"  {line}" for line in lines), "}"])
