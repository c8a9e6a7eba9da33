"""Kernel contexts: what all stages of a kernel in the making share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nagraph.errors import NagraphError
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Value
from nagraph.kernel.affine import Affine, atom, refine, strides, total
from nagraph.kernel.form import Kernel, Stage, Tile
from nagraph.kernel.layout import StridedLayout, row_major


class NotRowLocal(NagraphError):
    """The graph can't be one kernel with this number of rows."""


def array_constants(graph: Graph) -> list[Value]:
    """The constants that a kernel reads from memory: those of more than one element."""
    return [n.result for n in graph.nodes if isinstance(n.op, Constant) and n.result.type.size > 1]


class KernelContext:
    """A kernel context holds the graph that a kernel is made of, the operands that its values are, and the axes made so far.

    operands: the number of each input and of each constant of more than one element; the outputs' numbers follow.
    layouts: where the elements of these operands are, by number; of the inputs they are given, constants are row-major.
    extents: the extent of each axis of the kernel. Whoever makes the kernel adds to them.
    """

    def __init__(self, graph: Graph, layouts: Sequence[StridedLayout]):
        arrays = array_constants(graph)
        self.graph = graph
        self.operands = {v: i for i, v in enumerate((*graph.inputs, *arrays))}
        self.layouts = (*layouts, *(row_major(v.shape) for v in arrays))
        self.extents: list[int] = []

    def new_axes(self, shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
        """New axes whose extents cut all of these shapes of one size, or as many of them as can be cut together, the first ones first."""
        fitting: list[tuple[int, ...]] = []
        for shape in shapes:
            if refine([*fitting, shape]) is not None:
                fitting.append(shape)
        extents = refine(fitting)
        assert extents is not None
        first = len(self.extents)
        self.extents += extents
        return tuple(range(first, len(self.extents)))

    def flat(self, axes: tuple[int, ...]) -> Affine:
        """The row-major number of a point of these axes."""
        steps = strides([self.extents[a] for a in axes])
        return total((atom(a), s) for a, s in zip(axes, steps))

    def output(self, number: int = 0) -> int:
        """The operand that output `number` is."""
        return len(self.operands) + number

    def kernel(self, grid: int, stages: Iterable[Stage], tiles: Iterable[Tile] = ()) -> Kernel:
        """The kernel of these stages, whose grid is the first `grid` axes."""
        values = (*self.operands, *self.graph.outputs)
        return Kernel(tuple(self.extents), grid, tuple(v.dtype for v in values), len(self.graph.outputs), tuple(tiles), tuple(stages))
