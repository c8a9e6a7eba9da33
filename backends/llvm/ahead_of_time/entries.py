"""Entry points of a library: what a call needs to know of its program, as constants that never change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.backends.llvm.ahead_of_time.kernels import KernelTexts
from nagraph.backends.llvm.program.encoding import encode
from nagraph.backends.llvm.runtime.assembler import Opcode, check, instructions, launch_words
from nagraph.backends.llvm.runtime.records import ALIGNMENT, CONTEXT_WORDS, ENTRY, EXPORTED, PLACES, RECORD
from nagraph.backends.llvm.text.machines import Machine
from nagraph.ir.graph import Graph
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.program.lowered import LoweredProgram
from nagraph.program.lowering import lower

Array = np.ndarray[Any, Any]
#: The most threads that a call ever has.
MOST_THREADS = 1 << 20


class Entry(NamedTuple):
    """A function of a library: its symbol, and the optimised graph that it computes.

    donations: output number -> number of the input whose array may be the output's as well. weights: input number -> name of a weight:
    callers don't give these inputs.
    """

    symbol: str
    graph: Graph
    donations: Mapping[int, int] = {}
    weights: Mapping[int, str] = {}


class WeightsFile(NamedTuple):
    """A file of weights that stands beside a library: the bytes that it begins with, its size, and where each weight begins in it."""

    head: bytes
    nbytes: int
    offsets: Mapping[str, int]

    @classmethod
    def of(cls, content: bytes) -> WeightsFile:
        """What is known of a safetensors file with these contents."""
        start = 8 + int.from_bytes(content[:8], "little")
        tensors = {name: about for name, about in json.loads(content[8:start]).items() if name != "__metadata__"}
        return cls(content[:start], len(content), {name: start + about["data_offsets"][0] for name, about in tensors.items()})


class Data:
    """The constant bytes of a library: each distinct array once, aligned."""

    def __init__(self) -> None:
        self.nbytes = 0
        self.parts: list[tuple[int, Array]] = []
        self._known: dict[bytes, int] = {}

    def place(self, array: Array) -> int:
        """The offset of an array."""
        content = np.ascontiguousarray(array).view(np.uint8) if array.size and array.ndim else np.frombuffer(array.tobytes(), np.uint8)
        key = hashlib.sha256(content.data).digest()
        if key not in self._known:
            self._known[key] = self.nbytes
            self.parts.append((self.nbytes, content))
            self.nbytes = _aligned(self.nbytes + content.nbytes)
        return self._known[key]


class EntryPoint:
    """An entry point: its program lowered for a machine, and how much memory its calls need.

    given: the numbers of the graph's inputs that a caller gives, in order. workspace: bytes for any number of threads, and for each.
    """

    def __init__(self, entry: Entry, kernels: KernelTexts, data: Data, weights: Mapping[str, Array], file: WeightsFile | None):
        planner, plan = kernel_plan(entry.graph, entry.donations)
        lowered = lower(planner, plan, kernels.made, host=False)
        self.entry, self.graph = entry, entry.graph
        self.given = tuple(i for i in range(len(entry.graph.inputs)) if i not in entry.weights)
        self.takes_file = file is not None and bool(entry.weights)
        self.words = encode(lowered.instructions).code()
        check(self.words, len(lowered.table))
        found = list(instructions(self.words))
        self.most_threads = MOST_THREADS if any(i.op is Opcode.PHASE for i in found) else 1
        counters = 1 + max((i.operands[0] for i in found if i.op is Opcode.LOOP), default=0)
        slots = len(lowered.table)
        scratch = max((x.function.emitted.scratch_nbytes for x in lowered.launches), default=0)
        self.spaces = _aligned(8 * (slots + counters)), _aligned(scratch)
        self._lay_out(lowered, plan.arena_bytes, slots)
        self.places = self._places(lowered, data, weights, file)

    @property
    def symbol(self) -> str:
        """The name of the function."""
        return self.entry.symbol

    def workspace_nbytes(self, threads: int) -> int:
        """What `SYMBOL_workspace_nbytes` answers."""
        return self.tables_at + min(max(threads, 1), self.most_threads) * sum(self.spaces) + ALIGNMENT

    def _lay_out(self, lowered: LoweredProgram, arena_nbytes: int, slots: int) -> None:
        """Find what stands where in a workspace: the record, the context, the source of tables, memory, tables, scratch."""
        self.context_at = _aligned(8 * len(RECORD))
        self.source_at = self.context_at + _aligned(8 * CONTEXT_WORDS)
        self.memory_at = self.source_at + _aligned(8 * slots)
        at = _aligned(arena_nbytes)
        #: Outputs that are computed in memory of the call's own, and copied to the caller's array in the end.
        self._late = {}
        for p in lowered.table:
            if p.kind == "donated":
                self._late[p.number] = at
                at += _aligned(p.nbytes)
        self._verdict = at if any(p.kind == "verdict" for p in lowered.table) else -1
        self.verdict_at = self.memory_at + self._verdict if self._verdict >= 0 else -1
        self.tables_at = self.memory_at + at + (ALIGNMENT if self._verdict >= 0 else 0)

    def _places(self, lowered: LoweredProgram, data: Data, weights: Mapping[str, Array],
                file: WeightsFile | None) -> list[tuple[int, int, int]]:
        """Of each pointer of the table: one of PLACES, a number, an offset in bytes."""
        first = int(self.takes_file)
        numbers = {i: first + n for n, i in enumerate(self.given)}
        found = []
        for p in lowered.table:
            place, number, offset = "nowhere", 0, 0
            match p.kind:
                case "arena":
                    place, offset = "memory", p.number
                case "verdict":
                    place, offset = "memory", self._verdict
                case "constant":
                    place, offset = "data", data.place(lowered.constants[p.number])
                case "input" if p.number in numbers:
                    place, number = "input", numbers[p.number]
                case "input" if file is not None:
                    place, offset = "input", file.offsets[self.entry.weights[p.number]]
                case "input":
                    place, offset = "data", data.place(weights[self.entry.weights[p.number]])
                case "output" if p.number in self._late:
                    place, offset = "memory", self._late[p.number]
                case "output" | "donated":
                    place, number = "output", p.number
            found.append((PLACES[place], number, offset))
        return found

    # -- text ---------------------------------------------------------------------------------------------------------

    def text(self, machine: Machine, symbols: Sequence[str]) -> str:
        """LLVM text of the function, and of what it knows. symbols: those of the kernels, by their numbers."""
        name, wide = self.symbol, machine.pointer_nbytes == 8
        size = "i64" if wide else "i32"
        inputs, outputs = [self.graph.inputs[i].type for i in self.given], [v.type for v in self.graph.outputs]
        masks = [*([7] if self.takes_file else []), *(min(t.dtype.itemsize, 8) - 1 for t in (*inputs, *outputs))]
        known = {"program": f"@{name}.program", "places": f"@{name}.places", "masks": f"@{name}.masks", "data": "@data",
                 "pointers": len(self.places), "inputs": len(inputs) + self.takes_file, "outputs": len(outputs),
                 "most_threads": self.most_threads, "table_space": self.spaces[0], "scratch_space": self.spaces[1],
                 "context_at": self.context_at, "source_at": self.source_at, "memory_at": self.memory_at, "verdict_at": self.verdict_at,
                 "tables_at": self.tables_at}
        launches = {at: symbols[int(self.words[at])] for at in launch_words(self.words)}
        program = [f"@{launches[at]}" if at in launches else int(word) for at, word in enumerate(self.words)]
        widened, narrowed = ("", "%n") if wide else ("\n  %wide = zext i32 %nbytes to i64", "%narrow")
        return f"""
{_constant(f"{name}.program", program, wide)}
{_constant(f"{name}.places", [word for place in self.places for word in place], wide)}
{_constant(f"{name}.masks", masks, wide)}
{_constant(f"{name}.about", [known[field] for field in ENTRY], wide)}

