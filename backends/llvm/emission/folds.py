"""Folds across lanes: how the states of the lanes become one."""

from __future__ import annotations

from nagraph.backends.llvm.text.builder import FunctionBuilder
from nagraph.backends.llvm.text.lanes import Lanes
from nagraph.ir.scalar import Scalar
from nagraph.kernel.fold_steps import State, join
from nagraph.kernel.form import Fold


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
