"""The kernel form: parallel axes, and for each of their points a straight list of stages.

A stage is a loop nest around scalar instructions. What one stage leaves for a later one is in a
tile: memory for one point of the parallel axes. Vector widths, tile sizes in registers, threads and
memory spaces are no part of the form: they are decisions of the machine that lowers it.

The text of a kernel, `str(kernel)`, has an operand p0, p1, ..., a tile t0, t1, ..., an axis a0, a1, ... by its number, and in each
stage an instruction v0, v1, ....
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES, SHORT_NAMES, DType
from nagraph.kernel.affine import Affine

I64 = DTYPES["i64"]


@dataclass(frozen=True, slots=True)
class Number:
    """A constant, by its bits: 0.0 is not -0.0."""

    bits: bytes
    dtype: DType

    @property
    def value(self) -> Any:
        return np.frombuffer(self.bits, self.dtype)[0]

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Position:
    """The value of an affine expression, as an i64."""

    index: Affine

    dtype = I64

    def __str__(self) -> str:
        return f"position({self.index})"


@dataclass(frozen=True, slots=True)
class Within:
    """Whether 0 <= index < size and `step` divides the index; and `also`, an earlier bool, if there is one."""

    index: Affine
    size: int
    step: int = 1
    also: int | None = None

    dtype = BOOL

    def __str__(self) -> str:
        every = f", every {self.step}" if self.step > 1 else ""
        return f"0 <= {self.index} < {self.size}{every}{f' and v{self.also}' if self.also is not None else ''}"


@dataclass(frozen=True, slots=True)
class Load:
    """Element `index` of an operand; where the bool `mask` is false nothing is read and the value is 0."""

    operand: int
    index: Affine
    dtype: DType
    mask: int | None = None

    def __str__(self) -> str:
        return f"p{self.operand}[{self.index}]{f' if v{self.mask}' if self.mask is not None else ''}"


@dataclass(frozen=True, slots=True)
class Read:
    """Element `index` of a tile that an earlier stage wrote; where the bool `mask` is false nothing is read, and the value is 0."""

    tile: int
    index: Affine
    dtype: DType
    mask: int | None = None

    def __str__(self) -> str:
        return f"t{self.tile}[{self.index}]{f' if v{self.mask}' if self.mask is not None else ''}"


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise op of the graph, by its scalar rule, on earlier values."""

    op: Op
    arguments: tuple[int, ...]
    dtype: DType

    def __str__(self) -> str:
        return f"{self.op}({_values(self.arguments)})"


@dataclass(frozen=True, slots=True)
class Running:
    """The value of a fold of this stage after the current point: running sums are made of it."""

    fold: int
    dtype: DType

    def __str__(self) -> str:
        return f"running fold {self.fold}"


Instruction = Number | Position | Within | Load | Read | Apply | Running


@dataclass(frozen=True, slots=True)
class Consecutive:
    """An order of additions: point after point, row-major, in chains of `length` points (0: all of them in one).

    Each chain begins from nothing; what the chains give is combined one after another, from the last chain on if `backwards`.
    run: points after which a chain ends in any case.
    """

    length: int = 0
    run: int = 0
    backwards: bool = False

    def __str__(self) -> str:
        runs = f", none longer than a run of {self.run}" if self.run else ""
        return f"in chains of {self.length}{runs}{', the last one first' if self.backwards else ''}" if self.length else "in order"


@dataclass(frozen=True, slots=True)
class Interleaved:
    """An order of additions: chains side by side along the innermost reduced axis.

    parts: (stop, chains) of each part of this axis, chains a power of two: point i of the part belongs to chain i modulo chains. Parts
    with as many chains share them. A chain takes its points in row-major order over all reduced axes, from nothing on. Of the chains
    the second half is combined into the first, then the second quarter into the first, and so on; then parts, in their order.
    """

    parts: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        if len(self.parts) == 1:
            return f"in {self.parts[0][1]} chains"
        return " and ".join(f"in {chains} chains to {stop}" for stop, chains in self.parts) or "in no chains"


#: In which order a fold combines its points: by it, and by nothing else, its result is determined bit for bit.
Order = Consecutive | Interleaved


