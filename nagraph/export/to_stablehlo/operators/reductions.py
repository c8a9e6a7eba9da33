"""Reductions, places of extremes, running sums: the op's own rule of combination is the body of StableHLO's reduction.

Integers sum in 64 bits, 16-bit floats in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.registry import translates
from nagraph.export.to_stablehlo.shapes import I64
from nagraph.export.to_stablehlo.text import array_text
from nagraph.ir.types import TensorType
from nagraph.ops import arg_extremum, cumulative, reduction


def combination(m: Body, fold: Any, x: Sequence[Ref], y: Sequence[Ref]) -> list[Ref]:
    """Two states of a fold as one: elements, not tensors."""
    s = m.scalars(())
    return [v.raw for v in fold.combine(s, tuple(map(s.of, x)), tuple(map(s.of, y)))]


def start_of(m: Body, fold: Any, xs: Sequence[Ref]) -> list[Ref]:
    """The state before the first element."""
    return [v.raw for v in fold.start(m.scalars(()), [x.dtype for x in xs])]


def fold_region(m: Body, fold: Any, xs: Sequence[Ref]) -> str:
    """The region that combines two states."""
    elements = [TensorType(x.dtype, ()) for x in xs]
    return m.region(elements * 2, lambda *both: combination(m, fold, both[:len(xs)], both[len(xs):]))


def reduced(m: Body, fold: Any, xs: Sequence[Ref], axes: Sequence[int]) -> list[Ref]:
    """Tensors of one shape combined over axes, as the parts of one state."""
    shape = tuple(n for a, n in enumerate(xs[0].shape) if a not in axes)
    return m.op("stablehlo.reduce", (*xs, *start_of(m, fold, xs)), [x.type.with_shape(shape) for x in xs], [fold_region(m, fold, xs)],
                dimensions=array_text(axes))


def folded_windows(m: Body, fold: Any, xs: Sequence[Ref], shape: Sequence[int], window: Sequence[int], stride: Sequence[int],
                   padding: Sequence[tuple[int, int]]) -> list[Ref]:
    """Tensors of one shape combined over windows of all axes; the padding holds the state before the first element."""
    rows = ", ".join(f"[{low}, {high}]" for low, high in padding)
    return m.op("stablehlo.reduce_window", (*xs, *start_of(m, fold, xs)), [x.type.with_shape(tuple(shape)) for x in xs],
                [fold_region(m, fold, xs)], window_dimensions=array_text(window), window_strides=array_text(stride),
                padding=f"dense<[{rows}]> : tensor<{len(padding)}x2xi64>")


@translates(reduction.Sum, reduction.RowSum, reduction.Prod, reduction.Max, reduction.Min, reduction.All, reduction.Any_)
def reduce(m: Body, node: Any, x: Ref) -> Any:
    op = node.op
    x = m.cast(x, op.result_dtype(x.dtype))
    return reduced(m, op.fold_op, [x], op.axes) if op.axes else x


@translates(arg_extremum.ArgMax, arg_extremum.ArgMin)
def arg_extreme(m: Body, node: Any, x: Ref) -> Ref:
    return reduced(m, node.op, [x, m.iota(I64, x.shape, node.op.axis)], (node.op.axis,))[1]


@translates(cumulative.Cumsum, cumulative.Cumprod, cumulative.Cummax, cumulative.Cummin)
def running(m: Body, node: Any, x: Ref) -> Any:
    """A window over all that came before, one for each element: implementations know it, and do it by halves.

    A window has a size that is known; an axis whose size is not is gone through step by step.
    """
    op = node.op
    x = m.cast(x, op.result_dtype(x.dtype))
    n = x.shape[op.axis]
    if type(n) is not int:
        return _step_by_step(m, op.fold_op, x, op.axis, op.reverse)
    if 0 in x.shape:
        return x
    whole = [n if a == op.axis else 1 for a in range(x.ndim)]
    reach = (0, n - 1) if op.reverse else (n - 1, 0)
    padding = [reach if a == op.axis else (0, 0) for a in range(x.ndim)]
    return folded_windows(m, op.fold_op, [x], x.shape, whole, [1] * x.ndim, padding)


def _step_by_step(m: Body, fold: Any, x: Ref, axis: int, reverse: bool) -> Ref:
    n, zero = x.shape[axis], m.size(0)
    row = x.type.with_shape(tuple(1 if a == axis else k for a, k in enumerate(x.shape)))
    s = m.scalars(row.shape)
    (first,) = fold.start(s, [x.dtype])
    seen = m.with_room(x, n, axis)
    start = [zero, first.raw, m.with_room(m.full(0, x.type), n, axis)]

    def going(counter: Ref, *_: Ref) -> list[Ref]:
        return [m.compare("LT", counter, m.size(n))]

    def step(counter: Ref, state: Ref, y: Ref) -> list[Ref]:
        at = m.elementwise("subtract", m.size(n - 1), counter) if reverse else counter
        where = [at if a == axis else zero for a in range(x.ndim)]
        (new,) = fold.combine(s, (s.of(state),), (s.of(m.block_at(seen, where, row.shape)),))
        return [m.elementwise("add", counter, m.size(1)), new.raw, m.with_block(y, new.raw, where)]

    types = [v.type for v in start]
    found = m.op("stablehlo.while", start, types, [m.region(types, going), m.region(types, step)])[2]
    return m.slice(found, (0,) * x.ndim, x.shape)
