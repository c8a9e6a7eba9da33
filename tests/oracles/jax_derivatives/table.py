"""Functions that use every op and composite with a derivative, JAX's for the same, and operands of odd shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nagraph as ng
import nagraph.numpy as np_
from nagraph.nn import functional as F

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape], np.ndarray]


def real(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return np.asarray(rng.normal(size=shape))


def between(low: float, high: float) -> Draw:
    return lambda rng, shape: np.asarray(rng.uniform(low, high, size=shape))


def numbers(below: int) -> Draw:
    return lambda rng, shape: np.asarray(rng.integers(0, below, size=shape))


def once(below: int) -> Draw:
    """Numbers none of which comes twice."""
    return lambda rng, shape: rng.permutation(below)[:int(np.prod(shape))].reshape(shape)


def truth(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return np.asarray(rng.random(size=shape) < 0.5)


positive = between(0.3, 3.0)
ONE: tuple[tuple[Shape, ...], ...] = (((),), ((0,),), ((1,),), ((3,),), ((17,),), ((65,),), ((7, 5),), ((33, 3),), ((2, 0, 3),))
TWO = (((), ()), ((3,), (3,)), ((7, 1), (1, 5)), ((0,), (1,)), ((17,), ()), ((2, 1, 3), (4, 1)), ((65, 3), (3,)))
THREE = (((), (), ()), ((5,), (5,), (5,)), ((3, 1), (1, 4), ()), ((0, 2), (2,), (1,)), ((33,), (1,), (33,)))
MATRICES = (((1, 1),), ((3, 17),), ((33, 5),), ((0, 3),), ((4, 0),), ((2, 3, 5),))


@dataclass(frozen=True)
class Row:
    """ours(*operands) and theirs(*operands); for each operand how it is drawn, and the shapes of all, one set after another."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    draws: Sequence[Draw]
    shapes: Sequence[Sequence[Shape]]


def unary(name: str, theirs: Any = None, draw: Draw = real) -> Row:
    return Row(getattr(np_, name), theirs or getattr(jnp, name), (draw,), ONE)


def binary(name: str, x: Draw = real, y: Draw = real) -> Row:
    return Row(getattr(np_, name), getattr(jnp, name), (x, y), TWO)


ELEMENTWISE = {
    **{n: unary(n) for n in ("abs", "arcsinh", "arctan", "cbrt", "ceil", "cos", "cosh", "exp", "exp2", "expm1", "floor", "negative", "rint",
                             "sign", "sin", "sinh", "square", "tan", "tanh", "trunc")},
    **{n: unary(n, draw=positive) for n in ("log", "log10", "log2", "log1p", "sqrt", "reciprocal")},
    **{n: unary(n, draw=between(-0.9, 0.9)) for n in ("arccos", "arcsin", "arctanh")},
    "arccosh": unary("arccosh", draw=between(1.2, 4.0)), "rsqrt": unary("rsqrt", jax.lax.rsqrt, positive),
    "erf": unary("erf", jax.scipy.special.erf), "erfc": unary("erfc", jax.scipy.special.erfc), "sigmoid": unary("sigmoid", jax.nn.sigmoid),
    **{n: binary(n) for n in ("add", "subtract", "multiply", "maximum", "minimum", "copysign", "arctan2")},
    "divide": binary("divide", real, positive), "power": binary("power", positive, real),
    "remainder": binary("remainder", real, positive), "fmod": binary("fmod", real, positive),
    "floor_divide": binary("floor_divide", real, positive),
    "clip": Row(np_.clip, jnp.clip, (real, between(-1, -0.2), between(0.2, 1)), THREE),
    "where": Row(np_.where, jnp.where, (truth, real, real), THREE),
    "cast": Row(lambda x: np_.astype(np_.astype(x, "f32"), x.dtype), lambda x: x.astype("float32").astype(x.dtype), (real,), ONE),
    "stop_gradient": Row(lambda x: x * ng.stop_gradient(x), lambda x: x * jax.lax.stop_gradient(x), (real,), ONE),
}
ACTIVATIONS = {
    "relu": Row(F.relu, jax.nn.relu, (real,), ONE), "silu": Row(F.silu, jax.nn.silu, (real,), ONE),
    "gelu": Row(F.gelu, partial(jax.nn.gelu, approximate=False), (real,), ONE), "gelu_tanh": Row(F.gelu_tanh, jax.nn.gelu, (real,), ONE),
    "elu": Row(F.elu, jax.nn.elu, (real,), ONE), "leaky_relu": Row(F.leaky_relu, jax.nn.leaky_relu, (real,), ONE),
    "softplus": Row(F.softplus, jax.nn.softplus, (real,), ONE),
}


