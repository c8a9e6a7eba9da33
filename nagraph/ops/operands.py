"""What ops take: arrays, Python scalars and values of a graph, and axes; what promotion and broadcasting see of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph import arrays
from nagraph.errors import DeviceError, SizeError, TypeRuleError
from nagraph.ir.builder import active, current
from nagraph.ir.graph import Value
from nagraph.ir.integers import integer, integers, is_integer
from nagraph.ir.location import caller_location, located
from nagraph.ir.op import Array, Box
from nagraph.ir.operators import functions
from nagraph.ir.promotion import WEAK
from nagraph.ir.sizes import Size, same
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS, DType, TensorType, as_dtype

#: Anything an op function takes: a graph's value, an array, or a Python scalar.
Operand = Any

F64, I64 = DTYPES["f64"], DTYPES["i64"]


def as_array(operand: Operand) -> Any:
    """An array (or Python scalar, list of numbers) as a NumPy array of a dtype that graphs hold; a size that is known later as a value.

    An array that is not NumPy's is captured inside a trace, and a value then; outside it is DeviceError, unless it is on the CPU and no
    backend's own.
    """
    if isinstance(operand, Size):
        return size_value(operand, I64)
    if type(operand) is not np.ndarray and arrays.is_elsewhere(operand):
        if active() is not None:
            return current().constant(operand)
        operand = _read(operand)
    array = np.asarray(operand)
    return array.astype(as_dtype(array.dtype), copy=False)


def size_value(size: Size, dtype: DType) -> Any:
    """A size that is known later as a traced number. SizeError outside of a trace."""
    if active() is None:
        raise located(SizeError(f"the size {size} is a number in traced functions alone: here only whole sizes are made of it, with "
                                "+, -, *, // and %"), caller_location())
    return functions.size_number(size, dtype)


def plain_number(x: int, kind: Any) -> Any:
    """An integer as a NumPy scalar of a kind such as np.int64, a size that is known later as a traced number of it."""
    return size_value(x, np.dtype(kind)) if isinstance(x, Size) else kind(x)


def taken(x: Any) -> Any:
    """An array that is not NumPy's as `as_array` takes it, anything else as it is; for functions written with Python's operators."""
    return as_array(x) if not isinstance(x, Value) and arrays.is_elsewhere(x) else x


def _read(array: Any) -> Array:
    kind: Any = arrays.kind_of(array)
    if kind is arrays.FOREIGN and kind.device(array) == arrays.CPU:
        return arrays.read(array)
    raise located(DeviceError(
        f"outside of ng.jit ng's functions compute with NumPy, and got {kind.type(array)} of {kind.name} on {kind.device(array)}; call "
        "them in a function under ng.jit, which runs where its arrays are, or read the array: ng.to_numpy(x)"), caller_location())


def is_weak(operand: Operand) -> bool:
    """Whether an operand is a Python scalar, or a traced stand-in for one."""
    return operand.weak if isinstance(operand, Value) else type(operand) in WEAK or isinstance(operand, Size)


def mark_weak(value: Value) -> None:
    if hasattr(type(value), "__weak_slot__"):
        value.weak = True  # type: ignore[misc]


def weakened(value: Any) -> Any:
    """A number made of sizes by Python's operators, marked weak."""
    if isinstance(value, Value):
        mark_weak(value)
    return value


functions.register(weakened=weakened)


def dtype_item(operand: Operand) -> DType | type:
    """What promotion sees of an operand: its dtype, or its Python type where it is weak."""
    if isinstance(operand, Value):
        return _weak_type(operand.dtype) if operand.weak else operand.dtype
    if isinstance(operand, Size):
        return int
    return type(operand) if type(operand) in WEAK else as_array(operand).dtype


def weak_float(operands: Sequence[Operand]) -> DType:
    """The dtype of what is made of Python floats alone: float64, or that of traced ones where a backend has no float64."""
    return next((o.dtype for o in operands if isinstance(o, Value) and o.dtype in FLOATS), F64)


