"""Attributes of a node: read by their kinds, held against what the operator says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nagraph.errors import OnnxError
from nagraph.files import short
from nagraph.onnx.dtypes import Format
from nagraph.onnx.formats import Carried
from nagraph.onnx.registry import KINDS, Operator
from nagraph.onnx.tensors import Tensors
from nagraph.suggestions import suggestion

#: Kinds by number, for messages.
_NAMES = {0: "nothing", 1: "a float", 2: "an integer", 3: "a string", 4: "a tensor", 5: "a graph", 6: "floats", 7: "integers", 8: "strings",
          9: "tensors", 10: "graphs", 11: "a sparse tensor", 12: "sparse tensors", 13: "a type", 14: "types"}


def resolved(node: Any, outer: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a node by name; those that a function's node takes from its call are looked up in `outer`."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.name in found:
            raise OnnxError(f"it has the attribute {short(attribute.name)} twice")
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif attribute.ref_attr_name in outer:
            found[attribute.name] = outer[attribute.ref_attr_name]
    return found


def arguments(operator: Operator, given: Mapping[str, Any], tensors: Tensors) -> dict[str, Any]:
    """The keyword arguments for an operator's function. OnnxError for attributes that it does not have, lacks, or has of another kind."""
    found = {}
    for name, attribute in given.items():
        wanted = operator.attributes.get(name)
        if wanted is None:
            raise OnnxError(f"it has an attribute {short(name)}, which {operator.name} has not{suggestion(name, operator.attributes)}")
        if attribute.type != KINDS[wanted.kind]:
            kind = _NAMES.get(attribute.type, "of an unknown kind")
            raise OnnxError(f"its attribute {name} is {kind}, but must be {_NAMES[KINDS[wanted.kind]]}")
        found[name] = _value(attribute, wanted.kind, tensors)
    missing = [name for name, wanted in operator.attributes.items() if wanted.required and name not in found]
    if missing:
        raise OnnxError(f"it lacks the attribute {missing[0]}")
    return found


def _value(attribute: Any, kind: str, tensors: Tensors) -> Any:
    if kind == "bool":
        return bool(attribute.i)
    if kind == "int":
        return attribute.i
    if kind == "float":
        return attribute.f
    if kind == "str":
        return _text(attribute.s)
    if kind == "Tensor":
        array, element = tensors.array(attribute.t), tensors.type(attribute.t)[0]
        return Carried(array, element) if isinstance(element, Format) else array
    if kind == "Region":
        return attribute.g
    if kind == "SparseTensor":
        return attribute.sparse_tensor
    if kind == "Strings":
        return tuple(map(_text, attribute.strings))
    return tuple(attribute.floats if kind == "Floats" else attribute.ints)


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise OnnxError(f"an attribute holds {short(value)}, which is no text") from None
