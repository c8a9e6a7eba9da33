"""Programs of GPU text, run on this CPU: each launch in guarded memory, of which it may touch its operands alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nagraph import backends
from nagraph.backends.gpu.dialect import CUDA, METAL
from nagraph.backends.gpu.emit import DeviceFunction, emit
from nagraph.backends.gpu.on_cpu.kernels import Kernels
from nagraph.backends.gpu.on_cpu.memory import Allocation
from nagraph.backends.gpu.sorting import emit_sort
from nagraph.backends.gpu.target import gpu_target
from nagraph.backends.interface import Agreement, Backend, Executable
from nagraph.ir.graph import Graph
from nagraph.ops.labels import failure
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.program.instructions import Commit, Decide, Differ, End, HostStep, Jump, Launch, Loop, Phase, SetPointer, SortTask, Swap
from nagraph.program.lowering import lower

Array = np.ndarray[Any, Any]
#: The target and the dialect of each kind of text.
TARGETS = {"cuda": (gpu_target("sm_90"), CUDA), "metal": (gpu_target("apple7"), METAL)}


class Pointer(NamedTuple):
    """A pointer is a place in an allocation, of which a launch may touch `nbytes`."""

    allocation: Allocation
    offset: int
    nbytes: int

    @property
    def address(self) -> int:
        return self.allocation.address + self.offset

    def of(self, dtype: Any, count: int) -> Array:
        """So many elements from here on."""
        return self.allocation.bytes[self.offset:self.offset + count * np.dtype(dtype).itemsize].view(dtype)


class Program(Executable):
    """A program whose launches run their GPU text."""

    def __init__(self, graph: Graph, donations: Mapping[int, int], kernels: Kernels):
        self.graph, self.name, self.inputs, self.kernels = graph, graph.name, graph.inputs, kernels
        planner, self.plan = kernel_plan(graph, donations)
        self.program = lower(planner, self.plan, self.emit)

    def emit(self, work: Any) -> DeviceFunction:
        """The function of a kernel or a sort."""
        made = (emit_sort if isinstance(work, SortTask) else emit)(work, *TARGETS[self.kernels.dialect])
        self.kernels.add(made)
        return made

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs. SanitizerError for what a launch does astray, or if it changes what it may only read."""
        late = {e.number for e in self.program.table if e.kind == "donated"}
        bare = self.kernels.check == "address"
        given = {id(a): Allocation.of(a, bare=bare) for a in arrays}
        fresh = [Allocation(v.type.nbytes, bare=bare) for v in self.graph.outputs]
        made = [given[id(donated[j])] if j in donated and j not in late else a for j, a in enumerate(fresh)]
        taken = {j: given[id(donated[j])] if j in donated else a for j, a in enumerate(fresh)}
        places = {"input": [given[id(a)] for a in arrays], "output": made, "donated": taken,
                  "constant": [Allocation.of(c, False, bare) for c in self.program.constants],
                  "verdict": [Allocation.of(np.ones(1, np.bool_))]}
        arena = Allocation(self.plan.arena_bytes, bare=bare)
        table = [Pointer(arena, e.number, e.nbytes) if e.kind == "arena" else None if e.kind == "moving" else
                 Pointer(places[e.kind][e.number], 0, places[e.kind][e.number].nbytes) for e in self.program.table]
        _Run(self, table).run()
        for what, allocations in {**places, "arena": [arena], "donated": taken.values()}.items():
            for a in allocations:
                a.check(f"{what} of {self.name}")
        written = {id(a) for a in (*made, *taken.values())}
        for a in arrays:
            if id(given[id(a)]) not in written:
                assert given[id(a)].bytes.tobytes() == a.tobytes(), "an argument was written to"
        if not places["verdict"][0].bytes[0]:
            raise failure(self.graph, arrays)
        for j, array in donated.items():
            array[...] = taken[j].array(array.dtype, array.shape)
        return tuple(donated[j] if j in donated else taken[j].array(v.dtype, v.shape).copy() for j, v in enumerate(self.graph.outputs))


class _Run:
    """One run of a program's instructions on a table of pointers."""

    def __init__(self, program: Program, table: list[Pointer | None]):
        self.instructions, self.kernels, self.table = program.program.instructions, program.kernels, table
        #: The last place of the table is for what a launch wants beside its operands.
        self.words = Allocation(8 * len(table) + 8, writable=False)

    def run(self) -> None:
        program, table, at, counters = self.instructions, self.table, 0, {-1: 0}
        loops = {i.loop: n for n, i in enumerate(program) if isinstance(i, Loop)}
        ends = {i.loop: n for n, i in enumerate(program) if isinstance(i, End)}
        while at < len(program):
            i, at = program[at], at + 1
            match i:
                case Phase(launches=launches):
                    for x in launches:
                        self.launch(x)
                case SetPointer():
                    n = i.length - 1 - counters[i.loop] if i.reverse else counters[i.loop]
                    p, offset = table[i.source], i.offset + i.step * n
                    table[i.target] = Pointer(p.allocation, p.offset + offset, i.step if i.step else p.nbytes - offset)
                case Swap():
                    table[i.a], table[i.b] = table[i.b], table[i.a]
                case Loop():
                    counters[i.loop] = 0
                    at = at if i.iterations else ends[i.loop] + 1
                case End():
                    counters[i.loop] += 1
                    at = loops[i.loop] + 1 if counters[i.loop] < program[loops[i.loop]].iterations else at
                case Decide():
                    at = at if table[i.slot].of(np.bool_, 1)[0] else i.otherwise
                case Differ():
                    at = at if table[i.a].address != table[i.b].address else i.otherwise
                case Jump():
                    at = i.target
                case HostStep():
                    values = [*i.node.operands, *i.node.results]
                    given = [table[s].of(v.dtype, v.size).reshape(v.shape) for s, v in zip(i.slots, values, strict=True)]
                    count = len(i.node.operands)
                    for place, y in zip(given[count:], i.compute([x.copy() for x in given[:count]]), strict=True):
                        place[...] = y
                case Commit():
                    pass

    def launch(self, x: Launch) -> None:
        """Run a launch, which may write its outputs and read its operands."""
        pointers = [self.table[s] for s in x.slots]
        f, inputs, scratch = x.function, len(pointers) - x.outputs, Allocation(x.function.scratch_nbytes)
        words = [p.address if p is not None else 0 for p in self.table]
        self.words.array(np.uint64, (len(words) + 1,))[:] = [*words, scratch.address]
        ranges = [*((p.address, p.nbytes, i >= inputs) for i, p in enumerate(pointers)), self.words.range, scratch.range]
        slots = (*x.slots, len(words)) if f.scratch_nbytes else x.slots
        self.kernels.launch(f.name, f.grid, f.block, f.shared_nbytes, self.words.address, slots, ranges)
        scratch.check(f"the scratch of {f.name}")


class OnCpu(Backend):
    """The backend of these programs; its kernels are compiled when one of them is first launched."""

    name = "on_cpu"
    agreement = Agreement(reference=False)

    def __init__(self, kernels: Kernels):
        self.kernels, self.pipeline = kernels, backends.find("llvm").pipeline

    def compile(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None) -> Program:
        return Program(graph, donations, self.kernels)
