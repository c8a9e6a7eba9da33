"""Prefetching: the pieces of an access, the table that the matrix product takes them from, and kernels that ask for what comes next."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nagraph as ng
from nagraph.backends.llvm.emission.prefetch import REQUEST_NBYTES, Access, pieces
from nagraph.backends.llvm.text.target import host
from nagraph.kernel.affine import Affine, atom, total
from tests.backends.llvm.test_gemm import Routine

LINE = 64


def lines(places, itemsize, nbytes):
    return {((1 << 20) + p * itemsize + b) // LINE for p in places for b in range(0, nbytes, itemsize)}


AXES = st.lists(st.tuples(st.integers(-300, 300), st.integers(1, 12)), min_size=1, max_size=3)


@given(AXES, st.sampled_from([1, 2, 4, 8]), st.integers(1, 40))
def test_pieces_bring_all_that_an_access_reaches(axes, itemsize, most):
    index = total((atom(a), c) for a, (c, _) in enumerate(axes))
    found = pieces(Access(0, index, tuple((a, extent) for a, (_, extent) in enumerate(axes))), itemsize, most)
    assert all(0 < p.rows <= most for p in found)
    places = [sum(i * c for i, (c, _) in zip(at, axes)) for at in itertools.product(*(range(extent) for _, extent in axes))]
    asked = [p.offset + p.step * row for p in found for row in range(p.rows)]
    assert lines(places, itemsize, itemsize) <= lines(asked, itemsize, REQUEST_NBYTES)


def test_pieces_of_a_matrix_go_along_its_longer_side():
    index = total([(atom(0), 128), (atom(1), 1)])
    assert pieces(Access(0, index, ((0, 65), (1, 32))), 4, 100) == [(0, 128, 65)]
    assert pieces(Access(0, index, ((0, 65), (1, 32))), 4, 50) == [(0, 128, 50), (50 * 128, 128, 15)]
    assert pieces(Access(0, Affine(), ()), 4, 100) == [(0, 32, 1)]


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_the_product_takes_pieces_and_gives_the_same_bits(count):
    gemm, rng = Routine("f32", host()), np.random.default_rng(0)
    a, b = gemm.real(rng, 60, 40), gemm.real(rng, 40, 96)
    other = np.zeros(1 << 12, np.float32)
    table = np.array([0, count, *[other.ctypes.data, 32] * count, other.ctypes.data, 0], np.int64)
    assert (gemm(a, b, soon=table.ctypes.data) == gemm(a, b)).all()
    assert (0 < table[0] <= count) if count else table[0] == 0


def test_kernels_ask_for_what_comes_next_while_they_multiply():
    rng = np.random.default_rng(1)
    x, w, y = (rng.normal(size=shape).astype(np.float32) for shape in ((400, 64), (64, 96), (400, 96)))
    exe = ng.compile(ng.trace(lambda x, w, y: np.tanh(x @ w) * y, x, w, y), backend="llvm")
    (call,) = [line for line in exe.source("llvm").splitlines() if "call void @gemm_f32" in line]
    assert not call.rstrip(")").endswith("ptr null")  # x and y have rows of their own in every block
    np.testing.assert_allclose(exe(x, w, y)[0], np.tanh(x @ w) * y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("time", [5, 33, 64, 65])
def test_gradients_of_scores_stay_in_one_kernel(time):
    rng = np.random.default_rng(2)
    q, k, v, ct = (rng.normal(size=(4, 2, time, 16)).astype(np.float32) for _ in range(4))

    def gradients(q, k, v, ct):
        return ng.vjp(lambda *x: ng.nn.functional.attention(*x, causal=True), q, k, v)[1](ct)

    graph = ng.trace(gradients, q, k, v, ct)
    exe, plain = ng.compile(graph, backend="llvm"), ng.compile(graph, backend="numpy")
    for found, expected in zip(exe(q, k, v, ct), plain(q, k, v, ct)):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
    if time > 5:  # smaller products are not worth a call
        assert max(f.code.text.count("call void @gemm_f32") for f in exe.program.functions) >= 3


@pytest.mark.parametrize("shape", [(3, 0, 4), (64, 0, 64)])
def test_products_of_no_terms_have_no_steps_to_ask_in(shape):
    m, k, n = shape
    x, w, v = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.full((n, n), 0.5, np.float32)
    assert (ng.jit(lambda x, w, v: (x @ w) @ v + 1, backend="llvm")(x, w, v) == 1).all()
    np.testing.assert_allclose(ng.jit(lambda x, w, b: np.tanh(x @ w + b), backend="llvm")(x, w, v[:m]), np.tanh(v[:m]), rtol=1e-6)


def softmax_source(rows, columns):
    x = np.zeros((rows, columns), np.float32)
    return ng.jit(ng.nn.functional.softmax).lower(x).executable.source("llvm")


def test_a_kernel_that_goes_through_its_rows_again_asks_for_the_next_one():
    calls = [line for line in softmax_source(1024, 512).splitlines() if "call void @llvm.prefetch" in line]
    reads, writes = ([c for c in calls if f", i32 {how}, i32" in c] for how in (0, 1))
    assert len(reads) == len(writes) >= 1
    assert "prefetch" not in softmax_source(64, 512), "what is in cache is not asked for"
