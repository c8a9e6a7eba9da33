"""The assembler: instructions written one after another, made into the 64-bit words that the driver reads, and shown.

    STOP
    PHASE  length, chunks, launches      launches that don't depend on one another, cut into chunks
    CHAIN  length, count, launches       launches one after another, by one thread
    SET    target, source, offset, step, counter    table[target] = table[source] + offset + step * counter
    SWAP   a, b
    LOOP   counter, iterations, behind   counter = 0; no iterations: go on at `behind`
    END    counter, iterations, body     counter += 1; iterations left: go on at `body`
    DECIDE slot, otherwise               go on here if the bool at table[slot] is true
    DIFFER a, b, otherwise               go on here if table[a] and table[b] are different addresses
    JUMP   target
    COMMIT                               from here on the call may not be abandoned
    HOST   function                      one thread calls a function of Python with the address of its table

A launch is five words: kernel, units, grain, chunks, and where its argument numbers stand: behind the instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from nagraph.backends.llvm.runtime.records import LAUNCH_WORDS, Opcode

Words = np.ndarray[Any, np.dtype[np.int64]]

_FIXED = {Opcode.STOP: 1, Opcode.SET: 6, Opcode.SWAP: 3, Opcode.LOOP: 4, Opcode.END: 4,
          Opcode.DECIDE: 3, Opcode.DIFFER: 4, Opcode.JUMP: 2, Opcode.COMMIT: 1, Opcode.HOST: 2}


class EncodedLaunch(NamedTuple):
    """A launch as the driver reads it: units [0, units) of a kernel, `grain` of them a chunk; `arguments` are numbers, mostly of pointers.

    The kernel is `void kernel(ptr table, ptr arguments, i64 start, i64 stop, ptr scratch)`.
    """

    kernel: int
    units: int
    grain: int
    arguments: Sequence[int] = ()

    @property
    def chunks(self) -> int:
        return -(-self.units // self.grain)


class Label:
    """A place in a program, for jumps; `Assembler.place` puts it there."""

    word: int | None = None


class Assembler:
    """An assembler writes a program, instruction by instruction. `code()` gives its words, `str` shows it."""

    def __init__(self) -> None:
        #: The functions of Python that the program calls: they must live as long as it does.
        self.functions: list[Callable[[int], object]] = []
        self._words: list[int | Label] = []
        #: (word that points to argument numbers, the numbers)
        self._arguments: list[tuple[int, Sequence[int]]] = []
        self._counters = 1  # counter 0 stays 0
        self._loops: dict[int, tuple[int, Label, Label]] = {}
        #: The chain that a following phase of one chunk goes on with, if nothing can jump between the two.
        self._chain: int | None = None

    # -- instructions -------------------------------------------------------------------------------------------

    def phase(self, *launches: EncodedLaunch) -> None:
        """Launches that don't depend on one another; what follows waits for them. Those of no units are left out."""
        for x in launches:
            if x.grain < 1 or x.units < 0:
                raise ValueError(f"a launch has units >= 0 and grain >= 1, got units {x.units}, grain {x.grain}")
        some = [x for x in launches if x.units]
        if len(some) == 1 and some[0].chunks == 1:
            self._link(some[0])
        elif some:
            self._emit(Opcode.PHASE, 3 + LAUNCH_WORDS * len(some), sum(x.chunks for x in some))
            for x in some:
                self._launch(x)

    def set_pointer(self, target: int, source: int, offset: int = 0, step: int = 0, counter: int = 0,
                    length: int = 0, reverse: bool = False) -> None:
        """table[target] = table[source] + offset + step * i: i is the counter, or length - 1 - counter if `reverse`."""
        if reverse:
            offset, step = offset + step * (length - 1), -step
        self._emit(Opcode.SET, target, source, offset, step, counter)

    def swap(self, a: int, b: int) -> None:
        """Exchange table[a] and table[b]."""
        self._emit(Opcode.SWAP, a, b)

    def begin(self, iterations: int) -> int:
        """Begin a loop; gives the number of its counter, which `end` takes."""
        counter, body, behind = self._counters, Label(), Label()
        self._counters += 1
        self._emit(Opcode.LOOP, counter, iterations, behind)
        self.place(body)
        self._loops[counter] = iterations, body, behind
        return counter

    def end(self, counter: int) -> None:
        iterations, body, behind = self._loops.pop(counter)
        self._emit(Opcode.END, counter, iterations, body)
        self.place(behind)

    @contextmanager
    def loop(self, iterations: int) -> Iterator[int]:
        """for counter in range(iterations)"""
        counter = self.begin(iterations)
        yield counter
        self.end(counter)

    def decide(self, slot: int, otherwise: Label) -> None:
        """Go on here if the bool at table[slot] is true once all before is done, else at the label."""
        self._emit(Opcode.DECIDE, slot, otherwise)

    def differ(self, a: int, b: int, otherwise: Label) -> None:
        """Go on here if table[a] and table[b] are different addresses, else at the label."""
        self._emit(Opcode.DIFFER, a, b, otherwise)

    def jump(self, target: Label) -> None:
        self._emit(Opcode.JUMP, target)

    def commit(self) -> None:
        """From here on the call may not be abandoned: it writes what others can see."""
        self._emit(Opcode.COMMIT)

    def host(self, function: Callable[[int], object]) -> None:
        """Call a function of Python with the address of the table once all before is done; what it raises ends the call."""
        self.functions.append(function)
        self._emit(Opcode.HOST, id(function))

    def unchain(self) -> None:
        """Let the next phase begin a chain of its own."""
        self._chain = None

    def place(self, label: Label) -> None:
        """Put the label here."""
        label.word = len(self._words)
        self._chain = None

    # -- words --------------------------------------------------------------------------------------------------

    def code(self) -> Words:
        """The program's words. Raises ValueError if a loop has no end or a label no place."""
        if self._loops:
            raise ValueError(f"loops without an end: counters {sorted(self._loops)}")
        words = [*self._words, Opcode.STOP]
        for at, numbers in self._arguments:
            words[at] = len(words)
            words += numbers
        targets = [w.word if isinstance(w, Label) else w for w in words]
        if None in targets:
            raise ValueError("a jump to a label that has no place")
        return np.array(targets, np.int64)

    def __str__(self) -> str:
        return listing(self.code())

    def _emit(self, op: Opcode, *words: int | Label) -> None:
        self._chain = None
        self._words += [op, *words]

    def _launch(self, x: EncodedLaunch) -> None:
        self._words += [x.kernel, x.units, x.grain, x.chunks, 0]
        self._arguments.append((len(self._words) - 1, x.arguments))

    def _link(self, x: EncodedLaunch) -> None:
        """Phases of one chunk, one after another, are a chain: one thread does them, and nobody waits in between."""
        chain = self._chain
        if chain is None:
            chain = len(self._words)
            self._emit(Opcode.CHAIN, 3, 0)
        self._launch(x)
        for word, more in ((chain + 1, LAUNCH_WORDS), (chain + 2, 1)):
            old = self._words[word]
            assert isinstance(old, int)
            self._words[word] = old + more
        self._chain = chain


