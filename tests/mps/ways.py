"""What the tests of the MPS backend share: MLX without its compiler, which on a CPU calls g++, and arrays in any order of memory."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from nagraph.backends.mps.arrays import KIND
from nagraph.testing.draw import ORDERS


@pytest.fixture(autouse=True)
def op_by_op():
    """MLX computes each call by itself; `tests/mps/test_compiled.py` has it compile."""
    mx.disable_compile()
    yield
    mx.enable_compile()


def stored(x: np.ndarray, order: str) -> mx.array:
    """An array of MLX with these elements, in an order of `nagraph.testing.draw.ORDERS` in memory, as far as MLX has it."""
    if not x.shape or order in ("C", "unaligned"):
        return KIND.from_numpy(np.ascontiguousarray(x).reshape(x.shape))
    if order == "F":
        return mx.transpose(KIND.from_numpy(np.ascontiguousarray(x.T)))
    if order == "reversed":
        back = (slice(None, None, -1),) * x.ndim
        return KIND.from_numpy(np.ascontiguousarray(x[back]))[back]
    if order == "strided":
        wide = np.zeros([2 * n for n in x.shape], x.dtype)
        every = (slice(None, None, 2),) * x.ndim
        wide[every] = x
        return KIND.from_numpy(wide)[every]
    assert order == "broadcast"
    return mx.broadcast_to(KIND.from_numpy(np.ascontiguousarray(x[:1])), x.shape)


__all__ = ["ORDERS", "op_by_op", "stored"]
