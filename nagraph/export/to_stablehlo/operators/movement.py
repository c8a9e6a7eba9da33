"""Movement: the same elements at other indices."""

from __future__ import annotations

from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body, Untranslatable
from nagraph.export.to_stablehlo.operators.indexing import gathered
from nagraph.export.to_stablehlo.registry import translates
from nagraph.export.to_stablehlo.shapes import I64
from nagraph.ir.constant import Constant
from nagraph.ops import identities, joining, labels, movement, slicing
from nagraph.ops.size_numbers import SizeNumber
from nagraph.ops.windows import Windows


@translates(Constant)
def constant(m: Body, node: Any) -> Ref:
    return m.full(node.op.array, node.result.type) if not node.result.shape else m.constant(node.op.array)


@translates(SizeNumber)
def size(m: Body, node: Any) -> Ref:
    return m.cast(m.size(node.op.size), node.op.dtype)


@translates(movement.Reshape)
def reshape(m: Body, node: Any, x: Ref) -> Ref:
    return m.reshape(x, node.op.shape)


@translates(movement.Transpose)
def transpose(m: Body, node: Any, x: Ref) -> Ref:
    return m.transpose(x, node.op.axes)


@translates(movement.Broadcast)
def broadcast(m: Body, node: Any, x: Ref) -> Ref:
    return m.broadcast(x, node.op.shape)


@translates(movement.Flip)
def flip(m: Body, node: Any, x: Ref) -> Ref:
    return m.reverse(x, node.op.axes)


@translates(movement.Iota)
def iota(m: Body, node: Any) -> Ref:
    return m.iota(node.op.dtype, node.op.shape, node.op.axis)


@translates(slicing.Slice)
def slice(m: Body, node: Any, x: Ref) -> Ref:  # noqa: A001 - the op's name
    return m.slice(x, node.op.start, node.op.stop, node.op.step)


@translates(slicing.Pad)
def pad(m: Body, node: Any, x: Ref) -> Ref:
    return m.pad(x, m.number(node.op.value, x.dtype), node.op.low, node.op.high, node.op.inner)


@translates(joining.Concatenate)
def concatenate(m: Body, node: Any, *xs: Ref) -> Ref:
    return m.concatenate(xs, node.op.axis)


@translates(Windows)
def windows(m: Body, node: Any, x: Ref) -> Ref:
    """Axis by axis: elements gathered at p stride + k dilation; then the places k inside of windows go last."""
    op = node.op
    counts = node.result.shape[:x.ndim]
    places = {a: a for a in range(x.ndim)}
    inside: list[tuple[int, int]] = []
    for a, k, s, d in sorted(zip(op.axes, op.size, op.stride, op.dilation), reverse=True):
        number, step = (m.elementwise("multiply", m.iota(I64, (counts[a], k), axis), m.full(by, m.iota(I64, (counts[a], k), axis).type))
                        for axis, by in ((0, s), (1, d)))
        x = gathered(m, x, [m.elementwise("add", number, step)], (a,))
        places = {b: p + (p > a) for b, p in places.items()}
        inside = [(b, p + 1) for b, p in inside]
        inside.append((a, a + 1))
    behind = dict(inside)
    return m.transpose(x, [*(places[b] for b in range(len(counts))), *(behind[a] for a in op.axes)])


@translates(identities.Materialize, identities.StopGradient, labels.CheckLabels)
def same(m: Body, node: Any, x: Ref) -> Ref:
    """The operand itself. Labels pass unchecked: StableHLO has no operation that ends a call with an error."""
    return x


@translates(identities.Recompute)
def recompute(m: Body, node: Any, x: Ref) -> Ref:
    """A value of its own, so that what is computed of it is computed again."""
    return m.do("optimization_barrier", (x,), x.type)


@translates(identities.DebugPrint)
def debug_print(m: Body, node: Any, x: Ref) -> Ref:
    raise Untranslatable("StableHLO has no operation that prints; leave ng.debug.print out of what is exported, or return the value")
