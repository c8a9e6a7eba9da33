"""Module: a frozen dataclass that is a pytree of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import nagraph as ng
from nagraph import tree
from nagraph.arrays import is_array, type_of_array
from nagraph.ir.types import is_float
from nagraph.transforms.eager import where_arrays_are

M = TypeVar("M", bound="Module")


def buffer(**options: Any) -> Any:
    """Declares a field whose arrays are state, not parameters: `grad` and optimisers leave it alone."""
    return dataclasses.field(metadata={"buffer": True}, **options)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(buffer, dataclasses.field))
class Module:
    """A module is a layer or a model: a frozen dataclass that is a tree of arrays.

    Fields with arrays, modules or containers of them are the tree; all other fields are static.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)

    def replace(self: M, **changes: Any) -> M:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def map(self: M, fn: Callable[[Any], Any]) -> M:
        """A copy with fn applied to each array; None stays."""
        result: M = tree.map(lambda x: None if x is None else fn(x), self)
        return result

    def astype(self: M, dtype: Any) -> M:
        """A copy with the floating arrays in another dtype, made where they are."""
        made: M = where_arrays_are(lambda m: m.map(lambda x: ng.numpy.astype(x, dtype) if is_float(x.dtype) else x), self)
        return made

    def named_arrays(self) -> dict[str, Any]:
        """Path and array of each leaf: `blocks.0.attention.weight`."""
        leaves, structure = tree.flatten(self)
        return {p: x for p, x in zip(tree.paths(structure), leaves) if x is not None}

    @property
    def parameter_count(self) -> int:
        """Elements of all arrays but the buffers."""
        leaves, structure = tree.flatten(self)
        return sum(type_of_array(x).size for x, b in zip(leaves, tree.buffer_flags(structure)) if x is not None and not b)

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            x = getattr(self, field.name)
            if is_array(x):
                found = type_of_array(x)
                x = f"{found.dtype}{list(found.shape)}"
            else:
                x = repr(x)
            shown.append(f"{field.name}={x}")
        return f"{type(self).__name__}({', '.join(shown)})"
