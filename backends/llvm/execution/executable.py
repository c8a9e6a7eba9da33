"""Executables of the LLVM backend: one native program, its arena, and calls from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from nagraph import choices, sanitizing
from nagraph.backends.llvm.execution.arguments import ALIGNED, BORROWERS, OWNED, ROW_MAJOR, WRITEABLE, Arguments, Spans, Wanted
from nagraph.backends.llvm.measuring.profile import Profile, profile
from nagraph.backends.llvm.native.addresses import address
from nagraph.backends.llvm.native.machine_code import assembly
from nagraph.backends.llvm.program import images
from nagraph.backends.llvm.program.images import Image
from nagraph.backends.llvm.program.instructions import Launch, Phase
from nagraph.backends.llvm.program.lowering import Lowered
from nagraph.backends.llvm.runtime.pool import aligned_bytes
from nagraph.errors import SignatureError
from nagraph.ir.cached import cached_property
from nagraph.ir.graph import Graph
from nagraph.ir.types import type_of
from nagraph.kernel.form import Kernel
from nagraph.ops.labels import failure
from nagraph.plan.arena_report import ArenaReport
from nagraph.plan.kernel_planner import kernel_plan
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
    """The arena's bytes, the table of pointers with all that is known before a call, and the verdict of calls that can fail."""

    def __init__(self, image: Image, arguments: Arguments):
        self._bytes, self.base = aligned_bytes(image.arena_nbytes)
        self.table = np.zeros(len(image.table), np.int64)
        verdict = np.ones(1, np.bool_)
        #: None for programs that can't fail.
        self.verdict: memoryview | None = None
        for at, p in enumerate(image.table):
            if p.kind == "arena":
                self.table[at] = self.base + p.number
            elif p.kind == "verdict":
                self.table[at], self.verdict = verdict.ctypes.data, memoryview(verdict)
            elif p.kind == "constant":
                self.table[at] = image.constants[p.number].ctypes.data
        self.view = memoryview(self.table)
        self.fill = arguments.filler(self.table)


