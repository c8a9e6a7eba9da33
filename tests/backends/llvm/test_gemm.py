"""The matrix product of the LLVM backend: all layouts and edges exactly, its order of additions, and what it must not touch."""

from __future__ import annotations

import ctypes
import functools
import itertools
import mmap
from dataclasses import replace

import numpy as np
import pytest

from nagraph.backends.llvm.gemm import gemm_module, scratch_nbytes
from nagraph.backends.llvm.gemm.stream import PANEL, VECTORS
from nagraph.backends.llvm.native.machine_code import Library, object_code
from nagraph.backends.llvm.text.target import host
from nagraph.ir.types import DTYPES
from nagraph.kernel.contraction import CHAIN, chain_of

P, N = ctypes.c_void_p, ctypes.c_int64
ARGUMENTS = (P, N, N, P, N, N, P, N, N, N, N, N, N, N, P, P, N, P, P)
#: This machine; with AVX2's vectors; with NEON's.
MACHINES = (host(), replace(host(), vector_nbytes=32, vector_registers=16, masks_memory=True),
            replace(host(), vector_nbytes=16, vector_registers=32, masks_memory=False))
NATIVE = [("f32", host()), ("f64", host())]
EVERY = [(dtype, machine) for machine in MACHINES for dtype in ("f32", "f64")]
GUARD = 77.0


@functools.cache
class Routine:
    """A compiled routine of a dtype for a machine."""

    def __init__(self, dtype, machine):
        self.dtype = DTYPES[dtype]
        self.library = Library([object_code(gemm_module(self.dtype, machine))])
        self.call = ctypes.CFUNCTYPE(None, *ARGUMENTS)(self.library.address(f"gemm_{dtype}"))
        self.nbytes = scratch_nbytes(self.dtype, machine)
        self.scratch = np.full(self.nbytes + 4096, 255, np.uint8)  # NaN, whatever the dtype

    def __call__(self, a, b, c=None, batches=1, offsets=(None, None), accumulate=False, soon=None):
        """C (+)= A B of two matrices, which may be views. C is made if not given, and comes back."""
        (m, k), n = a.shape, b.shape[1]
        c = np.full((m, n), np.nan, self.dtype) if c is None else c
        steps = [s // self.dtype.itemsize for s in (*a.strides, *b.strides, c.strides[0])]
        tables = [None if o is None else np.asarray(o, np.int64) for o in offsets]
        self.call(a.ctypes.data, *steps[:2], b.ctypes.data, *steps[2:4], c.ctypes.data, steps[4], m, n, k, batches, *chain_of(k, batches),
                  *(None if t is None else t.ctypes.data for t in tables), accumulate, self.scratch.ctypes.data, soon)
        assert (self.scratch[self.nbytes:] == 255).all()
        return c

    def whole(self, rng, *shape):
        """Small whole numbers: sums of their products are exact in any order."""
        return rng.integers(-4, 5, shape).astype(self.dtype)

    def real(self, rng, *shape):
        return rng.normal(size=shape).astype(self.dtype)


@pytest.fixture(params=EVERY, ids=str)
def gemm(request):
    return Routine(*request.param)


@pytest.fixture(params=NATIVE, ids=["f32", "f64"])
def native(request):
    return Routine(*request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


LAYOUTS = {
    "rows": lambda x: x.copy(),
    "columns": lambda x: x.T.copy().T,
    "padded": lambda x: np.pad(x, ((0, 3), (0, 5)))[:x.shape[0], :x.shape[1]],
    "apart": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "columns backwards": lambda x: x[::-1, ::-1].T.copy().T[::-1, ::-1],
}


def same_bits(x, y):
    return x.shape == y.shape and x.tobytes() == y.tobytes()


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, LAYOUTS)), ids="-".join)
def test_layouts(gemm, rng, layouts):
    for m, n, k in ((37, 53, 29), (1, 40, 33), (40, 1, 33), (3, 70, 20), (150, 300, 40)):
        a, b = gemm.whole(rng, m, k), gemm.whole(rng, k, n)
        assert (gemm(LAYOUTS[layouts[0]](a), LAYOUTS[layouts[1]](b)) == a @ b).all(), (m, n, k)


