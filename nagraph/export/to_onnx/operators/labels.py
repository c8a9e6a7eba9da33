"""Labels that are checked: an index out of range is an error in ONNX, and the one that there is."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.export.to_onnx.operators.indexing import number
from nagraph.export.to_onnx.registry import translation
from nagraph.export.to_onnx.scalars import Elements
from nagraph.ir.node import Node
from nagraph.ir.sizes import Size
from nagraph.ir.types import DTYPES, SIGNED, TensorType
from nagraph.ops.labels import CheckLabels

I64 = DTYPES["i64"]


@translation(CheckLabels)
def check_labels(w: Any, node: Node, x: Any) -> Any:
    """Labels plus the element of [0] at 0 where they are fine, and at 1, which it does not have, where they are not."""
    op: Any = node.op
    s, info = Elements(w), np.iinfo(x.dtype)
    label = s.of(x)
    wrong = ~s.constant(True, np.dtype(bool))
    if x.dtype in SIGNED:
        wrong |= label < 0
    if isinstance(op.classes, Size):
        wide = s.cast(label, I64)  # of uint64 what is beyond int64 is negative there
        wrong |= (wide < 0) | (wide >= s.of(w.operand(number(w, op.classes), TensorType(I64, ()))))
    elif op.classes <= info.max:
        wrong |= label >= op.classes
    if op.ignore is not None and info.min <= op.ignore <= info.max:
        wrong &= s.ne(label, op.ignore)
    if isinstance(wrong.raw, np.ndarray):
        return x
    nothing = w.emit("Gather", np.zeros(1, x.dtype), s.cast(wrong, I64).raw)
    return w.emit("Add", x, nothing)
