"""Conversions between all dtypes round once: beside exact rational numbers, in the reference and on both backends."""

import functools
from fractions import Fraction
from itertools import product

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
from nagraph.ir.types import DTYPES, FLOATS, INTEGERS
from nagraph.ops.base import Cast
from tests.support import CPU_BACKENDS

#: Bits of precision, the exponents of the smallest normal number and of the largest.
FORMATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "f32": (24, -126, 127), "f64": (53, -1022, 1023)}
PAIRS = list(product(DTYPES, DTYPES))


def nearest(x: Fraction, form: str) -> float:
    """x rounded to a format, halves to even; beyond the largest an infinity."""
    bits, low, high = FORMATS[form]
    if not x:
        return 0.0
    exponent = max(abs(x.numerator).bit_length() - x.denominator.bit_length(), low)
    if Fraction(2) ** exponent > abs(x) and exponent > low:
        exponent -= 1
    unit = Fraction(2) ** (exponent - bits + 1)
    found = round(x / unit) * unit  # Python rounds halves to even
    return float(found) if abs(found) < Fraction(2) ** (high + 1) else float(np.copysign(np.inf, float(found > 0) - 0.5))


def halfway(form: str) -> list[Fraction]:
    """Numbers of this format, those halfway between neighbours, and those that lie a little beside the half; extremes."""
    bits, low, high = FORMATS[form]
    found = []
    for exponent in {low - bits + 1, low - 1, low, -1, 0, 5, 12, 30, 62, high} & set(range(low - bits + 1, high + 1)):
        unit = Fraction(2) ** (max(exponent, low) - bits + 1)
        for steps in (0, 1, 2, 3):
            for part in (Fraction(0), Fraction(1, 2)):
                for beside in (0, -1, 1, Fraction(1, 2**20), -Fraction(1, 2**20)):
                    value = Fraction(2) ** exponent + (steps + part + beside * Fraction(1, 2**12)) * unit
                    found += [value, -value, 2 * Fraction(2) ** exponent - value + Fraction(2) ** exponent]
    return [Fraction(0), *found]


EVERY = sorted({x for form in FORMATS for x in halfway(form)} | {Fraction(2**n + k) for n in (7, 8, 15, 16, 24, 31, 32, 53, 54, 62, 63)
                                                                 for k in (-1, 0, 1, 2 ** max(n - 9, 0), 2 ** max(n - 9, 0) + 1)})


@functools.cache
def inputs(name: str) -> np.ndarray:
    """The numbers above that the dtype holds, or what it makes of them."""
    dtype = DTYPES[name]
    if name == "bool":
        return np.array([False, True])
    if dtype in FLOATS:
        return np.unique(np.array([nearest(x, name) for x in EVERY])).astype(dtype)
    info = np.iinfo(dtype)
    rng = np.random.default_rng(1)
    whole = {int(x) * s for x in EVERY for s in (1, -1)} | {int(info.min), int(info.max), int(info.max) - 1}
    whole |= {int(v) for v in rng.integers(info.min, info.max, size=500, dtype=dtype, endpoint=True)}
    return np.array(sorted(v for v in whole if info.min <= v <= info.max), dtype)


@functools.cache
def converted(source: str, how: str) -> dict[str, np.ndarray]:
    """The inputs of a dtype in all dtypes: eagerly, by the op's reference, by a backend."""
    x, dtypes = inputs(source), DTYPES
    with np.errstate(all="ignore"):
        if how == "eager":
            return {name: ng.numpy.astype(x, dtype) for name, dtype in dtypes.items()}
        if how == "reference":
            return {name: Cast(dtype).evaluate(x) for name, dtype in dtypes.items()}
        return ng.jit(lambda v: {name: ng.numpy.astype(v, dtype) for name, dtype in dtypes.items()}, backend=how)(x)


def exact(x: np.generic) -> Fraction:
    return Fraction(float(x)) if x.dtype in FLOATS else Fraction(int(x))


@pytest.mark.parametrize("source,target", PAIRS)
def test_every_pair_rounds_once(source, target):
    x, dtype = inputs(source), DTYPES[target]
    held = np.ones(x.size, bool)
    if dtype in INTEGERS and x.dtype in FLOATS:
        info = np.iinfo(dtype)  # what an integer can't hold is undefined
        held = np.array([bool(np.isfinite(v)) and info.min <= int(v) <= info.max for v in x.astype(np.float64)])
    x = x[held]
    if dtype in FLOATS:
        finite = [bool(np.isfinite(np.float64(v))) for v in x]
        wanted = [nearest(exact(v), target) if f else float(v) for v, f in zip(x, finite)]
    elif target == "bool":
        wanted = [bool(v) for v in x]
    else:
        wanted = [(int(v) - (low := int(np.iinfo(dtype).min))) % 2 ** (8 * dtype.itemsize) + low for v in x]
    expected = np.array(wanted, np.float64 if dtype in FLOATS else dtype)
    for name in ("eager", "reference", *CPU_BACKENDS):
        got = converted(source, name)[target][held]
        assert got.dtype == dtype
        got = got.astype(np.float64) if dtype in FLOATS else got
        wrong = np.flatnonzero(~((got == expected) | ((got != got) & (expected != expected))))
        assert not wrong.size, (name, [(x[i], got[i], expected[i]) for i in wrong[:3]], wrong.size)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_numbers_and_lists_round_once(dtype):
    value = 1 + 2.0**-8 + 2.0**-40 if dtype == "bf16" else 1 + 2.0**-11 + 2.0**-40
    wanted = nearest(Fraction(value), dtype)
    x = np.zeros(3, DTYPES[dtype])
    for got in (x + value, ng.numpy.add(x, value), ng.jit(lambda x: x + value)(x), ng.numpy.array([value], dtype),
                ng.numpy.full_like(x, value), ng.jit(lambda x: ng.numpy.full_like(x, value))(x))[1:]:
        assert got.dtype == ml_dtypes.bfloat16 if dtype == "bf16" else got.dtype == np.float16
        assert float(got[0]) == wanted
