"""Executables of the LLVM backend: one native program, its arena, and calls from Python."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph.backends.llvm.addresses import address
from nagraph.backends.llvm.lowering import Lowered
from nagraph.backends.llvm.native import assembly
from nagraph.backends.llvm.profile import Profile, profile
from nagraph.backends.llvm.program import Launch, Phase
from nagraph.backends.llvm.runtime.native_program import NativeProgram, aligned_bytes
from nagraph.errors import SignatureError
from nagraph.ir.graph import Graph
from nagraph.ir.types import type_of
from nagraph.kernel.form import Kernel
from nagraph.plan.kernels import kernel_plan
from nagraph.plan.memory import Memory
from nagraph.plan.plan import Plan

Array = np.ndarray[Any, Any]


class _Arena:
    """The arena's bytes, and the table of pointers with all that is known before a call."""

    def __init__(self, plan: Plan, program: Lowered):
        self._bytes, base = aligned_bytes(plan.arena_bytes)
        self.table = np.zeros(len(program.table), np.int64)
        for at, p in enumerate(program.table):
            if p.kind == "arena":
                self.table[at] = base + p.number
            elif p.kind == "constant":
                self.table[at] = program.constants[p.number].ctypes.data
        self.view = memoryview(self.table)


class Executable:
    """exe(*arrays) -> tuple of arrays: fresh ones, never aliases of arguments, of one another or of the arena."""

    def __init__(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None):
        self.graph = graph
        self.threads = threads
        lowering, self.plan = kernel_plan(graph, donations)
        self.program = Lowered(lowering, self.plan)
        self._inputs, self._outputs = ([(at, p.number) for at, p in enumerate(self.program.table) if p.kind == kind]
                                       for kind in ("input", "output"))
        #: Outputs whose donated arrays are written last, and their pointers.
        self._late = [(at, p.number) for at, p in enumerate(self.program.table) if p.kind == "donated"]
        self._results = [(v.shape, v.dtype) for v in graph.outputs]
        self._lock = threading.Lock()
        self._arena: _Arena | None = None
        self._native = NativeProgram(self.program.instructions, len(self.program.table), self.program.scratch_nbytes, threads)

    @property
    def memory(self) -> Memory:
        """What lives in the arena, where, and from which step to which."""
        return Memory.of(self.plan)

    @property
    def launches(self) -> list[Launch]:
        """Every launch, in order."""
        return [x for i in self.program.instructions if isinstance(i, Phase) for x in i.launches]

    @property
    def kernels(self) -> list[Kernel]:
        return [x.kernel for x in self.launches if x.kernel is not None]

    # -- calls ------------------------------------------------------------------------------------------------------

    def source(self, form: str = "llvm") -> str:
        """The code of every kernel: "kernel" (the kernel form), "llvm" or "asm"."""
        if form == "kernel":
            return "\n\n".join(dict.fromkeys(map(str, self.kernels)))
        if form not in ("llvm", "asm"):
            raise SignatureError(f"there is no source {form!r}; there is kernel, llvm and asm")
        texts = (f.text for f in self.program.functions.values())
        return "\n\n".join(texts if form == "llvm" else map(assembly, texts))

    def profile(self, *arrays: Any, repeats: int = 5) -> Profile:
        """Where the time of a call goes, kernel by kernel: the median one of some recorded calls."""
        return profile(self, self._given(arrays), repeats)

    def __call__(self, *arrays: Any) -> tuple[Array, ...]:
        return self.run(self._given(arrays), {})

    def _given(self, arrays: tuple[Any, ...]) -> list[Array]:
        """The arguments as row-major arrays of the inputs' types."""
        inputs = self.graph.inputs
        if len(arrays) != len(inputs):
            raise SignatureError(f"{self.graph.name} takes {len(inputs)} arrays, got {len(arrays)}")
        given = [np.asarray(a) for a in arrays]
        for v, a in zip(inputs, given):
            if a.dtype.newbyteorder("=") != v.dtype or a.shape != v.shape:
                shown = type_of(a) if a.dtype.kind in "biuf" else f"{a.dtype}{list(a.shape)}"
                raise SignatureError(f"{self.graph.name}: input {v.name or '?'} is {v.type}, got {shown}")
        return [np.asarray(a, dtype=v.dtype, order="C") for v, a in zip(inputs, given)]

    def _pointers(self, arena: _Arena, arrays: list[Array], outputs: list[Array], donated: Mapping[int, Array]) -> Any:
        """The arena's table with the call's arrays filled in."""
        view = arena.view
        for at, i in self._inputs:
            view[at] = address(arrays[i])
        for at, i in self._outputs:
            view[at] = address(outputs[i])
        for at, i in self._late:
            view[at] = address(donated.get(i, outputs[i]))
        return arena.table

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one."""
        late = [j for _, j in self._late]
        outputs = [np.empty(shape, dtype) for shape, dtype in self._results] if not donated else [
            donated[j] if j in donated and j not in late else np.empty(*result) for j, result in enumerate(self._results)]
        mine = self._lock.acquire(blocking=False)
        try:
            if not mine:  # another thread is in the arena: this call gets one of its own
                arena = _Arena(self.plan, self.program)
            elif self._arena is None:
                arena = self._arena = _Arena(self.plan, self.program)
            else:
                arena = self._arena
            self._native.run(self._pointers(arena, arrays, outputs, donated))
        finally:
            if mine:
                self._lock.release()
        if not donated:
            return tuple(outputs)
        return tuple(donated[j] if j in donated else a for j, a in enumerate(outputs))


def compile(graph: Graph, donations: Mapping[int, int] | None = None, threads: int | None = None) -> Executable:
    """An executable of the graph. `donations`: output number -> number of the input whose array it may take."""
    return Executable(graph, donations or {}, threads)

