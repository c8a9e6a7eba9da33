"""The NumPy-shaped namespace: the functions that plain np.* calls on traced values reach, callable directly.

On arrays they compute at once, by the ops' NumPy references.
"""

from __future__ import annotations

from contextlib import contextmanager as _contextmanager
from typing import Any

import numpy as _np

import nagraph.ops  # noqa: F401 - fills the operators
from nagraph.arrays import is_elsewhere as _is_elsewhere
from nagraph.errors import TypeRuleError as _TypeRuleError
from nagraph.ir.builder import active as _active
from nagraph.ir.builder import current as _current
from nagraph.ir.graph import Value as _Value
from nagraph.ir.sizes import Size as _Size
from nagraph.ir.sizes import larger as _larger
from nagraph.ir.types import as_dtype as _as_dtype
from nagraph.ir.types import spec as _spec
from nagraph.ops.arg_extremum import argmax, argmin  # noqa: F401
from nagraph.ops.base import NARROW_FLOATS as _NARROW_FLOATS
from nagraph.ops.base import cast as astype  # noqa: F401
from nagraph.ops.bits import bitwise_and, bitwise_not, bitwise_or, bitwise_xor, invert, left_shift, right_shift  # noqa: F401
from nagraph.ops.comparison import (  # noqa: F401
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from nagraph.ops.contraction import dot, inner, matmul, outer, tensordot, vdot  # noqa: F401
from nagraph.ops.cumulative import cummax, cummin, cumprod, cumsum  # noqa: F401
from nagraph.ops.dynamic_slice import dynamic_slice, dynamic_update_slice  # noqa: F401
from nagraph.ops.einsum import einsum  # noqa: F401
from nagraph.ops.elementwise import (  # noqa: F401
    abs,
    absolute,
    add,
    clip,
    divide,
    floor_divide,
    fmod,
    full_like,
    maximum,
    minimum,
    mod,
    multiply,
    negative,
    pow,
    power,
    reciprocal,
    remainder,
    square,
    subtract,
    true_divide,
    where,
)
from nagraph.ops.indexing import take, take_along_axis  # noqa: F401
from nagraph.ops.joining import array_split, concat, concatenate, hstack, repeat, roll, split, stack, tile, vstack  # noqa: F401
from nagraph.ops.matrices import diagonal, one_hot, trace, tril, triu  # noqa: F401
from nagraph.ops.movement import (  # noqa: F401
    broadcast_arrays,
    broadcast_to,
    expand_dims,
    flip,
    moveaxis,
    permute_dims,
    ravel,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)
from nagraph.ops.movement import iota as _iota
from nagraph.ops.norm import norm as _norm
from nagraph.ops.operands import shape_of as _shape_of
from nagraph.ops.operands import taken as _taken
from nagraph.ops.padding import pad  # noqa: F401
from nagraph.ops.reduction import all, amax, amin, any, max, mean, min, prod, std, sum, var  # noqa: F401
from nagraph.ops.rounding import ceil, copysign, fix, floor, nextafter, rint, round, sign, trunc  # noqa: F401
from nagraph.ops.rules import full as _fill
from nagraph.ops.sorting import argsort, sort, top_k  # noqa: F401
from nagraph.ops.special import (  # noqa: F401
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cbrt,
    cos,
    cosh,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    rsqrt,
    sigmoid,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from nagraph.ops.subscript import add_at, max_at, min_at, set_at  # noqa: F401

pi, e, inf, nan, newaxis = _np.pi, _np.e, _np.inf, _np.nan, None
around = round


@_contextmanager
def _refusing(name: str, *numbers: Any) -> Any:
    """A context where what NumPy refuses is a TypeRuleError with the function's name, and so are traced values in the place of numbers."""
    if builtins_any(isinstance(x, _Value) for x in numbers):
        raise _TypeRuleError(f"{name}: the bounds are plain numbers, which traced values are not")
    try:
        yield
    except (ValueError, OverflowError, IndexError) as error:
        raise error if isinstance(error, _TypeRuleError) else _TypeRuleError(f"{name}: {error}") from None


def full(shape: Any, value: Any, dtype: Any = None) -> Any:
    """A tensor filled with one value, which may be traced."""
    if isinstance(shape, _Size) or isinstance(shape, (tuple, list)) and builtins_any(isinstance(s, _Size) for s in shape):
        value = value if isinstance(value, _Value) else _current().constant(value if dtype is None else astype(value, dtype))
    if not isinstance(value, _Value):
        with _refusing("full"):
            return _np.full(shape, value if dtype is None else astype(value, dtype))
    return broadcast_to(value if dtype is None else astype(value, dtype), shape)


def zeros(shape: Any, dtype: Any = _np.float64) -> Any:
    """Zeros. Inside a trace a broadcast constant, so that large ones cost no bytes."""
    return _filled(shape, 0, dtype)


def ones(shape: Any, dtype: Any = _np.float64) -> Any:
    """Ones. Inside a trace a broadcast constant, so that large ones cost no bytes."""
    return _filled(shape, 1, dtype)


def _filled(shape: Any, value: float, dtype: Any) -> Any:
    found = _spec(shape, dtype)
    if _active() is not None:
        return _fill(found, value)
    return (_np.ones if value else _np.zeros)(found.shape, found.dtype)


def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros of the shape of x."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones of the shape of x."""
    return full_like(x, 1, dtype)


def arange(*bounds: Any, dtype: Any = None) -> Any:
    """start, start + step, ... below stop; the bounds are plain numbers, or sizes that are known later with a plain step."""
    if builtins_any(isinstance(x, _Size) for x in bounds):
        return _arange_of_size(*bounds, dtype="int64" if dtype is None else dtype)
    with _refusing("arange", *bounds):
        return _np.arange(*bounds, dtype=None if dtype is None else _as_dtype(dtype))


def _arange_of_size(start: Any, stop: Any = None, step: Any = 1, *, dtype: Any) -> Any:
    start, stop = (0, start) if stop is None else (start, stop)
    if type(step) is not int or step == 0 or not isinstance(start, (int, _Size)) or not isinstance(stop, (int, _Size)):
        raise _TypeRuleError(f"arange: of sizes that are known later the numbers are whole, and step is a plain one; got "
                             f"{start!r}, {stop!r}, {step!r}")
    count = _larger(-((start - stop) // step) if step > 0 else -((stop - start) // -step), 0)
    found = _iota("int64", (count,))
    found = found if step == 1 else found * step
    return astype(found if isinstance(start, int) and start == 0 else found + start, dtype)


def linspace(start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: Any = None) -> Any:
    """`num` numbers evenly from start to stop; the bounds are plain numbers."""
    with _refusing("linspace", start, stop):
        return _np.linspace(start, stop, num, endpoint, dtype=None if dtype is None else _as_dtype(dtype))


def eye(n: int, m: int | None = None, k: int = 0, dtype: Any = _np.float64) -> Any:
    """Ones on the k-th diagonal."""
    columns = n if m is None else m
    if _active() is None or not isinstance(n * columns, _Size) and n * columns <= 256:
        with _refusing("eye"):
            return _np.eye(n, m, k, dtype=_as_dtype(dtype))
    return astype(equal(_iota("int64", (n, columns), 0) + k, _iota("int64", (n, columns), 1)), dtype)


def array(x: Any, dtype: Any = None) -> Any:
    """x as an array; a list of traced values is stacked."""
    x = _taken(x)
    if isinstance(x, _Value):
        return x if dtype is None else astype(x, dtype)
    if isinstance(x, (list, tuple)) and _traced(x):
        made = stack([array(v) if isinstance(v, (list, tuple)) else v for v in x])
        return made if dtype is None else astype(made, dtype)
    with _refusing("array"):
        if dtype is None or _as_dtype(dtype) not in _NARROW_FLOATS:
            return _np.array(x, dtype=None if dtype is None else _as_dtype(dtype))
        return astype(_np.array(x), dtype)


asarray = array


def _traced(x: Any) -> bool:
    """Whether it is, or a list holds, what is no NumPy array: traced values, and arrays that live elsewhere."""
    return isinstance(x, _Value) or _is_elsewhere(x) or (isinstance(x, (list, tuple)) and builtins_any(map(_traced, x)))


def builtins_any(items: Any) -> bool:
    """Python's any, whose name NumPy's takes here."""
    for item in items:
        if item:
            return True
    return False


def shape(x: Any) -> tuple[int, ...]:
    """The sizes of x."""
    return tuple(_shape_of(x))


def ndim(x: Any) -> int:
    """The number of axes of x."""
    return len(shape(x))


def size(x: Any) -> int:
    """The number of elements of x."""
    n = 1
    for s in shape(x):
        n *= s
    return n


class linalg:
    """The part of np.linalg that graphs know."""

    norm = staticmethod(_norm)
    matmul = staticmethod(matmul)
