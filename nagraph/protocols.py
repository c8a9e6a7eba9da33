"""NumPy's calls on traced values, answered by the namespace's functions: the same arguments under the same names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from nagraph.errors import TracerError
from nagraph.ir.builder import located
from nagraph.ir.graph import Value
from nagraph.ir.location import caller_location

#: Methods of ndarray that are functions of NumPy under the same name, with the array as first argument.
METHODS = frozenset(
    "sum prod max min mean var std argmax argmin any all cumsum cumprod argsort ravel squeeze swapaxes "
    "repeat take clip round dot diagonal trace".split()
)
_REDUCES = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all", "logical_or": "any"}
_ACCUMULATES = {"add": "cumsum", "multiply": "cumprod", "maximum": "cummax", "minimum": "cummin"}
#: Arguments of NumPy's that have another name here.
_NAMES = {"a_min": "min", "a_max": "max"}
#: Arguments that say how to go about it, and change no result: sorting is stable here.
_HINTS = frozenset(("optimize", "kind", "stable", "casting"))


def refuse(what: str, cure: str, value: Any = None) -> NoReturn:
    """Raise the TracerError that says what can't be done while tracing, what to do instead, and where."""
    shown = f" (traced value of type {value.type})" if isinstance(value, Value) else ""
    raise located(TracerError(f"{what}{shown}; {cure}"), caller_location())


def array_function(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """np.function(*args, **kwargs) with a traced value among them."""
    from nagraph import numpy as namespace

    name = function.__name__
    inside = next((m for m in ("linalg", "fft") if m in function.__module__), "")
    found = getattr(getattr(namespace, inside, None) if inside else namespace, name, None)
    shown = ".".join(filter(None, ("np", inside, name)))
    if found is None:
        refuse(f"{shown} is not traced", "see the NumPy page of the docs for what is")
    positional, named = _as_numpy_binds(function, args, kwargs)
    return _answer(shown, found, positional, named)


def array_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """ufunc.method(*inputs, **kwargs) with a traced value among them."""
    from nagraph import numpy as namespace

    table = {"reduce": _REDUCES, "accumulate": _ACCUMULATES}.get(method)
    name = ufunc.__name__ if table is None else table.get(ufunc.__name__, "")
    found = getattr(namespace, name, None) if name and method in ("__call__", "outer", "reduce", "accumulate") else None
    shown = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    if kwargs.get("out") is not None:
        refuse(f"{shown} with out= (or an in-place operator such as x += y) writes in place",
               "use the returned value: x = x + y")
    if found is None:
        refuse(f"{shown} is not traced", "see the NumPy page of the docs for what is")
    given = {k: v for k, v in kwargs.items() if k != "out" and k not in _HINTS}
    if table is not None:
        given.setdefault("axis", 0)
    elif method == "outer":
        x, y = inputs
        inputs = (namespace.reshape(x, (*namespace.shape(x), *(1,) * namespace.ndim(y))), y)
    return _answer(shown, found, inputs, given)


@functools.cache
def _parameters(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _as_numpy_binds(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that NumPy requires by position, all others that were given by name."""
    signature = _parameters(function)
    if signature is None or len(args) == 1 and not kwargs:
        return list(args), kwargs
    bound = signature.bind(*args, **kwargs)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += value
        elif parameter.kind is parameter.VAR_KEYWORD:
            named.update(value)
        elif parameter.default is parameter.empty:
            positional.append(value)
        elif value is not parameter.default and name not in _HINTS:
            named[_NAMES.get(name, name)] = value
    return positional, named


def _answer(shown: str, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """function(*args, **kwargs), or an error that names the arguments that it has not."""
    if "out" in kwargs:
        refuse(f"{shown} with out= writes in place", "use the returned value")
    signature = _parameters(function)
    known = {} if signature is None else signature.parameters
    strange = [k for k in kwargs if k not in known]
    if strange:
        refuse(f"{shown} is not traced with {', '.join(f'{k}=' for k in strange)}",
               f"it takes {', '.join(known)}" if known else "give it the operands alone")
    if signature is not None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            refuse(f"{shown}: {error}, which is how it is traced", f"it takes {', '.join(known)}")
    return function(*args, **kwargs)
