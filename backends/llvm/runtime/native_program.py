"""The program of an executable, encoded and ready to run."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.backends.llvm.program import Instruction
from nagraph.backends.llvm.runtime.assembler import Words
from nagraph.backends.llvm.runtime.encoding import encode
from nagraph.backends.llvm.runtime.pool import aligned_bytes as aligned_bytes
from nagraph.backends.llvm.runtime.program import Program


class NativeProgram:
    """run(table) runs the program on pointers, by `threads` threads if they are free, else by the caller's alone."""

    def __init__(self, program: Sequence[Instruction], slots: int, scratch_nbytes: int, threads: int | None = None):
        assembler = encode(program)
        self.program = Program(assembler.code(), slots, scratch_nbytes, assembler.functions)
        self.threads = threads

    def run(self, table: Words) -> None:
        self.program.run(table, self.threads)
