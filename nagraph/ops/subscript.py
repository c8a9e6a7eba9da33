"""x[...] and updates at x[...]: NumPy's index expressions in terms of slices, gather and scatter.

Numbers and slices become static slices. Where integer arrays or traced integers are present, these and
the numbers broadcast together and become one gather, whose axes go where NumPy puts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.errors import SizeError, TypeRuleError
from nagraph.ir.builder import current
from nagraph.ir.graph import Value
from nagraph.ir.operators import functions
from nagraph.ir.size_bounds import at_least
from nagraph.ir.sizes import Size, larger, same, smaller
from nagraph.ir.types import BOOL, INTEGERS
from nagraph.ops.base import convert
from nagraph.ops.dynamic_slice import DynamicUpdateSlice
from nagraph.ops.elementwise import add, maximum, minimum
from nagraph.ops.indexing import I64, Gather, Scatter
from nagraph.ops.movement import Iota, broadcast_to, flip, iota, reshape, transpose
from nagraph.ops.operands import Operand, as_array, common_shape, plain_number, taken
from nagraph.ops.slicing import Slice

Axes = tuple[int, ...]
#: Elements of slices that are written in the time in which one is found by its place.
DEAR = 8


class IndexRangeError(TypeRuleError, IndexError):
    """A static index is out of range; also an IndexError, so that iterating over a value ends."""


@dataclass(frozen=True)
class Subscript:
    """An index expression resolved against a shape."""

    #: For each axis of x the slice that is taken first, with start, count and step; axes of arrays are whole.
    parts: tuple[tuple[int, int, int], ...]
    #: The axes that arrays index, and those arrays, of one shape.
    axes: Axes
    arrays: tuple[Any, ...]
    #: Whether the arrays' axes come first, because something stands between them.
    front: bool
    #: The shape of the result.
    shape: Axes

    def slice_shape(self) -> Axes:
        return tuple(count for _, count, _ in self.parts)


def index(x: Operand, expression: Any) -> Any:
    """x[expression] as in NumPy; indices that are traced are clipped where they are out of range.

    Raises TypeRuleError for static indices out of range and for boolean masks that are traced.
    """
    x = x if isinstance(x, Value) else as_array(x)
    found = resolve(x.shape, expression)
    return _read(x, found)


def set_at(x: Operand, expression: Any, value: Operand) -> Any:
    """x with value at x[expression]; where a position comes twice, the last one counts."""
    return _update(x, expression, value, "set", lambda old, new: new)


def add_at(x: Operand, expression: Any, value: Operand) -> Any:
    """x with value added at x[expression], once for every time a position comes."""
    return _update(x, expression, value, "add", add)


def max_at(x: Operand, expression: Any, value: Operand) -> Any:
    """x with the larger of itself and value at x[expression]."""
    return _update(x, expression, value, "max", maximum)


def min_at(x: Operand, expression: Any, value: Operand) -> Any:
    """x with the smaller of itself and value at x[expression]."""
    return _update(x, expression, value, "min", minimum)


# -- understanding the expression -------------------------------------------------------------------


def resolve(shape: Axes, expression: Any) -> Subscript:
    """What the expression means for an array of `shape`."""
    items = _items(shape, expression)
    advanced = any(isinstance(i, (np.ndarray, Value)) for i in items)
    kinds = [_kind(i, advanced) for i in items]
    parts: list[tuple[int, int, int]] = []
    axes: list[int] = []
    arrays: list[Any] = []
    for item, kind in zip(items, kinds):
        axis = len(parts)
        if kind in ("new", "dots"):
            continue
        if kind == "slice":
            parts.append(_slice(item, shape[axis]))
        elif kind == "number":
            parts.append((_number(item, axis, shape), 1, 1))
        else:
            if not isinstance(item, (np.ndarray, Value)):
                item = as_array(plain_number(_number(item, axis, shape), np.int64))
            elif isinstance(item, np.ndarray):
                item = _checked(item, axis, shape)
            axes.append(axis)
            arrays.append(item)
            parts.append((0, shape[axis], 1))
    common = _common_shape(arrays)
    places = [n for n, kind in enumerate(kinds) if kind == "array"]
    front = bool(places) and places != list(range(places[0], places[-1] + 1))
    result = list(common) if front else []
    counts = iter(parts)
    for n, kind in enumerate(kinds):
        if kind == "dots":
            continue
        count = 1 if kind == "new" else next(counts)[1]
        if kind in ("new", "slice"):
            result.append(count)
        elif kind == "array" and not front and n == places[0]:
            result.extend(common)
    return Subscript(tuple(parts), tuple(axes), tuple(_broadcast(a, common) for a in arrays), front, tuple(result))


def _items(shape: Axes, expression: Any) -> list[Any]:
    """The parts of the expression with the axes of the ellipsis written out after it, masks as numbers, and lists as arrays."""
    items: list[Any] = []
    for item in expression if isinstance(expression, tuple) else (expression,):
        if isinstance(item, list):
            item = np.asarray(item) if item else np.zeros(0, np.int64)
        if isinstance(item, np.generic):
            item = item.item()
        items.append(taken(item))
    dots = [n for n, item in enumerate(items) if item is Ellipsis]
    used = sum(map(_consumes, items))
    if len(dots) > 1 or used > len(shape):
        problem = "more than one ..." if len(dots) > 1 else f"{used} indices"
        raise TypeRuleError(f"index: {problem} for an array of shape {shape} with {len(shape)} axes")
    whole = [slice(None)] * (len(shape) - used)
    # The ellipsis stays: it stands between index arrays also where it is no axis.
    items = items[: dots[0] + 1] + whole + items[dots[0] + 1:] if dots else items + whole
    made: list[Any] = []
    axis = 0
    for item in items:
        made.extend(_mask(item, shape, axis) if _is_mask(item) else (item,))
        axis += _consumes(item)
    return made


def _is_mask(item: Any) -> bool:
    return isinstance(item, bool) or getattr(item, "dtype", None) == BOOL


def _consumes(item: Any) -> int:
    """How many axes of x an item of the expression indexes."""
    if item is None or item is Ellipsis:
        return 0
    return len(item.shape) if _is_mask(item) and not isinstance(item, bool) else 1


def _mask(mask: Any, shape: Axes, axis: int) -> tuple[Any, ...]:
    """A concrete mask as index arrays of its true elements."""
    if isinstance(mask, Value):
        raise TypeRuleError(
            f"index: a traced boolean mask ({mask.type}) would give a result whose shape depends on values; "
            "use where(mask, x, other), or a mask that is a NumPy array outside the traced function"
        )
    if isinstance(mask, bool) or not mask.ndim:
        raise TypeRuleError("index: a single bool is no index; use None for a new axis, or where")
    if mask.shape != shape[axis: axis + mask.ndim]:
        raise TypeRuleError(f"index: a mask of shape {mask.shape} does not fit axes from {axis} on of shape {shape}")
    return np.nonzero(mask)


def _kind(item: Any, advanced: bool) -> str:
    if item is None or item is Ellipsis:
        return "new" if item is None else "dots"
    if isinstance(item, slice):
        return "slice"
    if isinstance(item, (np.ndarray, Value)):
        if item.dtype not in INTEGERS:
            raise TypeRuleError(f"index: an index array has dtype {item.dtype}; it must be an integer or a mask")
        return "array"
    if isinstance(item, (int, Size)):
        return "array" if advanced else "number"
    raise TypeRuleError(
        f"index: {item!r} of type {type(item).__name__} is no index; use integers, slices, ..., None or integer arrays"
    )


def _slice(item: slice, size: int) -> tuple[int, int, int]:
    if any(isinstance(part, Value) for part in (item.start, item.stop, item.step)):
        raise TypeRuleError(
            "index: a slice with traced bounds would have a shape that depends on values; "
            "use dynamic_slice(x, starts, sizes), whose size is static"
        )
    if not any(isinstance(n, Size) for n in (size, item.start, item.stop)):
        start, stop, step = item.indices(size)
        return start, len(range(start, stop, step)), step
    return _slice_of_size(item, size)


def _slice_of_size(item: slice, size: int) -> tuple[int, int, int]:
    """The same where a number of it is a size that is known later: as `slice.indices` has it."""
    step = 1 if item.step is None else item.step
    if type(step) is not int or step == 0:
        raise TypeRuleError(f"index: the step of a slice is a plain number that is not 0, got {step}")
    first, last = (0, size) if step > 0 else (-1, size - 1)

    def bound(n: Any, default: int) -> int:
        return default if n is None else larger(n + size, first) if n < 0 else smaller(n, last)

    start, stop = bound(item.start, first if step > 0 else last), bound(item.stop, last if step > 0 else first)
    return start, larger(-((start - stop) // step) if step > 0 else -((stop - start) // -step), 0), step


def _number(item: int, axis: int, shape: Axes) -> int:
    if not -shape[axis] <= item < shape[axis]:
        raise IndexRangeError(f"index: {item} is out of range for axis {axis} of size {shape[axis]} (shape {shape})")
    return item + shape[axis] if item < 0 else item


def _checked(item: Any, axis: int, shape: Axes) -> Any:
    if item.size:
        _number(int(item.min()), axis, shape)
        _number(int(item.max()), axis, shape)
    return item


def _common_shape(arrays: list[Any]) -> Axes:
    try:
        return common_shape("index", [a.shape for a in arrays])
    except SizeError:
        raise
    except TypeRuleError:
        shapes = " and ".join(str(a.shape) for a in arrays)
        raise TypeRuleError(f"index: index arrays of shapes {shapes} do not broadcast together") from None


def _broadcast(x: Any, shape: Axes) -> Any:
    return x if x.shape == shape else broadcast_to(x, shape)


# -- reading and writing ----------------------------------------------------------------------------


def _read(x: Any, found: Subscript) -> Any:
    y = _gather(_sliced(x, found.parts), found)
    return y if y.shape == found.shape else reshape(y, found.shape)


def _gather(x: Any, found: Subscript) -> Any:
    """The elements that the arrays name, their axes in front where NumPy puts them there."""
    if not found.axes:
        return x
    y = Gather(found.axes)(x, *found.arrays)
    return transpose(y, _front(found, len(y.shape))) if found.front else y


def _front(found: Subscript, rank: int) -> Axes:
    """The order of axes that brings the arrays' axes from their place in a gather to the front."""
    block = tuple(range(found.axes[0], found.axes[0] + found.arrays[0].ndim))
    return block + tuple(a for a in range(rank) if a not in block)