def _weak_type(dtype: DType) -> type:
    return bool if dtype == BOOL else int if dtype in INTEGERS else float


def shape_of(operand: Operand) -> tuple[int, ...]:
    if isinstance(operand, (Value, np.ndarray)):
        return operand.shape
    if isinstance(operand, Size):
        return ()
    return arrays.type_of_array(operand).shape if arrays.is_elsewhere(operand) else np.shape(operand)


def broadcast_shapes(name: str, *types: TensorType) -> tuple[int, ...]:
    """The common shape by NumPy's rule: align at the last axis, sizes equal or 1. TypeRuleError if there is none."""
    first = types[0].shape
    if all([t.shape == first for t in types]):
        return first
    return common_shape(name, [t.shape for t in types], lambda: " and ".join(map(str, types)))


def common_shape(name: str, shapes: Sequence[tuple[int, ...]], shown: Callable[[], str] | None = None) -> tuple[int, ...]:
    """The same of shapes; `shown` is what they are called in errors."""
    out = []
    for i in range(-max(map(len, shapes), default=0), 0):
        sizes = list(dict.fromkeys(s[i] for s in shapes if len(s) >= -i and s[i] != 1))
        if any([not same(sizes[0], other, name) for other in sizes[1:]]):
            found = " and ".join(str(list(s)) for s in shapes) if shown is None else shown()
            different = " and ".join(sorted(map(str, sizes), key=lambda s: (len(s), s)))
            raise TypeRuleError(f"{name}: shapes do not broadcast: {found} have sizes {different} on axis {i}; sizes must be equal or 1")
        out.append(sizes[0] if sizes else 1)
    return tuple(out)


def aligned_box(box: Box, shape: Sequence[int]) -> Box:
    """The part of an operand of this shape that meets a part of the result, by NumPy's rule of broadcasting."""
    return tuple((0, 1) if n == 1 else part for n, part in zip(shape, box[len(box) - len(shape):]))


def normalize_axis(name: str, axis: Any, rank: int) -> int:
    """One axis as a non-negative number. TypeRuleError for others, and for anything but one integer."""
    a = integer(f"{name}: axis", axis)
    if not -rank <= a < rank:
        raise TypeRuleError(f"{name}: axis {a} is out of range for rank {rank}")
    return a % rank


def is_axis_of_scalar(axis: Any, rank: int) -> bool:
    """Whether it is axis 0 or -1 of an array of rank 0, which some of NumPy's functions take for the place of its one element."""
    return not rank and is_integer(axis) and axis in (0, -1)


def normalize_axes(name: str, axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Axes as sorted, non-negative, distinct numbers; None is all. TypeRuleError for others."""
    if axis is None:
        return tuple(range(rank))
    axes = integers(f"{name}: axis", axis)
    found = sorted(normalize_axis(name, a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise TypeRuleError(f"{name}: axes {axes} name one axis twice")
    return tuple(found)


_warned: set[tuple[str, int]] = set()


def warn_of_float64(name: str, dtype: DType, operands: list[Operand]) -> None:
    """Warn, once a line, where a float64 scalar turns float32 work into float64."""
    if dtype != F64:
        return
    items = [(dtype_item(o), shape_of(o)) for o in operands]
    narrow = any(d in FLOATS and d != F64 for d, _ in items)
    wide_scalar = any(d == F64 and s == () for d, s in items)
    wide_array = any(d == F64 and s != () for d, s in items)
    if not (narrow and wide_scalar) or wide_array:
        return
    where = caller_location()
    key = (where.file, where.line) if where else ("", 0)
    if key in _warned:
        return
    _warned.add(key)
    import warnings

    warnings.warn(
        f"{name}: a float32 array meets a float64 scalar, so the result is float64 ({where}); "
        "write float(scalar) or np.float32(scalar) to stay in float32",
        stacklevel=2,
    )
