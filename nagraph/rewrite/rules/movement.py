"""Rules of movement: what moves elements without computing. All exact."""

from __future__ import annotations

from typing import Any

from nagraph.ir.graph import Value
from nagraph.ir.operators import COMMUTATIVE
from nagraph.ir.types import FLOATS, INTEGERS, DType
from nagraph.ops.base import cast
from nagraph.ops.movement import Flip, broadcast_to, reshape, transpose
from nagraph.ops.slicing import Slice
from nagraph.rewrite.pattern import attributes, holes, op
from nagraph.rewrite.rule import floats, on, rules, where

x, y, z = holes("x y z")
p, q, a, b, s, t, u, v, n = attributes("p q a b s t u v n")
Axes = tuple[int, ...]

#: Functions of one and of two operands for which an operand need not be broadcast beforehand.
UNARY = ("negative", "abs", "square", "reciprocal", "sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "erf", "logical_not")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "equal", "not_equal", "less", "less_equal", "greater",
          "greater_equal", "logical_and", "logical_or")


def compose(p: Axes, q: Axes) -> Axes:
    """First p, then q: axis i of the result is axis p[q[i]] of the operand."""
    return tuple(p[i] for i in q)


def _slices(x: Any, a: Axes, s: Axes, u: Axes, v: Axes, t: Axes) -> Any:
    """x[a::s][u:v:t] as one slice: starts and stops of the second counted in steps of the first."""
    sizes = tuple(-(-(j - i) // k) for i, j, k in zip(u, v, t))
    start = tuple(i + j * k if n else 0 for i, j, k, n in zip(a, u, s, sizes))
    step = tuple(i * j for i, j in zip(s, t))
    stop = tuple(i + ((k - 1) * j + 1 if k else 0) for i, j, k in zip(start, step, sizes))
    return Slice(start, stop, step)(x)


def _keeps(x: Value, p: DType) -> bool:
    """Whether every value of x's dtype survives a cast to p and back."""
    q = x.dtype
    if q in FLOATS and p in FLOATS:
        return p.itemsize > q.itemsize
    if q in INTEGERS and p in INTEGERS:
        return p.itemsize > q.itemsize and (p.kind == "i" or q.kind == "u")
    return q in INTEGERS and p in FLOATS and p.itemsize > q.itemsize and p.itemsize >= 4


RULES = rules(
    ("reshape of reshape", op.reshape(op.reshape(x), shape=p), lambda x, p: reshape(x, p), on(x=(2, 6), shape0=(3, 4), p=(4, 3))),
    ("reshape to the same shape", op.reshape(x, shape=p), x, where(lambda x, p: x.shape == p), on(x=(2, 6), p=(2, 6))),
    ("transpose of transpose", op.transpose(op.transpose(x, axes=p), axes=q), lambda x, p, q: transpose(x, compose(p, q)),
     on(x=(2, 3, 4), p=(1, 2, 0), q=(0, 2, 1))),
    ("transpose that moves nothing", op.transpose(x, axes=p), x, where(lambda p: p == tuple(range(len(p)))), on(x=(2, 3), p=(0, 1))),
    ("transpose of sizes 1 is a reshape", op.transpose(x, axes=p), lambda x, p: reshape(x, compose(x.shape, p)),
     where(lambda x, p: [i for i in p if x.shape[i] != 1] == sorted(i for i in p if x.shape[i] != 1)), on(x=(2, 1, 3), p=(1, 0, 2))),
    ("broadcast of broadcast", op.broadcast(op.broadcast(x, shape=p), shape=q), lambda x, q: broadcast_to(x, q),
     on(x=(3,), p=(2, 3), q=(4, 2, 3))),
    ("broadcast of axes of size 1 in front", op.broadcast(op.reshape(x, shape=q), shape=p), lambda x, p: broadcast_to(x, p),
     where(lambda x, q: q == (1,) * (len(q) - x.ndim) + x.shape), on(x=(3,), q=(1, 3), p=(2, 3)), on(x=(), q=(1, 1), p=(2, 3))),
    ("broadcast to the same shape", op.broadcast(x, shape=p), x, where(lambda x, p: x.shape == p), on(x=(2, 3), p=(2, 3))),
    ("slice of slice", op.slice(op.slice(x, start=a, step=s), start=u, stop=v, step=t), _slices,
     on(x=(20,), a=(1,), stop0=(19,), s=(2,), u=(1,), v=(8,), t=(3,)), on(x=(9,), a=(2,), stop0=(8,), s=(1,), u=(3,), v=(3,), t=(1,))),
    ("slice of everything", op.slice(x, start=a, stop=b, step=s), x,
     where(lambda x, a, b, s: not any(a) and b == x.shape and set(s) <= {1}), on(x=(2, 3), a=(0, 0), b=(2, 3), s=(1, 1))),
    ("flip of flip", op.flip(op.flip(x, axes=p), axes=q), lambda x, p, q: Flip(tuple(sorted(set(p) ^ set(q))))(x),
     on(x=(2, 3), p=(0,), q=(0, 1))),
    ("flip of no axes", op.flip(x, axes=()), x, on(x=(2, 3))),
    ("pad by nothing", op.pad(x, low=a, high=b, inner=s), x, where(lambda a, b, s: not any((*a, *b, *s))),
     on(x=(2, 3), a=(0, 0), b=(0, 0), s=(0, 0))),
    ("concatenate(concatenate(x, y), z) => concatenate(x, y, z)", op.concatenate(op.concatenate(x, y, axis=n), z, axis=n),
     op.concatenate(x, y, z, axis=n), on(x=(2, 3), y=(2, 1), z=(2, 2), n=1)),
    ("concatenate(x, concatenate(y, z)) => concatenate(x, y, z)", op.concatenate(x, op.concatenate(y, z, axis=n), axis=n),
     op.concatenate(x, y, z, axis=n), on(x=(2, 3), y=(2, 1), z=(2, 2), n=1)),
    ("concatenate of one", op.concatenate(x, axis=n), x, on(x=(2, 3), n=1)),
    ("cast to the same dtype", op.cast(x, dtype=p), x, where(lambda x, p: x.dtype == p), on(x=(2, 3), p="x")),
    ("cast back from a wider dtype", op.cast(op.cast(x, dtype=p), dtype=q), x,
     where(lambda x, p, q: x.dtype == q and _keeps(x, p)), on(x=(2, 3), p="f64", q="x")),
    ("cast of a wider cast", op.cast(op.cast(x, dtype=p), dtype=q), lambda x, q: cast(x, q),
     where(lambda x, p, q: x.dtype != q and _keeps(x, p) and x.dtype in FLOATS and q in FLOATS), on(x=(2, 3), p="f64", q="f16")),
    ("stop_gradient x => x", op.stop_gradient(x), x),
    *((f"{f}(broadcast x) => broadcast({f} x)", getattr(op, f)(op.broadcast(x, shape=p)), getattr(op, f)(x), on(x=(3,), p=(2, 3)))
      for f in UNARY),
    *((f"{f}(x, broadcast y) => {f}(x, y)", getattr(op, f)(x, op.broadcast(y, shape=p)), getattr(op, f)(x, y),
       on(x=(2, 3), y=(3,), p=(2, 3)), on(x=(), y=(2, 1), p=(2, 3))) for f in BINARY),
    *((f"{f}(broadcast x, y) => {f}(x, y)", getattr(op, f)(op.broadcast(x, shape=p), y), getattr(op, f)(x, y),
       on(x=(3,), y=(2, 3), p=(2, 3)), on(x=(2, 1), y=(3,), p=(2, 3))) for f in BINARY if f not in COMMUTATIVE),
    ("power(x, broadcast y) => power(x, y)", op.power(x, op.broadcast(y, shape=p)), op.power(x, y), floats,
     on(x=(2, 3), y=(3,), p=(2, 3)), on(x=(), y=(2, 1), p=(2, 3))),
)
