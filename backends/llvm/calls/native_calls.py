"""Calls of a native program: addresses of arrays go into its table, the program runs, its results are arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from nagraph.backends.llvm.calls.arena import Arenas, ArenaSource
from nagraph.backends.llvm.calls.arguments import ALIGNED, BORROWERS, OWNED, ROW_MAJOR, WRITEABLE, Arguments, MemoryRanges, Wanted
from nagraph.backends.llvm.native.addresses import address
from nagraph.backends.llvm.program.images import Image
from nagraph.ir.graph import Graph
from nagraph.ops.labels import failure

Array = np.ndarray[Any, Any]


class Runnable(Protocol):
    """What runs on a table of pointers: a `runtime.program.Program`, or one that records as well."""

    def run(self, table: Array, threads: int | None) -> None:
        """Run on the pointers in `table`."""


class NativeCalls:
    """The calls of an image: arrays in, arrays out.

    signature: a graph that computes what the program does, of which errors tell the lines. donations: output number -> number
    of the input whose array it may take. program: what runs in place of the image's program, on the same table.
    guard: makes of the program's arenas what calls take theirs from.
    """

    def __init__(self, signature: Graph, image: Image, donations: Mapping[int, int], threads: int | None = None, *,
                 program: Runnable | None = None, guard: Callable[[Arenas], ArenaSource] | None = None):
        self.signature, self.image, self.donations, self.threads = signature, image, donations, threads
        self._guard = guard
        self._program: Runnable = program or image.program
        places = {(p.kind, p.number): at for at, p in enumerate(image.table)}
        self._inputs, self._outputs, self._late = (
            [(at, number) for (kind, number), at in places.items() if kind == wanted] for wanted in ("input", "output", "donated"))
        self._results = [(v.shape, v.dtype) for v in signature.outputs]
        self._fast = _FastPath.of(signature, donations, places)
        arguments, self._ranges = Arguments(self._fast.wanted), MemoryRanges(self._fast.wanted[:len(signature.inputs)])
        arenas = Arenas(image, arguments)
        self.arenas: ArenaSource = guard(arenas) if guard is not None else arenas
        self._take, self._leave = self.arenas.take, self.arenas.leave  # here, since each call looks them up

    def running(self, program: Runnable) -> NativeCalls:
        """The same calls of another program on the same table."""
        return NativeCalls(self.signature, self.image, self.donations, self.threads, program=program, guard=self._guard)

    def plain(self, arrays: list[Any]) -> list[Array] | None:
        """The fast path: the outputs, if these are arrays just as the inputs want them; else None, and nothing was done.

        Just so: of the very dtypes and shapes, row-major, aligned; those that are donated with memory of their own, which may be
        written and of which no other array shows a part.
        """
        fast = self._fast
        if fast.donated and len(set(map(id, arrays))) < len(arrays):
            return None
        arrays = arrays + [np.empty(shape, dtype) for shape, dtype in fast.fresh]
        if fast.donated:
            arrays += [arrays[i] for i in fast.donated]
        arena = self._take()
        try:
            fits = arena.fill(arrays)
            if not fits or (fits == BORROWERS and fast.donated and self._ranges.overlap(arena.table)):
                return None
            self._program.run(arena.table, self.threads)
        finally:
            failed = self._leave(arena)
        if failed:
            raise failure(self.signature, arrays[:len(self.signature.inputs)])
        return [arrays[i] for i in fast.results]

    def run(self, arrays: list[Array], donated: Mapping[int, Array]) -> tuple[Array, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one."""
        late = [j for _, j in self._late]
        outputs = [donated[j] if j in donated and j not in late else np.empty(*result) for j, result in enumerate(self._results)]
        arena = self._take()
        try:
            view = arena.view
            for at, i in self._inputs:
                view[at] = address(arrays[i])
            for at, j in self._outputs:
                view[at] = address(outputs[j])
            for at, j in self._late:
                view[at] = address(donated.get(j, outputs[j]))
            self._program.run(arena.table, self.threads)
        finally:
            failed = self._leave(arena)
        if failed:
            raise failure(self.signature, arrays)
        return tuple(donated.get(j, a) for j, a in enumerate(outputs))


class _FastPath(NamedTuple):
    """The arrays of a call on the fast path, in one list: the arguments, fresh arrays, and donated ones once more.

    wanted: what is asked of each of these, and its place in the table. fresh: shapes and dtypes of what the program writes
    that is donated by nobody, or late. donated: inputs which take an output. results: where each output stands in the list.
    """

    wanted: tuple[Wanted, ...]
    fresh: tuple[tuple[tuple[int, ...], Any], ...]
    donated: tuple[int, ...]
    results: tuple[int, ...]

    @classmethod
    def of(cls, signature: Graph, donations: Mapping[int, int], places: Mapping[tuple[str, int], int]) -> _FastPath:
        plain, taken = ROW_MAJOR | ALIGNED, set(donations.values())
        inputs = [Wanted(v.dtype, v.shape, plain | (OWNED | WRITEABLE if i in taken else 0), places["input", i])
                  for i, v in enumerate(signature.inputs)]
        fresh, again, donated = [], [], []
        results = [donations.get(j, -1) for j in range(len(signature.outputs))]
        for j, v in enumerate(signature.outputs):
            late = ("donated", j) in places
            if j not in donations or late:
                if j not in donations:
                    results[j] = len(inputs) + len(fresh)
                fresh.append(Wanted(v.dtype, v.shape, plain, places["output", j]))
            if j in donations:
                again.append(Wanted(v.dtype, v.shape, plain, places["donated" if late else "output", j]))
                donated.append(donations[j])
        return cls((*inputs, *fresh, *again), tuple((w.shape, w.dtype) for w in fresh), tuple(donated), tuple(results))
