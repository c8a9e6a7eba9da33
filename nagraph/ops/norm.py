"""Norms of vectors and matrices, as `np.linalg.norm` names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import MissingRuleError, TypeRuleError
from nagraph.ir.graph import Value
from nagraph.ir.integers import integers
from nagraph.ir.types import is_float
from nagraph.ops.base import cast
from nagraph.ops.comparison import not_equal
from nagraph.ops.elementwise import abs, power, square
from nagraph.ops.movement import expand_dims
from nagraph.ops.operands import F64, as_array, normalize_axis, shape_of
from nagraph.ops.reduction import max, min, sum
from nagraph.ops.special import root
from nagraph.ops.width import widened


@widened
def norm(x: Any, ord: Any = None, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:  # noqa: A002
    """Norm of a vector, or of a matrix where x has two axes or `axis` names two; without `ord` the Euclidean one, of any axes.

    Vectors: p for (Σ |x|^p)^(1/p), inf and -inf for the largest and least magnitude, 0 for how many are not 0.
    Matrices: "fro" (Euclidean), 1 and -1 (largest and least column sum of magnitudes), inf and -inf (row sums).
    The derivative of Euclidean norms at 0 is 0. Integers give float64. Raises MissingRuleError for matrices with ord 2, -2 and "nuc".
    """
    x = x if isinstance(x, Value) else as_array(x)
    x = x if is_float(x.dtype) else cast(x, F64)
    ord = ord.item() if isinstance(ord, (np.ndarray, np.generic)) and not ord.shape else ord  # noqa: A001
    rank = len(shape_of(x))
    axes = tuple(range(rank)) if axis is None else tuple(normalize_axis("norm", a, rank) for a in integers("norm: axis", axis))
    if ord is None and (axis is None or 1 <= len(axes) <= 2):
        return root(sum(square(x), axis=axes, keepdims=keepdims))
    if len(axes) == 1:
        return _vector(x, ord, axes[0], keepdims)
    if len(axes) == 2 and axes[0] != axes[1]:
        found = _matrix(x, ord, *axes)
        return expand_dims(found, tuple(sorted(axes))) if keepdims else found
    raise TypeRuleError(f"norm: ord={ord!r} is for vectors and matrices, that is one axis or two different ones; got axis {axis} of x "
                        f"of shape {shape_of(x)}")


def _vector(x: Any, ord: Any, axis: int, keepdims: bool) -> Any:  # noqa: A002
    if ord == 2:
        return root(sum(square(x), axis=axis, keepdims=keepdims))
    if ord in (np.inf, -np.inf):
        return _extreme(abs(x), axis, ord, keepdims)
    if ord == 0:
        return sum(cast(not_equal(x, 0), x.dtype), axis, keepdims=keepdims)
    if ord == 1:
        return sum(abs(x), axis, keepdims=keepdims)
    if isinstance(ord, (int, float)):
        return power(sum(power(abs(x), ord), axis, keepdims=keepdims), 1 / ord)
    raise TypeRuleError(f"norm: ord of a vector is a number, got {ord!r}")


def _extreme(x: Any, axis: int, sign: float, keepdims: bool = False) -> Any:
    """The largest or the least of magnitudes; of none the largest is 0."""
    if sign > 0 and shape_of(x)[axis] == 0:
        return sum(x, axis, keepdims=keepdims)
    return (max if sign > 0 else min)(x, axis, keepdims=keepdims)


def _matrix(x: Any, ord: Any, row: int, column: int) -> Any:  # noqa: A002
    """Of the axes that count rows and columns."""
    if ord == "fro":
        return root(sum(square(x), axis=(row, column)))
    if ord in (1, -1, np.inf, -np.inf):
        summed, other = (row, column) if ord in (1, -1) else (column, row)
        return _extreme(sum(abs(x), summed), other - (other > summed), ord)
    if ord in (2, -2, "nuc"):
        raise MissingRuleError(f"norm: ord={ord!r} of a matrix is not traced: it takes the singular values, for which graphs have no op; "
                               'the Euclidean norm of its elements is ord="fro", that of all elements of x is norm(x)')
    raise TypeRuleError(f'norm: ord of a matrix is "fro", 1, -1, inf or -inf, got {ord!r}')
