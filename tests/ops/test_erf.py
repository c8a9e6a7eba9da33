"""erf and erfc against the C library's."""

import math

import numpy as np
import pytest

from nagraph.ops.numerics.erf import erf, erfc


@pytest.mark.parametrize("ours,theirs,low,high", [(erf, math.erf, -7, 7), (erfc, math.erfc, -7, 26)])
def test_a_few_ulp_over_the_whole_range(ours, theirs, low, high):
    x = np.concatenate([np.linspace(low, high, 20_001), np.array([0.46875, 4.0, 1e-300, -1e-10])])
    expected = np.array([theirs(v) for v in x])
    assert (np.abs(ours(x) - expected) <= 8 * np.spacing(np.abs(expected))).all()


def test_special_values():
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 30.0])
    np.testing.assert_array_equal(erf(x), [1, -1, np.nan, 0, 0, 1])
    assert np.signbit(erf(x))[4]
    np.testing.assert_array_equal(erfc(x), [0, 2, np.nan, 1, 1, 0])


def test_narrow_dtypes_round_once():
    x = np.linspace(-3, 3, 101).astype(np.float32)
    np.testing.assert_array_equal(erf(x), erf(x.astype(np.float64)).astype(np.float32))
