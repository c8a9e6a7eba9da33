"""The inner loops of products: outer products of single elements, or the fragments of tensor cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nagraph.backends.gpu.products.emission.fill import Staged
from nagraph.backends.gpu.products.emission.unit import Range, Storage, Unit
from nagraph.backends.gpu.products.form import FMA, MMA, ProductTile
from nagraph.backends.gpu.products.stage_product import StageProduct
from nagraph.backends.gpu.products.tiles import MMA_COLUMNS, MMA_DEPTH, MMA_ROWS, TF32_DEPTH
from nagraph.ir.types import SHORT_NAMES


def multiplier(unit: Unit, product: StageProduct, tile: ProductTile, factors: Sequence[Staged]) -> Multiplier:
    """What multiplies as a tile says; its sums are declared in the text."""
    kind = Fma if tile.instruction == FMA else Fragments
    return kind(unit, product, tile, factors)


class Multiplier:
    """What multiplies a step of two factors, with its sums in registers.

    `load` and `store` go through the sums: take them from memory, or zero; set memory to them, or add them to it.
    """

    def __init__(self, unit: Unit, product: StageProduct, tile: ProductTile, factors: Sequence[Staged]):
        self.unit, self.product, self.tile, (self.a, self.b) = unit, product, tile, factors
        self.kind = unit.dialect.type(product.dtype)
        self.declare()

    def declare(self) -> None:
        raise NotImplementedError

    def step(self, buffer: str) -> None:
        """Multiply what stands in a buffer."""
        raise NotImplementedError

    @contextmanager
    def sums(self) -> Iterator[str]:
        """A loop over the sums of a thread, at row m and column n of the tile; yields the sum's name."""
        raise NotImplementedError
        yield

    def load(self, storage: Storage | None, rows: Range, columns: Range, condition: str) -> None:
        """Sums become what stands in memory, where the condition holds, else zero."""
        with self.sums() as name:
            if storage is None or condition == "false":
                self.unit.text.line(f"{name} = 0;")
                return
            element, inside = self._element(storage, rows, columns)
            self.unit.text.line(f"{name} = {' && '.join([condition, *inside])} ? {element} : 0;")

    def store(self, storage: Storage, rows: Range, columns: Range, first: str) -> None:
        """C becomes the sums, if they are the first ones, else they are added to it."""
        with self.sums() as name:
            element, inside = self._element(storage, rows, columns)
            value = name if first == "true" else f"({first}) ? {name} : {element} + {name}"
            guard = f"if ({' && '.join(inside)}) " if inside else ""
            self.unit.text.line(f"{guard}{element} = {value};")

    def _element(self, storage: Storage, rows: Range, columns: Range) -> tuple[str, list[str]]:
        """The element of C at row m and column n of the tile, and the conditions under which it is part of the block."""
        inside = [f"{first} + {name} < {x.size}" for first, name, x, size in (
            ("i0", "m", rows, self.tile.rows), ("j0", "n", columns, self.tile.columns)) if x.size % size]
        return f"{storage.name}[(i0 + m) * {storage.pitch} + j0 + n]", inside


