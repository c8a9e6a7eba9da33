"""Movement: the same numbers at other indices. Most of it is views in MLX as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nagraph.backends.mps.conversion import cast
from nagraph.backends.mps.rules.rule import Rule
from nagraph.ir.constant import Constant
from nagraph.ir.op import Op
from nagraph.ir.types import DTYPES
from nagraph.ops import identities, joining, movement, slicing
from nagraph.ops.size_numbers import SizeNumber

Array = Any
I32, I64 = DTYPES["i32"], DTYPES["i64"]


def _iota(m: Any, op: movement.Iota) -> Array:
    n = op.shape[op.axis]
    line = cast(m, m.range(n, I32 if n <= 1 << 31 else I64), op.dtype)
    return m.reshape(line, [n if a == op.axis else 1 for a in range(len(op.shape))])


def _slice(m: Any, op: slicing.Slice, x: Array) -> Array:
    return m.part(x, tuple(map(slice, op.start, op.stop, op.step)))


def _pad(m: Any, op: slicing.Pad, x: Array) -> Array:
    fill = m.number(op.value, m.dtype(x))
    for axis, inner in enumerate(op.inner):
        if inner and x.shape[axis] > 1:
            x = _spread(m, x, axis, inner, fill)
    widths = list(zip(op.low, op.high))
    return m.pad(x, widths, constant_values=fill) if any(map(any, widths)) else x


def _spread(m: Any, x: Array, axis: int, inner: int, fill: Array) -> Array:
    """x with `inner` elements between neighbours on an axis: a new axis behind it is padded, the two are one, the end is cut off."""
    shape = list(x.shape)
    rows = m.reshape(x, [*shape[:axis + 1], 1, *shape[axis + 1:]])
    padded = m.pad(rows, [(0, inner if a == axis + 1 else 0) for a in range(len(shape) + 1)], constant_values=fill)
    shape[axis] *= inner + 1
    return m.part(m.reshape(padded, shape), (*(slice(None),) * axis, slice(0, shape[axis] - inner)))


def _concatenate(m: Any, op: joining.Concatenate, *xs: Array) -> Array:
    return m.concatenate(list(xs), axis=op.axis)


def _recompute(m: Any, op: Op, x: Array) -> Array:
    """x as a value of its own, of which MLX does not know that it is x: what is computed of it is computed again."""
    return m.depends([x], [x])[0]


def _same(m: Any, op: Op, x: Array) -> Array:
    return x


def strided(m: Any, x: Array, shape: Sequence[int], strides: Sequence[int]) -> Array:
    """The view of an array, row-major, by strides in elements."""
    return m.as_strided(m.contiguous(x), list(shape), list(strides), 0) if math.prod(shape) else m.zeros(list(shape), dtype=x.dtype)


def row_strides(shape: Sequence[int]) -> list[int]:
    """The strides of a row-major array, in elements."""
    return [math.prod(shape[a + 1:]) for a in range(len(shape))]


RULES: dict[type[Op], Rule] = {
    Constant: Rule(lambda m, op: m.constant(op.array)), SizeNumber: Rule(lambda m, op: m.number(op.size, op.dtype)),
    movement.Reshape: Rule(lambda m, op, x: m.shaped(x, op.shape)),
    movement.Transpose: Rule(lambda m, op, x: m.ordered(x, op.axes)),
    movement.Broadcast: Rule(lambda m, op, x: m.broadcast_to(x, op.shape)),
    movement.Flip: Rule(lambda m, op, x: m.flip(x, op.axes)),
    movement.Iota: Rule(_iota), slicing.Slice: Rule(_slice), slicing.Pad: Rule(_pad), joining.Concatenate: Rule(_concatenate),
    identities.Materialize: Rule(lambda m, op, x: m.contiguous(x)),
    identities.Recompute: Rule(_recompute), identities.StopGradient: Rule(_same),
}
