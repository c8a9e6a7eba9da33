"""Executables of the MPS backend: a program of MLX functions, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from nagraph.backends import interface
from nagraph.backends.mps.arrays import KIND, failures, library, mlx_dtype
from nagraph.backends.mps.coverage import Coverage
from nagraph.backends.mps.coverage import coverage as coverage_of
from nagraph.backends.mps.listing import listing
from nagraph.backends.mps.program import Program, agreed
from nagraph.errors import SignatureError
from nagraph.ir.graph import Graph
from nagraph.ops.labels import failure

Array = Any


class Executable(interface.Executable):
    """An executable that calls MLX: exe(*arrays) -> tuple of fresh arrays, which may be pending.

    MLX owns all memory: a donated array's is free for results when nobody holds the array any more.
    """

    array_kind = KIND
    has_fast_path = True
    sources = ("mlx",)

    def __init__(self, graph: Graph, donations: Mapping[int, int]):
        self.graph, self.name, self.inputs = graph, graph.name, graph.inputs
        core = library()
        with failures(graph.name):
            self._program = Program(graph)
        self._class, self._types = core.array, [(mlx_dtype(v.dtype), v.shape) for v in graph.inputs]

    def plain(self, arrays: list[Any]) -> list[Array] | None:
        """The outputs, if these are MLX arrays of the very dtypes and shapes of the inputs; None if not, and nothing was done."""
        if len(arrays) != len(self._types):
            return None
        for a, (dtype, shape) in zip(arrays, self._types):
            if type(a) is not self._class or a.dtype != dtype or a.shape != shape:
                return None
        return list(self.run(arrays, {}))

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs for arrays of the inputs' types. It returns when they are asked for, or, where labels are checked, when those are."""
        core = library()
        verdicts: list[Array] = []
        with failures(self.name):
            found = self._program.run(arrays, verdicts)
            fine = all(v.item() for v in agreed(verdicts))
        if not fine:
            raise failure(self.graph, list(map(KIND.to_numpy, arrays)))
        with failures(self.name):
            outputs = self._fresh(found, arrays)
            core.async_eval(outputs)
        return tuple(outputs)

    def _fresh(self, found: Sequence[Array], arrays: Sequence[Array]) -> list[Array]:
        """The outputs as objects of their own: no argument's, and no two the same."""
        seen, outputs = set(map(id, arrays)), []
        for y in found:
            y = KIND.copy(y) if id(y) in seen else y
            seen.add(id(y))
            outputs.append(y)
        return outputs

    @property
    def host_steps(self) -> tuple[str, ...]:
        """What is printed."""
        return self._program.prints()

    @property
    def coverage(self) -> Coverage:
        """How many of its nodes are one call of MLX."""
        return coverage_of(self._program)

    @property
    def donated(self) -> dict[int, str]:
        """Nothing: no array is written."""
        return {}

    @property
    def plan(self) -> NoReturn:  # type: ignore[override]
        raise SignatureError(f"{self.name}: there is no plan, for MLX owns its memory; mx.get_peak_memory() tells how much it took")

    @property
    def arena_nbytes(self) -> int:
        """None: MLX allocates as it computes."""
        return 0

    def source(self, form: str = "mlx") -> str:
        """The calls of MLX as lines of Python, each with the op and the user's line that it comes from."""
        return listing(self._program) if form == "mlx" else super().source(form)

    def profile(self, *arrays: Any, repeats: int = 5) -> NoReturn:
        raise SignatureError(f"{self.name}: MLX does not tell the times of its kernels; "
                             "mx.metal.start_capture(path) records a call for Xcode")
