"""Loops, branches and calls. Regions read the values around them as they are."""

from __future__ import annotations

from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.registry import translates
from nagraph.export.to_stablehlo.text import attribute_text
from nagraph.regions.branches import Cond
from nagraph.regions.calls import Call
from nagraph.regions.scans import Scan
from nagraph.regions.while_loops import WhileLoop


@translates(Call)
def call(m: Body, node: Any, *operands: Ref) -> list[Ref]:
    """A fused region is opened; a composite keeps its name, its options and its body as its decomposition; a checkpoint is a function."""
    op = node.op
    if op.kind == "fused":
        return m.walk(op.body, operands)
    composite = f"nagraph.{op.label}" if op.kind != "checkpoint" else ""
    options = {k: text for k, v in op.options if (text := attribute_text(v)) is not None}
    shown = {"composite_attributes": f"{{{', '.join(f'{k} = {v}' for k, v in options.items())}}}"} if composite and options else {}
    return m.called(op.body, op.label, operands, lambda m, *xs: m.walk(op.body, xs), composite, **shown)


@translates(Cond)
def cond(m: Body, node: Any, predicate: Ref, *operands: Ref) -> list[Ref]:
    regions = [m.region([], lambda g=g: m.walk(g, operands)) for g in (node.op.true, node.op.false)]
    return m.op("stablehlo.if", [predicate], [v.type for v in node.results], regions)


@translates(WhileLoop)
def while_loop(m: Body, node: Any, *operands: Ref) -> list[Ref]:
    """With a bound on the steps these are counted beside the carries."""
    op = node.op
    consts, carries = operands[:op.consts], operands[op.consts:]
    counted = op.max_steps is not None
    start = [*carries, *([m.size(0)] if counted else [])]

    def going(*values: Ref) -> list[Ref]:
        (go,) = m.walk(op.condition, (*consts, *values[:len(carries)]))
        return [m.elementwise("and", go, m.compare("LT", values[-1], m.size(op.max_steps))) if counted else go]

    def step(*values: Ref) -> list[Ref]:
        found = m.walk(op.body, (*consts, *values[:len(carries)]))
        return [*found, *([m.elementwise("add", values[-1], m.size(1))] if counted else [])]

    types = [x.type for x in start]
    return m.op("stablehlo.while", start, types, [m.region(types, going), m.region(types, step)])[:len(carries)]


@translates(Scan)
def scan(m: Body, node: Any, *operands: Ref) -> list[Ref]:
    """A while loop that carries a counter, the carries, and the stacked results, into which each iteration writes its own."""
    op = node.op
    consts, carries, xs = (list(part) for part in op._split(operands))
    stacked = [m.full(0, v.type) for v in node.results[op.carries:]]
    if op.length == 0:
        return [*carries, *stacked]
    xs, stacked = ([m.with_room(x, op.length, 0) for x in part] for part in (xs, stacked))
    start = [m.size(0), *carries, *stacked]
    zero = m.size(0)

    def going(counter: Ref, *_: Ref) -> list[Ref]:
        return [m.compare("LT", counter, m.size(op.length))]

    def step(counter: Ref, *values: Ref) -> list[Ref]:
        now, ys = values[:op.carries], values[op.carries:]
        at = m.elementwise("subtract", m.size(op.length - 1), counter) if op.reverse else counter
        seen = [m.reshape(m.block_at(x, [at, *[zero] * (x.ndim - 1)], (1, *x.shape[1:])), x.shape[1:]) for x in xs]
        found = m.walk(op.body, [*consts, *now, *seen])
        new = [m.with_block(y, m.reshape(v, (1, *v.shape)), [at, *[zero] * v.ndim]) for y, v in zip(ys, found[op.carries:])]
        return [m.elementwise("add", counter, m.size(1)), *found[:op.carries], *new]

    types = [x.type for x in start]
    found = m.op("stablehlo.while", start, types, [m.region(types, going), m.region(types, step)])
    ends = zip(found[1 + op.carries:], node.results[op.carries:])
    return [*found[1:1 + op.carries], *(m.slice(y, (0,) * y.ndim, v.shape) for y, v in ends)]


