"""Gradient clipping."""

from __future__ import annotations

import numpy as np
import pytest

import nagraph as ng
from nagraph import optim

GRADS = {"a": np.array([3.0, 0.0]), "b": [np.array([[4.0]]), None], "c": np.zeros((0, 2))}


def test_global_norm_is_over_all_leaves() -> None:
    assert optim.global_norm(GRADS) == 5.0
    assert ng.jit(optim.global_norm)(GRADS) == 5.0
    assert optim.global_norm({"a": None}) == 0.0


def test_clip_scales_all_leaves_alike() -> None:
    clipped, norm = ng.jit(optim.clip_by_global_norm, static_argnames="limit")(GRADS, limit=0.5)
    assert norm == 5.0
    np.testing.assert_allclose(clipped["a"], [0.3, 0], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"][0], [[0.4]], rtol=1e-6)
    assert clipped["b"][1] is None and clipped["c"].shape == (0, 2)
    np.testing.assert_allclose(optim.global_norm(clipped), 0.5, rtol=1e-6)


def test_clip_leaves_short_gradients_alone() -> None:
    clipped, _ = optim.clip_by_global_norm(GRADS, 5.1)
    np.testing.assert_array_equal(clipped["a"], GRADS["a"])
    zeros, norm = optim.clip_by_global_norm([np.zeros(3)], 1.0)
    assert norm == 0 and (zeros[0] == 0).all()


@pytest.mark.parametrize("dtype, wide", [(np.float16, np.float32), (ng.bfloat16, np.float32), (np.float32, np.float32),
                                         (np.float64, np.float64)])
def test_dtypes(dtype: type, wide: type) -> None:
    """The squares of 16-bit gradients are summed in float32: 300² alone is beyond float16."""
    clipped, norm = ng.jit(lambda g: optim.clip_by_global_norm(g, 1.0))([np.full(16, 300).astype(dtype)])
    assert clipped[0].dtype == dtype and norm.dtype == wide and norm == 1200
    np.testing.assert_allclose(clipped[0].astype(np.float64), 0.25, rtol=1e-2)


def test_mixed_dtypes_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert optim.global_norm([np.full(1, 3, np.float32), np.full(1, 4.0)]).dtype == np.float64
    assert ng.jit(optim.global_norm)([np.full(1, 4.0), np.full(1, 3, np.float32)]) == 5
    assert not recwarn.list


def test_norm_that_is_not_finite_is_reported() -> None:
    for bad in (np.inf, np.nan):
        _, norm = ng.jit(lambda g: optim.clip_by_global_norm(g, 1.0))([np.array([1.0, bad])])
        assert not np.isfinite(norm)


def test_clip_by_value() -> None:
    clipped = ng.jit(lambda g: optim.clip_by_value(g, 1.5))({"a": np.array([-3, -1, 0, 2], np.float32), "b": None})
    np.testing.assert_array_equal(clipped["a"], np.array([-1.5, -1, 0, 1.5], np.float32))
    assert clipped["a"].dtype == np.float32 and clipped["b"] is None


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_limit_out_of_range(limit: float) -> None:
    with pytest.raises(ValueError, match="limit must be greater than 0"):
        optim.clip_by_global_norm([np.ones(2)], limit)
    with pytest.raises(ValueError, match="limit must be greater than 0"):
        optim.clip_by_value([np.ones(2)], limit)
