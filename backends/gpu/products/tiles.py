"""Tiles of products on a GPU: which are legal, what they take, and which one a product gets."""

from __future__ import annotations

from collections.abc import Iterator

from nagraph.backends.gpu.products.form import FMA, MMA, TF32, WARP, ProductTile
from nagraph.backends.gpu.products.stage_product import F32, F64, Factor, StageProduct
from nagraph.ir.types import DType

#: Terms that one instruction of a tensor core multiplies, and the rows and columns of its C.
MMA_DEPTH, TF32_DEPTH, MMA_ROWS, MMA_COLUMNS = 16, 8, 16, 8
#: Bytes by which a row of a tile in shared memory is longer, so that the rows that a warp reads at a time lie in different banks.
PAD_NBYTES = {FMA: 16, MMA: 16, TF32: 32}
#: Registers that a thread has at most, and what it needs beside sums and factors.
MOST_REGISTERS, OTHER_REGISTERS = 255, 40
#: Elements that a thread brings in a step at most.
MOST_COPIES = 32

#: Tiles of tensor cores: rows, columns, terms, and rows and columns of a warp.
TENSOR_TILES = (
    (128, 128, 32, 64, 32), (128, 64, 32, 32, 32), (64, 128, 32, 32, 32), (128, 64, 32, 32, 16), (64, 64, 32, 32, 16), (64, 64, 32, 16, 16),
    (64, 64, 32, 16, 8), (128, 32, 32, 16, 16), (128, 32, 32, 16, 8), (64, 32, 32, 16, 16), (32, 64, 32, 16, 16), (32, 32, 32, 16, 8),
    (16, 64, 32, 16, 8), (16, 32, 32, 16, 8), (64, 16, 32, 16, 8), (32, 16, 32, 16, 8), (16, 16, 32, 16, 8),
)


def wrong(tile: ProductTile, product: StageProduct, threads: int) -> str:
    """Why a product can't have a tile in a block of so many threads; "" if it can."""
    rows, columns, depth, own_rows, own_columns, how = tile
    if min(tile[:5]) < 1 or rows % own_rows or columns % own_columns:
        return f"tiles of {rows} by {columns} are not made of parts of {own_rows} by {own_columns}"
    if tile.threads != threads:
        return f"its tile takes {tile.threads} threads, the block has {threads}"
    if (rows + columns) * depth > MOST_COPIES * threads:
        return f"a thread would bring {(rows + columns) * depth // threads} elements at a time; {MOST_COPIES} at most"
    if how == FMA and (own_rows & (own_rows - 1) or own_columns & (own_columns - 1) or max(own_rows, own_columns) > 16):
        return "the rows and columns of a thread are powers of two, up to 16"
    if how == MMA and not product.halves:
        return "tensor cores multiply 16-bit floats of one dtype"
    if how == TF32 and (product.a.dtype != F32 or product.b.dtype != F32 or product.dtype != F32):
        return "tf32 multiplies float32"
    if how not in (FMA, MMA, TF32):
        return f"products are summed by {FMA}, {MMA} or {TF32}"
    step = {FMA: 1, MMA: MMA_DEPTH, TF32: TF32_DEPTH}[how]
    if how != FMA and (own_rows % MMA_ROWS or own_columns % MMA_COLUMNS or depth % step):
        return f"a warp multiplies {MMA_ROWS} rows by {MMA_COLUMNS} columns, {step} terms at a time"
    if how != FMA and chained(product) % step:
        return f"chains of {chained(product)} terms are not made of steps of {step}"
    registers = registers_of(tile, product.dtype)
    return f"it would take {registers} registers a thread; there are {MOST_REGISTERS}" if registers > MOST_REGISTERS else ""


def chained(product: StageProduct) -> int:
    """The terms after which a chain may end before the last one does; 0 if there is one chain."""
    return 0 if product.chains.count(product.terms) <= 1 else product.chains.length


def registers_of(tile: ProductTile, dtype: DType) -> int:
    """About how many registers a thread needs."""
    rows, columns = tile.thread_rows, tile.thread_columns
    if tile.instruction == FMA:
        return (rows * columns + rows + columns) * dtype.itemsize // 4 + OTHER_REGISTERS
    return rows * columns // WARP + rows // MMA_ROWS * 4 + columns // MMA_COLUMNS * 2 + OTHER_REGISTERS


def staging_nbytes(tile: ProductTile, product: StageProduct) -> int:
    """The shared memory in which two steps of both factors stand."""
    return 2 * sum(aligned(rows * pitch * factor.dtype.itemsize) for factor, rows, pitch in staged(tile, product))


def staged(tile: ProductTile, product: StageProduct) -> Iterator[tuple[Factor, int, int]]:
    """For A and for B: the factor, and how it stands in shared memory: how many rows, and elements from one to the next.

    Single elements are read term by term, so the terms are rows; tensor cores take 16-bit floats in either order, so these stand as they do
    in memory.
    """
    for factor, extent in ((product.a, tile.rows), (product.b, tile.columns)):
        pad = PAD_NBYTES[tile.instruction] // factor.dtype.itemsize
        if by_terms(tile, factor):
            yield factor, tile.depth, extent + pad
        else:
            yield factor, extent, tile.depth + pad


def by_terms(tile: ProductTile, factor: Factor) -> bool:
    """Whether the rows of a factor in shared memory are its terms."""
    return tile.instruction != MMA or factor.contiguous == "free"


def aligned(nbytes: int) -> int:
    """The bytes with what is missing to a multiple of 16."""
    return -(-nbytes // 16) * 16


def candidates(product: StageProduct, threads: int, tf32: bool = False) -> Iterator[ProductTile]:
    """Legal tiles for a block of so many threads, those with the most products for each element that they read first."""
    if product.halves:
        found = [ProductTile(*shape, MMA) for shape in TENSOR_TILES]
    elif tf32 and product.a.dtype == product.b.dtype == F32:
        found = [ProductTile(rows, columns, 16, *own, TF32) for rows, columns, _, *own in TENSOR_TILES]
    else:
        found = []
    own = [(8, 8), (8, 4), (4, 8), (4, 4), (2, 4), (4, 2), (2, 2), (1, 4), (4, 1), (1, 2), (2, 1), (1, 1)]
    if product.dtype == F64:
        own = [o for o in own if o[0] * o[1] <= 16]
    for own_rows, own_columns in own:
        for across in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            if threads % across == 0 and own_columns * across <= 256 and own_rows * (threads // across) <= 256:
                depth = 8 if own_rows * own_columns >= 64 else 16  # more elements in flight would not leave registers for two blocks
                found.append(ProductTile(own_rows * (threads // across), own_columns * across, depth, own_rows, own_columns, FMA))
    return (t for t in found if not wrong(t, product, threads))
