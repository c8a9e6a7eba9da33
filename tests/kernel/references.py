"""What the elementary functions should give, in wider arithmetic, and how far from it they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph.ir.scalar import F32, F64
from nagraph.ir.types import DType
from nagraph.ops.numerics.erf import erf, erfc

Array = np.ndarray[Any, Any]

#: Functions of two operands, whose rest is exact or not.
BINARY = ("arctan2", "floor_divide", "fmod", "power", "remainder")
EXACT = ("floor_divide", "fmod", "remainder")
#: The most that a result may be from the exact one, in units of its last place; float64 has 4.
BOUNDS = {"exp": 1.0, "log": 1.0, "sqrt": 0.5}


def bound(name: str, dtype: DType) -> float:
    if name in EXACT:
        return 0.0
    if dtype == F32:
        return BOUNDS.get(name, 2.0)
    # Where the reference is no wider than float64, as the C library's erf and erfc, it has an error as well.
    return 4.0 + (name in ("erf", "erfc") or np.finfo(np.longdouble).nmant <= 52)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    result: Array = np.where(x < 0, e, 1) / (1 + e)
    return result


def _softplus(x: Array) -> Array:
    result: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return result


def reference(name: str, dtype: DType) -> Callable[..., Array]:
    """The function on arrays of the dtype, computed in a wider one: float64 for float32, long double for float64."""
    wide = np.float64 if dtype == F32 else np.longdouble
    compute: Callable[..., Array]
    if name in EXACT:
        return lambda *operands: getattr(np, name)(*operands)  # NumPy's own are exact or rounded once, in the dtype
    if name in ("erf", "erfc"):
        compute = {"erf": erf, "erfc": erfc}[name] if dtype == F32 else np.vectorize(getattr(math, name), otypes=[np.float64])
        return lambda x: compute(x.astype(np.float64))
    ours = {"sigmoid": _sigmoid, "softplus": _softplus, "rsqrt": lambda x: 1 / np.sqrt(x)}
    compute = ours.get(name) or getattr(np, name)
    return lambda *operands: compute(*(x.astype(wide) for x in operands))


def errors(y: Array, exact: Array) -> Array:
    """|y - exact| in units of the last place of the exact value in the dtype of y; inf where nan or the sign is wrong.

    A result that overflows counts as the power of two behind the largest number.
    """
    largest, top = np.finfo(y.dtype).max, 2.0 * np.ldexp(exact.dtype.type(1), np.finfo(y.dtype).maxexp - 1)
    with np.errstate(all="ignore"):
        nearest = exact.astype(y.dtype)
        spacing = np.spacing(np.minimum(np.abs(nearest), largest)).astype(exact.dtype)
        distance = np.abs(np.clip(y.astype(exact.dtype), -top, top) - np.clip(exact, -top, top)) / spacing
        wrong = (np.isnan(y) != np.isnan(nearest)) | (np.isinf(exact) & (y != exact)) | (np.signbit(y) != np.signbit(nearest))
        wrong &= ~(np.isnan(y) & np.isnan(nearest))
    found: Array = np.where(wrong, np.inf, np.where(np.isnan(y) | (y == exact), 0, distance)).astype(np.float64)
    return found


def specials(dtype: DType) -> Array:
    """Zeros, infinities, nans of several kinds, subnormals, edges of ranges, small integers; both signs."""
    info = np.finfo(dtype)
    positive = np.array([0, np.inf, np.nan, info.smallest_subnormal, info.tiny, info.max, info.eps, 1, 2, 3, 10, 0.5, 1.5, np.e,
                         np.pi, np.pi / 2, 6, 9.1, 20, 27, 28, 88.0, 88.5, 88.72283, 89.415985, 103.9, 104.5, 127.5, 128, 149,
                         150, 709.7, 709.782712893384, 710.3, 710.475860073944, 745.1, 746, 1023.5, 1024, 1074, 1075], dtype)
    with np.errstate(over="ignore"):
        steps = np.concatenate([positive, np.nextafter(positive, dtype.type(0)), np.nextafter(positive, dtype.type(np.inf))])
    integer = np.uint32 if dtype == F32 else np.uint64
    odd_nan = np.array([1, 12345], integer) + np.array(np.inf, dtype).view(integer)
    every = np.concatenate([steps, odd_nan.view(dtype)])
    return np.concatenate([every, -every])


def samples(dtype: DType, count: int, rng: np.random.Generator) -> Array:
    """Numbers of every kind: a third random bits, a third of all usual sizes, a third around 1."""
    integer = np.uint32 if dtype == F32 else np.uint64
    third = count // 3
    with np.errstate(all="ignore"):
        bits = rng.integers(0, np.iinfo(integer).max, count - 2 * third, dtype=integer, endpoint=True).view(dtype)
        usual = (rng.normal(size=third) * 10.0 ** rng.uniform(-4, 3, size=third)).astype(dtype)
        near = ((1 + rng.normal(size=third) * 10.0 ** rng.uniform(-6, 0, size=third)) * rng.choice([-1, 1], third)).astype(dtype)
    return np.concatenate([bits, usual, near])


def pairs(dtype: DType, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Operands of functions of two: random bits, usual sizes, bases near 1 with large exponents, small integers."""
    quarter = count // 4
    integers = [rng.integers(-60, 60, quarter).astype(dtype) for _ in range(2)]
    near = (np.exp(rng.normal(size=quarter) * 0.1).astype(dtype), (rng.normal(size=quarter) * 1000).astype(dtype))
    usual = (np.exp(rng.normal(size=quarter) * 10).astype(dtype), (rng.normal(size=quarter) * 10).astype(dtype))
    bits = [samples(dtype, count - 3 * quarter, rng) for _ in range(2)]
    x, y = (np.concatenate(parts) for parts in zip(integers, near, usual, (rng.permutation(bits[0]), rng.permutation(bits[1]))))
    return x, y


__all__ = ["BINARY", "EXACT", "F32", "F64", "bound", "errors", "pairs", "reference", "samples", "specials"]
