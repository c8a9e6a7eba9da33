"""Scripts: a program as its host sees it. What runs without the host is one segment, which can be captured; the rest asks the device first.

A scan is a part of its segment, all iterations one after another, unless that makes too many launches: then the host counts its iterations,
and the body is a segment. A while loop and a branch wait for one bool of the device. The verdict on labels is asked for as soon as it is
known, and waited for where the program would write donated arrays; by then the device is usually far behind the host, and has it ready.

A pointer that may be another one, since its array was donated, is known here. Where only the data could tell whether two are one (after a
while loop), the copy between them is made all the same: of an array to itself it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nagraph.backends.cuda.moves import COUNT, RAISE, ZERO, Row, row_of
from nagraph.program.instructions import Commit as Committed
from nagraph.program.instructions import Decide, Differ, End, Instruction, Jump, Launch, Loop, Phase, SetPointer, Swap
from nagraph.program.lowered import TableEntry

#: Launches, moves included, that a scan may make in its segment.
MOST_UNROLLED = 4096


class Moves(NamedTuple):
    """Moves of pointers and counters, together one launch."""

    rows: tuple[Row, ...]


Action = Launch | Moves


class Segment(NamedTuple):
    """Launches and moves that run one after another, whatever the data."""

    actions: tuple[Action, ...]


class Begin(NamedTuple):
    """The beginning of a loop that the host counts."""

    loop: int


class Repeat(NamedTuple):
    """The end of such a loop: back to operation `start`, until it was there `iterations` times."""

    loop: int
    iterations: int
    start: int


class Skip(NamedTuple):
    """A jump to operation `target`."""

    target: int


class Choose(NamedTuple):
    """A branch: go on if the bool at table[slot] is true, else at operation `otherwise`. The host waits for it."""

    slot: int
    otherwise: int


class Ask(NamedTuple):
    """A request for the verdict, which needs no waiting."""


class Await(NamedTuple):
    """The end of the call if the verdict is false, for which the host waits."""


class Commit(NamedTuple):
    """The point from which on a call comes to its end, whatever happens on the host."""


Operation = Segment | Begin | Repeat | Skip | Choose | Ask | Await | Commit


def script(instructions: Sequence[Instruction], table: Sequence[TableEntry], taken: Mapping[int, int]) -> tuple[Operation, ...]:
    """The script of a program's calls in which output j takes the array of input taken[j]."""
    return _Script(instructions, table, taken).made()


