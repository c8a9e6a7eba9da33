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
from nagraph.ir.types import DTYPES, TensorType
from nagraph.plan.offsets import assign_offsets
from nagraph.plan.plan import Buffer, Plan, RowLoop, Slot, Step
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
    """A planner makes the plan of one graph, node by node. Backends redefine what depends on how nodes are computed."""

    #: Whether a view of a constant that is larger than it needs no memory: so it is in NumPy.
    spreads = True

    def __init__(self, graph: Graph, donations: dict[int, int]):
        self.graph = graph
        self.donations = donations
        self.constants = constants(graph, self.spreads)
        self.order = [n for n in _donated_last(graph, donations) if not n.results or any(r not in self.constants for r in n.results)]
        #: The place of the last node that can end the call: donated arrays are written after it.
        self.decided = max((t for t, n in enumerate(self.order) if n.op.may_end_the_call), default=-1)
        self.roots = self._roots()
        self.last = last_uses(graph, self.order, self.roots)
        self.kept = {self.roots[v] for v in graph.outputs}
        self.slots: list[Slot] = []
        self.buffers: list[Buffer] = []
        self.slot_of: dict[Value, int] = {}
        self.steps: list[Step] = []
        self.nested: dict[int, Plan] = {}
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
        """The values that are computed in the array of an output, and the number of that output."""
        made = {r for node in self.order for r in node.results}
        direct: dict[Value, int] = {}
        for j, v in enumerate(self.graph.outputs):
            if self.roots[v] is not v or v not in made or v in direct or not choices.takes("direct", True, j):
                continue
            if j in self.donations and (self.places[self.graph.producers[v]] <= self.decided
                                        or not self._may_overwrite(v, self.graph.inputs[self.donations[j]])):
                continue
            direct[v] = j
        return direct

    def _may_overwrite(self, v: Value, given: Value) -> bool:
        """Whether the node that makes v may write it into the bytes of input `given`: nobody reads them afterwards."""
        node = self.graph.producers[v]
        if given in self.kept or self.last.get(given, -1) > self.places[node] or not choices.takes("donate", True, self.places[node]):
            return False
        reading = [k for k, x in enumerate(node.operands) if self.roots[x] is given]
        if any(node.operands[k] is not given for k in reading):
            return False
        rows = self._row_split(node)
        if rows is not None:
            assert isinstance(node.op, Call)
            return len(reading) <= 1 and all(node.op.body.inputs[k] in rows.split for k in reading)
        safe = node.op.in_place(len(node.operands))
        return all(k in safe for k in reading)

    @cached_property
    def places(self) -> dict[Node, int]:
        """The place of each node in the order."""
        return {node: t for t, node in enumerate(self.order)}

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
        if not nested:
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
        self.steps.append(Step(node, operands, results, False, tuple(sorted(pairs.items())), nested, scratch, blocks, self._joined(node)))

    def _place(self, t: int, v: Value) -> bool:
        """Gives v its slot if it is a part of a larger value, or has such parts, and tells whether it is. Here no value is."""
        return False

    def _joined(self, node: Node) -> bool:
        """Whether the operands are parts of the result already."""
        return False

    def _dies(self, t: int, v: Value) -> bool:
        """Whether v is a whole buffer of the arena that nobody reads after step t."""
        return self.roots[v] is v and self.last[v] == t and self.buffers[self.slots[self.slot_of[v]].buffer].kind == "arena"

    def _in_place(self, t: int, node: Node, direct: dict[Value, int]) -> dict[int, int]:
        """The operand whose bytes the result of a single op takes, as {0: operand}; {} if there is none."""
        if len(node.results) != 1 or node.result in direct or not choices.takes("in_place", True, t):
            return {}
        safe = node.op.in_place(len(node.operands))
        for k in safe:
            x = node.operands[k]
            same = [i for i, v in enumerate(node.operands) if self.roots[v] is x]
            if x.type == node.result.type and self._dies(t, x) and all(i in safe and node.operands[i] is x for i in same):
                return {0: k}
        return {}

    # -- regions --------------------------------------------------------------------------------------

    def _nested(self, t: int, node: Node, direct: dict[Value, int]) -> tuple[tuple[Plan, ...], RowLoop | None, dict[int, int]]:
        """The plans of a node's regions; of a fused region also its row loop, and the operand whose bytes each result takes."""
        op = node.op
        if not op.regions:
            return (), None, {}
        if not isinstance(op, Call):
            return tuple(self._lowered(g) for g in op.regions.values()), None, {}
        rows = self._row_split(node)
        if rows is None:
            return (self._lowered(op.body),), None, {}
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

    def _lowered(self, graph: Graph) -> Plan:
        if id(graph) not in self.nested:
            inner = type(self)(graph, {})
            inner.nested = self.nested
            self.nested[id(graph)] = inner.plan()
        return self.nested[id(graph)]

    # -- slots and buffers ----------------------------------------------------------------------------

    def _new(self, v: Value, buffer: Buffer) -> None:
        self.buffers.append(buffer)
        self._share(v, len(self.buffers) - 1)

    def _share(self, v: Value, buffer: int, source: int | None = None, part: np.ndarray[Any, Any] | None = None) -> None:
        self.slot_of[v] = len(self.slots)
        self.slots.append(Slot(v.type, buffer, source, part))

    def _extend(self, buffer: int, v: Value) -> None:
        b = self.buffers[buffer]
        self.buffers[buffer] = Buffer(b.kind, b.nbytes, b.first, self.last[v])
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
        if isinstance(node.op, Scan):
            types += [r.type for r in node.results[:node.op.carries]]
        elif isinstance(node.op, WhileLoop):
            types += [r.type for r in node.results] + [TensorType(DTYPES["bool"], ())]
        return types


def _donated_last(graph: Graph, donations: Mapping[int, int]) -> tuple[Node, ...]:
    """The nodes in order, but those that only make donated outputs come last: until then a call can be abandoned unharmed."""
    donated = {graph.outputs[j] for j in donations}
    last = {node for node in graph.nodes
            if donated.intersection(node.results) and not any(graph.uses[r] for r in node.results) and not node.op.may_end_the_call}
    return (*(n for n in graph.nodes if n not in last), *(n for n in graph.nodes if n in last)) if last else graph.nodes