def _sliced(x: Any, parts: tuple[tuple[int, int, int], ...]) -> Any:
    """The slices, each a slice with a positive step and a flip where its step is negative."""
    starts, stops, steps, flipped = [], [], [], []
    for axis, (start, count, step) in enumerate(parts):
        if isinstance(start, Size) or isinstance(count, Size):
            spread = count if abs(step) == 1 else larger((count - 1) * abs(step) + 1, 0)
            if step < 0:
                flipped.append(axis)
            starts.append(start if step > 0 else start - spread + 1)
            stops.append(starts[-1] + spread)
            steps.append(abs(step))
            continue
        last = start + (count - 1) * step
        if step < 0 and count > 1:
            flipped.append(axis)
        first = min(start, last) if count else 0
        starts.append(first)
        stops.append(max(start, last) + 1 if count else 0)
        steps.append(abs(step) if count > 1 else 1)
    whole = all(a == 0 and b == n and s == 1 for a, b, s, n in zip(starts, stops, steps, x.shape))
    y = x if whole else Slice(tuple(starts), tuple(stops), tuple(steps))(x)
    return flip(y, tuple(flipped)) if flipped else y


def _update(x: Operand, expression: Any, value: Operand, mode: str, combine: Callable[[Any, Any], Any]) -> Any:
    """Read the slices, change them, and write them back."""
    x = x if isinstance(x, Value) else as_array(x)
    value = convert(value, x.dtype)
    found = resolve(x.shape, expression)
    if len(value.shape) > len(found.shape) or any(
        n != 1 and not same(n, m, f"{mode}_at") for n, m in zip(value.shape[::-1], found.shape[::-1])
    ):
        raise TypeRuleError(f"{mode}_at: a value of shape {value.shape} does not broadcast to x[...], shape {found.shape}")
    value = _broadcast(value, found.shape)
    if found.axes:
        sizes = found.slice_shape()
        rank, block = len(sizes) - len(found.axes), found.arrays[0].ndim
        rest = tuple(n for a, n in enumerate(sizes) if a not in found.axes)
        lead = found.axes[0]
        gathered = rest[:lead] + found.arrays[0].shape + rest[lead:]
        if found.front:
            value = reshape(value, found.arrays[0].shape + rest)
            value = transpose(value, tuple(np.argsort(_front(found, rank + block)).tolist()))
        value = reshape(value, gathered)
        if 0 not in gathered and at_least(math.prod(sizes) - math.prod(gathered) * DEAR, 0):
            return _scattered(x, value, found, mode)
        new = Scatter(found.axes, mode)(_sliced(x, found.parts), value, *found.arrays)
    else:
        piece = _sliced(x, found.parts)
        new = combine(piece, reshape(value, piece.shape))
    if isinstance(x, Value) and not isinstance(new, Value):  # all of x is written
        new = current().constant(new)
    return _write(x, new, found.parts)


