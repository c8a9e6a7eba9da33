"""A kernel as a function of C: loops over its grid, and in them its stages."""

from __future__ import annotations

from nagraph.c_text.text import tidy
from nagraph.export.to_c.context import FileContext, KernelContext, memory_name
from nagraph.export.to_c.expressions import plain
from nagraph.export.to_c.stage import StageText, nest
from nagraph.export.to_c.words import C99
from nagraph.kernel.form import Kernel

#: Tiles begin at multiples of this.
ALIGNMENT = 8


def kernel_function(file: FileContext, kernel: Kernel, name: str, operands: list[str]) -> str:
    """The function of a kernel. operands: the names of its parameters, the last `outputs` of which it writes."""
    context = KernelContext(file, kernel, operands)
    text, nbytes = context.text, 0
    for tile, called in zip(kernel.tiles, context.tiles):
        if tile.size > 1:
            kind, size = C99.memory_type(tile.dtype), tile.dtype.itemsize
            text.line(f"{kind} *const {called} = tiles.{memory_name(tile.dtype)}{f' + {nbytes // size}' if nbytes else ''};")
            nbytes += -(-tile.size * size // ALIGNMENT) * ALIGNMENT
    file.tiles_nbytes = max(file.tiles_nbytes, nbytes)
    with nest(context, tuple(range(kernel.grid))):
        for tile, called in zip(kernel.tiles, context.tiles):
            if tile.size == 1:
                text.line(f"{C99.type(tile.dtype)} {called};")
        for stage in kernel.stages:
            StageText(context, stage).emit()
    inputs = len(kernel.operands) - kernel.outputs
    parameters = [parameter(C99.memory_type(d), n, i >= inputs) for i, (d, n) in enumerate(zip(kernel.operands, operands))]
    body = "\n".join(map(plain, tidy(str(text)).split("\n")))
    unused = [f"  (void){n};" for n in operands if not mentioned(n, body)]
    return "\n".join([f"static void {name}({', '.join(parameters) or 'void'}) {{", *unused, body, "}"])


def parameter(kind: str, name: str, written: bool) -> str:
    """The declaration of a pointer."""
    return f"{'' if written else 'const '}{kind} *{name}"


def mentioned(name: str, text: str) -> bool:
    """Whether a text has a name in it."""
    at = text.find(name)
    while at >= 0:
        before, after = text[at - 1:at], text[at + len(name):at + len(name) + 1]
        if not (before.isalnum() or before == "_" or after.isalnum() or after == "_"):
            return True
        at = text.find(name, at + 1)
    return False
