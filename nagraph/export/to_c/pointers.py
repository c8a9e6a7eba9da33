"""Pointers: what each entry of a program's table is called in C, and to elements of which dtype it points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nagraph.c_text.text import Text
from nagraph.export.to_c.context import Names, memory_name
from nagraph.export.to_c.words import C99
from nagraph.ir.types import BOOL, DType
from nagraph.program.instructions import Decide, Launch, SetPointer, SortTask, Swap
from nagraph.program.lowered import LoweredProgram


class Pointers:
    """The pointers of a program. named: for inputs, outputs and constants, by kind and number, what they are called.

    Bytes of the arena have the dtype of whoever uses them; what moves has one.
    """

    def __init__(self, program: LoweredProgram, named: Mapping[tuple[str, int], str], names: Names):
        self.program = program
        self.dtypes, self.written = self._dtypes(), self._written()
        self._named = dict(named)
        #: Those that instructions set.
        self.moving = {n: names.new("at") for n, e in enumerate(program.table) if e.kind == "moving" and n in self.dtypes}

    def text(self, slot: int, dtype: DType) -> str:
        """The expression of a pointer to elements of a dtype."""
        entry = self.program.table[slot]
        if entry.kind == "moving":
            return self.moving[slot]
        if entry.kind == "verdict":
            return "verdict"
        if entry.kind == "arena":
            return moved(f"arena.{memory_name(dtype)}", entry.number, dtype)
        return self._named[entry.kind, entry.number]

    def declare(self, text: Text) -> None:
        """The declarations of those that instructions set."""
        for slot, name in self.moving.items():
            text.line(f"{'' if slot in self.written else 'const '}{C99.memory_type(self.dtypes[slot])} *{name};")

    # -- what they point to ---------------------------------------------------------------------------------------

    def _dtypes(self) -> dict[int, DType]:
        """The dtype behind each pointer that moves: that of what reads or writes it, also by way of others."""
        found: dict[int, DType] = {}
        moves = {n for n, e in enumerate(self.program.table) if e.kind == "moving"}
        for x in self.program.launches:
            for slot, dtype in zip(x.slots, operands_of(x), strict=True):
                assert slot not in moves or found.setdefault(slot, dtype) == dtype, "what moves has one dtype"
        found |= {i.slot: BOOL for i in self.program.instructions if isinstance(i, Decide) and i.slot in moves}
        pairs = [(i.target, i.source) if isinstance(i, SetPointer) else (i.a, i.b) for i in self.program.instructions
                 if isinstance(i, (SetPointer, Swap))]
        size = -1
        while len(found) > size:
            size = len(found)
            for pair in pairs:
                for x, y in (pair, pair[::-1]):
                    if x in found and y in moves:
                        found.setdefault(y, found[x])
        return found

    def _written(self) -> set[int]:
        """The pointers that something is written through, also by way of others."""
        found = {slot for x in self.program.launches for slot in x.slots[len(x.slots) - x.outputs:]}
        moves = [(i.target, i.source) for i in self.program.instructions if isinstance(i, SetPointer)]
        swaps = [pair for i in self.program.instructions if isinstance(i, Swap) for pair in ((i.a, i.b), (i.b, i.a))]
        size = -1
        while len(found) > size:
            size = len(found)
            found |= {source for target, source in (*moves, *swaps) if target in found}
        return found


def operands_of(x: Launch) -> Sequence[DType]:
    """The dtypes of what a launch reads and writes."""
    if x.kernel is not None:
        return x.kernel.operands
    task = x.function.work
    assert isinstance(task, SortTask)
    return task.type.dtype, task.op.infer(task.type).dtype


def moved(pointer: str, nbytes: int, dtype: DType) -> str:
    """A pointer so many bytes further on."""
    count, rest = divmod(nbytes, dtype.itemsize)
    assert rest == 0, "pointers are to whole elements"
    return f"{pointer} + {count}" if count else pointer
