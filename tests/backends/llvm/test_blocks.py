"""Attention in blocks of rows: nothing is computed beyond a causal diagonal, and no matrix of probabilities is stored."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.ir.interpret import interpret
from nagraph.kernel.row_blocks import row_blocks
from nagraph.nn import functional as F
from nagraph.ops.movement import iota


def attend(causal):
    """q, k, v, as they stand in one product of a transformer: [batch, time, heads, width]."""
    def fn(q, k, v):
        q, k, v = (np.swapaxes(x, 1, 2) for x in (q, k, v))
        return np.swapaxes(F.attention(q, k, v, causal=causal), 1, 2)

    return fn


def both_passes(causal):
    """The result and the gradients of queries, keys and values."""
    def fn(q, k, v, ct):
        y, pull = ng.vjp(attend(causal), q, k, v)
        return y, *pull(ct)

    return fn


def arrays_of(time, heads=4, width=32, batch=2, dtype=np.float32):
    rng = np.random.default_rng(time)
    return [rng.normal(size=(batch, time, heads, width)).astype(dtype) for _ in range(4)]


def executable(fn, arrays, threads=2):
    return ng.jit(fn, threads=threads).lower(*arrays).executable


def blocked(exe):
    return [b for k in exe.kernels if (b := row_blocks(k)) is not None]


@pytest.mark.parametrize("time", [64, 65, 96, 100, 128, 250])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_causal_attention_and_its_gradient(time, dtype):
    arrays = arrays_of(time, dtype=dtype)
    exe = executable(both_passes(True), arrays)
    found, = blocked(exe)
    assert found.extent == time and "after" in found.when and found.sums, "gradients of keys and values are sums over blocks"
    wide = [a.astype(np.float64) for a in arrays]
    expected = interpret(ng.trace(both_passes(True), *wide), wide)
    for got, want in zip(exe(*arrays), expected, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * 16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("causal", [True, False])
def test_long_sequences_store_no_matrix_of_scores(causal):
    arrays = arrays_of(512, heads=8, batch=1)
    exe = executable(both_passes(causal), arrays)
    assert len(blocked(exe)) == 1
    square = 8 * 512 * 512 * 4
    assert exe.arena_nbytes < square, "statistics of rows alone pass from one kernel to the next"
    for got, want in zip(exe(*arrays), ng.jit(both_passes(causal), backend="numpy")(*arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * 1e-5)


@pytest.mark.parametrize("time", [100, 128])
def test_the_same_bits_for_any_number_of_threads(time):
    arrays = arrays_of(time)
    one, *others = (executable(both_passes(True), arrays, threads)(*arrays) for threads in (1, 2, 3))
    for other in others:
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)


def test_nothing_reaches_a_row_from_what_it_may_not_see():
    q, k, v, ct = arrays_of(128)
    y, *_ = executable(both_passes(True), [q, k, v, ct])(q, k, v, ct)
    k, v = k.copy(), v.copy()
    k[:, 96:], v[:, 96:] = np.nan, np.nan
    after, *_ = executable(both_passes(True), [q, k, v, ct])(q, k, v, ct)
    np.testing.assert_array_equal(after[:, :96], y[:, :96])
    assert np.isnan(after[:, 96:]).all()


@pytest.mark.parametrize("causal_first", [True, False])
def test_columns_that_are_read_by_themselves_are_there(causal_first):
    """What is zero by the mask, but read by its number: from memory that the blocks before it have left."""
    def fn(q, v):
        i, j = iota("int32", (128, 128), 0), iota("int32", (128, 128), 1)
        w = F.softmax(np.where(i >= j, q @ np.swapaxes(q, -1, -2), -np.inf))
        return w @ v + (w[..., -1:] + w[..., 100:101] if causal_first else w[..., ::-1] @ v)

    q, v, *_ = (np.ascontiguousarray(np.swapaxes(a, 1, 2)) for a in arrays_of(128))
    got, want = executable(fn, [q, v])(q, v)[0], ng.jit(fn, backend="numpy")(q, v)
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * 1e-5)


def test_with_rotary_positions():
    cos, sin = F.rope_tables(128, 32)

    def loss(q, k, v, ct):
        q, k, v = (np.swapaxes(x, 1, 2) for x in (q, k, v))
        y = F.attention(F.rope(q, cos, sin), F.rope(k, cos, sin), v, causal=True)
        return (np.swapaxes(y, 1, 2) * ct).sum()

    arrays = arrays_of(128)
    gradient = ng.grad(loss, argnums=(0, 1, 2))
    exe = executable(gradient, arrays)
    assert len(blocked(exe)) == 2, "the rotations are in the kernels of attention, forward and backward"
    assert any("before" in b.when for b in blocked(exe)), "keys are rotated once, before the blocks"
    for got, want in zip(exe(*arrays), ng.jit(gradient, backend="numpy")(*arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * 1e-5)


def test_matrices_that_do_not_go_in_blocks_are_computed_apart():
    def fn(x):
        y = x @ np.swapaxes(x, -1, -2)
        return y @ np.exp(y * 1e-3)  # every row wants all rows

    x = np.random.default_rng(0).normal(size=(8, 300, 16)).astype(np.float32)
    exe = executable(fn, [x])
    assert not blocked(exe) and len(exe.kernels) > 1
    want = ng.jit(fn, backend="numpy")(x)
    np.testing.assert_allclose(exe(x)[0], want, rtol=0, atol=np.abs(want).max() * 1e-5)
