"""The elementary functions, compiled, against NumPy in wider arithmetic and the C library."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from nagraph import elementary
from nagraph.backends.llvm.text.target import host
from nagraph.ops import special
from tests.kernel.compiled import compiled, text
from tests.kernel.references import BINARY, F32, F64, bound, errors, pairs, reference, samples, specials

WIDTHS = (1, 4, 8, 16)
NAMES = elementary.__all__
COUNT = 1 << 17


def operands(name, dtype, count=COUNT):
    """Every special value (or pair of such) and `count` others, a multiple of 16 in all."""
    rng = np.random.default_rng(7)
    chosen = specials(dtype)
    if name in BINARY:
        every, others = [a.ravel() for a in np.meshgrid(chosen, chosen)], pairs(dtype, count, rng)
        arrays = [np.concatenate(parts) for parts in zip(every, others)]
    else:
        arrays = [np.concatenate([chosen, samples(dtype, count, rng)])]
    return [a[:a.size // 16 * 16] for a in arrays]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_error_is_bounded(name, dtype):
    arrays = operands(name, dtype)
    y = compiled(getattr(elementary, name), dtype, len(arrays))(*arrays)
    with np.errstate(all="ignore"):
        found = errors(y, reference(name, dtype)(*arrays))
    worst = int(np.argmax(found))
    assert found[worst] <= bound(name, dtype), (found[worst], [a[worst] for a in arrays], y[worst])


#: Functions of float32 that compute in float64 where there is one.
IN_DOUBLE = {"arccosh", "arcsinh", "arctan2", "arctanh", "cbrt", "cos", "erfc", "floor_divide", "fmod", "power", "remainder", "sin", "tan"}


def test_no_function_of_float32_needs_float64(monkeypatch):
    def in_double():
        return {name for name in NAMES if "double" in text(getattr(elementary, name), F32, 2 if name in BINARY else 1)}

    assert in_double() == IN_DOUBLE
    monkeypatch.setattr("nagraph.backends.llvm.text.lanes.Lanes.doubles", False)
    assert not in_double()


@pytest.mark.parametrize("name", sorted(IN_DOUBLE))
def test_error_is_bounded_without_float64(name, monkeypatch):
    """On a machine that has none, such as Apple's GPUs: what is exact stays so, and the others are within 3 units in the last place."""
    monkeypatch.setattr("nagraph.backends.llvm.text.lanes.Lanes.doubles", False)
    arrays, rule = operands(name, F32, 1 << 13), getattr(elementary, name)
    with np.errstate(all="ignore"):
        found = errors(compiled(rule, F32, len(arrays))(*arrays), reference(name, F32)(*arrays))
    assert found.max() <= (3.0 if name in ("erfc", "tan") else bound(name, F32))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_at_every_width(name, dtype):
    arrays = operands(name, dtype, 1 << 12)
    one, *others = [compiled(getattr(elementary, name), dtype, len(arrays), width)(*arrays) for width in WIDTHS]
    for other in others:
        np.testing.assert_array_equal(other, one)
        np.testing.assert_array_equal(np.signbit(other[~np.isnan(other)]), np.signbit(one[~np.isnan(one)]))


@pytest.mark.skipif(not host().scales_by_powers, reason="this CPU does not scale by powers of two in one instruction")
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["exp", "exp2", "erf", "erfc", "power"])
def test_the_same_bits_where_powers_of_two_are_added_to_exponents(name, dtype):
    arrays = operands(name, dtype)
    scaled = compiled(getattr(elementary, name), dtype, len(arrays))(*arrays)
    other = replace(host(), scales_by_powers=False)
    assert "scalef" not in text(getattr(elementary, name), dtype, len(arrays), target=other)
    np.testing.assert_array_equal(scaled, compiled(getattr(elementary, name), dtype, len(arrays), target=other)(*arrays))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_called(name, dtype):
    """Intrinsics that are instructions, and no jumps but the loop's; and one over what large angles need."""
    written = text(getattr(elementary, name), dtype, 2 if name in BINARY else 1)
    called = {match.split(".")[1] for match in re.findall(r"@(llvm\.[\w.]+)\(", written)}
    rare = name in ("sin", "cos", "tan")
    assert called <= {"fma", "fabs", "copysign", "sqrt", "floor", "trunc", "roundeven", *(["vector"] if rare else []),
                      *(["x86"] if "avx512.mask.scalef" in written else [])}
    assert not re.search(r"@(?!f\(|llvm\.)", written) and written.count("br ") == (4 if rare else 2)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_exact_values(dtype):
    """What is exact in NumPy is exact here."""
    whole = np.arange(-16, 16, dtype=dtype)
    powers = np.ldexp(dtype.type(1), np.arange(-16, 16)).astype(dtype)
    zero = np.zeros(16, dtype)

    def run(name, x, *y):
        return compiled(getattr(elementary, name), dtype, 1 + len(y))(x, *y)

    np.testing.assert_array_equal(run("exp2", whole), powers)
    np.testing.assert_array_equal(run("log2", powers), whole)
    np.testing.assert_array_equal(run("power", whole, np.full_like(whole, 2)), whole * whole)
    np.testing.assert_array_equal(run("cbrt", whole**3), whole)
    at_zero = {"exp": 1, "cos": 1, "cosh": 1, "sigmoid": 0.5, "erfc": 1, "sin": 0, "tanh": 0, "erf": 0}
    for name, expected in at_zero.items():
        np.testing.assert_array_equal(run(name, zero), expected)


