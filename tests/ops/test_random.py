"""Random draws: fixed by the key, independent across keys, and of the distribution they name."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import TypeRuleError
from nagraph.ir import build, spec
from nagraph.ir.types import as_dtype
from nagraph.nn import initializers
from nagraph.ops import random
from nagraph.ops.random import FoldIn, RandomBits
from tests.support import check_batching, evaluate

N = 20_000


def test_bits_are_the_published_cipher():
    """Threefry-2x32, 20 rounds, key and counter zero: 6b200159 99ba4efe (Salmon et al. 2011)."""
    key = np.zeros(2, np.uint32)
    assert int(random.bits(key, (1,), 64)[0]) == 0x6B20015999BA4EFE
    assert [int(b) for b in random.bits(key, (3,), 32)[:2]] == [0x6B200159, 0x99BA4EFE]


def test_draws_follow_from_the_key():
    key = random.key(7)
    np.testing.assert_array_equal(random.uniform(key, (5,)), random.uniform(key, (5,)))
    assert not np.array_equal(random.uniform(key, (5,)), random.uniform(random.key(8), (5,)))
    np.testing.assert_array_equal(random.bits(key, (3,)), random.bits(key, (9,))[:3])


def test_keys_split_into_different_ones():
    key = random.key(2**40 + 3)
    assert key.tolist() == [256, 3]
    keys = random.split(key, 1000)
    assert keys.shape == (1000, 2) and len({tuple(k) for k in keys.tolist()}) == 1000
    np.testing.assert_array_equal(keys[5], random.fold_in(key, 5))


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_dtypes_and_ranges(dtype):
    u, n = random.uniform(random.key(0), (N,), dtype), random.normal(random.key(1), (N,), dtype)
    assert u.dtype == n.dtype and np.isfinite(n.astype(np.float64)).all()
    assert u.min() >= 0 and u.max() < 1
    assert random.uniform(random.key(0)).dtype == np.float32


def test_moments():
    # Bounds are five standard errors.
    key = random.key(3)
    u, n = random.uniform(key, (N,), "f64", -1.0, 3.0), random.normal(key, (N,), "f64")
    assert abs(u.mean() - 1) < 5 * np.sqrt(16 / 12 / N) and u.min() >= -1 and u.max() < 3
    assert abs(n.mean()) < 5 / np.sqrt(N) and abs(n.var() - 1) < 5 * np.sqrt(2 / N)
    assert abs(random.exponential(key, (N,)).mean() - 1) < 5 / np.sqrt(N)
    assert abs(random.bernoulli(key, 0.3, (N,)).mean() - 0.3) < 5 * np.sqrt(0.21 / N)


def test_categorical_draws_with_softmax_probabilities():
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    draws = random.categorical(random.key(4), logits, shape=(N,))
    found = np.bincount(draws, minlength=3) / N
    assert np.abs(found - [0.1, 0.6, 0.3]).max() < 5 * np.sqrt(0.24 / N)
    assert random.categorical(random.key(4), np.zeros((2, 5, 3)), axis=1).shape == (2, 3)


RANGES = [(-3, 4, "i64"), (0, 256, "u8"), (-128, 128, "i8"), (0, 2**64, "u64"), (-(2**63), 2**63, "i64")]


@pytest.mark.parametrize("low,high,dtype", RANGES)
def test_randint_covers_its_range(low, high, dtype):
    draws = random.randint(random.key(5), (N,), low, high, dtype)
    assert int(draws.min()) >= low and int(draws.max()) < high
    if high - low <= 256:
        assert len(np.unique(draws)) == high - low
    with pytest.raises(TypeRuleError, match="low < high"):
        random.randint(random.key(5), (1,), 3, 3)


def test_permutations_hold_everything_once():
    assert sorted(random.permutation(random.key(6), 50).tolist()) == list(range(50))
    x = np.arange(12).reshape(3, 4)
    assert sorted(random.permutation(random.key(6), x, axis=1)[0].tolist()) == [0, 1, 2, 3]
    assert random.permutation(random.key(6), 0).shape == (0,)


def test_all_of_it_traces():
    def body(key):
        a, b = random.split(key)
        c = random.fold_in(a, 3)
        return [random.normal(a, (4,)), random.uniform(b, (2, 3)), random.bernoulli(c, 0.5, (6,)),
                random.permutation(c, 5), random.randint(a, (3,), 0, 10), random.categorical(b, np.zeros((2, 3)))]

    key = random.key(11)
    graph = build("draws", [spec((2,), "u32")], body)
    for got, want in zip(evaluate(graph, key), body(key), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want)


def test_seeds_trace():
    graph = build("seed", [spec((), "i64")], lambda seed: [random.key(seed)])
    for seed in (0, 2**40 + 3, -1):
        (got,) = evaluate(graph, np.int64(seed))
        np.testing.assert_array_equal(got, random.key(seed))


@pytest.mark.parametrize("op", [RandomBits((3, 2), 32), RandomBits((), 64), FoldIn()], ids=str)
def test_batches(op):
    for operands in op.samples(np.random.default_rng(0)):
        check_batching(op, operands)


def test_keys_are_checked():
    with pytest.raises(TypeRuleError, match=r"key\(seed\)"):
        random.uniform(np.zeros(2), (3,))


DTYPES = ["f16", "bf16", "f32", "f64"]
INTERVALS = [(0, 1), (1e6, 1e6 + 1), (-3, 5), (0.1, 0.2), (100, 101), (-1e-4, 1e-4), (-2048, -2047)]
RUNS = {"eager": lambda f: f, "numpy": lambda f: ng.jit(f, backend="numpy"), "llvm": ng.jit}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("low,high", INTERVALS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_is_below_its_upper_bound(dtype, low, high, run):
    if dtype == "f16" and high > 65504:
        return
    u = RUNS[run](lambda k: random.uniform(k, (2 * N,), dtype, low, high))(random.key(9))
    step = np.abs(np.spacing(np.asarray(max(abs(low), abs(high))))) * 2.0 ** (52 - {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}[dtype])
    u = u.astype(np.float64)
    assert u.max() < high and u.min() >= low - step
    # Five standard errors, and what the grid of the dtype is wide.
    assert abs(u.mean() - (low + high) / 2) < 5 * (high - low) / np.sqrt(24 * N) + step
    low, high = (np.asarray(x, np.float64 if dtype == "f64" else np.float32) for x in (low, high))
    given = ng.jit(lambda k, a, b: random.uniform(k, (2 * N,), dtype, a, b))(random.key(9), low, high)
    assert given.astype(np.float64).max() < high


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32"])
def test_bits_that_round_up_give_the_number_below_one(dtype, monkeypatch):
    """All bits set: the largest number below 1, and its functions are finite."""
    monkeypatch.setattr(random, "bits", lambda key, shape, width=32: np.full(shape, 2**width - 1, f"u{width // 8}"))
    u = random.uniform(None, (3,), dtype)
    assert (u == np.nextafter(np.ones((), u.dtype), np.zeros((), u.dtype))).all()
    assert random.uniform(None, (1,), dtype, -0.3, 0.7)[0] < 0.7
    for draw in (random.exponential, random.gumbel, random.normal):
        assert np.isfinite(draw(None, (3,), dtype).astype(np.float64)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_in_every_dtype(dtype):
    n = 5 * N
    key = random.key(11)
    draws = {"uniform": (1 / 2, 1 / 12), "normal": (0, 1), "exponential": (1, 1), "gumbel": (np.euler_gamma, np.pi**2 / 6)}
    for name, (mean, variance) in draws.items():
        x = getattr(random, name)(key, (n,), dtype).astype(np.float64)
        assert np.isfinite(x).all(), name
        assert abs(x.mean() - mean) < 5 * np.sqrt(variance / n), name
        assert abs(x.var() - variance) < 0.05 * variance, name
        if name in ("exponential", "gumbel"):  # the tail, which a coarse uniform cuts off
            tail = np.exp(-6.0)
            assert abs((x > 6).mean() - tail) < 5 * np.sqrt(tail / n) + 0.02 * tail, name


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_categorical_has_no_favourites(dtype, run):
    """Chi-square of 100 equal classes: 99 in the mean, a deviation of 14.1. Beside scores of 200 bfloat16 has steps of 1."""
    logits = np.full(100, 200.0).astype(as_dtype(dtype))
    draws = RUNS[run](lambda k, x: random.categorical(k, x, shape=(20_000,)))(random.key(12), logits)
    found = np.bincount(draws, minlength=100)
    assert ((found - 200) ** 2 / 200).sum() < 99 + 5 * 14.1


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_initial_values_of_16_bits_are_those_of_float32_rounded(dtype):
    key = random.key(1)
    for init in (initializers.normal(0.02), initializers.uniform(0.3), initializers.he_normal, initializers.fan_in_uniform):
        wide, narrow = init(key, (40, 50), np.float32), init(key, (40, 50), dtype)
        rounded = ng.numpy.astype(wide, dtype)
        assert (narrow == rounded).mean() > 0.995
