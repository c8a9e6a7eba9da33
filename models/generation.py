"""Generation: one symbol after another, each drawn from the model's distribution given those before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import DataError


def generate(model: Any, ids: Any, length: int, *, temperature: float = 1.0, top: int | None = None, seed: int = 0,
             backend: str | None = None) -> Iterator[int]:
    """`length` further ids after `ids`, p = softmax(logits / temperature), among the `top` likeliest (None: all).

    temperature 0 takes the likeliest. The model sees as many of the last ids as its context holds.
    DataError for an empty prompt, ids that are no symbols, a negative temperature, `top` below 1, logits that are not finite.
    """
    known = [int(i) for i in np.asarray(ids).ravel()]
    if not known:
        raise DataError("generation needs at least one symbol to begin with")
    if not 0 <= min(known) <= max(known) < model.config.vocabulary:
        raise DataError(f"the prompt's ids must lie in [0, {model.config.vocabulary}), got {min(known)} to {max(known)}")
    if not temperature >= 0:
        raise DataError(f"the temperature is at least 0, got {temperature}")
    if top is not None and top < 1:
        raise DataError(f"`top` is at least 1, got {top}")
    return _generate(model, known, length, temperature, top, seed, backend)


def _generate(model: Any, known: list[int], length: int, temperature: float, top: int | None, seed: int, backend: str | None
              ) -> Iterator[int]:
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
    """An index drawn with p = softmax(logits / temperature) among the `top` likeliest; of equal ones the first count."""
    if not np.isfinite(logits).all():
        raise DataError("the model's scores are not finite, so it can't continue the text")
    chosen = np.argsort(-logits, kind="stable")[:top]
    if temperature == 0:
        return int(chosen[0])
    with np.errstate(over="ignore"):  # a temperature close to 0 takes the likeliest as well
        p = np.exp((logits[chosen] - logits[chosen[0]]) / temperature)
    return int(rng.choice(chosen, p=p / p.sum()))
