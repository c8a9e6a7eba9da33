"""Structures of trees as JSON, without the classes of those who made them.

Dicts, lists and tuples are what they are. Of a dataclass or a named tuple the names count, its own and those of its fields: read back, it
is a record of these names; as an argument any class with these fields will do, and then results are of that class as well.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import keyword
import math
import re
from collections.abc import Sequence
from typing import Any

from nagraph.errors import ExportError, ProgramError, SignatureError
from nagraph.files import short
from nagraph.ir.types import DTYPES, SHORT_NAMES
from nagraph.tree import LEAF, MOST_NESTED, Exact, Structure

#: A leaf that is an array, and one that is None.
ARRAY, NONE = "*", None
#: Characters of the name of a class or a field.
_MOST_NAME = 200


class Record:
    """The base of records: what dataclasses are where their classes are not known."""

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"


class Foreign:
    """A static value that a file can't hold, such as a function: all that is known of it is what it is called."""

    def __init__(self, text: str):
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Foreign) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text


# -- to JSON ----------------------------------------------------------------------------------------------


def to_json(structure: Structure, mask: Sequence[bool]) -> Any:
    """A structure, and which of its leaves are arrays (True) or None, as JSON."""
    flags = iter(mask)

    def written(s: Structure) -> Any:
        if s.kind is None:
            return ARRAY if next(flags) else NONE
        children = [written(c) for c in s.children]
        if s.kind is dict:
            keys = [_value(k) for k in s.keys]
            if any("foreign" in str(k) and isinstance(k, dict) for k in keys):
                raise ExportError(f"a program can't hold a dict with the keys {short(s.keys)}; keys are numbers, texts, or tuples of these")
            return {"dict": [[k, c] for k, c in zip(keys, children)]}
        if s.kind in (list, tuple):
            return {s.kind.__name__: children}
        pairs = [[k, c] for k, c in zip(s.keys, children)]
        if not all(map(_is_name, (s.kind.__name__, *s.keys, *(k for k, _ in s.static)))):
            raise ExportError(f"a program can't hold a {s.kind.__name__} with the fields {short(s.keys)}, which Python uses itself")
        if issubclass(s.kind, tuple):
            return {"named": s.kind.__name__, "fields": pairs}
        return {"record": s.kind.__name__, "fields": pairs, "static": [[k, _value(e.value)] for k, e in s.static],
                "buffers": sorted(s.buffers)}

    return written(structure)


def _value(x: Any) -> Any:
    """A key or a static value: a number, a text, None, a dtype, tuples of these; of all else what it is called."""
    if x is None or type(x) in (bool, int, str) or type(x) is float and math.isfinite(x):
        return x
    if type(x) is float:
        return {"float": repr(x)}
    if type(x) is tuple:
        return {"tuple": [_value(v) for v in x]}
    if isinstance(x, type(DTYPES["f32"])) and x in SHORT_NAMES:
        return {"dtype": SHORT_NAMES[x]}
    return {"foreign": _called(x)}


def _called(x: Any) -> str:
    if isinstance(x, Foreign):
        return x.text
    name = getattr(x, "__qualname__", None)
    text = f"{getattr(x, '__module__', '')}.{name}" if isinstance(name, str) else re.sub(r" at 0x[0-9a-f]+", "", repr(x))
    return short(text)


# -- from JSON --------------------------------------------------------------------------------------------


def from_json(found: Any, depth: int = 0) -> tuple[Structure, list[bool]]:
    """The structure, and which of its leaves are arrays, that JSON describes. ProgramError for any other JSON."""
    if found is NONE or found == ARRAY:
        return LEAF, [found == ARRAY]
    if depth > MOST_NESTED or not isinstance(found, dict) or not found:
        raise ProgramError(f"a tree is nested more than {MOST_NESTED} deep" if depth > MOST_NESTED else f"{short(found)} is no tree")
    kind, inside = next(iter(found.items()))
    if kind in ("list", "tuple") and isinstance(inside, list):
        children, mask = _children(inside, depth)
        return Structure(list if kind == "list" else tuple, tuple(range(len(inside))), children), mask
    if kind == "dict":
        pairs = _pairs(inside)
        children, mask = _children([c for _, c in pairs], depth)
        keys = tuple(_read_value(k, depth) for k, _ in pairs)
        try:
            fitting = list(keys) == sorted(set(keys))
        except TypeError:
            fitting = False
        if not fitting:
            raise ProgramError(f"the keys {short(keys)} are not those of a dict, sorted")
        return Structure(dict, keys, children), mask
    if kind in ("named", "record"):
        return _record(kind, inside, found, depth)
    raise ProgramError(f"{short(kind)} is no kind of tree")


def _record(kind: str, name: Any, found: dict[str, Any], depth: int) -> tuple[Structure, list[bool]]:
    fields, static = _pairs(found.get("fields")), _pairs(found.get("static", []))
    buffers = found.get("buffers", [])
    names = tuple(k for k, _ in fields)
    every = (*names, *(k for k, _ in static))
    if not all(map(_is_name, (name, *every))) or len(set(every)) < len(every) or not isinstance(buffers, list) or not all(
            b in names for b in buffers):
        raise ProgramError(f"a {kind} {short(name)} has the fields {short(every)}")
    children, mask = _children([c for _, c in fields], depth)
    if kind == "named":
        return Structure(_named(name, names), names, children), mask
    values = tuple((k, Exact(_read_value(v, depth))) for k, v in static)
    made = _dataclass(name, names, tuple(k for k, _ in static), frozenset(buffers))
    return Structure(made, names, children, values, frozenset(buffers)), mask


