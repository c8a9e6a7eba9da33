"""Masking: how many tokens, which, what takes their place, and the baseline that guesses them from their neighbours."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.masking import chosen_positions, mask_tokens
from nagraph.models.data.neighbours import Neighbours

SIZE, MASK, SPECIAL = 50, 4, (0, 1, 2, 3, 4)


def rows(seed: int = 0, shape: tuple[int, ...] = (400, 100)) -> np.ndarray[Any, Any]:
    ids = np.random.default_rng(seed).integers(5, SIZE, shape).astype(np.int32)
    ids[..., 0], ids[..., -10:] = 2, 0
    return ids


def test_the_shares() -> None:
    ids = rows()
    found = mask_tokens(np.random.default_rng(1), ids, MASK, SIZE, SPECIAL)
    assert found.ids.dtype == found.labels.dtype == np.int32 and found.weights.dtype == np.float32
    assert found.ids.shape == found.labels.shape == found.weights.shape == ids.shape
    chosen = found.weights == 1
    assert set(np.unique(found.weights)) == {0, 1} and np.all(chosen.sum(1) == round(0.15 * 89)), "as many in every row"
    assert np.array_equal(found.labels, ids) and np.array_equal(found.ids[~chosen], ids[~chosen])
    assert not chosen[np.isin(ids, SPECIAL)].any(), "special tokens are never chosen"
    seen, was = found.ids[chosen], ids[chosen]
    masked, kept = (seen == MASK).mean(), (seen == was).mean()
    assert abs(masked - 0.8) < 0.02 and abs(kept - 0.1 - 0.1 / 45) < 0.015  # a random token may be the one that was there
    drawn = seen[(seen != MASK) & (seen != was)]
    assert set(drawn) == set(range(5, SIZE)), "any ordinary token can come, and no special one"
    assert np.ptp(chosen[:, 1:90].mean(0)) < 0.12, "no position is preferred"


def test_a_function_of_the_generators_state() -> None:
    one, two, other = (mask_tokens(np.random.default_rng(s), rows(), MASK, SIZE, SPECIAL) for s in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(one, two)) and not np.array_equal(one.weights, other.weights)


def test_short_rows_and_special_ones() -> None:
    ids = np.array([[7, 0, 0], [0, 2, 3], [4, 7, 8]])
    found = mask_tokens(np.random.default_rng(0), ids, MASK, SIZE, SPECIAL)
    assert found.weights.sum(1).tolist() == [1, 0, 1] and found.weights[2, 0] == 0, "at least one, if there is an ordinary one"
    assert mask_tokens(np.random.default_rng(0), np.arange(5, 25), MASK, SIZE, SPECIAL, share=1).weights.tolist() == [1] * 20
    assert mask_tokens(np.random.default_rng(0), np.zeros((0, 8), np.int64), MASK, SIZE).ids.shape == (0, 8)


@pytest.mark.parametrize(("change", "message"), [
    ({"share": 0}, "must lie above 0 and at most at 1, got 0"), ({"share": 1.5}, "must lie above 0"),
    ({"ids": np.zeros((2, 3))}, r"takes rows of whole numbers, got float64 of shape \[2, 3\]"),
    ({"ids": np.int32(3)}, r"got int32 of shape \[\]"), ({"ids": np.array([50])}, "ids from 0 to 49, got 50 to 50"),
    ({"ids": np.array([-1])}, "ids from 0 to 49"), ({"mask": 50}, "the mask must be one of 50 tokens, got 50"),
    ({"special": range(50)}, "all 50 tokens are special"),
])
def test_what_can_not_be_masked(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"ids": rows(shape=(2, 30)), "mask": MASK, "size": SIZE, **change}
    with pytest.raises(DataError, match=message) as caught:
        mask_tokens(np.random.default_rng(0), **arguments)
    assert "\n" not in str(caught.value)


def test_positions_to_guess() -> None:
    found = mask_tokens(np.random.default_rng(1), rows(shape=(6, 40)), MASK, SIZE, SPECIAL)
    count = int(found.weights[0].sum())
    at, labels, weights = chosen_positions(found, count + 2)
    assert at.shape == labels.shape == weights.shape == (6, count + 2)
    for row in range(6):
        assert at[row, :count].tolist() == np.flatnonzero(found.weights[row]).tolist()
        assert weights[row].tolist() == [1] * count + [0, 0] and labels[row].tolist() == found.labels[row, at[row]].tolist()


def slow_guess(text: list[int], row: list[int], i: int) -> int:
    """As the words say it: most frequent, of equals the smallest."""
    left = row[i - 1] if i else None
    right = row[i + 1] if i + 1 < len(row) else None
    middle = range(1, len(text) - 1)
    for seen in (Counter(text[j] for j in middle if (text[j - 1], text[j + 1]) == (left, right)),
                 Counter(text[j] for j in range(1, len(text)) if text[j - 1] == left),
                 Counter(text[j] for j in range(len(text) - 1) if text[j + 1] == right), Counter(text)):
        if seen:
            return min(seen, key=lambda t: (-seen[t], t))
    raise AssertionError


def test_neighbours_beside_the_same_in_plain_python() -> None:
    rng = np.random.default_rng(0)
    for size, length in ((3, 50), (9, 40), (9, 2), (4, 1), (2000, 30)):
        text, row = rng.integers(0, size, length), rng.integers(0, size, (3, 20))
        if size == 2000:
            row[:, 4:10] = text[4:10]
        found = Neighbours(text.astype(np.int32), size).guess(row)
        assert found.dtype == np.int32
        assert found.tolist() == [[slow_guess(text.tolist(), r.tolist(), i) for i in range(20)] for r in row]


def test_accuracy_counts_what_is_to_be_guessed() -> None:
    text = np.array([0, 1, 2] * 20, np.int32)
    model = Neighbours(text, 4)
    seen, labels = np.array([[0, 3, 2, 0, 3, 3]]), np.array([[0, 1, 2, 0, 1, 2]])
    assert model.accuracy(seen, labels, np.array([[0, 1, 0, 0, 1, 0]])) == 1
    assert model.accuracy(seen, labels, np.array([[0, 1, 0, 0, 1, 1]])) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="three of 2,642,246 tokens do not fit 64 bits"):
        Neighbours(text, 2642246)
