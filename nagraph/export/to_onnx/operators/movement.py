"""Movement: the same numbers at other indices, joined, cut, padded."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.export.to_onnx.dtypes import computed_in
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.node import Node
from nagraph.ir.sizes import Size, larger
from nagraph.ir.types import DTYPES
from nagraph.ops import base, identities, joining, movement, size_numbers, slicing, windows
from nagraph.ops.convolution import spread, window_count

I64 = DTYPES["i64"]


@translation(base.Cast)
def cast(w: Any, node: Node, x: Any) -> str:
    return str(w.cast(x, node.result.dtype))


@translation(identities.StopGradient, identities.Materialize, identities.Recompute)
def identity(w: Any, node: Node, x: Any) -> Any:
    return x


@translation(movement.Reshape)
def reshape(w: Any, node: Node, x: Any) -> str:
    return reshaped(w, x, x.shape, node.result.shape)


def reshaped(w: Any, x: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> str:
    """x of shape `old` in shape `new`. One size that is known later is -1 in ONNX, one that stays on its axis is 0."""
    if 0 in new:
        return str(w.emit("Reshape", x, w.shape(new), allowzero=1))
    shape = [0 if isinstance(n, Size) and old[i:i + 1] == (n,) else n for i, n in enumerate(new)]
    unknown = [i for i, n in enumerate(shape) if isinstance(n, Size)]
    if len(unknown) == 1:
        shape[unknown[0]] = -1
    return str(w.emit("Reshape", x, w.shape(shape)))


@translation(movement.Transpose)
def transpose(w: Any, node: Node, x: Any) -> Any:
    return transposed(w, x, node.op.axes)  # type: ignore[attr-defined]


def transposed(w: Any, x: str, axes: tuple[int, ...]) -> str:
    return x if axes == tuple(range(len(axes))) else str(w.emit("Transpose", x, perm=axes))


@translation(movement.Broadcast)
def broadcast(w: Any, node: Node, x: Any) -> str:
    inside = computed_in("Expand", x.dtype)
    assert inside is not None
    found = broadcasted(w, x if inside == x.dtype else w.cast(x, inside), x.shape, node.result.shape)
    return found if inside == x.dtype else str(w.cast(found, x.dtype))


def broadcasted(w: Any, x: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> str:
    """x repeated to a shape. Where an axis has its size already, 1 keeps it."""
    lead = len(new) - len(old)
    shape = [1 if i >= lead and old[i - lead] == n else n for i, n in enumerate(new)]
    return str(w.emit("Expand", x, w.shape(shape)))


@translation(movement.Flip)
def flip(w: Any, node: Node, x: Any) -> str:
    return flipped(w, x, node.op.axes)  # type: ignore[attr-defined]


def flipped(w: Any, x: str, axes: tuple[int, ...]) -> str:
    """x with the order reversed on some axes."""
    if not axes:
        return x
    last = np.full(len(axes), np.iinfo(np.int64).min)
    return str(w.emit("Slice", x, np.full(len(axes), -1), last, np.array(axes), np.full(len(axes), -1)))


@translation(movement.Iota)
def iota(w: Any, node: Node) -> str:
    op: Any = node.op
    n, rank = op.shape[op.axis], len(op.shape)
    if isinstance(n, Size):
        line = w.emit("Range", np.array(0), w.emit("Squeeze", w.size(n), np.array([0])), np.array(1))
        line = line if op.dtype == I64 else w.cast(line, op.dtype)
        if rank > 1:
            line = w.emit("Unsqueeze", line, np.array([i for i in range(rank) if i != op.axis]))
    else:
        line = w.constant(np.arange(n).astype(op.dtype).reshape([n if i == op.axis else 1 for i in range(rank)]))
    return str(line) if rank == 1 else broadcasted(w, line, tuple(n if i == op.axis else 1 for i in range(rank)), op.shape)


@translation(size_numbers.SizeNumber)
def size_number(w: Any, node: Node) -> str:
    op: Any = node.op
    size = w.emit("Squeeze", w.size(op.size), np.array([0]))
    return str(size if op.dtype == I64 else w.cast(size, op.dtype))


@translation(joining.Concatenate)
def concatenate(w: Any, node: Node, *operands: Any) -> str:
    return str(w.emit("Concat", *operands, axis=node.op.axis))  # type: ignore[attr-defined]


@translation(slicing.Slice)
def cut(w: Any, node: Node, x: Any) -> Any:
    op: Any = node.op
    axes = [i for i, (a, b, s, n) in enumerate(zip(op.start, op.stop, op.step, x.shape)) if (a, b, s) != (0, n, 1)]
    if not axes:
        return x
    if len(axes) == 1 and (parts := _partition(w, node, axes[0])):
        key = str(x), axes[0]
        if key not in w.shared:
            sizes = np.array([stop - start for start, stop in parts])
            w.shared[key] = w.emit("Split", x, sizes, axis=axes[0], results=len(parts))
        return w.shared[key][parts.index((op.start[axes[0]], op.stop[axes[0]]))]
    whole = np.iinfo(np.int64).max
    stops = [whole if op.stop[i] == x.shape[i] else op.stop[i] for i in axes]
    starts, steps = (w.shape([along[i] for i in axes]) for along in (op.start, op.step))
    return str(w.emit("Slice", x, starts, w.shape(stops), np.array(axes), steps))


def _partition(w: Any, node: Node, axis: int) -> list[tuple[int, int]]:
    """The parts of an axis that slices of one value take, if they take each element once; else none."""
    (x,) = node.operands
    whole = slicing.Slice.whole(x.shape)
    parts = set()
    for reader in w.source.uses[x]:
        op: Any = reader.op
        if isinstance(op, slicing.Slice):
            start, stop = op.start[axis], op.stop[axis]
            if op == whole.with_attributes(**{name: (*getattr(whole, name)[:axis], n, *getattr(whole, name)[axis + 1:])
                                              for name, n in (("start", start), ("stop", stop))}):
                parts.add((start, stop))
    if len(parts) < 2 or any(isinstance(n, Size) for n in (x.shape[axis], *(n for part in parts for n in part))):
        return []
    found = sorted(parts)
    ends = [0, *(stop for _, stop in found)]
    return found if [start for start, _ in found] == ends[:-1] and ends[-1] == x.shape[axis] else []


def cropped(w: Any, x: Any, low: tuple[Any, ...], high: tuple[Any, ...]) -> Any:
    """x without the first `low` and the last `high` elements of each axis."""
    axes = [i for i, cut in enumerate(zip(low, high)) if cut != (0, 0)]
    if not axes:
        return x
    shape = tuple(larger(n - a - b, 0) for n, a, b in zip(x.shape, low, high))
    stops = [x.shape[i] if high[i] == 0 else -high[i] for i in axes]
    return w.operand(w.emit("Slice", x, w.shape([low[i] for i in axes]), w.shape(stops), np.array(axes)), x.type.with_shape(shape))


@translation(slicing.Pad)
def pad(w: Any, node: Node, x: Any) -> Any:
    op: Any = node.op
    return padded(w, x, op.low, op.high, op.inner, op.value)


def padded(w: Any, x: Any, low: tuple[Any, ...], high: tuple[Any, ...], inner: tuple[Any, ...], value: float) -> Any:
    """x with a value below and above on each axis, and `inner` of them between neighbours."""
    if not any(n != 0 for n in (*low, *high, *inner)):
        return x
    inside = computed_in("Pad", x.dtype) or x.dtype
    found, shape = str(x if inside == x.dtype else w.cast(x, inside)), list(x.shape)
    fill = np.asarray(value).astype(inside)
    for i, between in enumerate(inner):
        if between and shape[i] != 1:
            # Each element gets an axis of its own, which is padded and merged again; what follows the last element is cut off.
            apart = [*shape[:i + 1], between + 1, *shape[i + 1:]]
            pads = np.zeros(2 * len(apart), np.int64)
            pads[len(apart) + i + 1] = between
            found = w.emit("Pad", w.emit("Unsqueeze", found, np.array([i + 1])), pads, fill)
            shape[i] = shape[i] * (between + 1)
            found = reshaped(w, found, tuple(apart), tuple(shape))
            found = w.emit("Slice", found, np.array([0]), np.array([-between]), np.array([i]))
            shape[i] = shape[i] - between
    if any(n != 0 for n in (*low, *high)):
        found = w.emit("Pad", found, w.shape([*low, *high]), fill)
    shape = [n + a + b for n, a, b in zip(shape, low, high)]
    return w.operand(found if inside == x.dtype else w.cast(found, x.dtype), x.type.with_shape(tuple(shape)))


@translation(windows.Windows)
def windows_of(w: Any, node: Node, x: Any) -> str:
    op: Any = node.op
    return windowed(w, x, op.axes, op.size, op.stride, op.dilation)


def windowed(w: Any, x: Any, axes: tuple[int, ...], size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Any:
    """The windows of x: on each axis the number of the window, the places within it last. One gathering for each axis."""
    found, shape = str(x), list(x.shape)
    for axis, k, s, d in zip(axes, size, stride, dilation):
        count = window_count(shape[axis], spread(k, d), s)
        places: Any = np.arange(k) * d
        if isinstance(count, Size):
            first = w.emit("Range", np.array(0), w.emit("Squeeze", w.size(count * s), np.array([0])), np.array(s))
            places = w.emit("Add", w.emit("Unsqueeze", first, np.array([1])), places)
        else:
            places = np.arange(count)[:, None] * s + places
        found = w.emit("Gather", found, places, axis=axis)
        shape = [*shape[:axis], count, *shape[axis + 1:], k]
        found = transposed(w, found, (*(a for a in range(len(shape)) if a != axis + 1), axis + 1))
    return w.operand(found, x.type.with_shape(tuple(shape)))
