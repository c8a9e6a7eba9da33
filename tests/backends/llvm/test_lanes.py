"""Scalar rules and conversions, compiled at several widths, against the ops' references: bit for bit."""

from __future__ import annotations

import ctypes
import itertools
import platform
import re

import ml_dtypes
import numpy as np
import pytest

from nagraph.backends.llvm.native.machine_code import Library, object_code
from nagraph.backends.llvm.text.builder import Module, i64, vector
from nagraph.backends.llvm.text.lanes import Lanes, memory_type
from nagraph.elementary.narrow import NARROW
from nagraph.errors import MissingRuleError
from nagraph.ir.conversion import converted
from nagraph.ir.op import Op
from nagraph.ir.scalar import F32, F64, I64, U32, U64
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS, SHORT_NAMES, SIGNED
from nagraph.ops.base import Cast, Elementwise
from nagraph.ops.identities import stop_gradient
from tests.support import own_ops

X86 = platform.machine() in ("x86_64", "AMD64")
WIDTHS = (1, 4, 16)
COUNT = 1024
#: Exact on every backend; the transcendental functions have tests and bounds of their own.
OPS = {name: cls() for name, cls in own_ops().items() if issubclass(cls, Elementwise) and cls.__module__ != "nagraph.ops.special"}


# -- compiling -------------------------------------------------------------------------------------------------------


class Compiled:
    """Rules as functions of arrays, in one module. `add` them all, then `run`: what comes back is one array per width."""

    def __init__(self):
        self.module, self.library = Module(), None

    def add(self, name, rule, operands, result):
        for width in WIDTHS:
            code = self.module.function(f"{name}.{width}", "void", ["ptr"] * (len(operands) + 1) + ["i64"])
            lanes = Lanes(code, width)
            with code.loop(i64(0), code.arguments[-1], width, known=True) as loop:
                at = [code.offset(p, memory_type(d), loop.index) for p, d in zip(code.arguments, (*operands, result))]
                found = rule(lanes, *(self._load(lanes, d, p) for d, p in zip(operands, at)))
                assert found.dtype == result and found.raw.type == lanes.type(result)
                raw = code.convert("zext", found.raw, vector(width, "i8")) if result == BOOL else found.raw
                code.store(raw, at[-1], result.itemsize)
            code.ret()

    @staticmethod
    def _load(lanes, dtype, pointer):
        raw = lanes.code.load(vector(lanes.width, memory_type(dtype)), pointer, dtype.itemsize)
        return lanes.scalar(dtype, lanes.code.convert("trunc", raw, lanes.type(BOOL)) if dtype == BOOL else raw)

    def run(self, name, arrays, result):
        self.library = self.library or Library([object_code(str(self.module))])
        size = arrays[0].size
        padded = [np.resize(a, size + -size % max(WIDTHS)) for a in arrays]
        for width in WIDTHS:
            y = np.empty(padded[0].size, result)
            native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(arrays) + 1), ctypes.c_int64)
            native(self.library.address(f"{name}.{width}"))(*(a.ctypes.data for a in (*padded, y)), y.size)
            yield width, y[:size]


def rule_of(op, result):
    """The op's rule, 16-bit floats in float32 and rounded once if the op says so: as `Primitive.evaluate`."""

    def rule(lanes, *xs):
        narrow = op.widens and any(x.dtype in NARROW for x in xs)
        if not narrow:
            return op.scalar(lanes, *xs)
        return lanes.cast(op.scalar(lanes, *(lanes.cast(x, F32) if x.dtype in NARROW else x for x in xs)), result)

    return rule


# -- numbers ---------------------------------------------------------------------------------------------------------


def specials(dtype):
    """The numbers at which a rule is most likely to be wrong."""
    if dtype == BOOL:
        return np.array([False, True])
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        near = (info.min, info.min + 1, -7, -2, -1, 0, 1, 2, 3, 8 * dtype.itemsize - 1, 8 * dtype.itemsize, info.max - 1, info.max)
        return np.array(sorted({n for n in near if info.min <= n <= info.max}), dtype)
    info = ml_dtypes.finfo(dtype)
    sizes = [0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 1e4, float(info.tiny), float(info.smallest_subnormal), float(info.max), np.inf]
    sizes.append(1 + float(info.eps))
    return np.array([*sizes, *(-v for v in sizes), np.nan]).astype(dtype)


