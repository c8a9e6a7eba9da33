"""Lion: steps of one size along the sign of an interpolated momentum."""

from __future__ import annotations

from dataclasses import dataclass

import nagraph as ng
from nagraph.optim.base import Array, Clock, Optimizer, Slots


@dataclass(frozen=True)
class Lion(Optimizer):
    """p = p - rate · (sign(b1 m + (1 - b1) g) + weight_decay · p); m = b2 m + (1 - b2) g.

    Parameters with fewer than `decay_min_rank` axes don't decay. Source: Chen et al. 2023.
    """

    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 0.0
    decay_min_rank: int = 0

    slots = ("mean",)

    def step(self, p: Array, g: Array, slots: Slots, clock: Clock) -> tuple[Array, Slots]:
        m = slots["mean"]
        direction = ng.numpy.sign(self.b1 * m + (1 - self.b1) * g)
        if self.weight_decay and len(p.shape) >= self.decay_min_rank:
            direction = direction + self.weight_decay * p
        return p - clock.rate * direction, {"mean": self.b2 * m + (1 - self.b2) * g}
