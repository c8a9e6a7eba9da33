"""Filling: how a step of a factor comes to shared memory, where two steps stand, so that one is brought while the other is multiplied.

What lies in memory as it is multiplied is copied asynchronously: 16 bytes at a time where its elements lie side by side in the order in
which they are to stand, where the address turns out to be a multiple of that; else element by element. What is computed is computed by the
thread that stores it. Rows, columns and terms beyond the end are zeros.
"""

from __future__ import annotations

from typing import NamedTuple

from nagraph.backends.gpu.products.emission.body import Body
from nagraph.backends.gpu.products.emission.unit import STAGING, Range, Unit, plus
from nagraph.backends.gpu.products.form import ProductTile
from nagraph.backends.gpu.products.stage_product import Factor, StageProduct
from nagraph.backends.gpu.products.tiles import aligned, by_terms, staged
from nagraph.kernel.form import Load

#: Bytes of the widest copy, and of the elements that can be copied one by one.
WIDEST, SINGLE = 16, (4, 8)
#: Copies of a thread whose addresses are held at a time: more would not leave registers for sums.
UNROLLED = 4


class Staged(NamedTuple):
    """A factor's part of the staging memory. by_terms: whether its rows are terms. nbytes: of one of its two buffers."""

    factor: Factor
    name: str
    pitch: int
    by_terms: bool
    elements: int


def staged_factors(unit: Unit, product: StageProduct, tile: ProductTile) -> list[Staged]:
    """Where A and B stand; the declarations of both go into the text."""
    found, offset = [], 0
    for factor, rows, pitch in staged(tile, product):
        kind, name = unit.dialect.memory_type(factor.dtype), unit.text.fresh()
        elements = aligned(rows * pitch * factor.dtype.itemsize) // factor.dtype.itemsize
        unit.text.line(f"{unit.dialect.shared}{kind}* const {name} = ({unit.dialect.shared}{kind}*)(memory + {STAGING} + {offset});")
        found.append(Staged(factor, name, pitch, by_terms(tile, factor), elements))
        offset += 2 * elements * factor.dtype.itemsize
    unit.staging_nbytes = max(unit.staging_nbytes, offset)
    return found


def vector(unit: Unit, product: StageProduct, x: Staged, free: Range, tile: ProductTile, extent: int) -> int:
    """How many elements of a factor one copy brings; 0 if it is computed, or its elements can't be copied alone."""
    factor, itemsize = x.factor, x.factor.dtype.itemsize
    if not isinstance(factor.plain, Load):
        return 0
    wide, along = WIDEST // itemsize, "free" if x.by_terms else "summed"
    if factor.contiguous == along and wide > 1:
        axes = (product.rows if factor is product.a else product.columns) if along == "free" else product.summed
        inner = unit.kernel.axes[axes[-1]] if axes else 1
        others = [c for a, c in factor.plain.index.terms if a not in axes] + [factor.plain.index.offset]
        # Along several axes elements lie side by side across them: their strides are those of one axis.
        lengths = [unit.extent(axes), inner, tile.depth if along == "summed" else extent]
        ends = lengths if along == "free" else [*lengths, product.chains.length, product.chains.run]
        if not any(n % wide for n in (*others, *ends)) and (along == "summed" or free.whole or extent % wide == 0):
            return wide
    return 1 if itemsize in SINGLE else 0


def emit_fill(unit: Unit, number: int, product: StageProduct, x: Staged, free: Range, start: str, tile: ProductTile, buffer: str, step: str,
              stop: str) -> None:
    """Bring the terms from `step` on, up to `stop`, of the rows (columns) from `start` on, up to `free.stop`, to a buffer."""
    text, factor = unit.text, x.factor
    extent = tile.rows if factor is product.a else tile.columns
    wide = vector(unit, product, x, free, tile, extent)
    along_free = factor.contiguous == "free" or (not factor.contiguous and x.by_terms)  # how neighbouring threads read
    count, per = extent * tile.depth, max(1, wide)
    lengths = (extent // per, tile.depth) if along_free else (tile.depth // per, extent)
    trips = -(-count // per // unit.threads)
    text.line(unit.dialect.unrolled + (f" {UNROLLED}" if trips > UNROLLED else ""))
    with text.block(f"for (int e = thread; e < {count // per}; e += {unit.threads})"):
        fast, slow = f"e % {lengths[0]}" + (f" * {per}" if per > 1 else ""), f"e / {lengths[0]}"
        i, k = (fast, slow) if along_free else (slow, fast)
        text.line(f"const int i = {i}, k = {k}, f = {plus(start, 'i')}, q = {step} + k;")
        place = f"{x.name}[{buffer} * {x.elements} + " + (f"k * {x.pitch} + i]" if x.by_terms else f"i * {x.pitch} + k]")
        inside = f"f < {free.stop} && q < {stop}"
        rows, columns = ("f", "0") if factor is product.a else ("0", "f")
        rows = unit_row(unit, rows)
        body = Body(unit, number, rows, columns, "q")
        if wide:
            assert isinstance(factor.plain, Load)
            index, operand = body.index(factor.plain.index), f"p{factor.plain.operand}"
            text.line(f"const bool inside = {inside};")
            text.line(f"ng_copy<{wide}>(&{place}, {operand} + (inside ? {index} : 0), inside);")
            return
        text.line(f"{unit.dialect.memory_type(factor.dtype)} value = {unit.s.constant(0, factor.dtype).raw};")
        with text.block(f"if ({inside})"):
            text.line(f"value = {body.value(factor.value).raw};")
        text.line(f"{place} = value;")


def unit_row(unit: Unit, rows: str) -> str:
    """The row of the grid at which a factor is computed: of one that does not vary with rows the unit's first."""
    return unit.rows.start if unit.form.rows and rows == "0" else rows
