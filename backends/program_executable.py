"""Executables that call a program of kernels: what the backends share that compute so, whatever their kernels run on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from nagraph import choices
from nagraph.backends import interface
from nagraph.ir.cached import cached_property
from nagraph.ir.graph import Graph
from nagraph.kernel.form import Kernel
from nagraph.plan.plan import Plan
from nagraph.program.explanation import Explanation
from nagraph.program.instructions import Launch
from nagraph.program.lowered import LoweredProgram
from nagraph.schedule import overrides
from nagraph.schedule.text import format_all


class ProgramExecutable(interface.Executable):
    """An executable that calls a program of kernels: exe(*arrays) -> tuple of fresh arrays.

    calls: how arrays become results. explain: what the program was made from, asked for when someone looks at `graph`, `plan`,
    `program`, `memory`, `source` or `profile`. loaded: whether the program comes from the cache on disk.
    """

    has_fast_path = True

    def __init__(self, calls: Any, explain: Callable[[], Explanation], *, loaded: bool = False):
        self.calls, self.loaded = calls, loaded
        self.name, self.inputs = calls.signature.name, calls.signature.inputs
        self._explain = explain

    # -- calls ------------------------------------------------------------------------------------------------------

    def run(self, arrays: list[Any], donated: Mapping[int, Any]) -> tuple[Any, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one."""
        found: tuple[Any, ...] = self.calls.run(arrays, donated)
        return found

    @property
    def plain(self) -> Callable[[list[Any]], list[Any] | None]:
        """A function of a list of arrays: the outputs, or None if they are not just as the inputs want them."""
        found: Callable[[list[Any]], list[Any] | None] = self.calls.plain
        return found

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
    def launches(self) -> list[Launch]:
        """Every launch, in order."""
        return self.program.launches

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels of the launches that have a kernel form."""
        return [x.kernel for x in self.launches if x.kernel is not None]

    def source(self, form: str = "") -> str:
        """The code of every kernel: "kernel" (the kernel form), "schedule" (how it runs), or a form of the backend's own."""
        form = form or self.sources[0]
        if form == "schedule":
            return format_all(self.schedules)
        if form == "kernel":
            return "\n\n".join(dict.fromkeys(map(str, self.kernels)))
        return self.code(form) if form in self.sources else super().source(form)

    @abstractmethod
    def code(self, form: str) -> str:
        """The code of every kernel in a form of the backend's own, one of `sources`."""


def in_force(explain: Callable[[], Explanation]) -> Callable[[], Explanation]:
    """The function, whenever it is called, with the choices and the schedules that are in force now."""
    chosen, given = choices.current(), overrides.current()

    def later() -> Explanation:
        with choices.using(chosen), overrides.using(given):
            return explain()

    return later


def followed(options: str) -> str:
    """Options with what else is in force that a program follows from, choices and schedules: for its key."""
    return f"{options} {choices.current()} {overrides.current().key}"
