"""Lowered programs: instructions, the table of pointers that they work on, and constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from nagraph.program.instructions import Commit, Decide, Differ, Instruction, Jump, Launch, Phase

Array = np.ndarray[Any, Any]
#: Launches of a phase: each new one is compared with all of them.
MOST_LAUNCHES = 64


class TableEntry(NamedTuple):
    """Where a pointer of the table comes from: the arena (number is an offset), an input, an output, a constant.

    "moving": instructions set it.
    "donated": the array that takes an output whose value can't be written there before all is read. "verdict": the call's bool that
    begins as true, and is made false by whatever finds that the call ends with an error.
    """

    kind: str
    number: int
    nbytes: int


class LoweredProgram:
    """A plan as instructions, the entries of its table of pointers, and its constant arrays.

    donations: output number -> number of the input whose array it may take.
    """

    def __init__(self, donations: Mapping[int, int]):
        self.instructions: list[Instruction] = []
        self.table: list[TableEntry] = []
        self.constants: list[Array] = []
        #: The branch that ends the call, before anything donated is written, if its verdict is false.
        self.rejected: int | None = None
        self._numbers: dict[TableEntry, int] = {}
        self._loops = 0
        self._donations = donations
        self._open: list[Launch] = []

    @property
    def launches(self) -> list[Launch]:
        """Every launch, in order."""
        return [x for i in self.instructions if isinstance(i, Phase) for x in i.launches]

    @property
    def functions(self) -> list[Any]:
        """What the backend made of kernels and sorts, each once, in the order of the launches."""
        return list({id(x.function): x.function for x in self.launches}.values())

    def pointer(self, entry: TableEntry) -> int:
        """The number of an entry of the table, which is added if it is new."""
        if entry not in self._numbers:
            self._numbers[entry] = len(self.table)
            self.table.append(entry)
        return self._numbers[entry]

    def arena(self, offset: int, nbytes: int) -> int:
        """The pointer to bytes of the arena."""
        return self.pointer(TableEntry("arena", offset, nbytes))

    def verdict(self) -> int:
        """The pointer to the call's verdict."""
        return self.pointer(TableEntry("verdict", 0, 1))

    def commit(self) -> None:
        """From here on donated arrays are written, unless the call ends with an error: then it ends here. Once in a program."""
        if not any(isinstance(i, Commit) for i in self.instructions):
            if TableEntry("verdict", 0, 1) in self._numbers:
                self.rejected = self.add(Decide(self.verdict(), -1))
            self.add(Commit())

    def constant(self, array: Array) -> int:
        """The pointer to a constant array."""
        self.constants.append(np.ascontiguousarray(array))
        return self.pointer(TableEntry("constant", len(self.constants) - 1, array.nbytes))

    def moving(self) -> int:
        """A new pointer that instructions set."""
        self.table.append(TableEntry("moving", len(self.table), 0))
        return len(self.table) - 1

    def loop(self) -> int:
        """The number of a new loop."""
        self._loops += 1
        return self._loops - 1

    # -- instructions -----------------------------------------------------------------------------------------

    def add(self, instruction: Instruction) -> int:
        """Add an instruction behind the phase in the making; its number."""
        self.flush()
        self.instructions.append(instruction)
        return len(self.instructions) - 1

    def flush(self) -> None:
        """End the phase in the making."""
        if self._open:
            self.instructions.append(Phase(tuple(self._open)))
            self._open = []

    def launch(self, launch: Launch) -> None:
        """One more launch: in the phase in the making, unless it needs to wait for a launch there."""
        if len(self._open) == MOST_LAUNCHES or any(self._conflict(launch, other) for other in self._open):
            self.flush()
        self._open.append(launch)

    def _conflict(self, a: Launch, b: Launch) -> bool:
        """Whether one writes what the other reads or writes."""
        for x, y in ((a, b), (b, a)):
            written = x.slots[len(x.slots) - x.outputs:]
            if any(self._meet(w, s) for w in written for s in y.slots):
                return True
        return False

    def _meet(self, a: int, b: int) -> bool:
        """Whether two pointers may lead to the same bytes."""
        p, q = self.table[a], self.table[b]
        if a == b or "moving" in (p.kind, q.kind):
            return True
        if p.kind == q.kind == "arena":
            return p.number < q.number + q.nbytes and q.number < p.number + p.nbytes
        return bool(self._donations) and {p.kind, q.kind} == {"input", "output"}

    def _are_one(self, a: int, b: int) -> bool:
        """Whether two pointers are the same address if an argument is donated."""
        p, q = self.table[a], self.table[b]
        return p.kind == "input" and q.kind == "output" and self._donations.get(q.number) == p.number

    @contextmanager
    def unless_same(self, a: int, b: int, known: bool = False) -> Iterator[None]:
        """What is added inside is passed over where two pointers are the same address, if that can be; `known`: it can."""
        if not known and not self._are_one(a, b):
            yield
            return
        at = self.add(Differ(a, b, -1))
        yield
        self.patch(at, self.here())

    def patch(self, at: int, target: int) -> None:
        """Let the jump at an instruction lead to another."""
        old = self.instructions[at]
        assert isinstance(old, (Decide, Differ, Jump))
        self.instructions[at] = Jump(target) if isinstance(old, Jump) else old._replace(otherwise=target)

    def here(self) -> int:
        """The number of the next instruction, for jumps."""
        self.flush()
        return len(self.instructions)
