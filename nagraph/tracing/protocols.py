"""NumPy's calls on traced values, answered by the namespace's functions: the same arguments under the same names."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from nagraph import numpy as namespace
from nagraph.errors import TracerError
from nagraph.ir.graph import Value
from nagraph.ir.location import caller_location, located
from nagraph.ir.operators import functions
from nagraph.ir.sizes import Size, larger, smaller

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
    shown, found = _namesake(function)
    if found is None:
        refuse(f"{shown} is not traced", "see the NumPy page of the docs for what is")
    if kwargs or len(args) != 1:
        args, kwargs = _as_numpy_binds(function, len(args), tuple(kwargs)).arguments((*args, *kwargs.values()))
    return _answer(shown, found, args, kwargs)


def array_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """ufunc.method(*inputs, **kwargs) with a traced value among them."""
    if method == "__call__" and not kwargs and (plain := _called(ufunc, len(inputs))):
        return plain(*inputs)
    shown, found = _namesake_of_ufunc(ufunc, method)
    if kwargs.get("out") is not None:
        refuse(f"{shown} with out= (or an in-place operator such as x += y) writes in place",
               "use the returned value: x = x + y")
    if found is None:
        refuse(f"{shown} is not traced", "see the NumPy page of the docs for what is")
    if kwargs:
        kwargs = {k: v for k, v in kwargs.items() if k != "out" and k not in _HINTS}
    if method in ("reduce", "accumulate"):
        kwargs = {"axis": 0, **kwargs}
    elif method == "outer":
        x, y = inputs
        inputs = (namespace.reshape(x, (*namespace.shape(x), *(1,) * namespace.ndim(y))), y)
    return _answer(shown, found, inputs, kwargs)


#: What stays a size where all operands are whole numbers or sizes.
_OF_SIZES: dict[np.ufunc, Callable[..., Any]] = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.floor_divide: operator.floordiv,
    np.remainder: operator.mod, np.negative: operator.neg, np.minimum: smaller, np.maximum: larger,
}


def ufunc_of_sizes(ufunc: np.ufunc, method: str, inputs: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """ufunc.method(*inputs, **kwargs) with a size that is known later among them: a size again, or a traced value."""
    if ufunc in _OF_SIZES and method == "__call__" and not kwargs and all(isinstance(x, (Size, int, np.integer)) for x in inputs):
        return _OF_SIZES[ufunc](*(x if isinstance(x, Size) else int(x) for x in inputs))
    return array_ufunc(ufunc, method, inputs, kwargs)


functions.register(ufunc_of_sizes=ufunc_of_sizes)


@functools.lru_cache(1024)
def _namesake(function: Callable[..., Any]) -> tuple[str, Callable[..., Any] | None]:
    """How NumPy's function is called in messages, and what answers it."""
    inside = next((m for m in ("linalg", "fft") if m in function.__module__), "")
    found = getattr(getattr(namespace, inside, None) if inside else namespace, function.__name__, None)
    return ".".join(filter(None, ("np", inside, function.__name__))), found


@functools.lru_cache(1024)
def _namesake_of_ufunc(ufunc: np.ufunc, method: str) -> tuple[str, Callable[..., Any] | None]:
    """The same for a method of a ufunc."""
    table = {"reduce": _REDUCES, "accumulate": _ACCUMULATES}.get(method)
    name = ufunc.__name__ if table is None else table.get(ufunc.__name__, "")
    found = getattr(namespace, name, None) if name and method in ("__call__", "outer", "reduce", "accumulate") else None
    return f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}"), found


@functools.cache
def _parameters(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


@functools.lru_cache(1024)
def _called(ufunc: np.ufunc, count: int) -> Callable[..., Any] | None:
    """What answers a ufunc that is called with `count` operands and nothing else, if it takes them."""
    found = _namesake_of_ufunc(ufunc, "__call__")[1]
    return None if found is None or _misfit(found, count, ()) else found


class _Binding(NamedTuple):
    """How NumPy binds arguments: of those given, by their numbers, which it requires by position, and which others have a name.

    named: name, number, and the default, with which it is as if it had not been given.
    """

    positional: tuple[int, ...]
    named: tuple[tuple[str, int, Any], ...]

    def arguments(self, given: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        return [given[i] for i in self.positional], {name: given[i] for name, i, default in self.named if given[i] is not default}


@functools.lru_cache(1024)
def _as_numpy_binds(function: Callable[..., Any], count: int, names: tuple[str, ...]) -> _Binding:
    """How `count` arguments by position and others by name are bound."""
    signature = _parameters(function)
    if signature is None:
        return _Binding(tuple(range(count)), tuple((name, i, _NOTHING) for i, name in enumerate(names, count)))
    bound = signature.bind(*range(count), **{name: i for i, name in enumerate(names, count)})
    positional: list[int] = []
    named: list[tuple[str, int, Any]] = []
    for name, i in bound.arguments.items():
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += i
        elif parameter.kind is parameter.VAR_KEYWORD:
            named += [(k, n, _NOTHING) for k, n in i.items()]
        elif parameter.default is parameter.empty:
            positional.append(i)
        elif name not in _HINTS:
            named.append((_NAMES.get(name, name), i, parameter.default))
    return _Binding(tuple(positional), tuple(named))


#: The default of an argument that has none.
_NOTHING = object()


def _answer(shown: str, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """function(*args, **kwargs), or an error that names the arguments that it has not."""
    if wrong := _misfit(function, len(args), tuple(kwargs)):
        what, cure = wrong
        refuse(shown + what, cure)
    return function(*args, **kwargs)


@functools.lru_cache(1024)
def _misfit(function: Callable[..., Any], count: int, names: tuple[str, ...]) -> tuple[str, str] | None:
    """What is wrong with `count` arguments by position and others by name, and what to do; None if the function takes them."""
    if "out" in names:
        return " with out= writes in place", "use the returned value"
    signature = _parameters(function)
    known = {} if signature is None else signature.parameters
    strange = [k for k in names if k not in known]
    if strange:
        return (f" is not traced with {', '.join(f'{k}=' for k in strange)}",
                f"it takes {', '.join(known)}" if known else "give it the operands alone")
    try:
        if signature is not None:
            signature.bind(*range(count), **dict.fromkeys(names))
    except TypeError as error:
        return f": {error}, which is how it is traced", f"it takes {', '.join(known)}"
    return None
