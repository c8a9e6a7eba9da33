"""Learning-rate schedules: frozen dataclasses, called with the number of updates done so far.

    rate = ng.optim.warm_up(ng.optim.cosine(3e-4, 10_000), 200)
    ng.optim.AdamW(rate)

A step may be a number or a traced scalar. Integers are computed in float32, floats in their own dtype.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.ir.types import is_float

Scalar = Any


class Schedule:
    """A schedule is a learning rate as a function of the step; subclasses say it in `at`, for a floating step."""

    def __call__(self, step: Scalar) -> Scalar:
        floating = hasattr(step, "dtype") and is_float(step.dtype)
        return self.at(step if floating else ng.numpy.astype(step, np.float32))

    def at(self, t: Scalar) -> Scalar:
        """The rate at a floating step t, in the dtype of t."""
        raise NotImplementedError(f"{type(self).__name__} must define at(t)")


def _positive(name: str, **values: float) -> None:
    for key, x in values.items():
        if not x > 0:
            raise ValueError(f"{name}: {key} must be greater than 0, got {x}")


def _progress(t: Scalar, steps: float) -> Scalar:
    """How much of `steps` has passed, from 0 to 1."""
    return ng.numpy.clip(t / steps, 0, 1)


@dataclass(frozen=True)
class constant(Schedule):
    """rate at every step."""

    rate: float

    def at(self, t: Scalar) -> Scalar:
        return ng.numpy.full_like(t, self.rate)


@dataclass(frozen=True)
class step(Schedule):
    """rate · factor^floor(t / every)."""

    rate: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _positive("step", every=self.every, factor=self.factor)

    def at(self, t: Scalar) -> Scalar:
        return self.rate * ng.numpy.exp(ng.numpy.floor(t / self.every) * math.log(self.factor))


@dataclass(frozen=True)
class exponential(Schedule):
    """rate · factor^t."""

    rate: float
    factor: float

    def __post_init__(self) -> None:
        _positive("exponential", factor=self.factor)

    def at(self, t: Scalar) -> Scalar:
        return self.rate * ng.numpy.exp(t * math.log(self.factor))


@dataclass(frozen=True)
class cosine(Schedule):
    """final + (rate - final) (1 + cos(π t / steps)) / 2, then final. Source: Loshchilov and Hutter 2017."""

    rate: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive("cosine", steps=self.steps)

    def at(self, t: Scalar) -> Scalar:
        return self.final + (self.rate - self.final) * _half_cosine(_progress(t, self.steps))


def _half_cosine(p: Scalar) -> Scalar:
    """From 1 at p = 0 to 0 at p = 1."""
    return 0.5 * (1 + ng.numpy.cos(math.pi * p))


@dataclass(frozen=True)
class linear(Schedule):
    """rate + (final - rate) t / steps, then final."""

    rate: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive("linear", steps=self.steps)

    def at(self, t: Scalar) -> Scalar:
        return self.rate + (self.final - self.rate) * _progress(t, self.steps)


@dataclass(frozen=True)
class polynomial(Schedule):
    """final + (rate - final) (1 - t / steps)^power, then final."""

    rate: float
    steps: int
    power: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive("polynomial", steps=self.steps, power=self.power)

    def at(self, t: Scalar) -> Scalar:
        return self.final + (self.rate - self.final) * ng.numpy.power(1 - _progress(t, self.steps), self.power)


@dataclass(frozen=True)
class warm_up(Schedule):
    """then(0) · (t + 1) / steps for the first `steps` updates, then(t - steps) after them.

    `then` is a rate or any schedule; the first update already moves.
    """

    then: Any
    steps: int

    def __post_init__(self) -> None:
        _positive("warm_up", steps=self.steps)

    def at(self, t: Scalar) -> Scalar:
        return rate_at(self.then, ng.numpy.maximum(t - self.steps, 0)) * ng.numpy.minimum((t + 1) / self.steps, 1)


@dataclass(frozen=True)
class one_cycle(Schedule):
    """Half a cosine from peak / start_divisor up to peak, and another down to the start's rate / end_divisor.

    The way up takes the share `rise` of all `steps` updates. Source: Smith and Topin 2018.
    """

    peak: float
    steps: int
    rise: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def __post_init__(self) -> None:
        _positive("one_cycle", start_divisor=self.start_divisor, end_divisor=self.end_divisor)
        if not 0 < self.rise * self.steps - 1 < self.steps - 1:
            raise ValueError(f"one_cycle: rise {self.rise} of {self.steps} steps leaves no step to go up or none to go down")

    def at(self, t: Scalar) -> Scalar:
        start = self.peak / self.start_divisor
        end = start / self.end_divisor
        top = self.rise * self.steps - 1
        up = self.peak + (start - self.peak) * _half_cosine(_progress(t, top))
        down = end + (self.peak - end) * _half_cosine(_progress(t - top, self.steps - 1 - top))
        return ng.numpy.where(t <= top, up, down)


def rate_at(rate: Any, t: Scalar) -> Scalar:
    """The value of a rate or schedule at a floating step t, in the dtype of t.

    A plain function is called with the step as int64.
    """
    if isinstance(rate, Schedule):
        return rate.at(t)
    if callable(rate):
        rate = rate(ng.numpy.astype(t, np.int64))
    return ng.numpy.astype(rate, t.dtype)
