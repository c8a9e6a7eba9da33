"""The loops of a block of threads over rows and columns: values into tiles and to memory, folds, and sums over rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nagraph.backends.gpu.order import chains
from nagraph.backends.gpu.products.block_form import Dims, space
from nagraph.backends.gpu.products.emission.body import Body
from nagraph.backends.gpu.products.emission.unit import Range, Storage, Unit, plus
from nagraph.backends.gpu.products.form import WARP
from nagraph.ir.scalar import Scalar, ScalarBuilder
from nagraph.ir.types import BOOL, DType
from nagraph.kernel.fold_steps import State, join, start, step
from nagraph.kernel.form import Store, Write

#: Bytes of the values that are summed over the rows of a block at a time.
SUMMED_NBYTES = 1 << 15


def for_points(unit: Unit, rows: Range, columns: Range, body: Callable[[str, str], None]) -> None:
    """A loop of all threads over the points of a block, neighbouring columns side by side."""
    text, total = unit.text, rows.size * columns.size
    with text.block(f"for (int e = thread; e < {total}; e += {unit.threads})"):
        row, column = text.fresh(), text.fresh()
        local_row, local_column = ("e", "0") if columns.size == 1 else ("0", "e") if rows.size == 1 else (
            f"e / {columns.size}", f"e % {columns.size}")
        text.line(f"const int {row} = {plus(rows.start, local_row)}, {column} = {plus(columns.start, local_column)};")
        inside = [f"{name} < {x.stop}" for name, x in ((row, rows), (column, columns)) if not x.full]
        if inside:
            with text.block(f"if ({' && '.join(inside)})"):
                body(row, column)
        else:
            body(row, column)


def emit_map(unit: Unit, number: int, writes: Sequence[Write], storages: Sequence[Storage]) -> None:
    """The values of a block of tiles that a stage writes at the same points."""
    dims = space(unit.form.dims[number], writes[0].index)

    def element(row: str, column: str) -> None:
        body = Body.at_every_point(unit, number, dims, row, column)
        for write, storage in zip(writes, storages):
            unit.text.line(f"{storage.at(row, column)} = {in_memory(unit.s, body.value(write.value))};")

    for_points(unit, storages[0].rows, storages[0].columns, element)
    unit.barrier()


def in_memory(s: ScalarBuilder, value: Scalar) -> str:
    """The text of a value as memory holds it: a bool is a byte."""
    return f"(u8){value.raw}" if value.dtype == BOOL else str(value.raw)


# -- stores ------------------------------------------------------------------------------------------------------


def emit_stores(unit: Unit, number: int, stores: Sequence[Store], dims: Dims, rows: Range, columns: Range, sums: Sequence[RowSum]) -> None:
    """What a stage stores of a block of rows and columns, and adds to sums over rows."""
    width = columns.size
    if sums:
        row_nbytes = rows.size * sum(x.dtype.itemsize for x in sums)
        width = min(columns.size, max(WARP, SUMMED_NBYTES // max(1, row_nbytes) // WARP * WARP))
    if width >= columns.size:
        _store_block(unit, number, stores, dims, rows, columns, sums)
        return
    first, last = unit.text.fresh(), unit.text.fresh()
    with unit.scope(f"for (int {first} = {columns.start}; {first} < {columns.stop}; {first} += {width})"):
        unit.text.line(f"const int {last} = ng_least({first} + {width}, {columns.stop});")
        _store_block(unit, number, stores, dims, rows, Range(first, last, width), sums)


def _store_block(unit: Unit, number: int, stores: Sequence[Store], dims: Dims, rows: Range, columns: Range, sums: Sequence[RowSum]) -> None:
    values = [unit.memory(x.dtype, rows.size * columns.size, "values") for x in sums]

    def element(row: str, column: str) -> None:
        body = Body.at_every_point(unit, number, dims, row, column)
        # A result may lie where an operand does: all is read before anything is stored.
        found = [(f"p{x.operand}[{body.index(x.index)}]", body.value(x.value)) for x in stores]
        found += [(Storage(name, columns.size, rows, columns).at(row, column), body.value(x.store.value)) for x, name in zip(sums, values)]
        for place, value in found:
            unit.text.line(f"{place} = {in_memory(unit.s, value)};")

    for_points(unit, rows, columns, element)
    unit.barrier()
    for x, name in zip(sums, values):
        x.add(unit, Storage(name, columns.size, rows, columns))
    if sums:
        unit.barrier()


class RowSum:
    """A row sum: what a store adds up over all rows of a unit, row after row in their order; its totals stand in shared memory."""

    def __init__(self, unit: Unit, number: int, store: Store, columns: Range):
        self.number, self.store, self.dtype = number, store, unit.kernel.stages[number].body[store.value].dtype
        self.columns = columns
        self.totals = unit.memory(self.dtype, columns.size, "totals")

    def add(self, unit: Unit, block: Storage) -> None:
        """Add the values of a block of rows, one row after another; the first row begins."""
        text, kind, op = unit.text, unit.dialect.memory_type(self.dtype), self.store.combine
        assert op is not None
        with text.block(f"for (int c = thread; c < {block.columns.size}; c += {unit.threads})"):
            column = text.fresh()
            text.line(f"const int {column} = {plus(block.columns.start, 'c')};")
            with text.block(f"if ({column} < {block.columns.stop})" if not block.columns.full else ""):
                total = f"{self.totals}[{column} - {self.columns.start}]"
                text.line(f"{kind} sum = {unit.rows.start} == 0 ? {block.at(unit.rows.start, column)} : {total};")
                with text.block(f"for (int r = {unit.rows.start} + ({unit.rows.start} == 0); r < {unit.rows.stop}; ++r)"):
                    now, new = Scalar(unit.s, self.dtype, "sum"), unit.s.define(self.dtype, block.at("r", column))
                    (joined,) = op.combine(unit.s, (now,), (new,))  # type: ignore[attr-defined]
                    text.line(f"sum = {in_memory(unit.s, joined)};")
                text.line(f"{total} = sum;")

    def store_totals(self, unit: Unit) -> None:
        """Store the totals, when all rows are added."""
        dims = space(unit.form.dims[self.number], self.store.index)

        def element(_: str, column: str) -> None:
            body = Body.at_every_point(unit, self.number, dims, "0", column)
            total = unit.s.define(self.dtype, f"{self.totals}[{column} - {self.columns.start}]")
            made = unit.s.cast(total, unit.kernel.operands[self.store.operand])
            unit.text.line(f"p{self.store.operand}[{body.index(self.store.index)}] = {in_memory(unit.s, made)};")

        for_points(unit, Range.of(1), self.columns, element)


# -- folds -------------------------------------------------------------------------------------------------------


class FoldLoops:
    """The folds of a stage over a block of rows and columns, a part of what is reduced at a time.

    The order of additions is the GPU's (`nagraph.backends.gpu.order`): of one chain a thread folds for a row and a column of its own; of
    several a warp does, each lane with the chains of its number and of those 32, 64, ... further on.
    """

    def __init__(self, unit: Unit, number: int, rows: Range, columns: Range):
        self.unit, self.number, self.stage, self.rows, self.columns = unit, number, unit.kernel.stages[number], rows, columns
        self.folds = [f for f in self.stage.folds if f.tile >= 0]
        self.chains = chains(unit.kernel, self.stage)
        self.groups = -(-self.chains // WARP)
        self.count = fold_elements(self.chains, rows.size * columns.size, unit.threads)
        self.workers = unit.warps if self.chains > 1 else unit.threads
        self.storages = [unit.store_tile(f.tile, rows, columns) for f in self.folds]
        self.states: list[list[str]] = []
        self.dtypes: list[list[DType]] = []
        total = self.count * self.groups
        for fold in self.folds:
            begun = start(fold, self.stage, unit.s)
            self.dtypes.append([x.dtype for x in begun])
            self.states.append([unit.text.fresh() for _ in begun])
            for name, x in zip(self.states[-1], begun):
                unit.text.line(f"{unit.dialect.type(x.dtype)} {name}[{total}];")
                unit.text.line(unit.dialect.unrolled)
                unit.text.line(f"for (int i = 0; i < {total}; ++i) {name}[i] = {x.raw};")

    def _elements(self, body: Callable[[str, str], None]) -> None:
        """The elements that a worker folds for."""
        text, width = self.unit.text, self.columns.size
        worker, total = ("warp" if self.chains > 1 else "thread"), self.rows.size * width
        text.line(self.unit.dialect.unrolled)
        with text.block(f"for (int i = 0; i < {self.count}; ++i)"):
            text.line(f"const int e = {worker} + {self.workers} * i;")
            row, column = text.fresh(), text.fresh()
            text.line(f"const int {row} = {plus(self.rows.start, f'e / {width}' if width > 1 else 'e')}, "
                      f"{column} = {plus(self.columns.start, f'e % {width}' if width > 1 else '0')};")
            inside = [f"e < {total}"] if total % self.workers else []
            inside += [f"{name} < {x.stop}" for name, x in ((row, self.rows), (column, self.columns)) if not x.full]
            with text.block(f"if ({' && '.join(inside)})" if inside else ""):
                body(row, column)

    def _place(self, group: str) -> str:
        return "i" if self.groups == 1 else f"i * {self.groups} + {group}"

    def add(self, terms: Range) -> None:
        """Fold the terms of a range. A term belongs to the chain of its number, wherever a range begins."""
        unit, text = self.unit, self.unit.text

        def element(row: str, column: str) -> None:
            first, guard = terms.start, ""
            if self.chains > 1:
                chain = "lane" if self.groups == 1 else f"(lane + {WARP} * g)"
                first = chain if terms.start == "0" else f"{terms.start} + (({chain} - {terms.start}) & {self.chains - 1})"
                guard = f"if (lane < {self.chains})" if self.chains < WARP else ""
            if self.groups > 1:
                text.line(unit.dialect.unrolled)
            with text.block(f"for (int g = 0; g < {self.groups}; ++g)" if self.groups > 1 else guard):
                with text.block(f"for (int q = {first}; q < {terms.stop}; q += {self.chains})"):
                    body = Body(unit, self.number, row, column, "q")
                    for n, fold in enumerate(self.folds):
                        values = tuple(body.value(v) for v in fold.values)
                        for name, x in zip(self.states[n], step(fold, unit.s, self._state(n, self._place("g")), values)):
                            text.line(f"{name}[{self._place('g')}] = {x.raw};")

        self._elements(element)
        unit.barrier()

    def _state(self, fold: int, place: str) -> State:
        return tuple(self.unit.s.define(dtype, f"{name}[{place}]") for name, dtype in zip(self.states[fold], self.dtypes[fold]))

    def finish(self) -> None:
        """Write what the folds give into their tiles: chains halved into each other, first those of 32 lanes, then what these give."""
        unit, text = self.unit, self.unit.text

        def element(row: str, column: str) -> None:
            for n, (fold, storage) in enumerate(zip(self.folds, self.storages)):
                found = []
                for group in range(self.groups):
                    state, by = self._state(n, self._place(str(group))), min(self.chains, WARP) // 2
                    while by:
                        other = tuple(unit.s.define(x.dtype, shuffled(x, by)) for x in state)
                        state, by = join(fold, unit.s, state, other), by // 2
                    found.append(state)
                while len(found) > 1:
                    half = len(found) // 2
                    found = [join(fold, unit.s, x, y) for x, y in zip(found[:half], found[half:])]
                with text.block("if (lane == 0)" if self.chains > 1 else ""):
                    text.line(f"{storage.at(row, column)} = {in_memory(unit.s, found[0][-1])};")

        self._elements(element)
        unit.barrier()


def fold_elements(chained: int, elements: int, threads: int) -> int:
    """How many elements a thread, or of several chains a warp, folds for."""
    return -(-elements // (threads if chained == 1 else threads // WARP))


def shuffled(x: Scalar, by: int) -> str:
    """The text of the value that the lane `by` lanes further on has."""
    return f"ng_shuffle_down((int){x.raw}, {by}) != 0" if x.dtype == BOOL else f"ng_shuffle_down({x.raw}, {by})"
