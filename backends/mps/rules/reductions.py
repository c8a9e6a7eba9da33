"""Reductions, places of extremes, running sums. Integers sum in 64 bits, 16-bit floats in float32."""

from __future__ import annotations

import math
from typing import Any

from nagraph.backends.mps.conversion import cast
from nagraph.backends.mps.rules.rule import Rule
from nagraph.backends.mps.rules.sorting import order_key
from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES, is_float
from nagraph.ops import arg_extremum, cumulative, reduction

Array = Any
I64 = DTYPES["i64"]
#: Floats that MLX is asked to add up in one go: of each thread's part of them rounding errors add up.
MOST_SUMMED = 4096
#: The least block of a longer sum.
LEAST_BLOCK = 64


def _folding(function: str, of_bools: str = "") -> Rule:
    """MLX's reduction of this name, another for bools if one is named."""
    def call(m: Any, op: reduction.Reduction, x: Array) -> Array:
        source = m.dtype(x)
        x = cast(m, x, op.result_dtype(source))
        name = of_bools if of_bools and source == BOOL else function
        return getattr(m, name)(x, axis=list(op.axes)) if op.axes else x

    return Rule(call)


def _sum(m: Any, op: reduction.Reduction, x: Array) -> Array:
    """A sum; a long one of floats is a sum of sums, axis by axis and block by block."""
    x = cast(m, x, op.result_dtype(m.dtype(x)))
    if not op.axes or not is_float(m.dtype(x)) or math.prod(x.shape[a] for a in op.axes) <= MOST_SUMMED:
        return m.sum(x, axis=list(op.axes)) if op.axes else x
    for axis in reversed(op.axes):
        x = _along(m, x, axis)
    return x


def _along(m: Any, x: Array, axis: int) -> Array:
    n, before, after = x.shape[axis], x.shape[:axis], x.shape[axis + 1:]
    if n <= MOST_SUMMED:
        return m.sum(x, axis=axis)
    size = max(d for d in range(1, MOST_SUMMED + 1) if n % d == 0)
    if size >= LEAST_BLOCK:
        return _along(m, m.sum(m.reshape(x, [*before, n // size, size, *after]), axis=axis + 1), axis)
    lead, even = (slice(None),) * axis, n - n % MOST_SUMMED
    return m.add(_along(m, m.part(x, (*lead, slice(0, even))), axis), m.sum(m.part(x, (*lead, slice(even, n))), axis=axis))


def _place(function: str) -> Rule:
    """MLX's argmax or argmin; of floats by keys, so that the first nan comes before all."""
    def call(m: Any, op: arg_extremum.ArgExtremum, x: Array) -> Array:
        if not x.size:
            return m.to(m.any(x, axis=op.axis), I64)
        if is_float(m.dtype(x)):
            x = order_key(m, x, nan_last=function == "argmax")
        elif m.dtype(x) == BOOL:
            x = m.to(x, DTYPES["u8"])
        return m.to(getattr(m, function)(x, axis=op.axis), I64)

    return Rule(call)


def _running(function: str) -> Rule:
    def call(m: Any, op: cumulative.Cumulative, x: Array) -> Array:
        x = cast(m, x, op.result_dtype(m.dtype(x)))
        return getattr(m, function)(x, axis=op.axis, reverse=op.reverse) if x.size else x

    return Rule(call)


RULES: dict[type[Op], Rule] = {
    reduction.Sum: Rule(_sum), reduction.RowSum: Rule(_sum), reduction.Prod: _folding("prod"),
    reduction.Max: _folding("max", "any"), reduction.Min: _folding("min", "all"),
    reduction.All: _folding("all"), reduction.Any_: _folding("any"),
    arg_extremum.ArgMax: _place("argmax"), arg_extremum.ArgMin: _place("argmin"),
    cumulative.Cumsum: _running("cumsum"), cumulative.Cumprod: _running("cumprod"),
    cumulative.Cummax: _running("cummax"), cumulative.Cummin: _running("cummin"),
}