define i32 @{EXPORTED}{name}(ptr %in, ptr %out, ptr %workspace, {size} %nbytes, ptr %pool) nounwind {{{widened}
  %result = call i32 @run(ptr @{name}.about, ptr %in, ptr %out, ptr %workspace, i64 {"%nbytes" if wide else "%wide"}, ptr %pool)
  ret i32 %result
}}

define {size} @{EXPORTED}{name}_workspace_nbytes(i32 %threads) nounwind {{
  %wanted = sext i32 %threads to i64
  %n = call i64 @workspace(ptr @{name}.about, i64 %wanted){"" if wide else chr(10) + "  %narrow = trunc i64 %n to i32"}
  ret {size} {narrowed}
}}
"""


def _constant(name: str, words: Iterable[int | str], wide: bool) -> str:
    """Words of 64 bits, of which some are addresses."""
    parts: list[str] = []
    for word in words:
        parts.append(f"i64 {word}" if isinstance(word, int) else f"ptr {word}" if wide else f"ptr {word}, i32 0")
    types = ", ".join(p.partition(" ")[0] if p.count(",") == 0 else "ptr, i32" for p in parts)
    return f"@{name} = internal constant <{{{types}}}> <{{{', '.join(parts)}}}>, align 64"


def weights_text(library: str, file: WeightsFile, wide: bool) -> str:
    """`ptr LIBRARY_weights_of(ptr file, size nbytes)`: the file, if it is the one that stands beside this library; else null."""
    size = "i64" if wide else "i32"
    content = "".join(f"\\{byte:02X}" for byte in file.head)
    return f"""
@head = internal constant [{len(file.head)} x i8] c"{content}"

define ptr @{EXPORTED}{library}_weights_of(ptr %file, {size} %nbytes) nounwind {{
entry:
  %none = icmp eq ptr %file, null
  %other = icmp ne {size} %nbytes, {file.nbytes}
  %bad = or i1 %none, %other
  br i1 %bad, label %out, label %compare
compare:
  %same = call i1 @alike(ptr %file, ptr @head, i64 {len(file.head)})
  br i1 %same, label %good, label %out
good:
  ret ptr %file
out:
  ret ptr null
}}
"""


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


