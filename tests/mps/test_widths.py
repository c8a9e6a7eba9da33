"""Composites of 16-bit floats on MLX: those of float32, rounded once, as everywhere; values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import nagraph as ng
from tests.composites.test_width import CASES, DTYPES, close_to_one_rounding
from tests.mps.ways import op_by_op  # noqa: F401 - a fixture for all tests here


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_rounded_once(name, dtype):
    fn, *arrays = CASES[name]
    arrays = [x.astype(DTYPES[dtype]) for x in arrays]
    wide, rng = [x.astype(np.float64) for x in arrays], np.random.default_rng(2)
    exact = listed(fn(*wide))
    cts = [rng.normal(size=y.shape).astype(DTYPES[dtype]) for y in exact]

    def pulled(xs, cs):
        found, pull = ng.vjp(fn, *xs)
        return listed(found), pull(cs[0] if len(cs) == 1 else tuple(cs))

    values, gradients = ng.to_numpy(ng.jit(pulled, backend="mps")(arrays, cts))
    alone = ng.to_numpy(listed(ng.jit(fn, backend="mps")(*arrays)))
    slopes = pulled(wide, [c.astype(np.float64) for c in cts])[1]
    for found, wanted, spare in ((values, exact, 2e-6), (alone, exact, 2e-6), (gradients, slopes, 2e-5)):
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == DTYPES[dtype]
            close_to_one_rounding(one, other, DTYPES[dtype], spare)


def listed(found):
    return found if isinstance(found, tuple) else (found,)
