"""What nagraph's own functions mean, written with NumPy and loops alone: the oracle of random programs.

Nothing here is fast, and nothing calls nagraph: control flow is Python's, a batch is a loop, a derivative is a step along
the imaginary axis (Squire and Trapp 1998), which is exact to rounding for the analytic functions that programs differentiate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from nagraph.testing.noise import STEP

Array = Any
Fn = Callable[..., Any]


# -- control flow, batches, derivatives -------------------------------------------------------------------


def cond(predicate: Any, true: Fn, false: Fn, *operands: Any) -> Any:
    """true(*operands) or false(*operands)."""
    return true(*operands) if predicate else false(*operands)


def scan(fn: Fn, init: Any, xs: Array = None, length: int | None = None, reverse: bool = False) -> tuple[Any, Any]:
    """A loop over the first axis of xs; at least one step."""
    steps = range(len(xs) if length is None else length)
    carry, made = init, {}
    for t in reversed(steps) if reverse else steps:
        carry, made[t] = fn(carry, None if xs is None else xs[t])
    return carry, np.stack([made[t] for t in steps])


def while_loop(condition: Fn, body: Fn, init: Any, max_steps: int | None = None) -> Any:
    """body again and again while the condition holds."""
    carry, steps = init, 0
    while condition(carry) and steps != max_steps:
        carry, steps = body(carry), steps + 1
    return carry


def vmap(fn: Fn, in_axes: Any = 0, out_axes: int = 0) -> Fn:
    """fn for each place of the batch axis."""

    def batched(*args: Array) -> Array:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        size = next(a.shape[i] for a, i in zip(args, axes) if i is not None)
        at = [[a if i is None else np.take(a, n, axis=i) for a, i in zip(args, axes)] for n in range(size)]
        return np.stack([fn(*row) for row in at], axis=out_axes)

    return batched


def grad(fn: Fn) -> Fn:
    """The derivative of a sum of analytic functions of single elements, by a step along the imaginary axis.

    A step for all elements at once: so each element of the result must follow from the element at its place alone. In float32 the
    steps between are rounded to that width, as in whatever is held against it.
    """

    def derivative(x: Array) -> Array:
        width, step = (np.complex64, 1e-20) if x.dtype == np.float32 else (np.complex128, STEP)
        found = [np.imag(fn(np.full_like(x, v + 1j * step, dtype=width, shape=()))) / step for v in np.ravel(np.asarray(x, np.float64))]
        return np.asarray(found, np.float64).reshape(x.shape).astype(x.dtype)

    return derivative


def identity(fn: Fn) -> Fn:
    """The function itself: what `checkpoint` and `composite` mean."""
    return fn


def stop_gradient(x: Array) -> Array:
    return x


# -- functions that NumPy lacks ------------------------------------------------------------------------------


def _like(value: Array, x: Array) -> Array:
    return np.asarray(value).astype(np.asarray(x).dtype)


def erf(x: Array) -> Array:
    return _like(np.vectorize(math.erf, otypes=[np.float64])(np.asarray(x, np.float64)), x)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array, *, axis: int = -1) -> Array:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    m = np.max(x, axis=axis, keepdims=True)
    total = np.log(np.sum(np.exp(x - m), axis=axis, keepdims=True)) + m
    return total if keepdims else np.squeeze(total, axis=axis)


def log_softmax(x: Array, *, axis: int = -1) -> Array:
    return x - logsumexp(x, axis=axis, keepdims=True)


def gelu(x: Array) -> Array:
    return _like(x * (1 + erf(x / math.sqrt(2))) / 2, x)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softplus(x: Array) -> Array:
    return _like(np.logaddexp(np.asarray(x, np.float64), 0), x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def layer_norm(x: Array, weight: Array = None, bias: Array = None, *, eps: float = 1e-5) -> Array:
    y = (x - np.mean(x, axis=-1, keepdims=True)) / np.sqrt(np.var(x, axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(x: Array, weight: Array = None, *, eps: float = 1e-6) -> Array:
    y = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


def attention(q: Array, k: Array, v: Array, mask: Array = None, *, causal: bool = False, scale: float | None = None) -> Array:
    s = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    n, m = s.shape[-2:]
    if causal:
        s = np.where(np.arange(n)[:, None] + (m - n) >= np.arange(m), s, _like(-np.inf, s))
    return softmax(s) @ v


def cross_entropy(logits: Array, labels: Array) -> Array:
    return -np.take_along_axis(log_softmax(logits), np.asarray(labels, np.int64)[..., None], axis=-1)[..., 0]


def conv(x: Array, w: Array, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1) -> Array:
    """Cross-correlation, a product for each place of the window."""
    d = x.ndim - 2
    x = np.pad(x, ((0, 0), (0, 0), *((padding, padding),) * d))
    o, per = w.shape[:2]
    sizes = [(n - (k - 1) * dilation - 1) // stride + 1 for n, k in zip(x.shape[2:], w.shape[2:])]
    if min(sizes, default=1) < 1:
        raise ValueError("the window is larger than the image")
    out = np.zeros((x.shape[0], o, *sizes), np.result_type(x, w))
    for g in range(groups):
        mine = slice(g * o // groups, (g + 1) * o // groups)
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(slice(t * dilation, t * dilation + (n - 1) * stride + 1, stride) for t, n in zip(tap, sizes))
            piece = x[(slice(None), slice(g * per, (g + 1) * per), *at)]
            out[:, mine] += np.einsum("nc...,oc->no...", piece, w[(mine, slice(None), *tap)])
    return out


def _windows(x: Array, window: int, fill: Any) -> Array:
    return np.lib.stride_tricks.sliding_window_view(x, (window,) * (x.ndim - 2), tuple(range(2, x.ndim)))[
        (..., *(slice(None, None, window),) * (x.ndim - 2), *(slice(None),) * (x.ndim - 2))]


def max_pool(x: Array, window: int) -> Array:
    return _windows(x, window, -np.inf).max(axis=tuple(range(2 - x.ndim, 0)))


def avg_pool(x: Array, window: int) -> Array:
    return _windows(x, window, 0).mean(axis=tuple(range(2 - x.ndim, 0)))


# -- indexing ------------------------------------------------------------------------------------------------------


def _updated(at: Fn | None, x: Array, index: Any, value: Array) -> Array:
    out = np.array(x)
    if at is None:
        out[index] = value
    else:
        at(out, index, np.asarray(value).astype(out.dtype))
    return out


def set_at(x: Array, index: Any, value: Array) -> Array:
    return _updated(None, x, index, value)


def add_at(x: Array, index: Any, value: Array) -> Array:
    return _updated(np.add.at, x, index, value)


def max_at(x: Array, index: Any, value: Array) -> Array:
    return _updated(np.maximum.at, x, index, value)


def min_at(x: Array, index: Any, value: Array) -> Array:
    return _updated(np.minimum.at, x, index, value)


def one_hot(labels: Array, classes: int, dtype: Any = np.float32) -> Array:
    return (np.asarray(labels)[..., None] == np.arange(classes)).astype(dtype)


def dynamic_slice(x: Array, starts: Any, sizes: Any) -> Array:
    """A block whose start is moved so that it lies inside."""
    first = [min(max(int(s), 0), n - k) for s, n, k in zip(starts, x.shape, sizes)]
    return x[tuple(slice(f, f + k) for f, k in zip(first, sizes))]


def dynamic_update_slice(x: Array, update: Array, starts: Any) -> Array:
    out = np.array(x)
    first = [min(max(int(s), 0), n - k) for s, n, k in zip(starts, x.shape, update.shape)]
    out[tuple(slice(f, f + k) for f, k in zip(first, update.shape))] = update
    return out


def top_k(x: Array, k: int) -> tuple[Array, Array]:
    order = np.argsort(-np.asarray(x, np.float64), axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(x, order, axis=-1), order


#: What `ng` means in a program that plain NumPy runs.
plain = SimpleNamespace(
    cond=cond, scan=scan, while_loop=while_loop, vmap=vmap, grad=grad, checkpoint=identity, stop_gradient=stop_gradient,
    nn=SimpleNamespace(functional=SimpleNamespace(
        softmax=softmax, log_softmax=log_softmax, logsumexp=logsumexp, gelu=gelu, silu=silu, relu=relu, softplus=softplus, elu=elu,
        sigmoid=sigmoid, layer_norm=layer_norm, rms_norm=rms_norm, attention=attention, cross_entropy=cross_entropy, conv=conv,
        max_pool=max_pool, avg_pool=avg_pool)),
    numpy=SimpleNamespace(
        erf=erf, sigmoid=sigmoid, set_at=set_at, add_at=add_at, max_at=max_at, min_at=min_at, one_hot=one_hot, take=np.take,
        dynamic_slice=dynamic_slice, dynamic_update_slice=dynamic_update_slice, top_k=top_k,
        cummax=lambda x, axis: np.maximum.accumulate(x, axis=axis), cummin=lambda x, axis: np.minimum.accumulate(x, axis=axis)),
)
