"""Executables of the LLVM backend: the calls of a native program, and what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nagraph import sanitizing
from nagraph.backends.arguments import row_major
from nagraph.backends.llvm.calls.native_calls import NativeCalls
from nagraph.backends.llvm.calls.sanitizer import GuardedCalls
from nagraph.backends.llvm.measuring.profiling import profile
from nagraph.backends.llvm.measuring.tuning import ProgramBench
from nagraph.backends.llvm.native.machine_code import assembly
from nagraph.backends.llvm.program import images
from nagraph.backends.llvm.program.functions import kernel_of
from nagraph.backends.llvm.program.images import Image
from nagraph.backends.llvm.text.target import host
from nagraph.backends.program_executable import ProgramExecutable, followed, in_force
from nagraph.ir.graph import Graph
from nagraph.measuring.profile import Profile
from nagraph.program.explanation import Explanation
from nagraph.program.instructions import HostStep
from nagraph.program.keys import program_key
from nagraph.schedule import overrides
from nagraph.schedule.form import Schedule
from nagraph.schedule.names import name_of
from nagraph.schedule.tuning import Listener, Tuning, tune


class Executable(ProgramExecutable):
    """An executable that calls a native program."""

    sources = ("llvm", "asm", "kernel", "schedule")
    calls: NativeCalls | GuardedCalls

    @property
    def host_steps(self) -> tuple[str, ...]:
        """What Python computes between kernels; programs that do so are not kept on disk."""
        return () if self.loaded else tuple(str(i) for i in self.program.instructions if isinstance(i, HostStep))

    @property
    def arena_nbytes(self) -> int:
        """The bytes that a call works in, beside arguments and results."""
        return self.calls.image.arena_nbytes

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The schedule of every kernel, by the kernel's name."""
        return {name_of(x.kernel): x.function.schedule for x in self.launches if x.kernel is not None}

    def code(self, form: str) -> str:
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
    made = Explanation.of(graph, donations, kernel_of)
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
    key = program_key(graph, followed(options), donations) if not sanitizing.is_on() else None
    found = images.load(key) if key else None
    if found is not None:
        explain = in_force(lambda: Explanation.of(optimise(), donations, kernel_of))
        return Executable(NativeCalls(graph, found, donations, threads), explain, loaded=True)
    made = compile(optimise(), donations, threads)
    if key:
        images.store(key, made.calls.image, made.program)
    return made
