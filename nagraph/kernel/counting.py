"""Counting runs a kernel on made-up operands and counts what it reads and writes where places are data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nagraph.errors import VerifyError
from nagraph.ir.types import BOOL, INTEGERS
from nagraph.kernel.form import Kernel
from nagraph.kernel.interpret import Array, Interpreter


def count_stores(kernel: Kernel, sizes: Sequence[int], seed: int = 0) -> list[Array]:
    """How often each place of each result is written. VerifyError if a place is read or written outside of its operand.

    sizes: the elements of the operands' memory. Integers that the kernel reads are any of their dtype, most of them small.
    """
    rng = np.random.default_rng(seed)
    memory = [_numbers(rng, dtype, size) for dtype, size in zip(kernel.operands, sizes, strict=True)]
    counting = _Counting(kernel, memory)
    counting.interpret()
    return counting.counts


class _Counting(Interpreter):
    def __init__(self, kernel: Kernel, memory: list[Array]):
        super().__init__(kernel, memory)
        self.first = len(memory) - kernel.outputs
        self.counts = [np.zeros(a.size, np.int64) for a in memory[self.first:]]

    def put(self, operand: int, places: Array, value: Array) -> None:
        self._check("writes", operand, places)
        np.add.at(self.counts[operand - self.first], places, 1)
        super().put(operand, places, value)

    def get(self, operand: int, places: Array, mask: Array | None) -> Array:
        held = places if mask is None else np.broadcast_to(places, np.broadcast_shapes(places.shape, mask.shape))
        self._check("reads", operand, held if mask is None else held[np.broadcast_to(mask, held.shape)])
        return super().get(operand, places, mask)

    def _check(self, what: str, operand: int, places: Array) -> None:
        size = self.memory[operand].size
        outside = places[(places < 0) | (places >= size)]
        if outside.size:
            raise VerifyError(f"the kernel {what} element {outside.reshape(-1)[0]} of operand {operand}, which has {size}")


def _numbers(rng: np.random.Generator, dtype: np.dtype, size: int) -> Array:  # type: ignore[type-arg]
    if dtype == BOOL:
        return rng.random(size) < 0.5
    if dtype not in INTEGERS:
        return rng.normal(size=size).astype(dtype)
    ends = np.iinfo(dtype)
    small = rng.integers(max(ends.min, -9), 9, size).astype(dtype)
    return np.where(rng.random(size) < 0.8, small, rng.integers(ends.min, ends.max, size, dtype, endpoint=True))
