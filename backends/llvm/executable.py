"""Executables of the LLVM backend: the calls of a native program, and what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nagraph import choices, sanitizing
from nagraph.backends import interface
from nagraph.backends.arguments import row_major
from nagraph.backends.llvm.calls.native_calls import NativeCalls
from nagraph.backends.llvm.calls.sanitizer import GuardedCalls
from nagraph.backends.llvm.measuring.profiling import profile
from nagraph.backends.llvm.measuring.tuning import ProgramBench
from nagraph.backends.llvm.native.machine_code import assembly
from nagraph.backends.llvm.program import images
from nagraph.backends.llvm.program.explanation import Explanation
from nagraph.backends.llvm.program.images import Image
from nagraph.backends.llvm.text.target import host
from nagraph.ir.cached import cached_property
from nagraph.ir.graph import Graph
from nagraph.kernel.form import Kernel
from nagraph.measuring.profile import Profile
from nagraph.plan.plan import Plan
from nagraph.program.instructions import HostStep, Launch
from nagraph.program.keys import program_key
from nagraph.program.lowered import LoweredProgram
from nagraph.schedule import overrides
from nagraph.schedule.form import Schedule
from nagraph.schedule.names import name_of
from nagraph.schedule.text import format_all
from nagraph.schedule.tuning import Listener, Tuning, tune

Array = np.ndarray[Any, Any]


class Executable(interface.Executable):
    """An executable that calls a native program: exe(*arrays) -> tuple of fresh arrays.

    calls: how arrays become results. explain: what the program was made from, asked for when someone looks at `graph`, `plan`,
    `program`, `memory`, `source` or `profile`. loaded: whether the program comes from the cache on disk.
    """

    has_fast_path = True
    sources = ("llvm", "asm", "kernel", "schedule")

    def __init__(self, calls: NativeCalls | GuardedCalls, explain: Callable[[], Explanation], *, loaded: bool = False):
        self.calls, self.loaded = calls, loaded
        self.name, self.inputs = calls.signature.name, calls.signature.inputs
        self._explain = explain

    # -- calls ------------------------------------------------------------------------------------------------------

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one."""
        return self.calls.run(arrays, donated)

    @property
    def plain(self) -> Callable[[list[Any]], list[Array] | None]:
        """A function of a list of arrays: the outputs, or None if they are not just as the inputs want them."""
        return self.calls.plain

    # -- what it was made from --------------------------------------------------------------------------------------

    @cached_property
    def explanation(self) -> Explanation:
        """What the program was made from; of a program from the cache, passes run now."""
        return self._explain()

    @property
    def graph(self) -> Graph:
        """The optimised graph."""
        return self.explanation.graph

    @property
    def plan(self) -> Plan:
        """Steps, slots and buffers."""
        return self.explanation.plan

    @property
    def program(self) -> LoweredProgram:
        """The instructions, the kernels that they launch, and the table of pointers."""
        return self.explanation.program

    @property
    def host_steps(self) -> tuple[str, ...]:
        """What Python computes between kernels; programs that do so are not kept on disk."""
        return () if self.loaded else tuple(str(i) for i in self.program.instructions if isinstance(i, HostStep))

    @property
    def arena_nbytes(self) -> int:
        """The bytes that a call works in, beside arguments and results."""
        return self.calls.image.arena_nbytes

    @property
    def launches(self) -> list[Launch]:
        """Every launch, in order."""
        return self.program.launches

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels of the launches that have a kernel form."""
        return [x.kernel for x in self.launches if x.kernel is not None]

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of every kernel, by the kernel's name."""
        return {name_of(x.kernel): x.function.schedule for x in self.launches if x.kernel is not None}

    def source(self, form: str = "llvm") -> str:
        """The code of every kernel: "kernel" (the kernel form), "schedule" (how it runs), "llvm" or "asm"."""
        if form == "schedule":
            return format_all(self.schedules)
        if form == "kernel":
            return "\n\n".join(dict.fromkeys(map(str, self.kernels)))
        if form not in self.sources:
            return super().source(form)
        texts = (f.code.text for f in self.program.functions)
        return "\n\n".join(texts if form == "llvm" else map(assembly, texts))

    def tune(self, *arrays: Any, listener: Listener = lambda done, total, what: None) -> Tuning:
        """Measure other schedules for the costly kernels on these arrays, and keep the faster ones for whatever is compiled later."""
        bench = ProgramBench(self.explanation, self.calls, row_major(self.name, self.inputs, arrays))
        return tune(bench, host(), listener)

    def profile(self, *arrays: Any, repeats: int = 5) -> Profile:
        """Where the time of a call goes, kernel by kernel: the median one of some recorded calls."""
        return profile(self.explanation, self.calls, row_major(self.name, self.inputs, arrays), repeats)


def compile(graph: Graph, donations: Mapping[int, int] | None = None, threads: int | None = None) -> Executable:
    """An executable of the graph. `donations`: output number -> number of the input whose array it may take."""
    donations = donations or {}
    made = Explanation.of(graph, donations)
    overrides.current().finish()
    if sanitizing.is_on():
        return Executable(GuardedCalls(graph, made, donations, threads), lambda: made)
    image = Image.of(made.program, made.plan.arena_bytes)
    return Executable(NativeCalls(graph, image, donations, threads), lambda: made)


def kept(graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int],
         threads: int | None = None) -> Executable:
    """compile(optimise()), or the program that was kept on disk when this was done before.

    graph: the one that `optimise` begins with; options: in words, what else its result follows from.
    """
    chosen, given = choices.current(), overrides.current()
    key = program_key(graph, f"{options} {chosen} {given.key}", donations) if not sanitizing.is_on() else None
    found = images.load(key) if key else None
    if found is not None:
        def explain() -> Explanation:
            with choices.using(chosen), overrides.using(given):
                return Explanation.of(optimise(), donations)

        return Executable(NativeCalls(graph, found, donations, threads), explain, loaded=True)
    made = compile(optimise(), donations, threads)
    if key:
        images.store(key, made.calls.image, made.program)
    return made
