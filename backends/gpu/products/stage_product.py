"""Stages as matrix products: which stages multiply matrices, whatever is computed of an element before it is multiplied.

`nagraph.kernel.contraction` asks for factors that lie in memory as they are, since its routine reads them there. Here a factor is any
value: gathered, masked, widened from 16 bits, the result of elementwise ops. It is computed where a tile of it is brought to shared memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nagraph.ir.types import DTYPES, DType
from nagraph.kernel.contraction import CHAIN, product_order, stride
from nagraph.kernel.form import Apply, Consecutive, Kernel, Load, Position, Read, Stage, Within
from nagraph.kernel.stage_split import needed
from nagraph.ops.base import Cast

F32, F64 = DTYPES["f32"], DTYPES["f64"]
HALVES = (DTYPES["f16"], DTYPES["bf16"])


class Chains(NamedTuple):
    """In which order an element of C adds its terms: chains of `length` terms, each summed from zero by fma, added one after another.

    run: terms after which a chain ends in any case. backwards: the last chain is the first one. It follows from the kernel alone, so
    every tile gives the same bits.
    """

    length: int
    run: int
    backwards: bool = False

    def count(self, terms: int) -> int:
        """The number of chains of so many terms."""
        runs, rest = divmod(terms, self.run)
        return runs * -(-self.run // self.length) + -(-rest // self.length)


@dataclass(frozen=True)
class Factor:
    """A factor of a product: the value that is multiplied, in the dtype in which it is kept in shared memory.

    value: the instruction, without a cast that only widens it to the dtype of the product. plain: the load or read that it is, if it is
    nothing else. free, summed: of what is plain the strides along the rows of A (the columns of B) and along what is summed, in elements;
    None if there is no single one.
    """

    value: int
    dtype: DType
    plain: Load | Read | None
    free: int | None = None
    summed: int | None = None

    @property
    def contiguous(self) -> str:
        """Along what its elements lie side by side in memory: "free", "summed", or "" along neither."""
        return "free" if self.free == 1 else "summed" if self.summed == 1 else ""


@dataclass(frozen=True)
class StageProduct:
    """A stage that is a matrix product: C[rows, columns] = sum over `summed` of A[rows, summed] B[summed, columns], at each point of the
    other axes of the grid.

    rows, columns: axes of the grid or loops of the stage; B does not vary along the rows, nor A along the columns. dtype: of the sums.
    """

    stage: Stage
    dtype: DType
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    summed: tuple[int, ...]
    a: Factor
    b: Factor
    terms: int
    chains: Chains

    @staticmethod
    def of(kernel: Kernel, stage: Stage, rows: Sequence[int], columns: Sequence[int]) -> StageProduct | None:
        """The product that a stage is with these axes of rows and columns; None if it is none."""
        found = dot_values(kernel, stage)
        if found is None or not columns:
            return None
        for x, y in (found, found[::-1]):
            if axes_of(kernel, stage, x).isdisjoint(columns) and axes_of(kernel, stage, y).isdisjoint(rows):
                summed = stage.loops[len(stage.kept):]
                a, b = (_factor(kernel, stage, v, free, summed) for v, free in ((x, tuple(rows)), (y, tuple(columns))))
                terms = math.prod(kernel.axes[i] for i in summed)
                return StageProduct(stage, stage.body[x].dtype, tuple(rows), tuple(columns), summed, a, b, terms, chains_of(stage, terms))
        return None

    @property
    def halves(self) -> bool:
        """Whether both factors are 16-bit floats of one dtype, as tensor cores multiply them."""
        return self.a.dtype == self.b.dtype and self.a.dtype in HALVES and self.dtype == F32


def dot_values(kernel: Kernel, stage: Stage) -> tuple[int, int] | None:
    """The two values whose products a stage sums and does nothing else; None if it does something else."""
    if len(stage.folds) != 1 or not stage.folds[0].is_contraction or stage.writes or stage.stores:
        return None
    x, y = stage.folds[0].values
    return (x, y) if x != y and stage.body[x].dtype in (F32, F64) and stage.folds[0].tile >= 0 else None


def axes_of(kernel: Kernel, stage: Stage, value: int) -> frozenset[int]:
    """The axes that a value varies with. What a tile holds may vary with all axes of the grid."""
    found: set[int] = set()
    for n in needed(stage, [value]):
        i = stage.body[n]
        if isinstance(i, (Load, Read, Position, Within)):
            found |= {a for a, _ in i.index.terms if a >= 0}
        if isinstance(i, Read):
            found |= set(range(kernel.grid))
    return frozenset(found)


def _factor(kernel: Kernel, stage: Stage, value: int, free: tuple[int, ...], summed: tuple[int, ...]) -> Factor:
    i = stage.body[value]
    if isinstance(i, Apply) and isinstance(i.op, Cast) and stage.body[i.arguments[0]].dtype in HALVES and i.dtype == F32:
        value = i.arguments[0]
    i = stage.body[value]
    plain = i if isinstance(i, (Load, Read)) and i.mask is None and all(a >= 0 for a, _ in i.index.terms) else None
    steps = (stride(kernel, plain.index, free), stride(kernel, plain.index, summed)) if plain is not None else (None, None)
    return Factor(value, i.dtype, plain, *steps)


def chains_of(stage: Stage, terms: int) -> Chains:
    """The order of a product's additions: the one that the kernel states, else chains of at most CHAIN terms."""
    order = stage.folds[0].order
    if not isinstance(order, Consecutive) or (not order.length and terms > CHAIN):
        order = product_order(terms, 1)
    run = order.run or max(1, terms)
    return Chains(min(order.length or run, run), run, order.backwards)
