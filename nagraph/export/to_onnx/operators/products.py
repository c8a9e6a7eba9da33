"""Products of matrices."""

from __future__ import annotations

import math
from typing import Any

from nagraph.export.to_onnx.operators.elementwise import apply, as_dtype, widened
from nagraph.export.to_onnx.operators.movement import reshaped, transposed
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.node import Node
from nagraph.ir.types import BOOL, DTYPES
from nagraph.ops.contraction import DotGeneral

I32 = DTYPES["i32"]


@translation(DotGeneral)
def dot_general(w: Any, node: Node, x: Any, y: Any) -> str:
    """MatMul, with the axes in its order: batch, rows, n times batch, n, columns. On bools, the products that are not zero."""
    op: Any = node.op
    dtype = I32 if x.dtype == BOOL else widened(w, "MatMul", x.dtype, wraps=True)
    a, b = str(as_dtype(w, x, dtype)), str(as_dtype(w, y, dtype))
    (x_batch, y_batch), (x_sum, y_sum) = op.batch_axes, op.contract
    x_free, y_free = op.free(x.rank, y.rank)
    a, b = transposed(w, a, (*x_batch, *x_free, *x_sum)), transposed(w, b, (*y_batch, *y_sum, *y_free))
    batch = tuple(x.shape[i] for i in x_batch)
    rows, columns = tuple(x.shape[i] for i in x_free), tuple(y.shape[i] for i in y_free)
    n = tuple(x.shape[i] for i in x_sum)
    a_shape, b_shape = (*batch, *rows, *n), (*batch, *n, *columns)
    result = (*batch, *rows, *columns)
    # MatMul sums over one axis. Beside batch axes it takes one axis of rows and of columns, without them any rows. Vectors become
    # matrices: ONNX Runtime 1.32 computes the product of a transposed matrix and a vector wrong.
    one_n, one_columns = _one(n), _one(columns)
    one_rows = _one(rows) if batch or not rows else rows
    a = _reshaped(w, a, a_shape, (*batch, *one_rows, *one_n))
    b = _reshaped(w, b, b_shape, (*batch, *one_n, *one_columns))
    found = w.emit("MatMul", a, b)
    found = _reshaped(w, found, (*batch, *one_rows, *one_columns), result)
    if x.dtype == BOOL:
        return str(w.cast(found, BOOL))
    return str(found if dtype == x.dtype else w.cast(found, x.dtype))


def matmul(w: Any, x: Any, y: Any) -> str:
    """The product of matrices on the last two axes, in a dtype that MatMul has, result in theirs."""
    return apply(w, "MatMul", x, y, wraps=True)


def _one(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    return (math.prod(sizes),)


def _reshaped(w: Any, x: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> str:
    return x if old == new else reshaped(w, x, old, new)
