"""Adagrad and RMSprop: steps divided by the root of accumulated squares."""

from __future__ import annotations

from dataclasses import dataclass

import nagraph as ng
from nagraph.optim.base import Array, Clock, Optimizer, Slots


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """v = v + g²; p = p - rate / (1 + t · rate_decay) · g / (√v + eps), t from 0.

    g = gradient + weight_decay · p; v starts at `initial`. Source: Duchi et al. 2011.
    """

    rate_decay: float = 0.0
    weight_decay: float = 0.0
    initial: float = 0.0
    eps: float = 1e-10

    slots = ("square",)

    def start(self, p: Array) -> Array:
        return ng.numpy.full(p.shape, self.initial, p.dtype)

    def step(self, p: Array, g: Array, slots: Slots, clock: Clock) -> tuple[Array, Slots]:
        if self.weight_decay:
            g = g + self.weight_decay * p
        v = slots["square"] + g * g
        rate = clock.rate / (1 + clock.done * self.rate_decay)
        return p - rate * (g / (ng.numpy.sqrt(v) + self.eps)), {"square": v}


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """v = decay · v + (1 - decay) g²; u = momentum · u + g / (√v + eps); p = p - rate · u.

    Centred: √(v - m²) in place of √v, with m = decay · m + (1 - decay) g. g = gradient + weight_decay · p.
    Source: Tieleman and Hinton 2012; Graves 2013.
    """

    decay: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    slots = ("square", "velocity", "mean")

    def _kept(self) -> tuple[str, ...]:
        return ("square", *("velocity",) * bool(self.momentum), *("mean",) * self.centered)

    def step(self, p: Array, g: Array, slots: Slots, clock: Clock) -> tuple[Array, Slots]:
        if self.weight_decay:
            g = g + self.weight_decay * p
        v = self.decay * slots["square"] + (1 - self.decay) * (g * g)
        kept, spread = {"square": v}, v
        if self.centered:
            kept["mean"] = m = self.decay * slots["mean"] + (1 - self.decay) * g
            spread = v - m * m
        u = g / (ng.numpy.sqrt(spread) + self.eps)
        if self.momentum:
            kept["velocity"] = u = self.momentum * slots["velocity"] + u
        return p - clock.rate * u, kept
