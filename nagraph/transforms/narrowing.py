"""Narrowing: of a value that is read in part, only that part is computed.

A walk backwards finds for each value the smallest box of indices that holds all that is read of it; each op says which
boxes of its operands a box of its result needs (`Op.narrow`). A walk forwards emits the ops on these parts. The class token
of a vision transformer is such a part: past the last attention nobody reads the other tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from nagraph import choices
from nagraph.errors import SizeError
from nagraph.ir.builder import Builder
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value, kept
from nagraph.ir.op import Box, Op, whole
from nagraph.ir.size_bounds import at_least
from nagraph.ir.sizes import larger, smaller
from nagraph.ops.slicing import Slice

#: What is emitted for a node: an op, the boxes of its operands, and the boxes that its results are then.
Plan = tuple[Op, Sequence[Box], Sequence[Box]]


def narrowed(graph: Graph) -> Graph:
    """The graph with parts computed in place of wholes; itself where nothing is read in part.

    A part is worth it if it is at most half of the value. The elements that are read are computed as before; what is not read
    is not computed, so a nan there no longer reaches anything. O(nodes).
    """
    return _narrowed(graph, [whole(v.shape) for v in graph.outputs])[0]


def _narrowed(graph: Graph, boxes: Sequence[Box], inputs_as_well: bool = False) -> tuple[Graph, list[Box]]:
    """The graph that computes these boxes of the outputs, and the boxes of the inputs that it takes; itself where none is smaller."""
    wanted = _joined(zip(graph.outputs, boxes))
    plans: dict[Node, Plan] = {}
    for node in reversed(graph.nodes):
        if node.op.has_effect or any(r in wanted for r in node.results):
            plans[node] = _plan(node, wanted)
            _joined(zip(node.operands, plans[node][1]), wanted)
    if not any(p[2] != [whole(r.shape) for r in n.results] for n, p in plans.items()):
        return graph, [whole(v.shape) for v in graph.inputs]
    with Builder() as builder:
        taken = [_worth(v, wanted.get(v)) if inputs_as_well else whole(v.shape) for v in graph.inputs]
        inputs = [v if box == whole(v.shape) else Value(v.type.with_shape(_shape(box)), v.name) for v, box in zip(graph.inputs, taken)]
        made = {v: (x, box) for v, x, box in zip(graph.inputs, inputs, taken)}
        for node in (n for n in graph.nodes if n in plans):
            op, needed, given = plans[node]
            with builder.at(node.location):
                operands = tuple(_part(*made[v], box) for v, box in zip(node.operands, needed))
                results = _emitted(builder, node, op, operands)
            made.update((r, (x, box)) for r, x, box in zip(node.results, results, given))
        outputs = [_part(*made[v], box) for v, box in zip(graph.outputs, boxes)]
    return Graph(graph.name, inputs, builder.nodes, outputs), taken


@kept
def narrowed_body(body: Graph, boxes: tuple[Box, ...]) -> tuple[Graph, list[Box]]:
    """The graph that computes these boxes of the body's outputs, and the boxes of the body's inputs that it takes."""
    return _narrowed(body, boxes, inputs_as_well=True)


def _joined(found: Iterable[tuple[Value, Box]], wanted: dict[Value, Box] | None = None) -> dict[Value, Box]:
    """`wanted` with these boxes: for each value the smallest one that holds all of its boxes."""
    wanted = {} if wanted is None else wanted
    for v, box in found:
        before = wanted.get(v, box)
        wanted[v] = tuple((smaller(a, c), larger(b, d)) for (a, b), (c, d) in zip(before, box))
    return wanted


def _plan(node: Node, wanted: dict[Value, Box]) -> Plan:
    """The node on parts of its operands, where a part of its results is worth it and the op can; or as it is."""
    results = node.results
    boxes = [_worth(r, wanted.get(r)) for r in results]
    types = [v.type for v in node.operands]
    try:
        part = node.op.narrow_results(boxes, *types)
    except SizeError:  # which part it takes is not known before the sizes are
        part = None
    if part is not None:
        return part[0], part[1], boxes
    return node.op, [whole(t.shape) for t in types], [whole(r.shape) for r in results]


def _worth(v: Value, box: Box | None) -> Box:
    """The box, if it is a small part of the value; otherwise all of it."""
    if box is None or 0 in v.shape:
        return whole(v.shape)
    pays = at_least(v.size - 2 * math.prod(_shape(box)), 0)
    return box if choices.takes("narrow", pays, str(v.type), box) else whole(v.shape)


def _shape(box: Box) -> tuple[int, ...]:
    return tuple(b - a for a, b in box)


def _part(x: Value, have: Box, box: Box) -> Value:
    """A box of a value, from a value that is a larger box of it."""
    if have == box:
        return x
    start = tuple(a - c for (a, _), (c, _) in zip(box, have))
    stop = tuple(b - c for (_, b), (c, _) in zip(box, have))
    part: Value = Slice(start, stop, (1,) * len(box))(x)
    return part


def _emitted(builder: Builder, node: Node, op: Op, operands: tuple[Value, ...]) -> Sequence[Value]:
    """The results of the op on the operands: those of the node itself where nothing about it is new."""
    if op == node.op and all(a.type == b.type for a, b in zip(operands, node.operands)) or isinstance(op, Constant):
        same = node.with_operands(operands)
        builder.append(same)
        return same.results
    if isinstance(op, Slice) and op == Slice.whole(operands[0].shape):
        return operands
    return builder.emit(op, operands)
