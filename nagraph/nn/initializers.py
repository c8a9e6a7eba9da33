"""Standard initialisers: functions of a key, a shape and a dtype. Fans are counted for weights [in, out]
and kernels [out, in, *spatial]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nagraph as ng


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of one unit."""
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    if len(shape) == 2:
        return shape[0], shape[1]
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def zeros(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


def ones(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    return np.ones(shape, dtype)


def normal(deviation: float = 0.02) -> Any:
    """N(0, deviation²)."""
    def draw(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        wide = np.float64 if ng.spec(shape, dtype).dtype == np.float64 else np.float32
        return ng.numpy.astype(ng.random.normal(key, shape, wide) * np.asarray(deviation, wide), dtype)

    return draw


def uniform(bound: float) -> Any:
    """U(-bound, bound), the upper bound excluded."""
    return lambda key, shape, dtype=np.float32: ng.random.uniform(key, shape, dtype, -bound, bound)


def glorot_uniform(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """U(±√(6 / (in + out))). Source: Glorot and Bengio 2010."""
    return uniform(math.sqrt(6 / sum(fans(shape))))(key, shape, dtype)


def glorot_normal(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """N(0, 2 / (in + out)). Source: Glorot and Bengio 2010."""
    return normal(math.sqrt(2 / sum(fans(shape))))(key, shape, dtype)


def he_normal(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """N(0, 2 / in). Source: He et al. 2015."""
    return normal(math.sqrt(2 / fans(shape)[0]))(key, shape, dtype)


def he_uniform(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """U(±√(6 / in)). Source: He et al. 2015."""
    return uniform(math.sqrt(6 / fans(shape)[0]))(key, shape, dtype)


def lecun_normal(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """N(0, 1 / in). Source: LeCun et al. 1998."""
    return normal(math.sqrt(1 / fans(shape)[0]))(key, shape, dtype)


def fan_in_uniform(key: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """U(±1/√in): what PyTorch gives to linear and convolution layers."""
    return uniform(1 / math.sqrt(fans(shape)[0]))(key, shape, dtype)
