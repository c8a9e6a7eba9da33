"""The planner gives every value of a graph a slot and a buffer: views, in-place reuse, donated arguments, nested plans of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nagraph import choices
from nagraph.analysis.constants import constants
from nagraph.analysis.live_ranges import LiveRange, last_uses, view_roots
from nagraph.fusion.row_regions import RowSplit, block_graph, row_axis, row_bytes, row_split
from nagraph.ir.cached import cached_property
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.op import Op
from nagraph.ir.types import DTYPES, TensorType
from nagraph.plan.offsets import assign_offsets
from nagraph.plan.plan import Buffer, Plan, RowLoop, Slot, Step
from nagraph.plan.writes import precedes_writes, with_views_copied, writes_last
from nagraph.regions.calls import Call
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop

#: A block of rows of a fused region: its widest tensor fills this many bytes, so that a few of them stay in cache.
BLOCK_NBYTES = 1 << 17


def make_plan(graph: Graph, donations: Mapping[int, int] | None = None) -> Plan:
    """The plan of a graph. `donations`: output number -> number of the input of its type whose array it may take.

    Nodes run in the graph's order, those that write donated arrays last. O(nodes) but for the placing of buffers.
    """
    return Planner(graph, dict(donations or {})).plan()


class Planner:
    """A planner makes the plan of one graph, node by node. Backends redefine what depends on how nodes are computed.

    whole: whether the graph is that of a call, not of a region in it.
    """

    #: Whether a view of a constant that is larger than it needs no memory: so it is in NumPy.
    spreads = True

    def __init__(self, graph: Graph, donations: dict[int, int], whole: bool = True):
        self.graph = graph = with_views_copied(graph, donations)
        self.donations = donations
        self.constants = constants(graph, self.spreads)
        order = writes_last(graph, donations, whole)
        self.order = [n for n in order if not n.results or any(r not in self.constants for r in n.results)]
        #: The place of the last node that is to be done before donated arrays are written.
        self.decided = max((t for t, n in enumerate(self.order) if precedes_writes(n)), default=-1) if donations and whole else -1
        self.roots = self._roots()
        self.last = last_uses(graph, self.order, self.roots)
        self.kept = {self.roots[v] for v in graph.outputs}
        self.slots: list[Slot] = []
        self.buffers: list[Buffer] = []
        self.slot_of: dict[Value, int] = {}
        self.steps: list[Step] = []
        self.nested: dict[Any, Plan] = {}
        self.splits: dict[Node, RowSplit | None] = {}

    def _roots(self) -> dict[Value, Value]:
        """The value whose bytes each value shows."""
        return view_roots(self.graph)

    def plan(self) -> Plan:
        for i, v in enumerate(self.graph.inputs):
            self._new(v, Buffer("input", v.type.nbytes, 0, len(self.order), index=i))
        for v in self.constants:
            self._new(v, Buffer("constant", v.type.nbytes, 0, len(self.order)))
        direct = self._direct_outputs()
        for t, node in enumerate(self.order):
            self._lower_node(t, node, direct)
        results = tuple((self.slot_of[v], self.buffers[self.slots[self.slot_of[v]].buffer].index != j
                         or self.buffers[self.slots[self.slot_of[v]].buffer].kind != "output")
                        for j, v in enumerate(self.graph.outputs))
        places = [i for i, b in enumerate(self.buffers) if b.kind == "arena"]
        offsets, arena_bytes = assign_offsets([LiveRange(b.nbytes, b.first, b.last) for b in (self.buffers[i] for i in places)])
        for i, offset in zip(places, offsets):
            b = self.buffers[i]
            self.buffers[i] = Buffer(b.kind, b.nbytes, b.first, b.last, offset)
        constants = {self.slot_of[v]: a for v, a in self.constants.items()}
        return Plan(self.graph, tuple(self.slots), tuple(self.buffers), tuple(self.steps),
                    tuple(self.slot_of[v] for v in self.graph.inputs), results, arena_bytes, self.donations, constants)

    # -- what is known before the first step --------------------------------------------------------

    def _direct_outputs(self) -> dict[Value, int]:
        """The values that are computed in the array of an output, and the number of that output: outputs, and what they are updates of."""
        direct: dict[Value, int] = {}
        for j, v in enumerate(self.graph.outputs):
            if v not in self.places_made or not self._is_whole(v) or v in direct or not choices.takes("direct", True, j):
                continue
            found = self._updated(v)
            if j in self.donations:
                given = self.graph.inputs[self.donations[j]]
                while found and not (self.places_made[found[-1]] > self.decided and self._may_overwrite(found[-1], given)):
                    found.pop()
            direct.update(dict.fromkeys(found, j))
        return direct

    def _updated(self, v: Value) -> list[Value]:
        """v, the value that it is an update of, and so on, while each can be changed in place and nobody else reads it afterwards."""
        found = [v]
        while True:
            node = self.graph.producers[found[-1]]
            r, t = node.results.index(found[-1]), self.places[node]
            k = node.op.updates(r)
            if k is None:
                return found
            x = node.operands[k]
            free = x in self.places_made and x not in self.kept and self._is_whole(x) and self.last[x] == t
            if not free or not self._takes(node, r, k) or not choices.takes("in_place", True, t, r, k):
                return found
            found.append(x)

    def _may_overwrite(self, v: Value, given: Value) -> bool:
        """Whether the node that makes v may write it into the bytes of input `given`: nobody reads them afterwards."""
        node = self.graph.producers[v]
        if given in self.kept or self.last.get(given, -1) > self.places[node] or not choices.takes("donate", True, self.places[node]):
            return False
        return self._writes_over(node, node.results.index(v), given)

    def _writes_over(self, node: Node, r: int, given: Value) -> bool:
        """Whether a node may write result r into the bytes of a value that it may read."""
        reading = [k for k, x in enumerate(node.operands) if self.roots[x] is given]
        if any(node.operands[k] is not given for k in reading):
            return False
        rows = self._row_split(node)
        if rows is not None:
            assert isinstance(node.op, Call)
            return len(reading) <= 1 and all(node.op.body.inputs[k] in rows.split for k in reading)
        return not reading or self._takes(node, r, reading[0])

    @cached_property
    def places(self) -> dict[Node, int]:
        """The place of each node in the order."""
        return {node: t for t, node in enumerate(self.order)}

    @cached_property
    def places_made(self) -> dict[Value, int]:
        """The place of the node that makes each value; neither inputs nor constants are made."""
        return {r: t for t, node in enumerate(self.order) for r in node.results}

    def _row_split(self, node: Node) -> RowSplit | None:
        """How a fused region runs by rows; None for other nodes."""
        if not isinstance(node.op, Call) or not node.op.fused:
            return None
        if node not in self.splits:
            self.splits[node] = row_split(node.op.body)
        return self.splits[node]

    # -- one node -----------------------------------------------------------------------------------

    def _lower_node(self, t: int, node: Node, direct: dict[Value, int]) -> None:
        operands = tuple(self.slot_of[v] for v in node.operands)
        if node.op.view and self.roots[node.results[0]] is not node.results[0]:
            (source,) = operands
            self._share(node.result, self.slots[source].buffer, source)
            self.steps.append(Step(node, operands, (self.slot_of[node.result],), view=True))
            return
        nested, blocks, pairs = self._nested(t, node, direct)
        if blocks is None:
            pairs = self._in_place(t, node, direct)
        for r, v in enumerate(node.results):
            if self._place(t, v):
                continue
            if r in pairs:
                self._extend(self.slots[operands[pairs[r]]].buffer, v)
            elif v in direct:
                self._new(v, Buffer("output", v.type.nbytes, t, len(self.order), index=direct[v]))
            else:
                self._new(v, Buffer("arena", v.type.nbytes, t, self.last[v]))
        scratch = tuple(self._scratch(t, s) for s in self._scratch_types(node, nested))
        results = tuple(self.slot_of[v] for v in node.results)
        self.steps.append(Step(node, operands, results, False, tuple(sorted(pairs.items())), nested, scratch, blocks, self._joined(node),
                               self._changed(node, pairs, direct)))

    def _place(self, t: int, v: Value) -> bool:
        """Gives v its slot if it is a part of a larger value, or has such parts, and tells whether it is. Here no value is."""
        return False

    def _joined(self, node: Node) -> bool:
        """Whether the operands are parts of the result already."""
        return False

    def _is_whole(self, v: Value) -> bool:
        """Whether v has bytes of its own, which show nothing else."""
        return self.roots[v] is v

    def _dies(self, t: int, v: Value) -> bool:
        """Whether v is a whole buffer of the arena that nobody reads after step t."""
        return self.roots[v] is v and self.last[v] == t and self.buffers[self.slots[self.slot_of[v]].buffer].kind == "arena"

    def _in_place(self, t: int, node: Node, direct: dict[Value, int]) -> dict[int, int]:
        """The operand whose bytes each result takes, as {result: operand}, no operand twice: one that dies or is in the output already."""
        pairs: dict[int, int] = {}
        for r, v in enumerate(node.results):
            k = node.op.updates(r)
            if v in direct:
                if k is not None and direct.get(node.operands[k]) == direct[v]:
                    pairs[r] = k
                continue
            for k, x in enumerate(node.operands):
                if not self._is_whole(v):
                    break
                if (k not in pairs.values() and self._fits(x, v) and self._dies(t, x) and self._takes(node, r, k)
                        and choices.takes("in_place", True, t, r, k)):
                    pairs[r] = k
                    break
        return pairs

    def _fits(self, x: Value, v: Value) -> bool:
        """Whether the bytes of x can be those of v."""
        return x.type == v.type

    def _takes(self, node: Node, r: int, k: int) -> bool:
        """Whether a node may write result r over the bytes of its whole operand k, if nobody else reads these any more."""
        same = [i for i, v in enumerate(node.operands) if self.roots[v] is self.roots[node.operands[k]]]
        if node.op.regions:
            return same == [k] and node.op.updates(r) == k and self._regions(node.op)[-1].donations.get(r) == k - _ahead(node.op)
        safe = node.op.in_place(len(node.operands))
        return len(node.results) == 1 and k in safe and all(i in safe and node.operands[i] is node.operands[k] for i in same)

    def _changed(self, node: Node, pairs: Mapping[int, int], direct: Mapping[Value, int]) -> int | None:
        """The operand of which a step writes only what changes, after copying the rest if that is elsewhere; None for most."""
        return node.op.updates(0) if node.results and not node.op.regions else None

    def _over_donated(self, node: Node, direct: Mapping[Value, int]) -> bool:
        """Whether the first result goes into the array of a donated input that the node updates."""
        v, k = node.results[0], node.op.updates(0)
        return k is not None and v in direct and direct[v] in self.donations and (
            node.operands[k] is self.graph.inputs[self.donations[direct[v]]])

    # -- regions --------------------------------------------------------------------------------------

    def _nested(self, t: int, node: Node, direct: dict[Value, int]) -> tuple[tuple[Plan, ...], RowLoop | None, dict[int, int]]:
        """The plans of a node's regions; of a fused region also its row loop, and the operand whose bytes each result takes."""
        op = node.op
        rows = self._row_split(node)
        if rows is None:
            return (self._regions(op) if op.regions else ()), None, {}
        assert isinstance(op, Call)
        size = max(1, min(rows.rows, BLOCK_NBYTES // max(1, row_bytes(op.body, rows))))
        split = tuple(v in rows.split for v in op.body.inputs)
        pairs = self._pairs(t, node, split, direct)
        whole = block_graph(op.body, rows, size)
        first = make_plan(whole, pairs)
        # Where an operand has to be read to the end, its result gets bytes of its own, unless it was promised the operand's.
        kept = {r: k for r, k in pairs.items() if not first.results[r][1] or node.results[r] in direct}
        if kept != pairs:
            first = make_plan(whole, kept)
        rest = rows.rows % size
        nested = (first,) if not rest else (first, make_plan(block_graph(op.body, rows, rest), kept))
        axes = tuple(row_axis(v.shape) if v in rows.split else 0 for v in (*op.body.inputs, *op.body.outputs))
        return nested, RowLoop(rows.rows, size, split, axes), {r: k for r, k in kept.items() if node.results[r] not in direct}

    def _pairs(self, t: int, node: Node, split: Sequence[bool], direct: dict[Value, int]) -> dict[int, int]:
        """The operand whose bytes each result of a fused region takes: a dying one of its type, no operand twice, or the donated
        one.
        """
        pairs: dict[int, int] = {}
        for r, v in enumerate(node.results):
            if v in direct:
                given = self.graph.inputs[self.donations[direct[v]]] if direct[v] in self.donations else None
                pairs.update((r, k) for k, x in enumerate(node.operands) if x is given)
                continue
            for k, x in enumerate(node.operands):
                alone = sum(self.roots[y] is x for y in node.operands) == 1
                if (k not in pairs.values() and split[k] and alone and x.type == v.type and self._dies(t, x)
                        and choices.takes("in_place", True, t, r, k)):
                    pairs[r] = k
                    break
        return pairs

    def _regions(self, op: Op) -> tuple[Plan, ...]:
        """The plans of an op's regions. What all of them can change in place of an input is their donations, by numbers of theirs."""
        giving = ("body",) if isinstance(op, Call) else op.ports().giving  # type: ignore[attr-defined]
        graphs = [op.regions[name] for name in giving]
        asked = [] if isinstance(op, Call) else [self._lowered(g, {}) for name, g in op.regions.items() if name not in giving]
        wanted: dict[int, int] = {}
        for r in range(len(graphs[0].outputs)):
            k = op.updates(r)
            if k is not None and k - _ahead(op) not in wanted.values():
                wanted[r] = k - _ahead(op)
        while True:
            plans = [self._lowered(g, wanted) for g in graphs]
            found = {r: i for r, i in wanted.items() if all(_in_its_input(p, r) for p in plans)}
            if found == wanted:
                return (*asked, *plans)
            wanted = found

    def _lowered(self, graph: Graph, donations: dict[int, int]) -> Plan:
        key = id(graph), *sorted(donations.items())
        if key not in self.nested:
            inner = type(self)(graph, donations, whole=False)
            inner.nested = self.nested
            self.nested[key] = inner.plan()
        return self.nested[key]

    # -- slots and buffers ----------------------------------------------------------------------------

    def _new(self, v: Value, buffer: Buffer) -> None:
        self.buffers.append(buffer)
        self._share(v, len(self.buffers) - 1)

    def _share(self, v: Value, buffer: int, source: int | None = None, part: np.ndarray[Any, Any] | None = None) -> None:
        self.slot_of[v] = len(self.slots)
        self.slots.append(Slot(v.type, buffer, source, part))

    def _extend(self, buffer: int, v: Value) -> None:
        b = self.buffers[buffer]
        self.buffers[buffer] = Buffer(b.kind, b.nbytes, b.first, max(b.last, self.last[v]), index=b.index)
        self._share(v, buffer)

    def _scratch(self, t: int, type: TensorType) -> int:
        self.buffers.append(Buffer("arena", type.nbytes, t, t))
        self.slots.append(Slot(type, len(self.buffers) - 1))
        return len(self.slots) - 1

    def _scratch_types(self, node: Node, nested: Sequence[Plan]) -> list[TensorType]:
        """What a step needs beside its results: arenas of nested plans, second buffers for the carries of loops, an op's own."""
        if not nested:
            return list(node.op.scratch(*(v.type for v in node.operands)))
        types = [TensorType(DTYPES["u8"], (max(p.arena_bytes for p in nested),))]
        types += [node.results[r].type for r in alternating(node.op, nested)]
        return types + [TensorType(DTYPES["bool"], ())] if isinstance(node.op, WhileLoop) else types


def alternating(op: Op, nested: Sequence[Plan]) -> list[int]:
    """The carries of a loop that go back and forth between two buffers: all that its body does not change in place."""
    count = op.carries if isinstance(op, Scan) else len(op.body.outputs) if isinstance(op, WhileLoop) else 0
    return [r for r in range(count) if r not in nested[-1].donations]


def _ahead(op: Op) -> int:
    """The number of operands before those that are the inputs of an op's regions."""
    ports = op.ports()  # type: ignore[attr-defined]
    return ports.ahead if ports is not None else 0


def _in_its_input(plan: Plan, output: int) -> bool:
    """Whether an output of a region is computed in the bytes of the input that it may take, or is that input."""
    slot, copied = plan.results[output]
    return not copied or slot == plan.inputs[plan.donations[output]]
