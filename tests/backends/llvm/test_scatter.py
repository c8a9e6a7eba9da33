"""Updates at indices: of every dtype, in every mode, where indices repeat; gradients of embeddings in 16 bits."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
from nagraph.ir.types import DTYPES
from nagraph.ops.subscript import add_at, max_at, min_at, set_at

MODES = {"add": (add_at, np.add), "max": (max_at, np.maximum), "min": (min_at, np.minimum), "set": (set_at, None)}
#: A shape, the axes that are indexed, and the shape of the indices.
CASES = [((7, 5), (0,), (9,)), ((7, 5), (0, 1), (30,)), ((3, 4, 33), (1,), (2, 3)), ((3, 4, 33), (2,), (70,)), ((5,), (0,), (300,)),
         ((6, 40), (0,), (0,)), ((1, 1), (0,), (1,)), ((2, 17, 3), (0, 2), (1, 12))]
HALF = [np.dtype("float16"), np.dtype(ml_dtypes.bfloat16)]


def numbers(rng, shape, dtype):
    """Integers that every dtype holds, negative ones if it has them, and quarters if it is floating."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    found = rng.integers(0, 60, size=shape) - (0 if dtype.kind == "u" else 30)
    return (found / 4).astype(dtype) if dtype.kind in "fV" else found.astype(dtype)


def by_numpy(x, expression, updates, ufunc):
    """What NumPy makes of it; 16-bit floats by way of float32, rounded at the end."""
    found = x.astype("f4") if x.dtype in HALF else x.copy()
    if ufunc is None:
        found[expression] = updates
    else:
        with np.errstate(invalid="ignore"):
            ufunc.at(found, expression, updates.astype(found.dtype))
    return found.astype(x.dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_mode_of_every_dtype_is_what_numpy_computes(dtype, mode):
    rng, (update, ufunc) = np.random.default_rng(0), MODES[mode]
    given, expected = [], []
    for shape, axes, count in CASES:
        x, indices = numbers(rng, shape, dtype), [rng.integers(-shape[a], shape[a], size=count) for a in axes]
        at = tuple(indices[axes.index(a)] if a in axes else slice(None) for a in range(len(shape)))
        updates = numbers(rng, x[at].shape, dtype)
        given.append((x, at, updates))
        expected.append(by_numpy(x, at, updates, ufunc))

    def function(every):
        return [update(x, tuple(slice(None) if i is None else i for i in at), updates) for x, at, updates in every]

    arguments = [(x, tuple(i if isinstance(i, np.ndarray) else None for i in at), updates) for x, at, updates in given]
    for backend, passes in (*itertools.product(("llvm", "numpy"), (None, "")), (None, None)):
        found = function(arguments) if backend is None else ng.jit(function, backend=backend, passes=passes)(arguments)
        for case, got, wanted in zip(CASES, found, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(got), wanted, err_msg=f"{case} {backend} {passes}")
            assert got.dtype == dtype


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("mode", ["max", "min"])
def test_extremes_of_16_bits_are_those_of_numbers_with_nan_and_infinities(mode, dtype):
    update, ufunc = MODES[mode]
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, 1.0, -65000.0, 1e-7], "f4").astype(dtype)
    x, u = np.repeat(special, len(special)), np.tile(special, len(special))
    places = np.arange(x.size)
    got = ng.jit(lambda x, u, i: update(x, i, u))(x, u, places)
    np.testing.assert_array_equal(np.asarray(got).astype("f4"), by_numpy(x, places, u, ufunc).astype("f4"))


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("wrap", ["plain", "vmap", "scan", "cond"])
def test_the_gradient_of_a_16_bit_embedding_loses_nothing_where_a_row_is_read_often(dtype, wrap):
    rng = np.random.default_rng(0)
    table, tokens = rng.normal(size=(11, 24)).astype(dtype), rng.integers(0, 3, size=(2, 2000))
    weights = (rng.integers(1, 4, size=(2, 2000, 24)) / 4).astype(dtype)

    def gradient(table, tokens, weights):
        return ng.grad(lambda t: (t[tokens] * weights).astype(np.float32).sum())(table)

    def run(table, tokens, weights):
        if wrap == "vmap":
            return ng.vmap(gradient, in_axes=(None, 0, 0))(table, tokens, weights)
        if wrap == "scan":
            return ng.scan(lambda c, x: (c, gradient(table, *x)), np.int32(0), (tokens, weights))[1]
        if wrap == "cond":
            return ng.cond(tokens[0, 0] >= 0, gradient, lambda table, *_: table, table, tokens, weights)
        return gradient(table, tokens, weights)

    expected = np.zeros((2, *table.shape))
    for n in range(2):
        np.add.at(expected[n], tokens[n], weights[n].astype("f8"))
    expected = expected if wrap in ("vmap", "scan") else expected.sum(axis=0)
    for backend in ("llvm", "numpy"):
        got = np.asarray(ng.jit(run, backend=backend)(table, tokens, weights))
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected.astype("f4").astype(dtype))
