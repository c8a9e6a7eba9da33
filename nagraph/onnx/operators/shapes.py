"""Shapes: what moves, repeats, joins and cuts elements, and what only knows shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.ir.sizes import Size
from nagraph.ir.types import DTYPES, TensorType
from nagraph.onnx.registry import Ints, Known, Tensor, checked_axes, checked_axis, operator, whole_numbers
from nagraph.ops.movement import iota
from nagraph.ops.size_numbers import size_number
from nagraph.tracing.tracer import as_value

#: Elements of a table of indices that is made while a graph is.
MOST_INDICES = 1 << 22


@operator("Shape", formats="kept")
def shape(x: Any, *, start: int = 0, end: int | None = None) -> Any:
    return _numbers(x.shape[slice(start, end)])


@operator("Size", formats="kept")
def size(x: Any) -> Any:
    return F.reshape(_numbers([math.prod(x.shape)]), ())


def _numbers(sizes: Sequence[Any]) -> Any:
    """A row of sizes; traced where some are known later."""
    if all(type(n) is int for n in sizes):
        return np.array(sizes, np.int64)
    return F.stack([size_number(n, DTYPES["i64"]) for n in sizes])


@operator("Identity", formats="kept")
def identity(x: Any) -> Any:
    return x


@operator("Reshape", formats="kept")
def reshape(x: Any, shape: Known, *, allowzero: bool = False) -> Any:
    """0 stands for the size that x has there, or for 0 with `allowzero`; -1 for what is left."""
    wanted = list(whole_numbers("shape", shape))
    if not allowzero:
        for i, n in enumerate(wanted):
            if n == 0:
                if i >= len(x.shape):
                    raise OnnxError(f"shape {wanted} takes size {i} of its operand, which has {len(x.shape)} axes")
                wanted[i] = x.shape[i]
    if -1 in wanted and 0 in wanted:
        raise OnnxError(f"shape {wanted} leaves a size open beside a 0")
    return F.reshape(x, wanted)


@operator("Flatten", formats="kept")
def flatten(x: Any, *, axis: int = 1) -> Any:
    rank = len(x.shape)
    if not -rank <= axis <= rank:
        raise OnnxError(f"axis is {axis}, of a value with {rank} axes")
    place = axis + rank if axis < 0 else axis
    return F.reshape(x, (math.prod(x.shape[:place]), math.prod(x.shape[place:])))


@operator("Squeeze", formats="kept")
def squeeze(x: Any, axes: Known | None = None) -> Any:
    if axes is None:
        return F.reshape(x, [n for n in x.shape if n != 1])
    dropped = checked_axes(whole_numbers("axes", axes), len(x.shape))
    if any(x.shape[a] != 1 for a in dropped):
        raise OnnxError(f"axes {dropped} are dropped, which are not all of size 1 in {list(x.shape)}")
    return F.reshape(x, [n for a, n in enumerate(x.shape) if a not in dropped])


@operator("Unsqueeze", formats="kept")
def unsqueeze(x: Any, axes: Known) -> Any:
    numbers = whole_numbers("axes", axes)
    added = checked_axes(numbers, len(x.shape) + len(numbers))
    sizes = iter(x.shape)
    return F.reshape(x, [1 if a in added else next(sizes) for a in range(len(x.shape) + len(added))])


@operator("Transpose", formats="kept")
def transpose(x: Any, *, perm: Ints | None = None) -> Any:
    return F.transpose(x, perm)


@operator("Expand", formats="kept")
def expand(x: Any, shape: Known) -> Any:
    """x broadcast against a shape; both may have the larger sizes."""
    wanted = whole_numbers("shape", shape)
    return F.broadcast_to(x, broadcast_shape(x.shape, wanted))


def broadcast_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The common shape. OnnxError if there is none."""
    rank = max(map(len, shapes))
    found = []
    for sizes in zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes)):
        others = {n for n in sizes if n != 1}
        if len(others) > 1 or any(n < 0 for n in others):
            raise OnnxError(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
        found.append(others.pop() if others else 1)
    return tuple(found)


@operator("Tile", formats="kept")
def tile(x: Any, repeats: Known) -> Any:
    counts = whole_numbers("repeats", repeats)
    if len(counts) != len(x.shape):
        raise OnnxError(f"repeats {list(counts)} must have a number for each of the {len(x.shape)} axes")
    possible(x.dtype, [n * c for n, c in zip(x.shape, counts)])
    return F.tile(x, counts)


@operator("Concat", formats="kept")
def concat(*xs: Any, axis: int) -> Any:
    if not xs:
        raise OnnxError("it has no inputs, but needs one at least")
    return F.concatenate(xs, checked_axis(axis, len(xs[0].shape)))


@operator("Split", formats="kept")
def split(x: Any, split: Known | None = None, *, axis: int = 0, num_outputs: int | None = None, call: Any) -> Any:
    place = checked_axis(axis, len(x.shape))
    n, count = x.shape[place], num_outputs or call.outputs
    if split is None:
        part = -(-n // count)
        sizes = [max(min(part, n - i * part), 0) for i in range(count)]
    else:
        sizes = list(whole_numbers("split", split))
    if sum(sizes) != n or min(sizes, default=0) < 0 or len(sizes) != call.outputs:
        raise OnnxError(f"axis {axis} of size {n} can't be split into parts of {sizes} for {call.outputs} outputs")
    bounds = np.cumsum([0, *sizes])
    return tuple(x[(slice(None),) * place + (slice(int(a), int(b)),)] for a, b in zip(bounds, bounds[1:]))


@operator("Slice", formats="kept")
def slice_of(x: Any, starts: Known, ends: Known, axes: Known | None = None, steps: Known | None = None) -> Any:
    begin, end = whole_numbers("starts", starts), whole_numbers("ends", ends)
    along = range(len(begin)) if axes is None else whole_numbers("axes", axes)
    step = (1,) * len(begin) if steps is None else whole_numbers("steps", steps)
    if not len(begin) == len(end) == len(along) == len(step):
        raise OnnxError(f"starts, ends, axes and steps have {len(begin)}, {len(end)}, {len(along)} and {len(step)} numbers")
    if 0 in step:
        raise OnnxError("a step is 0")
    parts = [slice(None)] * len(x.shape)
    for a, b, axis, s in zip(begin, end, checked_axes(along, len(x.shape)), step):
        parts[axis] = slice(a, b, s)
    return x[tuple(parts)]


@operator("ConstantOfShape")
def constant_of_shape(shape: Known, *, value: Tensor | None = None) -> Any:
    fill = np.zeros(1, np.float32) if value is None else value
    if fill.size != 1:
        raise OnnxError(f"value must be one number, not {fill.size}")
    wanted = whole_numbers("shape", shape)
    possible(fill.dtype, wanted)
    return F.broadcast_to(as_value(fill.reshape(())), wanted)


@operator("Range")
def numbers_from(start: Known, limit: Known, delta: Known) -> Any:
    """start + i delta for i from 0, below the limit."""
    given = start, limit, delta
    dtypes = {a.dtype for a in given if a.dtype != object} or {DTYPES["i64"]}
    if any(a.size != 1 for a in given) or len(dtypes) > 1:
        raise OnnxError("start, limit and delta must be one number each, of one element type")
    (dtype,), (first, last, step) = dtypes, (a.reshape(()).item() for a in given)
    if any(isinstance(n, Size) for n in (first, last, step)):
        return F.arange(first, last, step, dtype=dtype)
    if not all(map(math.isfinite, (first, last, step))) or step == 0:
        raise OnnxError(f"there is no range from {first} to {last} in steps of {step}")
    count = max(-(-(last - first) // step) if dtype.kind in "iu" else math.ceil((last - first) / step), 0)
    possible(dtype, (count,))
    return as_value(start.reshape(())) + as_value(delta.reshape(())) * F.astype(iota("int64", (count,), 0), dtype)


@operator("EyeLike")
def eye_like(x: Any, *, dtype: int | None = None, k: int = 0, call: Any) -> Any:
    if len(x.shape) != 2:
        raise OnnxError(f"its operand has {len(x.shape)} axes, but must have 2")
    return F.eye(*x.shape, k=min(max(k, -x.shape[0]), x.shape[1]), dtype=x.dtype if dtype is None else call.dtype(dtype))


@operator("Trilu", formats="kept")
def triangle(x: Any, k: Known | None = None, *, upper: bool = True) -> Any:
    if len(x.shape) < 2:
        raise OnnxError(f"its operand has {len(x.shape)} axes, but must have 2 at least")
    n, m = x.shape[-2:]
    diagonal = 0 if k is None else min(max(int(k.reshape(-1)[0]), -n - 1), m + 1)
    return (F.triu if upper else F.tril)(x, diagonal)


@operator("DepthToSpace")
def depth_to_space(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    n, c, h, w, b = *_images(x), blocksize
    if b < 1 or c % (b * b):
        raise OnnxError(f"{c} channels are not a multiple of blocksize {b} squared")
    if mode == "DCR":
        apart = F.transpose(F.reshape(x, (n, b, b, c // (b * b), h, w)), (0, 3, 4, 1, 5, 2))
    else:
        apart = F.transpose(F.reshape(x, (n, c // (b * b), b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return F.reshape(apart, (n, c // (b * b), h * b, w * b))


@operator("SpaceToDepth")
def space_to_depth(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    n, c, h, w, b = *_images(x), blocksize
    if b < 1 or h % b or w % b:
        raise OnnxError(f"height {h} and width {w} are not multiples of blocksize {b}")
    parts = F.reshape(x, (n, c, h // b, b, w // b, b))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return F.reshape(F.transpose(parts, order), (n, c * b * b, h // b, w // b))


def _images(x: Any) -> tuple[int, int, int, int]:
    if len(x.shape) != 4:
        raise OnnxError(f"its operand has {len(x.shape)} axes, but must be [batch, channels, height, width]")
    n, c, h, w = x.shape
    return n, c, h, w


@operator("ReverseSequence")
def reverse_sequence(x: Any, lengths: Any, *, time_axis: int = 0, batch_axis: int = 1) -> Any:
    """The first lengths[b] elements of example b in reverse order."""
    if {time_axis, batch_axis} != {0, 1}:
        raise OnnxError(f"time_axis and batch_axis are 0 and 1, not {time_axis} and {batch_axis}")
    sizes = (x.shape[time_axis], x.shape[batch_axis])
    step, length = iota("int64", sizes, 0), F.broadcast_to(lengths, sizes)
    index = F.where(F.less(step, length), length - 1 - step, step)
    index = F.reshape(index if time_axis == 0 else F.transpose(index), (*x.shape[:2], *(1,) * (len(x.shape) - 2)))
    return F.take_along_axis(x, index, time_axis)


def possible(dtype: Any, shape: Sequence[int]) -> None:
    """OnnxError if there can be no array of this type."""
    if any(n < 0 for n in shape) or not TensorType(np.dtype(dtype), tuple(int(n) for n in shape)).possible:
        raise OnnxError(f"no array has the shape {[int(n) for n in shape]}")
