"""Executables of the NumPy backend: a plan, its arena, and calls that allocate nothing but their results."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph.backends import interface
from nagraph.backends.numpy.program import Program, new_arena
from nagraph.errors import LabelError
from nagraph.ir.graph import Graph
from nagraph.ops.labels import failure
from nagraph.plan import Plan, Planned, make_plan

Array = np.ndarray[Any, Any]


class Executable(interface.Executable):
    """An executable that calls NumPy: exe(*arrays) -> tuple of fresh arrays."""

    has_fast_path = True

    def __init__(self, graph: Graph, donations: Mapping[int, int]):
        self.graph, self.name, self.inputs = graph, graph.name, graph.inputs
        planned = isinstance(graph, Planned) and graph.plan.donations == dict(donations)
        self.plan: Plan = graph.plan if planned else make_plan(graph, donations)  # type: ignore[attr-defined]
        self._program: Program | None = None
        self._lock = threading.Lock()

    def plain(self, arrays: list[Any]) -> list[Array] | None:
        """The outputs, if these are row-major arrays of the very dtypes and shapes of the inputs; None if not, and nothing was done."""
        if self.plan.donations or len(arrays) != len(self.inputs):
            return None
        for v, a in zip(self.inputs, arrays):
            if type(a) is not np.ndarray or a.dtype is not v.dtype or a.shape != v.shape or not a.flags.c_contiguous:
                return None
        return list(self.run(arrays, {}))

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one."""
        outputs = [donated[j] if j in donated else np.empty(v.shape, v.dtype) for j, v in enumerate(self.graph.outputs)]
        try:
            with np.errstate(all="ignore"):
                self._run(arrays, outputs)
        except LabelError:
            raise failure(self.graph, arrays) from None
        return tuple(outputs)

    def _run(self, arrays: list[Array], outputs: list[Array]) -> None:
        if self._lock.acquire(blocking=False):
            try:
                if self._program is None:
                    self._program = Program(self.plan, new_arena(self.plan.arena_bytes))
                self._program.run(arrays, outputs)
            finally:
                self._lock.release()
        else:  # another thread is in the arena: this call gets one of its own
            Program(self.plan, new_arena(self.plan.arena_bytes)).run(arrays, outputs)


def compile(graph: Graph, donations: Mapping[int, int] | None = None, threads: int | None = None) -> Executable:
    """An executable of the graph. `donations`: output number -> number of the input whose array it may take.

    `threads` says nothing here: NumPy's own library has its threads.
    """
    return Executable(graph, donations or {})