def test_small_shapes(gemm, rng):
    """Every m, n and k up to 40 with some of the others, and nothing written beside C."""
    sizes = np.concatenate([rng.permutation(np.tile(np.arange(1, 41), 8))[:, None] for _ in range(3)], axis=1)
    for m, n, k in sizes.tolist():
        a, b = (LAYOUTS[rng.choice(list(LAYOUTS))](gemm.whole(rng, *shape)) for shape in ((m, k), (k, n)))
        room = np.full((m + 2, n + 40), GUARD, gemm.dtype)
        gemm(a, b, room[1:-1, 20:-20])
        assert (room[1:-1, 20:-20] == a @ b).all(), (m, n, k)
        room[1:-1, 20:-20] = GUARD
        assert (room == GUARD).all(), (m, n, k)


@pytest.mark.parametrize("layouts", list(itertools.product(["rows", "columns"], repeat=2)), ids="-".join)
def test_large_shapes(native, rng, layouts):
    """Several chains and blocks; row lengths at which caches make A and B be packed."""
    for m, n, k in ((500, 300, 1100), (300, 1024, 1024), (1030, 260, 2 * CHAIN + 1), (2100, 3, 600), (1, 700, 1300)):
        a, b = native.whole(rng, m, k), native.whole(rng, k, n)
        assert (native(LAYOUTS[layouts[0]](a), LAYOUTS[layouts[1]](b)) == a @ b).all(), (m, n, k)


