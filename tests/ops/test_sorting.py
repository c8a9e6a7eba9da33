"""Sorting: ascending, stable, nan last, in every floating dtype, whoever computes it."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.ir.types import DTYPES

X = np.array([[3, 1, np.nan, 2, 0, np.nan, -1, 5], [np.nan, -np.inf, 7, 7, np.inf, 0, -0.0, np.nan]])


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("way", ["eager", "numpy", "llvm"])
def test_nan_comes_last(way, dtype):
    x = X.astype(DTYPES[dtype])

    def f(x):
        return ng.numpy.sort(x), ng.numpy.argsort(x), ng.numpy.sort(x, 0), ng.numpy.argsort(x, 0)

    found = (f if way == "eager" else ng.jit(f, backend=way))(x)
    wanted = np.sort(X, 1), np.argsort(X, 1, kind="stable"), np.sort(X, 0), np.argsort(X, 0, kind="stable")
    for y, expected in zip(found, wanted, strict=True):
        assert y.dtype == (x.dtype if expected.dtype == X.dtype else np.int64)
        np.testing.assert_array_equal(y.astype(expected.dtype), expected)