def bits(dtype, rng, size):
    """Any bits at all."""
    if dtype == BOOL:
        return rng.random(size) < 0.5
    return rng.integers(0, 256, size * dtype.itemsize, dtype=np.uint8).view(dtype)


def moderate(dtype, rng, size):
    """Numbers near 1, or small integers; every third float is integral."""
    if dtype not in FLOATS:
        return rng.integers(0, 10, size).astype(dtype)
    x = rng.normal(size=size) * 4
    x[::3] = np.rint(x[::3])
    return x.astype(dtype)


def operands(dtypes, samples, seed=0):
    """Arrays of equal length: every tuple of special values, any bits, moderate numbers, both, and samples."""
    rng = np.random.default_rng(seed)
    every = np.meshgrid(*map(specials, dtypes), indexing="ij")
    rows = [[a.ravel() for a in every], [bits(d, rng, COUNT) for d in dtypes], [moderate(d, rng, COUNT) for d in dtypes]]
    for k in range(len(dtypes) if len(dtypes) > 1 else 0):
        rows.append([(bits if i == k else moderate)(d, rng, COUNT) for i, d in enumerate(dtypes)])
    with np.errstate(all="ignore"):
        for sample in samples:
            arrays = np.broadcast_arrays(*sample)
            rows.append([a.astype(d).ravel() for a, d in zip(arrays, dtypes)])
    return [np.concatenate(parts) for parts in zip(*rows)]


def check(found, expected, arrays, what):
    """Equal bits; any nan is as good as another."""
    kind = np.dtype(f"u{expected.dtype.itemsize}")
    with np.errstate(all="ignore"):
        nans = (found != found) & (expected != expected)
    wrong = (found.view(kind) != expected.view(kind)) & ~nans
    places = np.flatnonzero(wrong)
    shown = [(*(a[i] for a in arrays), "gives", found[i], "not", expected[i]) for i in places[:5]]
    assert not places.size, f"{what}: {places.size} of {wrong.size} are wrong: {shown}"


# -- ops --------------------------------------------------------------------------------------------------------------


def dtypes_of(op, dtype):
    """The operands' dtypes: one for all but those that keep their own, the condition of a choice."""
    return [BOOL if i in op.separate else dtype for i in range(op.count())]


def prepared(name, arrays):
    """The operands at which the reference has a meaning."""
    x = arrays[0]
    if name == "reciprocal" and x.dtype in INTEGERS:
        return [x[x != 0]]  # NumPy converts the infinite one, which has no integer
    if name in ("maximum", "minimum", "clip") and x.dtype in FLOATS and not X86:
        return [np.where(a == 0, np.zeros_like(a), a) for a in arrays]  # which zero NumPy gives depends on the CPU
    return arrays


@pytest.mark.parametrize("name", OPS)
def test_ops(name):
    op, compiled = OPS[name], Compiled()
    results = {}
    for dtype in op.dtypes - (FLOATS if name == "power" else frozenset()):
        short, given = SHORT_NAMES[dtype], dtypes_of(op, dtype)
        arrays = prepared(name, operands(given, op.samples(np.random.default_rng(1))))
        expected = op.evaluate(*arrays)
        compiled.add(short, rule_of(op, expected.dtype), given, expected.dtype)
        results[short] = arrays, expected
    for short, (arrays, expected) in results.items():
        for width, found in compiled.run(short, arrays, expected.dtype):
            check(found, expected, arrays, f"{name} of {short}, {width} lanes")


def test_integer_powers_at_negative_exponents():
    """The integer part, of 0 too."""
    compiled, power = Compiled(), OPS["power"]
    for dtype in SIGNED:
        compiled.add(str(dtype), power.scalar, [dtype, dtype], dtype)
    for dtype in SIGNED:
        least = np.iinfo(dtype).min
        x, y = (a.ravel() for a in np.meshgrid(np.array([least, -3, -2, -1, 0, 1, 2, 3], dtype), np.array([least, -4, -3, -1], dtype)))
        expected = np.where(x == 1, 1, np.where(x == -1, np.where(y % 2, -1, 1), 0)).astype(dtype)
        check(power.reference(x, y), expected, [x, y], f"power of {dtype}, reference")
        for width, found in compiled.run(str(dtype), [x, y], dtype):
            check(found, expected, [x, y], f"power of {dtype}, {width} lanes")


