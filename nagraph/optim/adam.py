"""Adam and AdamW."""

from __future__ import annotations

from dataclasses import dataclass

import nagraph as ng
from nagraph.optim.base import Array, Clock, Optimizer, Slots


@dataclass(frozen=True)
class Adam(Optimizer):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; p = p - rate · m̂ / (√v̂ + eps).

    m̂ = m / (1 - b1^t), v̂ = v / (1 - b2^t), g = gradient + weight_decay · p. Source: Kingma and Ba 2015.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots = ("mean", "square")

    def step(self, p: Array, g: Array, slots: Slots, clock: Clock) -> tuple[Array, Slots]:
        if self.weight_decay:
            g = g + self.weight_decay * p
        return self.moved(p, g, slots, clock)

    def moved(self, p: Array, g: Array, slots: Slots, clock: Clock) -> tuple[Array, Slots]:
        """The update without weight decay."""
        m = self.b1 * slots["mean"] + (1 - self.b1) * g
        v = self.b2 * slots["square"] + (1 - self.b2) * (g * g)
        scale = 1 / ng.numpy.sqrt(clock.bias(self.b2))  # a number: one division the less for each parameter
        p = p - clock.rate / clock.bias(self.b1) * (m / (ng.numpy.sqrt(v) * scale + self.eps))
        return p, {"mean": m, "square": v}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam, with weights that decay by themselves: p = p - rate · weight_decay · p before the update.

    Parameters with fewer than `decay_min_rank` axes don't decay (2 spares biases and norms).
    Source: Loshchilov and Hutter 2019.
    """

    weight_decay: float = 0.01
    decay_min_rank: int = 0

    def step(self, p: Array, g: Array, slots: Slots, clock: Clock) -> tuple[Array, Slots]:
        if self.weight_decay and len(p.shape) >= self.decay_min_rank:
            p = p * (1 - clock.rate * self.weight_decay)
        return self.moved(p, g, slots, clock)
