"""Sizes that are known later, as tensors: what a size is follows from the shapes of the inputs, by operators on int64[1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.export.to_onnx.registry import Untranslatable
from nagraph.ir.size_bounds import at_least
from nagraph.ir.sizes import Dim, Extreme, Floor, Size, dims


class Sizes:
    """The sizes in one scope without a scope around it. `w` is that scope, `inputs` pairs of names and shapes."""

    def __init__(self, w: Any, inputs: Sequence[tuple[str, tuple[Any, ...]]]):
        self._w, self._inputs = w, inputs
        self._known: dict[Any, str] = {}

    def of(self, size: Any) -> Any:
        """A size as int64[1]: an array if it is known, else the name of a value."""
        if not isinstance(size, Size):
            return np.array([size], np.int64)
        if size not in self._known:
            self._known[size] = self._axis(size) or self._computed(size)
        return self._known[size]

    def _axis(self, size: Any) -> str | None:
        """The size of an input's axis that is this."""
        for name, shape in self._inputs:
            if size in shape:
                i = shape.index(size)
                return str(self._w.emit("Shape", name, start=i, end=i + 1))
        return None

    def _computed(self, size: Any) -> str:
        if isinstance(size, Dim):
            return self._solved(size)
        if isinstance(size, Floor):
            return self._floor(size)
        emit = self._w.emit
        if isinstance(size, Extreme):
            return str(emit("Min" if size.kind == "min" else "Max", *map(self.of, size.of)))
        top: Any = None
        bottom: Any = None
        for monomial, factor in size.terms:
            over: Any = None if factor == 1 and any(p > 0 for _, p in monomial) else np.array([factor], np.int64)
            under: Any = None
            for atom, power in monomial:
                for _ in range(abs(power)):
                    if power > 0:
                        over = self._times(over, self.of(atom))
                    else:
                        under = self._times(under, self.of(atom))
            if top is None:
                top, bottom = over, under
            else:
                top = emit("Add", self._times(top, under), self._times(over, bottom))
                bottom = self._times(bottom, under)
        if size.divisor != 1:
            bottom = self._times(bottom, np.array([size.divisor], np.int64))
        return str(top if bottom is None else emit("Div", top, bottom))

    def _times(self, x: Any, y: Any) -> Any:
        return y if x is None else x if y is None else self._w.emit("Mul", x, y)

    def _floor(self, size: Floor) -> str:
        top, bottom = self.of(size.top), self.of(size.bottom)
        if not at_least(size.top, 0):  # Div rounds to zero, Mod has the sign of the divisor
            top = self._w.emit("Sub", top, self._w.emit("Mod", top, bottom))
        return str(self._w.emit("Div", top, bottom))

    def _solved(self, d: Dim) -> str:
        """A dimension that follows from an axis of a number times it and a number."""
        for name, shape in self._inputs:
            for i, x in enumerate(shape):
                if isinstance(x, Size) and dims(x) == (d,) and all(m in ((), ((d, 1),)) for m, _ in x.terms):
                    terms = dict(x.terms)
                    factor, rest = next(c for m, c in x.terms if m), terms.get((), 0)
                    found: Any = self._w.emit("Shape", name, start=i, end=i + 1)
                    if x.divisor != 1:
                        found = self._w.emit("Mul", found, np.array([x.divisor], np.int64))
                    if rest:
                        found = self._w.emit("Sub", found, np.array([rest], np.int64))
                    return str(self._w.emit("Div", found, np.array([factor], np.int64)))
        raise Untranslatable(f"the size {d} does not follow from the shape of an input: no axis is such a dimension alone, or a number "
                             "times it and a number")
