"""What MLX makes of a function when it compiles it: the same results as call by call. On a CPU it asks g++ for each fused kernel."""

from __future__ import annotations

import shutil

import mlx.core as mx
import numpy as np
import pytest

import nagraph as ng

pytestmark = pytest.mark.skipif(mx.default_device() == mx.cpu and shutil.which("g++") is None, reason="MLX fuses on a CPU by g++")
X = np.random.default_rng(0).normal(size=(4, 5)).astype("f4")


def test_fused_functions_keep_their_constants():
    """MLX writes constants that it finds in a function into its kernels with seven digits: these are arguments, and keep all."""
    def f(x):
        return np.where(x > 0, (x * np.float32(1.00000012) + np.float32(0.123456789)) * np.float32(3.33333325), np.float32(-0.0))

    fused = ng.to_numpy(ng.jit(f, backend="mps")(X))
    wanted = ng.jit(f, backend="numpy")(X)
    np.testing.assert_allclose(fused, wanted, rtol=2.5e-7)
    assert (np.signbit(fused) == np.signbit(wanted)).all()
    mx.disable_compile()
    try:
        np.testing.assert_allclose(fused, ng.to_numpy(ng.jit(f, backend="mps")(X)), rtol=2.5e-7)
    finally:
        mx.enable_compile()


def test_random_bits_are_the_same_when_fused():
    key = ng.random.key(5)
    found = ng.to_numpy(ng.jit(lambda k: ng.random.bits(k, 6, 64), backend="mps")(key))
    assert found.tobytes() == np.asarray(ng.random.bits(key, 6, 64)).tobytes()


def test_a_function_is_traced_once_for_all_calls(monkeypatch):
    from nagraph.backends.mps.program import Function

    traced = []
    monkeypatch.setattr(Function, "traced", lambda self, arguments, made=Function.traced: (traced.append(1), made(self, arguments))[1])
    f = ng.jit(lambda x: x @ x.T, backend="mps")
    for n in range(3):
        np.testing.assert_allclose(ng.to_numpy(f(mx.array(X + n))), (X + n) @ (X + n).T, rtol=1e-5)
    assert len(traced) == 1
