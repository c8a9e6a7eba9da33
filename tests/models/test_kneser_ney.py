"""Kneser-Ney beside the same definition in plain Python, over dicts and one symbol after another."""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from nagraph.models.data.kneser_ney import KneserNey, bits, perplexity, windows
from nagraph.models.data.text import python_documentation


class Slow:
    """p_n(c | h) as the equations say it."""

    def __init__(self, ids: list[int], order: int, symbols: int):
        self.order, self.symbols = order, symbols
        self.counts: dict[int, Counter[tuple[int, ...]]] = {}
        self.discounts: dict[int, float] = {}
        for n in range(1, order + 1):
            grams = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
            if n == order:
                self.counts[n] = Counter(grams)
            else:
                before = defaultdict(set)
                for i in range(len(ids) - n):
                    before[tuple(ids[i + 1:i + 1 + n])].add(ids[i])
                self.counts[n] = Counter({g: len(s) for g, s in before.items()})
            once, twice = (sum(c == k for c in self.counts[n].values()) for k in (1, 2))
            self.discounts[n] = once / (once + 2 * twice) if once and twice else 0.5

    def p(self, c: int, h: tuple[int, ...]) -> float:
        n = len(h) + 1
        lower = self.p(c, h[1:]) if h else 1 / self.symbols
        after = {g: k for g, k in self.counts[n].items() if g[:-1] == h}
        total = sum(after.values())
        if not total:
            return lower
        d = self.discounts[n]
        return (max(after.get((*h, c), 0) - d, 0) + d * len(after) * lower) / total

    def probabilities(self, ids: list[int]) -> list[float]:
        return [self.p(c, tuple(ids[max(0, i - self.order + 1):i])) for i, c in enumerate(ids)]


def texts() -> list[tuple[np.ndarray, np.ndarray, int]]:
    rng = np.random.default_rng(0)
    words = "the cat sat on the mat; the rat sat on the cat"
    number = {c: i for i, c in enumerate(sorted(set(words)))}
    ids = np.array([number[c] for c in words], np.int32)
    cases = [(ids[:30], ids[30:], len(number) + 3)]  # three symbols never seen in training
    for symbols, length in ((2, 40), (3, 5), (5, 60), (7, 1), (4, 3)):
        train, test = rng.integers(0, symbols, length), rng.integers(0, symbols, 25)
        cases.append((train.astype(np.int32), test.astype(np.int32), symbols))
    high = np.array([255, 0, 254], np.int32)  # bytes whose runs of eight use the highest bit
    cases.append((high[rng.integers(0, 3, 30)], np.append(high[rng.integers(0, 3, 5)], 7).astype(np.int32), 256))
    cases.append((np.zeros(9, np.int32), np.zeros(4, np.int32), 1))
    return cases


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_definition(order: int) -> None:
    for train, test, symbols in texts():
        expected = Slow(train.tolist(), order, symbols).probabilities(test.tolist())
        np.testing.assert_allclose(KneserNey(train, order, symbols).probabilities(test), expected, rtol=1e-12)
        np.testing.assert_allclose(perplexity(train, test, order, symbols), math.exp(-np.log(expected).mean()), rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 6, 7, 8])
def test_probabilities_sum_to_one_after_every_context(order: int) -> None:
    for train, test, symbols in texts():
        model = KneserNey(train, order, symbols)
        for cut in range(len(test)):
            p = [model.probabilities(np.append(test[:cut], c).astype(np.int32))[-1] for c in range(symbols)]
            assert min(p) > 0
            np.testing.assert_allclose(sum(p), 1, rtol=1e-12)


def test_runs_are_numbers_in_base_symbols() -> None:
    ids = np.array([1, 0, 2, 2], np.int32)
    assert windows(ids, 2, 3).tolist() == [3, 2, 8] and windows(ids, 4, 3).tolist() == [27 + 6 + 2]
    assert windows(ids, 5, 3).shape == (0,)
    top = np.full(4, 2**16 - 1, np.int32)
    assert windows(top, 4, 2**16).tolist() == [2**64 - 1], "64 bits are enough for 64 bits"
    with pytest.raises(ValueError, match="runs of 5 of 7132 symbols do not fit 64 bits; use a lower order"):
        windows(ids, 5, 7132)
    assert windows(ids, 5, 7131).shape == (0,)
    assert windows(np.full(8, 255), 8, 256).tolist() == [2**64 - 1]
    with pytest.raises(ValueError, match="runs of 9 of 256 symbols do not fit 64 bits"):
        bits(ids, ids, 9, 256)


def test_orders() -> None:
    ids = np.array([0, 1, 1], np.int32)
    assert perplexity(ids, ids, 0, 17) == 17 and bits(ids, ids, 0, 256) == 8
    assert bits(ids, ids, 2, 3) == pytest.approx(math.log2(perplexity(ids, ids, 2, 3)))
    with pytest.raises(ValueError, match="the order is at least 1, got 0"):
        KneserNey(ids, 0, 2)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the figures are those of Python 3.11's documentation")
def test_the_baselines_on_pythons_documentation() -> None:
    text = python_documentation()
    found = [perplexity(text.train, text.held_out, n, len(text.symbols)) for n in (0, 1, 2, 3, 5)]
    np.testing.assert_allclose(found, [103, 25.5, 10.1, 5.5, 3.45], rtol=0.01)
