"""The function of a kernel: its arguments, the loop over its units, and how it is launched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from nagraph import sanitizing
from nagraph.backends.llvm.emission.context import EmissionContext
from nagraph.backends.llvm.text.builder import FunctionBuilder, Loop, Reg, i64
from nagraph.kernel.row_blocks import RowBlocks
from nagraph.schedule.cost import unit_ns
from nagraph.schedule.loops import vector_lanes
from nagraph.schedule.realise import unit_count

#: What a kernel function takes: the thread's table of pointers, which of them are its operands, its units, its scratch.
ARGUMENTS = ("ptr noalias", "ptr noalias", "i64", "i64", "ptr noalias")


class Emitted(NamedTuple):
    """How to launch a kernel: its units, the scratch that a thread needs, roughly the time of a unit, and how many make a chunk."""

    units: int
    scratch_nbytes: int
    unit_ns: float
    chunk: int

    @staticmethod
    def of(context: EmissionContext, scratch_nbytes: int, blocks: RowBlocks | None) -> Emitted:
        """How to launch a kernel as its schedule says; `blocks` if it goes in blocks of rows."""
        kernel, schedule = context.kernel, context.schedule
        ns = unit_ns(kernel, schedule, vector_lanes(kernel, context.target), blocks)
        return Emitted(unit_count(kernel, schedule.units), scratch_nbytes, ns, schedule.chunk)


def operand_pointer(code: FunctionBuilder, slots: Reg, args: Reg, i: int) -> Reg:
    """The address of operand i of this launch."""
    slot = code.load("i64", code.offset(args, "i64", i64(i)), 8)
    return code.load("ptr", code.offset(slots, code.module.slot, slot), 8)


@contextmanager
def unit_loop(context: EmissionContext, per_unit: int = 1) -> Iterator[Loop]:
    """The loop over the blocks of the units that a launch asks for, `per_unit` of each."""
    code = context.code
    start, stop = (code.mul(x, i64(per_unit)) for x in code.arguments[2:4])
    with code.loop(start, stop) as loop:
        if sanitizing.is_on() and context.tile_nbytes:  # no tile holds anything yet
            code.call("llvm.memset.p0.i64", "void", code.arguments[4], Reg("i8", str(sanitizing.NAN)), i64(context.tile_nbytes),
                      Reg("i1", "false"))
        yield loop
