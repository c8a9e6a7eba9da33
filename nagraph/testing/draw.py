"""Arrays for tests: of any dtype, and stored in any order that NumPy knows."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.ir.types import BOOL, as_dtype, is_float

Array = np.ndarray[Any, Any]

#: How the elements of an array can be ordered in memory.
ORDERS = ("C", "F", "reversed", "strided", "broadcast", "unaligned")


def draw(shape: tuple[int, ...], dtype: Any = "f32", order: str = "C", seed: int = 0, plain: bool = False) -> Array:
    """An array of random numbers in [-2, 2], of integers in [-3, 3] ([0, 6] without a sign), or of bools.

    order: "C" row-major, "F" column-major, "reversed" with a negative stride on each axis, "strided" every second element of
    a larger array along each axis, "broadcast" one element along the first axis repeated by a stride of 0, "unaligned" from an
    address that its dtype does not divide. plain: 1, 2, 3, ... in place of random numbers.
    """
    kind, rng = as_dtype(dtype), np.random.default_rng(seed)
    if plain:
        values = (np.arange(int(np.prod(shape))).reshape(shape) + 1)
    elif is_float(kind):
        values = np.round(rng.uniform(-2, 2, shape) * 64) / 64  # exact in every dtype
    elif kind == BOOL:
        values = rng.integers(0, 2, shape)
    else:
        values = rng.integers(0, 7, shape) - (3 if kind.kind == "i" else 0)
    return stored(np.asarray(values).astype(kind), order)


def stored(x: Array, order: str) -> Array:
    """The array x, its elements in this order in memory (`ORDERS`); "broadcast" repeats the first along the first axis."""
    if not x.shape or order == "C":
        return np.ascontiguousarray(x).reshape(x.shape)
    if order == "F":
        return np.asfortranarray(x)
    if order == "reversed":
        back = (slice(None, None, -1),) * x.ndim
        return np.ascontiguousarray(x[back])[back]
    if order == "strided":
        wide = np.zeros([2 * n for n in x.shape], x.dtype)
        every = (slice(None, None, 2),) * x.ndim
        wide[every] = x
        return wide[every]
    if order == "broadcast":
        return np.broadcast_to(x[:1], x.shape)
    if order == "unaligned":
        memory = np.zeros(x.nbytes + 1, np.uint8)
        moved = memory[1:].view(x.dtype).reshape(x.shape)
        moved[...] = x
        return moved
    raise ValueError(f"order is one of {', '.join(ORDERS)}; got {order!r}")
