"""Generation: one symbol after another, each drawn from the model's distribution given those before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import nagraph as ng


def generate(model: Any, ids: Any, length: int, *, temperature: float = 1.0, top: int | None = None, seed: int = 0,
             backend: str | None = None) -> Iterator[int]:
    """`length` further ids after `ids`, p = softmax(logits / temperature), among the `top` likeliest (None: all).

    temperature 0 takes the likeliest. The model sees as many of the last ids as its context holds.
    Raises ValueError for an empty prompt or a negative temperature.
    """
    known = [int(i) for i in np.asarray(ids).ravel()]
    if not known:
        raise ValueError("generation needs at least one symbol to begin with")
    if temperature < 0:
        raise ValueError(f"the temperature is at least 0, got {temperature}")
    context = model.config.context

    def next_logits(model: Any, window: Any, last: Any) -> Any:
        return ng.numpy.take(model(window), last, axis=0)

    compiled = ng.jit(next_logits, backend=backend)
    rng = np.random.default_rng(seed)
    for _ in range(length):
        recent = known[-context:]
        window = np.zeros(context, np.int32)  # one shape for all lengths; what comes after `last` is not looked at
        window[:len(recent)] = recent
        logits = compiled(model, window, np.int32(len(recent) - 1)).astype(np.float64)
        known.append(draw(logits, temperature, top, rng))
        yield known[-1]


def draw(logits: Any, temperature: float, top: int | None, rng: np.random.Generator) -> int:
    """An index drawn with p = softmax(logits / temperature)."""
    if temperature == 0:
        return int(np.argmax(logits))
    scaled = logits / temperature
    if top is not None and top < len(scaled):
        scaled = np.where(scaled >= np.sort(scaled)[-top], scaled, -np.inf)
    p = np.exp(scaled - scaled.max())
    return int(rng.choice(len(p), p=p / p.sum()))