class Executable:
    """exe(*arrays) -> tuple of arrays: fresh ones, never aliases of arguments, of one another or of the arena.

    signature: a graph that computes what the program does, of which errors tell the lines. explain: what it was made from, asked
    for when someone looks at `graph`, `plan`, `program`, `memory`, `source` or `profile`; calls need the image alone.
    """

    def __init__(self, signature: Graph, image: Image, explain: Callable[[], Explanation], donations: Mapping[int, int],
                 threads: int | None = None, *, loaded: bool = False):
        self.name, self.inputs = signature.name, signature.inputs
        self._signature = signature
        self.threads = threads
        #: Whether the program comes from the cache on disk.
        self.loaded = loaded
        self._image, self._explain = image, explain
        places = {(p.kind, p.number): at for at, p in enumerate(image.table)}
        self._inputs, self._outputs, self._late = (
            [(at, number) for (kind, number), at in places.items() if kind == wanted] for wanted in ("input", "output", "donated"))
        self._results = [(v.shape, v.dtype) for v in signature.outputs]
        self._plain = _Plain.of(signature, donations, places)
        self._arguments, self._spans = Arguments(self._plain.wanted), Spans(self._plain.wanted[:len(self.inputs)])
        #: The arena that no call is in at the moment, if there is one.
        self._idle: list[_Arena] = []
        self._native: Any = image.program

    # -- what it was made from --------------------------------------------------------------------------------------

    @cached_property
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
    def memory(self) -> ArenaReport:
        """What lives in the arena, where, and from which step to which."""
        return ArenaReport.of(self.plan)

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
        texts = (f.code.text for f in self.program.functions.values())
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

    def plain(self, arrays: list[Any]) -> list[Array] | None:
        """The outputs, if these are arrays just as the inputs want them; None if they are not, and nothing was done.

        Just so: of the very dtypes and shapes, row-major, aligned; those that are donated with memory of their own, which may be
        written and of which no other array shows a part.
        """
        plain = self._plain
        if plain.donated and len(set(map(id, arrays))) < len(arrays):
            return None
        arrays = arrays + [np.empty(shape, dtype) for shape, dtype in plain.fresh]
        if plain.donated:
            arrays += [arrays[i] for i in plain.donated]
        arena = self._taken()
        try:
            fits = arena.fill(arrays)
            if not fits or (fits == BORROWERS and plain.donated and self._spans.meet(arena.table)):
                return None
            self._native.run(arena.table, self.threads)
        finally:
            failed = self._left(arena)
        if failed:
            raise failure(self._signature, arrays[:len(self.inputs)])
        return [arrays[i] for i in plain.results]

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one."""
        late = [j for _, j in self._late]
        outputs = [donated[j] if j in donated and j not in late else np.empty(*result) for j, result in enumerate(self._results)]
        arena = self._taken()
        try:
            view = arena.view
            for at, i in self._inputs:
                view[at] = address(arrays[i])
            for at, j in self._outputs:
                view[at] = address(outputs[j])
            for at, j in self._late:
                view[at] = address(donated.get(j, outputs[j]))
            self._native.run(arena.table, self.threads)
        finally:
            failed = self._left(arena)
        if failed:
            raise failure(self._signature, arrays)
        return tuple(donated.get(j, a) for j, a in enumerate(outputs))

    def _left(self, arena: _Arena) -> bool:
        """Whether the call that was in the arena failed. Another call may have the arena now."""
        verdict = arena.verdict
        failed = verdict is not None and not verdict[0]
        if failed:
            verdict[0] = True  # type: ignore[index]
        self._idle[:] = (arena,)
        return failed

    def _taken(self) -> _Arena:
        """The idle arena; a new one if another thread is in it."""
        try:
            return self._idle.pop()
        except IndexError:
            return _Arena(self._image, self._arguments)


class _Plain(NamedTuple):
    """How a call with arrays just as they are wanted goes: arguments, fresh arrays, and donated ones once more, in one list.

    wanted: what is asked of each of these, and its place in the table. fresh: shapes and dtypes of what the program writes
    that is donated by nobody, or late. donated: inputs which take an output. results: where each output stands in the list.
    """

    wanted: tuple[Wanted, ...]
    fresh: tuple[tuple[tuple[int, ...], Any], ...]
    donated: tuple[int, ...]
    results: tuple[int, ...]

    @classmethod
    def of(cls, signature: Graph, donations: Mapping[int, int], places: Mapping[tuple[str, int], int]) -> _Plain:
        plain, taken = ROW_MAJOR | ALIGNED, set(donations.values())
        inputs = [Wanted(v.dtype, v.shape, plain | (OWNED | WRITEABLE if i in taken else 0), places["input", i])
                  for i, v in enumerate(signature.inputs)]
        fresh, again, donated = [], [], []
        results = [donations.get(j, -1) for j in range(len(signature.outputs))]
        for j, v in enumerate(signature.outputs):
            late = ("donated", j) in places
            if j not in donations or late:
                if j not in donations:
                    results[j] = len(inputs) + len(fresh)
                fresh.append(Wanted(v.dtype, v.shape, plain, places["output", j]))
            if j in donations:
                again.append(Wanted(v.dtype, v.shape, plain, places["donated" if late else "output", j]))
                donated.append(donations[j])
        return cls((*inputs, *fresh, *again), tuple((w.shape, w.dtype) for w in fresh), tuple(donated), tuple(results))


def compile(graph: Graph, donations: Mapping[int, int] | None = None, threads: int | None = None) -> Executable:
    """An executable of the graph. `donations`: output number -> number of the input whose array it may take."""
    made = Explanation.of(graph, donations or {})
    if sanitizing.is_on():
        from nagraph.backends.llvm.execution.sanitizer import Sanitized

        return Sanitized(graph, made, donations or {}, threads)
    return Executable(graph, Image.of(made.program, made.plan.arena_bytes), lambda: made, donations or {}, threads)


def kept(graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int],
         threads: int | None = None) -> Executable:
    """compile(optimise()), or the program that was kept on disk when this was done before.

    graph: the one that `optimise` begins with; options: in words, what else its result follows from.
    """
    chosen = choices.current()
    key = images.key_of(graph, f"{options} {chosen}", donations) if not sanitizing.is_on() else None
    found = images.load(key) if key else None
    if found is not None:
        def explain() -> Explanation:
            with choices.using(chosen):
                return Explanation.of(optimise(), donations)

        return Executable(graph, found, explain, donations, threads, loaded=True)
    made = compile(optimise(), donations, threads)
    if key:
        images.store(key, made._image, made.program)
    return made
