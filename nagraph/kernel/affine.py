"""Affine expressions: an offset and whole multiples of atoms.

An atom is an axis of a kernel (0, 1, ...), or an integer that the body computes: instruction i is the atom -1 - i.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Affine(NamedTuple):
    """An affine expression is offset + sum of coefficient * atom; its terms are sorted by atom, and no coefficient is 0."""

    offset: int = 0
    terms: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        parts = [f"{'' if c == 1 else f'{c}*'}{f'a{a}' if a >= 0 else f'v{-1 - a}'}" for a, c in self.terms]
        if self.offset or not parts:
            parts.append(str(self.offset))
        return " + ".join(parts)

    def coefficient(self, atom: int) -> int:
        return next((c for a, c in self.terms if a == atom), 0)


ZERO = Affine()


def atom(number: int) -> Affine:
    return Affine(0, ((number, 1),))


def total(parts: Iterable[tuple[Affine, int]], offset: int = 0) -> Affine:
    """The sum of an offset and of expressions, each times its factor."""
    sums: dict[int, int] = {}
    for part, factor in parts:
        offset += part.offset * factor
        for a, c in part.terms:
            sums[a] = sums.get(a, 0) + c * factor
    return Affine(offset, tuple(sorted((a, c) for a, c in sums.items() if c)))


def bounds(x: Affine, extents: Mapping[int, int]) -> tuple[int, int]:
    """The least and the largest value, atom a running over 0 ... extents[a] - 1."""
    low = high = x.offset
    for a, c in x.terms:
        reach = c * (extents[a] - 1)
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high


def split(x: Affine, divisor: int, extents: Mapping[int, int]) -> tuple[Affine, Affine] | None:
    """(quotient, remainder) with 0 <= remainder < divisor for all values of the atoms; None if neither is affine."""
    quotient = Affine(x.offset // divisor, tuple((a, c // divisor) for a, c in x.terms if c % divisor == 0))
    remainder = Affine(x.offset % divisor, tuple((a, c) for a, c in x.terms if c % divisor))
    low, high = bounds(remainder, extents)
    return (quotient, remainder) if low >= 0 and high < divisor else None


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides, in elements."""
    found = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        found[i] = found[i + 1] * max(shape[i + 1], 1)
    return tuple(found)


def refine(shapes: Iterable[Sequence[int]]) -> tuple[int, ...] | None:
    """The coarsest extents that cut all these shapes of one size; None if their cuts do not nest."""
    shapes = list(shapes)
    if any(0 in shape for shape in shapes):
        return (0,)
    cuts: set[int] = {1}
    for shape in shapes:
        product = 1
        for size in reversed(shape):
            product *= size
            cuts.add(product)
    ordered = sorted(cuts)
    extents = []
    for small, large in zip(ordered, ordered[1:]):
        if large % small:
            return None
        extents.append(large // small)
    return tuple(reversed(extents))
