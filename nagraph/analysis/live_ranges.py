"""Live ranges: from which step to which the values of a graph hold bytes, views counted as their sources."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import TensorType
from nagraph.ops.base import Primitive
from nagraph.ops.movement import Reshape


def view_roots(graph: Graph) -> dict[Value, Value]:
    """The value whose bytes each value shows: itself, unless it can be had as a view."""
    return views(graph)[0]


def views(
    graph: Graph, stored: Mapping[Value, tuple[int, ...]] = MappingProxyType({}),
    placed: Mapping[Value, tuple[Value, np.ndarray[Any, Any]]] = MappingProxyType({}),
) -> tuple[dict[Value, Value], dict[Value, np.ndarray[Any, Any]]]:
    """The value whose bytes each value shows; and, for views and what is not row-major, an array that shows how.

    Strides decide that: they are followed through the graph with arrays that have strides but no bytes.
    `stored`: values whose axes have another order in memory, the outermost first. `placed`: values that are parts of another,
    and which part.
    """
    roots: dict[Value, Value] = {v: v for v in graph.inputs}
    shown: dict[Value, np.ndarray[Any, Any]] = {}
    for v, order in stored.items():
        straight = strided(v.type.with_shape(tuple(v.shape[a] for a in order)))
        shown[v] = straight.transpose(np.argsort(order))
    shown.update((v, array) for v, (_, array) in placed.items())
    for node in graph.nodes:
        for r in node.results:
            roots[r] = placed[r][0] if r in placed else r
        if node.op.view and isinstance(node.op, Primitive):
            (x,) = node.operands
            if x not in shown:
                shown[x] = strided(x.type)
            view = _as_view(node.op, shown[x])
            if view is not None:
                shown[node.result] = view
                roots[node.result] = roots[x]
    return roots, shown


def strided(type: TensorType) -> np.ndarray[Any, Any]:
    """An array of this type and of row-major strides over one element, for its strides alone."""
    strides = [type.dtype.itemsize] * type.rank
    for i in range(type.rank - 2, -1, -1):
        strides[i] = strides[i + 1] * max(type.shape[i + 1], 1)
    return np.lib.stride_tricks.as_strided(np.zeros(1, type.dtype), type.shape, strides, writeable=False)


def _as_view(op: Primitive, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """The view that a view op gives of x, or None where it would have to copy."""
    if not isinstance(op, Reshape):
        return op.shown(x)
    try:
        return np.reshape(x, op.shape, copy=False)
    except ValueError:
        return None


def last_uses(graph: Graph, order: Sequence[Node], roots: dict[Value, Value]) -> dict[Value, int]:
    """The last place in `order` at which a root, or a view of it, is read; outputs are read after the end."""
    last: dict[Value, int] = {}
    for t, node in enumerate(order):
        for r in node.results:
            last.setdefault(roots[r], t)
        for v in node.operands:
            last[roots[v]] = t
    for v in graph.outputs:
        last[roots[v]] = len(order)
    return last


class LiveRange(NamedTuple):
    """A live range is bytes that are taken from step `first` to step `last`, both included."""

    nbytes: int
    first: int
    last: int


def live_bytes(ranges: Iterable[LiveRange], steps: int) -> list[int]:
    """The sum of the bytes that are taken at each of `steps` steps. A range may end behind the last step."""
    change = [0] * (steps + 1)
    for nbytes, first, last in ranges:
        change[first] += nbytes
        change[min(last + 1, steps)] -= nbytes
    return list(itertools.accumulate(change[:steps]))


def peak_live_bytes(graph: Graph, order: Sequence[Node]) -> int:
    """The largest sum of bytes that nodes' results hold at one time; inputs and constants do not count."""
    roots = view_roots(graph)
    last = last_uses(graph, order, roots)
    ranges = (LiveRange(r.type.nbytes, t, last[r]) for t, node in enumerate(order) if node.operands for r in node.results if roots[r] is r)
    return max(live_bytes(ranges, len(order)), default=0)
