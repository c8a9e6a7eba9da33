"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import nagraph as ng
from nagraph.optim.base import Array, Clock, Optimizer, Slots


@dataclass(frozen=True)
class SGD(Optimizer):
    """u = momentum · u + (1 - dampening) g; p = p - rate · u, with g = gradient + weight_decay · p.

    At the first update u = g. Nesterov steps along g + momentum · u. Source: Sutskever et al. 2013.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    dampening: float = 0.0

    slots = ("velocity",)

    def __post_init__(self) -> None:
        if self.nesterov and (self.momentum <= 0 or self.dampening):
            raise ValueError(f"SGD: nesterov needs a momentum above 0 and no dampening, "
                             f"got momentum {self.momentum}, dampening {self.dampening}")

    def _kept(self) -> tuple[str, ...]:
        return self.slots if self.momentum else ()

    def step(self, p: Array, g: Array, slots: Slots, clock: Clock) -> tuple[Array, Slots]:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if not self.momentum:
            return p - clock.rate * g, {}
        u = self.momentum * slots["velocity"] + (1 - self.dampening) * g
        if self.dampening:
            u = ng.numpy.where(clock.done == 0, g, u)
        return p - clock.rate * (g + self.momentum * u if self.nesterov else u), {"velocity": u}
