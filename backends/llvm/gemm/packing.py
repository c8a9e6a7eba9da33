"""Packing: parts of A and B copied to where they are read in order, without strides that caches and TLB dislike."""

from __future__ import annotations

from nagraph.backends.llvm.code import Code, Module, Reg, i64
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.gemm.vectors import first_lanes, load, minimum

#: to, to_row, source, source_row, source_col, rows, columns
ARGUMENTS = ("ptr noalias", "i64", "ptr noalias", "i64", "i64", "i64", "i64")


def emit_copies(module: Module, tile: Tile) -> None:
    """The functions copy, transpose and gather: to[p, j] = source[p, j] for p < rows, j < columns; the target has unit columns.

    copy takes a source with unit columns, transpose one with unit rows, gather any. Vectors are written whole: up to
    `lanes` - 1 elements behind a row of the target, and so many rows behind the last one, are overwritten.
    """
    _copy(module, tile)
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


def _copy_pair(code: Code, tile: Tile, source: Reg, to: Reg, start: Reg, masks: list[Reg | None]) -> None:
    for j, mask in enumerate(masks):
        place = code.add(start, i64(j * tile.lanes))
        code.store(load(code, tile.vector, code.offset(source, tile.element, place), tile.size, mask),
                   code.offset(to, tile.element, place), tile.size)


def _transpose(module: Module, tile: Tile) -> None:
    """Squares of `lanes` rows and columns, transposed in registers."""
    code = module.function("transpose", "void", ARGUMENTS, linkage="internal")
    to, to_row, source, _, source_col, rows, columns = code.arguments
    lanes = tile.lanes
    with code.loop(i64(0), columns, lanes, known=True) as across:
        last = code.sub(columns, i64(1))  # columns past the last one repeat it: the copy is not read there
        order = [minimum(code, code.add(across.index, i64(j)), last) for j in range(lanes)]
        sources = [code.offset(source, tile.element, code.mul(j, source_col)) for j in order]
        target = code.offset(to, tile.element, across.index)
        whole = code.binary("and", rows, i64(-lanes))
        with code.loop(i64(0), whole, lanes, carried=(target,)) as down:
            (target,) = down.carried
            _square(code, tile, sources, down.index, target, to_row, None)
            down.carried = [code.offset(target, tile.element, code.mul(to_row, i64(lanes)))]
        rest = code.sub(rows, whole)
        with code.when(code.compare("icmp sgt", rest, i64(0))):
            _square(code, tile, sources, whole, down.carried[0], to_row, first_lanes(code, lanes, rest))
    code.ret()


def _square(code: Code, tile: Tile, sources: list[Reg], start: Reg, to: Reg, to_row: Reg, mask: Reg | None) -> None:
    """Exchange blocks off the diagonal, of half the size, of a quarter, ..., of one element (Eklundh 1972)."""
    lanes = tile.lanes
    square = [load(code, tile.vector, code.offset(p, tile.element, start), tile.size, mask) for p in sources]
    half = lanes // 2
    while half:
        low = [lanes + j - half if j & half else j for j in range(lanes)]
        high = [lanes + j if j & half else j + half for j in range(lanes)]
        for i in range(lanes):
            if not i & half:
                x, y = square[i], square[i + half]
                square[i], square[i + half] = _shuffle(code, x, y, low), _shuffle(code, x, y, high)
        half //= 2
    for i, x in enumerate(square):
        code.store(x, code.offset(to, tile.element, code.mul(to_row, i64(i))), tile.size)


def _shuffle(code: Code, x: Reg, y: Reg, order: list[int]) -> Reg:
    numbers = ", ".join(f"i32 {j}" for j in order)
    return code.emit(x.type, f"shufflevector {x}, {y}, <{len(order)} x i32> <{numbers}>")


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
