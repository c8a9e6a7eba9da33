"""The rule 'fields': every field of a schedule has the type that the form states, and so have the fields in it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

from nagraph.schedule.form import Schedule


def wrong_field(schedule: Any, stated: Any = Schedule) -> str:
    """The field of a schedule that has another type than the form states, both types and its value; "" if there is none.

    stated: the class of schedules, or a union of several.
    """
    return _wrong("", schedule, stated)


def _wrong(name: str, value: Any, stated: Any) -> str:
    if get_origin(stated) is tuple:
        if type(value) is not tuple:
            return f"{name} is a tuple, got {type(value).__name__}: {value!r:.80}"
        return _first((f"{name}[{i}]", part, get_args(stated)[0]) for i, part in enumerate(value))
    kinds = get_args(stated) or (stated,)
    if type(value) in kinds:
        return _first((f"{name}.{n}" if name else n, getattr(value, n), t) for n, t in _fields(type(value)).items())
    wanted = " or ".join("None" if k is type(None) else k.__name__ for k in kinds)
    return f"{name} is {wanted}, got {type(value).__name__}: {value!r:.80}"


def _first(parts: Any) -> str:
    return next((wrong for part in parts if (wrong := _wrong(*part))), "")


@functools.cache
def _fields(kind: type) -> Mapping[str, Any]:
    """The fields of a part of the form with their types; none of a number or a word."""
    return {} if kind in (int, bool, str, type(None)) else get_type_hints(kind)
