"""Executables of the CUDA backend: the calls of a program on a device, and what it was made from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nagraph import choices
from nagraph.arrays import ArrayKind
from nagraph.backends import interface
from nagraph.backends.arguments import checked
from nagraph.backends.cuda import images, nvrtc
from nagraph.backends.cuda.calls import Calls
from nagraph.backends.cuda.cupy_driver import DRIVER as DRIVER
from nagraph.backends.cuda.driver import Driver, Function
from nagraph.backends.cuda.image import Image, is_product
from nagraph.backends.cuda.profiling import profile
from nagraph.backends.cuda.resources import Resources
from nagraph.backends.cuda.target import target_of
from nagraph.backends.gpu.lines import with_lines
from nagraph.backends.gpu.products.library import chosen
from nagraph.backends.gpu.strategy import AnySchedule, choose_any
from nagraph.ir.cached import cached_property
from nagraph.ir.graph import Graph, Node
from nagraph.kernel.form import Kernel
from nagraph.measuring.profile import Profile
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.plan.plan import Plan
from nagraph.program.instructions import Launch, Phase
from nagraph.program.keys import program_key
from nagraph.program.lowered import LoweredProgram
from nagraph.program.lowering import lower


class Explanation(NamedTuple):
    """What a program was made from: the optimised graph, its plan, and the program as instructions, whose launches have GPU text."""

    graph: Graph
    plan: Plan
    program: LoweredProgram

    @classmethod
    def of(cls, graph: Graph, donations: Mapping[int, int], driver: Driver, architecture: str) -> Explanation:
        planner, plan = kernel_plan(graph, donations)
        program = lower(planner, plan, lambda work: driver.function(work, architecture), host=False)
        _without_moving_products(program, functools.cache(lambda kernel: driver.function(kernel, architecture, library=False)))
        return cls(graph, plan, program)


def _without_moving_products(program: LoweredProgram, own: Callable[[Kernel | None], Any]) -> None:
    """Let no library compute a product whose operands move from iteration to iteration: it is told their addresses by the host."""
    def launch(x: Launch) -> Launch:
        moves = is_product(x.function) and any(program.table[s].kind == "moving" for s in x.slots)
        return x._replace(function=own(x.kernel)) if moves else x

    for at, i in enumerate(program.instructions):
        if isinstance(i, Phase):
            program.instructions[at] = Phase(tuple(map(launch, i.launches)))


class Executable(interface.Executable):
    """An executable on a CUDA device: exe(*arrays) -> tuple of fresh arrays, queued on the current stream.

    explain: what the program was made from, asked for when someone looks at `graph`, `plan`, `program`, `memory`, `source`. loaded:
    whether the program comes from the cache on disk.
    """

    has_fast_path = True
    sources = ("cuda", "ptx", "kernel", "schedule")

    def __init__(self, calls: Calls, explain: Callable[[], Explanation], *, loaded: bool = False):
        self.calls, self.loaded = calls, loaded
        self.name, self.inputs = calls.signature.name, calls.signature.inputs
        self.array_kind: ArrayKind = calls.driver.kind
        self._explain = explain

    # -- calls ------------------------------------------------------------------------------------------------------

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        self.calls.driver.device()  # says what is missing before anything is copied
        return self.run(checked(self.name, self.inputs, arrays, self.array_kind), {})

    def run(self, arrays: list[Any], donated: Mapping[int, Any]) -> tuple[Any, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one."""
        return self.calls.run(arrays, donated)

    @property
    def plain(self) -> Callable[[list[Any]], list[Any] | None]:
        """A function of a list of arrays: the outputs, or None if they are not just as the inputs want them."""
        return self.calls.plain

    # -- what it was made from --------------------------------------------------------------------------------------

    @property
    def architecture(self) -> str:
        """What it was compiled for: sm_90."""
        return self.calls.image.architecture

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
    def arena_nbytes(self) -> int:
        """The bytes that a call works in, beside arguments and results: the plan's, and what tiles in device memory take."""
        return self.calls.image.arena_nbytes + self.calls.image.scratch_nbytes

    @property
    def launches(self) -> list[Launch]:
        """Every launch, in order."""
        return self.program.launches

    @property
    def resources(self) -> tuple[Resources, ...]:
        """What each function takes of a device, in the order of the launches: registers, shared memory, occupancy."""
        functions = {f.name: f for f in self.calls.image.functions if isinstance(f, Function)}
        counts: dict[str, int] = {}
        for x in self.launches:
            if not is_product(x.function):
                counts[x.function.name] = counts.get(x.function.name, 0) + 1
        return tuple(Resources.of(functions[name], count, self.architecture) for name, count in counts.items())

    @property
    def product_choices(self) -> dict[str, str]:
        """For each function with matrix products, whether a library or tiles of ours compute it, and why."""
        target, found = target_of(self.architecture), {}
        for x in self.launches:
            choice = chosen(x.kernel, target) if x.kernel is not None and x.function.name not in found else None
            if choice is not None:
                found[x.function.name] = choice.reason
        return found

    @property
    def schedules(self) -> dict[str, AnySchedule]:
        """How each kernel runs, by the name of its function; what a library computes has no schedule."""
        target = target_of(self.architecture)
        return {x.function.name: choose_any(x.kernel, target) for x in self.launches if x.kernel is not None and not is_product(x.function)}

    def source(self, form: str = "cuda") -> str:
        """The code of every kernel: "kernel" (the kernel form), "schedule" (how it runs), "cuda" (CUDA C++, behind the lines of user code
        that it computes) or "ptx".
        """
        if form == "schedule":
            return "\n\n".join(f"{name} {schedule}" for name, schedule in self.schedules.items())
        if form == "kernel":
            return "\n\n".join(dict.fromkeys(str(x.kernel) for x in self.launches if x.kernel is not None))
        if form not in self.sources:
            return super().source(form)
        texts = [f for f in {f.name: f for f in self.program.functions if not is_product(f)}.values()]
        if form == "ptx":
            return "\n\n".join(nvrtc.ptx(texts, self.architecture))
        nodes: dict[str, list[Node | None]] = {f.name: [] for f in texts}
        for x in self.launches:
            if not is_product(x.function):
                nodes[x.function.name].append(x.node)
        return "\n\n".join(with_lines(f, nodes[f.name]) for f in texts)

    def profile(self, *arrays: Any, repeats: int = 5) -> Profile:
        """Where the time of a call goes, kernel by kernel: the median one of some calls whose launches are marked by events."""
        return profile(self.explanation, self.calls, checked(self.name, self.inputs, arrays, self.array_kind), repeats)


def compile(graph: Graph, donations: Mapping[int, int], driver: Driver, architecture: str) -> Executable:
    """An executable of the graph. `donations`: output number -> number of the input whose array it may take."""
    made = Explanation.of(graph, donations, driver, architecture)
    image = Image.of(made.program, made.plan.arena_bytes, driver, architecture)
    return Executable(Calls(graph, image, donations, driver), lambda: made)


def kept(graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int], driver: Driver,
         architecture: str) -> Executable:
    """compile(optimise()), or the program that was kept on disk when this was done before.

    graph: the one that `optimise` begins with; options: in words, what else its result follows from.
    """
    chosen = choices.current()
    key = program_key(graph, f"{options} {chosen} {architecture} {nvrtc.key()}", donations)
    found = images.load(key) if key else None
    if found is not None:
        def explain() -> Explanation:
            with choices.using(chosen):
                return Explanation.of(optimise(), donations, driver, architecture)

        return Executable(Calls(graph, found, donations, driver), explain, loaded=True)
    made = compile(optimise(), donations, driver, architecture)
    if key:
        images.store(key, made.calls.image)
    return made