class EncodedInstruction(NamedTuple):
    """An instruction in the words of a program: where it begins, its code, and the words behind that."""

    at: int
    op: Opcode
    operands: tuple[int, ...]


def instructions(code: Words) -> Iterator[EncodedInstruction]:
    """The instructions, in the order in which they stand, up to the STOP."""
    at = 0
    while True:
        op = Opcode(code[at])
        length = _FIXED[op] if op in _FIXED else int(code[at + 1])
        yield EncodedInstruction(at, op, tuple(int(w) for w in code[at + 1:at + length]))
        if op is Opcode.STOP:
            return
        at += length


def launch_words(code: Words) -> list[int]:
    """Where launches stand in the words: each begins with the address of its kernel."""
    return [at for i in instructions(code) if i.op in (Opcode.PHASE, Opcode.CHAIN)
            for at in range(i.at + 3, i.at + int(code[i.at + 1]), LAUNCH_WORDS)]


def check(code: Words, slots: int) -> None:
    """Check a program: ValueError if an instruction names a pointer outside a table of `slots`, or leads between instructions."""
    found = list(instructions(code))
    starts = {i.at for i in found}
    for i in found:
        pointers, target = _REFERENCES.get(i.op, (0, None))
        if any(not 0 <= p < slots for p in i.operands[:pointers]):
            raise ValueError(f"a table of {slots} pointers lacks one of {_shown(code, i, {})!r}")
        if target is not None and i.operands[target] not in starts:
            raise ValueError(f"no instruction stands where {_shown(code, i, {})!r} leads")


#: How many operands, from the first, are numbers of pointers; which operand is a place in the code.
_REFERENCES: dict[Opcode, tuple[int, int | None]] = {
    Opcode.SET: (2, None), Opcode.SWAP: (2, None), Opcode.DECIDE: (1, 1), Opcode.DIFFER: (2, 2),
    Opcode.LOOP: (0, 2), Opcode.END: (0, 2), Opcode.JUMP: (0, 0)}


def listing(code: Words, kernels: Mapping[int, str] | None = None) -> str:
    """The program as text; `kernels` names addresses."""
    return "\n".join(f"{i.at:5}  {_shown(code, i, kernels or {})}" for i in instructions(code))


def _shown(code: Words, i: EncodedInstruction, kernels: Mapping[int, str]) -> str:
    o = i.operands
    match i.op:
        case Opcode.PHASE | Opcode.CHAIN:
            launches = [_launch_shown(code, o[n:n + LAUNCH_WORDS], kernels) for n in range(2, len(o), LAUNCH_WORDS)]
            head = f"phase of {o[1]} chunks" if i.op is Opcode.PHASE else "chain"
            return "\n           ".join([f"{head}:", *launches])
        case Opcode.SET:
            return f"set {o[0]} = {o[1]} + {o[2]} + {o[3]} * counter {o[4]}"
        case Opcode.SWAP:
            return f"swap {o[0]}, {o[1]}"
        case Opcode.LOOP:
            return f"loop counter {o[0]}, {o[1]} iterations, then {o[2]}"
        case Opcode.END:
            return f"end counter {o[0]}, {o[1]} iterations, body {o[2]}"
        case Opcode.DECIDE:
            return f"decide {o[0]}, otherwise {o[1]}"
        case Opcode.DIFFER:
            return f"differ {o[0]}, {o[1]}, otherwise {o[2]}"
        case Opcode.JUMP:
            return f"jump {o[0]}"
        case Opcode.HOST:
            return "host"
        case _:
            return i.op.name.lower()


def _launch_shown(code: Words, launch: tuple[int, ...], kernels: Mapping[int, str]) -> str:
    kernel, units, grain, chunks, at = launch
    return f"{kernels.get(kernel, hex(kernel))} on {units} units, {chunks} chunks of {grain}, arguments from word {at}"
