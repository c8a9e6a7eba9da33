"""Generation: each symbol has the probability that the model gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import DataError
from nagraph.models.generation import draw, generate
from nagraph.models.gpt2 import GPT2, GPT2Config


@pytest.fixture(scope="module")
def model() -> GPT2:
    config = GPT2Config(vocabulary=9, context=6, layers=1, heads=2, width=8)
    return GPT2.init(ng.random.key(0), config).map(lambda x: 10 * x)


def test_the_likeliest_continuation_step_by_step(model: GPT2) -> None:
    """temperature 0, beyond the context: each symbol is the argmax of the model on the last ids alone."""
    forward = ng.jit(lambda m, ids: m(ids))
    known = [4, 1]
    found = list(generate(model, known, 7, temperature=0))
    for symbol in found:
        recent = np.array(known[-6:], np.int32)
        logits = np.asarray(forward(model, np.pad(recent, (0, 6 - len(recent)))))[len(recent) - 1]
        assert symbol == logits.argmax()
        known.append(symbol)
    assert all(type(x) is int for x in found)


def test_the_seed_decides(model: GPT2) -> None:
    prompt = np.array([[4, 1]], np.int64)
    first = list(generate(model, prompt, 20, seed=1))
    assert list(generate(model, prompt, 20, seed=1)) == first and len(first) == 20
    assert list(generate(model, prompt, 12, seed=1)) == first[:12], "a longer text begins as the shorter one"
    assert list(generate(model, prompt, 20, seed=2)) != first
    assert list(generate(model, prompt, 0)) == []


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top", [None, 3, 50])
def test_draws_follow_the_distribution(temperature: float, top: int | None) -> None:
    logits = np.array([0.3, 2.0, -1.0, 1.0, 0.0])
    p = np.exp(logits / temperature)
    if top == 3:
        p[[2, 4]] = 0
    p /= p.sum()
    rng = np.random.default_rng(0)
    n = 20_000
    counts = np.bincount([draw(logits, temperature, top, rng) for _ in range(n)], minlength=5)
    assert np.all(np.abs(counts / n - p) <= 5 * np.sqrt(p * (1 - p) / n)), counts / n


def test_limits_of_the_temperature() -> None:
    logits, rng = np.array([1.0, 3.0, 2.0]), np.random.default_rng(0)
    for temperature in (0.0, 1e-300, 5e-324):
        assert {draw(logits, temperature, None, rng) for _ in range(20)} == {1}
    assert {draw(logits, np.inf, None, rng) for _ in range(200)} == {0, 1, 2}, "infinitely hot: all alike"
    assert {draw(np.array([1e308, -1e308]), 1.0, None, rng) for _ in range(9)} == {0}


def test_of_equal_scores_no_more_than_top_are_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {draw(np.array([0.0, 5.0, 5.0, 5.0]), 1.0, 2, rng) for _ in range(100)} == {1, 2}
    assert {draw(np.array([0.0, 5.0, 5.0]), 0.0, None, rng), draw(np.zeros(3), 1.0, 1, rng)} == {0, 1}


@pytest.mark.parametrize(("ids", "options", "message"), [
    ([], {}, "at least one symbol to begin with"),
    ([9], {}, r"ids must lie in \[0, 9\), got 9 to 9"),
    ([-1, 3], {}, r"ids must lie in \[0, 9\), got -1 to 3"),
    ([1], {"temperature": -1.0}, "temperature is at least 0, got -1.0"),
    ([1], {"temperature": float("nan")}, "temperature is at least 0, got nan"),
    ([1], {"top": 0}, "`top` is at least 1, got 0"),
])
def test_wrong_input_is_an_error_at_once(ids: Any, options: dict[str, Any], message: str, model: GPT2) -> None:
    with pytest.raises(DataError, match=message):
        generate(model, ids, 3, **options)


def test_scores_that_are_not_finite_are_an_error(model: GPT2) -> None:
    with pytest.raises(DataError, match="the model's scores are not finite"):
        list(generate(model.map(lambda x: x * np.nan), [1], 3))


def test_unknown_backend(model: GPT2) -> None:
    with pytest.raises(ng.errors.SignatureError, match="unknown backend 'abacus'; there is llvm, numpy"):
        list(generate(model, [1], 3, backend="abacus"))
