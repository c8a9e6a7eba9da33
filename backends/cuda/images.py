"""Images on disk: programs of the CUDA backend that the cache keeps. Their code is kept already, each function's on its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.backends import cache
from nagraph.backends.cuda import nvrtc
from nagraph.backends.cuda.driver import Function
from nagraph.backends.cuda.image import Image, is_product
from nagraph.backends.gpu.products.library import LibraryProduct
from nagraph.ir.types import DTYPES
from nagraph.program import instructions
from nagraph.program.instructions import Instruction, Launch, Phase
from nagraph.program.lowered import TableEntry

_NAMED = {d.name: d for d in DTYPES.values()}
#: Instructions that are nothing but numbers.
_PLAIN = ("SetPointer", "Swap", "Loop", "End", "Decide", "Differ", "Jump", "Commit")


def store(key: str, image: Image) -> None:
    """Keep an image under a key, unless the cache keeps no code."""
    functions = [*image.functions, *image.helpers]
    if any(not is_product(f) and not f.built.file for f in functions):
        return
    about = {"functions": [["product", *f] if is_product(f) else ["text", *f[:-1], f.built.file] for f in functions],
             "architecture": image.architecture, "instructions": [_said(i) for i in image.instructions], "table": image.table,
             "constants": [(a.dtype.name, a.shape) for a in image.constants], "arena": image.arena_nbytes}
    cache.store("cuda", cache.digest("cuda", key), about, [a.tobytes() for a in image.constants])


def load(key: str) -> Image | None:
    """The image stored under a key; None if it, or a function of it, is not there whole."""
    found = cache.load("cuda", cache.digest("cuda", key))
    if found is None:
        return None
    about, data = found
    functions: list[Any] = []
    for kind, *said in about["functions"]:
        if kind == "product":
            functions.append(LibraryProduct.of(said))
            continue
        name, grid, block, shared, scratch, file = said
        built = nvrtc.kept(file)
        if built is None:
            return None
        functions.append(Function(name, tuple(grid), tuple(block), shared, scratch, built))
    *own, move, flag = functions
    constants, start = [], 0
    for name, shape in about["constants"]:
        array = np.frombuffer(data, _NAMED[name], int(np.prod(shape, dtype=np.int64)), start).reshape(shape)
        start += array.nbytes
        constants.append(array)
    return Image(about["architecture"], tuple(map(_read, about["instructions"])), tuple(TableEntry(*e) for e in about["table"]),
                 tuple(constants), about["arena"], tuple(own), (move, flag))


def _said(instruction: Instruction) -> list[Any]:
    """An instruction as a list that JSON can say."""
    if isinstance(instruction, Phase):
        return ["Phase", *([x.function, x.slots, x.outputs] for x in instruction.launches)]
    return [type(instruction).__name__, *instruction]


def _read(said: list[Any]) -> Instruction:
    """The instruction that such a list says."""
    name, *fields = said
    if name == "Phase":
        return Phase(tuple(Launch(number, tuple(slots), outputs, None, None) for number, slots, outputs in fields))
    assert name in _PLAIN
    made: Instruction = getattr(instructions, name)(*fields)
    return made
