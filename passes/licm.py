"""Loop-invariant code motion: what a loop computes again in each iteration is computed once, before it."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph import choices
from nagraph.errors import MissingRuleError
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.op import Op
from nagraph.ops.base import Elementwise
from nagraph.pipeline import graph_pass
from nagraph.regions.base import Loop, loops_by_data
from nagraph.regions.rewiring import live_nodes

#: What operations cost, in bytes of memory that are read or written in the same time.
FLOP_NBYTES, TRANSCENDENTAL_NBYTES = 0.25, 4.0
#: The same of a kernel's launch, since what is computed before a loop is one more; and of a call of Python.
LAUNCH_NBYTES, HOST_NBYTES = 1 << 11, 1 << 16
#: The most bytes that a loop's invariant values may hold while it runs, or as many as its operands and results, if these are more.
MOST_NBYTES = 1 << 24
#: Nodes that are looked at to see what a value costs.
MOST_NODES = 64


@graph_pass
def licm(graph: Graph) -> Graph:
    """Loop-invariant code motion: what follows from a loop's consts alone is computed before the loop, where that pays.

    Before   %1 = scan{body=@f, consts=1}(%w, %c, %x)              @f(%w, %c, %x) -> (%c + tanh(%w) @ %x)
    After    %0 = tanh(%w)    %1 = scan{body=@f, consts=1}(%0, %c, %x)                @f(%0, %c, %x) -> (%c + %0 @ %x)

    It pays if reading the value in each iteration costs less than computing it: operations, and operands that the loop reads for nothing
    else, are counted as bytes. A value that pays brings what it is computed from; of one that does not, its operands are tried: so a
    broadcast stays inside, where kernels make it, and what is repeated moves. Values of constants and indices alone stay, unless they are
    stacked or computed by Python: kernels make masks as they go. A value that the loop would stack is computed once and repeated.
    Effects stay. Where a loop may have no iteration, so does what can raise an error, and loops that may not end.
    Regions come first, so that a value moves out of all loops that it is invariant in. O(nodes) for each loop.
    Source: Allen and Cocke, A catalogue of optimizing transformations (1972).
    """

    def visit(node: Node) -> Sequence[Value] | None:
        return _moved(node, node.op) if isinstance(node.op, Loop) else None

    return graph.rebuild(visit) if graph.holds_regions else graph


def _moved(node: Node, op: Loop) -> Sequence[Value] | None:
    """The results of a loop that has values computed before it as further consts; None if no value is worth it."""
    ports = op.ports()
    assert ports is not None
    room = max(MOST_NBYTES, sum(v.type.nbytes for v in (*node.operands, *node.results)))
    found: dict[str, _Invariants] = {}
    for name, region in op.regions.items():
        stacked = region.outputs[ports.carries:] if ports.stacks and name in ports.giving else ()
        found[name] = _Invariants(region, op, stacked, name not in ports.giving, room)
        room = found[name].room
    if not any(f.moved for f in found.values()):
        return None
    consts, made, regions = node.operands[:op.consts], list[Value](), {}
    for name, f in found.items():
        own = [f.region.inputs[:op.consts], f.region.inputs[op.consts:]]
        made += current().inline(Graph("invariant", own[0], f.nodes(), f.moved), consts)
        more = [v if f is g else Value(v.type) for g in found.values() for v in g.moved]
        moved = {f.invariant[v] for v in f.moved}
        stays, _ = live_nodes(f.region.with_nodes([n for n in f.region.nodes if n not in moved]), f.region.outputs)
        regions[name] = Graph(f.region.name, (*own[0], *more, *own[1]), stays, f.region.outputs)
    return current().emit(op.with_ports(regions, op.consts + len(made), ports.carries), (*consts, *made, *node.operands[op.consts:]))


class _Invariants:
    """The values of a region that are computed before the loop: `moved`.

    stacked: outputs that the loop would write in each iteration. first: whether the region runs before it is known if there are iterations.
    room: the most bytes; afterwards what is left of them.
    """

    def __init__(self, region: Graph, op: Loop, stacked: Sequence[Value], first: bool, room: int):
        self.region, self.stacked, self.room = region, frozenset(stacked), room
        least, self.iterations = op.iterations()
        surely = least > 0 or first and self.iterations > 0
        self.consts = frozenset(region.inputs[:op.consts])
        self.invariant: dict[Value, Node] = {}
        #: Invariant values that follow from consts or from what Python computes, not from constants and indices alone.
        self.varied: set[Value] = set(self.consts)
        self.read_anyway: set[Value] = set(region.outputs)
        for n in region.nodes:
            if all(v in self.consts or v in self.invariant for v in n.operands) and _may_move(n.op, surely):
                self.invariant.update((r, n) for r in n.results)
                if n.op.on_host or any(v in self.varied for v in n.operands):
                    self.varied.update(n.results)
            else:
                self.read_anyway.update(n.operands)
        self.moved: list[Value] = []
        self._choose([v for v in self.invariant if v in self.read_anyway])

    def _choose(self, waiting: list[Value]) -> None:
        """Move each value that pays, and try the operands of one that does not."""
        seen: set[Node] = set()
        for v in waiting:
            node = self.invariant.get(v)
            if node is None or node in seen:
                continue
            seen.add(node)
            legal = v in self.varied or v in self.stacked
            if legal and choices.takes("licm", self._pays(node, v in self.stacked), str(v.type), node.op.name, len(seen)):
                self.moved += node.results
                self.room -= sum(r.type.nbytes for r in node.results)
            else:
                waiting += node.operands

    def nodes(self) -> list[Node]:
        """The nodes that the moved values follow from, in their order."""
        lifted = self.region.with_nodes([n for n in self.region.nodes if any(r in self.invariant for r in n.results)])
        return live_nodes(lifted, self.moved)[0]

    def _pays(self, node: Node, stacked: bool) -> bool:
        """Whether computing a node once and reading its results costs less than computing it in each iteration."""
        nbytes = sum(r.type.nbytes for r in node.results)
        if stacked or nbytes > self.room or node.op.view:
            return stacked and nbytes <= self.room
        cone, consts, waiting = dict[Node, None](), set[Value](), [node]
        while waiting and len(cone) < MOST_NODES:
            n = waiting.pop()
            if n not in cone:
                cone[n] = None
                consts |= self.consts.intersection(n.operands)
                waiting += (self.invariant[v] for v in n.operands if v in self.invariant)
        work = sum(map(_work, cone))
        stored = 0 if isinstance(node.op, Elementwise) else nbytes  # its readers can't make it on the way: it is written inside as well
        saved = work + stored + sum(c.type.nbytes for c in consts - self.read_anyway) - nbytes
        return self.iterations * saved > work + nbytes + LAUNCH_NBYTES


def _may_move(op: Op, surely: bool) -> bool:
    """Whether an op may run before the loop. surely: whether it would run in any case."""
    if op.has_effect:
        return False
    return surely or not (op.may_raise or op.loops_by_data or any(map(loops_by_data, op.regions.values())))


def _work(node: Node) -> float:
    """The operations of a node, in bytes."""
    if node.op.on_host:
        return HOST_NBYTES
    try:
        cost = node.op.cost(*(v.type for v in node.operands))
    except MissingRuleError:
        return FLOP_NBYTES * sum(r.size for r in node.results)
    return FLOP_NBYTES * cost.flops + TRANSCENDENTAL_NBYTES * cost.transcendental