@pytest.mark.parametrize("n, k", [(PANEL, CHAIN), (2 * PANEL + 37, 2 * CHAIN + 5), (300, 3 * CHAIN), (17 * VECTORS, 4099)])
def test_one_row_streams_past_a_large_matrix_with_the_bits_of_many(gemm, rng, n, k):
    assert n * k * gemm.dtype.itemsize >= (host().near_nbytes // 2)
    room = gemm.real(rng, k, n + 6)
    a, b = gemm.real(rng, 1, k), room[:, 3:-3]
    c = gemm.real(rng, 1, n)
    for accumulate in (False, True):
        many = gemm(np.repeat(a, 5, axis=0), b, np.repeat(c, 5, axis=0), accumulate=accumulate)
        guarded = np.full((3, n + 40), GUARD, gemm.dtype)
        guarded[1:-1, 20:-20] = c
        gemm(a, b, guarded[1:-1, 20:-20], accumulate=accumulate)
        assert same_bits(guarded[1:-1, 20:-20].copy(), many[2:3].copy())
        guarded[1:-1, 20:-20] = GUARD
        assert (guarded == GUARD).all()


@pytest.mark.parametrize("shape", [(12, 33, 20), (300, 140, 70), (1, 30, 64), (50, 1, 64), (40, 3, 600)], ids=str)
@pytest.mark.parametrize("layouts", [("rows", "rows"), ("columns", "columns")], ids=str)
def test_batches(gemm, rng, shape, layouts):
    """The sum of products of matrices that lie anywhere, in any order, and more than once."""
    m, n, k = shape
    matrices = [(gemm.whole(rng, m, k), gemm.whole(rng, k, n)) for _ in range(9)]
    a, b = (np.stack([LAYOUTS[how](x).ravel("K") for x in every]) for how, every in zip(layouts, zip(*matrices)))
    picks = rng.integers(0, 9, (2, 11))
    views = [LAYOUTS[how](x) for how, x in zip(layouts, matrices[0])]
    first = [np.lib.stride_tricks.as_strided(x, v.shape, v.strides) for x, v in zip((a, b), views)]
    found = gemm(*first, batches=11, offsets=(picks[0] * m * k, picks[1] * k * n))
    assert (found == sum(matrices[i][0] @ matrices[j][1] for i, j in picks.T)).all()
    assert (gemm(*first, batches=3) == 3 * (matrices[0][0] @ matrices[0][1])).all()


def test_convolution(gemm, rng):
    """A 3 x 3 convolution of one line of pixels: nine taps into the same images, A's rows overlapping."""
    channels, pixels, filters = 16, 30, 20
    image, weights = gemm.whole(rng, 3, pixels + 2, channels), gemm.whole(rng, 3, 3, channels, filters)
    taps = list(itertools.product(range(3), range(3)))
    offsets = ([(i * (pixels + 2) + j) * channels for i, j in taps], [t * channels * filters for t in range(9)])
    found = gemm(image[0, :pixels], weights[0, 0], batches=9, offsets=offsets)
    assert (found == sum(image[i, j:j + pixels] @ weights[i, j] for i, j in taps)).all()


@pytest.mark.parametrize("shape", [(20, 30, 40), (20, 2, 40), (64, 3, 2 * CHAIN + 100), (1, 30, 40), (30, 1, 40)], ids=str)
def test_accumulate(gemm, rng, shape):
    m, n, k = shape
    a, b, c = gemm.whole(rng, m, k), gemm.whole(rng, k, n), gemm.whole(rng, m, n)
    assert (gemm(a, b, c.copy(), accumulate=True) == c + a @ b).all()
    assert (gemm(a, LAYOUTS["columns"](b), c.copy(), accumulate=True) == c + a @ b).all()


@pytest.mark.parametrize("m, n", [(5, 70), (33, 1)])
def test_no_terms(native, rng, m, n):
    a, b, c = native.whole(rng, m, 4), native.whole(rng, 4, n), native.whole(rng, m, n)
    for empty in ({"batches": 0}, {"k": 0}):
        k, batches = empty.get("k", 4), empty.get("batches", 1)
        assert not native(a[:, :k], b[:k], c.copy(), batches=batches).any()
        assert same_bits(native(a[:, :k], b[:k], c.copy(), batches=batches, accumulate=True), c)
    room = np.full((m, n), GUARD, native.dtype)
    native(a[:0], b, room)
    native(a, b[:, :0], room)
    assert (room == GUARD).all()


@pytest.mark.parametrize("steps", list(itertools.product([0, 1], repeat=4)), ids=str)
def test_zero_strides(native, rng, steps):
    m, n, k, size = 14, 35, 21, native.dtype.itemsize
    a, b = (np.lib.stride_tricks.as_strided(native.whole(rng, rows, columns), (rows, columns), (s * columns * size, t * size))
            for rows, columns, s, t in ((m, k, *steps[:2]), (k, n, *steps[2:])))
    assert (native(a, b) == a @ b).all()


def test_special_values(gemm, rng):
    """NaN and inf reach their own row or column and no other element."""
    for m, n, k in ((13, 37, 20), (1, 37, 20), (40, 1, 20), (40, 3, 20)):
        for how in ("rows", "columns"):
            a, b = gemm.whole(rng, m, k), np.abs(gemm.whole(rng, k, n)) + 1
            a[m // 2, 3], b[5, n // 2] = np.inf, np.nan
            with np.errstate(invalid="ignore"):
                want = np.abs(a) @ b
            found = gemm(np.abs(a), LAYOUTS[how](b))
            assert np.array_equal(found, want, equal_nan=True)
            assert np.isinf(found).sum() == n - 1 and np.isnan(found).sum() == m


@pytest.mark.parametrize("shape", [(17, 21, 100), (9, 40, CHAIN), (9, 40, 2 * CHAIN), (24, 16, 4096), (12, 33, 16384)], ids=str)
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_accuracy(native, rng, shape, kind):
    m, n, k = shape
    a, b = (getattr(rng, {"normal": "normal", "uniform": "random"}[kind])(size=s).astype(native.dtype) for s in ((m, k), (k, n)))
    wide = np.float64 if native.dtype == np.float32 else np.longdouble
    exact, scale = a.astype(wide) @ b.astype(wide), np.abs(a).astype(wide) @ np.abs(b).astype(wide)
    error, theirs = (np.abs(x - exact).max() for x in (native(a, b), a @ b))
    assert error <= max(4 * theirs, 8 * np.finfo(native.dtype).eps * scale.max())


# -- the order of additions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k, batches, chains", [
    (CHAIN, 1, [CHAIN]), (2 * CHAIN, 1, [CHAIN, CHAIN]), (CHAIN + 2, 1, [CHAIN // 2 + 16, CHAIN // 2 - 14]),
    (100, 7, [400, 300]), (CHAIN, 3, [CHAIN] * 3), (1, CHAIN + 1, [CHAIN // 2 + 1, CHAIN // 2])])
@pytest.mark.parametrize("m, n", [(7, 50), (30, 1), (1, 30)])
def test_chains(gemm, m, n, k, batches, chains):
    """Ones added to a number so large that it swallows them: what is left are the chains that it is not in."""
    large = 2.0 ** (np.finfo(gemm.dtype).nmant + 1)
    terms = np.ones((batches * k, 1), gemm.dtype)
    terms[0] = large
    offsets = np.arange(batches) * k
    for columns in (np.broadcast_to(terms, (batches * k, n)), np.broadcast_to(terms, (batches * k, n)).T.copy().T):
        step = columns.strides[0] // gemm.dtype.itemsize
        found = gemm(np.ones((m, k), gemm.dtype), columns[:k], batches=batches, offsets=(np.zeros(batches), offsets * step))
        assert (found == large + sum(chains[1:])).all()
        before = np.full((m, n), 2, gemm.dtype)
        assert (gemm(np.ones((m, k), gemm.dtype), columns[:k], before, batches, (np.zeros(batches), offsets * step), True)
                == 2 + large + sum(chains[1:])).all()


@pytest.mark.parametrize("k", [30, CHAIN + 70])
@pytest.mark.parametrize("layouts", list(itertools.product(["rows", "columns", "apart"], repeat=2)), ids="-".join)
def test_bits_of_parts(native, rng, k, layouts):
    """An element has the bits that any other call gives it: of fewer rows or columns, of other layouts."""
    m, n = 310, 290
    a, b = native.real(rng, m, k), native.real(rng, k, n)
    want = native(a, b)
    a, b = (LAYOUTS[how](x) for how, x in zip(layouts, (a, b)))
    assert same_bits(native(a, b), want)
    for size in (1, 2, 3, 5, 8, 12, 17, 40, 97, 200):
        i, j = rng.integers(0, m - size), rng.integers(0, n - size)
        assert same_bits(native(a[i:i + size], b), want[i:i + size]), size
        assert same_bits(native(a, b[:, j:j + size]), want[:, j:j + size]), size
        assert same_bits(native(a[i:i + size], b[:, j:j + 1]), want[i:i + size, j:j + 1]), size
        assert same_bits(native(a[i:i + 1], b[:, j:j + size]), want[i:i + 1, j:j + size]), size


def test_bits_of_machines(rng):
    """The width and number of vectors change no bit."""
    for dtype in ("f32", "f64"):
        routines = [Routine(dtype, machine) for machine in MACHINES]
        a, b, c = (routines[0].real(rng, *shape) for shape in ((65, 700), (700, 45), (65, 45)))
        found = [r(a, b, c.copy(), accumulate=True) for r in routines]
        assert all(same_bits(x, found[0]) for x in found)


def test_bits_of_addresses(native, rng):
    a, b = native.real(rng, 40, 50), native.real(rng, 50, 60)
    want = native(a, b)
    for start in range(1, 9):
        moved = [np.concatenate([np.zeros(start, native.dtype), x.ravel()])[start:].reshape(x.shape) for x in (a, b)]
        assert same_bits(native(*moved), want)


# -- memory -------------------------------------------------------------------------------------------------------------


def at_the_end(x):
    """A copy, in the order of its memory, that ends where memory does that must not be read."""
    pages = -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [P, ctypes.c_size_t, ctypes.c_int]
    assert protect(start + pages, mmap.PAGESIZE, 0) == 0
    made = np.frombuffer(memory, x.dtype, x.size, pages - x.nbytes)
    made = made.reshape(x.shape) if x.flags.c_contiguous else made.reshape(x.shape[::-1]).T
    made[...] = x
    return made


@pytest.mark.parametrize("layouts", list(itertools.product(["rows", "columns"], repeat=2)), ids="-".join)
def test_nothing_beyond_is_read(gemm, rng, layouts):
    for m, n, k in ((13, 37, 29), (1, 37, 29), (37, 1, 29), (40, 3, 9), (300, 130, 20), (5, 5, 5), (33, 256, 1), (1, 301, 1000)):
        a, b = (at_the_end(LAYOUTS[how](gemm.whole(rng, *s))) for how, s in zip(layouts, ((m, k), (k, n))))
        c = at_the_end(np.zeros((m, n), gemm.dtype))
        assert (gemm(a, b, c) == a @ b).all()
        assert (gemm(a, b, c, accumulate=True) == 2 * (a @ b)).all()


def test_scratch_is_small():
    for dtype, machine in EVERY:
        assert 0 < scratch_nbytes(DTYPES[dtype], machine) < (1 << 18) + machine.near_nbytes // 2


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="float16"):
        gemm_module(DTYPES["f16"], host())
