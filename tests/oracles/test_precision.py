"""16-bit floats: no error is larger than twice PyTorch's, or one unit in the last place, value and gradient.

float32: no statistic is further from float64 than four times NumPy's own error, or eight roundings of its scale.
"""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import nagraph as ng
from tests.oracles.precision_cases import CASES, inputs

DTYPES = {"f16": (np.dtype(np.float16), torch.float16), "bf16": (np.dtype(ml_dtypes.bfloat16), torch.bfloat16)}
BACKENDS = {"llvm": ng.jit, "numpy": lambda f: ng.jit(f, backend="numpy"), "eager": lambda f: f}


@functools.cache
def both(name: str, run: str) -> Any:
    """The value of a case and its gradients, compiled once for all kinds of inputs."""
    def value_and_gradients(xs: Any, ct: Any) -> Any:
        y, pull = ng.vjp(CASES[name].ours, *xs)
        return y, *pull(ct)

    return BACKENDS[run](value_and_gradients)


@functools.cache
def asked(name: str, kind: str, dtype: str) -> tuple[list[Any], Any, list[Any], list[Any] | None]:
    """The inputs and the cotangent of a case, value and gradients in float64, and PyTorch's in the dtype."""
    case, (dt, td) = CASES[name], DTYPES[dtype]
    arrays = inputs(case, kind, dt)
    wide = [x.astype(np.float64) for x in arrays]
    ct = np.random.default_rng(5).normal(size=np.shape(case.ours(*wide))).astype(dt)
    return arrays, ct, list(both(name, "eager")(wide, ct.astype(np.float64))), theirs(case.theirs, arrays, ct, td)


def theirs(fn: Any, arrays: list[Any], ct: Any, dtype: Any) -> list[np.ndarray[Any, Any]] | None:
    """PyTorch's value and gradients in float64; None where it has no such function in this dtype."""
    tensors = [torch.tensor(x.astype(np.float64)).to(dtype).requires_grad_() for x in arrays]
    try:
        y = fn(*tensors)
        y.backward(torch.tensor(np.asarray(ct).astype(np.float64)).to(dtype))
    except (NotImplementedError, RuntimeError):
        return None
    return [y.detach().double().numpy(), *(t.grad.double().numpy() for t in tensors)]


def worst(found: Any, exact: np.ndarray[Any, Any]) -> float:
    """The largest error; infinite where one is not finite and the other is."""
    found = np.asarray(found).astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.where((found == exact) | (np.isnan(found) & np.isnan(exact)), 0, np.abs(found - exact))
    return float(np.nan_to_num(error, nan=np.inf).max(initial=0))


def unit(exact: np.ndarray[Any, Any], dtype: Any) -> float:
    """One unit in the last place of the largest finite entry."""
    size = np.abs(exact[np.isfinite(exact)]).max(initial=0)
    info = ml_dtypes.finfo(dtype)
    return float(max(size * float(info.eps), float(info.smallest_subnormal)))


@pytest.mark.parametrize("run", ["llvm", "eager"])
@pytest.mark.parametrize("dtype,name,kind", [(d, n, k) for d in DTYPES for n, c in CASES.items() for k in c.kinds])
def test_16_bits(dtype: str, name: str, kind: str, run: str) -> None:
    dt, _ = DTYPES[dtype]
    arrays, ct, exact, torchs = asked(name, kind, dtype)
    found = both(name, run)(arrays, ct)
    for i, (f, e) in enumerate(zip(found, exact, strict=True)):
        assert f.dtype == dt
        with np.errstate(all="ignore"):
            e = np.where(np.abs(e) > float(ml_dtypes.finfo(dt).max), e.astype(dt).astype(np.float64), e)  # what the dtype can't hold
        allowed = max(unit(e, dt), 0 if torchs is None else 2 * worst(torchs[i], e))
        assert worst(f, e) <= allowed, (i, worst(f, e), allowed, None if torchs is None else worst(torchs[i], e))


STATISTICS = ("sum", "mean", "var", "std")
SINGLE = {"normal": lambda r, s: r.normal(size=s), "offset": lambda r, s: 1e6 + r.normal(size=s), "equal": lambda r, s: np.full(s, 0.1),
          "large": lambda r, s: 1e15 * r.normal(size=s), "tiny": lambda r, s: 1e-15 * r.normal(size=s),
          "mixed": lambda r, s: r.normal(size=s) * 10.0 ** r.integers(-6, 6, size=s)}


@pytest.mark.parametrize("run", BACKENDS)
@pytest.mark.parametrize("shape,axis", [((1000,), 0), ((100_000,), 0), ((50, 1000), 1), ((1000, 70), 0), ((7, 300, 11), (0, 1)), ((3,), 0)])
@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_of_float32(name: str, kind: str, shape: tuple[int, ...], axis: Any, run: str) -> None:
    x = SINGLE[kind](np.random.default_rng(4), shape).astype(np.float32)
    exact, numpys = (getattr(np, name)(v, axis=axis) for v in (x.astype(np.float64), x))
    found = BACKENDS[run](lambda x: getattr(ng.numpy, name)(x, axis=axis))(x)
    scale = getattr(np, "mean" if name == "mean" else "sum")(np.abs(x.astype(np.float64)), axis=axis).max()
    if name in ("var", "std"):
        scale = np.abs(exact).max()
    assert worst(found, exact) <= max(4 * worst(numpys, exact), 8 * 2.0**-24 * scale), (worst(found, exact), worst(numpys, exact), scale)
    if name in ("var", "std"):  # no rounding of the mean is in them
        assert worst(found, exact) <= 1e-4 * scale


@pytest.mark.parametrize("run", BACKENDS)
@pytest.mark.parametrize("scale", [1e30, 1e-42, 3e37])
def test_deviations_beyond_the_range_of_squares(scale: float, run: str) -> None:
    x = (scale * np.random.default_rng(3).normal(size=(4, 500))).astype(np.float32)
    exact = x.astype(np.float64).std(-1)
    found = BACKENDS[run](lambda x: ng.numpy.std(x, axis=-1))(x).astype(np.float64)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-45)
    np.testing.assert_allclose(torch.std(torch.tensor(x), -1, correction=0).numpy(), exact, rtol=1e-5, atol=1e-44)


@pytest.mark.parametrize("run", BACKENDS)
@pytest.mark.parametrize("value", [-3e38, 1e6, 0.1, 1e-40, 3e4 + 1 / 3])
@pytest.mark.parametrize("width", [3, 64, 768])
def test_rows_of_equal_values_are_normed_to_zeros(value: float, width: int, run: str) -> None:
    x = np.full((5, width), value, np.float32)
    assert not BACKENDS[run](ng.nn.functional.layer_norm)(x).any()
    images = np.full((2, 4, width), value, np.float32)
    assert not BACKENDS[run](lambda x: ng.nn.functional.group_norm(x, groups=2))(images).any()
    assert not BACKENDS[run](lambda x: ng.numpy.var(x, axis=-1))(x).any()
    assert not BACKENDS[run](lambda x: ng.numpy.std(x, axis=-1))(x).any()
