"""Executables of the LLVM backend: one native program, its arena, and calls from Python."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nagraph.backends.llvm import images
from nagraph.backends.llvm.addresses import address
from nagraph.backends.llvm.images import Image
from nagraph.backends.llvm.lowering import Lowered
from nagraph.backends.llvm.native import assembly
from nagraph.backends.llvm.profile import Profile, profile
from nagraph.backends.llvm.program import Launch, Phase
from nagraph.backends.llvm.runtime.pool import aligned_bytes
from nagraph.errors import SignatureError
from nagraph.ir.graph import Graph
from nagraph.ir.types import type_of
from nagraph.kernel.form import Kernel
from nagraph.plan.kernels import kernel_plan
from nagraph.plan.memory import Memory
from nagraph.plan.plan import Plan

Array = np.ndarray[Any, Any]


class Explanation(NamedTuple):
    """What a program was made from: the optimised graph, its plan, and the program as instructions."""

    graph: Graph
    plan: Plan
    program: Lowered

    @classmethod
    def of(cls, graph: Graph, donations: Mapping[int, int]) -> Explanation:
        lowering, plan = kernel_plan(graph, donations)
        return cls(graph, plan, Lowered(lowering, plan))


class _Arena:
    """The arena's bytes, and the table of pointers with all that is known before a call."""

    def __init__(self, image: Image):
        self._bytes, base = aligned_bytes(image.arena_nbytes)
        self.table = np.zeros(len(image.table), np.int64)
        for at, p in enumerate(image.table):
            if p.kind == "arena":
                self.table[at] = base + p.number
            elif p.kind == "constant":
                self.table[at] = image.constants[p.number].ctypes.data
        self.view = memoryview(self.table)


class Executable:
    """exe(*arrays) -> tuple of arrays: fresh ones, never aliases of arguments, of one another or of the arena.

    signature: a graph with the inputs and outputs of the program. explain: what it was made from, asked for when someone
    looks at `graph`, `plan`, `program`, `memory`, `source` or `profile`; calls need the image alone.
    """

    def __init__(self, signature: Graph, image: Image, explain: Callable[[], Explanation], threads: int | None = None, *,
                 loaded: bool = False):
        self.name, self.inputs = signature.name, signature.inputs
        self.threads = threads
        #: Whether the program comes from the cache on disk.
        self.loaded = loaded
        self._image, self._explain = image, explain
        self._inputs, self._outputs = ([(at, p.number) for at, p in enumerate(image.table) if p.kind == kind]
                                       for kind in ("input", "output"))
        #: Outputs whose donated arrays are written last, and their pointers.
        self._late = [(at, p.number) for at, p in enumerate(image.table) if p.kind == "donated"]
        self._results = [(v.shape, v.dtype) for v in signature.outputs]
        self._lock = threading.Lock()
        self._arena: _Arena | None = None
        self._native: Any = image.program

    # -- what it was made from --------------------------------------------------------------------------------------

    @functools.cached_property
    def _explanation(self) -> Explanation:
        return self._explain()

    @property
    def graph(self) -> Graph:
        """The optimised graph."""
        return self._explanation.graph

    @property
    def plan(self) -> Plan:
        """Steps, slots and buffers."""
        return self._explanation.plan

    @property
    def program(self) -> Lowered:
        """The instructions, the kernels that they launch, and the table of pointers."""
        return self._explanation.program

    @property
    def memory(self) -> Memory:
        """What lives in the arena, where, and from which step to which."""
        return Memory.of(self.plan)

    @property
    def arena_nbytes(self) -> int:
        """The bytes that a call works in, beside arguments and results."""
        return self._image.arena_nbytes

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
        inputs = self.inputs
        if len(arrays) != len(inputs):
            raise SignatureError(f"{self.name} takes {len(inputs)} arrays, got {len(arrays)}")
        given = [np.asarray(a) for a in arrays]
        for v, a in zip(inputs, given):
            if a.dtype.newbyteorder("=") != v.dtype or a.shape != v.shape:
                shown = type_of(a) if a.dtype.kind in "biuf" else f"{a.dtype}{list(a.shape)}"
                raise SignatureError(f"{self.name}: input {v.name or '?'} is {v.type}, got {shown}")
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
                arena = _Arena(self._image)
            elif self._arena is None:
                arena = self._arena = _Arena(self._image)
            else:
                arena = self._arena
            self._native.run(self._pointers(arena, arrays, outputs, donated), self.threads)
        finally:
            if mine:
                self._lock.release()
        if not donated:
            return tuple(outputs)
        return tuple(donated[j] if j in donated else a for j, a in enumerate(outputs))


def compile(graph: Graph, donations: Mapping[int, int] | None = None, threads: int | None = None) -> Executable:
    """An executable of the graph. `donations`: output number -> number of the input whose array it may take."""
    made = Explanation.of(graph, donations or {})
    return Executable(graph, Image.of(made.program, made.plan.arena_bytes), lambda: made, threads)


def kept(graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int],
         threads: int | None = None) -> Executable:
    """compile(optimise()), or the program that was kept on disk when this was done before.

    graph: the one that `optimise` begins with; options: in words, what else its result follows from.
    """
    key = images.key_of(graph, options, donations)
    found = images.load(key) if key else None
    if found is not None:
        return Executable(graph, found, lambda: Explanation.of(optimise(), donations), threads, loaded=True)
    made = compile(optimise(), donations, threads)
    if key:
        images.store(key, made._image, made.program)
    return made
