"""Library products: kernels that are one plain matrix product and nothing else, which cuBLAS computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.backends.gpu.products.block_form import block_form
from nagraph.backends.gpu.products.choose import choose, time
from nagraph.backends.gpu.products.roofline import LAUNCH, Work, library_time, peaks
from nagraph.backends.gpu.products.stage_product import F32, HALVES, StageProduct
from nagraph.backends.gpu.target import GpuTarget
from nagraph.ir.types import DTYPES, SHORT_NAMES
from nagraph.kernel.affine import Affine
from nagraph.kernel.contraction import stride
from nagraph.kernel.form import Apply, Kernel, Load, Read, Stage, Store
from nagraph.ops.base import Cast

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...]


class Matrix(NamedTuple):
    """A matrix in an operand, batch after batch: where its first element is, and the steps from row to row, from column to column, and from
    batch to batch, in elements. One of the first two is 1. dtype: by its short name.
    """

    operand: int
    offset: int
    row: int
    column: int
    batch: int
    dtype: str

    @property
    def transposed(self) -> bool:
        """Whether its columns, not its rows, lie side by side in memory."""
        return self.column != 1

    @property
    def pitch(self) -> int:
        """The step from one row, or column, that lies side by side to the next: a library's leading dimension."""
        return self.column if self.transposed else self.row

    def elements(self, rows: int, columns: int, batch: int) -> int:
        """How far it reaches into its operand."""
        return self.offset + (rows - 1) * self.row + (columns - 1) * self.column + (batch - 1) * self.batch + 1

    def view(self, buffer: Array, rows: int, columns: int, batch: int) -> Array:
        """[batch, rows, columns]: it, in the memory of its operand."""
        elements = buffer.reshape(-1).view(np.uint8).view(DTYPES[self.dtype])
        strides = [step * elements.itemsize for step in (self.batch, self.row, self.column)]
        return np.lib.stride_tricks.as_strided(elements[self.offset:], (batch, rows, columns), strides)


class LibraryProduct(NamedTuple):
    """A library product is a kernel that a library computes: c[i] = a[i] b[i] for each of `batch` matrices, a of m by k and b of k by n
    elements, in an order of additions of the library's own, which is the same from call to call.

    name: as of a device function. a, b, c: the matrices; their operands are numbered as the kernel's, of which c is the last. sums: the
    dtype in which it is summed, by its short name. tf32: whether float32 may be rounded to the 11 bits that tensor cores multiply.
    """

    name: str
    a: Matrix
    b: Matrix
    c: Matrix
    m: int
    n: int
    k: int
    batch: int
    sums: str
    tf32: bool = False

    @staticmethod
    def of(fields: Sequence[Any]) -> LibraryProduct:
        """The product whose fields were written down as lists."""
        name, a, b, c, *rest = fields
        return LibraryProduct(name, Matrix(*a), Matrix(*b), Matrix(*c), *rest)

    @property
    def nbytes(self) -> tuple[int, ...]:
        """How many bytes of each operand it reads or writes, from the operand's first one on."""
        reach: dict[int, int] = {}
        for x, rows, columns in ((self.a, self.m, self.k), (self.b, self.k, self.n), (self.c, self.m, self.n)):
            found = x.elements(rows, columns, self.batch) * DTYPES[x.dtype].itemsize
            reach[x.operand] = max(found, reach.get(x.operand, 0))
        return tuple(reach[i] for i in sorted(reach))

    @property
    def work(self) -> Work:
        """Its multiply-adds, and the bytes of its matrices, each once."""
        sizes = ((self.a, self.m * self.k), (self.b, self.k * self.n), (self.c, self.m * self.n))
        nbytes = sum((self.batch if x.batch else 1) * size * DTYPES[x.dtype].itemsize for x, size in sizes)
        return Work(self.batch * self.m * self.n * self.k, nbytes)

    def compute(self, *operands: Array) -> None:
        """Compute it with NumPy, in the memory of its operands."""
        sums, size = DTYPES[self.sums], self.batch
        a = self.a.view(operands[self.a.operand], self.m, self.k, size).astype(sums)
        b = self.b.view(operands[self.b.operand], self.k, self.n, size).astype(sums)
        c = self.c.view(operands[self.c.operand], self.m, self.n, size)
        a, b = (_rounded(a), _rounded(b)) if self.tf32 else (a, b)
        with np.errstate(all="ignore"):
            c[...] = (a @ b).astype(c.dtype)


