"""Slices with moving starts: a block of an array read, or replaced, at a place that is data.

A start is clipped so that the block fits, since a graph has no way to raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.builder import constant
from nagraph.ir.graph import Value
from nagraph.ir.integers import integers
from nagraph.ir.op import Array, op
from nagraph.ir.sizes import smaller
from nagraph.ir.types import INTEGERS, TensorType
from nagraph.ops.base import Linear, cast
from nagraph.ops.elementwise import maximum, minimum
from nagraph.ops.indexing import I64, Axes, Gather, Scatter, iota
from nagraph.ops.movement import broadcast_to, reshape
from nagraph.ops.operands import Operand
from nagraph.ops.rules import Maybe, with_batch_axis, zeros_like


@op
class DynamicSlice(Linear):
    """A block of x: y[i, j] = x[a + i, b + j], the starts a, b operands of rank 0, one per axis.

    Shape: the attribute `sizes`. Dtype: that of x. A start is clipped to 0 ... n - size, so the block fits.
    """

    sizes: Axes = (2,)

    def infer(self, *operands: TensorType) -> TensorType:
        x, *starts = operands
        check_starts(self.name, x, self.sizes, starts)
        return x.with_shape(self.sizes)

    def reference(self, *operands: Array) -> Array:
        x, *starts = operands
        return x[block(x.shape, self.sizes, starts)]

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        shape, sizes = operands[0].shape, self.sizes
        return lambda x, *rest: np.copyto(rest[-1], x[block(shape, sizes, rest[:-1])])

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        x, *starts = operands
        first = (k.clamped(k.element(s, ()), n - m + 1) for s, n, m in zip(starts, x.shape, self.sizes))
        return int(k.element(x, tuple(k.sum([(i, 1), (f, 1)]) for i, f in zip(index, first))))

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        x, *starts = operands
        return (DynamicUpdateSlice()(zeros_like(x), ct, *starts),)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        x, *starts = operands
        if not any(batched[1:]):
            return (DynamicSlice((size, *self.sizes))(x, constant(np.int64(0)), *starts),)
        indices = block_indices(size, x.shape[batched[0]:], self.sizes, starts, batched[1:])
        axes = tuple(range(x.ndim))
        return (Gather(axes)(x, *(indices if batched[0] else indices[1:])),)

    def samples(self, rng: np.random.Generator) -> Any:
        x = rng.normal(size=[s + 2 for s in self.sizes])
        for start in (1, 9, -9):
            yield x, *(np.array(start) for _ in self.sizes)


@op
class DynamicUpdateSlice(Linear):
    """x with a block replaced by u: y[a + i, b + j] = u[i, j], elsewhere y = x; starts as in `dynamic_slice`.

    Shape and dtype: those of x; u has the rank and dtype of x and is nowhere larger.
    """

    linear = (0, 1)

    def infer(self, *operands: TensorType) -> TensorType:
        x, update, *starts = operands
        if x.dtype != update.dtype:
            raise TypeRuleError(f"{self.name}: dtypes differ: x {x}, update {update}; cast one of them")
        check_starts(self.name, x, update.shape, starts)
        return x

    def reference(self, *operands: Array) -> Array:
        x, update, *starts = operands
        y = x.copy()
        y[block(x.shape, update.shape, starts)] = update
        return y

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        def write(x: Array, update: Array, *rest: Array) -> None:
            y = rest[-1]
            if y is not x:
                np.copyto(y, x)
            y[block(x.shape, update.shape, rest[:-1])] = update

        return write

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        x, update, *starts = operands
        first = (k.clamped(k.element(s, ()), n - m + 1) for s, n, m in zip(starts, x.shape, update.shape))
        at = tuple(k.sum([(i, 1), (f, -1)]) for i, f in zip(index, first))
        inside = None
        for i, m in zip(at, update.shape):
            inside = k.within(i, m, 1, inside)
        if inside is None:
            return int(k.element(update, at))
        with k.masked(inside):
            new = k.element(update, at)
        return int(k.select(inside, new, k.element(x, index)))

    def in_place(self, count: int) -> Sequence[int]:
        return (0,)

    def updates(self, result: int) -> int:
        return 0

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        x, update, *starts = operands
        return self(ct, zeros_like(update), *starts), DynamicSlice(update.shape)(ct, *starts)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        x, update = (with_batch_axis(v, b, size) for v, b in zip(operands[:2], batched))
        starts = operands[2:]
        if not any(batched[2:]):
            return (self(x, update, constant(np.int64(0)), *starts),)
        indices = block_indices(size, x.shape[1:], update.shape[1:], starts, batched[2:])
        return (Scatter(tuple(range(x.ndim)), "set")(x, update, *indices),)

    def samples(self, rng: np.random.Generator) -> Any:
        for start in (1, 9, -9):
            yield rng.normal(size=(4, 5)), rng.normal(size=(2, 3)), np.array(start), np.array(1)


def check_starts(name: str, x: TensorType, sizes: Axes, starts: Sequence[TensorType]) -> None:
    """TypeRuleError unless the block fits x and there is one integer start of rank 0 per axis."""
    if len(sizes) != x.rank or any(not 0 <= s <= n for s, n in zip(sizes, x.shape)):
        raise TypeRuleError(f"{name}: a block of shape {sizes} does not fit into x {x}")
    if len(starts) != x.rank or any(s.shape or s.dtype not in INTEGERS for s in starts):
        raise TypeRuleError(
            f"{name}: x {x} takes {x.rank} starts of integer dtype and rank 0, got {', '.join(map(str, starts))}"
        )


def block(shape: Axes, sizes: Axes, starts: Sequence[Array]) -> tuple[slice, ...]:
    """The slices that a block covers, its starts clipped so that it fits."""
    first = [min(max(int(s), 0), n - k) for s, n, k in zip(starts, shape, sizes)]
    return tuple(slice(f, f + k) for f, k in zip(first, sizes))


def block_indices(
    size: int, shape: Axes, sizes: Axes, starts: Sequence[Value], batched: Sequence[bool]
) -> list[Value]:
    """The number of the example, and the index on each axis, of every element of `size` blocks."""
    full_shape = (size, *sizes)
    indices = [iota(full_shape, 0)]
    for axis, (start, n, k, b) in enumerate(zip(starts, shape, sizes, batched)):
        first = maximum(cast(minimum(start, smaller(n - k, np.iinfo(start.dtype).max)), I64), np.int64(0))
        first = reshape(first, (size,) + (1,) * len(sizes)) if b else first
        indices.append(broadcast_to(first + iota(full_shape, axis + 1), full_shape))
    return indices


def dynamic_slice(x: Operand, starts: Sequence[Operand], sizes: Sequence[int]) -> Any:
    """The block of shape `sizes` that begins at `starts`, which may be traced; starts are clipped so that it fits."""
    return DynamicSlice(integers("dynamic_slice: sizes", sizes))(x, *starts)


def dynamic_update_slice(x: Operand, update: Operand, starts: Sequence[Operand]) -> Any:
    """x with the block that begins at `starts` replaced by `update`."""
    return DynamicUpdateSlice()(x, update, *starts)
