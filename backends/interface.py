"""The interface of a backend: all that the rest of the house knows of it, and asks it for.

A backend is a package with an object `BACKEND` of a subclass of `Backend`: a folder here, or installed from elsewhere under the entry-point
group `nagraph.backends` (`nagraph.backends.find`). Nothing else is asked of it, and nothing is found out by its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nagraph.arrays import HOST, ArrayKind, register
from nagraph.backends.arguments import checked
from nagraph.errors import SignatureError
from nagraph.ir.graph import Graph, Value
from nagraph.ir.types import DTYPES, DType
from nagraph.suggestions import suggestion

if TYPE_CHECKING:  # looking for backends loads no plan
    from nagraph.kernel.form import Kernel
    from nagraph.plan.arena_report import ArenaReport
    from nagraph.plan.plan import Plan
    from nagraph.schedule.overrides import ScheduleForm
    from nagraph.schedule.target import Target
    from nagraph.schedule.tuning import Listener, Tuning


class Agreement(NamedTuple):
    """What a backend promises of the bits of its results; `tests/test_guarantees.py` holds it to that.

    reference: whether all ops give the bits of their NumPy references. Where not, it is the column `compiled` of the table in
    docs/guarantees.md: same bits, or units in the last place, or a sum in an order of the backend's own.
    repeated: whether calls with equal arguments give equal bits, in one process and from one to the next on the same machine.
    threads: whether that holds for any number of threads.
    """

    reference: bool
    repeated: bool = True
    threads: bool = True


class Executable(ABC):
    """An executable is a graph that a backend has compiled: exe(*arrays) gives the tuple of its outputs.

    Results are fresh arrays, never aliases of arguments, of one another or of memory that a later call writes.
    """

    #: The kind of the arrays that it takes and gives: that of its backend.
    array_kind: ArrayKind = HOST
    #: The name of the graph, for errors.
    name: str
    #: The inputs of the graph that was compiled, in order.
    inputs: tuple[Value, ...]
    #: The optimised graph, and its plan: steps, slots, buffers. They may be properties, worked out when they are looked at.
    graph: Graph
    plan: Plan
    #: Whether it came from the backend's cache on disk.
    loaded: bool = False
    #: Whether `plain` is worth asking.
    has_fast_path: ClassVar[bool] = False
    #: Which forms of its code `source` knows.
    sources: ClassVar[tuple[str, ...]] = ()

    @property
    def host_steps(self) -> tuple[str, ...]:
        """What Python computes between kernels, for which line, and how many bytes are copied for it; one sentence each."""
        return ()

    @property
    def memory(self) -> ArenaReport:
        """What lives in the arena, where, and from which step to which."""
        from nagraph.plan.arena_report import ArenaReport

        return ArenaReport.of(self.plan)

    @property
    def donated(self) -> dict[int, str]:
        """For each output that may take a donated argument, by its number, what becomes of the argument's array: a sentence's end."""
        from nagraph.plan.donated import fates

        return fates(self.plan)

    @property
    def arena_nbytes(self) -> int:
        """The bytes that a call works in, beside arguments and results."""
        return self.plan.arena_bytes

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        """The outputs for arrays of the inputs' types, of whatever kind, in any order of storage. Raises SignatureError."""
        return self.run(checked(self.name, self.inputs, arrays, self.array_kind), {})

    @abstractmethod
    def run(self, arrays: list[Any], donated: Mapping[int, Any]) -> tuple[Any, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one.

        Arrays and outputs are of the kind `array_kind`, all on one device, where it runs.
        """

    def plain(self, arrays: list[Any]) -> list[Any] | None:
        """The outputs, if these are arrays just as the inputs want them; None if they are not, and nothing was done.

        It checks and runs in one. Calls under `jit` ask for it where `has_fast_path` says so.
        """
        return None

    @property
    def resources(self) -> tuple[Any, ...]:
        """What each kernel takes of the device that it was compiled for. SignatureError where the backend does not tell."""
        raise SignatureError(f"{self.name}: its backend does not tell what kernels take of a device")

    @property
    def schedules(self) -> dict[str, Any]:
        """The schedule of every kernel, by the kernel's name (`nagraph.schedule`). SignatureError where the backend has none."""
        raise SignatureError(f"{self.name}: its backend has no schedules")

    def schedule(self, kernel: Kernel | str) -> Any:
        """How a kernel runs, which is given by itself or by its name. Raises SignatureError."""
        from nagraph.schedule.names import name_of

        name, known = kernel if isinstance(kernel, str) else name_of(kernel), self.schedules
        if name not in known:
            raise SignatureError(f"{self.name} has no kernel {name!r}{suggestion(name, known)}; it has {', '.join(known) or 'none'}")
        return known[name]

    def source(self, form: str = "") -> str:
        """The code that runs, in one of the forms of `sources`; the first one if none is named. Raises SignatureError."""
        raise SignatureError(f"there is no source {form!r}; there is {' and '.join(self.sources) or 'none for this backend'}")

    def tune(self, *arrays: Any, listener: Listener = lambda done, total, what: None) -> Tuning:
        """Measure other schedules for the costly kernels on these arrays, and keep the faster ones for whatever is compiled later.

        listener: told of progress. SignatureError where the backend has no schedules.
        """
        raise SignatureError(f"{self.name}: its backend has no schedules")

    def profile(self, *arrays: Any, repeats: int = 5) -> Any:
        """Where the time of a call goes, kernel by kernel. SignatureError where the backend can't tell."""
        raise SignatureError(f"{self.name}: its backend has no profiles")


class Backend(ABC):
    """A backend makes executables of optimised graphs."""

    #: What users call it: the name of its folder, or of its entry point.
    name: str
    #: The passes that `compile` runs for it when nothing else is asked for, as text. A composite that the backend computes whole, as one
    #: call, is named there: `expand{keep=('attention',)}`; all others are opened, and come as their ops.
    pipeline: str
    #: The dtypes that its arrays can have; a graph with others is refused before it is compiled.
    dtypes: frozenset[DType] = frozenset(DTYPES.values())
    agreement: Agreement
    #: The kind of the arrays that its executables take and give: NumPy's, or those of a library whose arrays live on a device.
    array_kind: ArrayKind = HOST

    def target(self) -> Target | None:
        """The machine that kernels are scheduled for (`nagraph.schedule`); None where the backend has no such schedules."""
        return None

    def schedule_form(self) -> ScheduleForm | None:
        """The form of the schedules that can be given for its kernels, if it is not that of `nagraph.schedule`."""
        return None

    def aimed_at(self, target: str) -> Backend:
        """This backend as it compiles for the machine of this name, which need not be this one; calls then need a device of that kind.

        SignatureError if there is none of this name, or if it compiles for the machine that it runs on alone, as here.
        """
        raise SignatureError(f"backend {self.name!r} compiles for the machine that it runs on, and has no target {target!r:.80}")

    def with_tf32(self) -> Backend:
        """This backend as it multiplies float32 by tensor cores, rounded to the 11 bits of tf32. SignatureError if it can't."""
        raise SignatureError(f"backend {self.name!r} multiplies float32 as it is: it has no tf32, leave that out")

    def missing(self) -> str:
        """Why it can't be used here, as one sentence that says what to install or which device is missing; "" if it can."""
        return ""

    def about(self) -> dict[str, str]:
        """What `nagraph info` tells of it beside whether it can be used: devices, drivers, versions, by name."""
        return {}

    @abstractmethod
    def compile(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None) -> Executable:
        """An executable of an optimised graph.

        donations: output number -> number of the input whose array it may take. threads: None for as many as there are cores.
        """

    def compiled(self, graph: Graph, options: str, optimise: Callable[[], Graph], donations: Mapping[int, int],
                 threads: int | None = None) -> Executable:
        """compile(optimise()), or what the backend kept on disk when this was done before. Here nothing is kept.

        graph: what `optimise` begins with. options: in words, what else its result follows from.
        """
        return self.compile(optimise(), donations, threads)


def introduced(found: Any, name: str, where: str) -> Backend:
    """What was found as the backend of this name, with the kind of its arrays made known.

    where: where it was found, for errors. SignatureError if it is no backend, or has another name.
    """
    if not isinstance(found, Backend):
        raise SignatureError(f"backend {name!r} is {where}, which is no Backend: {found!r:.80}")
    if found.name != name:
        raise SignatureError(f"backend {name!r} is {where}, which calls itself {found.name!r}; give both one name")
    register(found.array_kind)
    return found
