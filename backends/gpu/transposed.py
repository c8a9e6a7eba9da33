"""Transposed tiles: a map that reads operands along one axis of its grid, and stores along another, reads them by way of shared memory.

A block is a tile of SIDE by SIDE points of the two axes. First neighbouring threads load neighbouring elements of these operands, then they
compute neighbouring points; so both go through memory side by side.
"""

from __future__ import annotations

from nagraph.backends.gpu.context import EmissionContext
from nagraph.backends.gpu.neighbours import place_of
from nagraph.backends.gpu.placement import PITCH, SIDE, tile_counts, transposed_nbytes, transposed_reads
from nagraph.backends.gpu.schedule import Spread
from nagraph.backends.gpu.stage import StageText


def write_tile(context: EmissionContext, axis: int) -> None:
    """Write how a block computes its tile."""
    kernel, d, line = context.kernel, context.dialect, context.text.line
    rows = context.schedule.block // SIDE
    last, loads, place = kernel.grid - 1, transposed_reads(kernel)[axis], 0
    line(f"const int column = {d.thread} % {SIDE}, row = {d.thread} / {SIDE};")
    step, starts = 1, []
    for a, count in reversed(list(enumerate(tile_counts(kernel, axis)))):
        number = f"{d.block} / {step} % {count}" if step > 1 else f"{d.block} % {count}"
        starts.append(f"const {context.kind(a)} first{a} = {number} * {SIDE};" if a in (axis, last) else f"const int a{a} = {number};")
        step *= count
    for start in reversed(starts):
        line(start)
    pointers = []
    for n, x in enumerate(loads):
        kind = d.memory_type(x.dtype)
        line(f"{d.shared}{kind}* const w{n} = ({d.shared}{kind}*)(shared + {place});")
        pointers.append(f"w{n}")
        place += transposed_nbytes(x)

    inside = f"if (a{axis} < {kernel.axes[axis]} && a{last} < {kernel.axes[last]})"
    line(f"// p{', p'.join(str(x.operand) for x in loads)}: neighbouring threads are neighbours along a{axis}")
    with context.text.block(f"for (int k = row; k < {SIDE}; k += {rows})"):
        _place(context, axis, last)
        with context.text.block(inside):
            for pointer, x in zip(pointers, loads):
                line(f"{pointer}[column * {PITCH} + k] = p{x.operand}[{context.index(x.index)}];")
    line("ng_block_barrier();")
    line(f"// and here along a{last}")
    context.loaded = {place_of(x): f"{pointer}[k * {PITCH} + column]" for pointer, x in zip(pointers, loads)}
    with context.text.block(f"for (int k = row; k < {SIDE}; k += {rows})"):
        _place(context, last, axis)
        with context.text.block(inside):
            StageText(context, kernel.stages[0], Spread()).emit()


def _place(context: EmissionContext, along: int, across: int) -> None:
    """Where the thread's point is: neighbouring threads are neighbours along one axis."""
    context.text.line(f"const {context.kind(along)} a{along} = first{along} + column;")
    context.text.line(f"const {context.kind(across)} a{across} = first{across} + k;")
