"""Row axes: the axes of a kernel whose grid runs over rows, and those that its stages loop over inside a row."""

from __future__ import annotations

import math

from nagraph.analysis.row_sums import summand
from nagraph.ir.graph import Value
from nagraph.kernel.affine import Affine, refine
from nagraph.kernel.context import KernelContext
from nagraph.kernel.stage_assignment import StageAssignment, StageKey
from nagraph.ops.folding import Folding


class RowAxes:
    """The row axes are made in a kernel's context as they are asked for; equal sizes in equal roles are the same axes.

    grid: the axes of the grid. row: the number of the row, an expression in them.
    """

    def __init__(self, context: KernelContext, assignment: StageAssignment):
        self.context, self.rows, self._folds = context, assignment.rows, assignment.folds
        graph, sums = context.graph, assignment.row_sums
        self._values = [*graph.inputs, *(r for n in graph.nodes for r in n.results if r not in sums)]
        anchors = [*(summand(v, sums) for v in graph.outputs), *(r for n in self._folds for r in n.results)]
        self.grid = context.new_axes(self._row_shapes(anchors))
        self.row = context.flat(self.grid)
        self._made: dict[tuple[str, int], tuple[int, ...]] = {}

    def rank(self, shape: tuple[int, ...]) -> int | None:
        """How many leading axes of a shape are the rows; None if no number of them is."""
        found = leading_axes(shape, self.rows)
        return None if found is None else len(found)

    def loops(self, key: StageKey) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of a stage: those over which it keeps results apart, and those that it reduces."""
        return self._axes("row", key.kept), self._axes("row" if key.kept == 1 else "reduced", key.reduced)

    def every(self, key: StageKey) -> Affine:
        """The number of a stage's point in its loops."""
        kept, reduced = self.loops(key)
        return self.context.flat((*kept, *reduced))

    def _row_shapes(self, anchors: list[Value]) -> list[tuple[int, ...]]:
        """The shapes that rows have: those of results and folds, then of other values where they nest with these."""
        found = [s for v in anchors if (s := leading_axes(v.shape, self.rows)) is not None]
        for v in self._values:
            shape = leading_axes(v.shape, self.rows)
            if shape is not None and shape not in found and refine([*found, shape]) is not None:
                found.append(shape)
        return found

    def _axes(self, role: str, size: int) -> tuple[int, ...]:
        """The axes that run over `size` elements of a row, or of what is reduced beside one."""
        if size == 1:
            return ()
        if (role, size) not in self._made:
            shapes = [e for n in self._folds if isinstance(n.op, Folding)
                      and math.prod(e := n.op.fold_extents(*(v.type for v in n.operands))) == size]
            found = [s for v in self._values if (s := _trailing_axes(v.shape, size)) is not None]
            shapes = [*found, *shapes] if role == "row" else [*shapes, *found]
            self._made[role, size] = self.context.new_axes(shapes or [(size,)])
        return self._made[role, size]


def leading_axes(shape: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The leading axes of a shape whose product is `size`; None if there are none."""
    product = 1
    for p in range(len(shape) + 1):
        if product == size:
            return shape[:p]
        if p < len(shape):
            product *= shape[p]
    return None


def _trailing_axes(shape: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The last axes of a shape whose product is `size`; None if there are none."""
    found = leading_axes(shape[::-1], size)
    return None if found is None else found[::-1]
