"""Pruning of regions: what goes in and out of loops and branches though nobody needs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from nagraph import choices
from nagraph.ir.constant import Constant
from nagraph.ir.emitter import current
from nagraph.ir.graph import Graph, Node, Value, kept
from nagraph.ir.op import Op
from nagraph.ops.movement import Broadcast, broadcast_to
from nagraph.pipeline import graph_pass
from nagraph.regions.base import Ports, RegionOp
from nagraph.regions.rewiring import inputs_read, rewired

#: Constants of at most so many elements are moved into regions, as numbers are that kernels hold.
MOST_ELEMENTS = 1024


@graph_pass
@dataclass(frozen=True)
class PruneRegions:
    """Pruning of regions: loops, branches and checkpoints lose operands and results that need not pass through them.

    Before   %1, %2, %3 = scan{body=@f, consts=1, carries=1}(%w, %c, %x)    @f(%w, %c, %x) -> (%c, tanh(%x), exp(%x))    %3 unread
    After    %2 = scan{body=@f, consts=0, carries=0}(%x)                    @f(%x) -> (tanh(%x))                         %1 is %c

    Results that nobody reads go, and what alone they follow from; so do operands that no region reads, and those given twice. A carry
    that each iteration returns as it came becomes a const of the loop, and so do slices of a value repeated along the loop's axis.
    A result that is an operand is read there; stacked, it is that operand repeated. Small constants are made inside, where they fold.
    It goes from the outside in, since what is not read of a loop is not read of the loops in it; effects stay, with what they need.
    Composites stay as they are: they are opened, or a backend knows their operands. O(nodes).
    """

    on_regions: ClassVar[bool] = False

    def __call__(self, graph: Graph) -> Graph:
        return pruned(graph)


class Change(NamedTuple):
    """What becomes of a node: another op, the numbers of its operands, and for each result where it comes from.

    rows: operands of which the first row is taken. sources: the number of the new op's result; or, of an operand, the number and whether it
    is repeated; or None, since nobody reads it.
    """

    op: Op
    operands: tuple[int, ...]
    rows: frozenset[int]
    sources: tuple[int | tuple[int, bool] | None, ...]


@kept
def pruned(graph: Graph) -> Graph:
    """The graph without what is not needed, its regions as well; itself if it holds none."""
    if not graph.holds_regions:
        return graph
    held = Counter(id(r) for node in graph.nodes for r in node.op.regions.values())
    live = set(graph.outputs)
    found: list[tuple[Node, Change | Op]] = []
    for node in reversed(graph.nodes):
        if node.op.has_effect or any(r in live for r in node.results):
            change = _change(graph, node, [r in live for r in node.results], held) if _changes(node) else node.op
            found.append((node, change))
            live.update(node.operands if isinstance(change, Op) else (node.operands[i] for i in _operands_read(change)))
    if len(found) == len(graph.nodes) and all(change is node.op for node, change in found):
        return graph
    changes = iter([change for _, change in reversed(found)])
    return graph.with_nodes([node for node, _ in reversed(found)]).rebuild(lambda node: _changed(node, changes))


def _changes(node: Node) -> bool:
    """Whether the node's regions may change: what fusion has made one stays."""
    return bool(node.op.regions) and getattr(node.op, "kind", "") != "fused" and choices.takes("prune_regions", True, node.op.name)


def _operands_read(change: Change) -> Iterator[int]:
    yield from change.operands
    yield from (s[0] for s in change.sources if isinstance(s, tuple))


def _changed(node: Node, changes: Iterator[Change | Op]) -> Node | list[Value]:
    """The values in place of a node's results."""
    change = next(changes)
    if isinstance(change, Op):
        return node.with_op(change)
    operands = [node.operands[i][0] if i in change.rows else node.operands[i] for i in change.operands]
    made: Sequence[Value] = ()
    if change.op.has_effect or any(isinstance(s, int) for s in change.sources):
        made = current().emit(change.op, operands)
    return [_result(r, s, made, node.operands) for r, s in zip(node.results, change.sources)]


def _result(old: Value, source: int | tuple[int, bool] | None, made: Sequence[Value], operands: Sequence[Value]) -> Value:
    if source is None:
        return old
    if isinstance(source, int):
        return made[source]
    number, repeated = source
    found: Value = broadcast_to(operands[number], old.shape) if repeated else operands[number]
    return found


def _change(graph: Graph, node: Node, read: Sequence[bool], held: Counter[int]) -> Change | Op:
    """What becomes of a node whose results are read where `read` says so; an op of the same operands and results if nothing else does."""
    op = node.op
    ports = op.ports() if isinstance(op, RegionOp) else None
    if ports is None:
        return _with_regions(op, {name: pruned(g) for name, g in op.regions.items()})
    wires = _Wires(graph, node, ports, read, all(held[id(g)] == 1 for g in op.regions.values()))
    regions = {name: pruned(rewired(g, wires.outputs if name in ports.giving else tuple(range(len(g.outputs))), wires.inputs, wires.given))
               for name, g in op.regions.items()}
    if wires.inputs == tuple(range(len(wires.given))) == wires.given and len(wires.outputs) == len(read):
        return _with_regions(op, regions)
    assert isinstance(op, RegionOp)
    number = {i: n for n, i in enumerate(wires.outputs)}
    sources = tuple(wires.through.get(i, number.get(i)) if r else None for i, r in enumerate(read))
    return Change(op.with_ports(regions, wires.consts, wires.carries), (*range(ports.ahead), *(ports.ahead + i for i in wires.inputs)),
                  frozenset(ports.ahead + i for i in wires.rows), sources)


