"""Packing: parts of A and B copied to where they are read in order, without strides that caches and TLB dislike."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.text.builder import FunctionBuilder, Module, Reg, i64
from nagraph.backends.llvm.text.register_transpose import transposed
from nagraph.backends.llvm.text.vectors import first_lanes, load, minimum

#: to, to_row, source, source_row, source_col, rows, columns
ARGUMENTS = ("ptr noalias", "i64", "ptr noalias", "i64", "i64", "i64", "i64")
#: to, to_row, source, source_col, rows, columns
SQUARE_ARGUMENTS = ("ptr noalias", "i64", "ptr noalias", "i64", "i64", "i64")


def emit_copies(module: Module, tile: Tile) -> None:
    """The functions copy, transpose and gather: to[p, j] = source[p, j] for p < rows, j < columns; the target has unit columns.

    copy takes a source with unit columns, transpose one with unit rows, gather any. The first two write whole vectors:
    copy up to 2 lanes - 1 elements behind a row of the target, transpose up to lanes - 1, and so many rows more.
    """
    _copy(module, tile)
    _square(module, tile, "square", masked=False)
    _square(module, tile, "edge", masked=True)
    _transpose(module, tile)
    _gather(module, tile)


def _copy(module: Module, tile: Tile) -> None:
    """Row after row, two vectors at a time."""
    code = module.function("copy", "void", ARGUMENTS, linkage="internal")
    to, to_row, source, source_row, _, rows, columns = code.arguments
    pair = 2 * tile.lanes
    whole = code.binary("and", columns, i64(-pair))
    masks = [first_lanes(code, tile.lanes, code.sub(columns, code.add(whole, i64(start)))) for start in (0, tile.lanes)]
    some = code.compare("icmp sgt", columns, whole)
    with code.loop(i64(0), rows, carried=(source, to), known=True) as down:
        here, there = down.carried
        with code.loop(i64(0), whole, pair) as across:
            _copy_pair(code, tile, here, there, across.index, [None, None])
        with code.when(some):
            _copy_pair(code, tile, here, there, whole, masks)
        down.carried = [code.offset(here, tile.element, source_row), code.offset(there, tile.element, to_row)]
    code.ret()


def _copy_pair(code: FunctionBuilder, tile: Tile, source: Reg, to: Reg, start: Reg, masks: Sequence[Reg | None]) -> None:
    for j, mask in enumerate(masks):
        place = code.add(start, i64(j * tile.lanes))
        code.store(load(code, tile.vector, code.offset(source, tile.element, place), tile.size, mask),
                   code.offset(to, tile.element, place), tile.size)


def _transpose(module: Module, tile: Tile) -> None:
    code = module.function("transpose", "void", ARGUMENTS, linkage="internal")
    to, to_row, source, _, source_col, rows, columns = code.arguments
    whole = code.binary("and", rows, i64(-tile.lanes))
    some = code.compare("icmp sgt", rows, whole)
    with code.loop(i64(0), columns, tile.lanes, known=True) as across:
        left = code.sub(columns, across.index)

        def transpose_part(function: str, down: Reg) -> None:
            there = code.offset(to, tile.element, code.add(across.index, code.mul(down, to_row)))
            here = code.offset(source, tile.element, code.add(down, code.mul(across.index, source_col)))
            code.call(function, "void", there, to_row, here, source_col, code.sub(rows, down), left)

        with code.loop(i64(0), whole, tile.lanes) as down:
            transpose_part("square", down.index)
        with code.when(some):
            transpose_part("edge", whole)
    code.ret()


def _square(module: Module, tile: Tile, name: str, masked: bool) -> None:
    """The first rows and columns of `transpose`, `lanes` of each at most, in registers; `masked` for less rows than these.

    Columns past the last one repeat it, so that no other memory is read: nobody reads the copies.
    """
    code = module.function(name, "void", SQUARE_ARGUMENTS, linkage="internal")
    to, to_row, source, source_col, rows, columns = code.arguments
    lanes, last = tile.lanes, code.sub(columns, i64(1))
    mask = first_lanes(code, lanes, rows) if masked else None
    square = []
    for j in range(lanes):
        place = code.mul(minimum(code, i64(j), last), source_col) if j else i64(0)
        square.append(load(code, tile.vector, code.offset(source, tile.element, place), tile.size, mask))
    for x in transposed(code, square):
        code.store(x, to, tile.size)
        to = code.offset(to, tile.element, to_row)
    code.ret()


def _gather(module: Module, tile: Tile) -> None:
    code = module.function("gather", "void", ARGUMENTS, linkage="internal")
    to, to_row, source, source_row, source_col, rows, columns = code.arguments
    with code.loop(i64(0), rows, known=True) as down:
        here = code.offset(source, tile.element, code.mul(down.index, source_row))
        there = code.offset(to, tile.element, code.mul(down.index, to_row))
        with code.loop(i64(0), columns, known=True) as across:
            x = code.load(tile.element, code.offset(here, tile.element, code.mul(across.index, source_col)), tile.size)
            code.store(x, code.offset(there, tile.element, across.index), tile.size)
    code.ret()
