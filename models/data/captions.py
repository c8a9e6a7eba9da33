"""Images with captions: scikit-learn's digits drawn on a canvas, and how well images and captions find each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data.images import Images, digits
from nagraph.models.data.wordings import COMBINATIONS, POSITIONS, SETTINGS, caption, unseen

Array = np.ndarray[Any, Any]
Generator = np.random.Generator
#: Images float32 [n, channels, height, width], captions, and ids int64 [n]: what has the same id belongs together.
Drawn = tuple[Array, list[str], Array]

CANVAS = 32
#: Side of a small, a medium and a large digit, in pixels.
SIDES = (8, 12, 16)
#: The most pixels between a digit and its position's place, each way.
JITTER = 1
NOISE = 0.05


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs are pictures of digits and their captions, without end; a pure function of the generator.

    digits: what is drawn, [n, 1, 8, 8]. combinations: ids of those that are drawn. sha256: of the digits' split.
    """

    digits: Images
    combinations: Array
    source: str
    sha256: str

    def draw(self, rng: Generator, n: int) -> Drawn:
        """n pairs: images float32 [n, 1, 32, 32] in [0, 1], captions, ids of the combinations."""
        return self._drawn(rng, rng.choice(self.combinations, n))

    def gallery(self, rng: Generator, n: int = 256) -> Drawn:
        """n pairs of distinct combinations, to look each other up. DataError if there are fewer."""
        if n > len(self.combinations):
            raise DataError(f"there are {len(self.combinations)} combinations to draw, so no gallery of {n}")
        return self._drawn(rng, rng.choice(self.combinations, n, replace=False))

    @cached_property
    def _scaled(self) -> tuple[Array, ...]:
        """The digits at each size, float32 [n, side, side]."""
        found = []
        for side in SIDES:
            weights = _interpolation(self.digits.pixels.shape[-1], side)
            found.append(weights @ self.digits.pixels[:, 0] @ weights.T)
        return tuple(found)

    @cached_property
    def _rows(self) -> tuple[Array, ...]:
        """The rows of each digit."""
        return tuple(np.nonzero(self.digits.labels == digit)[0] for digit in range(10))

    def _drawn(self, rng: Generator, ids: Array) -> Drawn:
        images = np.zeros((len(ids), 1, CANVAS, CANVAS), np.float32)
        captions = []
        # All shares at once: a generator takes longer to be asked than to answer.
        for image, i, (which, down, right, *choices) in zip(images[:, 0], ids, rng.random((len(ids), 8)).tolist(), strict=True):
            c = COMBINATIONS[i]
            side, rows = SIDES[c.size], self._rows[c.digit]
            top, left = (_place(third, side, share) for third, share in zip(divmod(c.position, 3), (down, right), strict=True))
            image[top:top + side, left:left + side] = self._scaled[c.size][rows[int(which * len(rows))]]
            if c.polarity:
                np.subtract(1, image, out=image)
            captions.append(caption(c, choices))
        images += NOISE * rng.standard_normal(images.shape, np.float32)
        return np.clip(images, 0, 1, out=images), captions, np.asarray(ids, np.int64)


def _place(third: int, side: int, share: float) -> int:
    """Where a digit begins that lies in the first, second or last third, give or take the jitter."""
    room = CANVAS - side
    return min(max(third * room // 2 + int(share * (2 * JITTER + 1)) - JITTER, 0), room)


def _interpolation(given: int, wanted: int) -> Array:
    """Weights of linear interpolation, float32 [wanted, given]."""
    at = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)[:, None]
    return np.asarray(np.maximum(0, 1 - np.abs(at - np.arange(given))), np.float32)


def digit_pairs(seed: int = 0) -> tuple[Pairs, Pairs]:
    """Pairs to learn from, and pairs to test on: digits written by the seed's held-out rows, and all 540 combinations.

    A tenth of the combinations is left out of training. DataError if scikit-learn is not installed.
    """
    split = digits(seed)
    every = np.arange(len(COMBINATIONS))
    source = f"{split.source}, small to large at {len(POSITIONS)} positions"
    return (Pairs(split.train, every[~is_unseen(every)], source, split.sha256), Pairs(split.held_out, every, source, split.sha256))


def is_unseen(ids: Array) -> Array:
    """Which ids are of combinations that training leaves out, bool [n]."""
    return np.isin(ids, [i for i, c in enumerate(COMBINATIONS) if unseen(c)])


# -- retrieval ---------------------------------------------------------------------------------------------


def recall_at_1(similarity: Array, ids: Array) -> tuple[float, float]:
    """How many images find a caption of theirs, and captions an image of theirs, as the most similar.

    similarity: [n images, n captions], row and column i of the same id; all of one id belong together. Of several that
    are equally similar one is taken at random: what is counted is its expectation. Not a number finds nothing.
    """
    together = ids[:, None] == ids
    return _recall(similarity, together), _recall(similarity.T, together)


def _recall(similarity: Array, together: Array) -> float:
    first = similarity == similarity.max(1, keepdims=True)
    return float(np.mean((first & together).sum(1) / np.maximum(first.sum(1), 1)))


def chance(ids: Array) -> float:
    """The recall of one who knows nothing."""
    return _recall(np.zeros((len(ids), len(ids))), ids[:, None] == ids)


def blind_oracle(ids: Array) -> float:
    """The recall of one who knows all but the digit: position, size and polarity. A model that reads digits is above it."""
    settings = ids % SETTINGS
    return _recall((settings[:, None] == settings).astype(np.float64), ids[:, None] == ids)
