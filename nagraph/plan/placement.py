"""Placement computes results inside a larger value from the start, so that joining or padding them copies nothing.

The gradient of queries, keys and values side by side is made of three results; a convolution reads its input with a border of
zeros. Kernels write wherever they are told to: such a result gets no memory of its own but a part of the larger value's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from nagraph import choices
from nagraph.analysis.live_ranges import strided
from nagraph.ir.graph import Graph, Node, Value
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Kernel, Number, Stage, Store
from nagraph.kernel.layout import StridedLayout

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
        boxes = parts(node)
        if boxes is None or node.result in refused or node.result in outputs or not node.result.size:
            continue
        own = found.get(node.result) or Placement(node.result, strided(node.result.type))
        if own.whole in refused:
            continue
        made = [_placed(graph, x, own.shown[part]) for x, part in zip(node.operands, boxes)]
        values = {m[0] for m in made if m is not None}
        full = len(boxes) == 1 or sum(v.type.size for v in node.operands) == node.result.type.size
        legal = full and None not in made and len(values) == len(made) and not any(
            v in found or v in outputs or v in known for v in values)
        if legal and not _only_copied(graph, node.result) and choices.takes("place", True, str(node.op), len(joined)):
            found.update((v, Placement(own.whole, shown)) for v, shown in made)  # type: ignore[misc]
            joined.add(node)
    return found, joined


def _only_copied(graph: Graph, v: Value) -> bool:
    """Whether all that read a value, or views of it, copy it to where it is read in order."""
    readers = graph.uses[v]
    return bool(readers) and all(_only_copied(graph, n.result) if n.op.view else n.op.stores for n in readers)


def parts(node: Node) -> list[tuple[slice, ...]] | None:
    """The part of a joined or padded result that each operand is, as slices; None for nodes that do more."""
    boxes = node.op.parts(*[v.type for v in node.operands]) if len(node.results) == 1 else None
    return None if boxes is None else [tuple(slice(a, b) for a, b in box) for box in boxes]


def _placed(graph: Graph, x: Value, shown: Array) -> tuple[Value, Array] | None:
    """The value that x is a view of, and how it lies in memory if x lies as `shown`; None if it can't."""
    node = graph.producers.get(x)
    while node is not None and node.op.view:
        turned = node.op.operand_shown(shown, node.operands[0].type)
        if turned is None:
            return None
        x, shown = node.operands[0], turned
        node = graph.producers.get(x)
    return (x, shown) if node is not None and x.size and _by_kernel(node) else None


def _by_kernel(node: Node) -> bool:
    """Whether a kernel writes the results of a node, by any strides."""
    op = node.op
    return op.fused if op.regions else op.has_element and not op.effect and bool(node.operands)


def border(node: Node, layout: StridedLayout) -> Kernel | None:
    """The kernel that writes what padding adds to an operand that is in the result already; None if that is nothing.

    layout: of the result, which may be a part of another value.
    """
    boxes = node.op.parts(*[v.type for v in node.operands])
    if boxes is None or len(boxes) > 1:  # several fill the result
        return None
    shape, steps, dtype = node.result.shape, layout.strides, node.result.dtype
    sides = [(a, n - b) for (a, b), n in zip(boxes[0], shape)]
    lead = next((i for i, side in enumerate(sides) if any(side)), len(shape))
    axes, stages = list(shape[:lead]), []
    number = Number(np.asarray(node.op.filling, dtype).tobytes(), dtype)
    first, left = [0] * len(shape), list(shape)  # what no side has written yet
    for i, (a, b) in enumerate(sides):
        for start, size in ((0, a), (shape[i] - b, b)):
            if size:
                loops = tuple(range(len(axes), len(axes) + len(shape) - lead))
                axes += [size if j == i else left[j] for j in range(lead, len(shape))]
                places = ((start if j == i else at) * step for j, (at, step) in enumerate(zip(first, steps)))
                index = Affine(layout.offset + sum(places), tuple(zip((*range(lead), *loops), steps)))
                stages.append(Stage(loops, 0, (number,), stores=(Store(0, index, 0),)))
        first[i], left[i] = a, shape[i] - a - b
    return Kernel(tuple(axes), lead, (dtype,), 1, (), tuple(stages)) if stages else None
