"""Bounds of sizes that are known later: what follows for an expression from the least and the most that its dimensions may be."""

from __future__ import annotations

import functools
import math
from typing import Any

from nagraph.ir.polynomial import Monomial, Sum, normal, product

#: Of sums of more terms nothing but their bounds is found out.
MOST_TERMS = 12
#: The least and the most; None where there is no bound.
Bounds = tuple[int | None, int | None]


def bounds(x: Any) -> Bounds:
    """Numbers between which an integer or a size lies."""
    found: Bounds = (x, x) if type(x) is int else x.bounds
    return found


def bounds_of_sum(terms: Sum) -> Bounds:
    """Those of a sum whose atoms have bounds, term by term."""
    low: int | None = 0
    high: int | None = 0
    for monomial, c in terms[0]:
        a, b = _bounds_of_product(monomial)
        if c < 0:
            a, b = b, a
        low, high = (None if low is None or a is None else low + c * a), (None if high is None or b is None else high + c * b)
    low, high = (None if low is None else -(-low // terms[1])), (None if high is None else high // terms[1])
    if low == 0 and len(terms[0]) == 1 and all((bounds(atom)[0] or 0) > 0 for atom, _ in terms[0][0][0]):
        low = 1  # a quotient of positive numbers that is a whole one
    return low, high


def _bounds_of_product(monomial: Monomial) -> Bounds:
    low = 1
    high: int | None = 1
    for atom, power in monomial:
        a, b = bounds(atom)
        if a is None or a < 0:
            return None, None
        for _ in range(abs(power)):
            if power > 0:
                low, high = low * a, None if high is None or b is None else high * b
            else:
                low, high = 0 if b is None else low // max(b, 1), None if high is None else -(-high // max(a, 1))
    return low, high


@functools.lru_cache(4096)
def at_least(x: Any, least: int) -> bool:
    """Whether it follows from the bounds of dimensions that x >= least."""
    low = bounds(x)[0]
    if low is not None and low >= least:
        return True
    return type(x) is not int and _not_negative(x - least, 4)


def _not_negative(x: Any, depth: int) -> bool:
    """Whether x >= 0: by its bounds, by what lies below one of its atoms, or because no atom is below its minimum."""
    low = bounds(x)[0]
    if low is not None and low >= 0:
        return True
    if type(x) is int or not depth or len(x.terms) > MOST_TERMS:
        return False
    for monomial, c in x.terms:
        for atom, power in monomial:
            others = product(monomial, ((atom, 1),), -1)
            if power != 1 or any((bounds(a)[0] or 0) < 0 for a, _ in others):
                continue
            factor = x.made(normal({others: c}, x.divisor))
            rest = x - factor * atom
            cases = atom.cases(c > 0)  # of which all, or one, must make it so
            if cases is not None:
                every, scale, ends = cases
                return (all if every else any)(_not_negative(rest * scale + factor * end, depth - 1) for end in ends)
    shifted: Any = 0
    for monomial, c in x.terms:
        if any(power < 0 or (bounds(atom)[0] or 0) < 0 or bounds(atom)[0] is None for atom, power in monomial):
            return False
        shifted = shifted + c * math.prod(atom + bounds(atom)[0] for atom, power in monomial for _ in range(power))
    return (shifted >= 0) if type(shifted) is int else all(c >= 0 for _, c in shifted.terms)
