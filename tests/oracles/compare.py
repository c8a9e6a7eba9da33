"""A function of arrays in nagraph beside the same one in PyTorch: outputs and gradients, in float32 and float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import nagraph as ng

#: How far outputs and gradients may differ, as a share of the largest entry (or of 1).
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
DTYPES = tuple(TOLERANCE)


def close(found: Any, expected: Any, dtype: str, what: str = "", factor: float = 1) -> None:
    """Equal within the tolerance of the dtype, of the same dtype and shape."""
    found, expected = np.asarray(found), expected.detach().numpy()
    assert found.dtype == expected.dtype and found.shape == expected.shape, (what, found.dtype, found.shape, expected.shape)
    tolerance = TOLERANCE[dtype] * factor
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def check(ours: Callable[..., Any], theirs: Callable[..., Any], dtype: str, *arrays: Any, fixed: tuple[int, ...] = ()) -> None:
    """ours(*arrays) and theirs(*tensors) give equal results, and equal gradients at each floating argument not in `fixed`."""
    given = [np.asarray(a) for a in arrays]
    given = [a.astype(dtype) if a.dtype.kind == "f" else a for a in given]
    moving = [i for i, a in enumerate(given) if a.dtype.kind == "f" and i not in fixed]
    tensors = [torch.tensor(a, requires_grad=i in moving) for i, a in enumerate(given)]
    expected = theirs(*tensors)
    expected = expected if isinstance(expected, tuple) else (expected,)
    rng = np.random.default_rng(7)
    cts = [rng.normal(size=tuple(y.shape)).astype(dtype) for y in expected]

    def loss(*xs: Any) -> Any:
        ys = ours(*xs)
        ys = ys if isinstance(ys, tuple) else (ys,)
        return sum(ng.numpy.sum(y * ct) for y, ct in zip(ys, cts, strict=True)), ys

    (_, found), grads = ng.jit(ng.value_and_grad(loss, argnums=tuple(moving), has_aux=True))(*given)
    for k, (y, t) in enumerate(zip(found, expected, strict=True)):
        close(y, t, dtype, f"output {k}")
    torch.autograd.backward(expected, [torch.tensor(ct) for ct in cts])
    for i, g in zip(moving, grads, strict=True):
        wanted = tensors[i].grad
        close(g, torch.zeros_like(tensors[i]) if wanted is None else wanted, dtype, f"gradient of argument {i}")
