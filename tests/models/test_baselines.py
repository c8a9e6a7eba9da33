"""Baselines: known accuracies on digits, on data whose answer is plain, and the same figure every time."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data import baselines
from nagraph.models.data.images import Images, Split, digits

pytest.importorskip("sklearn")


def split(train: Any, held_out: Any) -> Split:
    """Images of one pixel, given as pairs of pixel and label."""
    parts = [Images(np.array([[[[x]]] for x, _ in part], np.float32), np.array([y for _, y in part], np.int32), ("a", "b"))
             for part in (train, held_out)]
    return Split(parts[0], parts[1], "", "")


def test_digits() -> None:
    data = digits()
    assert baselines.logistic_regression(data) == pytest.approx(0.969, abs=0.006)
    assert baselines.nearest_neighbours(data) == pytest.approx(0.987, abs=0.006)
    assert baselines.chance(data.train.labels, data.held_out.labels) == pytest.approx(0.1, abs=0.005)


def test_the_same_figure_every_time() -> None:
    data = digits(1)
    for baseline in (baselines.logistic_regression, baselines.nearest_neighbours):
        np.random.seed(1)
        first = baseline(data, 200)
        np.random.seed(2)
        assert baseline(data, 200) == first < baseline(data)


def test_chance_is_the_commonest_class_of_training() -> None:
    assert baselines.chance([1, 1, 0], [0, 1, 0, 0]) == 0.25
    assert baselines.chance(["b", "b", "a"], ["b", "b", "a"]) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="without labels on both sides there is no accuracy"):
        baselines.chance([], [1])


def test_neighbours_vote() -> None:
    train = [(0.0, 0), (0.1, 1), (0.2, 1), (0.9, 0), (1.0, 0)]
    assert baselines.nearest_neighbours(split(train, [(0.0, 1), (1.0, 0)])) == 1.0
    assert baselines.nearest_neighbours(split(train, [(0.0, 1), (1.0, 0)]), neighbours=1) == 0.5
    assert baselines.nearest_neighbours(split(train[:1], [(0.5, 0)])) == 1.0, "no more neighbours than there are images"


def test_regression_draws_a_line() -> None:
    train = [(x / 20, int(x > 10)) for x in range(21)]
    assert baselines.logistic_regression(split(train, [(0.1, 0), (0.3, 0), (0.8, 1), (0.9, 0)])) == 0.75


def test_of_many_images_some_of_every_class_are_used() -> None:
    """Class folders come class by class: the first images would be of one class."""
    train = [(0.0 + i / 1000, 0) for i in range(100)] + [(0.9 + i / 1000, 1) for i in range(100)]
    assert baselines.logistic_regression(split(train, [(0.0, 0), (1.0, 1)]), most=20) == 1.0


def test_code_is_told_from_prose_by_its_signs() -> None:
    code = [f"x{i} = f(y{i}); return x{i}[{i}] + 1" for i in range(30)]
    prose = [f"it was the winter of year {i}, and snow fell" for i in range(30)]
    labels = ["code"] * 20 + ["prose"] * 20
    found = [baselines.text_regression(code[:20] + prose[:20], labels, code[20:] + prose[20:], ["code"] * 10 + ["prose"] * 10)
             for _ in range(2)]
    assert found == [1.0, 1.0]


def test_pairs_of_tokens_count() -> None:
    """The same signs in another order: single tokens alone tell nothing."""
    train, held_out = ["a ( ) b", "a ) ( b"] * 10, ["c ( ) d", "c ) ( d"]
    assert baselines.text_regression(train, [0, 1] * 10, held_out, [0, 1]) == 1.0


@pytest.mark.parametrize("given, message", [
    ((["a"], [0, 1], ["b"], [0]), "1 and 1 texts have 2 and 1 labels"),
    ((["a", "b"], [1, 1], ["b"], [1]), "all training examples are of class 1; there is nothing to tell apart"),
    (([], [], ["b"], [1]), "there are no training examples"),
    ((["", " \n"], [0, 1], ["b"], [1]), "the texts hold no words and no signs"),
])
def test_texts_without_an_answer(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        baselines.text_regression(*given)


def test_images_of_one_class() -> None:
    with pytest.raises(DataError, match="all training examples are of class 0; there is nothing to tell apart"):
        baselines.logistic_regression(split([(0.1, 0), (0.2, 0)], [(0.1, 0)]))


@pytest.mark.parametrize("package, call", [
    ("sklearn.linear_model", lambda: baselines.logistic_regression(split([(0, 0), (1, 1)], [(0, 0)]))),
    ("sklearn.neighbors", lambda: baselines.nearest_neighbours(split([(0, 0), (1, 1)], [(0, 0)]))),
    ("sklearn.feature_extraction.text", lambda: baselines.text_regression(["a", "b"], [0, 1], ["a"], [0])),
])
def test_without_scikit_learn(package: str, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r"a baseline needs scikit-learn, which is not installed: pip install 'nagraph\[data\]'"):
        call()
