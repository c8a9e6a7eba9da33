"""Which block schedule a kernel with products gets on a GPU where nobody asks for another. Read `choose` first."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator

from nagraph.backends.gpu.products.block_form import BlockForm, block_form
from nagraph.backends.gpu.products.emission.kernel import unit_blocks
from nagraph.backends.gpu.products.form import FMA, BlockLoops, BlockSchedule, ProductTile
from nagraph.backends.gpu.products.roofline import SECTOR, tile_cycles
from nagraph.backends.gpu.products.stage_product import StageProduct
from nagraph.backends.gpu.products.tiles import candidates, registers_of, staging_nbytes
from nagraph.backends.gpu.products.verify import problem_of
from nagraph.backends.gpu.target import GpuTarget
from nagraph.kernel.form import Kernel, Read

#: Threads of a block, and rows of one that goes through all columns.
THREADS, ROWS = (256, 128, 64), (128, 64, 32, 16, 8, 4, 2, 1)
#: Rows and columns of blocks of matrices at points of the grid, and of steps.
BLOCK, STEPS = (64, 32, 16), (64, 32, 128)
#: Fewer rows than these are no matrix for which a tile of shared memory would pay.
LEAST_ROWS = 4
#: Rows of a block below which a tile that is kept is not worth its memory, if computing it again takes no more terms than these.
GOOD_ROWS, SHORT_TERMS = 32, 256


@functools.lru_cache(1024)
def choose(kernel: Kernel, target: GpuTarget) -> BlockSchedule | None:
    """The schedule of a kernel with products; None if it has none, if loops over its points do as well, or for GPUs without CUDA, which are
    those without a double: their library multiplies.

    A kernel whose stages need no other column of what an earlier one made is cut into tiles of rows and columns: those that the roofline
    rule finds fastest. Any other one goes through all columns of a block of rows. Of what products make, as much is kept in shared memory
    as leaves the block enough rows; what is short to compute again, such as attention's scores, is so by each stage that reads it.
    """
    form = block_form(kernel)
    if not target.doubles or form is None or _rows(form) < LEAST_ROWS or _beyond_int(form):
        return None
    fitting = (s for s in _candidates(form, target) if least_nbytes(form, s) <= target.shared_nbytes)
    if form.split_columns:  # the verifier writes a kernel's text to know its shared memory: it is asked about the fastest one first
        fitting = iter(sorted(fitting, key=lambda s: (time(form, s, target), brought(form, s))))
    return next((s for s in fitting if not problem_of(kernel, s, target)), None)


def _beyond_int(form: BlockForm) -> bool:
    """Whether an index of the kernel's rows would not fit an int."""
    return any(form.extent(d.rows) >= 1 << 31 or form.extent(d.columns) >= 1 << 31 for d in form.dims)


def _rows(form: BlockForm) -> int:
    """The rows of the largest product."""
    return max(form.extent(p.rows) for p in form.products.values())


