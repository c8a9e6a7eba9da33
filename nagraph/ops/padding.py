"""Padding: a tensor with others put around it, and between its elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ops.indexing import take
from nagraph.ops.joining import concatenate
from nagraph.ops.movement import broadcast_to, flip
from nagraph.ops.operands import shape_of
from nagraph.ops.slicing import Pad, slice_axis


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Any:
    """x with elements put around it: mode "constant", "edge" (the last one), or "reflect" (mirrored, edge not repeated).

    pad_width: a number, (low, high), or a pair for each axis.
    """
    rank = len(shape_of(x))
    widths = [(int(a), int(b)) for a, b in np.broadcast_to(np.asarray(pad_width), (rank, 2))]
    if mode == "constant":
        low, high = zip(*widths) if widths else ((), ())
        return Pad(tuple(low), tuple(high), (0,) * rank, float(constant_values))(x)
    if mode not in ("edge", "reflect"):
        raise TypeRuleError(f"pad: mode is constant, edge or reflect, got {mode!r}")
    for axis, (a, b) in enumerate(widths):
        n = shape_of(x)[axis]
        if not a and not b:
            continue
        if n == 0:
            raise TypeRuleError(f"pad: {mode} takes elements from axis {axis}, which has none")
        if mode == "reflect" and max(a, b) > n - 1:  # mirrored more than once
            x = take(x, np.pad(np.arange(n), (a, b), "reflect"), axis)
            continue
        if mode == "reflect":
            before, after = flip(slice_axis(x, axis, 1, a + 1), axis), flip(slice_axis(x, axis, n - 1 - b, n - 1), axis)
        else:
            shape = list(shape_of(x))
            before = broadcast_to(slice_axis(x, axis, 0, 1), [*shape[:axis], a, *shape[axis + 1:]])
            after = broadcast_to(slice_axis(x, axis, n - 1, n), [*shape[:axis], b, *shape[axis + 1:]])
        x = concatenate([before, x, after], axis=axis)
    return x
