"""A kernel with matrix products as the text of one function: its units, and what each of them computes stage by stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nagraph.backends.gpu.dialect import CUDA
from nagraph.backends.gpu.products.block_form import BlockForm, Dims, space
from nagraph.backends.gpu.products.emission.demand import Demand
from nagraph.backends.gpu.products.emission.stage_loops import RowSum, emit_stores
from nagraph.backends.gpu.products.emission.unit import STAGING, Range, Unit
from nagraph.backends.gpu.products.form import BlockSchedule, ProductTile
from nagraph.backends.gpu.products.tiles import aligned, registers_of
from nagraph.c_text.text import Text
from nagraph.kernel.form import Read, Store

#: Registers of a multiprocessor, on all GPUs that have CUDA.
REGISTERS = 1 << 16


class BlockText(NamedTuple):
    """The text of a kernel's function, its blocks, its threads, and its shared memory."""

    text: str
    blocks: int
    threads: int
    shared_nbytes: int
    functions: str
    body: str


class Group(NamedTuple):
    """Results whose rows are computed side by side: the stages that store them, and products that go through the same terms for them."""

    rows: int
    stages: tuple[int, ...]
    products: tuple[int, ...]


def emit_blocks(form: BlockForm, schedule: BlockSchedule, name: str) -> BlockText:
    """Write the function of a kernel as its schedule says."""
    dialect, kernel, body = CUDA, form.kernel, Text(indent=1)
    unit = Unit(form, schedule, body, dialect)
    body.line("const int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;")
    blocks = _grid_rows(unit) if form.rows else _matrices(unit)
    staging = aligned(unit.most_nbytes)
    nbytes = staging + unit.staging_nbytes
    inputs = len(kernel.operands) - kernel.outputs
    declared = [f"{'const ' if i < inputs else ''}{dialect.memory_type(d)}* const p{i}" for i, d in enumerate(kernel.operands)]
    functions = "\n\n".join(unit.functions.texts)
    inside = f"  NG_SHARED_BLOCK(memory, {nbytes});\n{str(body).replace(STAGING, str(staging))}"
    head = dialect.head(name, declared, schedule.threads)
    head[0] = head[0].replace(f"({schedule.threads})", f"({schedule.threads}, {_side_by_side(form, schedule)})")
    whole = "\n".join([*([functions, ""] if functions else []), *head, inside, "}", ""])
    return BlockText(whole, blocks, schedule.threads, nbytes, functions, inside)


def _side_by_side(form: BlockForm, schedule: BlockSchedule) -> int:
    """How many blocks the compiler is to leave registers for on a multiprocessor: one for stages of several kinds, lest it spills."""
    registers = max(registers_of(t, form.products[n].dtype) for n, t in enumerate(schedule.stages) if isinstance(t, ProductTile))
    return 2 if form.split_columns and registers * schedule.threads * 2 <= REGISTERS else 1


