"""Every op on MLX against its NumPy reference: over its samples in every dtype, in every order of memory, and for sizes 0 and 1."""

from __future__ import annotations

import pathlib
import re

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.mps.arrays import KIND
from nagraph.backends.mps.rules import RULES
from nagraph.ir.types import BOOL, DTYPES, FLOATS, INTEGERS, type_of
from nagraph.ops.arg_extremum import ArgMax
from nagraph.ops.base import Elementwise
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.convolution import ConvGeneral
from nagraph.ops.cumulative import Cummax, Cumsum
from nagraph.ops.dynamic_slice import DynamicSlice, DynamicUpdateSlice
from nagraph.ops.indexing import Gather, Scatter
from nagraph.ops.joining import Concatenate
from nagraph.ops.movement import Broadcast, Flip, Iota, Reshape
from nagraph.ops.operands import as_array
from nagraph.ops.pooling import WindowArgmax, WindowMax, WindowPut, WindowSum
from nagraph.ops.random import RandomBits
from nagraph.ops.reduction import All, Max, Prod, Sum
from nagraph.ops.slicing import Pad, Slice
from nagraph.ops.sorting import Argsort, Sort
from nagraph.ops.windows import Windows
from tests.kernel.references import BINARY, errors, reference
from tests.mps.ways import ORDERS, op_by_op, stored  # noqa: F401 - a fixture for all tests here
from tests.support import graph_of, own_ops
from tests.test_guarantees import KINDS, OF_SEVERAL_KINDS, OPS, TABLE, as_float, bits, cast_samples

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "mps.md").read_text(encoding="utf-8")
#: Units in the last place of float32 that docs/mps.md allows MLX's functions on this machine's CPU.
ULPS = {name: float(ulps) for names, ulps in re.findall(r"^\| ((?:`\w+`,? ?)+) \| ([\d.]+) \|", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)}
#: Functions whose errors are of 1, and not of the result.
OF_ONE = {"erf"}
#: Ops of which no sign of a zero is promised.
EITHER_ZERO = {"maximum", "minimum", "max", "min", "clip", "sort", "cummax", "cummin", "window_max"}
DTYPES_HERE = {n: d for n, d in DTYPES.items() if n != "f64"}
SAMPLED = {name: op for name, op in OPS.items() if list(op.samples(np.random.default_rng(0)))}


def run(op, arrays):
    """The op alone on MLX: no pass changes its graph."""
    exe = ng.compile(graph_of(op, [np.empty(a.shape, KIND.type(a).dtype) if not isinstance(a, np.ndarray) else a for a in arrays]),
                     backend="mps", passes="")
    return [ng.to_numpy(y) for y in exe(*arrays)]


def expected(op, arrays):
    with np.errstate(all="ignore"):
        found = op.evaluate(*arrays)
    return found if isinstance(found, tuple) else (found,)


def operands(op, dtype):
    """The op's samples with what is floating in them, or all, as the dtype."""
    if op.name not in OF_SEVERAL_KINDS:
        yield from cast_samples(op, dtype)
        return
    for sample in op.samples(np.random.default_rng(0)):
        arrays = [as_array(x) for x in sample]
        if any(a.dtype in FLOATS for a in arrays):
            yield [a.astype(dtype) if a.dtype in FLOATS else a for a in arrays]
        elif dtype == DTYPES["f32"]:
            yield arrays


def spacing(exact, dtype):
    """The units in the last place of a dtype, at each number."""
    info = ml_dtypes.finfo(dtype)
    size = np.maximum(np.abs(np.nan_to_num(exact, nan=0, posinf=0, neginf=0)), float(info.smallest_normal))
    return 2.0 ** (np.floor(np.log2(size)) - info.nmant)


