"""The arena of a program: the memory and the table of pointers that one call works in."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nagraph.backends.llvm.calls.arguments import Arguments
from nagraph.backends.llvm.program.images import Image
from nagraph.backends.llvm.runtime.pool import aligned_bytes


class Arena:
    """The arena's bytes, the table of pointers with all that is known before a call, and the verdict of calls that can fail."""

    def __init__(self, image: Image, arguments: Arguments):
        self.bytes, self.base = aligned_bytes(image.arena_nbytes)
        self.table = np.zeros(len(image.table), np.int64)
        verdict = np.ones(1, np.bool_)
        #: None for programs that can't fail.
        self.verdict: memoryview | None = None
        for at, p in enumerate(image.table):
            if p.kind == "arena":
                self.table[at] = self.base + p.number
            elif p.kind == "verdict":
                self.table[at], self.verdict = verdict.ctypes.data, memoryview(verdict)
            elif p.kind == "constant":
                self.table[at] = image.constants[p.number].ctypes.data
        self.view = memoryview(self.table)
        self.fill = arguments.filler(self.table)


class ArenaSource(Protocol):
    """Where a call gets its arena from."""

    def take(self) -> Arena:
        """An arena that no other call is in."""

    def leave(self, arena: Arena) -> bool:
        """Whether the call that was in the arena failed; another call may have it from now on."""


class Arenas:
    """The arenas of one program: one is idle between calls, and there are more while several threads call."""

    def __init__(self, image: Image, arguments: Arguments):
        self._image, self._arguments = image, arguments
        #: The arena that no call is in at the moment, if there is one.
        self._idle: list[Arena] = []

    def take(self) -> Arena:
        try:
            return self._idle.pop()
        except IndexError:
            return Arena(self._image, self._arguments)

    def leave(self, arena: Arena) -> bool:
        verdict = arena.verdict
        failed = verdict is not None and not verdict[0]
        if failed:
            verdict[0] = True  # type: ignore[index]
        self._idle[:] = (arena,)
        return failed