def along(ours: Any, theirs: Any, draw: Draw = real, **options: Any) -> Row:
    return Row(partial(ours, **options), partial(theirs, **options), (draw,), (((1,),), ((17,),), ((3, 5),), ((33, 3),), ((2, 7, 3),)))


REDUCTIONS = {
    "sum": along(np_.sum, jnp.sum), "sum of rows": along(np_.sum, jnp.sum, axis=-1), "sum of columns": along(np_.sum, jnp.sum, axis=0),
    "mean": along(np_.mean, jnp.mean, axis=-1, keepdims=True), "prod": along(np_.prod, jnp.prod, positive, axis=0),
    "max": along(np_.max, jnp.max, axis=-1), "min": along(np_.min, jnp.min, axis=0), "var": along(np_.var, jnp.var, axis=-1),
    "std": Row(partial(np_.std, axis=-1), partial(jnp.std, axis=-1), (real,), (((17,),), ((3, 5),), ((2, 7, 3),))),
    "norm": along(np_.linalg.norm, jnp.linalg.norm, axis=-1), "cumsum": along(np_.cumsum, jnp.cumsum, axis=0),
    "cumprod": along(np_.cumprod, jnp.cumprod, positive, axis=-1), "cummax": along(np_.cummax, jax.lax.cummax, axis=0),
    "cummin": along(np_.cummin, jax.lax.cummin, axis=0), "sort": along(np_.sort, jnp.sort, axis=-1),
    "trace": Row(np_.trace, jnp.trace, (real,), MATRICES[:5]), "softmax": along(F.softmax, jax.nn.softmax, axis=-1),
    "log_softmax": along(F.log_softmax, jax.nn.log_softmax, axis=0), "logsumexp": along(F.logsumexp, jax.nn.logsumexp, axis=-1),
    "top_k": Row(lambda x: np_.top_k(x, 1)[0], lambda x: jax.lax.top_k(x, 1)[0], (real,), (((5,),), ((3, 17),))),
}
MOVEMENT = {
    "transpose": Row(np_.transpose, jnp.transpose, (real,), MATRICES), "flip": Row(np_.flip, jnp.flip, (real,), MATRICES),
    "reshape": Row(lambda x: np_.reshape(x, (-1, 1)), lambda x: x.reshape((-1, 1)), (real,), (((3, 5),), ((17,),), ((2, 3, 5),))),
    "broadcast_to": Row(lambda x: np_.broadcast_to(x, (3, *x.shape)), lambda x: jnp.broadcast_to(x, (3, *x.shape)), (real,), ONE),
    "pad": Row(lambda x: np_.pad(x, 2), lambda x: jnp.pad(x, 2), (real,), MATRICES),
    "concatenate": Row(lambda x, y: np_.concatenate([x, y, x], axis=-1), lambda x, y: jnp.concatenate([x, y, x], axis=-1), (real, real),
                       (((3,), (5,)), ((2, 3), (2, 0)), ((7, 1), (7, 17)))),
    "roll": Row(lambda x: np_.roll(x, 2, -1), lambda x: jnp.roll(x, 2, -1), (real,), MATRICES),
    "tril": Row(np_.tril, jnp.tril, (real,), MATRICES), "diagonal": Row(np_.diagonal, jnp.diagonal, (real,), MATRICES),
    "repeat": Row(lambda x: np_.repeat(x, 3, 0), lambda x: jnp.repeat(x, 3, 0), (real,), MATRICES),
    "slice": Row(lambda x: x[1::2, ..., ::-1], lambda x: x[1::2, ..., ::-1], (real,), MATRICES),
    "dynamic_slice": Row(lambda x, i: np_.dynamic_slice(x, [i, 1], [2, 3]), lambda x, i: jax.lax.dynamic_slice(x, [i, 1], [2, 3]),
                         (real, numbers(5)), (((3, 5), ()), ((17, 4), ()))),
    "dynamic_update_slice": Row(lambda x, u, i: np_.dynamic_update_slice(x, u, [i, 0]),
                                lambda x, u, i: jax.lax.dynamic_update_slice(x, u, [i, jnp.zeros_like(i)]), (real, real, numbers(5)),
                                (((3, 5), (2, 3), ()), ((17, 4), (1, 4), ()))),
}
INDEXING = {
    "take": Row(lambda x, i: np_.take(x, i, axis=0), lambda x, i: jnp.take(x, i, axis=0), (real, numbers(3)),
                (((3,), (7,)), ((3, 5), (2, 3)), ((3, 17), (0,)), ((4, 3), ()))),
    "take_along_axis": Row(lambda x, i: np_.take_along_axis(x, i, -1), lambda x, i: jnp.take_along_axis(x, i, -1), (real, numbers(3)),
                           (((2, 3), (2, 5)), ((7, 3), (7, 1)), ((3, 3), (3, 0)))),
    "add_at": Row(np_.add_at, lambda x, i, v: x.at[i].add(v), (real, numbers(3), real),
                  (((3,), (7,), (7,)), ((3, 5), (4,), (4, 5)), ((5, 17), (33,), (33, 17)), ((3, 2), (0,), (0, 2)))),
    "set_at": Row(np_.set_at, lambda x, i, v: x.at[i].set(v), (real, once(7), real), (((7,), (3,), (3,)), ((17, 5), (4,), (4, 5)))),
    "max_at": Row(np_.max_at, lambda x, i, v: x.at[i].max(v), (real, once(7), real), (((7,), (3,), (3,)), ((17, 5), (4,), (4, 5)))),
    "min_at": Row(np_.min_at, lambda x, i, v: x.at[i].min(v), (real, once(7), real), (((7,), (3,), (3,)), ((17, 5), (4,), (4, 5)))),
}
PRODUCTS = {
    "matmul": Row(np_.matmul, jnp.matmul, (real, real), (((1, 1), (1, 1)), ((3, 17), (17, 5)), ((33,), (33, 7)), ((2, 3, 5), (5, 1)),
                                                         ((4, 0), (0, 3)), ((2, 1, 65, 3), (3, 3, 17)))),
    "bilinear": Row(lambda x, w, y: np_.einsum("bi,oij,bj->bo", x, w, y), lambda x, w, y: jnp.einsum("bi,oij,bj->bo", x, w, y),
                    (real,) * 3, (((3, 2), (5, 2, 7), (3, 7)), ((1, 1), (1, 1, 1), (1, 1)))),
    "einsum of a diagonal": Row(lambda x, y: np_.einsum("iij,j->ij", x, y), lambda x, y: jnp.einsum("iij,j->ij", x, y), (real, real),
                                (((3, 3, 5), (5,)), ((1, 1, 1), (1,)))),
    "einsum without sums": Row(lambda x, y: np_.einsum("ij,j->ij", x, y), lambda x, y: jnp.einsum("ij,j->ij", x, y), (real, real),
                               (((3, 5), (5,)), ((17, 1), (1,)), ((0, 3), (3,)))),
}


