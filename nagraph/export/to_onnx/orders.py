"""Orders: values in a dtype in which an operator compares them, as they compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph.export.to_onnx.dtypes import I64, U64, computed_in
from nagraph.export.to_onnx.operators.elementwise import as_dtype, widened

#: With this bit turned over, unsigned integers of 64 bits are, as signed ones, in their order.
_HIGHEST_BIT = np.array(np.iinfo(np.int64).min)


def ordered(w: Any, operator: str, x: Any) -> tuple[Any, Callable[[str], str]]:
    """x in a dtype that the operator compares, in the same order; and what makes values of x of such values."""
    if x.dtype == U64 and computed_in(operator, U64) is None:
        return w.emit("BitwiseXor", w.cast(x, I64), _HIGHEST_BIT), lambda y: str(w.cast(w.emit("BitwiseXor", y, _HIGHEST_BIT), U64))
    inside = widened(w, operator, x.dtype)
    return as_dtype(w, x, inside), lambda y: y if inside == x.dtype else str(w.cast(y, x.dtype))