def _children(found: list[Any], depth: int) -> tuple[tuple[Structure, ...], list[bool]]:
    children, mask = [], []
    for inside in found:
        child, flags = from_json(inside, depth + 1)
        children.append(child)
        mask += flags
    return tuple(children), mask


def _pairs(found: Any) -> list[Any]:
    if not isinstance(found, list) or not all(isinstance(p, list) and len(p) == 2 for p in found):
        raise ProgramError(f"{short(found)} are no pairs of a name and a tree")
    return found


def _is_name(name: Any) -> bool:
    """Whether a class or a field may have this name: fields with underscores on both sides mean something to Python."""
    return (isinstance(name, str) and len(name) <= _MOST_NAME and name.isidentifier() and not keyword.iskeyword(name)
            and not name.startswith("__"))


def _read_value(found: Any, depth: int) -> Any:
    if found is None or isinstance(found, (bool, int, str, float)):
        return found
    if depth <= MOST_NESTED and isinstance(found, dict) and len(found) == 1:
        (kind, inside), = found.items()
        if kind == "tuple" and isinstance(inside, list):
            return tuple(_read_value(v, depth + 1) for v in inside)
        if kind == "float" and inside in ("nan", "inf", "-inf"):
            return float(inside)
        if kind == "dtype" and isinstance(inside, str) and inside in DTYPES:
            return DTYPES[inside]
        if kind == "foreign" and isinstance(inside, str):
            return Foreign(inside)
    raise ProgramError(f"{short(found)} is no value of a field")


@functools.lru_cache(256)
def _named(name: str, fields: tuple[str, ...]) -> type:
    if any(f.startswith("_") for f in fields):
        raise ProgramError(f"a named tuple {name} has the fields {short(fields)}")
    made: type = collections.namedtuple(name, fields)  # type: ignore[misc]
    return made


@functools.lru_cache(256)
def _dataclass(name: str, fields: tuple[str, ...], static: tuple[str, ...], buffers: frozenset[str]) -> type:
    marked = [(f, Any, dataclasses.field(metadata={"buffer": f in buffers})) for f in fields]
    fixed = [(f, Any, dataclasses.field(metadata={"static": True})) for f in static]
    return dataclasses.make_dataclass(name, [*marked, *fixed], bases=(Record,), init=False, repr=False, eq=False, frozen=False)


# -- of calls ---------------------------------------------------------------------------------------------


class Matching:
    """A matching holds the trees of a call against those of a file, and knows the classes that stand in the place of its records."""

    def __init__(self) -> None:
        self.kinds: dict[type, type] = {}
        self.foreign: dict[Foreign, Any] = {}

    def match(self, expected: Structure, given: Structure, where: str) -> None:
        """SignatureError, naming the place, unless a tree of the one structure may be given for one of the other."""
        if expected.kind is None or given.kind is None:
            if expected.kind is not given.kind:
                raise SignatureError(f"{where} is {_shown(given)}, expected {_shown(expected)}")
            return
        if _family(expected.kind) != _family(given.kind) or expected.keys != given.keys:
            raise SignatureError(f"{where} is {_shown(given)}, expected {_shown(expected)}")
        if _family(expected.kind) in ("record", "named"):
            self.kinds.setdefault(expected.kind, given.kind)
        wanted, got = ({k: e.value for k, e in s.static} for s in (expected, given))
        if wanted.keys() != got.keys():
            raise SignatureError(f"{where} is {_shown(given)}, expected {_shown(expected)}")
        for name, value in wanted.items():
            self._match_static(value, got[name], f"{where}.{name}")
        for key, a, b in zip(expected.keys, expected.children, given.children):
            self.match(a, b, f"{where}.{key}")

    def _match_static(self, expected: Any, given: Any, where: str) -> None:
        if isinstance(expected, Foreign) and _called(given) == expected.text:
            self.foreign.setdefault(expected, given)
        elif isinstance(expected, tuple) and isinstance(given, tuple) and len(expected) == len(given):
            for a, b in zip(expected, given):
                self._match_static(a, b, where)
        elif isinstance(expected, Foreign) or Exact(expected) != Exact(given):
            raise SignatureError(f"{where} is {short(given)}, and the program was made with {short(expected)}")

    def applied(self, structure: Structure) -> Structure:
        """A structure of the file with the classes of the call in the place of records."""
        if structure.kind is None:
            return structure
        static = tuple((k, Exact(self._value(e.value))) for k, e in structure.static)
        return Structure(self.kinds.get(structure.kind, structure.kind), structure.keys, tuple(map(self.applied, structure.children)),
                         static, structure.buffers)

    def _value(self, x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(self._value, x))
        return self.foreign.get(x, x) if isinstance(x, Foreign) else x


def _family(kind: type) -> str:
    if kind in (dict, list, tuple):
        return kind.__name__
    return "named" if issubclass(kind, tuple) else "record"


def _shown(structure: Structure) -> str:
    if structure.kind is None:
        return "an array"
    family = _family(structure.kind)
    name = structure.kind.__name__
    keys = short(", ".join(map(str, structure.keys)))
    inside = f" of {len(structure.keys)}" if family in ("list", "tuple") else f" with {keys or 'nothing'}"
    return f"{'a' if family in ('dict', 'list', 'tuple') else family} {name}{inside}"
