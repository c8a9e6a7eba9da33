"""What is said of a drawn digit: which digit, where, how large, in which colours; each in several wordings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

DIGITS = tuple((name, str(i)) for i, name in enumerate("zero one two three four five six seven eight nine".split()))
SIZES = (("small", "tiny", "little"), ("medium", "middle-sized", "medium-sized"), ("large", "big", "huge"))
#: By row, then by column.
POSITIONS = (
    ("in the upper left corner", "at the top left", "in the top-left corner"),
    ("at the top", "in the upper middle", "at the top centre"),
    ("in the upper right corner", "at the top right", "in the top-right corner"),
    ("on the left", "at the left edge", "halfway down on the left"),
    ("in the middle", "in the centre", "at the very centre"),
    ("on the right", "at the right edge", "halfway down on the right"),
    ("in the lower left corner", "at the bottom left", "in the bottom-left corner"),
    ("at the bottom", "in the lower middle", "at the bottom centre"),
    ("in the lower right corner", "at the bottom right", "in the bottom-right corner"),
)
POLARITIES = (("white on black", "bright on a dark ground", "in white on a black background"),
              ("black on white", "dark on a bright ground", "in black on a white background"))
ORDERS = (
    "a {size} {digit} {position}, {polarity}",
    "{position}, a {size} {digit}, {polarity}",
    "a {size} {digit}, {polarity}, {position}",
    "{polarity}: a {size} {digit} {position}",
    "{position}, {polarity}, a {size} {digit}",
    "the digit {digit}, {size}, {polarity}, {position}",
)
COUNTS = (len(DIGITS), len(POSITIONS), len(SIZES), len(POLARITIES))


class Combination(NamedTuple):
    """A combination is what is drawn: indices into DIGITS, POSITIONS, SIZES and POLARITIES."""

    digit: int
    position: int
    size: int
    polarity: int


#: All 540; a combination's id is its index here, so id // 54 is the digit and id % 54 all else.
COMBINATIONS = tuple(Combination(*c) for c in product(*map(range, COUNTS)))
#: How many combinations there are of all but the digit.
SETTINGS = len(COMBINATIONS) // len(DIGITS)


def unseen(c: Combination) -> bool:
    """Whether training leaves this combination out: one digit of each setting, a tenth of all.

    No two things are left out together everywhere: of a digit at a position, at most one in six is missing.
    """
    return (c.digit + 2 * c.position + 3 * c.size + 5 * c.polarity) % len(DIGITS) == 0


def caption(c: Combination, choices: Sequence[float]) -> str:
    """One of the wordings of a combination: of orders, and words for digit, position, size and polarity, those at five shares in [0, 1)."""
    order, digit, position, size, polarity = (
        wordings[int(share * len(wordings))]
        for wordings, share in zip((ORDERS, DIGITS[c.digit], POSITIONS[c.position], SIZES[c.size], POLARITIES[c.polarity]), choices,
                                   strict=True))
    return order.format(digit=digit, position=position, size=size, polarity=polarity)
