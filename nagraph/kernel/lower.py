"""Lowering: from a graph, usually a fused region, to a kernel.

Row-local graphs become one kernel: its grid runs over rows, and what a row needs is folded, kept in
tiles, and stored, stage after stage. Movement disappears into the indices of loads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nagraph import choices
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.kernel.affine import Affine, atom, refine, strides, total
from nagraph.kernel.collapse import collapse
from nagraph.kernel.elements import Elements
from nagraph.kernel.elements import NotRowLocal as NotRowLocal
from nagraph.kernel.form import Fold, Kernel, Stage, Store, Tile, Write
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.kernel.row_sums import row_sums, summed_rows
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.folding import Folding
from nagraph.ops.identities import Materialize, Recompute, StopGradient
from nagraph.ops.indexing import Scatter
from nagraph.ops.movement import Broadcast, Flip, Reshape, Transpose
from nagraph.ops.slicing import Slice

#: A value that several stages use is kept in a tile if computing it again costs more operations than this.
RECOMPUTE = 5


def lower(
    graph: Graph, layouts: Sequence[StridedLayout] | None = None, written: Sequence[StridedLayout] | None = None, least_rows: int = 1,
    check: Callable[[Kernel], None] = lambda kernel: None,
) -> Kernel:
    """The kernel of a graph. `layouts`, `written`: where the elements of its inputs and outputs stand; row-major if not given.

    Its operands are the graph's inputs, its constants of more than one element, and its outputs.
    Raises NotRowLocal if no number of rows, `least_rows` or more, makes one kernel of it that passes `check`, which raises it too.
    """
    given = tuple(layouts) if layouts is not None else tuple(row_major(v.shape) for v in graph.inputs)
    if any(isinstance(n.op, Scatter) for n in graph.nodes):
        from nagraph.kernel.scatter import lower_scatter

        return collapse(lower_scatter(graph, given))
    if not any(v.type.size for v in graph.outputs):  # nothing to compute
        values = (*graph.inputs, *array_constants(graph), *graph.outputs)
        return Kernel((), 0, tuple(v.dtype for v in values), len(graph.outputs), (), ())
    last: NotRowLocal | None = None
    candidates = list(itertools.takewhile(lambda rows: rows >= least_rows, row_candidates(graph)))
    for rows in choices.shuffled("rows", candidates, str(graph.output_types)):
        for apart in (False, True):
            try:
                kernel = collapse(Lowering(graph, given, rows, written, apart).kernel())
                check(kernel)
                return kernel
            except NotRowLocal as error:
                last = error
                if not isinstance(error, StagesInCircle):
                    break
    raise last or NotRowLocal(f"{graph.name} has no {least_rows} rows")


def array_constants(graph: Graph) -> list[Value]:
    """The constants that a kernel reads from memory: those of more than one element."""
    return [n.result for n in graph.nodes if isinstance(n.op, Constant) and n.result.type.size > 1]


def row_candidates(graph: Graph) -> list[int]:
    """Numbers of rows to try: products of leading axes of the first output that all outputs share.

    First those that are leading axes of all of them, the most rows first; others cut axes in the middle, and divide for it.
    """
    sums = row_sums(graph)
    found = [1]
    product = 1
    for size in _summed(graph.outputs[0], sums).shape:
        product *= size
        found.append(product)
    folds = [n for n in graph.nodes if isinstance(n.op, Folding)]
    made = [_summed(v, sums) for v in (*graph.outputs, *(r for n in folds for r in n.results))]

    def fits(rows: int) -> bool:
        least = (n.op.most_rows(*(v.type for v in n.operands)) for n in folds  # type: ignore[attr-defined]
                 if n.result not in sums or summed_rows(n) != rows)
        return 0 < rows <= min(least, default=product) and all(v.type.size % rows == 0 for v in made)

    fitting = [r for r in dict.fromkeys(reversed(found)) if fits(r)]
    return sorted(fitting, key=lambda rows: any(_prefix(_summed(v, sums).shape, rows) is None for v in graph.outputs))


def _summed(v: Value, sums: Mapping[Value, Node]) -> Value:
    """What a kernel computes for v: the value whose rows it sums, or v itself."""
    return sums[v].operands[0] if v in sums else v


#: Ops whose elements are elements of their operand, so that nothing is gained by keeping them.
MOVEMENT = (Broadcast, Reshape, Transpose, Slice, Flip, Recompute, StopGradient, Materialize)

#: Stages by what they loop over: (depth, size of a row, size of what is reduced, a mark that keeps others out).
Group = tuple[int, int, int, int]


class StagesInCircle(NotRowLocal):
    """Stages need each other's tiles: one reads at another place what a second makes, and the second reads what follows from it."""


