"""The steps of folds in scalars: how a fold begins, takes one more point, and how two parts of it become one."""

from __future__ import annotations

from nagraph.ir.op import Op
from nagraph.ir.scalar import Scalar, ScalarBuilder
from nagraph.ir.types import BOOL
from nagraph.kernel.form import Fold, Stage
from nagraph.ops.reduction import Sum

#: The values that a fold carries from point to point.
State = tuple[Scalar, ...]
#: What joins parts of a sum of products.
PRODUCTS = Sum(())


def start(fold: Fold, stage: Stage, s: ScalarBuilder) -> State:
    """The state before the first point."""
    dtypes = [stage.body[v].dtype for v in fold.values]
    if fold.is_contraction:
        return (s.constant(0, dtypes[0]),)
    made: State = fold.op.start(s, dtypes)  # type: ignore[union-attr]
    return made


def step(fold: Fold, s: ScalarBuilder, state: State, values: State) -> State:
    """The state after one more point."""
    if fold.is_contraction:
        x, y = values
        return (multiply_add(s, x, y, state[0]),)
    return combine(fold.op, s, state, values)  # type: ignore[arg-type]


def join(fold: Fold, s: ScalarBuilder, x: State, y: State) -> State:
    """Two states as one."""
    return combine(fold.op or PRODUCTS, s, x, y)


def combine(op: Op, s: ScalarBuilder, x: State, y: State) -> State:
    """Two states, joined by an op's `combine`."""
    made: State = op.combine(s, x, y)  # type: ignore[attr-defined]
    return made


def multiply_add(s: ScalarBuilder, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z: fused for floats; on bools `or` of `and`."""
    if x.dtype == BOOL:
        return (x & y) | z
    return s.fma(x, y, z) if x.dtype.kind == "f" else x * y + z
