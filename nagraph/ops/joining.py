"""Joining and repeating: concatenate, and what is made of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.ir.axes import AxisRelation, every_axis
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer, integers, is_integer
from nagraph.ir.op import Array, Box, Op, op
from nagraph.ir.operators import functions
from nagraph.ir.promotion import result_type
from nagraph.ir.sizes import larger, same, same_shape, smaller, whole_quotient
from nagraph.ir.types import SHORT_NAMES, TensorType
from nagraph.ops.base import Linear, convert
from nagraph.ops.movement import broadcast_to, expand_dims, reshape
from nagraph.ops.operands import dtype_item, normalize_axis, shape_of
from nagraph.ops.rules import Maybe, with_batch_axis
from nagraph.ops.slicing import slice_axis

#: The most arrays that one is cut into: each is an object of Python.
MOST_SECTIONS = 1 << 20


@op
class Concatenate(Linear):
    """Operands one after another on an axis; the other sizes are equal, dtypes promote as in NumPy."""

    axis: int

    def prepare(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        dtype = result_type(*map(dtype_item, operands))
        return tuple(convert(o, dtype) for o in operands)

    def linear_in(self, operands: tuple[Value, ...]) -> tuple[int, ...]:
        return tuple(range(len(operands)))

    def infer(self, *operands: TensorType) -> TensorType:
        if not operands:
            raise TypeRuleError("concatenate: needs at least one array")
        first = operands[0]
        if not 0 <= self.axis < first.rank:
            raise TypeRuleError(f"concatenate: axis {self.axis} is out of range for {first}")
        for t in operands[1:]:
            if t.dtype != first.dtype:
                raise TypeRuleError(f"concatenate: dtypes differ: {SHORT_NAMES[first.dtype]} and {SHORT_NAMES[t.dtype]}")
            beside = [pair for i, pair in enumerate(zip(t.shape, first.shape)) if i != self.axis]
            if t.rank != first.rank or any([not same(a, b, self.name) for a, b in beside]):
                raise TypeRuleError(f"concatenate: {first} and {t} may differ in size on axis {self.axis} alone")
        sizes = list(first.shape)
        sizes[self.axis] = sum(t.shape[self.axis] for t in operands)
        return first.with_shape(tuple(sizes))

    def reference(self, *operands: Array) -> Array:
        return np.concatenate(operands, axis=self.axis)

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        axis = self.axis
        return lambda *arrays: np.concatenate(arrays[:-1], axis, arrays[-1])

    def axis_relations(self, *operands: TensorType) -> tuple[AxisRelation, ...]:
        return (every_axis(operands[0].rank, (self.axis,)),) * len(operands)

    def parts(self, *operands: TensorType) -> Sequence[Box]:
        ends = itertools.accumulate((x.shape[self.axis] for x in operands), initial=0)
        return [tuple(ends if a == self.axis else (0, n) for a, n in enumerate(x.shape))
                for x, ends in zip(operands, itertools.pairwise(ends))]

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        found, start = None, sum(x.shape[self.axis] for x in operands)
        for x in reversed(operands):
            n = x.shape[self.axis]
            start -= n
            at = tuple(k.sum([(i, 1)], -start) if a == self.axis else i for a, i in enumerate(index))
            if not n:
                continue
            if k.always(at[self.axis], n):
                return int(k.element(x, at))
            inside = k.within(at[self.axis], n)
            if n == 1:  # inside, its only index is 0
                at = tuple(k.sum(()) if a == self.axis else i for a, i in enumerate(at))
            with k.masked(inside):
                value = k.element(x, at)
            found = value if found is None else k.select(inside, value, found)
        assert found is not None, "an empty result has no elements"
        return int(found)

    def narrow(self, box: Box, *operands: TensorType) -> tuple[Op, Sequence[Box]] | None:
        if box[self.axis] != (0, sum(t.shape[self.axis] for t in operands)):
            return None
        return self, [tuple((0, t.shape[i]) if i == self.axis else part for i, part in enumerate(box)) for t in operands]

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        out, start = [], 0
        for x in operands:
            stop = start + x.shape[self.axis]
            out.append(slice_axis(ct, self.axis, start, stop))
            start = stop
        return tuple(out)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (Concatenate(self.axis + 1)(*(with_batch_axis(x, b, size) for x, b in zip(operands, batched))),)

    def samples(self, rng: np.random.Generator) -> Any:
        shape = (2,) * (self.axis + 1)
        yield rng.normal(size=shape), rng.normal(size=(*shape[:-1], 3))


def concatenate(arrays: Sequence[Any], axis: int | None = 0, dtype: Any = None) -> Any:
    """Arrays one after another on an axis (None: raveled first)."""
    if axis is None:
        arrays, axis = [reshape(a, -1) for a in arrays], 0
    if not arrays:
        raise TypeRuleError("concatenate: needs at least one array")
    place = normalize_axis("concatenate", axis, len(shape_of(arrays[0])))
    joined = arrays[0] if len(arrays) == 1 and isinstance(arrays[0], Value) else Concatenate(place)(*arrays)
    return joined if dtype is None else convert(joined, np.dtype(dtype))


concat = concatenate


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Arrays of one shape side by side on a new axis."""
    shapes = list(dict.fromkeys(tuple(shape_of(a)) for a in arrays))
    if not shapes or not all(same_shape(shapes[0], other, "stack") for other in shapes[1:]):
        raise TypeRuleError(f"stack: all arrays need one shape, got {sorted(shapes, key=str)}")
    place = normalize_axis("stack", axis, len(shapes[0]) + 1)
    return concatenate([expand_dims(a, place) for a in arrays], axis=place)


