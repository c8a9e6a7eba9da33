"""What dimensions are in a call: sizes that are given by name, or that follow from the shapes of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nagraph.errors import SizeError
from nagraph.ir.polynomial import product
from nagraph.ir.sizes import Dim, Size, described, dims, substituted
from nagraph.suggestions import suggestion


def chosen(known: Sequence[Dim], sizes: Mapping[str, int]) -> dict[Dim, int]:
    """The dimensions with the sizes that are given for their names. SizeError for other names, and for sizes beyond the bounds."""
    by_name = {d.name: d for d in known}
    for name, size in sizes.items():
        if name not in by_name:
            raise SizeError(f"there is no dimension {name!r}{suggestion(name, by_name)}; the graph has {', '.join(by_name) or 'none'}")
        d = by_name[name]
        if type(size) is not int or not d.min <= size <= (size if d.max is None else d.max):
            raise SizeError(f"the dimension {name} is a whole number, {described(d)}; got {size!r:.60}")
    return {by_name[name]: size for name, size in sizes.items()}


def bound(expected: Sequence[tuple[int, ...]], shapes: Sequence[tuple[int, ...]], names: Sequence[str]) -> dict[str, int]:
    """The sizes of dimensions, by name, where arrays of these shapes stand for inputs of the expected ones, of equal ranks.

    A dimension follows from an axis that is nothing but it, or in which it is the one unknown, times a number. SizeError, with the
    input's name and axis, where sizes contradict each other, are beyond the bounds, or do not follow.
    """
    found: dict[Dim, int] = {}
    axes = [(x, n, f"{name}, axis {i}") for name, wanted, shape in zip(names, expected, shapes, strict=True)
            for i, (x, n) in enumerate(zip(wanted, shape, strict=True))]
    waiting = [axis for axis in axes if isinstance(axis[0], Size)]
    while waiting:
        solved = [(axis, d) for axis in waiting if (d := _unknown(axis[0], found)) is not None]
        if not solved:
            break
        for (x, n, where), d in solved:
            if d not in found:
                found[d] = _solved(x, n, d, found, where)
        waiting = [axis for axis in waiting if not found.keys() >= set(dims(axis[0]))]
    left = dims([x for x, _, _ in waiting])
    if any(d not in found for d in left):
        names_of = ", ".join(d.name for d in left if d not in found)
        raise SizeError(f"the sizes of {names_of} do not follow from the arguments: no axis is such a dimension alone, or a number "
                        "times it and a number; give an argument an axis that is")
    for x, n, where in axes:
        if (wanted := substituted(x, found)) != n:
            shown = ", ".join(f"{d.name} = {found[d]}" for d in dims(x))
            raise SizeError(f"{where} has the size {n}, and should have {x}" + (f" = {wanted} with {shown}" if shown else ""))
    return {d.name: n for d, n in found.items()}


def _unknown(x: Any, found: Mapping[Dim, int]) -> Dim | None:
    """The one dimension of x that is not found yet, if x is a number times it and a number."""
    left = [d for d in dims(x) if d not in found]
    if len(left) != 1:
        return None
    x = substituted(x, found)
    return left[0] if all(m in ((), ((left[0], 1),)) for m, _ in x.terms) else None


def _solved(x: Any, n: int, d: Dim, found: Mapping[Dim, int], where: str) -> int:
    """What d is where x is n."""
    x = substituted(x, found)
    terms = dict(x.terms)
    factor, rest = terms[product((), ((d, 1),))], terms.get((), 0)
    size: int
    size, over = divmod(n * x.divisor - rest, factor)
    if over or not d.min <= size <= (size if d.max is None else d.max):
        raise SizeError(f"{where} has the size {n}, and should have {x} with {described(d)}")
    return size
