"""Orders along an axis: TopK of all elements, which keeps the order of equal ones; ONNX Runtime puts nan last, as we do."""

from __future__ import annotations

from typing import Any

from nagraph.export.to_onnx.orders import ordered
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.node import Node
from nagraph.ops import sorting


def _sorted(w: Any, node: Node, x: Any) -> tuple[str, str]:
    """Values and indices."""
    axis = node.op.axis  # type: ignore[attr-defined]
    inside, back = ordered(w, "TopK", x)
    values, indices = w.emit("TopK", inside, w.size(x.shape[axis]), axis=axis, largest=0, results=2)
    return back(values), indices


@translation(sorting.Argsort)
def argsort(w: Any, node: Node, x: Any) -> str:
    return _sorted(w, node, x)[1]


@translation(sorting.Sort)
def sort(w: Any, node: Node, x: Any) -> str:
    return _sorted(w, node, x)[0]
