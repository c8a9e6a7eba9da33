"""Fused multiply-adds made of additions and multiplications, against exact fractions and the machine's own."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from nagraph.elementary.fused import fused_multiply_add
from nagraph.ir.scalar import F32, F64
from tests.kernel.compiled import compiled

INTEGER = {F32: np.int32, F64: np.int64}
COUNT = 1 << 11


def special(dtype):
    """Every triple of numbers at which something changes."""
    f = np.finfo(dtype)
    some = [0, 1, 1 + f.eps, 1 - f.epsneg, 2, 3, f.tiny, f.tiny * (1 - f.eps), f.smallest_subnormal, f.max, np.inf]
    values = np.array([*some, *(-x for x in some), np.nan], dtype)
    return [np.array(column) for column in zip(*itertools.product(values, repeat=3))]


def hard(dtype, rng):
    """Triples that round once and twice to different numbers: halves, cancellation, results that are subnormal, all by their bits."""
    f, kind = np.finfo(dtype), INTEGER[dtype]
    low, most = (-75, 75) if dtype == F32 else (-540, 500)

    def powers(low, high):
        return np.ldexp(rng.uniform(1, 2, COUNT) * rng.choice([-1, 1], COUNT), rng.integers(low, high, COUNT)).astype(dtype)

    def short(exponent):
        return np.ldexp(rng.integers(-1 << 12, 1 << 12, COUNT).astype(F64) // rng.integers(1, 1 << 11), exponent).astype(dtype)

    x, y = powers(low, most), powers(low, most)
    near = -(x * y)
    yield x, y, (near.view(kind) + rng.integers(-3, 4, COUNT).astype(kind)).view(dtype)
    yield x, y, (near.astype(F64) * np.ldexp(1.0, rng.integers(-60, 60, COUNT))).astype(dtype)
    for _ in range(4):
        a, b = rng.integers(low, most, COUNT), rng.integers(low, most, COUNT)
        yield short(a), short(b), short(a + b + rng.integers(-60, 60, COUNT))
        # x y lies among the subnormal numbers, with a few bits more than they have
        x = powers(2 * low, 0)
        x = (x.view(kind) & ~((kind(1) << rng.integers(0, f.nmant, COUNT).astype(kind)) - kind(1))).view(dtype)
        y = np.ldexp(rng.uniform(1, 2, COUNT), f.minexp - rng.integers(-4, 2 * f.nmant, COUNT) - np.frexp(x)[1]).astype(dtype)
        for z in (np.ldexp(rng.normal(size=COUNT), f.minexp - rng.integers(-3, f.nmant, COUNT)).astype(dtype), np.zeros_like(x), -(x * y)):
            yield x, y, z
    # x y is half of z's last place, and a little more or less, which twice as many digits don't hold beside z
    for sign in (1, -1):
        away = np.ldexp(1.0, -rng.integers(f.nmant // 2 + 4, f.nmant + 1, COUNT))
        z = (rng.integers(1 << (f.nmant - 1), 1 << f.nmant, COUNT) * 2 + rng.integers(0, 2, COUNT)).astype(dtype)
        yield (1 + away).astype(dtype), ((1 - sign * away) / 2).astype(dtype), z
    for _ in range(2):
        yield tuple(rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, COUNT, kind, endpoint=True).view(dtype) for _ in range(3))


def rounded(exact, dtype):
    """A fraction that is not zero as the nearest number of the dtype, halves to even: by whole numbers of its last place."""
    f = np.finfo(dtype)
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    place = max(exponent, f.minexp) - f.nmant
    whole = round(size / Fraction(2) ** place)  # Python rounds halves to even
    with np.errstate(over="ignore"):
        found = dtype.type(np.ldexp(F64.type(whole), place)) if whole < 1 << (f.nmant + 2) else dtype.type(np.inf)
    return -found if exact < 0 else found


def same(a, b, dtype):
    """Whether the bits are the same, of all but nan."""
    return (a.view(INTEGER[dtype]) == b.view(INTEGER[dtype])) | (np.isnan(a) & np.isnan(b))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_the_bits_are_those_of_the_exact_result_rounded_once(dtype):
    function = compiled(fused_multiply_add, dtype, 3)
    rng = np.random.default_rng(3)
    twice = 0
    with np.errstate(all="ignore"):
        for x, y, z in hard(dtype, rng):
            found = function(x, y, z)
            exact = [Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)) if np.isfinite([a, b, c]).all() else None
                     for a, b, c in zip(x[:256], y[:256], z[:256])]
            for n, value in enumerate(exact):
                if value:
                    assert same(found[n], rounded(value, dtype), dtype), (x[n], y[n], z[n], found[n], rounded(value, dtype))
            twice += int((~same(found, x * y + z, dtype)).sum())
    assert twice > COUNT, "hardly a case in which rounding twice gives another result"


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_the_bits_are_those_of_the_machine_special_values_included(dtype):
    ours, machine = compiled(fused_multiply_add, dtype, 3), compiled(lambda s, x, y, z: s.fma(x, y, z), dtype, 3)
    with np.errstate(all="ignore"):
        for case in (special(dtype), *hard(dtype, np.random.default_rng(4))):
            operands = [np.ascontiguousarray(np.resize(a, -(-a.size // 16) * 16)) for a in case]
            assert same(ours(*operands), machine(*operands), dtype).all()
