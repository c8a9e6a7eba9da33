"""Executables of graphs whose sizes are known at a call: each set of sizes is compiled when it first comes, and the last used are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from nagraph import arrays
from nagraph.arrays import ArrayKind
from nagraph.backends.arguments import label
from nagraph.backends.interface import Executable
from nagraph.errors import SignatureError, SizeError
from nagraph.forks import Lock
from nagraph.ir.graph import Graph
from nagraph.ir.size_binding import bound, chosen
from nagraph.ir.sizes import described, substituted

#: How many sets of sizes an executable of any size, or a function under `jit`, keeps compiled.
MOST_KEPT = 32

Shapes = tuple[tuple[int, ...], ...]


class AnySize(Executable):
    """An executable of any size compiles itself for the sizes of each call, from the one graph: what `compile` makes of sizes known later.

    The last MOST_KEPT sets of sizes stay compiled. What depends on sizes (plan, schedules, source, profile) is asked of `at(sizes)`.
    """

    def __init__(self, graph: Graph, kind: ArrayKind, make: Callable[[Graph], Executable]):
        """make: compiles a graph of known sizes."""
        self.name, self.inputs, self.graph, self.array_kind, self._make = graph.name, graph.inputs, graph, kind, make
        self._symbolic = [i for i, v in enumerate(graph.inputs) if v.type.symbolic]
        #: By the shapes of inputs whose sizes are known later; the last used comes last.
        self._compiled: dict[Shapes, tuple[dict[str, int], Executable]] = {}
        self._lock = Lock()
        self.compilations = 0

    def __call__(self, *given: Any) -> tuple[Any, ...]:
        return self._of_call(given)(*given)

    def run(self, given: list[Any], donated: Mapping[int, Any]) -> tuple[Any, ...]:
        return self._of_call(given).run(given, donated)

    def at(self, sizes: Mapping[str, int]) -> Executable:
        """The executable for these sizes, by the names of dimensions: compiled now if it is not. Errors: SizeError."""
        given = chosen(self.graph.dims, sizes)
        if len(given) < len(self.graph.dims):
            left = [d for d in self.graph.dims if d not in given]
            raise SizeError(f"{self.name}: the sizes of all dimensions are needed, and {described(left)} are missing")
        shapes = tuple(tuple(substituted(n, given) for n in self.inputs[i].shape) for i in self._symbolic)
        return self._of(shapes, lambda: dict(sizes))

    def explain(self) -> str:
        """For which sizes it is compiled, the last used last."""
        lines = [f"{self.name}: one trace for all sizes ({described(self.graph.dims)}), compiled for {len(self._compiled)} sets of them, "
                 f"{self.compilations} times"]
        return "\n".join([*lines, *("  " + ", ".join(f"{k} = {n}" for k, n in sizes.items()) for sizes, _ in self._compiled.values())])

    def _of_call(self, given: Any) -> Executable:
        if len(given) != len(self.inputs):
            raise SignatureError(f"{self.name} takes {len(self.inputs)} arrays, got {len(given)}")
        shapes = tuple([tuple(_shape(given[i])) for i in self._symbolic])
        return self._of(shapes, lambda: self._sizes(shapes))

    def _of(self, shapes: Shapes, sizes: Callable[[], dict[str, int]]) -> Executable:
        with self._lock:
            found = self._compiled.pop(shapes, None)
            if found is None:
                known = sizes()
                found = known, self._make(self.graph.specialise(known))
                self.compilations += 1
            self._compiled[shapes] = found
            if len(self._compiled) > MOST_KEPT:
                del self._compiled[next(iter(self._compiled))]
            return found[1]

    def _sizes(self, shapes: Shapes) -> dict[str, int]:
        inputs = [self.inputs[i] for i in self._symbolic]
        names = [label(i, v) for i, v in zip(self._symbolic, inputs)]
        for v, shape, name in zip(inputs, shapes, names):
            if len(shape) != v.ndim:
                raise SignatureError(f"{self.name}: {name} is {v.type}, got an array of shape {list(shape)}")
        try:
            return bound([v.shape for v in inputs], shapes, names)
        except SizeError as error:
            raise SignatureError(f"{self.name}: {error}") from None

    def _refused(self, *_: Any, **__: Any) -> NoReturn:
        raise SignatureError(f"{self.name} has this for each set of sizes: ask it of exe.at({{...}}), which takes the sizes of "
                             f"{', '.join(d.name for d in self.graph.dims)}")

    plan = schedules = property(_refused)  # type: ignore[assignment]
    source = tune = profile = _refused


def _shape(given: Any) -> tuple[int, ...]:
    return arrays.type_of_array(given).shape if arrays.is_elsewhere(given) else np.shape(given)
