"""Sums of products over one divisor, `(4*n*m+n)/3`, in a normal form: what sizes that are known later compute with.

A sum maps monomials to whole coefficients that are not 0; a monomial is a product of atoms with their powers. Atoms are hashable, have an
`order` by which factors are sorted, and a text. A negative power stands for a quotient that is a whole number all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nagraph.errors import SizeError

#: More than these make no size that anybody means, and would take long.
MOST_PRODUCTS, MOST_FACTORS = 512, 24

#: A product of atoms with their powers, in the order of atoms.
Monomial = tuple[tuple[Any, int], ...]
#: Monomials with their coefficients.
Terms = Mapping[Monomial, int]
#: A sum in normal form: sorted terms, and a positive divisor that shares no factor with all coefficients.
Sum = tuple[tuple[tuple[Monomial, int], ...], int]


def normal(terms: Terms, divisor: int = 1) -> Sum:
    """The normal form: the highest degrees first, then by the order of atoms."""
    left = [(m, c) for m, c in terms.items() if c]
    common = math.gcd(divisor, *(c for _, c in left))
    if common > 1:
        left, divisor = [(m, c // common) for m, c in left], divisor // common
    if len(left) > 1:
        left.sort(key=lambda term: (-sum(p for _, p in term[0]), [(a.order, -p) for a, p in term[0]]))
    return tuple(left), divisor


def plus(x: Sum, y: Sum, sign: int = 1) -> Sum:
    """x + y, or x - y."""
    (a, p), (b, q) = x, y
    found = {m: c * q for m, c in a}
    for m, c in b:
        found[m] = found.get(m, 0) + sign * c * p
    return normal(found, p * q)


def times(x: Sum, y: Sum) -> Sum:
    """x · y."""
    (a, p), (b, q) = x, y
    if len(a) * len(b) > MOST_PRODUCTS or sum(abs(power) for _, power in (a and a[0][0] or ()) + (b and b[0][0] or ())) > MOST_FACTORS:
        raise SizeError("a size is an expression of few terms and factors; this one has too many")
    found: dict[Monomial, int] = {}
    for m, c in a:
        for n, d in b:
            k = product(m, n)
            found[k] = found.get(k, 0) + c * d
    return normal(found, p * q)


def product(a: Monomial, b: Monomial, sign: int = 1) -> Monomial:
    """a · b, or a / b."""
    if not a and sign == 1 or not b:
        return a or b
    powers = dict(a)
    for atom, p in b:
        powers[atom] = powers.get(atom, 0) + sign * p
    return tuple(sorted(((x, p) for x, p in powers.items() if p), key=lambda factor: factor[0].order))


def divided(x: Sum, y: Sum) -> Sum | None:
    """The sum q with q · y = x, by long division of leading terms; None if it finds none. By one term anything divides."""
    (a, p), (b, q) = x, y
    if len(b) == 1:
        (m, c), = b
        sign = -q if c < 0 else q
        return normal({product(n, m, -1): d * sign for n, d in a}, p * abs(c))
    found: Sum = (), 1
    for _ in range(16):
        if not x[0]:
            return found
        step = divided(normal(dict(x[0][:1]), x[1]), normal(dict(b[:1]), q)) if b else None
        if step is None:
            return None
        found, x = plus(found, step), plus(x, times(step, y), -1)
    return None


def whole(x: Sum) -> bool:
    """Whether it is a whole number because its atoms are: there is neither a divisor nor a quotient."""
    return x[1] == 1 and all(p > 0 for m, _ in x[0] for _, p in m)


def taken_out(x: Sum, y: Sum) -> tuple[Sum, Sum]:
    """(q, r) with x = q · y + r, q and r whole: of a y of one term, each term of x as often as it goes in."""
    (m, c), = y[0]
    before: dict[Monomial, int] = {}
    for n, d in x[0]:
        k = product(n, m, -1)
        if all(power > 0 for _, power in k):
            before[k] = d // c
    q = normal(before)
    return q, plus(x, times(q, y), -1)


def text(x: Sum) -> str:
    """As it is written: `4*n*m+n-1`, `n/3`, `(n+m)/2`."""
    terms, divisor = x
    found = "".join(_term(m, c) for m, c in terms).removeprefix("+")
    if divisor == 1:
        return found
    return f"{found}/{divisor}" if len(terms) == 1 else f"({found})/{divisor}"


def _term(monomial: Monomial, coefficient: int) -> str:
    """A term with its sign."""
    over = [f"/{a}" for a, power in monomial for _ in range(-power)]
    factors = [str(a) for a, power in monomial for _ in range(power)]
    if abs(coefficient) != 1 or not factors:
        factors = [str(abs(coefficient)), *factors]
    return ("-" if coefficient < 0 else "+") + "*".join(factors) + "".join(over)
