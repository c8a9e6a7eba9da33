"""Products without rows, without columns or without a sum: every element of every result is written, in whatever order it is stored."""

import functools
import itertools

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends import find
from nagraph.nn import functional as F
from nagraph.thresholds import setting


def on_nan(function, *arrays, passes=None):
    """The result of a function of arrays, computed into an array of nan."""
    executable = ng.jit(function, passes=passes).lower(*arrays).executable
    (output,) = executable.graph.outputs
    return executable.run([np.asarray(a, order="C") for a in arrays], {0: np.full(output.shape, np.nan, output.dtype)})[0]


def any_einsum(rng):
    """A specification of one to three operands, with letters that come twice, alone or not at all in the result, and arrays for it."""
    sizes = {c: int(rng.choice([1, 2, 3, 17])) for c in "abcde"}
    letters = list("abcde"[:rng.integers(1, 6)])
    operands = []
    for _ in range(rng.integers(1, 4)):
        chosen = list(rng.permutation(letters)[:rng.integers(0, 4)])
        if chosen and rng.random() < 0.2:
            chosen.append(rng.choice(chosen))
        operands.append("".join(chosen))
    used = sorted(set("".join(operands)))
    result = "".join(c for c in rng.permutation(used) if rng.random() < 0.7) if used else ""
    arrays = [rng.integers(-4, 5, size=[sizes[c] for c in o]).astype(rng.choice(["f4", "f8"], p=[.3, .7])) for o in operands]
    return f"{','.join(operands)}->{result}", arrays


@pytest.mark.parametrize("often", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_any_einsum_is_what_numpy_computes(seed, often):
    rng = np.random.default_rng(seed)
    with setting(lambda t: t.often if often else t.value):
        for _ in range(40):
            spec, arrays = any_einsum(rng)
            got, expected = on_nan(functools.partial(np.einsum, spec), *arrays), np.einsum(spec, *arrays)
            np.testing.assert_array_equal(got, expected, err_msg=f"{spec} of {[a.shape for a in arrays]}")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("rows, depth, columns", list(itertools.product([1, 2, 17], repeat=3)))
def test_a_product_is_stored_in_any_order(rows, depth, columns, order):
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-4, 5, size=s).astype("f4") for s in ((3, rows, depth), (3, depth, columns)))
    np.testing.assert_array_equal(on_nan(lambda x, y: np.transpose(x @ y, order), x, y), np.transpose(x @ y, order))
    np.testing.assert_array_equal(on_nan(lambda x, y: np.transpose(x @ y[0], order), x, y), np.transpose(x @ y[0], order))


@pytest.mark.parametrize("queries, keys, width, heads", list(itertools.product([1, 5], [1, 5], [1, 4], [1, 3])))
def test_attention_with_one_key_one_query_or_heads_of_width_one(queries, keys, width, heads):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, n, heads, width)) for n in (queries, keys, keys))

    def attend(q, k, v):
        scores = np.einsum("bqhd,bkhd->bhqk", q, k)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)

    def composite(q, k, v):
        return np.transpose(F.attention(*(np.transpose(a, (0, 2, 1, 3)) for a in (q, k, v)), scale=1.0), (0, 2, 1, 3))

    for function in (attend, composite):
        np.testing.assert_allclose(on_nan(function, q, k, v), attend(q, k, v), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels, length, taps", list(itertools.product([1, 2, 5], [3, 8, 33], [1, 3])))
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_depthwise_convolution_is_stored_in_any_order(channels, length, taps, order):
    rng = np.random.default_rng(0)
    x, w = rng.integers(-4, 5, size=(2, channels, length)).astype("f4"), rng.integers(-4, 5, size=(channels, 1, taps)).astype("f4")
    windows = np.lib.stride_tricks.sliding_window_view(x, taps, axis=2)
    expected = np.transpose(np.einsum("ncit,ct->nci", windows, w[:, 0]), order)
    got = on_nan(lambda x, w: np.transpose(F.conv(x, w, groups=channels), order), x, w)
    np.testing.assert_array_equal(got, expected)


def test_the_passes_alone_do_not_matter():
    x, y = np.arange(1.0, 5).reshape(2, 2, 1), np.array([[[1.0]], [[10.0]]])
    for passes in ("", "fuse", find("llvm").pipeline, find("llvm").pipeline.replace("split,", "split{shortest=1,rows=1},")):
        np.testing.assert_array_equal(on_nan(lambda x, y: np.transpose(x @ y, (1, 0, 2)), x, y, passes=passes), [[[1], [30]], [[2], [40]]])