def _rounded(x: Array) -> Array:
    """float32 in the 11 bits of tf32, halves away from zero; what is not finite stays."""
    return np.where(np.isfinite(x), ((x.view(np.uint32) + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32), x)


class Choice(NamedTuple):
    """Who computes a kernel with products, and why: a sentence with the figures that decided."""

    by_library: bool
    reason: str


def library_product(kernel: Kernel, name: str = "product", tf32: bool = False) -> LibraryProduct | None:
    """The library product that a kernel is; None if it is none: if it has another stage than one that stores what the product makes, or
    its matrices have no single strides. tf32: whether float32 may be rounded.
    """
    form = block_form(kernel)
    if form is None or not form.rows or len(kernel.stages) != 2 or list(form.products) != [0] or kernel.outputs != 1:
        return None
    product, store = form.products[0], _stored(kernel, kernel.stages[1])
    if store is None or form.match(1, _read(kernel.stages[1]).index, _read(kernel.stages[1]).tile) is None:
        return None
    left, right = product.a.plain, product.b.plain
    if not product.terms or not isinstance(left, Load) or not isinstance(right, Load) or product.a.dtype != product.b.dtype:
        return None
    columns = form.dims[1].columns
    if form.extent(columns) != form.extent(product.columns):
        return None
    made = kernel.operands[store.operand]
    if made not in (product.a.dtype, *([F32] if product.halves else [])):
        return None
    batch = form.batch
    a = _matrix(kernel, left.operand, left.index, product.rows, product.summed, batch)
    b = _matrix(kernel, right.operand, right.index, product.summed, product.columns, batch)
    c = _matrix(kernel, store.operand, store.index, form.rows, columns, batch)
    if a is None or b is None or c is None:
        return None
    size = (form.extent(product.rows), form.extent(product.columns), product.terms)
    return LibraryProduct(name, a, b, c, *size, math.prod(kernel.axes[x] for x in batch), SHORT_NAMES[product.dtype],
                          tf32 and product.a.dtype == F32)


def _read(stage: Stage) -> Read:
    found = next(i for i in stage.body if isinstance(i, Read))
    return found


def _stored(kernel: Kernel, stage: Stage) -> Store | None:
    """The store of a stage that only stores what it reads of a tile, or that rounded to 16 bits."""
    if stage.folds or stage.writes or stage.reduced or len(stage.stores) != 1:
        return None
    (store,), (first, *rest) = stage.stores, stage.body
    plain = isinstance(first, Read) and first.mask is None and store.combine is None
    rounded = len(rest) == 1 and isinstance(rest[0], Apply) and isinstance(rest[0].op, Cast) and rest[0].dtype in HALVES
    return store if plain and (not rest or rounded) else None


def _matrix(kernel: Kernel, operand: int, index: Affine, rows: Axes, columns: Axes, batch: Axes) -> Matrix | None:
    steps = [stride(kernel, index, axes) for axes in (rows, columns, batch)]
    row, column, between = steps
    if row is None or column is None or between is None:
        return None
    height, width = (math.prod(kernel.axes[a] for a in axes) for axes in (rows, columns))
    # The step along an axis of one place may be any.
    column = 1 if width == 1 else column
    row = (width if column == 1 else 1) if height == 1 else row
    if (column == 1 and row >= width) or (row == 1 and column >= height):
        return Matrix(operand, index.offset, row, column, between, SHORT_NAMES[kernel.operands[operand]])
    return None


def chosen(kernel: Kernel, target: GpuTarget) -> Choice | None:
    """Who computes a kernel with products on a GPU; None if it has none that a library or tiles would compute.

    A plain product goes to the library where its roofline, at the share that a library reaches, is below that of our tiles; anything else
    that is computed along with a product would cost the library's C another way to memory and back, so our tiles take it.
    """
    form, schedule, plain = block_form(kernel), choose(kernel, target), library_product(kernel)
    if form is None or (schedule is None and plain is None):
        return None
    sizes = "; ".join(_sizes(kernel, p) for p in form.products.values())
    if plain is None:
        return Choice(False, f"our tiles: {sizes}; more than a plain product, whose result the library would bring to memory and back")
    theirs = library_time(target, plain.work, DTYPES[plain.a.dtype], plain.k)
    if schedule is None:
        return Choice(True, f"library: {sizes}; {theirs:.1f} us by its roofline, and no tile of ours fits")
    memory = plain.work.nbytes / peaks(target).bandwidth / 1000
    ours = LAUNCH + max(time(form, schedule, target) / peaks(target).cycles, memory)
    by_library = theirs < ours
    figures = f"{2 * plain.work.products / 1e6:,.1f} MFLOP, {plain.work.nbytes / 1e6:,.2f} MB"
    return Choice(by_library, f"{'library' if by_library else 'our tiles'}: {sizes}; {figures}; "
                              f"by the roofline rule {theirs:.1f} us by the library, {ours:.1f} us by our tiles")


def _sizes(kernel: Kernel, product: StageProduct) -> str:
    m, n = (math.prod(kernel.axes[a] for a in axes) for axes in (product.rows, product.columns))
    return f"{m} x {n} x {product.terms} of {SHORT_NAMES[product.a.dtype]}"
