"""Windows: views by strides, and folds over them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.backends.mps.rules.movement import row_strides, strided
from nagraph.backends.mps.rules.rule import Rule
from nagraph.ir.graph import Value
from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES, TensorType
from nagraph.ops import pooling
from nagraph.ops.convolution import spread
from nagraph.ops.reduction import lowest
from nagraph.ops.window_products import padded_by
from nagraph.ops.windows import Windows

Array = Any
I64 = DTYPES["i64"]


def _windows(m: Any, op: Windows, x: Array) -> Array:
    strides = row_strides(x.shape)
    inside = [strides[a] * d for a, d in zip(op.axes, op.dilation)]
    for a, s in zip(op.axes, op.stride):
        strides[a] *= s
    return strided(m, x, op.infer(TensorType(m.dtype(x), tuple(x.shape))).shape, [*strides, *inside])


def _seen(m: Any, op: Any, x: Array, fill: Any) -> Array:
    """[..., window's numbers, window as one axis]: what each window over the last axes sees, `fill` in the padding."""
    d, dtype = len(op.window), m.dtype(x)
    shape = pooling.pooled_shape(op.name, TensorType(dtype, tuple(x.shape)), op.window, op.stride, op.padding)
    if not math.prod(shape):
        return m.zeros([*shape, math.prod(op.window)], dtype=x.dtype)
    padded = x
    if any(map(any, op.padding)):
        padded = m.pad(x, [(0, 0)] * (x.ndim - d) + list(op.padding), constant_values=m.number(fill, dtype))
    strides = row_strides(padded.shape)
    steps = [*strides[:x.ndim - d], *(s * k for s, k in zip(strides[x.ndim - d:], op.stride))]
    view = strided(m, padded, (*shape, *op.window), (*steps, *strides[x.ndim - d:]))
    return m.reshape(view, [*shape, math.prod(op.window)])


def _maximum(m: Any, op: pooling.WindowMax, x: Array) -> Array:
    dtype = m.dtype(x)
    seen = _seen(m, op, x, lowest(dtype))
    return (m.any if dtype == BOOL else m.max)(seen, axis=-1)


def _place(m: Any, op: pooling.WindowArgmax, x: Array) -> Array:
    """The place of the first largest element, or nan: padding never wins, not even where all elements are as low as it."""
    spatial = x.shape[x.ndim - len(op.window):]
    numbers = pooling.windows_of(np.arange(math.prod(spatial)).reshape(spatial), op.window, op.stride, op.padding, -1)
    numbers = m.constant(numbers.reshape(*numbers.shape[:len(spatial)], -1))
    seen = _seen(m, op, x, lowest(m.dtype(x)))
    largest = m.equal(seen, (m.any if m.dtype(x) == BOOL else m.max)(seen, axis=-1, keepdims=True))
    one, two = (m.number(k, DTYPES["i32"]) for k in (1, 2))
    rank = m.add(m.add(one, m.to(largest, DTYPES["i32"])), m.multiply(two, m.to(m.not_equal(seen, seen), DTYPES["i32"])))
    rank = m.where(m.less(numbers, m.number(0, I64)), m.number(0, DTYPES["i32"]), rank)
    chosen = m.argmax(rank, axis=-1, keepdims=True)
    return m.part(m.take_along_axis(m.broadcast_to(numbers, seen.shape), chosen, axis=-1), (..., 0))


def _total(m: Any, op: pooling.WindowSum, x: Array) -> Array:
    return m.to(m.sum(_seen(m, op, x, 0), axis=-1), m.dtype(x))


def _put(m: Any, op: pooling.WindowPut, u: Array, places: Array) -> Array:
    """For each place inside of the window, what the windows put there, spread out to where the windows lie; all of these are added."""
    d, dtype = len(op.sizes), m.dtype(u)
    lead = u.ndim - d
    shape = (*u.shape[:lead], *op.sizes)
    zero = m.number(0, dtype)
    if not math.prod(u.shape):
        return m.broadcast_to(zero, shape)
    total = None
    for tap in itertools.product(*map(range, op.window)):
        number = m.constant(_numbers(op, u.shape[lead:], tap))
        value = m.where(m.equal(places, number), u, zero)
        value = m.composed(lambda v, tap=tap: _laid_out(op, v, tap), value)
        total = value if total is None else m.add(total, value)
    return total


def _laid_out(op: pooling.WindowPut, v: Value, tap: Sequence[int]) -> Value:
    """The elements of windows where those at `tap` of the windows lie."""
    lead = v.ndim - len(tap)
    starts = [t - low for t, (low, _) in zip(tap, op.padding)]
    ends = [n - start - spread(count, s) for n, start, count, s in zip(op.sizes, starts, v.shape[lead:], op.stride)]
    return padded_by(v, (*((0, 0),) * lead, *zip(starts, ends)), (*(0,) * lead, *(s - 1 for s in op.stride)))


def _numbers(op: pooling.WindowPut, counts: Sequence[int], tap: Sequence[int]) -> np.ndarray[Any, Any]:
    """For each window the number of its element at `tap`; -1 where that lies in the padding."""
    found, inside = np.zeros(counts, np.int64), np.ones(counts, bool)
    for axis, (n, t, s, (low, _)) in enumerate(zip(op.sizes, tap, op.stride, op.padding)):
        at = (np.arange(counts[axis]) * s + t - low).reshape([-1 if a == axis else 1 for a in range(len(counts))])
        found, inside = found * n + at, inside & (0 <= at) & (at < n)
    return np.where(inside, found, -1)


RULES: dict[type[Op], Rule] = {
    Windows: Rule(_windows), pooling.WindowMax: Rule(_maximum), pooling.WindowArgmax: Rule(_place), pooling.WindowSum: Rule(_total),
    pooling.WindowPut: Rule(_put),
}