def compare(op, given, found, wanted):
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    promise, dtype = TABLE[op.name][1], wanted.dtype
    if promise == "same bits" or dtype not in FLOATS:
        if op.name in EITHER_ZERO:
            np.testing.assert_array_equal(as_float(found) + 0.0, as_float(wanted) + 0.0)
        else:
            assert bits(found) == bits(wanted), f"{found} in place of {wanted}"
        return
    exact = as_float(wanted)
    if promise == "sum":
        scale = max((float(np.abs(np.nan_to_num(as_float(a))).max(initial=0)) for a in given if a.dtype in FLOATS), default=1.0)
        room = 1e-5 * max(scale, float(np.abs(np.nan_to_num(exact)).max(initial=0))) + (dtype.itemsize == 2) * spacing(exact, dtype)
    else:
        units = np.full_like(exact, 2.0**-24) if op.name in OF_ONE and dtype.itemsize == 4 else spacing(exact, dtype)
        room = units * (ULPS[op.name] + 1 if dtype.itemsize == 4 else 1)  # the reference has an error as well
    np.testing.assert_array_equal(np.isnan(as_float(found)), np.isnan(exact))
    np.testing.assert_array_equal(np.isinf(as_float(found)), np.isinf(exact))
    finite = np.isfinite(exact)
    with np.errstate(invalid="ignore"):
        near = np.abs(as_float(found) - exact)
    assert (near[finite] <= np.broadcast_to(room, exact.shape)[finite]).all(), f"{found} in place of {wanted}"


def test_every_op_of_the_house_has_a_rule():
    refused = {name for name, cls in own_ops().items() if cls not in RULES and not issubclass(cls, Elementwise)}
    assert refused == {"debug_print", "while_loop"}, "these are stops of a program"


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_in_every_dtype(name):
    op, checked = OPS[name], 0
    for dtype in DTYPES_HERE.values():
        for given in operands(op, dtype):
            if any(a.dtype == DTYPES["f64"] for a in given):
                continue
            if op.name == "reciprocal" and dtype in INTEGERS:
                given = [np.maximum(x, 1) for x in given]  # of 0 nothing is promised
            try:
                graph_of(op, given)
                wanted = expected(op, given)
            except TypeError:
                continue
            if any(y.dtype == DTYPES["f64"] for y in wanted):
                continue
            for one, other in zip(run(op, given), wanted, strict=True):
                compare(op, given, one, other)
            checked += 1
    assert checked or op.name == "cast"


@pytest.mark.parametrize("order", [o for o in ORDERS if o not in ("C", "unaligned")])
@pytest.mark.parametrize("name", [n for n, op in SAMPLED.items() if getattr(op, "dtype", None) != DTYPES["f64"]])
def test_orders_of_memory(name, order):
    op = OPS[name]
    for given in operands(op, next(d for d in (DTYPES["f32"], DTYPES["i32"], DTYPES["u32"], BOOL) if d in KINDS[TABLE[op.name][0]])):
        if not any(a.ndim for a in given) or any(a.dtype == DTYPES["f64"] for a in given):
            continue
        arrays = [stored(a, order) for a in given]
        held = list(map(ng.to_numpy, arrays))
        try:
            wanted = expected(op, held)
        except (TypeError, ng.errors.LabelError):
            continue
        for one, other in zip(run(op, arrays), wanted, strict=True):
            if other.dtype != DTYPES["f64"]:
                compare(op, held, one, other)
        return


def zeros(*shape, dtype="f4"):
    return np.zeros(shape, dtype)


