"""Conversions between element types, the small formats among them."""

from __future__ import annotations

from typing import Any

from nagraph import numpy as F
from nagraph.onnx.dtypes import Format, element_type
from nagraph.onnx.formats import Carried, rounded_to
from nagraph.onnx.registry import operator


@operator("Cast", formats="given")
def cast(x: Any, *, to: int, saturate: bool = True, round_mode: str = "up") -> Any:
    return converted(x, element_type(to), saturate, round_mode)


@operator("CastLike", formats="given")
def cast_like(x: Any, like: Any, *, saturate: bool = True, round_mode: str = "up") -> Any:
    return converted(x, like.format if isinstance(like, Carried) else like.dtype, saturate, round_mode)


def converted(x: Any, kind: Any, saturate: bool = True, round_mode: str = "up") -> Any:
    """x, a value or a carried one, in a dtype or a format."""
    value = x.value if isinstance(x, Carried) else x
    if isinstance(kind, Format):
        return x if isinstance(x, Carried) and x.format == kind else rounded_to(value, kind, saturate, round_mode)
    return F.astype(value, kind)