def vstack(arrays: Sequence[Any]) -> Any:
    """Rows below one another."""
    return concatenate([a if len(shape_of(a)) > 1 else reshape(a, (1, -1)) for a in arrays], axis=0)


def hstack(arrays: Sequence[Any]) -> Any:
    """Columns beside one another."""
    rows = [a if shape_of(a) else reshape(a, (1,)) for a in arrays]
    return concatenate(rows, axis=0 if len(shape_of(rows[0])) == 1 else 1)


def array_split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """x cut on an axis into equal sections (the first ones one longer where needed), or at indices."""
    place = normalize_axis("split", axis, len(shape_of(x)))
    n = shape_of(x)[place]
    if is_integer(sections):
        count = _sections(sections)
        each, extra = divmod(n, count) if type(n) is int else (whole_quotient(n, count, "split: "), 0)
        bounds = [0, *itertools.accumulate(each + int(i < extra) for i in range(count))]
    else:
        bounds = [0, *(smaller(larger(s + n if s < 0 else s, 0), n) for s in integers("split: sections", sections)), n]
    return [slice_axis(x, place, a, larger(a, b)) for a, b in zip(bounds, bounds[1:])]


def _sections(sections: Any) -> int:
    count = integer("split: sections", sections)
    if count < 1:
        raise TypeRuleError(f"split: the number of sections is at least 1, got {count}")
    if count > MOST_SECTIONS:
        raise TypeRuleError(f"split: the number of sections is at most {MOST_SECTIONS:,}, got {count}")
    return count


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """x cut on an axis into equal sections, or at indices."""
    place = normalize_axis("split", axis, len(shape_of(x)))
    n = shape_of(x)[place]
    if is_integer(sections) and type(n) is int and n % _sections(sections):
        raise TypeRuleError(f"split: axis {axis} of size {n} does not divide into {sections} equal sections; see array_split")
    return array_split(x, sections, axis)


def tile(x: Any, reps: int | Sequence[int]) -> Any:
    """x repeated as a whole, so many times on each axis."""
    counts = integers("tile: reps", reps)
    if any(c < 0 for c in counts):
        raise TypeRuleError(f"tile: the numbers of repetitions are at least 0, got {counts}")
    shape = shape_of(x)
    rank = max(len(shape), len(counts))
    counts = (1,) * (rank - len(counts)) + counts
    sizes = (1,) * (rank - len(shape)) + tuple(shape)
    wide = broadcast_to(reshape(x, [v for s in sizes for v in (1, s)]), [v for c, s in zip(counts, sizes) for v in (c, s)])
    return reshape(wide, [c * s for c, s in zip(counts, sizes)])


def repeat(x: Any, repeats: int, axis: int | None = None) -> Any:
    """Each element (or slice on an axis) repeated in place."""
    if not is_integer(repeats):
        raise TypeRuleError("repeat: the count must be one number; counts by element change the shape by value")
    count = integer("repeat: count", repeats)
    if count < 0:
        raise TypeRuleError(f"repeat: the count is at least 0, got {count}")
    if axis is None or not shape_of(x):  # rank 0 counts as one element on axis 0
        x, axis = reshape(x, -1), 0 if axis is None else axis
    place = normalize_axis("repeat", axis, len(shape_of(x)))
    shape = list(shape_of(x))
    wide = broadcast_to(expand_dims(x, place + 1), [*shape[:place + 1], count, *shape[place + 1:]])
    return reshape(wide, [*shape[:place], shape[place] * count, *shape[place + 1:]])


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Any:
    """x moved along axes; what leaves at one end comes in at the other."""
    if axis is None:
        return reshape(roll(reshape(x, -1), shift, 0), shape_of(x))
    shifts, axes = integers("roll: shift", shift), integers("roll: axis", axis)
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise TypeRuleError(f"roll: {len(shifts)} shifts {shifts} do not go with {len(axes)} axes {axes}; give one of either, or as many")
    total: dict[int, int] = {}
    for s, a in zip(shifts * (len(axes) if len(shifts) == 1 else 1), axes * (len(shifts) if len(axes) == 1 else 1)):
        place = normalize_axis("roll", a, len(shape_of(x)))
        total[place] = total.get(place, 0) + s
    for place, s in total.items():
        n = shape_of(x)[place]
        if n and s % n:
            cut = n - s % n
            x = concatenate([slice_axis(x, place, cut, n), slice_axis(x, place, 0, cut)], axis=place)
    return x


functions.register(concatenate=concatenate)