X, PLACES = np.arange(6, dtype="f4").reshape(2, 3), np.array([0, 2, -1])
#: Ops on operands with axes of size 0 or 1.
SMALL = [
    (Sum((0,)), zeros(0, 3)), (Sum((1,)), zeros(0, 3)), (Sum((0, 1)), zeros(1, 1)), (Prod((0,)), zeros(0, 2)),
    (All((0,)), zeros(0, 2, dtype=bool)), (Max((1,)), zeros(0, 3)), (Max((0,)), zeros(1, 3)), (ArgMax(1), zeros(0, 3)),
    (ArgMax(0), zeros(1, 3)), (Cumsum(0), zeros(0, 3)), (Cummax(1), zeros(0, 3)), (Cumsum(1, True), zeros(3, 1)),
    (Sort(0), zeros(0, 2)), (Sort(1), zeros(2, 1)), (Argsort(0), zeros(0)), (Argsort(0), zeros(1)), (Concatenate(0), zeros(0, 3), X),
    (Concatenate(1), X, zeros(2, 0)), (Flip((0,)), zeros(0, 3)), (Reshape((3, 0)), zeros(0, 2)), (Reshape((1, 1)), np.float32(3)),
    (Broadcast((2, 0, 3)), zeros(0, 3)), (Broadcast((0, 3)), zeros(1, 3)), (Slice((1, 1), (1, 3), (1, 1)), X),
    (Pad((1, 2), (0, 1), (2, 1)), zeros(0, 1)), (Pad((0,), (0,), (3,)), zeros(1)), (Pad((0,), (1,), (3,)), zeros(2)),
    (Iota(DTYPES["i32"], (0, 2), 1),), (Iota(DTYPES["bf16"], (300,), 0),),
    (DotGeneral(((1,), (0,)), ((), ())), zeros(2, 0), zeros(0, 3)), (DotGeneral(((1,), (0,)), ((), ())), zeros(0, 2), zeros(2, 3)),
    (DotGeneral(((1,), (0,)), ((), ())), zeros(2, 0, dtype="i4"), zeros(0, 3, dtype="i4")), (DotGeneral(), np.float32(2), X),
    (DotGeneral(((2,), (1,)), ((0,), (0,))), zeros(0, 2, 3), zeros(0, 3, 2)),
    (ConvGeneral((1,), ((0, 0),)), zeros(0, 2, 5), zeros(3, 2, 2)), (ConvGeneral((1,), ((0, 0),)), zeros(1, 2, 1), zeros(3, 2, 2)),
    (ConvGeneral((1,), ((2, 2),)), zeros(1, 1, 0), zeros(3, 1, 2)),
    (ConvGeneral((2,), ((-1, 3),), (2,), (3,)), X.reshape(1, 1, 6), zeros(1, 1, 2) + 1), (Gather((0,)), X, zeros(0, dtype="i8")),
    (Gather((0,)), zeros(3, 0), PLACES), (Gather((0, 1)), X, np.int64(1), np.int64(-1)), (Gather((1,)), X, np.uint64(2**63)),
    (Scatter((0,), "add"), X, zeros(0, 3), zeros(0, dtype="i8")), (Scatter((0,), "set"), zeros(3, 0), zeros(3, 0), PLACES),
    (Scatter((0,), "max"), zeros(1, 3), X[:1], np.array([5])), (DynamicSlice((0, 1)), X, np.int64(1), np.int64(9)),
    (DynamicUpdateSlice(), X, zeros(0, 1), np.int64(1), np.int64(9)), (DynamicUpdateSlice(), np.float32(1), np.float32(2)),
    (DynamicSlice(()), np.float32(1)), (Windows((0,), (1,), (1,), (1,)), zeros(1)), (WindowMax((2,), (1,), ((0, 0),)), zeros(2, 1)),
    (WindowMax((2,), (1,), ((1, 1),)), zeros(0, 3)), (WindowArgmax((2,), (1,), ((1, 0),)), zeros(2, 1)),
    (WindowSum((2,), (2,), ((1, 1),)), X[:, :1]), (WindowPut((1,), (2,), (1,), ((0, 0),)), zeros(2, 0), zeros(2, 0, dtype="i8")),
    (RandomBits((0,)), np.array([1, 2], "u4")), (RandomBits((), 64), np.array([1, 2], "u4")),
    (RandomBits((5,)), zeros(0, 2, dtype="u4")),
]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case[0]} of {[str(type_of(as_array(x))) for x in case[1:]]}")
def test_sizes_of_zero_and_one(case):
    op, *given = case
    given = list(map(as_array, given))
    for one, other in zip(run(op, given), expected(op, given), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(as_float(one), as_float(other), rtol=1e-6)


@pytest.mark.parametrize("op", [op for op in SAMPLED.values() if isinstance(op, Elementwise)], ids=str)
def test_elementwise_ops_of_nothing_and_of_one(op):
    sample = next(s for s in (list(operands(op, d)) for d in (DTYPES["f32"], DTYPES["i32"], DTYPES["u32"], BOOL)) if s)[0]
    for shape in ((0,), (0, 3), ()):
        given = [np.ones(shape, DTYPES["f32"] if a.dtype == DTYPES["f64"] else a.dtype) for a in sample]
        try:
            wanted = expected(op, given)
        except TypeError:
            continue
        for one, other in zip(run(op, given), wanted, strict=True):
            compare(op, given, one, other)


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.9, 1e-3, -1e-3, 20.0, -20.0, 88.7, -87.0, 100.0, -103.0, 1e4, 1e10, -1e10, 1e38,
                    1.2e-38, np.inf, -np.inf, np.nan], np.float32)