def time(form: BlockForm, schedule: BlockSchedule, target: GpuTarget) -> float:
    """Cycles of a kernel that is cut into tiles: of all its waves of blocks."""
    blocks = unit_blocks(form, schedule)
    resident = min(resident_blocks(form, schedule, target), -(-blocks // target.multiprocessors))
    cycles = 0.0
    for n, product in form.products.items():
        tile = schedule.stages[n]
        assert isinstance(tile, ProductTile)
        cycles += tile_cycles(target, tile, product.terms, product.dtype, product.a.dtype.itemsize, resident)
    return cycles * -(-blocks // (target.multiprocessors * resident))


def brought(form: BlockForm, schedule: BlockSchedule) -> int:
    """Elements of factors that all blocks bring to shared memory, a few columns counting as a whole request."""
    tiles = ((t, form.products[n].terms) for n, t in enumerate(schedule.stages) if isinstance(t, ProductTile))
    return unit_blocks(form, schedule) * sum((t.rows + max(t.columns, SECTOR)) * terms for t, terms in tiles)


def resident_blocks(form: BlockForm, schedule: BlockSchedule, target: GpuTarget) -> int:
    """How many blocks a multiprocessor holds at a time, as far as threads, registers and shared memory allow."""
    registers = max(registers_of(t, form.products[n].dtype) for n, t in enumerate(schedule.stages) if isinstance(t, ProductTile))
    return max(1, min(target.resident_threads // schedule.threads, target.registers // (registers * schedule.threads),
                      target.shared_nbytes // least_nbytes(form, schedule), 16))


def least_nbytes(form: BlockForm, schedule: BlockSchedule) -> int:
    """The shared memory that a block takes at least: the tiles that it keeps, or that a tile of columns goes through, and the staging."""
    kept = [t for t, x in form.tiles.items() if t in schedule.kept or (form.split_columns and x.width > 1)]
    width = schedule.columns or max((form.tiles[t].width for t in kept), default=0)
    tiles = sum(schedule.rows * min(width, form.tiles[t].width) * form.kernel.tiles[t].dtype.itemsize for t in kept)
    return tiles + max(staging_nbytes(t, form.products[n]) for n, t in enumerate(schedule.stages) if isinstance(t, ProductTile))


def _stages(form: BlockForm, tiles: dict[int, ProductTile]) -> tuple[ProductTile | BlockLoops, ...]:
    return tuple(tiles.get(n, BlockLoops()) for n in range(len(form.kernel.stages)))


def _tile(product: StageProduct, threads: int, rows: int, columns: int, tf32: bool) -> ProductTile | None:
    """The tile for a block of rows and columns: the one that computes the least beyond it, and of those the one that reads the least."""
    found = list(candidates(product, threads, tf32))
    exact = [t for t in found if t.instruction != FMA] or found

    def excess(t: ProductTile) -> tuple[int, int]:
        covered = -(-rows // t.rows) * t.rows * -(-columns // t.columns) * t.columns
        return covered, -t.thread_rows * t.thread_columns * 1000 + abs(t.thread_rows - t.thread_columns)
    return min(exact, key=excess, default=None)


def _candidates(form: BlockForm, target: GpuTarget) -> Iterator[BlockSchedule]:
    if form.split_columns:
        yield from _tiled(form, target.tf32)
    elif form.rows:
        yield from _rows_of_grid(form, target)
    else:
        yield from _matrices(form, target.tf32)


def _tiled(form: BlockForm, tf32: bool) -> Iterator[BlockSchedule]:
    """Tiles of rows and columns. Several products of one kernel have tiles of one shape."""
    rows, columns = form.extent(form.rows), form.split_columns
    first, *others = form.products.items()
    for threads in THREADS:
        seen = set()
        for tile in candidates(first[1], threads, tf32):
            height, width = min(tile.rows, rows), min(tile.columns, columns)
            if (tile.rows, tile.columns) in seen or tile.rows >= 2 * max(rows, 8) or tile.columns >= 2 * max(columns, 8):
                continue
            seen.add((tile.rows, tile.columns))
            tiles = {first[0]: tile}
            for n, product in others:
                own = _tile(product, threads, height, width, tf32)
                if own is None:
                    break
                tiles[n] = own
            else:
                yield BlockSchedule(height, width if width < columns else 0, 0, threads, (), _stages(form, tiles))


def _rows_of_grid(form: BlockForm, target: GpuTarget) -> Iterator[BlockSchedule]:
    """Blocks of rows with all columns: first those that keep what products make, if that leaves enough rows."""
    extent = form.extent(form.rows)
    made = {t: x for t, x in form.tiles.items() if x.writer in form.products}
    written = {w.tile for s in form.kernel.stages for w in s.writes}
    whole = tuple(sorted(form.whole & (set(made) | written)))
    readers = {t: sum(any(isinstance(i, Read) and i.tile == t for i in s.body) for s in form.kernel.stages) for t in made}
    again = tuple(sorted({*whole, *(t for t, n in readers.items() if n > 1)}))
    short = all(form.products[made[t].writer].terms <= SHORT_TERMS for t in again if t not in whole)
    batch = math.prod(form.kernel.axes[a] for a in form.batch)
    sizes = [r for r in ROWS if r < 2 * extent and (r <= 16 or batch * -(-extent // r) >= target.multiprocessors)]
    # What is short to compute again is kept only where that leaves a full block good rows, and where it is needed beyond a diagonal.
    keep_short = (min(GOOD_ROWS, sizes[0]), sizes[0], again, THREADS[:1])
    keep, draw = (1, sizes[0], again, THREADS), (1, BLOCK[0], whole, THREADS)
    for least, most, kept, counts in ([draw] if form.diagonals else [keep_short, draw]) if short else [keep, draw]:
        for rows, step, threads in itertools.product([r for r in sizes if least <= r <= most], STEPS, counts):
            tiles = {n: _tile(p, threads, min(rows, extent), form.extent(p.columns), target.tf32) for n, p in form.products.items()}
            found = {n: t for n, t in tiles.items() if t is not None}
            if len(found) == len(tiles):
                yield BlockSchedule(min(rows, extent), 0, step, threads, kept, _stages(form, found))


def _matrices(form: BlockForm, tf32: bool) -> Iterator[BlockSchedule]:
    """Blocks of rows of matrices at points of the grid; steps are as long as the chains of sums over rows."""
    lengths = {p.chains.length for p in form.products.values() if p.chains.backwards}
    for rows in BLOCK:
        for step in (*lengths, *STEPS):
            for threads in THREADS[:2]:
                tiles = {n: _tile(p, threads, rows, min(form.extent(p.columns), 64), tf32) for n, p in form.products.items()}
                found = {n: t for n, t in tiles.items() if t is not None}
                if len(found) == len(tiles):
                    yield BlockSchedule(rows, 0, step, threads, (), _stages(form, found))