@dataclass(frozen=True, slots=True)
class Fold:
    """A fold combines values over the stage's reduced axes into a tile over its other axes.

    op: a reduction, whose `start` and `combine` say how; or None for a sum of products of two values by fused
    multiply-adds. `values`: what is combined; of argmax and argmin the element and its index.
    order: the same for all folds of a stage; None while a kernel is being made (`nagraph.kernel.order` states it).
    """

    op: Op | None
    values: tuple[int, ...]
    tile: int
    index: Affine
    order: Order | None = None

    @property
    def is_contraction(self) -> bool:
        """Whether it is a sum of products: of matrix products these are made."""
        return self.op is None

    def __str__(self) -> str:
        order = f" {self.order}" if self.order not in (None, Consecutive()) else ""
        return f"t{self.tile}[{self.index}] = {self.op.name if self.op is not None else 'dot'}({_values(self.values)}){order}"


@dataclass(frozen=True, slots=True)
class Write:
    """A value into element `index` of a tile."""

    tile: int
    index: Affine
    value: int

    def __str__(self) -> str:
        return f"t{self.tile}[{self.index}] = v{self.value}"


@dataclass(frozen=True, slots=True)
class Store:
    """A value into element `index` of an operand; combined with the element that is there if `combine` is a reduction.

    What is combined is in the dtype of the value: the element is converted to it, and the result to the operand's.
    `row_sum`: the index leaves out the last axes of the grid; the values of points along these are combined, the first one begins.
    """

    operand: int
    index: Affine
    value: int
    combine: Op | None = None
    row_sum: bool = False

    def __str__(self) -> str:
        how = f"{'row ' if self.row_sum else ''}{self.combine.name} " if self.combine is not None else ""
        return f"p{self.operand}[{self.index}] {how}= v{self.value}"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage is a loop nest: for loops (axes, outermost first): body; folds; writes; stores. Its reduced axes are the innermost loops."""

    loops: tuple[int, ...]
    reduced: int
    body: tuple[Instruction, ...]
    folds: tuple[Fold, ...] = ()
    writes: tuple[Write, ...] = ()
    stores: tuple[Store, ...] = ()

    @property
    def contracts(self) -> bool:
        """Whether one of its folds is a sum of products."""
        return any(f.is_contraction for f in self.folds)

    @property
    def kept(self) -> tuple[int, ...]:
        """The loops over which folds keep their results apart."""
        return self.loops[:len(self.loops) - self.reduced]


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile is memory for one point of the grid: `size` elements."""

    dtype: DType
    size: int


@dataclass(frozen=True)
class Kernel:
    """A kernel runs its stages, one after another, for each point of the first `grid` axes, in any order but along the last
    `sequential` of them.

    axes: extents. operands: dtypes of the arrays that it reads and writes; the last `outputs` are written.
    """

    axes: tuple[int, ...]
    grid: int
    operands: tuple[DType, ...]
    outputs: int
    tiles: tuple[Tile, ...]
    stages: tuple[Stage, ...]

    @property
    def sequential(self) -> int:
        """The number of last axes of the grid that run in order, one point after another: those that row sums leave out."""
        return max((left_out(s.index, self.grid) for stage in self.stages for s in stage.stores if s.row_sum), default=0)

    def __str__(self) -> str:
        inputs = len(self.operands) - self.outputs
        listed = ", ".join(f"{'in' if i < inputs else 'out'} p{i}: {SHORT_NAMES[d]}" for i, d in enumerate(self.operands))
        lines = [f"kernel ({listed}) {{"]
        lines += [f"  tile t{i}: {SHORT_NAMES[t.dtype]}[{t.size}]" for i, t in enumerate(self.tiles)]
        if self.grid:
            lines.append(f"  parallel {self._ranges(tuple(range(self.grid)))}:")
        lines += [f"    {line}" for stage in self.stages for line in self._stage_lines(stage)]
        return "\n".join([*lines, "}"])

    def _ranges(self, axes: tuple[int, ...]) -> str:
        return ", ".join(f"a{a} < {self.axes[a]}" for a in axes)

    def _stage_lines(self, stage: Stage) -> Iterator[str]:
        kept, reduced = stage.kept, stage.loops[len(stage.kept):]
        heads = [f"for {self._ranges(kept)}"] if kept else []
        heads += [f"reduce {self._ranges(reduced)}"] if reduced else []
        yield f"stage {', '.join(heads)}:"
        for i, instruction in enumerate(stage.body):
            yield f"  v{i}: {SHORT_NAMES[instruction.dtype]} = {instruction}"
        for part in (*stage.folds, *stage.writes, *stage.stores):
            yield f"  {part}"


def _values(numbers: tuple[int, ...]) -> str:
    return ", ".join(f"v{n}" for n in numbers)


def left_out(index: Affine, grid: int) -> int:
    """The number of last axes of the grid that an index does not vary with."""
    return next((n for n in range(grid) if index.coefficient(grid - 1 - n)), grid)