def _with_regions(op: Op, regions: Mapping[str, Graph]) -> Op:
    """The op with these regions; itself if they are its own."""
    changes = {name: regions[name] for name, g in op.regions.items() if regions[name] is not g}
    return op.with_attributes(**changes) if changes else op


class _Wires:
    """The inputs and outputs of a node's regions that are needed, by their numbers.

    inputs: consts, then carries, then xs. given: what stands for each input (`rewired`). outputs: those that give results. through: results
    that are operands. rows: xs that are one row repeated, which become consts.
    """

    def __init__(self, graph: Graph, node: Node, ports: Ports, read: Sequence[bool], alone: bool):
        self.ports, self.operands, self.regions = ports, node.operands[ports.ahead:], node.op.regions
        giving = [self.regions[name] for name in ports.giving]
        first, end, count = ports.consts, ports.consts + ports.carries, len(self.operands)
        unchanged = [first + i for i in range(ports.carries) if all(g.outputs[i] is g.inputs[first + i] for g in giving)]
        self.rows = {i for i in range(end, count) if ports.stacks and _is_repeated(graph, self.operands[i])}
        consts, xs = [*range(first), *unchanged, *sorted(self.rows)], [i for i in range(end, count) if i not in self.rows]
        self.through = {i: s for i in range(len(read)) if (s := self._through(giving, i, consts)) is not None}
        self.outputs, inputs = self._needed({i for i, r in enumerate(read) if r} - set(self.through))
        self.given = self._given(graph, consts, xs, alone)
        wanted = {self.given[i] for i in inputs}
        kept_consts, carries = [i for i in consts if i in wanted], [first + i for i in self.outputs if i < ports.carries]
        self.consts, self.carries = len(kept_consts), len(carries)
        self.inputs = (*kept_consts, *carries, *(i for i in xs if i in wanted))

    def _through(self, giving: Sequence[Graph], output: int, consts: Sequence[int]) -> tuple[int, bool] | None:
        """The operand that a result is, and whether it is repeated; None if it is another value."""
        numbers = {next((i for i, v in enumerate(g.inputs) if v is g.outputs[output]), -1) for g in giving}
        number = numbers.pop() if len(numbers) == 1 else -1
        at = self.ports.ahead + number
        if output < self.ports.carries:
            return (at, False) if number == self.ports.consts + output else None
        if number >= self.ports.consts + self.ports.carries:
            return at, False
        return (at, self.ports.stacks) if number in consts else None

    def _needed(self, outputs: set[int]) -> tuple[tuple[int, ...], frozenset[int]]:
        """The outputs that are needed: these, and those of carries that are read; and the inputs that are read for them."""
        while True:
            chosen = tuple(sorted(outputs))
            inputs = frozenset[int]().union(*(inputs_read(g, chosen if name in self.ports.giving else tuple(range(len(g.outputs))))
                                              for name, g in self.regions.items()))
            more = {i for i in range(self.ports.carries) if self.ports.consts + i in inputs and i not in self.through} - outputs
            if not more:
                return chosen, inputs
            outputs |= more

    def _given(self, graph: Graph, consts: Sequence[int], xs: Sequence[int], alone: bool) -> tuple[int | Constant, ...]:
        """For each input itself, an earlier one of the same operand, or a small constant. alone: no other node has these regions."""
        found: list[int | Constant] = [*range(len(self.operands))]
        for numbers in (consts, xs):
            seen: dict[Value, int] = {}
            for i in (n for n in numbers if n not in self.rows):
                v = self.operands[i]
                op = graph.producers[v].op if v in graph.producers else None
                inside = isinstance(op, Constant) and alone and numbers is consts and v.size <= MOST_ELEMENTS
                found[i] = op if inside else seen.setdefault(v, i)  # type: ignore[assignment]
        return tuple(found)


def _is_repeated(graph: Graph, x: Value) -> bool:
    """Whether a value is one row, repeated along axis 0: a broadcast, or a const that a loop stacks."""
    producer = graph.producers.get(x)
    if producer is None or not x.shape[0]:
        return False
    if isinstance(producer.op, Broadcast):
        (source,) = producer.operands
        return source.ndim < x.ndim or source.shape[0] == 1
    ports = producer.op.ports() if isinstance(producer.op, RegionOp) else None
    if ports is None or not ports.stacks:
        return False
    number = producer.results.index(x)
    region = producer.op.regions[ports.giving[0]]
    return number >= ports.carries and region.outputs[number] in region.inputs[:ports.consts]
