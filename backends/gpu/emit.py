"""Emission: a kernel as the text of one GPU function, in CUDA C++ or the Metal Shading Language, as its schedule says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from nagraph.backends.gpu.barriers import Barriers
from nagraph.backends.gpu.context import EmissionContext
from nagraph.backends.gpu.dialect import Dialect
from nagraph.backends.gpu.neighbours import Packs
from nagraph.backends.gpu.placement import groups, shared_nbytes, slots_nbytes, tile_nbytes
from nagraph.backends.gpu.products.block_form import block_form
from nagraph.backends.gpu.products.emission.kernel import emit_blocks
from nagraph.backends.gpu.products.form import BlockSchedule
from nagraph.backends.gpu.schedule import REGISTERS, SCRATCH, SHARED, GpuSchedule
from nagraph.backends.gpu.stage import StageText, locate
from nagraph.backends.gpu.strategy import AnySchedule, choose_any
from nagraph.backends.gpu.target import GpuTarget
from nagraph.backends.gpu.transposed import write_tile
from nagraph.backends.gpu.verify import check
from nagraph.c_text.text import tidy
from nagraph.ir.types import DType
from nagraph.kernel.form import Kernel, Stage
from nagraph.schedule.names import words_of

#: Bytes of device memory that a launch may want for tiles; where all points at one time would want more, groups take several.
MOST_SCRATCH = 64 << 20


class DeviceFunction(NamedTuple):
    """A device function is the text of a kernel, and how to launch it.

    name: an identifier, which says the kernel and has its digest. text: the function, and what it needs beyond the common header
    (`headers/nagraph_gpu.h`). grid, block: blocks of a launch along x, y, z; threads of a block. shared_nbytes: dynamic shared memory of
    a block; all its shared memory is that (beyond 48 KB a CUDA function has to be told so first). operands: their dtypes, of which the
    last `outputs` are written. scratch_nbytes: device memory that a launch wants beside its operands, whose slot is one more after
    theirs; 0 if none. functions, body: the parts of the text before the function, and in it. schedule: by which it was written.
    """

    name: str
    text: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_nbytes: int
    operands: tuple[DType, ...]
    outputs: int
    scratch_nbytes: int = 0
    functions: str = ""
    body: str = ""
    schedule: AnySchedule | None = None


def emit(kernel: Kernel, target: GpuTarget, dialect: Dialect, schedule: AnySchedule | None = None) -> DeviceFunction:
    """The device function of a kernel, by a schedule or by the strategy's. ScheduleError if the schedule is not legal."""
    if schedule is None:
        schedule = choose_any(kernel, target)
    check(kernel, schedule, target)
    made = _in_blocks(kernel, schedule, dialect) if isinstance(schedule, BlockSchedule) else _Emission(kernel, schedule, dialect).function()
    return made._replace(text=tidy(made.text), functions=tidy(made.functions), body=tidy(made.body), schedule=schedule)


def _in_blocks(kernel: Kernel, schedule: BlockSchedule, dialect: Dialect) -> DeviceFunction:
    """The device function of a kernel with matrix products that blocks of threads compute."""
    name = function_name(words_of(kernel), kernel, schedule, dialect.name)
    form = block_form(kernel)
    assert form is not None, "a legal schedule of blocks has a kernel with products"
    made = emit_blocks(form, schedule, name)
    return DeviceFunction(name, made.text, (made.blocks, 1, 1), (made.threads, 1, 1), made.shared_nbytes, kernel.operands, kernel.outputs,
                          0, made.functions, made.body)


def function_name(words: list[str], *digested: object) -> str:
    """An identifier of some words, and of the digest of all that a text follows from."""
    digest = hashlib.sha256("\n".join(map(str, digested)).encode()).hexdigest()[:8]
    return re.sub(r"\W", "_", "_".join([*words, digest]))