class Lowering:
    """One kernel in the making, its grid over so many rows.

    apart: values that are kept have stages of their own, which are in a circle only if the graph is.
    """

    def __init__(self, graph: Graph, layouts: Sequence[StridedLayout], rows: int, written: Sequence[StridedLayout] | None = None,
                 apart: bool = False):
        self.graph, self.layouts, self.rows, self.apart = graph, layouts, rows, apart
        self.written = [row_major(v.shape) for v in graph.outputs] if written is None else written
        self.producers = graph.producers
        self.row_sums = {v: n for v, n in row_sums(graph).items() if summed_rows(n) == rows}
        self.depth: dict[Value, int] = {v: 0 for v in graph.inputs}
        self.weight: dict[Value, int] = {}
        self.members: dict[Group, list[Node]] = {}
        self.group_of: dict[Value, Group] = {}
        self.tile_of: dict[Value, int] = {}
        self.tiles: list[Tile] = []
        self.stages: list[Stage] = []
        self.built: dict[Group, bool] = {}
        self.homes: dict[Value, Group] = {}
        self.extents: list[int] = []
        self._pools: dict[tuple[str, int], tuple[int, ...]] = {}
        arrays = array_constants(graph)
        self.operands = {v: i for i, v in enumerate((*graph.inputs, *arrays))}
        self.layouts = (*layouts, *(row_major(v.shape) for v in arrays))
        self._arrange_folds()
        self.row_axes = self._new_axes(self._row_shapes())
        self.row = self._flat(self.row_axes)

    def kernel(self) -> Kernel:
        self._keep_in_tiles()
        for v in self.graph.outputs:
            self._build(self.group_of[v] if self._running(v) else self._home(_summed(v, self.row_sums)))
        order = (*self.operands, *self.graph.outputs)
        return Kernel(tuple(self.extents), len(self.row_axes), tuple(v.dtype for v in order), len(self.graph.outputs),
                      tuple(self.tiles), tuple(self.stages))

    # -- rows, inner sizes, axes ----------------------------------------------------------------------------

    def inner(self, v: Value) -> int:
        """The size of one row of v."""
        size, rest = divmod(v.type.size, self.rows)
        if rest:
            raise NotRowLocal(f"{v.type} has no {self.rows} rows")
        return size

    def row_rank(self, shape: tuple[int, ...]) -> int | None:
        """How many leading axes of a shape are the rows; None if no number of them is."""
        found = _prefix(shape, self.rows)
        return None if found is None else len(found)

    def _row_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of rows: those of results and folds; and of other values, where their cuts go together."""
        found = [s for v in self._anchors() if (s := _prefix(v.shape, self.rows)) is not None]
        for v in self._all_values():
            shape = _prefix(v.shape, self.rows)
            if shape is not None and shape not in found and refine([*found, shape]) is not None:
                found.append(shape)
        return found

    def _anchors(self) -> list[Value]:
        return [*(_summed(v, self.row_sums) for v in self.graph.outputs), *(r for g in self.members.values() for n in g for r in n.results)]

    def _new_axes(self, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
        fitting: list[tuple[int, ...]] = []
        for shape in shapes:
            if refine([*fitting, shape]) is not None:
                fitting.append(shape)
        extents = refine(fitting)
        assert extents is not None
        first = len(self.extents)
        self.extents += extents
        return tuple(range(first, len(self.extents)))

    def _flat(self, axes: tuple[int, ...]) -> Affine:
        """The number of a point of these axes, row-major."""
        steps = strides([self.extents[a] for a in axes])
        return total((atom(a), s) for a, s in zip(axes, steps))

    def axes(self, role: str, size: int) -> tuple[int, ...]:
        """The axes that run over `size` elements of a row, or of what is reduced beside one."""
        if size == 1:
            return ()
        key = (role, size)
        if key not in self._pools:
            members = [n for nodes in self.members.values() for n in nodes]
            shapes = [e for n in members if isinstance(n.op, Folding)
                      and math.prod(e := n.op.fold_extents(*(v.type for v in n.operands))) == size]
            found = [s for v in self._all_values() if (s := _suffix(v.shape, size)) is not None]
            shapes = [*found, *shapes] if role == "row" else [*shapes, *found]
            self._pools[key] = self._new_axes(shapes or [(size,)])
        return self._pools[key]

    def _all_values(self) -> list[Value]:
        return [*self.graph.inputs, *(r for n in self.graph.nodes for r in n.results if r not in self.row_sums)]

    # -- which stage computes what ------------------------------------------------------------------------------

    def _arrange_folds(self) -> None:
        """Depths, and the groups of folds that one loop nest can make together."""
        for number, node in enumerate(self.graph.nodes):
            if node.results[0] in self.row_sums:
                continue
            depth = max((self.depth[v] for v in node.operands), default=0)
            if not isinstance(node.op, Folding):
                self.depth.update(dict.fromkeys(node.results, depth))
                own = getattr(node.op, "weight", 0)
                self.weight[node.results[0]] = own + sum(self.weight.get(v, 0) for v in node.operands if not self._once_a_row(v, node))
                continue
            (result,) = node.results
            extents = node.op.fold_extents(*(v.type for v in node.operands))
            if node.op.running:  # the steps are results: no tile, only stores
                if self.rows != node.op.most_rows(*(v.type for v in node.operands)):
                    raise NotRowLocal(f"{node.op.name} begins where a row does")
                size = self.inner(result) // max(1, math.prod(extents))
                self.group_of[result] = (depth, size, math.prod(extents), number + 1)
                self.members[self.group_of[result]] = [node]
                self.depth[result] = depth + 1
                continue
            apart = 0 if node.op.shares_loops else number + 1
            group = (depth, self.inner(result), math.prod(extents), apart)
            self.members.setdefault(group, []).append(node)
            self.group_of[result] = group
            self.depth[result] = depth + 1
            self.tile_of[result] = self._tile(result)

    def _once_a_row(self, v: Value, node: Node) -> bool:
        """Whether an operand is one number for a whole row of the node's results, computed before its loop."""
        return v.type.size <= self.rows < node.results[0].type.size

    def _tile(self, v: Value) -> int:
        self.tiles.append(Tile(v.dtype, self.inner(v)))
        return len(self.tiles) - 1

    def _home(self, v: Value) -> Group:
        """The stage that computes v for all of its row: one that loops over such rows anyway, or one of its own."""
        if v in self.homes:
            return self.homes[v]
        depth, size = self.depth[v], self.inner(v)
        shared = (depth, 1, size, 0)
        return shared if size > 1 and shared in self.members else (depth, size, 1, 0)

    def _keep_in_tiles(self) -> None:
        """Choose the values that several stages need and that cost too much to compute again."""
        used_in: dict[Value, set[Group]] = {}
        outputs = {_summed(v, self.row_sums) for v in self.graph.outputs}
        factors = {x for n in self.graph.nodes if isinstance(n.op, DotGeneral) for x in self._factors(n) if self._computed(x)}
        for number, node in reversed(list(enumerate(self.graph.nodes))):
            if node.results[0] in self.row_sums:
                continue
            if node.op.folds:
                here = {self.group_of[node.result]}
            else:
                v = node.results[0]
                here = used_in.get(v, set())
                if v in outputs:
                    self._settle(v, here)
                    here = here | {self._home(v)}
                wanted = len(here) > 1 and choices.takes("tile", self.weight[v] > RECOMPUTE, str(v.type), self.weight[v])
                if (wanted or v in factors) and v.type.size % self.rows == 0:
                    if self.apart:
                        self.homes[v] = (self.depth[v], self.inner(v), 1, number + 1)
                    here = {self._home(v)}
                    self.group_of[v] = self._home(v)
                    self.tile_of[v] = self._tile(v)
                    self.members.setdefault(self._home(v), []).append(node)
            for v in node.operands:
                used_in.setdefault(v, set()).update(here)

    def _factors(self, node: Node) -> tuple[Value, ...]:
        """The factors of a product that stand in memory: both, where a point of the grid has whole matrices of its own."""
        (x, y), (own, _) = node.operands, node.op.batch_axes  # type: ignore[attr-defined]
        batches = math.prod(x.shape[a] for a in own)
        if self.rows > batches and self._computed(y):
            raise NotRowLocal(f"every row of a product would compute {y.type} anew")
        return (x, y) if self.rows == batches else (x,)

    def _settle(self, v: Value, used_in: set[Group]) -> None:
        """An output is stored where it is computed anyway: in the first stage of those that use it and loop over its row."""
        size = self.inner(v)
        fitting = [g for g in used_in if g[1:] in ((1, size, 0), (size, 1, 0))]
        if fitting:
            self.homes[v] = min(fitting)

    def _computed(self, v: Value) -> bool:
        """Whether a value is computed in the kernel, not merely read."""
        while v in self.producers and isinstance(self.producers[v].op, MOVEMENT):
            v = self.producers[v].operands[0]
        return v in self.producers and not isinstance(self.producers[v].op, (Constant, *MOVEMENT))

    # -- stages -----------------------------------------------------------------------------------------------------

    def tile(self, v: Value) -> int:
        """The tile of v, once the stage that makes it stands."""
        group = self.group_of[v]
        self._build(group)
        return self.tile_of[v]

    def loops(self, group: Group) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of a stage: those over which it keeps results apart, and those that it reduces."""
        _, size, reduced, _ = group
        return self.axes("row", size), self.axes("row" if size == 1 else "reduced", reduced)

    def every(self, group: Group) -> Affine:
        """The number of a stage's point in its loops."""
        kept, reduced = self.loops(group)
        return self._flat((*kept, *reduced))

    def _build(self, group: Group) -> None:
        if group in self.built:
            if not self.built[group]:
                raise StagesInCircle("stages need each other")
            return
        self.built[group] = False
        elements = Elements(self, group, self.extents)
        folds: list[Fold] = []
        writes: list[Write] = []
        stores: list[Store] = []
        every = self.every(group)
        for node in self.members.get(group, []):
            if not node.op.folds:
                writes.append(Write(self.tile_of[node.result], every, elements.whole(node.result)))
                continue
            folds.append(self._fold(elements, node, group))
        for j, v in enumerate(self.graph.outputs):
            if self._running(v):
                if self.group_of[v] == group:
                    stores.append(self._store_running(elements, j, v, folds[0]))
            elif v in self.row_sums:
                if self._home(_summed(v, self.row_sums)) == group:
                    stores.append(self._store_sum(elements, j, v, every))
            elif self._home(v) == group:
                stores.append(self._store(elements, j, total([(self.row, self.inner(v)), (every, 1)]), elements.whole(v)))
        kept, reduced = self.loops(group)
        self.built[group] = True
        self.stages.append(Stage((*kept, *reduced), len(reduced), tuple(elements.body), tuple(folds), tuple(writes), tuple(stores)))

    def _running(self, v: Value) -> bool:
        node = self.producers.get(v)
        return node is not None and isinstance(node.op, Folding) and node.op.running

    def _store_running(self, elements: Elements, output: int, v: Value, fold: Fold) -> Store:
        value = elements.running(0, elements.body[fold.values[0]].dtype, v.dtype)
        return self._store(elements, output, self._step(v), value)

    def _store_sum(self, elements: Elements, output: int, v: Value, every: Affine) -> Store:
        """What the row in hand adds to a sum over rows."""
        x = _summed(v, self.row_sums)
        size = self.inner(x)
        lead = _prefix(tuple(self.extents[a] for a in self.row_axes), v.type.size // size)
        if lead is None:
            raise NotRowLocal(f"the rows of {x.type} are not cut where they are summed")
        part = self._flat(self.row_axes[:len(lead)])
        store = self._store(elements, output, total([(part, size), (every, 1)]), elements.whole(x))
        return replace(store, combine=self.row_sums[v].op, row_sum=True)

    def _store(self, elements: Elements, output: int, place: Affine, value: int) -> Store:
        """A value into the element of an output whose row-major number is `place`."""
        shape, layout = self.graph.outputs[output].shape, self.written[output]
        if layout != row_major(shape):
            place = total(zip(elements.unflatten(place, shape), layout.strides), layout.offset)
            if any(a < 0 for a, _ in place.terms):
                raise NotRowLocal("an output stands in an order that its rows do not follow")
        return Store(len(self.operands) + output, place, value)

    def _step(self, v: Value) -> Affine:
        """The place of a running fold's step in its result: row, step, what lies behind the axis."""
        _, size, length, _ = self.group_of[v]
        kept, inner = self.loops(self.group_of[v])
        op = self.producers[v].op
        step = self._flat(inner)
        turned = total([(step, -1)], length - 1) if getattr(op, "reverse", False) else step
        return total([(self.row, self.inner(v)), (turned, size), (self._flat(kept), 1)])

    def _fold(self, elements: Elements, node: Node, group: Group) -> Fold:
        kept, inner = self.loops(group)
        v, op = node.result, node.op
        assert isinstance(op, Folding)
        if op.running:
            index = elements.unflatten(self._step(v), v.shape)
            return Fold(op.fold_op, op.fold_terms(elements, node.operands, index, ()), -1, Affine())
        every = self._flat(kept)
        index = elements.unflatten(total([(self.row, self.inner(v)), (every, 1)]), v.shape)
        reduced = elements.unflatten(self._flat(inner), op.fold_extents(*(x.type for x in node.operands)))
        values = op.fold_terms(elements, node.operands, index, reduced)
        return Fold(op.fold_op, tuple(values), self.tile_of[v], every)


def _prefix(shape: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The leading axes whose product is `size`; None if there are none."""
    product = 1
    for p in range(len(shape) + 1):
        if product == size:
            return shape[:p]
        if p < len(shape):
            product *= shape[p]
    return None


def _suffix(shape: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The last axes whose product is `size`."""
    found = _prefix(shape[::-1], size)
    return None if found is None else found[::-1]
