"""Pytrees: nested containers of arrays, taken apart into a list of leaves and put together again.

Containers are dict (keys sorted), list, tuple, namedtuple, and dataclasses (`Module` among them).
None is a leaf. A dataclass's fields that hold no array are static: hashable, compared by value.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from nagraph.arrays import is_array
from nagraph.errors import TreeError
from nagraph.ir.graph import Value


@dataclass(frozen=True, slots=True)
class Structure:
    """What is left of a tree without its leaves: hashable, compared by value."""

    kind: Any
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()
    static: tuple[tuple[str, Any], ...] = ()
    buffers: frozenset[str] = frozenset()

    @property
    def leaf_count(self) -> int:
        return 1 if self.kind is None else sum([c.leaf_count for c in self.children])

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        inside = ", ".join(f"{k}: {c}" for k, c in zip(self.keys, self.children))
        return f"{self.kind.__name__}({inside})"


LEAF = Structure(None)
#: Containers within one another.
MOST_NESTED = 100
_TOO_DEEP = f"containers are nested more than {MOST_NESTED} deep, or one holds itself; make a flatter one of them"
#: Makes a tree of the leaves that come next.
Builder = Callable[[Iterator[Any]], Any]


def holds_arrays(x: Any) -> bool:
    """Whether x is, or contains, an array, None, or a dataclass, list or dict (which stay children even when empty)."""
    if x is None or is_array(x):
        return True
    if isinstance(x, dict):
        return not x or any(holds_arrays(v) for v in x.values())
    if isinstance(x, list) and not x:
        return True
    if isinstance(x, (list, tuple)):
        return any(holds_arrays(v) for v in x)
    return dataclasses.is_dataclass(x) and not isinstance(x, type)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves from left to right, and the structure that puts them together again."""
    leaves: list[Any] = []
    try:
        return leaves, _flatten(tree, leaves, 0)
    except RecursionError:
        raise TreeError(_TOO_DEEP) from None


def _flatten(tree: Any, leaves: list[Any], depth: int) -> Structure:
    if depth > MOST_NESTED:
        raise TreeError(_TOO_DEEP)
    kind = type(tree)
    if kind is np.ndarray or isinstance(tree, Value):
        leaves.append(tree)
        return LEAF
    depth += 1
    if kind is dict:
        try:
            keys = tuple(sorted(tree))
        except TypeError:
            raise TreeError(f"dict keys must be sortable to make a pytree, got {list(tree)}") from None
        return Structure(dict, keys, tuple([_flatten(tree[k], leaves, depth) for k in keys]))
    if kind is list or kind is tuple:
        children = tuple([_flatten(x, leaves, depth) for x in tree])
        return _row(kind, len(tree)) if children == (LEAF,) * len(tree) else Structure(kind, tuple(range(len(tree))), children)
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return Structure(kind, kind._fields, tuple(_flatten(x, leaves, depth) for x in tree))
    if dataclasses.is_dataclass(tree) and not is_array(tree) and not isinstance(tree, type):
        return _flatten_dataclass(tree, leaves, depth)
    leaves.append(tree)
    return LEAF


@functools.lru_cache(256)
def _row(kind: type, count: int) -> Structure:
    """A list or tuple of leaves alone."""
    return Structure(kind, tuple(range(count)), (LEAF,) * count)


def _flatten_dataclass(tree: Any, leaves: list[Any], depth: int) -> Structure:
    keys, children, static, buffers = [], [], [], set()
    for field in dataclasses.fields(tree):
        x = getattr(tree, field.name)
        if holds_arrays(x) and not field.metadata.get("static"):
            keys.append(field.name)
            children.append(_flatten(x, leaves, depth))
            if field.metadata.get("buffer"):
                buffers.add(field.name)
        else:
            try:
                hash(x)
            except TypeError:
                raise TreeError(
                    f"{type(tree).__name__}.{field.name} holds no array, so it must be hashable; got {x!r}: use a tuple"
                ) from None
            static.append((field.name, Exact(x)))
    return Structure(type(tree), tuple(keys), tuple(children), tuple(static), frozenset(buffers))


def exact(x: Any) -> Any:
    """A key that is equal for values of equal types and bits: 1 is not True, nor 0.0 -0.0, and nan equals itself."""
    if isinstance(x, tuple):
        return type(x), tuple(exact(v) for v in x)
    return type(x), x.hex() if isinstance(x, float) else x


