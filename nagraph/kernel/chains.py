"""Chains: what an order of additions means, written down in NumPy. Its `accumulate` combines one element after another, as a chain does."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.kernel.form import Consecutive, Order

Array = np.ndarray[Any, Any]


def combined(ufunc: np.ufunc, start: Any, x: Array, order: Order | None) -> Array:
    """The combination of x[..., outer, inner] over its last two axes, of which the innermost reduced loop is the second.

    start: what nothing is combined with. Without an order, in order. Shape: the leading axes. Dtype: that of x.
    """
    if isinstance(order, Consecutive) and order.length:
        return _consecutive(ufunc, start, x.reshape(*x.shape[:-2], -1), order)
    if order is None or isinstance(order, Consecutive):
        return _chain(ufunc, start, x.reshape(*x.shape[:-2], -1))
    blocks: dict[int, list[Array]] = {}  # by the number of chains, of each part the points of a chain along the last but one axis
    for first, (stop, chains) in zip([0, *(stop for stop, _ in order.parts)], order.parts):
        part = _padded(start, x[..., first:stop], chains)
        blocks.setdefault(chains, []).append(part.reshape(*part.shape[:-1], -1, chains))
    found = [_tree(ufunc, _side_by_side(ufunc, start, np.concatenate(parts, -2))) for parts in blocks.values()]
    return _chain(ufunc, None, np.stack(found, -1)) if found else np.full(x.shape[:-2], start, x.dtype)


def in_order(ufunc: np.ufunc, x: Array, axes: tuple[int, ...]) -> Array:
    """The combination of x over these axes, row-major, one element after another, beginning with the first; they keep length 1."""
    rest = [a for a in range(x.ndim) if a not in axes]
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    return _chain(ufunc, None, x.transpose(*rest, *axes).reshape(*(x.shape[a] for a in rest), -1)).reshape(shape)


def _chain(ufunc: np.ufunc, start: Any, x: Array) -> Array:
    """start and then all along the last axis, one after another; without a start the first element begins."""
    if start is not None:
        x = np.concatenate([np.full((*x.shape[:-1], 1), start, x.dtype), x], -1)
    result: Array = ufunc.accumulate(x, axis=-1, dtype=x.dtype)[..., -1]
    return result


def _consecutive(ufunc: np.ufunc, start: Any, x: Array, order: Consecutive) -> Array:
    size = x.shape[-1]
    runs = [(first, min(first + (order.run or size), size)) for first in range(0, size, order.run or size)]
    chains = [(a, min(a + order.length, stop)) for first, stop in runs for a in range(first, stop, order.length)]
    found = [_chain(ufunc, start, x[..., a:b]) for a, b in (reversed(chains) if order.backwards else chains)]
    return _chain(ufunc, None, np.stack(found, -1))


def _side_by_side(ufunc: np.ufunc, start: Any, x: Array) -> Array:
    """What each chain gives: [..., outer, blocks, chains] combined over the blocks of all outer points."""
    return _chain(ufunc, start, np.moveaxis(x.reshape(*x.shape[:-3], -1, x.shape[-1]), -1, -2))


def _tree(ufunc: np.ufunc, x: Array) -> Array:
    """The second half of the last axis combined into the first, and so on, until one is left."""
    while x.shape[-1] > 1:
        low, high = np.split(x, 2, -1)
        x = ufunc(low, high)
    return x[..., 0]


def _padded(start: Any, x: Array, chains: int) -> Array:
    """x with as many more elements along its last axis as make whole blocks; combined with them, nothing changes."""
    missing = -x.shape[-1] % chains
    return np.concatenate([x, np.full((*x.shape[:-1], missing), start, x.dtype)], -1)
