"""Demand: what a stage reads is computed for the block in hand just before, unless it stands in shared memory already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from nagraph.backends.gpu.products.block_form import FROM, UP_TO, Dims, space
from nagraph.backends.gpu.products.emission.nest import ProductNest, Steps
from nagraph.backends.gpu.products.emission.stage_loops import FoldLoops, emit_map
from nagraph.backends.gpu.products.emission.unit import Range, Unit
from nagraph.backends.gpu.products.form import ProductTile
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Read
from nagraph.kernel.stage_split import needed

#: The ranges of a stage's rows, columns and reduced axes.
Ranges = Mapping[str, Range]


class Demand:
    """Demand computes tiles of a unit, block by block.

    Where a stage sums along what it reads of a tile that is not whole, it goes through it a step at a time: of each step the tile's block
    is computed, and what it is made of, before the step is added.
    """

    def __init__(self, unit: Unit):
        self.unit, self.form = unit, unit.form

    # -- what a stage reads -------------------------------------------------------------------------------------

    def reads(self, number: int, values: Iterable[int]) -> list[tuple[int, Affine]]:
        """The tiles that values of a stage are made of, with the index of each read."""
        stage = self.form.kernel.stages[number]
        found = (stage.body[n] for n in needed(stage, list(values)))
        return list(dict.fromkeys((i.tile, i.index) for i in found if isinstance(i, Read)))

    def wanted(self, number: int, tile: int, index: Affine, ranges: Ranges) -> tuple[Range, Range]:
        """The rows and columns of a tile that a stage reads in these ranges of its own."""
        form, found = self.form.tiles[tile], self.form.match(number, index, tile)
        if found is None:
            return self.unit.rows, Range.of(form.width)
        rows = self.unit.rows if self.form.rows else Range.of(form.rows)
        rows = ranges[found["rows"]] if "rows" in found else rows
        return rows, ranges[found["columns"]] if "columns" in found else Range.of(form.width)

    def is_there(self, tile: int, rows: Range, columns: Range) -> bool:
        """Whether a block of a tile stands in shared memory."""
        storage = self.unit.storages.get(tile)
        return storage is not None and storage.rows.covers(rows) and storage.columns.covers(columns)

    def steps(self, number: int, values: Iterable[int], ranges: Ranges, along: str) -> bool:
        """Whether what values read along some axes of their stage is not there as a whole."""
        for tile, index in self.reads(number, values):
            found = self.form.match(number, index, tile)
            if found is not None and along in found.values() and not self.is_there(tile, *self.wanted(number, tile, index, ranges)):
                return True
        return False

    def require(self, values: Mapping[int, Iterable[int]], ranges: Ranges) -> None:
        """Let stand in shared memory what values of stages read in these ranges. Tiles that one stage writes are written together."""
        missing: dict[tuple[int, Range, Range], list[int]] = {}
        for number, own in values.items():
            for tile, index in self.reads(number, own):
                rows, columns = self.wanted(number, tile, index, ranges)
                if not self.is_there(tile, rows, columns):
                    tiles = missing.setdefault((self.form.tiles[tile].writer, rows, columns), [])
                    tiles += [tile] if tile not in tiles else []
        for (_, rows, columns), tiles in missing.items():
            self.compute(tiles, rows, columns)

    # -- tiles --------------------------------------------------------------------------------------------------

    def compute(self, tiles: Sequence[int], rows: Range, columns: Range) -> None:
        """Compute a block of tiles that one stage makes."""
        number = self.form.tiles[tiles[0]].writer
        if number in self.form.products:
            self.products([number], rows, columns)
            return
        writes = [w for w in self.form.kernel.stages[number].writes if w.tile in tiles]
        if len(writes) < len(tiles):
            self.folds(number, rows, columns)
        if not writes:
            return
        dims = space(self.form.dims[number], writes[0].index)
        self.require({number: [w.value for w in writes]}, self.at_every_point(number, dims, rows, columns))
        emit_map(self.unit, number, writes, [self.unit.store_tile(w.tile, rows, columns) for w in writes])

    def at_every_point(self, number: int, dims: Dims, rows: Range, columns: Range) -> dict[str, Range]:
        """The ranges of a stage where it writes at every point of these axes."""
        own = self.form.dims[number]
        merged = len(dims.columns) != len(own.columns)
        reduced = columns if merged and not own.columns else Range.of(self.form.extent(own.reduced))
        inner = Range.of(self.form.extent(own.columns)) if merged else columns
        return {"rows": rows, "columns": inner, "reduced": reduced}

    def folds(self, number: int, rows: Range, columns: Range) -> None:
        """Compute what the folds of a stage give."""
        stage, terms = self.form.kernel.stages[number], self.form.extent(self.form.dims[number].reduced)
        values = [v for f in stage.folds if f.tile >= 0 for v in f.values]
        loops: list[FoldLoops] = []

        def begin() -> None:
            loops.append(FoldLoops(self.unit, number, rows, columns))

        def add(found: Range, _: Steps) -> None:
            loops[0].add(found)

        self._in_steps([number], values, {"rows": rows, "columns": columns, "reduced": Range.of(terms)}, begin, add)
        loops[0].finish()

    def products(self, numbers: list[int], rows: Range, columns: Range) -> None:
        """Compute products that go through the same terms side by side."""
        nests: list[ProductNest] = []
        terms, step = self.form.products[numbers[0]].terms, self.unit.schedule.step
        values = {n: [self.form.products[n].a.value, self.form.products[n].b.value] for n in numbers}
        ranges = {"rows": rows, "columns": columns, "reduced": Range.of(terms)}
        stepping = any(self.steps(n, values[n], ranges, "reduced") for n in numbers)

        def begin() -> None:
            for n in numbers:
                stage, how = self.form.kernel.stages[n], self.unit.schedule.stages[n]
                assert isinstance(how, ProductTile)
                storage = self.unit.store_tile(stage.folds[0].tile, rows, columns)
                nests.append(ProductNest(self.unit, n, how, storage, rows, columns))
                if stepping:
                    nests[-1].across_ranges(step)

        def add(found: Range, steps: Steps) -> None:
            for nest in nests:
                nest.add(None if found.whole else found, steps)

        if not terms:
            begin()
            for nest in nests:
                nest.zero()
            return
        backwards = any(self.form.products[n].chains.backwards for n in numbers)
        self._in_steps(numbers, [v for n in numbers for v in values[n]], ranges, begin, add, backwards, values)

    def _in_steps(self, numbers: list[int], values: list[int], ranges: Ranges, begin: Callable[[], None],
                  add: Callable[[Range, Steps], None], backwards: bool = False, each: Mapping[int, list[int]] | None = None) -> None:
        """Add all terms, in steps if what they read along these is not there."""
        unit, terms, step = self.unit, ranges["reduced"], self.unit.schedule.step
        each = each or {numbers[0]: values}
        if not any(self.steps(n, vs, ranges, "reduced") for n, vs in each.items()):
            self.require(each, ranges)
            begin()
            add(terms, Steps())
            return
        self._require_others(each, ranges)
        begin()
        low, high = self._counting(numbers, ranges)
        first, last = unit.text.fresh(), unit.text.fresh()
        final = f"({minus_one(high)}) / {step} * {step}"
        head = f"int {first} = {final}; {first} >= {low}; {first} -= {step}" if backwards else (
            f"int {first} = {low}; {first} < {high}; {first} += {step}")
        with unit.scope(f"for ({head})"):
            unit.text.line(f"const int {last} = ng_least({first} + {step}, {high});")
            found = Range(first, last, step)
            inside = {**ranges, "reduced": found}
            self.require(each, inside)
            add(found, Steps(f"{first} == {final if backwards else low}", low, high))

    def _counting(self, numbers: list[int], ranges: Ranges) -> tuple[str, str]:
        """From where to where terms count: all, or of a triangle those of some row of the block."""
        rows, terms, step = ranges["rows"], ranges["reduced"].size, self.unit.schedule.step
        kinds = {self.form.diagonals.get(n) for n in numbers}
        if kinds == {UP_TO}:
            return "0", rows.stop
        if kinds == {FROM}:
            return ("0" if rows.whole else f"{rows.start} / {step} * {step}"), str(terms)
        return "0", str(terms)

    def _require_others(self, each: Mapping[int, list[int]], ranges: Ranges) -> None:
        """What a stage reads beside what it goes through in steps is computed before the loop."""
        for n, vs in each.items():
            for tile, index in self.reads(n, vs):
                found = self.form.match(n, index, tile)
                if found is None or "reduced" not in found.values():
                    rows, columns = self.wanted(n, tile, index, ranges)
                    if not self.is_there(tile, rows, columns):
                        self.compute([tile], rows, columns)


def minus_one(text: str) -> str:
    """The text of an expression less one."""
    return str(int(text) - 1) if text.isdigit() else f"{text} - 1"
