"""Sorts as functions of C: a merge sort of each row from the bottom up, stable, nan last, as NumPy sorts."""

from __future__ import annotations

import math

from nagraph.c_text.text import Text
from nagraph.elementary.narrow import NARROW
from nagraph.export.to_c.context import FileContext
from nagraph.export.to_c.words import C99
from nagraph.ir.types import FLOATS, SHORT_NAMES
from nagraph.kernel.affine import strides
from nagraph.ops.sorting import Argsort
from nagraph.program.instructions import SortTask


def sort_function(file: FileContext, task: SortTask, name: str) -> str:
    """The function that puts the sorted rows of x into y, or their order. Two arrays of numbers of keys are where kernels have tiles."""
    shape, axis = task.type.shape, task.op.axis
    n, orders = shape[axis], isinstance(task.op, Argsort)
    rows = math.prod(s for a, s in enumerate(shape) if a != axis)
    file.tiles_nbytes = max(file.tiles_nbytes, -(-8 * n // 8) * 8)
    kind = C99.memory_type(task.type.dtype)
    text = Text(indent=1)
    line = text.line
    line(f"int32_t *order = tiles.int32s, *merged = tiles.int32s + {n};")
    with text.block(f"for (int row = 0; row < {rows}; ++row)"):
        read, write, rest = [str(task.layout.offset)] * bool(task.layout.offset), list[str](), 1
        step = strides(shape)
        for a in reversed([a for a in range(len(shape)) if a != axis]):
            place = ("row" if rest == 1 else f"row / {rest}") + (f" % {shape[a]}" if rest * shape[a] < rows else "")
            read.append(f"{place} * {task.layout.strides[a]}")
            write.append(f"{place} * {step[a]}")
            rest *= shape[a]
        line(f"const {kind} *const keys = x{''.join(f' + {x}' for x in read)};")
        with text.block(f"for (int i = 0; i < {n}; ++i)"):
            line("order[i] = i;")
        with text.block(f"for (int width = 1; width < {n}; width *= 2)"):
            with text.block(f"for (int first = 0; first < {n}; first += 2 * width)"):
                line(f"const int middle = first + width < {n} ? first + width : {n};")
                line(f"const int stop = middle + width < {n} ? middle + width : {n};")
                line("int left = first, right = middle;")
                with text.block("for (int i = first; i < stop; ++i)"):
                    later = _before(task, "order[right]", "order[left]")
                    line(f"const bool from_left = left < middle && (right >= stop || !{later});")
                    line("merged[i] = from_left ? order[left++] : order[right++];")
            line("int32_t *const other = order;")
            line("order = merged;")
            line("merged = other;")
        with text.block(f"for (int i = 0; i < {n}; ++i)"):
            place = f"y[{''.join(f'{x} + ' for x in write)}i{f' * {step[axis]}' if step[axis] > 1 else ''}]"
            line(f"{place} = {'order[i]' if orders else _key(task, 'order[i]')};")
    result = C99.memory_type(task.op.infer(task.type).dtype)
    return "\n".join([f"static void {name}(const {kind} *x, {result} *y) {{", str(text), "}"])


def _key(task: SortTask, which: str) -> str:
    step = task.layout.strides[task.op.axis]
    return f"keys[{which}{f' * {step}' if step != 1 else ''}]"


def _before(task: SortTask, x: str, y: str) -> str:
    """Whether one key comes before another."""
    dtype = task.type.dtype
    a, b = _key(task, x), _key(task, y)
    if dtype in NARROW:
        widened = f"f32_of_{SHORT_NAMES[dtype]}"
        return f"before_f32({widened}({a}), {widened}({b}))"
    return f"before_{SHORT_NAMES[dtype]}({a}, {b})" if dtype in FLOATS else f"({a} < {b})"
