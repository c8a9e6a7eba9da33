"""Width: what several ops compute of 16-bit floats is computed in float32 and rounded once, at the end.

An op alone does so by `Primitive.widens`. Here the same holds for what is made of ops: composites, losses, statistics,
derivatives. Other dtypes pass unchanged, so graphs of float32 know nothing of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from nagraph.ir.graph import Value
from nagraph.ir.types import DType, is_float
from nagraph.ops.base import F32, NARROW_FLOATS, Linear, Multilinear, Primitive, cast
from nagraph.ops.operands import taken
from nagraph.ops.rules import Maybe, checked

Rule = Callable[..., tuple[Maybe, ...]]


def widen(x: Any) -> Any:
    """x in float32 if it is a 16-bit float, else x itself (also None, and what is no array)."""
    return cast(x, F32) if getattr(x, "dtype", None) in NARROW_FLOATS else x


def rounded(x: Any, dtype: DType | None) -> Any:
    """A result, or each of several, in `dtype` if it was computed in float32; None leaves them."""
    if dtype is None or x is None:
        return x
    if isinstance(x, (tuple, list)):
        return type(x)(rounded(y, dtype) for y in x)
    return cast(x, dtype) if x.dtype == F32 else x


def common(operands: Sequence[Any]) -> DType | None:
    """The 16-bit dtype of all floating operands, to which results are rounded; None if there is no such one."""
    found = {x.dtype for x in operands if hasattr(x, "dtype") and is_float(x.dtype) and not getattr(x, "weak", False)}
    return next(iter(found)) if len(found) == 1 and found <= NARROW_FLOATS else None


def widened(fn: Callable[..., Any]) -> Callable[..., Any]:
    """fn with 16-bit operands given in float32 and its float32 results rounded to their common dtype."""

    @functools.wraps(fn)
    def computed(*operands: Any, **options: Any) -> Any:
        operands, options = tuple(map(taken, operands)), {k: taken(v) for k, v in options.items()}
        dtype = common((*operands, *options.values()))
        found = fn(*map(widen, operands), **{k: widen(v) for k, v in options.items()})
        return rounded(found, dtype)

    return computed


def derivative(op: Any, rule: Rule, given: Sequence[Maybe], results: Sequence[Value], operands: Sequence[Value],
               like: Sequence[Value]) -> tuple[Maybe, ...]:
    """An op's `vjp` or `jvp` in the width in which the op computes; what it finds has the dtypes and shapes of `like`.

    Products of linear ops are rounded once as they are.
    """
    nonlinear = isinstance(op, Primitive) and op.widens and not isinstance(op, (Linear, Multilinear))
    wide = nonlinear and any(v.dtype in NARROW_FLOATS for v in operands)
    found = rule(*(tuple(map(widen, vs) if wide else vs) for vs in (given, results, operands)))
    derived = checked(op, rule.__name__, found, [v.shape for v in like])
    return tuple(None if c is None else cast(c, x.dtype) for c, x in zip(derived, like)) if wide else derived
