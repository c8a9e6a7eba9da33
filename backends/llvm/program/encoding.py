"""Encoding: a plan's program as the words that the driver reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nagraph.backends.llvm.native.addresses import array_at, word_at, write_at
from nagraph.backends.llvm.runtime.assembler import Assembler, EncodedLaunch, Label
from nagraph.backends.llvm.runtime.program import Program
from nagraph.program.instructions import Commit, Decide, Differ, End, HostStep, Instruction, Jump, Loop, Phase, SetPointer, Swap
from nagraph.schedule.cost import LONGEST_NS


def encoded(program: Sequence[Instruction], slots: int) -> Program:
    """A program of these instructions that runs on a table of `slots` pointers."""
    a = encode(program)
    kernels = [launch.function for i in program if isinstance(i, Phase) for launch in i.launches]
    scratch_nbytes = max((k.emitted.scratch_nbytes for k in kernels), default=0)
    return Program(a.code(), slots, scratch_nbytes, (a.functions, [k.code for k in kernels]))


def encode(program: Sequence[Instruction]) -> Assembler:
    """An assembler with these instructions. Jumps to numbers of instructions become jumps to labels."""
    a = Assembler()
    labels = {i.target if isinstance(i, Jump) else i.otherwise: Label() for i in program if isinstance(i, (Decide, Differ, Jump))}
    counters = {-1: 0}
    chained = 0.0
    for n, i in enumerate(program):
        if n in labels:
            a.place(labels[n])
        match i:
            case Phase(launches=launches):
                a.phase(*(EncodedLaunch(x.function.code.address, x.function.emitted.units, x.function.emitted.chunk, x.slots)
                          for x in launches))
                chained += sum(x.function.emitted.units * x.function.emitted.unit_ns for x in launches)
                if chained > LONGEST_NS:
                    a.unchain()
                    chained = 0.0
            case SetPointer():
                a.set_pointer(i.target, i.source, i.offset, i.step, counters[i.loop], i.length, i.reverse)
            case Swap():
                a.swap(i.a, i.b)
            case Loop():
                counters[i.loop] = a.begin(i.iterations)
            case End():
                a.end(counters[i.loop])
            case Decide():
                a.decide(i.slot, labels[i.otherwise])
            case Differ():
                a.differ(i.a, i.b, labels[i.otherwise])
            case Jump():
                a.jump(labels[i.target])
            case Commit():
                a.commit()
            case HostStep():
                a.host(_on_table(i))
    if len(program) in labels:
        a.place(labels[len(program)])
    return a


def _on_table(step: HostStep) -> Callable[[int], None]:
    """The step as a function of the address of a table: the operands are copied from where it says, the results to there."""
    types = [v.type for v in step.node.operands]

    def call(table: int) -> None:
        pointers = [word_at(table + 8 * slot) for slot in step.slots]
        results = step.compute([array_at(p, t) for p, t in zip(pointers, types)])
        for pointer, array in zip(pointers[len(types):], results, strict=True):
            write_at(pointer, array)

    return call
