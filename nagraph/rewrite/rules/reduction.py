"""Rules of reductions and contractions."""

from __future__ import annotations

from typing import Any

from nagraph.ops.contraction import DotGeneral, free_axes
from nagraph.ops.reduction import Max, Min, Sum
from nagraph.rewrite.pattern import attributes, holes, op
from nagraph.rewrite.rule import floats, inexact, integers, on, rules, where

x, y = holes("x y")
p, q, c, b = attributes("p q c b")
Axes = tuple[int, ...]


def _both(p: Axes, q: Axes, rank: int) -> Axes:
    """The axes p of a tensor, and those of what remains that q names, as axes of the tensor."""
    left = free_axes(rank, p)
    return tuple(sorted((*p, *(left[i] for i in q))))


def _seen_through(side: int, c: Any, b: Any, p: Axes) -> tuple[Any, Any]:
    """The paired axes when the operand of this side is taken before its transpose p."""
    move = [tuple(p[i] for i in axes[side]) for axes in (c, b)]
    pairs = [(m, axes[1]) if side == 0 else (axes[0], m) for m, axes in zip(move, (c, b))]
    return pairs[0], pairs[1]


def _free_in_order(side: int, c: Any, b: Any, p: Axes) -> bool:
    """Whether the operand's own axes have the same order before the transpose."""
    own = [p[i] for i in free_axes(len(p), c[side], b[side])]
    return own == sorted(own)


RULES = rules(
    ("max over no axes", op.max(x, axes=()), x, on(x=(2, 3))),
    ("min over no axes", op.min(x, axes=()), x, on(x=(2, 3))),
    ("max of max", op.max(op.max(x, axes=p), axes=q), lambda x, p, q: Max(_both(p, q, x.ndim))(x), on(x=(2, 3, 4), p=(1,), q=(1,))),
    ("min of min", op.min(op.min(x, axes=p), axes=q), lambda x, p, q: Min(_both(p, q, x.ndim))(x), on(x=(2, 3, 4), p=(1,), q=(1,))),
    ("sum of sum (integers)", op.sum(op.sum(x, axes=p), axes=q), lambda x, p, q: Sum(_both(p, q, x.ndim))(x), integers,
     on(x=(2, 3, 4), p=(0,), q=(1,))),
    ("max (-x) => -(min x)", op.max(-x, axes=p), lambda x, p: -Min(p)(x), floats, on(x=(2, 3), p=(1,))),
    ("min (-x) => -(max x)", op.min(-x, axes=p), lambda x, p: -Max(p)(x), floats, on(x=(2, 3), p=(1,))),
    ("dot of a transposed left operand", op.dot_general(op.transpose(x, axes=p), y, contract=c, batch_axes=b),
     lambda x, y, p, c, b: DotGeneral(*_seen_through(0, c, b, p))(x, y), where(lambda c, b, p: _free_in_order(0, c, b, p)),
     on(x=(5, 3), y=(5, 4), p=(1, 0), c=((1,), (0,)), b=((), ()))),
    ("dot of a transposed right operand", op.dot_general(x, op.transpose(y, axes=p), contract=c, batch_axes=b),
     lambda x, y, p, c, b: DotGeneral(*_seen_through(1, c, b, p))(x, y), where(lambda c, b, p: _free_in_order(1, c, b, p)),
     on(x=(3, 5), y=(4, 5), p=(1, 0), c=((1,), (0,)), b=((), ()))),
    ("(-x) · (-y) => x · y", op.dot_general(-x, -y, contract=c, batch_axes=b), lambda x, y, c, b: DotGeneral(c, b)(x, y),
     on(x=(3, 5), y=(5, 4), c=((1,), (0,)), b=((), ()))),
    # These change the sign of zero: a sum of zeros is 0.0.
    ("sum over no axes", op.sum(x, axes=()), x, floats, inexact, on(x=(2, 3))),
    ("sum (-x) => -(sum x)", op.sum(-x, axes=p), lambda x, p: -Sum(p)(x), floats, inexact, on(x=(2, 300), p=(1,))),
    ("sum of sum", op.sum(op.sum(x, axes=p), axes=q), lambda x, p, q: Sum(_both(p, q, x.ndim))(x), floats, inexact,
     on(x=(2, 3, 4), p=(0,), q=(1,))),
)
