"""Stages: the kernel of a graph for a given assignment of its values to stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nagraph.analysis.row_sums import summand
from nagraph.ir.graph import Graph, Node, Value
from nagraph.kernel.affine import Affine, split, total
from nagraph.kernel.context import KernelContext, NotRowLocal
from nagraph.kernel.elements import Elements, Index
from nagraph.kernel.form import Fold, Kernel, Read, Stage, Store, Write
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.kernel.row_axes import RowAxes, leading_axes
from nagraph.kernel.stage_assignment import StageAssignment, StageKey
from nagraph.ops.folding import Folding


class StagesInCircle(NotRowLocal):
    """Stages need each other's tiles: one reads at another place what a second makes, and the second reads what follows from it."""


def build_kernel(
    graph: Graph, layouts: Sequence[StridedLayout], written: Sequence[StridedLayout] | None, rows: int, apart: bool
) -> Kernel:
    """The kernel of a graph whose grid runs over `rows` rows. `layouts`, `written`: of inputs and of outputs.

    Raises NotRowLocal where there is none; StagesInCircle where there may be one with `apart`, stages of their own for what is kept.
    """
    written = [row_major(v.shape) for v in graph.outputs] if written is None else written
    return _Stages(KernelContext(graph, layouts), StageAssignment(graph, rows, apart), written).kernel()


