"""Sorts: a merge sort of each row by a group of threads, stable, nan last, as NumPy sorts. It is the one function without a kernel form.

Runs of 1, 2, 4, ... keys become one by pairs: each key finds its place by binary search in the run beside its own, so that all threads
work all the time, and no two of them write one place.
"""

from __future__ import annotations

import math

from nagraph.backends.gpu.dialect import Dialect
from nagraph.backends.gpu.emit import MOST_SCRATCH, DeviceFunction, function_name
from nagraph.backends.gpu.target import GpuTarget
from nagraph.c_text.text import Text
from nagraph.elementary.narrow import NARROW
from nagraph.ir.types import BOOL, DTYPES, FLOATS
from nagraph.kernel.affine import strides
from nagraph.ops.sorting import Argsort
from nagraph.program.instructions import SortTask

#: Keys of a row whose numbers, and twice as large ones, are no ints.
LONG_ROW = 1 << 30
#: Threads of a block, and of a long row; bytes of the orders of a block's rows that stay in shared memory.
BLOCK, MOST_THREADS, MOST_SHARED = 256, 1024, 32 << 10


def emit_sort(task: SortTask, target: GpuTarget, dialect: Dialect) -> DeviceFunction:
    """The device function of a sort: operand 0 goes sorted into operand 1, or its order does.

    Each row has two arrays of indices, which merging fills by turns: in shared memory, or, if they are long, in device memory.
    """
    n, argsort = task.type.shape[task.op.axis], isinstance(task.op, Argsort)
    rows = math.prod(s for a, s in enumerate(task.type.shape) if a != task.op.axis)
    threads = min(MOST_THREADS, target.block_threads, 1 << max(n - 1, 0).bit_length())
    points, nbytes = max(1, BLOCK // threads), 2 * n * (4 if n < LONG_ROW else 8)
    while points > 1 and points * nbytes > MOST_SHARED and points * threads > target.warp:
        points //= 2
    near = points * nbytes <= MOST_SHARED
    wanted = -(-rows // points) or 1
    blocks = wanted if near else min(wanted, max(1, MOST_SCRATCH // max(1, nbytes * points)))
    operands = (task.type.dtype, DTYPES["i64"] if argsort else task.type.dtype)
    name = function_name([task.op.name], task, threads, points, dialect.name)
    body = _Body(task, dialect, rows, threads, points, blocks, near)
    d = dialect
    declared = [f"{d.device}const {d.memory_type(operands[0])}* const p0", f"{d.device}{d.memory_type(operands[1])}* const p1"]
    head = d.head(name, [*declared, *([] if near else [f"{d.device}u8* const scratch"])], points * threads)
    written = str(body.text)
    text = "\n".join([*head, written, "}", ""])
    return DeviceFunction(name, text, (blocks, 1, 1), (points * threads, 1, 1), max(8, points * nbytes) if near else 0, operands, 1,
                          0 if near else blocks * points * nbytes, "", written)


class _Body:
    """The text of a sort."""

    def __init__(self, task: SortTask, dialect: Dialect, rows: int, threads: int, points: int, blocks: int, near: bool):
        self.task, self.dialect, self.threads, self.n = task, dialect, threads, task.type.shape[task.op.axis]
        self.text = text = Text(indent=1)
        d, line, n = dialect, text.line, self.n
        #: The type of the numbers of keys.
        self.kind = kind = "int" if n < LONG_ROW else "i64"
        nbytes = 2 * n * (4 if n < LONG_ROW else 8)
        if near:
            line(f"NG_SHARED_BLOCK(shared, {max(8, points * nbytes)});")
        line(f"const int member = {d.thread} % {threads}, group = {d.thread} / {threads};")
        where = "shared + group" if near else f"scratch + ((i64){d.block} * {points} + group)"
        space = d.shared if near else d.device
        with text.block(f"for (i64 first = (i64){d.block} * {points}; first < {rows}; first += {blocks * points})"):
            line(f"const bool active = first + group < {rows};")
            line("const i64 row = active ? first + group : 0;")
            line(f"{space}{kind}* source = ({space}{kind}*)({where} * {nbytes});")
            line(f"{space}{kind}* target = source + {n};")
            self._offsets()
            self._loop("source[i] = i;")
            self._barrier()
            with text.block(f"for ({kind} width = 1; width < {n}; width *= 2)"):
                with text.block(f"for ({kind} i = member; i < {n}; i += {threads})"):
                    self._merge()
                self._barrier()
                line(f"{space}{kind}* const other = source;")
                line("source = target;")
                line("target = other;")
            step = strides(task.type.shape)[task.op.axis]
            value = "source[i]" if isinstance(task.op, Argsort) else self._element("source[i]")
            with text.block("if (active)"):
                self._loop(f"p1[to + {_times('(i64)i', step)}] = {value};")
            self._barrier()

    def _offsets(self) -> None:
        """Where the row begins that is read, and that is written."""
        task, line = self.task, self.text.line
        shape, output, rest = task.type.shape, strides(task.type.shape), 1
        read, write = [str(task.layout.offset)] * bool(task.layout.offset), list[str]()
        for a in reversed([a for a in range(len(shape)) if a != task.op.axis]):
            place = f"row / {rest} % {shape[a]}" if rest > 1 else f"row % {shape[a]}"
            read.append(_times(place, task.layout.strides[a]))
            write.append(_times(place, output[a]))
            rest *= shape[a]
        line(f"const i64 from = {' + '.join(read) or '0'};")
        line(f"const i64 to = {' + '.join(write) or '0'};")

    def _loop(self, statement: str) -> None:
        with self.text.block(f"for ({self.kind} i = member; i < {self.n}; i += {self.threads})"):
            self.text.line(statement)

    def _merge(self) -> None:
        """The place of index i among those of its run and of the run beside it: the left run wins ties."""
        line, n = self.text.line, self.n
        kind = self.kind
        line(f"const {kind} which = source[i], run = i / width;")
        line(f"const {kind} start = ng_min<{kind}>((run ^ 1) * width, {n}), stop = ng_min<{kind}>(start + width, {n});")
        self._key("key", "which")
        line(f"{kind} low = start, high = stop;")
        with self.text.block("while (low < high)"):
            line(f"const {kind} middle = (low + high) / 2;")
            self._key("beside", "source[middle]")
            line(f"const bool before = run & 1 ? !({self._less('key', 'beside')}) : {self._less('beside', 'key')};")
            line("low = before ? middle + 1 : low;")
            line("high = before ? high : middle;")
        line("target[(run & ~1) * width + (i - run * width) + (low - start)] = which;")

    def _key(self, name: str, index: str) -> None:
        """A variable with the key at an index."""
        dtype, element = self.task.type.dtype, self._element(index)
        kind = "float" if dtype in NARROW else self.dialect.memory_type(dtype)
        value = f"ng_float({element})" if dtype in NARROW else f"{element} != 0" if dtype == BOOL else element
        self.text.line(f"const {kind} {name} = {value};")

    def _element(self, index: str) -> str:
        """The key at an index, as memory holds it."""
        return f"p0[from + {_times(f'(i64){index}', self.task.layout.strides[self.task.op.axis])}]"

    def _less(self, x: str, y: str) -> str:
        """x < y, nan after all numbers."""
        less = f"{x} < {y}"
        return f"({less} || ({y} != {y} && {x} == {x}))" if self.task.type.dtype in FLOATS else f"({less})"

    def _barrier(self) -> None:
        self.text.line("ng_warp_barrier();" if self.threads <= 32 else "ng_block_barrier();")


def _times(place: str, step: int) -> str:
    """A place times a step."""
    return place if step == 1 else f"{place} * {step}"
