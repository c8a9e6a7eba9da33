"""Loops and branches: Scan, Loop and If, whose graphs read what is around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.indexing import number
from nagraph.export.to_onnx.registry import translation
from nagraph.export.to_onnx.scope import Operand
from nagraph.ir.node import Node
from nagraph.ir.size_bounds import at_least
from nagraph.ir.types import BOOL, DTYPES, TensorType
from nagraph.regions import branches, scans, while_loops

I64 = DTYPES["i64"]


@translation(branches.Cond)
def cond(w: Any, node: Node, predicate: Any, *operands: Any) -> Any:
    op: Any = node.op
    graphs = []
    for region in (op.true, op.false):
        inside = w.inner()
        graphs.append(inside.graph(region.name, [], inside.write(region, operands)))
    return w.emit("If", predicate, then_branch=graphs[0], else_branch=graphs[1], results=len(node.results))


@translation(scans.Scan)
def scan(w: Any, node: Node, *operands: Any) -> Any:
    """Scan, or Loop where ONNX's Scan is none: without anything to go over, or where there may be no step."""
    op: Any = node.op
    consts, carries, xs = operands[:op.consts], operands[op.consts:op.consts + op.carries], operands[op.consts + op.carries:]
    if not xs or not at_least(op.length, 1):
        return _counted(w, node, consts, carries, xs)
    inside = w.inner()
    states = [inside.input(x.type, "carry") for x in carries]
    rows = [inside.input(x.type.with_shape(x.shape[1:]), "row") for x in xs]
    outputs = inside.write(op.body, [*consts, *states, *rows])
    back = [1] if op.reverse else [0]
    ys = len(outputs) - len(states)
    return w.emit("Scan", *carries, *xs, body=inside.graph(op.body.name, [*states, *rows], outputs), num_scan_inputs=len(xs),
                  scan_input_directions=back * len(xs), scan_output_directions=back * ys if ys else None, results=len(node.results))


def _counted(w: Any, node: Node, consts: Sequence[Any], carries: Sequence[Any], xs: Sequence[Any]) -> Any:
    """A scan as a Loop of so many steps, which stacks results in the order in which they are made."""
    op: Any = node.op
    inside = w.inner()
    step, going = inside.input(TensorType(I64, ()), "step"), inside.input(TensorType(BOOL, ()), "going")
    states = [inside.input(x.type, "carry") for x in carries]
    at: Any = step
    if op.reverse:
        at = inside.emit("Sub", number(inside, op.length - 1), step)
    rows = [Operand(inside.emit("Gather", x, at, axis=0), x.type.with_shape(x.shape[1:])) for x in xs]
    outputs = inside.write(op.body, [*consts, *states, *rows])
    body = inside.graph(op.body.name, [step, going, *states], [going, *outputs])
    found = w.emit("Loop", number(w, op.length), None, *carries, body=body, results=len(node.results))
    found = [found] if isinstance(found, str) else list(found)
    if op.reverse:
        back = np.array([-1]), np.array([np.iinfo(np.int64).min]), np.array([0]), np.array([-1])
        found[op.carries:] = [w.emit("Slice", y, *back) for y in found[op.carries:]]
    return found


@translation(while_loops.WhileLoop)
def while_loop(w: Any, node: Node, *operands: Any) -> Any:
    """Loop asks at the end of a step whether there is another one; so the condition is written before it as well."""
    op: Any = node.op
    consts, carries = operands[:op.consts], operands[op.consts:]
    inside = w.inner()
    step, going = inside.input(TensorType(I64, ()), "step"), inside.input(TensorType(BOOL, ()), "going")
    states = [inside.input(x.type, "carry") for x in carries]
    outputs = inside.write(op.body, [*consts, *states])
    again = inside.write(op.condition, [*consts, *outputs])
    body = inside.graph(op.body.name, [step, going, *states], [*again, *outputs])
    most = None if op.max_steps is None else np.array(op.max_steps, np.int64)
    return w.emit("Loop", most, *w.write(op.condition, operands), *carries, body=body, results=len(node.results))