class Fma(Multiplier):
    """Outer products: a thread has rows and columns of the tile, in groups of up to four that lie side by side."""

    def declare(self) -> None:
        rows, columns = self.tile.thread_rows, self.tile.thread_columns
        self.unit.text.line(f"{self.kind} sum[{rows}][{columns}];")

    def _place(self, name: str, worker: str, own: int, extent: int) -> str:
        """The row (column) of the tile that is the thread's number `name`."""
        group = min(own, 4)
        if own == group:
            return f"{worker} * {own} + {name}" if own > 1 else worker
        return f"{name} / {group} * {extent // own * group} + {worker} * {group} + {name} % {group}"

    @property
    def _across(self) -> int:
        """Threads side by side along a row of tiles."""
        return self.tile.columns // self.tile.thread_columns

    @contextmanager
    def sums(self) -> Iterator[str]:
        unit, tile = self.unit, self.tile
        unit.text.line(unit.dialect.unrolled)
        with unit.text.block(f"for (int i = 0; i < {tile.thread_rows}; ++i)"):
            unit.text.line(unit.dialect.unrolled)
            with unit.text.block(f"for (int j = 0; j < {tile.thread_columns}; ++j)"):
                unit.text.line(f"const int m = {self._place('i', f'(thread / {self._across})', tile.thread_rows, tile.rows)}, "
                               f"n = {self._place('j', f'(thread % {self._across})', tile.thread_columns, tile.columns)};")
                yield "sum[i][j]"

    def step(self, buffer: str) -> None:
        unit, text, tile = self.unit, self.unit.text, self.tile
        text.line(unit.dialect.unrolled)
        with text.block(f"for (int k = 0; k < {tile.depth}; ++k)"):
            for name, x, own, extent, worker in (("a", self.a, tile.thread_rows, tile.rows, f"(thread / {self._across})"),
                                                 ("b", self.b, tile.thread_columns, tile.columns, f"(thread % {self._across})")):
                group = min(own, 4)
                text.line(f"{self.kind} {name}[{own}];")
                text.line(unit.dialect.unrolled)
                with text.block(f"for (int g = 0; g < {own // group}; ++g)"):
                    kind, place = unit.dialect.memory_type(x.factor.dtype), f"{buffer} * {x.elements} + k * {x.pitch}"
                    text.line(f"const ng_pack<{kind}, {group}> pack = ng_take<{group}>({x.name} + {place} "
                              f"+ g * {extent // own * group} + {worker} * {group});")
                    text.line(unit.dialect.unrolled)
                    wide = "pack.at[l]" if x.factor.dtype == self.product.dtype else "ng_float(pack.at[l])"
                    text.line(f"for (int l = 0; l < {group}; ++l) {name}[g * {group} + l] = {wide};")
            text.line(unit.dialect.unrolled)
            with text.block(f"for (int i = 0; i < {tile.thread_rows}; ++i)"):
                text.line(unit.dialect.unrolled)
                text.line(f"for (int j = 0; j < {tile.thread_columns}; ++j) sum[i][j] = ng_fma(a[i], b[j], sum[i][j]);")


class Fragments(Multiplier):
    """Tensor cores: a warp has a part of the tile, in fragments of 16 rows by 8 columns, of which each lane holds four elements."""

    @property
    def _counts(self) -> tuple[int, int]:
        return self.tile.thread_rows // MMA_ROWS, self.tile.thread_columns // MMA_COLUMNS

    def declare(self) -> None:
        across = self.tile.columns // self.tile.thread_columns
        rows, columns = self._counts
        self.unit.text.line(f"const int m0 = warp / {across} * {self.tile.thread_rows}, n0 = warp % {across} * {self.tile.thread_columns};")
        self.unit.text.line(f"float sum[{rows}][{columns}][4];")

    @contextmanager
    def sums(self) -> Iterator[str]:
        text, unrolled, (rows, columns) = self.unit.text, self.unit.dialect.unrolled, self._counts
        text.line(unrolled)
        with text.block(f"for (int i = 0; i < {rows}; ++i)"):
            text.line(unrolled)
            with text.block(f"for (int j = 0; j < {columns}; ++j)"):
                text.line(unrolled)
                with text.block("for (int l = 0; l < 4; ++l)"):
                    text.line("const int m = m0 + i * 16 + lane / 4 + l / 2 * 8, n = n0 + j * 8 + lane % 4 * 2 + l % 2;")
                    yield "sum[i][j][l]"

    def step(self, buffer: str) -> None:
        text, unrolled, (rows, columns) = self.unit.text, self.unit.dialect.unrolled, self._counts
        halves = self.tile.instruction == MMA
        depth, width = (MMA_DEPTH, 16) if halves else (TF32_DEPTH, 8)
        text.line(unrolled)
        with text.block(f"for (int k = 0; k < {self.tile.depth}; k += {depth})"):
            text.line(f"u32 a[{rows}][4], b[{columns}][2];")
            for name, x, count, step, first in (("a", self.a, rows, 16, "m0"), ("b", self.b, columns, 8, "n0")):
                base, at = f"{x.name} + {buffer} * {x.elements}", f"{first} + i * {step}"
                how = f"ng_take_{name}{width}{'_by_terms' if x.by_terms and halves else ''}"
                place = f"{base} + k * {x.pitch} + {at}" if x.by_terms else f"{base} + ({at}) * {x.pitch} + k"
                text.line(unrolled)
                text.line(f"for (int i = 0; i < {count}; ++i) {how}({name}[i], {place}, {x.pitch}, lane);")
            text.line(unrolled)
            with text.block(f"for (int i = 0; i < {rows}; ++i)"):
                text.line(unrolled)
                kind = SHORT_NAMES[self.a.factor.dtype] if halves else "tf32"
                text.line(f"for (int j = 0; j < {columns}; ++j) ng_mma_{kind}(sum[i][j], a[i], b[j]);")