def unit_blocks(form: BlockForm, schedule: BlockSchedule) -> int:
    """How many blocks of threads a launch has."""
    batch = math.prod(form.kernel.axes[a] for a in form.batch)
    if not form.rows:
        return batch * sum(-(-g.rows // schedule.rows) for g in groups_of(form))
    columns = -(-form.split_columns // schedule.columns) if schedule.columns else 1
    return batch * columns * (1 if form.kernel.sequential else -(-form.extent(form.rows) // schedule.rows))


def _batch(unit: Unit, number: str) -> None:
    """Write where a unit is along the axes of the batch."""
    inner = 1
    for axis in reversed(unit.form.batch):
        extent = unit.kernel.axes[axis]
        outer = axis == unit.form.batch[0]
        unit.text.line(f"const int a{axis} = {number}{f' / {inner}' if inner > 1 else ''}{'' if outer else f' % {extent}'};")
        unit.at[axis] = f"a{axis}"
        inner *= extent


def _block_of(unit: Unit, number: str, extent: int, size: int, name: str) -> Range:
    """The range of a block of rows or columns."""
    if size >= extent:
        return Range.of(extent)
    unit.text.line(f"const int {name}0 = {number} * {size}, {name}1 = ng_least({name}0 + {size}, {extent});")
    return Range(f"{name}0", f"{name}1", size)


# -- rows of the grid ---------------------------------------------------------------------------------------------


def _grid_rows(unit: Unit) -> int:
    """Blocks of rows of the grid. Where rows are summed a unit has all of them, and goes through them in their order."""
    form, schedule, text = unit.form, unit.schedule, unit.text
    extent, width = form.extent(form.rows), form.split_columns
    across = -(-width // schedule.columns) if schedule.columns else 1
    down = 1 if form.kernel.sequential else -(-extent // schedule.rows)
    text.line("const int block = (int)blockIdx.x;")
    columns = _block_of(unit, f"block % {across}", width, schedule.columns, "c") if schedule.columns else None
    _batch(unit, f"(block / {across * down})")
    if not form.kernel.sequential:
        unit.rows = _block_of(unit, f"(block / {across} % {down})", extent, schedule.rows, "r")
        with unit.scope():
            _stages(unit, columns, {})
    else:
        sums = {n: [RowSum(unit, n, s, _columns(form, n, s, columns)) for s in stage.stores if s.row_sum]
                for n, stage in enumerate(form.kernel.stages)}
        if schedule.rows >= extent:
            unit.rows = Range.of(extent)
            with unit.scope():
                _stages(unit, columns, sums)
        else:
            with unit.scope(f"for (int r0 = 0; r0 < {extent}; r0 += {schedule.rows})"):
                text.line(f"const int r1 = ng_least(r0 + {schedule.rows}, {extent});")
                unit.rows = Range("r0", "r1", schedule.rows)
                _stages(unit, columns, sums)
        for found in sums.values():
            for x in found:
                x.store_totals(unit)
    return math.prod(form.kernel.axes[a] for a in form.batch) * across * down


def _columns(form: BlockForm, number: int, store: Store, columns: Range | None) -> Range:
    """The columns of what a stage stores."""
    return columns or Range.of(form.extent(space(form.dims[number], store.index).columns))


def _stages(unit: Unit, columns: Range | None, sums: dict[int, list[RowSum]]) -> None:
    """All stages at the rows in hand, in their order: folds and what is kept are computed at once, stores draw what they read."""
    form, demand = unit.form, Demand(unit)
    for n, stage in enumerate(form.kernel.stages):
        own = Range.of(form.extent(form.dims[n].columns))
        if n in form.products:
            if stage.folds[0].tile in unit.schedule.kept:
                demand.compute([stage.folds[0].tile], unit.rows, columns or own)
        elif any(f.tile >= 0 for f in stage.folds):
            demand.folds(n, unit.rows, columns or own)
        for write in stage.writes:
            if write.tile in unit.schedule.kept:
                demand.compute([write.tile], unit.rows, columns or Range.of(form.tiles[write.tile].width))
        if stage.stores:
            _stores(unit, demand, n, unit.rows, columns, sums.get(n, []))


def _stores(unit: Unit, demand: Demand, number: int, rows: Range, columns: Range | None, sums: Sequence[RowSum]) -> None:
    """What a stage stores; a step of columns at a time if what it reads along them is not there."""
    form, stage = unit.form, unit.form.kernel.stages[number]
    by_dims: dict[Dims, list[Store]] = {}
    for s in stage.stores:
        by_dims.setdefault(space(form.dims[number], s.index), []).append(s)
    for dims, stores in by_dims.items():
        plain, summed = [s for s in stores if not s.row_sum], [x for x in sums if x.store in stores]
        values, along = [s.value for s in stores], columns or Range.of(form.extent(dims.columns))
        ranges = demand.at_every_point(number, dims, rows, along)
        name = "reduced" if len(dims.columns) != len(form.dims[number].columns) else "columns"
        size = unit.schedule.step
        if columns is None and size and size < along.size and demand.steps(number, values, ranges, name) and name in ("columns", "reduced"):
            first, last = unit.text.fresh(), unit.text.fresh()
            with unit.scope(f"for (int {first} = 0; {first} < {along.size}; {first} += {size})"):
                unit.text.line(f"const int {last} = ng_least({first} + {size}, {along.size});")
                part = Range(first, last, size)
                demand.require({number: values}, demand.at_every_point(number, dims, rows, part))
                emit_stores(unit, number, plain, dims, rows, part, summed)
            continue
        with unit.scope():
            demand.require({number: values}, ranges)
            emit_stores(unit, number, plain, dims, rows, along, summed)


# -- matrices at points -------------------------------------------------------------------------------------------


def groups_of(form: BlockForm) -> list[Group]:
    """The stages that store, grouped where their products go through the same blocks of the same tiles."""
    found: dict[object, list[tuple[int, int | None]]] = {}
    for n in form.stored():
        product = _only_product(form, n)
        key: object = n
        if product is not None:
            p, stage = form.products[product], form.kernel.stages[product]
            along = {(form.tiles[i.tile].writer, name) for i in stage.body if isinstance(i, Read)
                     for name, other in (form.match(product, i.index, i.tile) or {}).items() if other == "reduced"}
            sizes = form.extent(p.rows), form.extent(p.columns), p.terms, p.chains
            key = (sizes, frozenset(along)) if along else n
        found.setdefault(key, []).append((n, product))
    return [Group(form.extent(form.dims[members[0][0]].rows), tuple(n for n, _ in members),
                  tuple(p for _, p in members if p is not None) if len(members) > 1 else ()) for members in found.values()]


def _only_product(form: BlockForm, number: int) -> int | None:
    """The product that makes the only tile that a stage reads, row by row; None if there is none."""
    reads = {(i.tile, i.index) for i in form.kernel.stages[number].body if isinstance(i, Read)}
    if len(reads) != 1:
        return None
    ((tile, index),) = reads
    found, writer = form.match(number, index, tile), form.tiles[tile].writer
    return writer if writer in form.products and found is not None and found.get("rows") == "rows" else None


def _matrices(unit: Unit) -> int:
    """Blocks of rows of each result, at each point of the grid: the first blocks are those of the first results."""
    form, schedule, text = unit.form, unit.schedule, unit.text
    groups = groups_of(form)
    blocks = [-(-g.rows // schedule.rows) for g in groups]
    total = sum(blocks)
    text.line(f"const int block = (int)blockIdx.x % {total};")
    _batch(unit, f"((int)blockIdx.x / {total})")
    first = 0
    for g, count in zip(groups, blocks):
        with unit.scope(f"{'else ' if first else ''}if (block < {first + count})" if len(groups) > 1 else ""):
            demand = Demand(unit)
            rows = _block_of(unit, f"(block - {first})" if first else "block", g.rows, schedule.rows, "r")
            if g.products:
                demand.products(list(g.products), rows, Range.of(form.extent(form.products[g.products[0]].columns)))
            for n in g.stages:
                _stores(unit, demand, n, rows, None, [])
        first += count
    return math.prod(form.kernel.axes[a] for a in form.batch) * total
