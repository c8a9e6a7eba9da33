"""Drawn digits and their captions: what is said is what is drawn, what training leaves out, retrieval, and words."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.captions import (
    CANVAS,
    SIDES,
    Pairs,
    blind_oracle,
    chance,
    digit_pairs,
    is_unseen,
    recall_at_1,
)
from nagraph.models.data.images import digits
from nagraph.models.data.wordings import COMBINATIONS, DIGITS, ORDERS, POLARITIES, POSITIONS, SETTINGS, SIZES, caption
from nagraph.models.data.words import END, PADDING, START, UNKNOWN, WordVocabulary, words_of

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def pairs() -> tuple[Pairs, Pairs]:
    return digit_pairs()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- wordings ----------------------------------------------------------------------------------------------


def test_combinations_and_their_ids() -> None:
    assert len(COMBINATIONS) == len(set(COMBINATIONS)) == 540 and SETTINGS == 54
    assert all(i // SETTINGS == c.digit and COMBINATIONS[i % SETTINGS][1:] == c[1:] for i, c in enumerate(COMBINATIONS))


def test_no_caption_is_said_of_two_combinations() -> None:
    meant = defaultdict(set)
    shares = [[(i + 0.5) / n for i in range(n)] for n in (len(ORDERS), 2, 3, 3, 3)]
    for c in COMBINATIONS:
        for choices in product(*shares):
            meant[" ".join(words_of(caption(c, choices)))].add(c)
    assert len(meant) == 540 * 6 * 2 * 27 and all(len(found) == 1 for found in meant.values())


def test_wordings_differ_in_more_than_case() -> None:
    for group in (DIGITS, POSITIONS, SIZES, POLARITIES):
        every = [" ".join(words_of(wording)) for wordings in group for wording in wordings]
        assert len(every) == len(set(every))
    assert caption(COMBINATIONS[7 * 54 + 4], (0, 0, 0, 0, 0)) == "a large seven in the upper left corner, white on black"


# -- drawing -----------------------------------------------------------------------------------------------


def test_a_pure_function_of_the_generator(pairs: tuple[Pairs, Pairs]) -> None:
    images, captions, ids = pairs[0].draw(rng(1), 50)
    assert images.shape == (50, 1, CANVAS, CANVAS) and images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    assert ids.shape == (50,) and ids.dtype == np.int64 and len(captions) == 50
    again = digit_pairs()[0].draw(rng(1), 50)
    assert np.array_equal(images, again[0]) and captions == again[1] and np.array_equal(ids, again[2])
    other = pairs[0].draw(rng(2), 50)
    assert not np.array_equal(ids, other[2]) and captions != other[1]
    assert len({image.tobytes() for image in pairs[0].draw(rng(3), 2000)[0]}) == 2000


def test_what_is_said_is_what_is_drawn(pairs: tuple[Pairs, Pairs]) -> None:
    images, captions, ids = pairs[1].draw(rng(), 1500)
    for image, text, i in zip(images[:, 0], captions, ids):
        c = COMBINATIONS[i]
        for group, k in ((DIGITS, c.digit), (POSITIONS, c.position), (SIZES, c.size), (POLARITIES, c.polarity)):
            assert any(wording in text for wording in group[k]), (text, c)
        assert (image.mean() > 0.5) == c.polarity, "dark digits leave the canvas bright"
        ink = np.abs(image - c.polarity) > 0.4
        (top, bottom), (left, right) = ((k.min(), k.max() + 1) for k in np.nonzero(ink))
        assert SIDES[c.size] * 0.6 < bottom - top <= SIDES[c.size] and right - left <= SIDES[c.size]
        row, column = divmod(c.position, 3)
        for third, middle in ((row, (top + bottom) / 2), (column, (left + right) / 2)):
            assert abs(middle - (SIDES[c.size] / 2 + third * (CANVAS - SIDES[c.size]) / 2)) <= SIDES[c.size] / 4 + 1


def test_drawn_digits_show_the_digit(pairs: tuple[Pairs, Pairs]) -> None:
    """A small digit in the middle, cut out again, is one of the data that bear its label."""
    ids = np.array([digit * SETTINGS + 4 * 6 for digit in range(10)] * 20)
    images, _, _ = pairs[1]._drawn(rng(), ids)
    known = pairs[1].digits
    for image, i in zip(images[:, 0], ids):
        distance = min(float(np.abs(known.pixels[known.labels == i // SETTINGS, 0] - image[a:a + 8, b:b + 8]).mean((1, 2)).min())
                       for a in (11, 12, 13) for b in (11, 12, 13))
        assert distance < 0.06, "no more than noise"


def test_training_and_test_share_no_digit_and_not_all_combinations(pairs: tuple[Pairs, Pairs]) -> None:
    train, test = pairs
    split = digits(0)
    assert np.array_equal(train.digits.pixels, split.train.pixels) and np.array_equal(test.digits.pixels, split.held_out.pixels)
    assert train.sha256 == test.sha256 == split.sha256
    assert sorted(test.combinations) == list(range(540)) and len(train.combinations) == 486
    assert not is_unseen(train.combinations).any() and is_unseen(test.combinations).sum() == 54
    assert set(train.draw(rng(), 8000)[2]) == set(train.combinations)
    left_out = [COMBINATIONS[i] for i in range(540) if is_unseen(np.array(i))]
    assert Counter(c[1:] for c in left_out) == dict.fromkeys(product(range(9), range(3), range(2)), 1), "a digit of each setting"
    assert set(Counter((c.digit, c.position) for c in left_out).values()) == {1}
    assert set(Counter(c.digit for c in left_out).values()) == {5, 6}


def test_a_gallery_is_of_distinct_combinations(pairs: tuple[Pairs, Pairs]) -> None:
    images, captions, ids = pairs[1].gallery(rng())
    assert len(images) == len(captions) == len(set(ids)) == 256 and is_unseen(ids).sum() > 10
    with pytest.raises(DataError, match="there are 540 combinations to draw, so no gallery of 541"):
        pairs[1].gallery(rng(), 541)


# -- retrieval ---------------------------------------------------------------------------------------------


def test_recall_both_ways() -> None:
    ids = np.array([7, 3, 7, 5])
    similarity = np.array([[0.1, 0.0, 0.9, 0.3],   # the other caption of 7: right
                           [0.2, 0.1, 0.3, 0.9],   # wrong
                           [0.0, 0.4, 0.5, 0.4],   # right
                           [0.3, 0.6, 0.1, 0.5]])  # wrong
    assert recall_at_1(similarity, ids) == (0.5, 0.25)
    assert recall_at_1(np.eye(4), ids) == (1.0, 1.0)


def test_ties_count_by_their_share_and_no_number_finds_nothing() -> None:
    ids = np.arange(4)
    assert recall_at_1(np.ones((4, 4)), ids) == (0.25, 0.25)
    similarity = np.eye(4)
    similarity[0, 0] = np.nan
    assert recall_at_1(similarity, ids) == (0.75, 0.75)
    assert recall_at_1(np.full((4, 4), np.nan), ids) == (0.0, 0.0)


def test_chance_and_the_blind_oracle() -> None:
    assert chance(np.arange(256)) == 1 / 256 and chance(np.array([1, 1, 2, 3])) == (0.5 + 0.5 + 0.25 + 0.25) / 4
    everything = np.arange(540)
    assert blind_oracle(everything) == pytest.approx(0.1)
    assert blind_oracle(np.array([0, 1, 54, 2])) == pytest.approx((0.5 + 1 + 0.5 + 1) / 4), "0 and 54 differ in the digit alone"


def test_the_blind_oracle_on_what_is_drawn(pairs: tuple[Pairs, Pairs]) -> None:
    """Counted anew: of the captions that share position, size and polarity, how many have the digit too. Distinct ones: 54 in 256."""
    for kind, low, high in ((pairs[1].gallery, 0.20, 0.22), (pairs[1].draw, 0.26, 0.32)):
        ids = kind(rng(), 256)[2]
        settings, every = Counter(i % SETTINGS for i in ids.tolist()), Counter(ids.tolist())
        expected = np.mean([every[i] / settings[i % SETTINGS] for i in ids.tolist()])
        assert blind_oracle(ids) == pytest.approx(expected) and low < blind_oracle(ids) < high


# -- words -------------------------------------------------------------------------------------------------


def test_words_are_numbered_by_how_common_they_are() -> None:
    words = WordVocabulary.of(["A Dog, a cat!", "the top-left dog"])
    assert words.words == ("a", "dog", "cat", "left", "the", "top") and words.size == 10
    ids = words.encode("A bird: top-left.", 8)
    assert ids.tolist() == [START, 4, UNKNOWN, 9, 7, END, PADDING, PADDING] and ids.dtype == np.int32
    assert words.decode(ids) == "a <unknown> top left"
    assert words.encode("a dog a dog", 4).tolist() == [START, 4, 5, END], "the first words of too long a text"
    assert words.encode_all(["a", "dog dog"], 5).tolist() == [[1, 4, 2, 0, 0], [1, 5, 5, 2, 0]]
    assert WordVocabulary.of(["a dog", "a"], most=1).words == ("a",)


@pytest.mark.parametrize("make, message", [
    (lambda: WordVocabulary(("a",)).encode("a bird", 5, known=True), "the vocabulary of 1 words does not have 'bird'"),
    (lambda: WordVocabulary(("a",)).encode("a", 1), "a caption takes a start and an end, the length 1 has no room for them"),
    (lambda: WordVocabulary.of(["...", ""]), "the captions hold no words"),
])
def test_what_can_not_be_encoded(make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_the_words_of_training_suffice_for_the_test(pairs: tuple[Pairs, Pairs]) -> None:
    words = WordVocabulary.of(pairs[0].draw(rng(), 3000)[1])
    encoded = [words.encode(text, 24, known=True) for text in pairs[1].draw(rng(1), 1000)[1]]
    assert words.size < 70 and all(ids[-1] == PADDING for ids in encoded), "no caption is cut"


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="needs scikit-learn, which is not installed"):
        digit_pairs()
