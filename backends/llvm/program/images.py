"""The image of a program: all that calls need of it, and nothing that explains it. The cache keeps images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.backends import cache
from nagraph.backends.llvm.native import files
from nagraph.backends.llvm.native.winners import winner
from nagraph.backends.llvm.program.encoding import encoded
from nagraph.backends.llvm.program.functions import codes
from nagraph.backends.llvm.runtime.assembler import launch_words
from nagraph.backends.llvm.runtime.program import Program
from nagraph.ir.types import DTYPES
from nagraph.program.instructions import HostStep
from nagraph.program.lowered import LoweredProgram, TableEntry

Array = np.ndarray[Any, Any]
#: The most bytes of constants that an image is kept with: the weights of a large model are on disk already.
MOST_CONSTANTS_NBYTES = 1 << 26
_NAMED = {d.name: d for d in DTYPES.values()}


class Image(NamedTuple):
    """A program that runs, where the pointers of its table come from, its constants, and the bytes of its arena."""

    program: Program
    table: tuple[TableEntry, ...]
    constants: tuple[Array, ...]
    arena_nbytes: int

    @classmethod
    def of(cls, lowered: LoweredProgram, arena_nbytes: int) -> Image:
        program = encoded(lowered.instructions, len(lowered.table))
        return cls(program, tuple(lowered.table), tuple(lowered.constants), arena_nbytes)


def store(key: str, image: Image, lowered: LoweredProgram) -> None:
    """Keep an image, unless it calls functions of Python, or has large constants. Its kernels are kept already, each on its own."""
    if any(isinstance(i, HostStep) for i in lowered.instructions) or sum(a.nbytes for a in image.constants) > MOST_CONSTANTS_NBYTES:
        return
    functions = lowered.functions
    numbers = {f.code.address: n for n, f in enumerate(functions)}
    words = image.program.code.copy()
    at = launch_words(words)
    words[at] = [numbers[int(w)] for w in words[at]]
    about = {"kernels": [f.digest for f in functions], "winners": sorted({f.winner for f in functions}),
             "words": len(words), "table": image.table,
             "constants": [(a.dtype.name, a.shape) for a in image.constants],
             "scratch": image.program.scratch_nbytes, "arena": image.arena_nbytes}
    cache.store("program", files.digest("program", key), about, [words.tobytes(), *(a.tobytes() for a in image.constants)])


def load(key: str) -> Image | None:
    """The image stored under a key, ready to run; None if it, or a kernel of it, is not there whole, or if a kernel was tuned since."""
    found = cache.load("program", files.digest("program", key))
    if found is None:
        return None
    about, data = found
    if any(winner(file) != won for file, won in about["winners"]):
        return None
    kernels = codes(about["kernels"])
    if kernels is None:
        return None
    words = np.frombuffer(data, np.int64, about["words"]).copy()
    at = launch_words(words)
    words[at] = [kernels[n].address for n in words[at]]
    program = Program(words, len(about["table"]), about["scratch"], kernels)
    constants = _arrays(data, words.nbytes, about["constants"])
    return Image(program, tuple(TableEntry(*p) for p in about["table"]), constants, about["arena"])


def _arrays(data: bytes, start: int, described: Sequence[tuple[str, Sequence[int]]]) -> tuple[Array, ...]:
    found = []
    for name, shape in described:
        array = np.frombuffer(data, _NAMED[name], int(np.prod(shape, dtype=np.int64)), start).reshape(shape).copy()
        start += array.nbytes
        found.append(array)
    return tuple(found)