def samples_of_functions(name):
    """Special values and some thousand random ones, of the sizes at which functions differ. For exp up to 88, beyond which MLX has inf."""
    rng = np.random.default_rng(0)
    near = [rng.uniform(-s, s, 2000) for s in (1, 10, 90)]
    near = np.concatenate([SPECIAL, *near, np.exp(rng.uniform(-80, 80, 2000))]).astype("f4")
    near = near[~(near > 88)] if name == "exp" else near
    return [near] if name not in BINARY else [x.reshape(-1) for x in np.meshgrid(near[::70], near[::110])]


def worst(name):
    """The largest error of a function in units of the last place of the exact result, of erf in those of numbers below 1.

    Results near the subnormal numbers, which GPUs may take for zero, are left out.
    """
    given = samples_of_functions(name)
    op = next(op for op in OPS.values() if op.name == name)
    with np.errstate(all="ignore"):
        exact = reference(name, np.dtype(np.float32))(*given)
        (found,) = run(op, given)
        wrong = np.abs(found - exact) * 2.0**24 if name in OF_ONE else errors(found, exact)
        return float(np.nanmax(wrong[~(np.abs(exact) < 2.0**-126)]))


@pytest.mark.parametrize("name", ULPS)
def test_functions_are_as_near_as_the_page_says(name):
    assert worst(name) <= ULPS[name]


def test_every_function_has_its_units_on_the_page():
    functions = {op.name for op in OPS.values() if "|" in TABLE[op.name][1]}
    assert set(ULPS) == functions


def test_an_op_without_a_rule_is_refused_in_one_sentence():
    from nagraph.ir.op import REGISTRY, op
    from nagraph.ops.base import Primitive

    @op
    class NobodyKnows(Primitive):
        """An op with a NumPy reference alone."""

        def infer(self, x):
            return x

        def reference(self, x):
            return x * 2

    try:
        with pytest.raises(ng.errors.MissingRuleError, match="backend 'mps' can't compute op nobody_knows: .* make it elementwise"):
            ng.jit(lambda x: NobodyKnows()(x), backend="mps")(X)
    finally:
        del REGISTRY["nobody_knows"]


def test_an_elementwise_op_from_elsewhere_is_computed_by_its_scalar_rule():
    from nagraph.ir.op import REGISTRY, op
    from nagraph.ops.base import Elementwise

    @op
    class ThreeTimesOnMlx(Elementwise):
        """3 x."""

        def reference(self, x):
            return x * 3

        def scalar(self, s, x):
            return x * 3

    try:
        np.testing.assert_array_equal(ng.to_numpy(ng.jit(lambda x: ThreeTimesOnMlx()(x), backend="mps")(X)), X * 3)
    finally:
        del REGISTRY["three_times_on_mlx"]