def _scattered(x: Any, value: Any, found: Subscript, mode: str) -> Any:
    """x with the elements that arrays and slices name updated one by one: the places of a slice are an array as well."""
    cut = [a for a, part in enumerate(found.parts) if a not in found.axes and part != (0, x.shape[a], 1)]
    axes = tuple(sorted((*found.axes, *cut)))
    block, counts = found.arrays[0].shape, tuple(found.parts[a][1] for a in cut)
    places: dict[int, Any] = {}
    for a, array in zip(found.axes, found.arrays):
        places[a] = broadcast_to(reshape(array, block + (1,) * len(cut)), block + counts)
    traced = any(isinstance(v, Value) for v in (x, value, *found.arrays))
    for n, a in enumerate(cut):
        start, _, step = found.parts[a]
        line = Iota(I64, block + counts, len(block) + n)
        places[a] = (line() if traced else line.reference()) * step + start
    # The updates have their arrays' axes where the first array stands, and those of the slices in their order around them.
    lead, others = found.axes[0], [a for a in range(len(x.shape)) if a not in found.axes]
    at = {a: n if a < lead else n + len(block) for n, a in enumerate(others)}
    whole = [a for a in others if a not in cut]
    order = (*(at[a] for a in whole if a < axes[0]), *range(lead, lead + len(block)), *(at[a] for a in cut),
             *(at[a] for a in whole if a > axes[0]))
    return Scatter(axes, mode)(x, transpose(value, order), *(places[a] for a in axes))


def _write(x: Any, piece: Any, parts: tuple[tuple[int, int, int], ...]) -> Any:
    """x with `piece` where the slices are: one block if all steps are 1, else a scatter for each stepped axis."""
    if piece.shape == x.shape and all(step == 1 or at_least(1 - count, 0) for _, count, step in parts):
        return piece
    for axis, (start, count, step) in enumerate(parts):
        if step != 1 and not at_least(1 - count, 0):
            others = tuple((0, n, 1) if a == axis else part for a, (n, part) in enumerate(zip(x.shape, parts)))
            places = start + step * (iota("int64", (count,)) if isinstance(count, Size) else np.arange(count))
            return _write(x, Scatter((axis,), "set")(_sliced(x, others), piece, places), others)
    if 0 in piece.shape:
        return x
    return DynamicUpdateSlice()(x, piece, *(plain_number(start, np.int64) for start, _, _ in parts))


functions.register(index=index)
