"""Arguments whose sizes vary from call to call: which of their axes are dimensions, and what a call makes of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nagraph.compiler.signature import Call
from nagraph.errors import SignatureError, SizeError
from nagraph.ir.integers import integer, is_integer
from nagraph.ir.size_binding import bound
from nagraph.ir.sizes import Size
from nagraph.ir.types import TensorType


class DynamicShapes:
    """Dynamic shapes are the axes of a function's arguments whose sizes are known at a call.

    given: for the name of an argument, or of a leaf within one (`batch.tokens`), either {axis: size} or a tuple with a size or None for
    each axis; sizes are dimensions or expressions of them. What is said of an argument holds for all of its leaves, but for those that are
    named themselves. Errors: SignatureError.
    """

    def __init__(self, given: Mapping[str, Any]):
        if not isinstance(given, Mapping):
            raise SignatureError(f"jit: dynamic_shapes is a dict from names of arguments to their axes, such as {{'x': {{0: batch}}}}; "
                                 f"got {given!r:.80}")
        self.axes = {name: _axes(name, axes) for name, axes in given.items()}

    def types(self, call: Call) -> tuple[Any, ...]:
        """The types of a call's leaves, with dimensions where sizes vary."""
        unused = set(self.axes)
        found = []
        for name, type in zip(call.leaf_names, call.types, strict=True):
            which = next((n for n in (name, *_holders(name)) if n in self.axes), None)
            unused.discard(which or "")
            found.append(type if which is None or not isinstance(type, TensorType) else self._of(which, name, type))
        if unused:
            raise SignatureError(f"jit: dynamic_shapes names {', '.join(sorted(unused))}, and the call has {', '.join(call.leaf_names)}")
        return tuple(found)

    def _of(self, which: str, name: str, type: TensorType) -> TensorType:
        sizes = list(type.shape)
        for axis, size in self.axes[which].items():
            if not -type.rank <= axis < type.rank:
                raise SignatureError(f"jit: dynamic_shapes names axis {axis} of {which}, and {name} is {type}")
            sizes[axis] = size
        return type.with_shape(tuple(sizes))

    @staticmethod
    def sizes(call: Call, types: tuple[Any, ...]) -> dict[str, int]:
        """What the dimensions of these types are in a call, by name. SignatureError where its sizes do not fit them."""
        rows = [(t.shape, u.shape, n) for t, u, n in zip(types, call.types, call.leaf_names) if isinstance(t, TensorType)]
        try:
            return bound(*zip(*rows)) if rows else {}
        except SizeError as error:
            raise SignatureError(str(error)) from None


def _axes(name: str, given: Any) -> dict[int, Size]:
    pairs = given.items() if isinstance(given, Mapping) else enumerate(given) if isinstance(given, (tuple, list)) else None
    if pairs is None or not all(is_integer(axis) and (size is None or isinstance(size, Size)) for axis, size in pairs):
        raise SignatureError(f"jit: dynamic_shapes gives {name!r} a dict from axes to dimensions, or a tuple with a dimension or None for "
                             f"each axis; got {given!r:.80}")
    pairs = given.items() if isinstance(given, Mapping) else enumerate(given)
    return {integer("axis", axis): size for axis, size in pairs if size is not None}


def _holders(name: str) -> list[str]:
    """What holds a leaf, the innermost first: of `batch.tokens.0` that is `batch.tokens` and `batch`; of `xs[0].1` also `xs`."""
    parts = name.split(".")
    found = [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]
    return [*found, *{parts[0].partition("[")[0]}]