class _Emission:
    """The text of one kernel while it is written."""

    def __init__(self, kernel: Kernel, schedule: GpuSchedule, dialect: Dialect):
        self.kernel, self.schedule, self.dialect = kernel, schedule, dialect
        self.count = groups(kernel, schedule)
        blocks = max(1, -(-self.count // schedule.points))
        self.stride = sum(tile_nbytes(kernel, i) for i, where in enumerate(schedule.tiles) if where == SCRATCH)
        #: Whether a group takes several points, one after another, so that there is room for their tiles.
        resident = max(1, MOST_SCRATCH // max(1, self.stride * schedule.points)) if self.stride else blocks
        self.loops, self.blocks = resident < blocks, min(resident, blocks)
        self.context = EmissionContext(kernel, schedule, dialect, schedule.threads > 1 and self.count % schedule.points > 0)
        self.text = self.context.text
        self.kind = "int" if self.count + schedule.block < 1 << 31 else "i64"

    def function(self) -> DeviceFunction:
        """The function, whole."""
        kernel, schedule = self.kernel, self.schedule
        name = function_name(words_of(kernel), kernel, schedule, self.dialect.name)
        nbytes = shared_nbytes(kernel, schedule)
        self.context.slots = nbytes - slots_nbytes(kernel, schedule)
        if nbytes:
            self.text.line(f"NG_SHARED_BLOCK(shared, {nbytes});")
        self._groups()
        scratch = self.stride * self.blocks * schedule.points
        functions, body = "\n\n".join(self.context.functions.texts), str(self.text)
        head = self.dialect.head(name, self._declarations(scratch > 0), schedule.block)
        text = "\n".join([*([functions, ""] if functions else []), *head, body, "}", ""])
        return DeviceFunction(name, text, (self.blocks, 1, 1), (schedule.block, 1, 1), nbytes, kernel.operands, kernel.outputs, scratch,
                              functions, body)

    def _declarations(self, scratch: bool) -> list[str]:
        """The pointers of the operands, and of the tiles in device memory if there are any."""
        d, inputs = self.dialect, len(self.kernel.operands) - self.kernel.outputs
        found = [f"{d.device}{'const ' if i < inputs else ''}{d.memory_type(dtype)}* const p{i}"
                 for i, dtype in enumerate(self.kernel.operands)]
        return [*found, *([f"{d.device}u8* const scratch"] if scratch else [])]

    def _groups(self) -> None:
        """Which points of the grid this thread's group computes, and how."""
        d, schedule, line = self.dialect, self.schedule, self.text.line
        threads, points = schedule.threads, schedule.points
        if schedule.transposed is not None:
            write_tile(self.context, schedule.transposed)
            return
        if threads > 1:
            line(f"const int member = {d.thread}{f' / {points}' if schedule.apart else f' % {threads}' if points > 1 else ''};")
            if points > 1:
                line(f"const int slot = {d.thread} {f'% {points}' if schedule.apart else f'/ {threads}'};")
        group = "" if points == 1 else f" + {d.thread}" if threads == 1 else " + slot"
        first = d.block if points == 1 else f"{d.block} * {points}"
        if self.kind == "i64":
            first = f"(i64){first}"
        if self.stride:
            line(f"const {self.kind} group = {first}{group};")
        if self.loops and threads == 1:
            with self.text.block(f"for ({self.kind} point = {first}{group}; point < {self.count}; point += {self.blocks * points})"):
                self._point()
            return
        if self.loops:
            with self.text.block(f"for ({self.kind} first = {first}; first < {self.count}; first += {self.blocks * points})"):
                self._chosen(f"first{group}")
                self._point(again=True)
            return
        self._chosen(f"{first}{group}")
        self._point()

    def _chosen(self, number: str) -> None:
        """The point of this group; groups beyond the last one do nothing that is seen."""
        line = self.text.line
        if self.context.partial:
            line(f"const bool active = {number} < {self.count};")
            line(f"const {self.kind} point = active ? {number} : 0;")
        else:
            line(f"const {self.kind} point = {number};")
            if self.schedule.threads == 1 and self.count % self.schedule.points or not self.count:
                line(f"if (point >= {self.count}) return;")

    def _point(self, again: bool = False) -> None:
        """All stages at one point of the parallel axes. again: other points come after it."""
        kernel, barriers = self.kernel, Barriers(self.kernel, self.schedule)
        parallel = tuple(range(kernel.grid - kernel.sequential))
        if self.schedule.width > 1:
            self._neighbours(barriers)
            return
        if parallel:
            locate(self.context, "point", parallel)
        self._declare_tiles()
        with self._rows(kernel.grid - kernel.sequential):
            self._stages(barriers)
            if self.schedule.threads > 1 and barriers.again and (again or kernel.sequential):
                self.context.barrier()

    def _stages(self, barriers: Barriers) -> None:
        """All stages at the point in hand, one after another."""
        for n, stage in enumerate(self.kernel.stages):
            if self.schedule.threads > 1 and barriers.before(stage):
                self.context.barrier()
            self.text.line(f"// stage {n}{_head(self.kernel, stage)}")
            with self.text.block():
                StageText(self.context, stage, self.schedule.stages[n]).emit()

    def _neighbours(self, barriers: Barriers) -> None:
        """All stages at neighbouring points, one after another."""
        last, width, line = self.kernel.grid - 1, self.schedule.width, self.text.line
        parts, kind = self.kernel.axes[last] // width, self.context.kind(last)
        if last:
            line(f"const {self.kind} rest = point / {parts};")
            locate(self.context, "rest", range(last))
        line(f"const {kind} first = {'(i64)' if kind == 'i64' else ''}{f'(point % {parts})' if last else 'point'} * {width};")
        if len(self.kernel.stages) == 1:
            StageText(self.context, self.kernel.stages[0], self.schedule.stages[0]).emit_neighbours(last, width)
            return
        packs = Packs(self.context, (x for s in self.kernel.stages for x in (*s.body, *s.stores)), last, width)
        with packs.loop():
            self._declare_tiles()
            self._stages(barriers)
        packs.store("p")

    @contextmanager
    def _rows(self, axis: int) -> Iterator[None]:
        """Loops over the last axes of the grid, whose points come in order."""
        if axis == self.kernel.grid:
            yield
            return
        with self.text.block(f"for ({self.context.kind(axis)} a{axis} = 0; a{axis} < {self.kernel.axes[axis]}; ++a{axis})"):
            with self._rows(axis + 1):
                yield

    def _declare_tiles(self) -> None:
        """Where each tile is."""
        d, schedule = self.dialect, self.schedule
        place = {SHARED: 0, SCRATCH: 0}
        for i, (tile, where) in enumerate(zip(self.kernel.tiles, schedule.tiles)):
            if where == REGISTERS:
                name = f"{d.type(tile.dtype)} t{i}" if tile.size == 1 else f"{d.memory_type(tile.dtype)} t{i}[{tile.size}]"
                self.text.line(f"{name};")
                continue
            nbytes, kind = tile_nbytes(self.kernel, i), d.memory_type(tile.dtype)
            if where == SHARED:
                inside = f"{place[where] * schedule.points}" + (f" + slot * {nbytes}" if schedule.points > 1 else "")
                self.text.line(f"{d.shared}{kind}* const t{i} = ({d.shared}{kind}*)(shared + {inside});")
            else:
                inside = f"(i64)group * {self.stride} + {place[where]}"
                self.text.line(f"{d.device}{kind}* const t{i} = ({d.device}{kind}*)(scratch + {inside});")
            place[where] += nbytes


def _head(kernel: Kernel, stage: Stage) -> str:
    """The loops of a stage, as the text of its kernel says them."""
    kept, reduced = stage.kept, stage.loops[len(stage.kept):]
    parts = [f"{word} {', '.join(f'a{a} < {kernel.axes[a]}' for a in axes)}" for word, axes in (("for", kept), ("reduce", reduced)) if axes]
    return f": {', '.join(parts)}" if parts else ""
