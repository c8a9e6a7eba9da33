"""Reductions, places of extremes, running sums. Integers sum in 64 bits, 16-bit floats in float32."""

from __future__ import annotations

from typing import Any

from nagraph.backends.mps.conversion import cast
from nagraph.backends.mps.rules.rule import Rule
from nagraph.backends.mps.rules.sorting import order_key
from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES, is_float
from nagraph.ops import arg_extremum, cumulative, reduction

Array = Any
I64 = DTYPES["i64"]


def _folding(function: str, of_bools: str = "") -> Rule:
    """MLX's reduction of this name, another for bools if one is named."""
    def call(m: Any, op: reduction.Reduction, x: Array) -> Array:
        source = m.dtype(x)
        x = cast(m, x, op.result_dtype(source))
        name = of_bools if of_bools and source == BOOL else function
        return getattr(m, name)(x, axis=list(op.axes)) if op.axes else x

    return Rule(call)


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
    reduction.Sum: _folding("sum"), reduction.RowSum: _folding("sum"), reduction.Prod: _folding("prod"),
    reduction.Max: _folding("max", "any"), reduction.Min: _folding("min", "all"),
    reduction.All: _folding("all"), reduction.Any_: _folding("any"),
    arg_extremum.ArgMax: _place("argmax"), arg_extremum.ArgMin: _place("argmin"),
    cumulative.Cumsum: _running("cumsum"), cumulative.Cumprod: _running("cumprod"),
    cumulative.Cummax: _running("cummax"), cumulative.Cummin: _running("cummin"),
}
