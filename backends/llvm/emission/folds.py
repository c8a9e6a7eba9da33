"""Folds: how the values of many points become one, lane by lane and then across the lanes."""

from __future__ import annotations

from nagraph.backends.llvm.text.builder import FunctionBuilder
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.op import Op
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import BOOL
from nagraph.kernel.form import Fold, Stage
from nagraph.ops.reduction import Sum

#: The values that a fold carries from point to point.
State = tuple[Scalar, ...]
#: What joins parts of a sum of products.
PRODUCTS = Sum(())


def start(fold: Fold, stage: Stage, lanes: Lanes) -> State:
    """The state before the first point."""
    dtypes = [stage.body[v].dtype for v in fold.values]
    if fold.is_contraction:
        return (lanes.constant(0, dtypes[0]),)
    made: State = fold.op.start(lanes, dtypes)  # type: ignore[attr-defined]
    return made


def step(fold: Fold, lanes: Lanes, state: State, values: State) -> State:
    """The state after one more point."""
    return (multiply_add(lanes, *values, state[0]),) if fold.is_contraction else combine(fold.op, lanes, state, values)


def join(fold: Fold, lanes: Lanes, x: State, y: State) -> State:
    """Two states as one."""
    return combine(fold.op or PRODUCTS, lanes, x, y)


def across(fold: Fold, code: FunctionBuilder, state: State) -> State:
    """The lanes of a state joined: halves, quarters, ... so that the order depends on the width alone."""
    width = state[0].s.width  # type: ignore[attr-defined]
    while width > 1:
        half = width // 2
        narrow = Lanes(code, half)
        low, high = (tuple(_part(code, narrow, x, first) for x in state) for first in (0, half))
        state, width = join(fold, narrow, low, high), half
    return state


def _part(code: FunctionBuilder, narrow: Lanes, x: Scalar, first: int) -> Scalar:
    """The lanes of x from `first` on."""
    if narrow.width == 1:
        return Scalar(narrow, x.dtype, code.emit(narrow.type(x.dtype), f"extractelement {x.raw}, i64 {first}"))
    places = ", ".join(f"i32 {first + i}" for i in range(narrow.width))
    text = f"shufflevector {x.raw}, {x.raw.type} poison, <{narrow.width} x i32> <{places}>"
    return Scalar(narrow, x.dtype, code.emit(narrow.type(x.dtype), text))


def combine(op: Op, lanes: Lanes, x: State, y: State) -> State:
    """Two states, joined by an op's `combine`."""
    made: State = op.combine(lanes, x, y)  # type: ignore[attr-defined]
    return made


def multiply_add(lanes: Lanes, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z: fused for floats; on bools `or` of `and`."""
    if x.dtype == BOOL:
        return (x & y) | z
    return lanes.fma(x, y, z) if x.dtype.kind == "f" else x * y + z
