"""Takers are functions that take the arrays out of trees of one structure, a container in one step.

`nagraph.tree` finds out what a tree is made of, which takes a microsecond or two a leaf. Here that is known, and only
checked: a taker gives the leaves that are arrays, or says that the tree is another one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from nagraph.tree import Structure

#: Adds the arrays of a tree to a list; False if the tree is of another structure than the taker was made for.
Taker = Callable[[Any, list[Any]], bool]


def taker(structure: Structure, nones: Iterator[bool]) -> Taker:
    """A taker for trees of this structure. nones: for each leaf in turn, whether it is None; such leaves are checked and left out.

    That the other leaves are arrays remains to be checked.
    """
    if structure.kind is None:
        return _nothing if next(nones) else _leaf
    kind, count = structure.kind, len(structure.keys)
    flags = list(islice(nones, structure.leaf_count)) if all(c.kind is None for c in structure.children) else None
    parts: list[Taker] | None = None
    if flags is None or any(flags):
        rest = nones if flags is None else iter(flags)
        parts = [taker(c, rest) for c in structure.children]
    if kind is dict:
        return _container(kind, count, _items(structure.keys), parts)
    if issubclass(kind, tuple) or kind is list:
        return _container(kind, count, None, parts)
    return _dataclass(structure, parts)


def _leaf(x: Any, leaves: list[Any]) -> bool:
    leaves.append(x)
    return True


def _nothing(x: Any, leaves: list[Any]) -> bool:
    return x is None


def _items(keys: tuple[Any, ...]) -> Callable[[Any], Any]:
    """The values of a dict under these keys, as a sequence."""
    if len(keys) > 1:
        return operator.itemgetter(*keys)
    return lambda x: [x[k] for k in keys]


def _fields(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """The values of an object's fields, as a sequence."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda x: [getattr(x, n) for n in names]


def _container(kind: type, count: int, get: Callable[[Any], Any] | None, parts: list[Taker] | None) -> Taker:
    """A dict, list or tuple. get: its children in order, None if it is itself a sequence of them; parts: None if all are arrays."""

    def take(x: Any, leaves: list[Any]) -> bool:
        if type(x) is not kind or len(x) != count:
            return False
        try:
            children = get(x) if get else x
        except KeyError:
            return False
        if parts is None:
            leaves.extend(children)
            return True
        return all([part(child, leaves) for part, child in zip(parts, children)])

    return take


def _dataclass(structure: Structure, parts: list[Taker] | None) -> Taker:
    kind, children_of = structure.kind, _fields(structure.keys)
    static_of, expected = _fields(tuple(name for name, _ in structure.static)), tuple(e for _, e in structure.static)

    def take(x: Any, leaves: list[Any]) -> bool:
        if type(x) is not kind:
            return False
        for value, e in zip(static_of(x), expected):
            if not e.holds(value):
                return False
        if parts is None:
            leaves.extend(children_of(x))
            return True
        return all([part(child, leaves) for part, child in zip(parts, children_of(x))])

    return take