def test_what_guards_a_constant_divisor_is_not_computed():
    """An index divided by a size: one division, and no choice of what to divide by."""
    compiled = Compiled()
    compiled.add("f", lambda lanes, x: OPS["floor_divide"].scalar(lanes, x, lanes.constant(12, I64)), [I64], I64)
    text = str(compiled.module)
    assert re.search(r"sdiv <16 x i64> %\w+, splat \(i64 12\)", text) and "icmp eq" not in text
    for width, found in compiled.run("f", [np.arange(-40, 40)], I64):
        check(found, np.arange(-40, 40) // 12, [np.arange(-40, 40)], f"{width} lanes")


def test_ops_without_a_scalar_form_say_so():
    class Odd(Op):
        name = "odd"

    with pytest.raises(MissingRuleError, match="op odd has no scalar form"):
        Odd().scalar(None, None)


def test_stop_gradient_is_the_identity():
    x = object()
    assert stop_gradient.scalar(None, x) is x


# -- conversions -----------------------------------------------------------------------------------------------------


def within(x, low, high):
    """Those numbers whose integer part is in the range, compared without rounding the bounds."""
    if x.dtype == BOOL:
        return x
    if x.dtype in INTEGERS:
        return np.array([v for v in x.tolist() if low <= v <= high], x.dtype)
    with np.errstate(all="ignore"):
        return np.array([v for v in x.astype(F64) if np.isfinite(v) and low <= int(v) <= high]).astype(x.dtype)


def run_casts(pairs):
    """pairs: (source values, dtype). Every one of them against the reference (`nagraph.ir.conversion`, itself held to exact numbers)."""
    compiled = Compiled()
    for n, (x, dtype) in enumerate(pairs):
        compiled.add(f"cast{n}", rule_of(Cast(dtype), dtype), [x.dtype], dtype)
    for n, (x, dtype) in enumerate(pairs):
        with np.errstate(all="ignore"):
            expected = converted(x, dtype)
        for width, found in compiled.run(f"cast{n}", [x], dtype):
            check(found, expected, [x], f"{x.dtype} to {dtype}, {width} lanes")


@pytest.mark.parametrize("source", DTYPES)
def test_casts(source):
    (x,) = operands([DTYPES[source]], [])
    pairs = []
    for dtype in DTYPES.values():
        fits = x if dtype not in INTEGERS or x.dtype not in FLOATS else within(x, np.iinfo(dtype).min, np.iinfo(dtype).max)
        pairs.append((fits, dtype))
    run_casts(pairs)


@pytest.mark.skipif(not X86, reason="other machines convert what is out of range otherwise")
@pytest.mark.parametrize("source", ["f16", "bf16", "f32", "f64"])
def test_casts_out_of_range_wrap_around(source):
    """By way of int32 or int64, which get their least number where they can't hold it. Of uint32 and uint64 NumPy knows other ways."""
    (x,) = operands([DTYPES[source]], [])
    wide = [(within(x, -2**31, 2**32 - 1), U32), (within(x, -2**63, 2**64 - 1), U64)]
    run_casts([*((x, dtype) for dtype in INTEGERS - {U32, U64}), *wide])


HALVES = [DTYPES["f16"], DTYPES["bf16"]]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_16_bit_float_widens(dtype):
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    run_casts([(x, F32), (x, F64), (x, BOOL), *((x, other) for other in HALVES)])


@pytest.mark.parametrize("dtype,wide", list(itertools.product(HALVES, (F32, F64))), ids=str)
def test_rounding_to_16_bits(dtype, wide):
    """At every number, halfway to the next, and next to both."""
    with np.errstate(all="ignore"):
        x = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(F64)
    x = np.sort(x[np.isfinite(x)])
    above = 2 * x[-1] - x[-2]  # halfway to it begins what is infinite
    ends = np.array([-above, *x, above])
    with np.errstate(all="ignore"):
        at = np.concatenate([ends, (ends[:-1] + ends[1:]) / 2]).astype(wide)
    run_casts([(np.concatenate([at, np.nextafter(at, wide.type(np.inf)), np.nextafter(at, -wide.type(np.inf))]), dtype)])


@pytest.mark.parametrize("source", [I64, U64], ids=str)
def test_integers_are_rounded_once(source):
    """At halves of float32 and float64, and next to them."""
    at = np.array([(k << n) + d for n in (30, 40, 9) for k in (2**24 + 1, 2**24 + 3, 2**53 + 1, 2**53 + 3) for d in (-1, 0, 1)
                   if (k << n) + d < 2**63], source)
    run_casts([(at, F32), (at, F64)])
