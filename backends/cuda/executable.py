"""Executables of the CUDA backend: the calls of a program on a device, and what it was made from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nagraph.backends.arguments import checked
from nagraph.backends.cuda import images, nvrtc
from nagraph.backends.cuda.calls import Calls
from nagraph.backends.cuda.cupy_driver import DRIVER as DRIVER
from nagraph.backends.cuda.driver import Driver, Function
from nagraph.backends.cuda.image import Image, is_product
from nagraph.backends.cuda.profiling import profile
from nagraph.backends.cuda.resources import Resources
from nagraph.backends.cuda.target import target_of as target_of
from nagraph.backends.gpu.lines import with_lines
from nagraph.backends.gpu.products.library import chosen
from nagraph.backends.gpu.schedule_text import FORM as FORM
from nagraph.backends.gpu.target import GpuTarget
from nagraph.backends.program_executable import ProgramExecutable, followed, in_force
from nagraph.errors import SignatureError
from nagraph.ir.graph import Graph, Node
from nagraph.kernel.form import Kernel
from nagraph.measuring.profile import Profile
from nagraph.program.explanation import Explanation
from nagraph.program.instructions import Launch, Phase
from nagraph.program.keys import program_key
from nagraph.program.lowered import LoweredProgram
from nagraph.schedule import overrides
from nagraph.schedule.names import name_of

if TYPE_CHECKING:  # nothing is tuned here
    from nagraph.schedule.tuning import Listener, Tuning


def _explained(graph: Graph, donations: Mapping[int, int], driver: Driver, target: GpuTarget) -> Explanation:
    """What the program of a graph is made from, with the functions that its launches call on a target."""
    made = Explanation.of(graph, donations, lambda work: driver.function(work, target), host=False)
    _without_moving_products(made.program, functools.cache(lambda kernel: driver.function(kernel, target, library=False)))
    return made


def _without_moving_products(program: LoweredProgram, own: Callable[[Kernel | None], Any]) -> None:
    """Let no library compute a product whose operands move from iteration to iteration: it is told their addresses by the host."""
    def launch(x: Launch) -> Launch:
        moves = is_product(x.function) and any(program.table[s].kind == "moving" for s in x.slots)
        return x._replace(function=own(x.kernel)) if moves else x

    for at, i in enumerate(program.instructions):
        if isinstance(i, Phase):
            program.instructions[at] = Phase(tuple(map(launch, i.launches)))


class Executable(ProgramExecutable):
    """An executable on a CUDA device, whose calls are queued on the current stream. target: what it was compiled for."""

    sources = ("cuda", "ptx", "kernel", "schedule")
    calls: Calls

    def __init__(self, calls: Calls, explain: Callable[[], Explanation], target: GpuTarget, *, loaded: bool = False):
        super().__init__(calls, explain, loaded=loaded)
        self.target, self.array_kind = target, calls.driver.kind

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        self.calls.driver.device()  # says what is missing before anything is copied
        return self.run(checked(self.name, self.inputs, arrays, self.array_kind), {})

    @property
    def architecture(self) -> str:
        """What it was compiled for: sm_90."""
        return self.target.name

    @property
    def arena_nbytes(self) -> int:
        """The bytes that a call works in, beside arguments and results: the plan's, and what tiles in device memory take."""
        return self.calls.image.arena_nbytes + self.calls.image.scratch_nbytes

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
        found: dict[str, str] = {}
        for x in self.launches:
            choice = chosen(x.kernel, self.target) if x.kernel is not None and x.function.name not in found else None
            if choice is not None:
                found[x.function.name] = choice.reason
        return found

    @property
    def schedules(self) -> dict[str, Any]:
        """How each kernel runs (`GpuSchedule`, `BlockSchedule`), by the kernel's name; what a library computes has no schedule."""
        return {name_of(x.kernel): x.function.schedule for x in self.launches if x.kernel is not None and not is_product(x.function)}

    def code(self, form: str) -> str:
        """CUDA C++, behind the lines of user code that it computes, or PTX."""
        texts = [f for f in {f.name: f for f in self.program.functions if not is_product(f)}.values()]
        if form == "ptx":
            return "\n\n".join(nvrtc.ptx(texts, self.architecture))
        nodes: dict[str, list[Node | None]] = {f.name: [] for f in texts}
        for x in self.launches:
            if not is_product(x.function):
                nodes[x.function.name].append(x.node)
        return "\n\n".join(with_lines(f, nodes[f.name]) for f in texts)

    def tune(self, *arrays: Any, listener: Listener = lambda done, total, what: None) -> Tuning:
        """SignatureError: nothing measures schedules on a GPU."""
        raise SignatureError(f"{self.name}: the CUDA backend has no tuner, its schedules follow from rules; "
                             f"give others by ng.compile(graph, backend='cuda', schedules={{name: schedule}})")

    def profile(self, *arrays: Any, repeats: int = 5) -> Profile:
        """Where the time of a call goes, kernel by kernel: the median one of some calls whose launches are marked by events."""
        return profile(self.explanation, self.calls, checked(self.name, self.inputs, arrays, self.array_kind), repeats)


def compile(graph: Graph, donations: Mapping[int, int], driver: Driver, target: GpuTarget) -> Executable:
    """An executable of the graph. `donations`: output number -> number of the input whose array it may take."""
    made = _explained(graph, donations, driver, target)
    overrides.current().finish()
    image = Image.of(made.program, made.plan.arena_bytes, driver, target.name)
    return Executable(Calls(graph, image, donations, driver), lambda: made, target)


def kept(graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int], driver: Driver,
         target: GpuTarget) -> Executable:
    """compile(optimise()), or the program that was kept on disk when this was done before.

    graph: the one that `optimise` begins with; options: in words, what else its result follows from.
    """
    key = program_key(graph, f"{followed(options)} {target} {nvrtc.key()}", donations)
    found = images.load(key) if key else None
    if found is not None:
        explain = in_force(lambda: _explained(optimise(), donations, driver, target))
        return Executable(Calls(graph, found, donations, driver), explain, target, loaded=True)
    made = compile(optimise(), donations, driver, target)
    if key:
        images.store(key, made.calls.image)
    return made