class _Script:
    """A script in the making."""

    def __init__(self, instructions: Sequence[Instruction], table: Sequence[TableEntry], taken: Mapping[int, int]):
        self.instructions, self.table, self.taken = instructions, table, taken
        self.begins = {i.loop: n for n, i in enumerate(instructions) if isinstance(i, Loop)}
        self.ends = {i.loop: n for n, i in enumerate(instructions) if isinstance(i, End)}
        self.verdict = next((slot for slot, e in enumerate(table) if e.kind == "verdict"), -1)
        self.targets = {i.otherwise if isinstance(i, Decide) else i.target for i in instructions if isinstance(i, (Decide, Jump))}
        self.operations: list[Operation] = []
        self.open: list[Action] = []
        #: Where an instruction's operations begin, for those that something jumps to.
        self.places: dict[int, int] = {}

    def made(self) -> tuple[Operation, ...]:
        judged = self._judged() if self.verdict >= 0 else -1
        if self.verdict >= 0:
            self.open.append(Moves((Row(RAISE, self.verdict),)))
        at, last = 0, len(self.instructions)
        while at <= last:
            if at in self.targets:
                self._mark(at)
            if at == judged:
                self._close(Ask())
            at = self._instruction(at, self.instructions[at]) if at < last else last + 1
        if self.verdict >= 0 and Await() not in self.operations:
            self._close(Await())
        self._close()
        return tuple(map(self._linked, self.operations))

    def _instruction(self, at: int, i: Instruction) -> int:
        """Add an instruction; the number of the one to go on with."""
        found = self._straight(at, i)
        if found is not None:
            actions, following = found
            self.open += actions
            return following
        match i:
            case Loop(loop):
                self.open.append(Moves((Row(ZERO, counter=loop),)))
                self._close(Begin(loop))
                self._mark(at + 1)
            case End(loop):
                self.open.append(Moves((Row(COUNT, counter=loop),)))
                begin = self.instructions[self.begins[loop]]
                assert isinstance(begin, Loop)
                self._close(Repeat(loop, begin.iterations, self.begins[loop] + 1))
            case Decide(slot, otherwise):
                self._close(Await() if slot == self.verdict else Choose(slot, otherwise))
            case Jump(target):
                self._close(Skip(target))
            case Committed():
                if self._body(at + 1, len(self.instructions)) is None:  # else all of it is queued at once
                    self._close(Commit())
            case _:
                raise AssertionError(i)
        return at + 1

    def _straight(self, at: int, i: Instruction) -> tuple[list[Action], int] | None:
        """An instruction, or a loop, as actions, and the number of the one that follows; None if the host has to be asked."""
        match i:
            case Phase(launches):
                return list(launches), at + 1
            case SetPointer() | Swap():
                return [Moves((row_of(i),))], at + 1
            case Differ(a, b, otherwise):
                return [], otherwise if self._are_one(a, b) else at + 1
            case Loop(loop, iterations):
                body = self._body(at + 1, self.ends[loop]) if iterations else []
                if body is not None and iterations * (len(body) + 1) <= MOST_UNROLLED:
                    iteration = _joined([*body, Moves((Row(COUNT, counter=loop),))])
                    return [Moves((Row(ZERO, counter=loop),)), *iteration * iterations], self.ends[loop] + 1
        return None

    def _body(self, at: int, end: int) -> list[Action] | None:
        """What stands from one instruction to another, as actions; None if the host has to be asked, or if it is too much."""
        actions: list[Action] = []
        while at < end:
            found = self._straight(at, self.instructions[at])
            if found is None or len(actions) > MOST_UNROLLED:
                return None
            more, at = found
            actions += more
        return actions

    def _are_one(self, a: int, b: int) -> bool:
        """Whether two pointers are the same in these calls: an argument, and the output that takes its array."""
        p, q = self.table[a], self.table[b]
        return p.kind == "input" and q.kind == "output" and self.taken.get(q.number) == p.number

    def _judged(self) -> int:
        """The first instruction, outside of loops and branches, before which the verdict is known."""
        last = max(n for n, i in enumerate(self.instructions) if isinstance(i, Phase)
                   for x in i.launches if self.verdict in x.slots[len(x.slots) - x.outputs:])
        inside = list(self._inside())
        return next(n for n in range(last + 1, len(self.instructions) + 1) if not any(a < n < b for a, b in inside))

    def _inside(self) -> Iterator[tuple[int, int]]:
        """What is passed over, or done again: from an instruction to another, both left out."""
        for n, i in enumerate(self.instructions):
            match i:
                case Loop(loop):
                    yield n, self.ends[loop] + 1
                case Decide(slot, otherwise) if slot != self.verdict:
                    yield n, otherwise
                case Differ(_, _, target) | Jump(target):
                    yield n, target

    # -- operations -----------------------------------------------------------------------------------------------

    def _mark(self, at: int) -> None:
        """Let jumps to an instruction lead here."""
        self._close()
        self.places[at] = len(self.operations)

    def _close(self, then: Operation | None = None) -> None:
        """End the segment in the making, and add another operation."""
        if self.open:
            self.operations.append(Segment(tuple(_joined(self.open))))
            self.open = []
        if then is not None:
            self.operations.append(then)

    def _linked(self, operation: Operation) -> Operation:
        """An operation whose jump leads to another operation, in place of an instruction."""
        match operation:
            case Repeat(start=start):
                return operation._replace(start=self.places[start])
            case Skip(target):
                return Skip(self.places[target])
            case Choose(slot, otherwise):
                return Choose(slot, self.places[otherwise])
        return operation


def _joined(actions: Sequence[Action]) -> list[Action]:
    """Actions with moves that follow on one another joined."""
    found: list[Action] = []
    for action in actions:
        if isinstance(action, Moves) and found and isinstance(found[-1], Moves):
            found[-1] = Moves(found[-1].rows + action.rows)
        else:
            found.append(action)
    return found
