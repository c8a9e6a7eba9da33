"""The image of a program: all that calls on a device need of it, and nothing that explains it. The cache on disk keeps images."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nagraph.backends.cuda.driver import Driver, Function
from nagraph.backends.cuda.moves import HELPERS
from nagraph.backends.gpu.products.library import LibraryProduct
from nagraph.program.instructions import Instruction, Launch, Loop, Phase
from nagraph.program.lowered import LoweredProgram, TableEntry

Array = np.ndarray[Any, Any]


class Image(NamedTuple):
    """A program that runs on devices of one architecture.

    instructions: their launches have the numbers of functions in place of these. table: where its pointers come from. helpers: the
    functions that move pointers, and that copy a bool to where the host fetches it.
    """

    architecture: str
    instructions: tuple[Instruction, ...]
    table: tuple[TableEntry, ...]
    constants: tuple[Array, ...]
    arena_nbytes: int
    functions: tuple[Any, ...]
    helpers: tuple[Function, Function]

    @property
    def loops(self) -> int:
        """How many loops there are."""
        return 1 + max((i.loop for i in self.instructions if isinstance(i, Loop)), default=-1)

    @property
    def scratch_nbytes(self) -> int:
        """The bytes that a launch may want beside its operands."""
        return max((f.scratch_nbytes for f in self.functions if not is_product(f)), default=0)

    @classmethod
    def of(cls, program: LoweredProgram, arena_nbytes: int, driver: Driver, architecture: str) -> Image:
        """The image of a program whose launches have GPU text, or products that a library computes."""
        functions = program.functions
        numbers = {id(f): n for n, f in enumerate(functions)}
        texts = [f for f in functions if not is_product(f)]
        built = dict(zip(map(id, (*texts, *HELPERS)), driver.build((*texts, *HELPERS), architecture), strict=True))
        ready = [f if is_product(f) else Function.of(f, built[id(f)]) for f in functions]
        move, flag = (Function.of(f, built[id(f)]) for f in HELPERS)
        return cls(architecture, tuple(_numbered(i, numbers) for i in program.instructions), tuple(program.table),
                   tuple(program.constants), arena_nbytes, tuple(ready), (move, flag))


def is_product(function: Any) -> bool:
    """Whether a library computes it."""
    return isinstance(function, LibraryProduct)


def _numbered(instruction: Instruction, numbers: dict[int, int]) -> Instruction:
    """An instruction with its launches' functions by number, and without what explains them."""
    if not isinstance(instruction, Phase):
        return instruction
    return Phase(tuple(Launch(numbers[id(x.function)], x.slots, x.outputs, None, None) for x in instruction.launches))
