"""Orders along an axis: TopK of all elements, which keeps the order of equal ones; ONNX Runtime puts nan last, as we do."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.elementwise import as_dtype, widened
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.node import Node
from nagraph.ir.types import DTYPES
from nagraph.ops import sorting

I64, U64 = DTYPES["i64"], DTYPES["u64"]
#: With this bit turned over, unsigned integers of 64 bits are, as signed ones, in their order.
_HIGHEST_BIT = np.array(np.iinfo(np.int64).min)


def _sorted(w: Any, node: Node, x: Any) -> tuple[str, str]:
    """Values, in a dtype that TopK compares and in which they have the same order, and indices."""
    axis = node.op.axis  # type: ignore[attr-defined]
    inside = w.emit("BitwiseXor", w.cast(x, I64), _HIGHEST_BIT) if x.dtype == U64 else as_dtype(w, x, widened(w, "TopK", x.dtype))
    values, indices = w.emit("TopK", inside, w.size(x.shape[axis]), axis=axis, largest=0, results=2)
    return values, indices


@translation(sorting.Argsort)
def argsort(w: Any, node: Node, x: Any) -> str:
    return _sorted(w, node, x)[1]


@translation(sorting.Sort)
def sort(w: Any, node: Node, x: Any) -> str:
    values = _sorted(w, node, x)[0]
    if x.dtype == U64:
        return str(w.cast(w.emit("BitwiseXor", values, _HIGHEST_BIT), U64))
    return values if widened(w, "TopK", x.dtype) == x.dtype else str(w.cast(values, x.dtype))
