"""Schedules at points computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph import optim

POINTS: dict[str, tuple[Any, dict[int, float]]] = {
    "constant": (optim.constant(0.3), {0: 0.3, 1000: 0.3}),
    "step": (optim.step(0.8, every=10, factor=0.5), {0: 0.8, 9: 0.8, 10: 0.4, 19: 0.4, 20: 0.2, 35: 0.1}),
    "exponential": (optim.exponential(0.8, 0.5), {0: 0.8, 1: 0.4, 2: 0.2, 10: 0.8 / 1024}),
    "cosine": (optim.cosine(1.0, 12, final=0.2), {0: 1.0, 4: 0.8, 6: 0.6, 8: 0.4, 12: 0.2, 50: 0.2}),
    "linear": (optim.linear(1.0, 10, final=0.5), {0: 1.0, 1: 0.95, 5: 0.75, 10: 0.5, 11: 0.5}),
    "linear up": (optim.linear(0.0, 10, final=0.5), {0: 0.0, 5: 0.25, 10: 0.5, 11: 0.5}),
    "polynomial": (optim.polynomial(1.0, 10, power=2.0, final=0.0), {0: 1.0, 5: 0.25, 9: 0.01, 10: 0.0, 99: 0.0}),
    "polynomial to a floor": (optim.polynomial(1.0, 4, power=0.5, final=0.5), {0: 1.0, 3: 0.75, 4: 0.5}),
    "warm-up to a rate": (optim.warm_up(0.4, 4), {0: 0.1, 1: 0.2, 3: 0.4, 4: 0.4, 100: 0.4}),
    "warm-up, then linear": (optim.warm_up(optim.linear(1.0, 10), 5), {0: 0.2, 4: 1.0, 5: 1.0, 10: 0.5, 15: 0.0, 30: 0.0}),
    "one cycle": (optim.one_cycle(1.0, 21, rise=11 / 21, start_divisor=10.0, end_divisor=10.0),
                  {0: 0.1, 5: 0.55, 10: 1.0, 15: 0.505, 20: 0.01, 99: 0.01}),
}


@pytest.mark.parametrize("name", POINTS)
def test_values(name: str) -> None:
    schedule, points = POINTS[name]
    jitted = ng.jit(schedule)
    for t, expected in points.items():
        np.testing.assert_allclose(schedule(t), expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(schedule(np.float64(t)), expected, rtol=1e-12, atol=1e-15)
        for step in (np.int32(t), np.asarray(t, np.int64)):
            np.testing.assert_allclose(jitted(step), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", POINTS)
def test_integers_give_float32_and_floats_keep_their_dtype(name: str) -> None:
    schedule, _ = POINTS[name]
    jitted = ng.jit(schedule)
    for step, dtype in ((3, np.float32), (np.int32(3), np.float32), (np.int64(3), np.float32), (np.float32(3), np.float32),
                        (np.float64(3), np.float64)):
        assert schedule(step).dtype == dtype and schedule(step).shape == ()
        if not isinstance(step, int):
            assert jitted(step).dtype == dtype


@pytest.mark.parametrize("name", POINTS)
def test_one_compilation_serves_all_steps(name: str) -> None:
    jitted = ng.jit(POINTS[name][0])
    for t in range(5):
        jitted(np.int64(t))
    assert jitted.cache_info().misses == 1


@pytest.mark.parametrize("make, message", [
    (lambda: optim.cosine(0.1, 0), "cosine: steps must be greater than 0, got 0"),
    (lambda: optim.linear(0.1, -3), "linear: steps must be greater than 0, got -3"),
    (lambda: optim.step(0.1, 0), "step: every must be greater than 0, got 0"),
    (lambda: optim.exponential(0.1, 0.0), "exponential: factor must be greater than 0"),
    (lambda: optim.polynomial(0.1, 5, power=0.0), "polynomial: power must be greater than 0"),
    (lambda: optim.warm_up(0.1, 0), "warm_up: steps must be greater than 0"),
    (lambda: optim.one_cycle(0.1, 3), "one_cycle: rise 0.3 of 3 steps leaves no step"),
    (lambda: optim.one_cycle(0.1, 10, rise=1.0), "one_cycle: rise 1.0 of 10 steps leaves no step"),
])
def test_options_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_of_ones_own() -> None:
    class Root(optim.Schedule):
        """1 / √(t + 1)."""

        def at(self, t: Any) -> Any:
            return (t + 1) ** -0.5

    assert Root()(3) == np.float32(0.5)
    np.testing.assert_allclose(optim.warm_up(Root(), 2)(np.float64(5)), 0.5)
    with pytest.raises(NotImplementedError, match="Schedule must define at"):
        optim.Schedule()(0)
