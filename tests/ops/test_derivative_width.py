"""Derivatives of nonlinear ops of 16-bit floats: computed in float32 from the op's operands and result, rounded once."""

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng

N = ng.numpy
#: The op, and its derivative in the operand x and the result y, as the op's rule is written.
RULES = {
    "tanh": (N.tanh, lambda y, x: 1 - y * y),
    "sigmoid": (N.sigmoid, lambda y, x: y * (1 - y)),
    "arctan": (N.arctan, lambda y, x: 1 / (1 + x * x)),
    "tan": (N.tan, lambda y, x: 1 + y * y),
    "log1p": (N.log1p, lambda y, x: 1 / (1 + x)),
    "rsqrt": (N.rsqrt, lambda y, x: -0.5 * y * y * y),
    "cbrt": (N.cbrt, lambda y, x: 1 / (3 * y * y)),
}


@pytest.mark.parametrize("run", [lambda f: f, ng.jit, lambda f: ng.jit(f, backend="numpy")], ids=["eager", "llvm", "numpy"])
@pytest.mark.parametrize("mode", ["vjp", "jvp"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("name", RULES)
def test_derivatives_round_once(name, dtype, mode, run):
    fn, rule = RULES[name]
    rng = np.random.default_rng(6)
    x, ct = rng.uniform(0.1, 1.4, size=500).astype(dtype), rng.normal(size=500).astype(dtype)

    def derived(x, ct):
        return ng.vjp(fn, x)[1](ct)[0] if mode == "vjp" else ng.jvp(fn, (x,), (ct,))[1]

    y = fn(x).astype(np.float64)
    exact = ct.astype(np.float64) * rule(y, x.astype(np.float64))
    found = run(derived)(x, ct)
    assert found.dtype == dtype
    error = np.abs(found.astype(np.float64) - exact) / (np.abs(exact) * float(ml_dtypes.finfo(dtype).eps))
    assert (error < 0.51).all() or np.sort(error)[-3] < 0.51  # the compiled result may be a neighbour of the reference's


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
def test_products_of_many_are_differentiated_in_float32(dtype):
    x = (1 + np.random.default_rng(7).normal(size=(4, 12)) / 8).astype(dtype)
    for fn in (lambda x: N.sum(N.prod(x, axis=-1)), lambda x: N.sum(N.cumprod(x, axis=-1)), lambda x: N.sum(N.max(x * 0, axis=-1))):
        exact, found = ng.grad(fn)(x.astype(np.float64)), ng.jit(ng.grad(fn))(x)
        assert np.abs(found.astype(np.float64) - exact).max() <= 0.51 * np.abs(exact).max() * float(ml_dtypes.finfo(dtype).eps) + 1e-6
