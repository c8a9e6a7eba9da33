"""Kernels of sort and argsort: a merge sort of each row, stable, nan last, as NumPy sorts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nagraph.backends.llvm.emission.kernel_function import ARGUMENTS, Emitted, operand_pointer
from nagraph.backends.llvm.text.builder import FunctionBuilder, Module, Reg, i64
from nagraph.backends.llvm.text.lanes import Lanes, memory_type
from nagraph.elementary.narrow import NARROW
from nagraph.ir.scalar import F32, Scalar
from nagraph.ir.types import BOOL, FLOATS, DType
from nagraph.kernel.affine import strides
from nagraph.kernel.layout import StridedLayout
from nagraph.plan.plan import aligned
from nagraph.schedule.cost import chunk_of

#: Keys of a row from which its loops ask whether the call was abandoned.
LONG_ROW = 1 << 18
#: Roughly the time of a row.
ROW_NS = 100.0


def emit_sort(module: Module, name: str, dtype: DType, shape: Sequence[int], layout: StridedLayout, axis: int, indices: bool) -> Emitted:
    """Write void(slots, args, start, stop, scratch) that sorts rows: operand 0 into operand 1, or into their order there.

    A unit is a row along `axis`. In scratch stand the row's keys and two arrays of indices, which merging fills by turns.
    """
    code = FunctionBuilder(module, name, "void", ARGUMENTS)
    module.functions.append(code)
    slots, args, start, stop, scratch = code.arguments
    source, target = (operand_pointer(code, slots, args, i) for i in (0, 1))
    n = shape[axis]
    row = _Row(code, dtype, n, scratch)
    code.polls = n > LONG_ROW
    others = [a for a in range(len(shape)) if a != axis]
    output = strides(shape)
    with code.loop(start, stop) as loop:
        read, write, rest = i64(layout.offset), i64(0), loop.index
        for a in reversed(others):
            place = code.emit("i64", f"urem {rest}, {shape[a]}")
            rest = code.emit("i64", f"udiv {rest}, {shape[a]}")
            read = code.add(read, code.mul(place, i64(layout.strides[a])))
            write = code.add(write, code.mul(place, i64(output[a])))
        row.read(source, read, layout.strides[axis])
        order = row.sort()
        with code.loop(i64(0), i64(n)) as loop_out:
            which = code.load("i64", code.offset(order, "i64", loop_out.index), 8)
            place = code.add(write, code.mul(loop_out.index, i64(output[axis])))
            if indices:
                code.store(which, code.offset(target, "i64", place), 8)
            else:
                element = memory_type(dtype)
                value = code.load(element, code.offset(row.keys, element, which), 1)
                code.store(value, code.offset(target, element, place), 1)
    code.ret()
    rows = math.prod(shape[a] for a in others)
    return Emitted(rows, row.nbytes, ROW_NS, chunk_of(rows, ROW_NS))


class _Row:
    """One row in scratch memory."""

    def __init__(self, code: FunctionBuilder, dtype: DType, n: int, scratch: Reg):
        self.code, self.dtype, self.n = code, dtype, n
        self.element = memory_type(dtype)
        self.one = Lanes(code, 1)
        first = aligned(n * dtype.itemsize)
        self.keys = scratch
        self.orders = [code.offset(scratch, "i8", i64(first + i * aligned(8 * n))) for i in (0, 1)]
        self.nbytes = first + 2 * aligned(8 * n)

    def read(self, source: Reg, place: Reg, step: int) -> None:
        """Copy the row's keys, and number them."""
        code = self.code
        with code.loop(i64(0), i64(self.n)) as loop:
            at = code.add(place, code.mul(loop.index, i64(step)))
            value = code.load(self.element, code.offset(source, self.element, at), 1)
            code.store(value, code.offset(self.keys, self.element, loop.index), 1)
            code.store(loop.index, code.offset(self.orders[0], "i64", loop.index), 8)

    def sort(self) -> Reg:
        """Merge runs of 1, 2, 4, ... keys; where the sorted indices stand in the end."""
        source, target = self.orders
        width = 1
        while width < self.n:
            with self.code.loop(i64(0), i64(self.n), 2 * width) as loop:
                self._merge(source, target, loop.index, width)
            source, target = target, source
            width *= 2
        return source

    def _merge(self, source: Reg, target: Reg, first: Reg, width: int) -> None:
        """Two neighbouring sorted runs from `first` on become one: the left one wins ties."""
        code, end = self.code, i64(self.n)
        middle = self._least(code.add(first, i64(width)), end)
        last = self._least(code.add(first, i64(2 * width)), end)
        with code.loop(first, last, 1, (first, middle), known=True) as loop:
            left, right = loop.carried
            # Past the end of a run its last index is looked at, and not taken.
            i = code.load("i64", code.offset(source, "i64", self._least(left, code.sub(middle, i64(1)))), 8)
            j = code.load("i64", code.offset(source, "i64", self._least(right, code.sub(last, i64(1)))), 8)
            has_left = code.compare("icmp slt", left, middle)
            no_right = code.compare("icmp sge", right, last)
            stays = code.binary("xor", self._less(self._key(j), self._key(i)), Reg("i1", "true"))
            takes = code.binary("and", has_left, code.binary("or", no_right, stays))
            code.store(code.select(takes, i, j), code.offset(target, "i64", loop.index), 8)
            step = code.convert("zext", takes, "i64")
            loop.carried = [code.add(left, step), code.add(right, code.binary("xor", step, i64(1)))]

    def _least(self, a: Reg, b: Reg) -> Reg:
        return self.code.emit("i64", f"call i64 @llvm.smin.i64({a}, {b})")

    def _key(self, place: Reg) -> Scalar:
        raw = self.code.load(self.element, self.code.offset(self.keys, self.element, place), 1)
        if self.dtype == BOOL:
            raw = self.code.compare("icmp ne", raw, Reg("i8", "0"))
        key = Scalar(self.one, self.dtype, raw)
        return self.one.cast(key, F32) if self.dtype in NARROW else key

    def _less(self, x: Scalar, y: Scalar) -> Reg:
        """x < y, nan after all numbers."""
        less = x < y
        if self.dtype in FLOATS:
            less = less | (self.one.is_nan(y) & ~self.one.is_nan(x))
        return less.raw  # type: ignore[no-any-return]
