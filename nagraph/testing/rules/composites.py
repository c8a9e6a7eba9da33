"""Softmax, normalisations, attention, losses."""

from __future__ import annotations

from nagraph.testing.choice import Choice, is_float
from nagraph.testing.rules.rule import Proposal, rule

NORMALISED = (
    "ng.nn.functional.softmax({0})", "ng.nn.functional.softmax({0}, axis=%)", "ng.nn.functional.log_softmax({0})",
    "ng.nn.functional.layer_norm({0})", "ng.nn.functional.rms_norm({0})", "ng.nn.functional.layer_norm({0}, {0}[0], {0}[-1])",
)
ATTENTION = (
    "ng.nn.functional.attention({0}, {0}, {0})", "ng.nn.functional.attention({0}, {0}, {0}, causal=True)",
    "ng.nn.functional.attention({0}, {1}, {1} * 0.5)", "np.swapaxes(ng.nn.functional.attention({0}, {1}, {1}), -2, -3)",
)
CROSS_ENTROPY = "ng.nn.functional.cross_entropy({0}, np.abs({1}) % {0}.shape[-1])"


@rule(1.5)
def normalised(c: Choice) -> Proposal:
    x = c.value(is_float, rank=1)
    return c.one(NORMALISED).replace("%", str(c.axis(x))), (x,)


@rule(0.8)
def attention(c: Choice) -> Proposal:
    x = c.value(is_float, lambda a: 3 <= a.ndim <= 4)
    keys = c.one(("1", "3", f"{x}.shape[-2]"))
    return c.one(ATTENTION), (x, c.fresh(f"(*{x}.shape[:-2], {keys}, {x}.shape[-1])", "f32"))


@rule(0.6)
def loss(c: Choice) -> Proposal:
    x = c.value(is_float, rank=2)
    return c.one((CROSS_ENTROPY, f"{CROSS_ENTROPY}.mean()")), (x, c.fresh(f"{x}.shape[:-1]", "i64"))