def _attention(q: Any, k: Any, v: Any, causal: bool) -> Any:
    s = q @ jnp.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if causal:
        s = jnp.where(np.tri(*s.shape[-2:], dtype=bool), s, -jnp.inf)
    return jax.nn.softmax(s.astype(q.dtype), axis=-1) @ v


def _standardised(x: Any, axes: Any, eps: float = 1e-5) -> Any:
    return (x - x.mean(axes, keepdims=True)) * jax.lax.rsqrt(x.var(axes, keepdims=True) + eps)


def _per_channel(v: Any, x: Any) -> Any:
    return v.reshape(-1, *(1,) * (x.ndim - 2))


def _pooled(x: Any, start: float, fold: Any) -> Any:
    window = (1,) * (x.ndim - 2) + (2, 2)
    return jax.lax.reduce_window(x, np.asarray(start, x.dtype), fold, window, window, "VALID")


QKV = (((1, 3, 4),) * 3, ((2, 1, 7, 5),) * 3, ((1, 17, 1),) * 3, ((2, 3, 1, 4), (2, 3, 1, 4), (2, 3, 1, 6)))
LAYERS = {
    "attention": Row(F.attention, partial(_attention, causal=False), (real,) * 3, QKV),
    "causal attention": Row(partial(F.attention, causal=True), partial(_attention, causal=True), (real,) * 3, QKV),
    "layer_norm": Row(F.layer_norm, lambda x, w, b: _standardised(x, -1) * w + b, (real,) * 3,
                      (((3, 17), (17,), (17,)), ((65, 5), (5,), (5,)))),
    "rms_norm": Row(F.rms_norm, lambda x, w: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w, (real,) * 2,
                    (((3, 17), (17,)), ((2, 3, 1), (1,)))),
    "group_norm": Row(partial(F.group_norm, groups=2), lambda x: _standardised(x.reshape(x.shape[0], 2, -1), -1).reshape(x.shape), (real,),
                      (((3, 4, 5),), ((1, 2, 3, 3),))),
    "batch_norm": Row(F.batch_norm, lambda x, m, v: (x - _per_channel(m, x)) * jax.lax.rsqrt(_per_channel(v, x) + 1e-5),
                      (real, real, positive), (((3, 5), (5,), (5,)), ((2, 3, 4, 7), (3,), (3,)))),
    "batch_norm_training": Row(lambda x: F.batch_norm_training(x)[0], lambda x: _standardised(x, (0, *range(2, x.ndim))), (real,),
                               (((7, 3),), ((3, 2, 5),), ((2, 3, 4, 3),))),
    "conv": Row(lambda x, w: F.conv(x, w, 2, 1), lambda x, w: jax.lax.conv_general_dilated(x, w, (2, 2), [(1, 1), (1, 1)]), (real, real),
                (((2, 3, 7, 5), (4, 3, 3, 3)), ((1, 1, 3, 3), (1, 1, 1, 1)), ((3, 2, 17, 4), (5, 2, 2, 1)))),
    "depthwise conv": Row(lambda x, w: F.conv(x, w, groups=x.shape[1]), lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1), "VALID", feature_group_count=x.shape[1]), (real, real), (((2, 3, 7, 5), (3, 1, 3, 3)), ((1, 1, 4, 4), (1, 1, 2, 2)))),
    "max_pool": Row(lambda x: F.max_pool(x, (2, 2)), lambda x: _pooled(x, -np.inf, jax.lax.max), (real,),
                    (((2, 3, 6, 4),), ((1, 1, 7, 5),))),
    "avg_pool": Row(lambda x: F.avg_pool(x, (2, 2)), lambda x: _pooled(x, 0, jax.lax.add) / 4, (real,), (((2, 3, 6, 4),), ((1, 1, 7, 5),))),
    "cross_entropy": Row(F.cross_entropy, lambda x, y: -jnp.take_along_axis(jax.nn.log_softmax(x), y[..., None], -1)[..., 0],
                         (real, numbers(3)), (((7, 3), (7,)), ((2, 5, 3), (2, 5)), ((0, 3), (0,)))),
    "binary_cross_entropy": Row(ng.nn.losses.binary_cross_entropy, lambda p, t: -(t * jnp.log(p) + (1 - t) * jnp.log(1 - p)).mean(),
                                (between(0.1, 0.9), between(0.1, 0.9)), (((7,), (7,)), ((3, 5), (3, 5)))),
    "rope": Row(F.rope, lambda x, c, s: jnp.concatenate([x[..., :x.shape[-1] // 2] * c - x[..., x.shape[-1] // 2:] * s,
                                                         x[..., x.shape[-1] // 2:] * c + x[..., :x.shape[-1] // 2] * s], -1), (real,) * 3,
                (((3, 4), (3, 2), (3, 2)),)),
}


def _ours_scan(c: Any, xs: Any) -> Any:
    last, ys = ng.scan(lambda c, x: (np_.tanh(c * x + c), c * c), c, xs)
    return np_.concatenate([np_.reshape(ys, (-1,)), np_.reshape(last, (-1,))])


def _their_scan(c: Any, xs: Any) -> Any:
    last, ys = jax.lax.scan(lambda c, x: (jnp.tanh(c * x + c), c * c), c, xs)
    return jnp.concatenate([ys.reshape(-1), last.reshape(-1)])


CONTROL = {
    "scan": Row(_ours_scan, _their_scan, (real, real), (((), (7,)), ((3,), (5, 3)), ((1,), (1, 1)))),
    "cond": Row(lambda p, x: ng.cond(p, np_.sin, np_.square, x), lambda p, x: jax.lax.cond(p, jnp.sin, jnp.square, x), (truth, real),
                (((), ()), ((), (17,)), ((), (3, 5)))),
    "checkpoint": Row(ng.checkpoint(lambda x: np_.sin(np_.exp(x))), jax.checkpoint(lambda x: jnp.sin(jnp.exp(x))), (real,), ONE),
}

TABLE = {**ELEMENTWISE, **ACTIVATIONS, **REDUCTIONS, **MOVEMENT, **INDEXING, **PRODUCTS, **LAYERS, **CONTROL}
