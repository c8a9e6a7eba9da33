"""Rounding to decimals and the next number, in the dtypes that are stored in 16 bits."""

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
import nagraph.numpy as n

NARROW = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
WAYS = {"eager": lambda fn: fn, "numpy": lambda fn: ng.jit(fn, backend="numpy"), "llvm": ng.jit}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("decimals", [3, 6, -2, -6])
@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_decimals_of_16_bits_are_those_of_float32_rounded_once(dtype, decimals, way):
    x = np.concatenate([np.linspace(-3, 3, 101), [300.0, -4096.0, 6e4, 0.0, -0.0, np.inf, np.nan]]).astype(dtype)
    with np.errstate(all="ignore"):
        expected = np.round(x.astype(np.float32), decimals).astype(dtype)
    found = np.asarray(WAYS[way](lambda x: n.round(x, decimals))(x))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_number_next_to_an_equal_zero_has_the_sign_of_numpys(dtype, way):
    x = np.array([0.0, -0.0, 0.0, -0.0], dtype)
    found = np.asarray(WAYS[way](n.nextafter)(x, x[::-1].copy()))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(np.nextafter(x, x[::-1])))
