"""Flow: a program's jumps become loops, branches and breaks of C."""

from __future__ import annotations

from collections.abc import Callable

from nagraph.c_text.text import Text
from nagraph.export.to_c.context import Names
from nagraph.export.to_c.expressions import inside
from nagraph.export.to_c.pointers import Pointers, moved
from nagraph.export.to_c.words import C99
from nagraph.ir.types import BOOL
from nagraph.program.instructions import Commit, Decide, Differ, End, Instruction, Jump, Launch, Loop, Phase, SetPointer, Swap

#: Iterations of a loop from which on it has no end of its own.
ENDLESS = 1 << 62


class Flow:
    """The statements of a program. call: the statement that a launch is."""

    def __init__(self, pointers: Pointers, names: Names, text: Text, call: Callable[[Launch], str]):
        self.pointers, self.text, self.call = pointers, text, call
        self.instructions: list[Instruction] = pointers.program.instructions
        self._ends = {i.loop: n for n, i in enumerate(self.instructions) if isinstance(i, End)}
        self._steps = {i.loop for i in self.instructions if isinstance(i, SetPointer) and i.step}
        self._names = names
        self._counters: dict[int, str] = {}

    def emit(self) -> None:
        """Write all of it."""
        self._span(0, len(self.instructions), None)

    def _span(self, at: int, stop: int, loop: int | None) -> None:
        """Write the instructions [at, stop), which stand in a loop, or in none."""
        while at < stop:
            at = self._one(at, loop)

    def _one(self, at: int, loop: int | None) -> int:
        """Write an instruction and what belongs to it; the number of the one after that."""
        i, line = self.instructions[at], self.text.line
        match i:
            case Phase(launches=launches):
                for x in launches:
                    line(self.call(x))
            case SetPointer():
                if i.target in self.pointers.moving:
                    line(f"{self.pointers.moving[i.target]} = {self._place(i)};")
            case Swap(a=a, b=b):
                self._swap(a, b)
            case Loop():
                end = self._ends[i.loop]
                with self.text.block(self._head(i)):
                    self._span(at + 1, end, i.loop)
                return end + 1
            case Decide(slot=slot, otherwise=otherwise):
                flag = inside(self.pointers.text(slot, BOOL))
                return self._branch(at, f"{flag}[0] != 0", f"{flag}[0] == 0", otherwise, loop)
            case Differ(a=a, b=b, otherwise=otherwise):
                return self._differ(at, a, b, otherwise, loop)
            case Commit():
                pass
            case _:
                raise AssertionError(i)
        return at + 1

    def _differ(self, at: int, a: int, b: int, otherwise: int, loop: int | None) -> int:
        """What is done unless two pointers are one: known here, but for those that move."""
        moving = self.pointers.moving
        dtype = next((self.pointers.dtypes[n] for n in (a, b) if n in moving), BOOL)
        x, y = self.pointers.text(a, dtype), self.pointers.text(b, dtype)
        if a in moving or b in moving:
            return self._branch(at, f"{x} != {y}", f"{x} == {y}", otherwise, loop)
        if x != y:
            self._span(at + 1, otherwise, loop)
        return otherwise

    def _branch(self, at: int, condition: str, contrary: str, otherwise: int, loop: int | None) -> int:
        """A jump to `otherwise` unless a condition holds: out of the loop, over what follows, or to the other branch."""
        if loop is not None and otherwise == self._ends[loop] + 1:
            with self.text.block(f"if ({contrary})"):
                self.text.line("break;")
            return at + 1
        last = self.instructions[otherwise - 1]
        if isinstance(last, Jump) and last.target >= otherwise:
            with self.text.block(f"if ({condition})"):
                self._span(at + 1, otherwise - 1, loop)
            if last.target > otherwise:
                with self.text.block("else"):
                    self._span(otherwise, last.target, loop)
            return last.target
        if otherwise > at + 1:
            with self.text.block(f"if ({condition})"):
                self._span(at + 1, otherwise, loop)
        return otherwise

    def _head(self, i: Loop) -> str:
        """The head of a loop, whose counter counts for pointers that move."""
        if i.iterations >= ENDLESS and i.loop not in self._steps:
            return "for (;;)"
        name = self._counters[i.loop] = self._names.new("step")
        kind = "int" if i.iterations < 1 << 31 else "int64_t"
        return f"for ({kind} {name} = 0; {name} < {i.iterations}; ++{name})"

    def _place(self, i: SetPointer) -> str:
        """Where a pointer is set to."""
        dtype = self.pointers.dtypes[i.target]
        text = moved(self.pointers.text(i.source, dtype), i.offset, dtype)
        if not i.step:
            return text
        counter, count = self._counters[i.loop], i.step // dtype.itemsize
        return f"{text} + {f'({i.length - 1} - {counter})' if i.reverse else counter} * {count}"

    def _swap(self, a: int, b: int) -> None:
        x, y = self.pointers.moving[a], self.pointers.moving[b]
        const = "" if a in self.pointers.written else "const "
        with self.text.block():
            self.text.line(f"{const}{C99.memory_type(self.pointers.dtypes[a])} *const other = {x};")
            self.text.line(f"{x} = {y};")
            self.text.line(f"{y} = other;")
