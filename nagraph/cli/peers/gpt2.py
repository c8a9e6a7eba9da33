"""GPT-2 as PyTorch and JAX both read it: arithmetic that the two write alike, and what is their own as functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph.models.tasks.gpt2 import GPT2Recipe
from nagraph.models.workloads import workload
from nagraph.storage import named_leaves

#: Rates that are computed beforehand; a schedule without a horizon is constant from there on.
RATES = 200


@dataclasses.dataclass(frozen=True)
class Start:
    """A start is where a comparison begins: the recipe, weights and ids as arrays, and the learning rate of each step."""

    recipe: GPT2Recipe
    weights: dict[str, np.ndarray[Any, Any]]
    ids: np.ndarray[Any, Any]
    rates: tuple[float, ...]

    def rate(self, done: int) -> float:
        return self.rates[min(done, RATES - 1)]


def start(**changes: Any) -> Start:
    """The workload's state, `changes` being those of its recipe."""
    recipe = GPT2Recipe(**changes)
    state, (ids,), _ = workload("gpt2", "train", **changes).arguments
    schedule = recipe.schedule()
    return Start(recipe, named_leaves(state.model), ids, tuple(float(schedule(np.float32(t))) for t in range(RATES)))


def logits(n: Any, p: Mapping[str, Any], ids: Any, recipe: GPT2Recipe) -> Any:
    """Scores of the next symbol. n: norm(x, weight, bias), gelu(x), attention(q, k, v) of [batch, heads, time, d], split(x)."""
    batch, time = ids.shape
    d = recipe.width // recipe.heads

    def linear(x: Any, name: str) -> Any:
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        return n.norm(x, p[f"{name}.weight"], p[f"{name}.bias"])

    x = p["token.table"][ids] + p["position"][:time]
    for i in range(recipe.layers):
        at = f"blocks.{i}"
        parts = n.split(linear(norm(x, f"{at}.attention_norm"), f"{at}.attention.projection"))
        q, k, v = (part.reshape(batch, time, recipe.heads, d).swapaxes(1, 2) for part in parts)
        y = n.attention(q, k, v).swapaxes(1, 2).reshape(batch, time, recipe.width)
        x = x + linear(y, f"{at}.attention.output")
        x = x + linear(n.gelu(linear(norm(x, f"{at}.mlp_norm"), f"{at}.mlp.up")), f"{at}.mlp.down")
    return norm(x, "norm") @ p["token.table"].T


