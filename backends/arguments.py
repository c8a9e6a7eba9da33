"""Arguments of a call of an executable, checked against the inputs of its graph: the same rules and texts for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import SignatureError
from nagraph.ir.graph import Value
from nagraph.ir.types import type_of

Array = np.ndarray[Any, Any]


def row_major(name: str, inputs: Sequence[Value], arrays: Sequence[Any]) -> list[Array]:
    """The arguments as row-major arrays of the inputs' types, in the machine's byte order.

    name: the graph's, for errors. Raises SignatureError for another number of arguments, or one of another dtype or shape.
    """
    if len(arrays) != len(inputs):
        raise SignatureError(f"{name} takes {len(inputs)} arrays, got {len(arrays)}")
    found = []
    for i, (v, given) in enumerate(zip(inputs, arrays)):
        try:
            a = np.asarray(given)
        except ValueError as error:  # such as lists of several lengths
            raise SignatureError(f"{name}: {label(i, v)} is {v.type}, got a {type(given).__name__} that is no array: {error}") from None
        if a.shape != v.shape or a.dtype.newbyteorder("=") != v.dtype:
            shown = type_of(a) if a.dtype.kind in "biuf" else f"{a.dtype}{list(a.shape)}"
            raise SignatureError(f"{name}: {label(i, v)} is {v.type}, got {shown}")
        found.append(np.asarray(a, dtype=v.dtype, order="C"))
    return found


def label(number: int, v: Value) -> str:
    """What errors call an input: by its name, or by its number if it has none."""
    return f"input {v.name or number}"