#: What can't change while it stays the same object.
_UNCHANGING = (bool, int, float, complex, str, bytes, type(None), type)


def _unchanging(x: Any) -> bool:
    return type(x) in _UNCHANGING or type(x) is tuple and all(map(_unchanging, x))


class Exact:
    """A static value, compared by `exact`."""

    __slots__ = ("value", "key", "_hash", "_fixed")

    def __init__(self, value: Any):
        self.value = value
        self.key = exact(value)
        self._hash, self._fixed = hash(self.key), _unchanging(value)

    def holds(self, x: Any) -> bool:
        """Whether x is this value still: an object whose hash has changed is another, even if it is the same object."""
        if x is self.value and self._fixed:
            return True
        key = exact(x)
        return bool(key == self.key) and hash(key) == self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exact) and bool(self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return repr(self.value)


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The tree of this structure with these leaves."""
    kind = structure.kind
    if kind is None and len(leaves) == 1:
        return leaves[0]
    if (kind is list or kind is tuple) and structure.children == (LEAF,) * len(leaves):
        return kind(leaves)
    if structure.leaf_count != len(leaves):
        raise TreeError(f"the structure {structure} has {structure.leaf_count} leaves, got {len(leaves)}")
    return builder(structure)(iter(leaves))


def builder(structure: Structure) -> Builder:
    """A function that makes a tree of this structure of the leaves that come next."""
    kind, keys = structure.kind, structure.keys
    if kind is None:
        return next
    parts = None if all(c.kind is None for c in structure.children) else [builder(c) for c in structure.children]
    count = len(keys)

    def children(leaves: Iterator[Any]) -> Any:
        return islice(leaves, count) if parts is None else [part(leaves) for part in parts]

    if kind is dict:
        return lambda leaves: dict(zip(keys, children(leaves)))
    if kind in (list, tuple):
        return lambda leaves: kind(children(leaves))
    if issubclass(kind, tuple):
        return lambda leaves: kind(*children(leaves))
    return _dataclass_builder(structure, children)


def _dataclass_builder(structure: Structure, children: Builder) -> Builder:
    kind, keys = structure.kind, structure.keys
    static = {name: e.value for name, e in structure.static}
    # Fields that a class handles itself (slots, properties) are set one by one, all others at once.
    handled = any(hasattr(getattr(kind, name, None), "__set__") for name in (*keys, *static)) or not hasattr(
        object.__new__(kind), "__dict__")

    def build(leaves: Iterator[Any]) -> Any:
        made = object.__new__(kind)
        if handled:
            for name, value in (*static.items(), *zip(keys, children(leaves))):
                object.__setattr__(made, name, value)
        else:
            fields = made.__dict__
            fields.update(static)
            fields.update(zip(keys, children(leaves)))
        return made

    return build


def leaves(tree: Any) -> list[Any]:
    return flatten(tree)[0]


def structure(tree: Any) -> Structure:
    return flatten(tree)[1]


def map(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:  # noqa: A001 - the field's name for it
    """fn applied leaf by leaf: map(f, t, u) has f(a, b) where t has a and u has b. Structures must match."""
    first, shape = flatten(tree)
    columns = [first]
    for other in rest:
        found, other_shape = flatten(other)
        if other_shape != shape:
            raise TreeError(f"trees differ in structure: {shape} and {other_shape}")
        columns.append(found)
    return unflatten(shape, [fn(*row) for row in zip(*columns)])


def buffer_flags(tree_structure: Structure, inside: bool = False) -> list[bool]:
    """For each leaf, whether it lies in a field declared with `ng.nn.buffer()`."""
    if tree_structure.kind is None:
        return [inside]
    out: list[bool] = []
    for key, child in zip(tree_structure.keys, tree_structure.children):
        out += buffer_flags(child, inside or key in tree_structure.buffers)
    return out


def paths(tree_structure: Structure, prefix: str = "") -> list[str]:
    """For each leaf, how it is reached: `blocks.0.attention.weight`."""
    if tree_structure.kind is None:
        return [prefix]
    out: list[str] = []
    for key, child in zip(tree_structure.keys, tree_structure.children):
        out += paths(child, f"{prefix}.{key}" if prefix else str(key))
    return out
