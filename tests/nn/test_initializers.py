"""Initialisers: their spread, their dtype, and that the key alone decides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.nn import initializers

KEY = ng.random.key(11)
SHAPE = (300, 200)
INPUTS, OUTPUTS = SHAPE

#: The initialiser, and the standard deviation that it must have.
SPREADS: dict[str, tuple[Any, float]] = {
    "normal": (initializers.normal(0.3), 0.3),
    "uniform": (initializers.uniform(0.3), 0.3 / math.sqrt(3)),
    "glorot uniform": (initializers.glorot_uniform, math.sqrt(2 / (INPUTS + OUTPUTS))),
    "glorot normal": (initializers.glorot_normal, math.sqrt(2 / (INPUTS + OUTPUTS))),
    "he normal": (initializers.he_normal, math.sqrt(2 / INPUTS)),
    "he uniform": (initializers.he_uniform, math.sqrt(2 / INPUTS)),
    "lecun normal": (initializers.lecun_normal, math.sqrt(1 / INPUTS)),
    "fan in uniform": (initializers.fan_in_uniform, math.sqrt(1 / (3 * INPUTS))),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SPREADS)
def test_spread(name: str, dtype: Any) -> None:
    """60,000 draws: mean and deviation are within 2 % of the deviation."""
    init, deviation = SPREADS[name]
    w = init(KEY, SHAPE, dtype)
    assert w.shape == SHAPE and w.dtype == dtype
    assert abs(w.mean()) < 0.02 * deviation and abs(w.std() / deviation - 1) < 0.02
    np.testing.assert_array_equal(w, init(KEY, SHAPE, dtype))
    assert (w != init(ng.random.key(12), SHAPE, dtype)).any()


def test_uniform_stays_within_its_bound() -> None:
    w = initializers.uniform(0.25)(KEY, (1000,), np.float32)
    assert w.min() >= -0.25 and w.max() <= 0.25 and w.max() - w.min() > 0.49


def test_constants() -> None:
    np.testing.assert_array_equal(initializers.zeros(KEY, (2, 3)), np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(initializers.ones(KEY, (2, 3), np.float64), np.ones((2, 3)))


@pytest.mark.parametrize("shape, expected", [((), (1, 1)), ((7,), (7, 7)), ((3, 5), (3, 5)), ((8, 2, 3, 3), (18, 72))])
def test_fans(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert initializers.fans(shape) == expected


def test_layers_take_an_initialiser_and_a_dtype() -> None:
    assert (ng.nn.Linear.init(KEY, 3, 4, weight_init=initializers.ones).weight == 1).all()
    assert (ng.nn.Conv2d.init(KEY, 3, 4, 2, weight_init=initializers.zeros, dtype=np.float64).weight == np.zeros((4, 3, 2, 2))).all()
    for made in (ng.nn.Linear.init(KEY, 3, 4, dtype=np.float64), ng.nn.GRU.init(KEY, 3, 4, dtype=np.float64),
                 ng.nn.MultiHeadAttention.init(KEY, 4, 2, dtype=np.float64), ng.nn.BatchNorm.init(4, dtype=np.float64)):
        assert {a.dtype for a in made.named_arrays().values()} == {np.dtype(np.float64)}


def test_init_inside_jit_is_the_same() -> None:
    made = ng.jit(lambda k: ng.nn.Linear.init(k, 3, 4))(KEY)
    np.testing.assert_array_equal(made.weight, ng.nn.Linear.init(KEY, 3, 4).weight)