@pytest.mark.parametrize("source", [n for n in DTYPES_HERE])
def test_conversions_round_once(source):
    """From each dtype to each: numbers whose second rounding would go the other way among them."""
    rng = np.random.default_rng(0)
    dtype = DTYPES[source]
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        powers = [(1 << k) + (1 << max(k - d, 0)) + e for k in range(8 * dtype.itemsize) for d in (8, 9, 11, 12) for e in (-1, 0, 1)]
        x = np.array([v for p in powers for v in (p, -p) if info.min <= v <= info.max], dtype)
    else:
        x = (rng.normal(size=400) * 2.0 ** rng.integers(-6, 7, 400)).astype(dtype)
    for target, wanted in DTYPES_HERE.items():
        given = x if wanted in FLOATS or wanted == BOOL or dtype in INTEGERS else x[np.abs(as_float(x)) < 100]
        if wanted in INTEGERS and DTYPES[target].kind == "u" and dtype in FLOATS:
            given = np.abs(given)
        op = next(o for o in OPS.values() if o.name == "cast" and o.dtype == wanted)
        (found,) = run(op, [given])
        assert bits(found) == bits(expected(op, [given])[0]), target


def test_updates_that_repeat_are_added_in_one_order():
    """Whatever MLX's scatter does: the same bits from call to call, and those of sums in the order of the updates, by halves."""
    rng = np.random.default_rng(0)
    x, u, i = rng.normal(size=(5, 3)).astype("f4"), rng.normal(size=(400, 3)).astype("f4"), rng.integers(-6, 6, 400)
    for mode in ("add", "set", "max", "min"):
        op = Scatter((0,), mode)
        one, two = (run(op, [x, u, i])[0] for _ in range(2))
        assert one.tobytes() == two.tobytes()
        np.testing.assert_allclose(one, expected(op, [x, u, i])[0], rtol=1e-5, atol=1e-5)
    u[7] = np.nan
    for mode in ("add", "max", "min", "set"):
        found, wanted = run(Scatter((0,), mode), [x, u, i])[0], expected(Scatter((0,), mode), [x, u, i])[0]
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))


LONG = [((1_000_000,), (0,)), ((999_983,), (0,)), ((17, 7, 33, 40), (0, 1, 2, 3)), ((2, 5000, 3), (1,)), ((9000, 2), (0, 1))]


@pytest.mark.parametrize("shape, axes", LONG)
def test_long_sums_are_sums_of_sums(shape, axes):
    """Numbers of one sign, whose rounding errors all go one way. MLX's own sum of a million is off by ten times as much."""
    x = np.full(shape, 0.1, np.float32) + np.arange(shape[-1], dtype="f4") / 7e6
    (found,) = run(Sum(axes), [x])
    exact = x.astype("f8").sum(axes)
    np.testing.assert_allclose(found, exact, rtol=5e-5)
    if mx.default_device() == mx.Device(mx.cpu) and shape == LONG[0][0]:
        assert abs(float(mx.sum(mx.array(x))) / exact - 1) > 5e-4


@pytest.mark.parametrize("dtype", DTYPES_HERE)
def test_sorts_are_stable_and_nan_comes_last(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2 if dtype == "bool" else 9, (3, 200)).astype(DTYPES[dtype])
    if DTYPES[dtype] in INTEGERS:
        x[0, :3], x[1, :3] = np.iinfo(DTYPES[dtype]).max, np.iinfo(DTYPES[dtype]).min
    if DTYPES[dtype] in FLOATS:
        x[0, :4], x[0, 5:7], x[1, ::7] = np.nan, (np.inf, -np.inf), -x[1, ::7]
        x[2, 3] = -np.nan
    for axis in (0, 1):
        np.testing.assert_array_equal(run(Argsort(axis), [x])[0], expected(Argsort(axis), [x])[0])
        np.testing.assert_array_equal(as_float(run(Sort(axis), [x])[0]), as_float(expected(Sort(axis), [x])[0]))
        np.testing.assert_array_equal(run(ArgMax(axis), [x])[0], expected(ArgMax(axis), [x])[0])
    wide = np.array([2**62, -2**62, 2**62 + 1, 5, -1, 2**62], np.int64)
    np.testing.assert_array_equal(run(Argsort(0), [wide])[0], np.argsort(wide, kind="stable"))
