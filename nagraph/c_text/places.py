"""Places: indices into memory as C, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nagraph.kernel.affine import Affine, bounds
from nagraph.kernel.form import Within

#: What an int holds.
INT = 1 << 31


def index_text(index: Affine, extents: Sequence[int], name: Callable[[int], str], wide: str) -> str:
    """An affine expression in C: an int where it is one for all places of its axes.

    name: that of an atom. wide: the cast that makes the place along an axis 64 bits wide.
    """
    reach = abs(index.offset) + sum(abs(c) * max(extents[a] - 1, 1) for a, c in index.terms if a >= 0)
    text = ""
    for a, c in index.terms:
        atom = (wide if reach >= INT and a >= 0 else "") + name(a)
        term = atom if abs(c) == 1 else f"{atom} * {abs(c)}"
        text = f"{text} {'-' if c < 0 else '+'} {term}" if text else f"-{term}" if c < 0 else term
    if not text:
        return str(index.offset)
    return f"{text} {'-' if index.offset < 0 else '+'} {abs(index.offset)}" if index.offset else text


def within_text(i: Within, place: str, extents: Sequence[int], also: str = "") -> str:
    """Whether an index is inside, as C. place: the index. also: the earlier bool, if there is one. What is known is not asked."""
    place = place if place.isidentifier() else f"({place})"
    fixed = all(a >= 0 for a, _ in i.index.terms)
    low, high = bounds(i.index, dict(enumerate(extents))) if fixed else (-INT, i.size)
    asked = [also] if also else []
    asked += [f"{place} >= 0"] * (low < 0) + [f"{place} < {i.size}"] * (high >= i.size) + [f"{place} % {i.step} == 0"] * (i.step > 1)
    return " && ".join(asked) or "true"
