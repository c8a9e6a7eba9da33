"""Triangles, diagonals and one-hot rows, written with iota, comparison and choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer
from nagraph.ir.sizes import Size, larger, smaller
from nagraph.ir.types import DTYPES, TensorType, too_large
from nagraph.ops.base import cast
from nagraph.ops.comparison import equal, greater_equal
from nagraph.ops.elementwise import where
from nagraph.ops.indexing import take
from nagraph.ops.movement import iota, moveaxis, reshape
from nagraph.ops.operands import as_array, plain_number, shape_of
from nagraph.ops.reduction import sum


def _band(x: Any, k: int, upper: bool) -> Any:
    shape, k = shape_of(x)[-2:], integer("tril and triu: k", k)
    if len(shape) != 2:
        raise TypeRuleError("tril and triu need at least 2 axes")
    k = smaller(larger(k, -shape[0]), shape[1])  # beyond these it is all or nothing
    x = x if isinstance(x, Value) else as_array(x)
    if isinstance(x, Value):
        row, column = iota("int32", shape, 0), iota("int32", shape, 1)
        edge = row + plain_number(k, np.int32)
        inside = greater_equal(column, edge) if upper else greater_equal(edge, column)
    else:
        rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])
        inside = columns - rows >= k if upper else columns - rows <= k
    return where(inside, x, np.zeros((), x.dtype))


def tril(x: Any, k: int = 0) -> Any:
    """x with zeros above the k-th diagonal of its last two axes."""
    return _band(x, k, upper=False)


def triu(x: Any, k: int = 0) -> Any:
    """x with zeros below the k-th diagonal of its last two axes."""
    return _band(x, k, upper=True)


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The offset-th diagonal of two axes, as the last axis of the result."""
    y, offset = moveaxis(x, (axis1, axis2), (-2, -1)), integer("diagonal: offset", offset)
    n, m = shape_of(y)[-2:]
    offset = smaller(larger(offset, -n), m)  # beyond these it is empty
    first = larger(0, -offset)
    count = larger(0, smaller(n, m - offset) - first)
    rows = iota("int64", (count,)) + first if isinstance(count, Size) else np.arange(first, first + count)
    flat = reshape(y, (*shape_of(y)[:-2], n * m))
    return take(flat, rows * m + rows + offset, axis=-1)


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of a diagonal."""
    return sum(diagonal(x, offset, axis1, axis2), axis=-1)


def one_hot(labels: Any, classes: int, dtype: Any = np.float32) -> Any:
    """y[..., c] = 1 where labels[...] = c, else 0: a row of zeros where the label is no class."""
    shape = (*shape_of(labels), integer("one_hot: classes", classes))
    if not (made := TensorType(DTYPES["i64"], shape)).possible:
        raise TypeRuleError(f"one_hot: {too_large(made)}")
    index = iota("int64", shape, len(shape) - 1) if isinstance(labels, Value) else np.arange(shape[-1])
    return cast(equal(index, cast(reshape(labels, (*shape[:-1], 1)), "int64")), dtype)