class _Stages:
    """The stages of a kernel, built in the order in which they need one another."""

    def __init__(self, context: KernelContext, assignment: StageAssignment, written: Sequence[StridedLayout]):
        self.context, self.assignment, self.written = context, assignment, written
        self.graph = context.graph
        self.axes = RowAxes(context, assignment)
        self.stages: list[Stage] = []
        self._done: dict[StageKey, bool] = {}

    def kernel(self) -> Kernel:
        for v in self.graph.outputs:
            self._build(self._stage_that_stores(v))
        return self.context.kernel(len(self.axes.grid), self.stages, self.assignment.tiles)

    def tile(self, v: Value) -> int:
        """The tile of v, after the stage that makes it."""
        self._build(self.assignment.stage_of[v])
        return self.assignment.tile_of[v]

    def place(self, v: Value, within: Affine) -> Affine:
        """The row-major number of an element of v: that of number `within` of the current row."""
        return total([(self.axes.row, self.assignment.inner(v)), (within, 1)])

    def _stage_that_stores(self, v: Value) -> StageKey:
        a = self.assignment
        return a.stage_of[v] if a.is_running(v) else a.home(summand(v, a.row_sums))

    def _build(self, key: StageKey) -> None:
        if key in self._done:
            if not self._done[key]:
                raise StagesInCircle("stages need each other")
            return
        self._done[key] = False
        elements = RowElements(self, key)
        folds: list[Fold] = []
        writes: list[Write] = []
        every = self.axes.every(key)
        for node in self.assignment.members.get(key, []):
            if node.op.folds:
                folds.append(self._fold(elements, node, key))
            else:
                writes.append(Write(self.assignment.tile_of[node.result], every, elements.whole(node.result)))
        stores = [self._store(elements, j, v, every, folds) for j, v in enumerate(self.graph.outputs) if self._stage_that_stores(v) == key]
        kept, reduced = self.axes.loops(key)
        self._done[key] = True
        self.stages.append(Stage((*kept, *reduced), len(reduced), tuple(elements.body), tuple(folds), tuple(writes), tuple(stores)))

    # -- folds ------------------------------------------------------------------------------------------------------

    def _fold(self, elements: RowElements, node: Node, key: StageKey) -> Fold:
        kept, inner = self.axes.loops(key)
        v, op = node.result, node.op
        assert isinstance(op, Folding)
        if op.running:
            index = elements.unflatten(self._step(v), v.shape)
            values = op.fold_terms(elements, node.operands, index, ())
            return Fold(op.fold_op, tuple(map(elements.wide, values)), -1, Affine())
        every = self.context.flat(kept)
        index = elements.unflatten(self.place(v, every), v.shape)
        reduced = elements.unflatten(self.context.flat(inner), op.fold_extents(*(x.type for x in node.operands)))
        values = op.fold_terms(elements, node.operands, index, reduced)
        return Fold(op.fold_op, tuple(map(elements.wide, values)), self.assignment.tile_of[v], every)

    def _step(self, v: Value) -> Affine:
        """The place of a running fold's step in its result: row, step, what lies behind the axis."""
        key = self.assignment.stage_of[v]
        kept, inner = self.axes.loops(key)
        step = self.context.flat(inner)
        if getattr(self.graph.producers[v].op, "reverse", False):
            step = total([(step, -1)], key.reduced - 1)
        return self.place(v, total([(step, key.kept), (self.context.flat(kept), 1)]))

    # -- stores -----------------------------------------------------------------------------------------------------

    def _store(self, elements: RowElements, output: int, v: Value, every: Affine, folds: Sequence[Fold]) -> Store:
        """The store of an output at the stage's point `every`."""
        if self.assignment.is_running(v):
            value = elements.running(0, elements.body[folds[0].values[0]].dtype, v.dtype)
            return self._put(elements, output, self._step(v), value)
        if v in self.assignment.row_sums:
            return self._store_sum(elements, output, v, every)
        return self._put(elements, output, self.place(v, every), elements.whole(v))

    def _store_sum(self, elements: RowElements, output: int, v: Value, every: Affine) -> Store:
        """The store that adds the current row to a sum over rows."""
        x, node = summand(v, self.assignment.row_sums), self.assignment.row_sums[v]
        size = self.assignment.inner(x)
        lead = leading_axes(tuple(self.context.extents[a] for a in self.axes.grid), v.type.size // size)
        if lead is None:
            raise NotRowLocal(f"the rows of {x.type} are not cut where they are summed")
        part = self.context.flat(self.axes.grid[:len(lead)])
        store = self._put(elements, output, total([(part, size), (every, 1)]), elements.whole(x))
        return replace(store, combine=node.op.fold_op, row_sum=True)  # type: ignore[attr-defined]

    def _put(self, elements: RowElements, output: int, place: Affine, value: int) -> Store:
        """A value into the element of an output whose row-major number is `place`."""
        shape, layout = self.graph.outputs[output].shape, self.written[output]
        if layout != row_major(shape):
            place = total(zip(elements.unflatten(place, shape), layout.strides), layout.offset)
            if any(a < 0 for a, _ in place.terms):
                raise NotRowLocal("an output is stored in an order that its rows do not follow")
        return Store(self.context.output(output), place, value)


class RowElements(Elements):
    """The elements of a stage that reads what earlier stages keep of its row in tiles."""

    def __init__(self, stages: _Stages, key: StageKey):
        super().__init__(stages.context)
        self.stages, self.key = stages, key

    def whole(self, value: Value) -> int:
        """The element of a value at the stage's own point."""
        return self.element(value, self.unflatten(self._point(value), value.shape))

    def kept(self, value: Value, index: Index) -> int | None:
        """The element as an earlier stage keeps it in a tile; None if no stage does, or this one computes it."""
        if value not in self.stages.assignment.tile_of or self._is_own(value, index):
            return None
        axes, size = self.stages.axes, self.stages.assignment.inner(value)
        lead, shape = axes.rank(value.shape), value.shape
        if lead is not None:  # the leading axes are the rows: under a mask the others may run out of their range
            row, inner = self.flatten(index[:lead], shape[:lead]), self.flatten(index[lead:], shape[lead:])
        else:
            parts = split(self.flatten(index, shape), size, self.extents())
            row, inner = parts if parts is not None else (Affine(-1), Affine())
        if row != axes.row:
            raise NotRowLocal(f"{value.type} is needed from another row")
        tile = self.stages.tile(value)
        return self.cast(self._add(Read(tile, inner, self.stages.assignment.tiles[tile].dtype, self.mask)), value.dtype)

    def _is_own(self, value: Value, index: Index) -> bool:
        """Whether this very stage computes the element: the value is written here, and this is the stage's own point."""
        if self.stages.assignment.stage_of[value] != self.key or self.context.graph.producers[value].op.folds:
            return False
        return self.flatten(index, value.shape) == self._point(value)

    def _point(self, value: Value) -> Affine:
        return self.stages.place(value, self.stages.axes.every(self.key))
