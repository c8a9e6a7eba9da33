"""The types of attributes: what an op's fields declare, and whether a value fits."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

import numpy as np

from nagraph.ir.constant import Data
from nagraph.ir.graph import Graph
from nagraph.ir.op import Op
from nagraph.ir.sizes import Size
from nagraph.ir.types import DType, TensorType


def hints(cls: type[Op]) -> dict[str, Any]:
    """The types of an op's attributes, annotations resolved."""
    found = _HINTS.get(cls)
    if found is None:
        names = {"Graph": Graph, "Data": Data, "DType": DType, "TensorType": TensorType}
        resolved = typing.get_type_hints(cls, localns=names)
        found = _HINTS[cls] = {f.name: resolved[f.name] for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return found


_HINTS: dict[type[Op], dict[str, Any]] = {}


def fits(value: Any, hint: Any) -> bool:
    """Whether an attribute's value has its annotated type: 1 is no bool, True no int; a size that is known later is an int."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, h) for h in typing.get_args(hint))
    if origin is tuple:
        args = typing.get_args(hint)
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is ...:
            return all(fits(v, args[0]) for v in value)
        return len(args) == len(value) and all(map(fits, value, args))
    if hint is type(None):
        return value is None
    if origin is np.dtype or hint is np.dtype:
        return isinstance(value, np.dtype)
    if hint is int:
        return type(value) is int or isinstance(value, Size)
    return type(value) is hint if hint in (bool, float, str) else isinstance(value, hint)
