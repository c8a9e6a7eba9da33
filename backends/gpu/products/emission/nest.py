"""The loops of a matrix product: tile by tile of C, chain by chain, step by step of what is summed.

In each step all threads multiply what stands in one buffer, while the next step comes to the other one. Sums are in registers; at the end
of a chain they are added to C, which stands in shared memory. An element of C belongs to one thread throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from nagraph.backends.gpu.products.emission.fill import Staged, emit_fill, staged_factors
from nagraph.backends.gpu.products.emission.multiply import Multiplier, multiplier
from nagraph.backends.gpu.products.emission.unit import Range, Storage, Unit, plus
from nagraph.backends.gpu.products.form import ProductTile


class Steps(NamedTuple):
    """Where a range of terms stands among all, in C's words: whether it is the first one, and from where to where all of them reach."""

    first: str = "true"
    low: str = "0"
    high: str = "0"


class ProductNest:
    """A product of a block of rows and columns into a tile. `begun`: where chains stand that go on from one range of terms to the next."""

    def __init__(self, unit: Unit, number: int, tile: ProductTile, storage: Storage, rows: Range, columns: Range):
        self.unit, self.number, self.tile, self.storage, self.rows, self.columns = unit, number, tile, storage, rows, columns
        self.product = unit.form.products[number]
        self.begun: Storage | None = None

    @property
    def chained(self) -> bool:
        """Whether an element has several chains."""
        return self.product.chains.count(self.product.terms) > 1

    def across_ranges(self, size: int) -> None:
        """Make ready for ranges of `size` terms: chains that are longer than a range are begun in one and end in another."""
        if self.chained and self.product.chains.length > size:
            pitch = self.storage.pitch
            name = self.unit.memory(self.product.dtype, self.rows.size * pitch, "begun")
            self.begun = Storage(name, pitch, self.rows, self.columns)

    def zero(self) -> None:
        """C without terms."""
        unit, tile = self.unit, self.storage
        with unit.text.block(f"for (int e = thread; e < {self.rows.size * tile.pitch}; e += {unit.threads})"):
            unit.text.line(f"{tile.name}[e] = 0;")
        unit.barrier()

    def add(self, terms: Range | None = None, steps: Steps = Steps()) -> None:
        """Add the terms of a range, or all of them."""
        unit, text, tile = self.unit, self.unit.text, self.tile
        with text.block():
            factors = staged_factors(unit, self.product, tile)
            with self._tiles("i0", self.rows, tile.rows), self._tiles("j0", self.columns, tile.columns):
                multiply = multiplier(unit, self.product, tile, factors)
                if terms is None:
                    self._all_chains(factors, multiply)
                elif self.begun is not None:
                    length = self.product.chains.length
                    multiply.load(self.begun, self.rows, self.columns, f"{terms.start} % {length} != 0 && !({steps.first})")
                    self._steps(factors, multiply, terms.start, terms.stop)
                    multiply.store(self.begun, self.rows, self.columns, "true")
                    with text.block(f"if ({terms.stop} % {length} == 0 || {terms.stop} == {steps.high})"):
                        multiply.store(self.storage, self.rows, self.columns, f"{terms.start} / {length} == {steps.low} / {length}")
                elif self.chained:  # a range is one or several whole chains
                    self._chains(factors, multiply, terms, steps.first)
                else:
                    multiply.load(self.storage, self.rows, self.columns, f"!({steps.first})")
                    self._steps(factors, multiply, terms.start, terms.stop)
                    multiply.store(self.storage, self.rows, self.columns, "true")
        unit.barrier()

    @contextmanager
    def _tiles(self, name: str, x: Range, size: int) -> Iterator[None]:
        """A loop over the tiles of a block; of one tile there is no loop."""
        if x.size > size:
            with self.unit.text.block(f"for (int {name} = 0; {name} < {x.size}; {name} += {size})"):
                yield
        else:
            self.unit.text.line(f"const int {name} = 0;")
            yield

    def _all_chains(self, factors: list[Staged], multiply: Multiplier) -> None:
        terms = self.product.terms
        if not self.chained:
            self._chain(factors, multiply, "0", str(terms), "true")
            return
        self._chains(factors, multiply, Range.of(terms), "true")

    def _chains(self, factors: list[Staged], multiply: Multiplier, terms: Range, first: str) -> None:
        """The chains of a range, in their order."""
        chains, text = self.product.chains, self.unit.text
        if chains.run < self.product.terms:
            with text.block(f"for (int run0 = {terms.start}; run0 < {terms.stop}; run0 += {chains.run})"):
                with text.block(f"for (int chain0 = run0; chain0 < run0 + {chains.run}; chain0 += {chains.length})"):
                    text.line(f"const int chain1 = ng_least(chain0 + {chains.length}, run0 + {chains.run});")
                    self._chain(factors, multiply, "chain0", "chain1", f"chain0 == {terms.start} && {first}")
        elif chains.backwards:
            last = f"({terms.stop} - {terms.start} - 1) / {chains.length}"
            with text.block(f"for (int c = {last}; c >= 0; --c)"):
                text.line(f"const int chain0 = {terms.start} + c * {chains.length};")
                text.line(f"const int chain1 = ng_least(chain0 + {chains.length}, {terms.stop});")
                self._chain(factors, multiply, "chain0", "chain1", f"c == {last} && {first}")
        else:
            with text.block(f"for (int chain0 = {terms.start}; chain0 < {terms.stop}; chain0 += {chains.length})"):
                text.line(f"const int chain1 = ng_least(chain0 + {chains.length}, {terms.stop});")
                self._chain(factors, multiply, "chain0", "chain1", f"chain0 == {terms.start} && {first}")

    def _chain(self, factors: list[Staged], multiply: Multiplier, start: str, stop: str, first: str) -> None:
        multiply.load(None, self.rows, self.columns, "false")
        self._steps(factors, multiply, start, stop)
        multiply.store(self.storage, self.rows, self.columns, first)

    def _steps(self, factors: list[Staged], multiply: Multiplier, start: str, stop: str) -> None:
        """Two buffers: while one is multiplied the other is filled."""
        unit, text, depth = self.unit, self.unit.text, self.tile.depth
        self._fill(factors, start, stop, "0")
        text.line("ng_copies_begun();")
        with text.block(f"for (int k0 = {start}, buffer = 0; k0 < {stop}; k0 += {depth}, buffer ^= 1)"):
            with text.block(f"if (k0 + {depth} < {stop})"):
                self._fill(factors, f"k0 + {depth}", stop, "(buffer ^ 1)")
            text.line("ng_copies_begun();")
            text.line("ng_copies_done<1>();")
            unit.barrier()
            multiply.step("buffer")
            unit.barrier()

    def _fill(self, factors: list[Staged], step: str, stop: str, buffer: str) -> None:
        for x in factors:
            free, first = (self.rows, "i0") if x.factor is self.product.a else (self.columns, "j0")
            emit_fill(self.unit, self.number, self.product, x, free, plus(free.start, first), self.tile, buffer, step, stop)
