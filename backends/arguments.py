"""Arguments of a call of an executable, checked against the inputs of its graph: the same rules and texts for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.arrays import HOST, ArrayKind, gathered, is_elsewhere, type_of_array
from nagraph.errors import SignatureError
from nagraph.ir.graph import Value
from nagraph.ir.types import type_of

Array = np.ndarray[Any, Any]


def row_major(name: str, inputs: Sequence[Value], arrays: Sequence[Any]) -> list[Array]:
    """The arguments as row-major arrays of the inputs' types, in the machine's byte order.

    name: the graph's, for errors. Raises SignatureError for another number of arguments, or one of another dtype or shape.
    """
    return checked(name, inputs, arrays, HOST)


def checked(name: str, inputs: Sequence[Value], arrays: Sequence[Any], kind: ArrayKind) -> list[Any]:
    """The arguments, of whatever kinds, as executables on arrays of this kind take them. Raises SignatureError as `row_major`."""
    if len(arrays) != len(inputs):
        raise SignatureError(f"{name} takes {len(inputs)} arrays, got {len(arrays)}")
    found = [_of_type(name, i, v, given) for i, (v, given) in enumerate(zip(inputs, arrays))]
    if kind is HOST and not any(map(is_elsewhere, found)):
        return found
    return gathered(kind, found, [v.type for v in inputs], lambda i: f"{name}: {label(i, inputs[i])}")


def _of_type(name: str, i: int, v: Value, given: Any) -> Any:
    """One argument: an array that is not NumPy's as it is, anything else as a row-major NumPy array."""
    if is_elsewhere(given):
        if (found := type_of_array(given)) != v.type:
            raise SignatureError(f"{name}: {label(i, v)} is {v.type}, got {found}")
        return given
    try:
        a = np.asarray(given)
    except ValueError as error:  # such as lists of several lengths
        raise SignatureError(f"{name}: {label(i, v)} is {v.type}, got a {type(given).__name__} that is no array: {error}") from None
    if a.shape != v.shape or a.dtype.newbyteorder("=") != v.dtype:
        shown = type_of(a) if a.dtype.kind in "biuf" else f"{a.dtype}{list(a.shape)}"
        raise SignatureError(f"{name}: {label(i, v)} is {v.type}, got {shown}")
    return np.asarray(a, dtype=v.dtype, order="C")


def label(number: int, v: Value) -> str:
    """What errors call an input: by its name, or by its number if it has none."""
    return f"input {v.name or number}"
