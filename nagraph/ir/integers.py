"""Numbers of axes, sizes and counts: Python's and NumPy's integers, and arrays of rank 0 that hold one, are all the same."""

from __future__ import annotations

import operator
from typing import Any

from nagraph.errors import NagraphError, TypeRuleError
from nagraph.ir.sizes import Size

#: Integers beyond this are those of no axis, size or count.
LIMIT = 1 << 63


def is_integer(x: Any) -> bool:
    """Whether x stands for one integer."""
    return hasattr(x, "__index__") and not getattr(x, "shape", ())


def integer(name: str, x: Any) -> int:
    """x as Python's int, or as the size that it is. TypeRuleError for what is no integer of 64 bits, such as 2.0.

    name: what it is for.
    """
    if isinstance(x, Size):
        return x
    try:
        found = int(operator.index(x))
        if not -LIMIT <= found < LIMIT:
            raise TypeRuleError(f"{name}: {digits(found)} is beyond 64 bits")
        return found
    except NagraphError:
        raise
    except TypeError:
        raise TypeRuleError(f"{name}: {x!r} of type {type(x).__name__} is no integer") from None


def integer_or_integers(name: str, xs: Any) -> int | tuple[int, ...]:
    """One integer as Python's int, or several as a tuple of them."""
    return integer(name, xs) if is_integer(xs) else integers(name, xs)


def integers(name: str, xs: Any) -> tuple[int, ...]:
    """One integer, or a sequence or array of them, as a tuple of Python's ints."""
    if is_integer(xs):
        return (integer(name, xs),)
    try:
        items = tuple(xs)
    except TypeError:
        raise TypeRuleError(f"{name}: {xs!r} of type {type(xs).__name__} is neither an integer nor a sequence of them") from None
    return tuple(integer(name, x) for x in items)


def digits(x: int) -> str:
    """An integer as a message shows it: a long one by its first and last digits."""
    bits = x.bit_length()
    if bits > 4000:
        return f"an integer of {bits} bits"
    text = str(x)
    return text if len(text) <= 40 else f"{text[:16]}...{text[-8:]} (an integer of {len(text.lstrip('-'))} digits)"
