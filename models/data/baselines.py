"""What simple methods reach: the accuracies that a network has to beat. Each gives the same figure every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data.extras import missing
from nagraph.models.data.images import Images, Split

Array = np.ndarray[Any, Any]

#: Words and signs of program code: names, numbers, and each other sign.
TOKEN = r"\w+|[^\w\s]"
_ITERATIONS = 1000


def chance(train: Any, held_out: Any) -> float:
    """The share of held-out labels [n] that are the commonest training label."""
    kinds, counts = np.unique(np.asarray(train), return_counts=True)
    if not len(kinds) or not len(held_out):
        raise DataError("without labels on both sides there is no accuracy")
    return float(np.mean(np.asarray(held_out) == kinds[np.argmax(counts)]))


def _some(images: Images, most: int | None) -> Images:
    """At most `most` images of all classes, the same ones every time: in class folders, the first ones are of one class."""
    if most is None or most >= len(images):
        return images
    return images[np.random.default_rng(0).permutation(len(images))[:most]]


def _rows(images: Images) -> Array:
    return images.pixels.reshape(len(images), -1)


def logistic_regression(split: Split, most: int | None = None) -> float:
    """Accuracy of multinomial logistic regression on flattened pixels, each of mean 0 and deviation 1.

    most: the number of training images that are used, all by default. DataError if scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise missing("scikit-learn", "a baseline") from None
    train = _some(split.train, most)
    _two_classes(train.labels)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    return float(model.fit(_rows(train), train.labels).score(_rows(split.held_out), split.held_out.labels))


def nearest_neighbours(split: Split, most: int | None = None, neighbours: int = 3) -> float:
    """Accuracy of the commonest label among the nearest training images, by Euclidean distance of pixels.

    most: the number of training images that are used, all by default. DataError if scikit-learn is not installed.
    """
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError:
        raise missing("scikit-learn", "a baseline") from None
    train = _some(split.train, most)
    model = KNeighborsClassifier(min(neighbours, len(train))).fit(_rows(train), train.labels)
    return float(model.score(_rows(split.held_out), split.held_out.labels))


def text_regression(train: Sequence[str], train_labels: Any, held_out: Sequence[str], held_out_labels: Any) -> float:
    """Accuracy of logistic regression on TF-IDF of single tokens and pairs, with sublinear counts.

    Texts with labels [n] of any kind. DataError for texts without a token, and if scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError:
        raise missing("scikit-learn", "a baseline") from None
    if len(train) != len(train_labels) or len(held_out) != len(held_out_labels):
        raise DataError(f"{len(train):,} and {len(held_out):,} texts have {len(train_labels):,} and {len(held_out_labels):,} labels")
    _two_classes(train_labels)
    if not any(text.strip() for text in train):
        raise DataError("the texts hold no words and no signs")
    tokens = TfidfVectorizer(token_pattern=TOKEN, ngram_range=(1, 2), sublinear_tf=True, lowercase=False)
    # C of 10: rows of TF-IDF have length 1, so that C of 1 would hold the weights too small.
    model = make_pipeline(tokens, LogisticRegression(C=10, max_iter=_ITERATIONS))
    return float(model.fit(train, train_labels).score(held_out, held_out_labels))


def _two_classes(labels: Any) -> None:
    kinds = np.unique(np.asarray(labels))
    if len(kinds) < 2:
        raise DataError(f"all training examples are of class {kinds[0]}; there is nothing to tell apart" if len(kinds)
                        else "there are no training examples")
