"""The registry of operators: each a function of values, whose signature says what a node of it may hold.

    @operator("Softmax")
    def softmax(x, *, axis: int = -1): ...

Positional parameters are the inputs, None by default where a node may leave one out; keyword parameters are attributes, which are
required where they have no default. An annotation `Known` asks for the numbers of an input, which must then follow from the model alone.
A parameter `call` gets the call itself: how many results are asked for, the regions, the version.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nagraph.errors import OnnxError
from nagraph.ir.sizes import Size
from nagraph.onnx.opsets import OLDEST

#: The annotation of an input whose numbers are needed while the graph is made.
Known: TypeAlias = np.ndarray
#: Annotations of attributes beside Python's own, and the AttributeProto.AttributeType of all. A tensor is its array.
Tensor: TypeAlias = np.ndarray
Region: TypeAlias = Any
SparseTensor: TypeAlias = Any
Ints: TypeAlias = tuple[int, ...]
Floats: TypeAlias = tuple[float, ...]
Strings: TypeAlias = tuple[str, ...]
KINDS = {"float": 1, "int": 2, "bool": 2, "str": 3, "Tensor": 4, "Region": 5, "Floats": 6, "Ints": 7, "Strings": 8, "SparseTensor": 11}


class Attribute(NamedTuple):
    """What an operator says of one of its attributes."""

    kind: str
    required: bool


class Operator(NamedTuple):
    """An operator from a version of the operator set on: what makes its values, and what its signature says."""

    name: str
    since: int
    make: Callable[..., Any]
    #: The names of the inputs, how many of them are required, whether more may follow, and the places of those that must be known.
    inputs: tuple[str, ...]
    required: int
    variadic: bool
    known: frozenset[int]
    attributes: dict[str, Attribute]
    takes_call: bool
    #: What becomes of carried formats: "refused", "kept" (it moves elements), or "given" (it knows them).
    formats: str


_OPERATORS: dict[str, list[Operator]] = {}


def operator(*names: str, since: int = OLDEST, formats: str = "refused") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function for operators of these names from a version on."""

    def registered(make: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            _OPERATORS.setdefault(name, []).append(_described(name, since, make, formats))
        return make

    return registered


def _described(name: str, since: int, make: Callable[..., Any], formats: str) -> Operator:
    inputs: list[str] = []
    known: set[int] = set()
    required, variadic, takes_call = 0, False, False
    attributes: dict[str, Attribute] = {}
    for p in inspect.signature(make).parameters.values():
        kind = str(p.annotation).partition(" |")[0]
        if p.name == "call":
            takes_call = True
        elif p.kind is p.KEYWORD_ONLY:
            assert kind in KINDS, f"{name}.{p.name}: {kind}"
            attributes[p.name] = Attribute(kind, p.default is p.empty)
        elif p.kind is p.VAR_POSITIONAL:
            variadic = True
        else:
            required += p.default is p.empty
            if kind == "Known":
                known.add(len(inputs))
            inputs.append(p.name)
    return Operator(name, since, make, tuple(inputs), required, variadic, frozenset(known), attributes, takes_call, formats)


def find(name: str, version: int) -> Operator | None:
    """The operator at a version of the operator set; None if there is no translation."""
    _load()
    fitting = [o for o in _OPERATORS.get(name, ()) if o.since <= version]
    return max(fitting, key=lambda o: o.since) if fitting else None


def names() -> list[str]:
    """The operators that have a translation."""
    _load()
    return sorted(_OPERATORS)


@functools.cache
def _load() -> None:
    for path in sorted((pathlib.Path(__file__).parent / "operators").glob("[!_]*.py")):
        importlib.import_module(f"nagraph.onnx.operators.{path.stem}")


def checked_axis(axis: int, rank: int, name: str = "axis") -> int:
    """An axis counted from the front. OnnxError if there is none."""
    if not -rank <= axis < rank:
        raise OnnxError(f"{name} is {axis}, of a value with {rank} axes")
    return axis % rank


def checked_axes(axes: Any, rank: int) -> tuple[int, ...]:
    """Different axes, counted from the front."""
    found = tuple(checked_axis(int(a), rank, "axes") for a in axes)
    if len(set(found)) != len(found):
        raise OnnxError(f"axes {[int(a) for a in axes]} name one axis twice")
    return found


def whole_numbers(name: str, array: np.ndarray) -> tuple[int, ...]:
    """The elements of a known input of rank at most 1, as Python's integers, or as expressions of sizes that are known later."""
    if array.ndim > 1 or array.dtype.kind not in "iuO":
        raise OnnxError(f"{name} is {array.dtype}{list(array.shape)}, but must be a row of whole numbers")
    return tuple(n if isinstance(n, Size) else int(n) for n in array.reshape(-1))
