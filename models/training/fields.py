"""Fields of recipes: what each must be, in words and as a test, and what it means, for the command line."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

from nagraph.errors import DataError


def _field(default: Any, rule: str, holds: Callable[[Any], bool], help: str) -> Any:
    return dataclasses.field(default=default, metadata={"rule": rule, "holds": holds, "help": help})


def whole(default: int, least: int, help: str) -> Any:
    """A whole number, at least so large."""
    return _field(default, f"a whole number, at least {least}", lambda x: _is_whole(x, least), help)


def maybe_whole(default: int | None, least: int, help: str) -> Any:
    """None, or a whole number, at least so large."""
    return _field(default, f"None, or a whole number, at least {least}", lambda x: x is None or _is_whole(x, least), help)


def share(default: float, help: str) -> Any:
    """A number in [0, 1)."""
    return _field(default, "a number in [0, 1)", lambda x: _is_number(x) and 0 <= x < 1, help)


def positive(default: float, help: str) -> Any:
    """A finite number greater than 0."""
    return _field(default, "a number greater than 0", lambda x: _is_number(x) and 0 < x < math.inf, help)


def not_negative(default: float, help: str) -> Any:
    """A finite number of at least 0."""
    return _field(default, "a number of at least 0", lambda x: _is_number(x) and 0 <= x < math.inf, help)


def one_of(default: str, choices: tuple[str, ...], help: str) -> Any:
    """One of some words."""
    return _field(default, " or ".join(choices), lambda x: x in choices, help)


def pattern(default: str, expression: str, rule: str, help: str) -> Any:
    """A word that the expression describes."""
    return _field(default, rule, lambda x: isinstance(x, str) and re.fullmatch(expression, x) is not None, help)


def _is_whole(x: Any, least: int) -> bool:
    return type(x) is int and least <= x < 2**64


def _is_number(x: Any) -> bool:
    return type(x) in (int, float)


def check(recipe: Any) -> None:
    """DataError naming the first field that is not what its rule says."""
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if "holds" in field.metadata and not field.metadata["holds"](value):
            raise DataError(f"{field.name} must be {field.metadata['rule']}, got {value!r:.200}")
