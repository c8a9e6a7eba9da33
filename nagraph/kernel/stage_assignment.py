"""Stage assignment: which stage of a kernel computes which values of its graph, for a grid over a given number of rows.

Folds that loop over the same sizes at the same depth share a stage. What several stages need is kept in a tile, if it costs too
much to be computed again; everything else is computed wherever it is read.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from nagraph import choices
from nagraph.analysis.row_sums import row_sums, summand, summed_rows
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.kernel.context import NotRowLocal
from nagraph.kernel.form import Tile
from nagraph.ops.base import F32, NARROW_FLOATS
from nagraph.ops.folding import Folding

#: A value that several stages use is kept in a tile if computing it again costs more operations than this.
RECOMPUTE = 5


class StageKey(NamedTuple):
    """A stage key tells stages apart by their depth, how many folds come before, and by the sizes that they loop over.

    kept: elements for which results are kept apart. reduced: elements that are reduced for each of them. own: 0, or a number that
    only one stage has, which keeps others out.
    """

    depth: int
    kept: int
    reduced: int
    own: int


class StageAssignment:
    """A stage assignment tells for each fold, and for each value that is kept in a tile, the stage that computes it.

    members: the nodes that each stage computes for its tiles. stage_of: the stage of a value that is one of them.
    tile_of, tiles: the tile of such a value, and what each tile holds. folds: the nodes that are folds.
    row_sums: outputs that are sums over the rows, with their nodes. `apart`: values that are kept have stages of their own, which
    are in a circle only if the graph is. Raises NotRowLocal if the graph has no such number of rows.
    """

    def __init__(self, graph: Graph, rows: int, apart: bool = False):
        self.graph, self.rows, self.apart = graph, rows, apart
        self.producers = graph.producers
        self.row_sums = {v: n for v, n in row_sums(graph).items() if summed_rows(n) == rows}
        self.members: dict[StageKey, list[Node]] = {}
        self.stage_of: dict[Value, StageKey] = {}
        self.tile_of: dict[Value, int] = {}
        self.tiles: list[Tile] = []
        self._depth: dict[Value, int] = {v: 0 for v in graph.inputs}
        self._weight: dict[Value, int] = {}
        self._homes: dict[Value, StageKey] = {}
        self._assign_folds()
        self.folds = [n for nodes in self.members.values() for n in nodes]
        self._keep_in_tiles()

    def inner(self, v: Value) -> int:
        """The size of one row of v."""
        size, rest = divmod(v.type.size, self.rows)
        if rest:
            raise NotRowLocal(f"{v.type} has no {self.rows} rows")
        return size

    def home(self, v: Value) -> StageKey:
        """The stage that computes v for all of its row: one that loops over such rows anyway, or one of its own."""
        if v in self._homes:
            return self._homes[v]
        depth, size = self._depth[v], self.inner(v)
        shared = StageKey(depth, 1, size, 0)
        return shared if size > 1 and shared in self.members else StageKey(depth, size, 1, 0)

    def is_running(self, v: Value) -> bool:
        """Whether v is a running fold, whose steps are elements of a result."""
        node = self.producers.get(v)
        return node is not None and isinstance(node.op, Folding) and node.op.running

    # -- folds ------------------------------------------------------------------------------------------------

    def _assign_folds(self) -> None:
        for number, node in enumerate(self.graph.nodes):
            if node.results[0] in self.row_sums:
                continue
            depth = max((self._depth[v] for v in node.operands), default=0)
            if isinstance(node.op, Folding):
                self._assign_fold(node, depth, number + 1)
                continue
            self._depth.update(dict.fromkeys(node.results, depth))
            own = node.op.weight
            self._weight[node.results[0]] = own + sum(self._weight.get(v, 0) for v in node.operands if not self._is_once_a_row(v, node))

    def _assign_fold(self, node: Node, depth: int, number: int) -> None:
        op, (result,) = node.op, node.results
        assert isinstance(op, Folding)
        types = [v.type for v in node.operands]
        extent = math.prod(op.fold_extents(*types))
        self._depth[result] = depth + 1
        if op.running:  # the steps are results: no tile, only stores
            if self.rows != op.most_rows(*types):
                raise NotRowLocal(f"{op.name} begins where a row does")
            self.stage_of[result] = StageKey(depth, self.inner(result) // max(1, extent), extent, number)
            self.members[self.stage_of[result]] = [node]
            return
        key = StageKey(depth, self.inner(result), extent, 0 if op.shares_loops else number)
        self.members.setdefault(key, []).append(node)
        self.stage_of[result] = key
        self.tile_of[result] = self._new_tile(result)

    def _is_once_a_row(self, v: Value, node: Node) -> bool:
        """Whether an operand is one number for a whole row of the node's results, computed before its loop."""
        return v.type.size <= self.rows < node.results[0].type.size

    def _new_tile(self, v: Value) -> int:
        """A tile for the rows of v: in the dtype of v, or in float32 what is folded of 16-bit floats, which is rounded where it is read."""
        folded = self.producers[v].op.folds and v.dtype in NARROW_FLOATS
        self.tiles.append(Tile(F32 if folded else v.dtype, self.inner(v)))
        return len(self.tiles) - 1

    # -- values that are kept ---------------------------------------------------------------------------------------

    def _keep_in_tiles(self) -> None:
        """Choose the values that several stages need and that cost too much to compute again."""
        used_in: dict[Value, set[StageKey]] = {}
        outputs = {summand(v, self.row_sums) for v in self.graph.outputs}
        factors = {x for n in self.graph.nodes if n.op.contracts for x in self._factors(n) if self._is_computed(x)}
        for number, node in reversed(list(enumerate(self.graph.nodes))):
            if node.results[0] in self.row_sums:
                continue
            if node.op.folds:
                here = {self.stage_of[node.result]}
            else:
                v = node.results[0]
                here = used_in.get(v, set())
                if v in outputs:
                    self._settle(v, here)
                    here = here | {self.home(v)}
                wanted = len(here) > 1 and choices.takes("tile", self._weight[v] > RECOMPUTE, str(v.type), self._weight[v])
                if (wanted or v in factors) and v.type.size % self.rows == 0:
                    if self.apart:
                        self._homes[v] = StageKey(self._depth[v], self.inner(v), 1, number + 1)
                    here = {self.home(v)}
                    self.stage_of[v] = self.home(v)
                    self.tile_of[v] = self._new_tile(v)
                    self.members.setdefault(self.home(v), []).append(node)
            for v in node.operands:
                used_in.setdefault(v, set()).update(here)

    def _factors(self, node: Node) -> tuple[Value, ...]:
        """The factors of a product that are kept in memory: both, where a point of the grid has whole matrices of its own."""
        (x, y), (own, _) = node.operands, node.op.batch_axes  # type: ignore[attr-defined]
        batches = math.prod(x.shape[a] for a in own)
        if self.rows > batches and self._is_computed(y):
            raise NotRowLocal(f"every row of a product would compute {y.type} anew")
        return (x, y) if self.rows == batches else (x,)

    def _settle(self, v: Value, used_in: set[StageKey]) -> None:
        """An output is stored where it is computed anyway: in the first stage of those that use it and loop over its row."""
        size = self.inner(v)
        fitting = [key for key in used_in if key[1:] in ((1, size, 0), (size, 1, 0))]
        if fitting:
            self._homes[v] = min(fitting)

    def _is_computed(self, v: Value) -> bool:
        """Whether a value is computed in the kernel, not merely read."""
        while v in self.producers and (self.producers[v].op.view or self.producers[v].op.stores):  # its elements are its operand's
            v = self.producers[v].operands[0]
        return v in self.producers and not isinstance(self.producers[v].op, Constant)
