"""Sums of 16-bit floats that are split round once, as the whole: parts neither overflow nor lose bits."""

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng

SHAPES = {"all": ((300, 400), None), "rows": ((2, 60000), 1), "columns": ((4096, 70), 0), "middle": ((2, 9000, 5), 1)}


@pytest.mark.parametrize("name", ["sum", "prod", "max"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("case", SHAPES)
def test_split_sums_round_once(case, dtype, name):
    shape, axis = SHAPES[case]
    rng = np.random.default_rng(2)
    x = rng.normal(size=shape)
    if name == "sum":  # parts larger than float16 holds, which cancel
        lead = shape[0] if axis in (0, None) else shape[1]
        x += np.moveaxis(np.where(np.arange(lead) < lead // 2, 300, -300).reshape(-1, *[1] * (len(shape) - 1)), 0, axis or 0)
    if name == "prod":
        x = 1 + x / 512
    x = x.astype(dtype)
    exact = getattr(np, name)(x.astype(np.float64), axis=axis)
    found = ng.jit(lambda x: getattr(ng.numpy, name)(x, axis=axis))(x).astype(np.float64)
    unit = np.abs(exact) * float(ml_dtypes.finfo(dtype).eps)
    assert (np.abs(found - exact) <= 0.51 * unit + 1e-6 * np.abs(x.astype(np.float64)).sum(axis)).all()