#: What bounded functions are far out, at -x and at x.
FAR = {"erf": (-1, 1), "erfc": (2, 0), "tanh": (-1, 1), "sigmoid": (0, 1), "exp": (0, np.inf), "expm1": (-1, np.inf)}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", FAR)
def test_bounds_are_reached_exactly(name, dtype):
    """Far out a bounded function is its bound, not the number beside it: what is multiplied with the rest, as in gelu, vanishes."""
    far = np.geomspace(800, np.finfo(dtype).max, 31).astype(dtype)
    x = np.concatenate([far, [np.inf]]).astype(dtype)
    low, high = FAR[name]
    run = compiled(getattr(elementary, name), dtype, 1)
    np.testing.assert_array_equal(run(-x), np.full_like(x, low))
    np.testing.assert_array_equal(run(x), np.full_like(x, high))


def test_erf_is_one_from_where_it_rounds_to_one():
    x = np.linspace(3.93, 12, 4096, dtype=F32)
    np.testing.assert_array_equal(compiled(elementary.erf, F32, 1)(x), np.ones_like(x))


def test_edges_of_power():
    nan, inf = np.nan, np.inf
    cases = [(nan, 0, 1), (1, nan, 1), (-1, inf, 1), (-1, -inf, 1), (0, -1, inf), (-0.0, -1, -inf), (-0.0, -2, inf), (-2, 3, -8),
             (-2, 0.5, nan), (-inf, 3, -inf), (-inf, -3, -0.0), (0.5, inf, 0), (2, -inf, 0), (-8, 1 / 3, nan), (0, nan, nan),
             (2, 1, 2)]
    for dtype in (F32, F64):
        x, y, z = (np.array(column, dtype) for column in zip(*cases))
        found = compiled(elementary.power, dtype, 2)(x, y)
        np.testing.assert_array_equal(found, z)
        assert (np.signbit(found) == np.signbit(z))[~np.isnan(z)].all()


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_angles_near_quarter_turns(dtype):
    """Large numbers that lie next to multiples of π/2: there every bit of π counts."""
    hard = [16367173.0 * 2.0**72] if dtype == F32 else [6381956970095103.0 * 2.0**797, 5319372648326541.0 * 2.0**-48]
    multiples = np.arange(1, 4000) * (np.pi / 2)
    near = np.concatenate([[*hard, *(-h for h in hard)], multiples, multiples * 2.0**20]).astype(dtype)
    x = np.concatenate([near, np.nextafter(near, dtype.type(0)), np.nextafter(near, dtype.type(np.inf))])
    x = x[:x.size // 16 * 16]
    for name in ("sin", "cos", "tan"):
        found = errors(compiled(getattr(elementary, name), dtype)(x), reference(name, dtype)(x))
        assert found.max() <= bound(name, dtype)


def test_every_transcendental_op_has_its_function():
    ops = [v for v in vars(special).values() if isinstance(v, special.Transcendental)]
    assert len(ops) > 20
    for op in ops:
        for dtype in (F32, F64):
            arrays = operands(op.name, dtype, 160)
            rule, function = op.scalar, getattr(elementary, op.name)
            np.testing.assert_array_equal(*(compiled(f, dtype, len(arrays))(*arrays) for f in (rule, function)))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_an_angle_has_the_same_result_beside_large_ones(name, dtype):
    """Lanes that a large neighbour brings into the long way keep what the short way gives."""
    run = compiled(getattr(elementary, name), dtype)
    x = np.random.default_rng(0).normal(size=1 << 12).astype(dtype) * 100
    alone = run(x)
    x[5::7] = np.finfo(dtype).max
    beside = run(x)
    rest = np.arange(x.size) % 7 != 5
    np.testing.assert_array_equal(beside[rest], alone[rest])
    assert not np.array_equal(beside[~rest], alone[~rest])


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_next_to_quarter_turns(name, dtype):
    """Where the rest is smallest and the most bits cancel, on both sides of the place where the long way begins."""
    limit = 2.0**(17 if dtype == F32 else 46)
    rng = np.random.default_rng(1)
    n = np.concatenate([np.arange(1, 1 << 14), rng.uniform(0, 2 * limit / (np.pi / 2), 1 << 14) // 1])
    x = (n.astype(np.longdouble) * np.arccos(np.longdouble(0))).astype(dtype)
    x = np.concatenate([x, np.nextafter(x, dtype.type(0)), np.nextafter(dtype.type(limit), [0, limit, np.inf], dtype=dtype)])
    x = x[:x.size // 16 * 16]
    assert (np.abs(x) < limit).any() and (np.abs(x) > limit).any()
    y = compiled(getattr(elementary, name), dtype)(x)
    assert errors(y, reference(name, dtype)(x)).max() <= bound(name, dtype)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_functions_reach_their_limits(dtype):
    """Exactly, not within some ULP: 1 - tanh x or x (1 + erf x) are then zero."""
    x = np.array([-np.inf, -1e30, -1000, -30, 30, 1000, 1e30, np.inf] * 2, dtype)
    signs = np.sign(x)
    for name, limit in {"erf": signs, "tanh": signs, "erfc": 1 - signs}.items():
        np.testing.assert_array_equal(compiled(getattr(elementary, name), dtype)(x), limit)
