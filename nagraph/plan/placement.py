"""Placement computes results inside a larger value from the start, so that joining or padding them copies nothing.

The gradient of queries, keys and values side by side is made of three results; a convolution reads its input with a border of
zeros. Kernels write wherever they are told to: such a result gets no memory of its own but a part of the larger value's.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from nagraph import choices
from nagraph.analysis.live_ranges import strided
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Kernel, Number, Stage, Store
from nagraph.kernel.layout import StridedLayout
from nagraph.ops.identities import Recompute, StopGradient
from nagraph.ops.indexing import Scatter
from nagraph.ops.joining import Concatenate
from nagraph.ops.movement import Reshape, Transpose
from nagraph.ops.slicing import Pad
from nagraph.ops.sorting import Argsort, Sort
from nagraph.regions.calls import Call

Array = np.ndarray[Any, Any]


class Placement(NamedTuple):
    """A placement is the larger value that holds a value, and an array that shows which of its elements are the value's."""

    whole: Value
    shown: Array


def placements(graph: Graph, refused: Collection[Value] = (), known: Collection[Value] = ()) -> tuple[dict[Value, Placement], set[Node]]:
    """The placements of values in others, and the nodes that join them. None of `refused` is a larger value.

    All that a value is joined from is placed in it, or nothing: each of it the result of a kernel, used for nothing else that
    wants it elsewhere. A value that is itself placed passes its place on. No kernel writes what is `known` with the plan.
    """
    found: dict[Value, Placement] = {}
    joined: set[Node] = set()
    outputs = set(graph.outputs)
    for node in reversed(graph.nodes):
        op = node.op
        if not isinstance(op, (Concatenate, Pad)) or node.result in refused or node.result in outputs or not node.result.size:
            continue
        if isinstance(op, Pad) and any(op.inner):  # what lies between would have to be filled as well
            continue
        own = found.get(node.result) or Placement(node.result, strided(node.result.type))
        if own.whole in refused:
            continue
        made = [_placed(graph, x, own.shown[part]) for x, part in zip(node.operands, parts(node))]
        values = {m[0] for m in made if m is not None}
        legal = None not in made and len(values) == len(made) and not any(v in found or v in outputs or v in known for v in values)
        if legal and choices.takes("place", True, str(node.op), len(joined)):
            found.update((v, Placement(own.whole, shown)) for v, shown in made)  # type: ignore[misc]
            joined.add(node)
    return found, joined


def parts(node: Node) -> list[tuple[slice, ...]]:
    """The part of a joined or padded result that each operand is, as slices."""
    op = node.op
    if isinstance(op, Pad):
        (x,) = node.operands
        return [tuple(slice(a, a + n) for a, n in zip(op.low, x.shape))]
    assert isinstance(op, Concatenate)
    ends = itertools.accumulate((x.shape[op.axis] for x in node.operands), initial=0)
    return [(slice(None),) * op.axis + (slice(a, b),) for a, b in itertools.pairwise(ends)]


def _placed(graph: Graph, x: Value, shown: Array) -> tuple[Value, Array] | None:
    """The value that x is a view of, and how it lies in memory if x lies as `shown`; None if it can't."""
    node = graph.producers.get(x)
    while node is not None and node.op.view:
        turned = _inverse(node, shown)
        if turned is None:
            return None
        x, shown = node.operands[0], turned
        node = graph.producers.get(x)
    return (x, shown) if node is not None and x.size and _by_kernel(node) else None


def _inverse(node: Node, shown: Array) -> Array | None:
    """How the operand of a view lies in memory if its result lies as `shown`; None if it can't."""
    op, shape = node.op, node.operands[0].shape
    if isinstance(op, (Recompute, StopGradient)):
        return shown
    if isinstance(op, Transpose):
        return shown.transpose(np.argsort(op.axes))
    if isinstance(op, Reshape):
        try:
            return np.reshape(shown, shape, copy=False)
        except ValueError:
            return None
    return None


def _by_kernel(node: Node) -> bool:
    """Whether a kernel writes the results of a node, by any strides."""
    op = node.op
    if op.regions:
        return isinstance(op, Call) and op.kind == "fused"
    return not isinstance(op, (Constant, Scatter, Sort, Argsort)) and not op.effect and bool(node.operands)


def border(node: Node, layout: StridedLayout) -> Kernel | None:
    """The kernel that writes what padding adds to an operand that is in the result already; None if that is nothing.

    layout: of the result, which may be a part of another value.
    """
    op = node.op
    assert isinstance(op, Pad)
    shape, steps, dtype = node.result.shape, layout.strides, node.result.dtype
    lead = next((i for i, (a, b) in enumerate(zip(op.low, op.high)) if a or b), len(shape))
    axes, stages = list(shape[:lead]), []
    number = Number(np.asarray(op.value, dtype).tobytes(), dtype)
    first, left = [0] * len(shape), list(shape)  # what no side has written yet
    for i, (a, b) in enumerate(zip(op.low, op.high)):
        for start, size in ((0, a), (shape[i] - b, b)):
            if size:
                loops = tuple(range(len(axes), len(axes) + len(shape) - lead))
                axes += [size if j == i else left[j] for j in range(lead, len(shape))]
                places = ((start if j == i else at) * step for j, (at, step) in enumerate(zip(first, steps)))
                index = Affine(layout.offset + sum(places), tuple(zip((*range(lead), *loops), steps)))
                stages.append(Stage(loops, 0, (number,), stores=(Store(0, index, 0),)))
        first[i], left[i] = a, shape[i] - a - b
    return Kernel(tuple(axes), lead, (dtype,), 1, (), tuple(stages)) if stages else None
