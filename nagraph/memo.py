"""What is made of a function is kept with it, and made anew when something that the function refers to was rebound."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from types import CodeType, FunctionType
from typing import Any, TypeVar

Made = TypeVar("Made")

_PLACE = "__nagraph_made__"


def made_once(key: Hashable, make: Callable[[], Made], fn: Any, *others: Any) -> Made:
    """make(), or what it gave before for this key and these functions; `fn` holds it, so that they go together.

    Closures and globals are compared by identity: rebinding a name that the functions use makes a new
    one, changing an array in place does not (as under `jit`). Callables that are no functions keep nothing.
    """
    if not all(isinstance(f, FunctionType) for f in (fn, *others)):
        return make()
    seen = [x for f in (fn, *others) for x in _referred(f)]
    # A decorator that copies a function's attributes copies this one too, hence the owner.
    owner, known, table = vars(fn).get(_PLACE, (None, [], {}))
    if owner is not fn or len(known) != len(seen) or not all(map(operator.is_, known, seen)):
        table = {}
        setattr(fn, _PLACE, (fn, seen, table))
    try:
        if (key, others) not in table:
            table[key, others] = make()
        return table[key, others]  # type: ignore[no-any-return]
    except TypeError:  # the key holds a dict or a list of axes
        return make()


def _referred(fn: FunctionType) -> list[Any]:
    """The functions' code and defaults, what they close over, and the globals they name."""
    codes = [fn.__code__]
    for code in codes:
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
    names = dict.fromkeys(n for code in codes for n in code.co_names)
    found: list[Any] = [fn.__code__, fn.__defaults__, fn.__kwdefaults__]
    for cell in fn.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not bound yet
            found.append(None)
    return found + [fn.__globals__.get(n) for n in names]
