"""Folds over windows of the last axes."""

from __future__ import annotations

import math
from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.operators.indexing import scattered
from nagraph.export.to_stablehlo.operators.reductions import folded_windows
from nagraph.export.to_stablehlo.registry import translates
from nagraph.export.to_stablehlo.shapes import I64
from nagraph.ops import pooling


def _folded(m: Body, node: Any, *xs: Ref) -> list[Ref]:
    op = node.op
    lead = xs[0].ndim - len(op.window)
    if 0 in node.result.shape:
        return [m.full(0, x.type.with_shape(node.result.shape)) for x in xs]
    ones = (1,) * lead
    return folded_windows(m, op.fold_op, xs, node.result.shape, (*ones, *op.window), (*ones, *op.stride), (*((0, 0),) * lead, *op.padding))


@translates(pooling.WindowMax, pooling.WindowSum)
def fold(m: Body, node: Any, x: Ref) -> Ref:
    return _folded(m, node, x)[0]


@translates(pooling.WindowArgmax)
def place(m: Body, node: Any, x: Ref) -> Ref:
    """Elements beside their numbers; the padding holds the largest number, and so never wins."""
    spatial = x.shape[x.ndim - len(node.op.window):]
    numbers = m.broadcast(m.reshape(m.iota(I64, (math.prod(spatial),), 0), spatial), x.shape)
    return _folded(m, node, x, numbers)[1]


@translates(pooling.WindowPut)
def put(m: Body, node: Any, u: Ref, places: Ref) -> Ref:
    """Added at their places, of the last axes as one, for each index of those before."""
    t = node.result.type
    lead, size = math.prod(t.shape[:t.rank - len(node.op.sizes)]), math.prod(node.op.sizes)
    if 0 in u.shape:
        return m.full(0, u.type.with_shape(t.shape))
    flat = (lead, math.prod(u.shape[u.ndim - len(node.op.sizes):]))
    zeros = m.full(0, u.type.with_shape((lead, size)))
    where = [m.iota(I64, flat, 0), m.reshape(places, flat)]
    found = scattered(m, zeros, m.reshape(u, flat), where, (0, 1),
                      lambda a, b: m.elementwise("add", a, b))
    return m.reshape(found, t.shape)
